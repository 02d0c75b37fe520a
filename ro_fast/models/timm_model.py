"""Any timm image classifier, by name."""

from __future__ import annotations

from torch import Tensor, nn

from ro_fast.errors import InputError
from ro_fast.installing import pip_install
from ro_fast.models.normalize import Normalize


class TimmModel(nn.Module):
    """A timm model, without pretrained weights, behind our normalisation.

    Args:
        name: timm's name of the architecture.
        normalize: standardises inputs in [0, 1].
        channels: C of the inputs.
        num_classes: number of logits.

    Raises:
        InputError: if timm is missing, does not know the name, or cannot build the model.
    """

    def __init__(self, name: str, normalize: Normalize, channels: int, num_classes: int) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise InputError(f"model.source=timm needs timm ({error}): {pip_install('vision')}") from error
        self.normalize = normalize
        try:
            self.net = timm.create_model(name, pretrained=False, in_chans=channels, num_classes=num_classes)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"timm cannot build model.name={name}: {error}; timm.list_models() lists the names"
            ) from error

    def features(self, x: Tensor) -> Tensor:  # [N, C, H, W] in [0, 1] -> [N, D]
        """Returns the pooled features [N, D] that timm's classifier reads."""
        return self.net.forward_head(self.net.forward_features(self.normalize(x)), pre_logits=True)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] in [0, 1] -> [N, classes]
        return self.net(self.normalize(x))
