"""The common form of every model: normalise, compute features, classify them linearly."""

from __future__ import annotations

from torch import Tensor, nn

from ro_fast.models.normalize import Normalize


class Network(nn.Module):
    """Logits = classifier(trunk(normalize(x))).

    Args:
        normalize: standardises inputs in [0, 1].
        trunk: maps normalised inputs to features [N, D].
        feature_size: D.
        num_classes: C.
    """

    def __init__(self, normalize: Normalize, trunk: nn.Module, feature_size: int, num_classes: int) -> None:
        super().__init__()
        self.normalize = normalize
        self.trunk = trunk
        self.classifier = nn.Linear(feature_size, num_classes)

    def features(self, x: Tensor) -> Tensor:  # [N, ...] in [0, 1] -> [N, D]
        """Returns the penultimate features [N, D]."""
        return self.trunk(self.normalize(x))

    def forward(self, x: Tensor) -> Tensor:  # [N, ...] in [0, 1] -> [N, C]
        return self.classifier(self.features(x))
