"""Networks that take images in [0, 1]; each has ``features(x)``, the penultimate features [N, D]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ro_fast.config import ModelConfig
from ro_fast.errors import InputError
from ro_fast.models.mlp import mlp
from ro_fast.models.network import Network
from ro_fast.models.normalize import Normalize
from ro_fast.models.preact_resnet import preact_resnet18
from ro_fast.models.small_cnn import small_cnn
from ro_fast.models.timm_model import TimmModel
from ro_fast.models.wide_resnet import wide_resnet34_10

__all__ = ["MODELS", "Network", "Normalize", "TimmModel", "build_model"]

# name -> (image_shape, width) -> (trunk, its feature size)
MODELS: dict[str, Callable[[tuple[int, ...], int], tuple[nn.Module, int]]] = {
    "mlp": mlp,
    "small_cnn": small_cnn,
    "preact_resnet18": preact_resnet18,
    "wide_resnet34_10": wide_resnet34_10,
}


def build_model(
    config: ModelConfig,
    image_shape: tuple[int, ...],  # (C, H, W), or (D,) for mlp
    num_classes: int,
    mean: Sequence[float],  # of the training images, in [0, 1] units; config.mean takes precedence
    std: Sequence[float],
) -> Network | TimmModel:
    """Builds the network named in a config, including normalisation.

    The weights depend on torch's global generator alone, so a seed determines them.

    Args:
        config: name, source, width, and a mean and std that override the data's.
        image_shape: shape of one input, (C, H, W) or (D,).
        num_classes: number of logits.
        mean: one value per channel, or one for all.
        std: likewise, above 0.

    Returns:
        A module from [N, *image_shape] in [0, 1] to logits [N, num_classes].

    Raises:
        InputError: on an unknown name or source, a width below 1, vectors given to a network for images, or a bad mean or std.
    """
    if config.source not in ("ro_fast", "timm"):
        raise InputError(f"model.source '{config.source}' is unknown; available: ro_fast, timm")
    if config.source == "ro_fast" and config.name not in MODELS:
        raise InputError(f"model '{config.name}' is unknown; available: {', '.join(MODELS)}; or model=timm model.name=...")
    if config.width < 1:
        raise InputError(f"model.width is {config.width}; it must be at least 1")
    if len(image_shape) != 3 and (config.source, config.name) != ("ro_fast", "mlp"):
        raise InputError(
            f"model '{config.name}' needs images [C, H, W] but the data have shape {list(image_shape)}; use model=mlp"
        )
    mean, std = (ours if ours is not None else data for ours, data in ((config.mean, mean), (config.std, std)))
    normalize = Normalize(image_shape, mean, std)
    if config.source == "timm":
        return TimmModel(config.name, normalize, image_shape[0], num_classes)
    return Network(normalize, *MODELS[config.name](image_shape, config.width), num_classes)
