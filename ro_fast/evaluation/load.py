"""A trained model from a file: our checkpoints, safetensors, or a state dict; and with it the data it was trained on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.config import DataConfig, ModelConfig
from ro_fast.data import ImageData, load_data
from ro_fast.errors import InputError
from ro_fast.models import build_model
from ro_fast.storage import checkpoint

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Stored:
    """What a file and the config.yaml beside it hold."""

    path: Path
    weights: Weights
    config: dict[str, Any]  # of the run; {} where it isn't known
    epoch: int | None  # epochs trained
    metadata: dict[str, str]  # of a safetensors file


@dataclass(frozen=True)
class Trained:
    """A model in eval mode, its data, and the budget it was trained for."""

    stored: Stored
    model: nn.Module
    model_config: ModelConfig
    data: ImageData
    data_config: DataConfig
    eps: float
    norm: str


def checkpoints_in(path: Path) -> list[Path]:
    """The file itself, or of a run's folder best.pt and last.pt.

    Raises:
        InputError: where there is none.
    """
    if not path.exists():
        raise InputError(f"checkpoint={path} does not exist; a run's folder, its best.pt or last.pt, or a .safetensors is needed")
    if path.is_file():
        return [path]
    found = [path / name for name in ("best.pt", "last.pt", "model.safetensors") if (path / name).exists()]
    if not found:
        raise InputError(f"checkpoint={path} holds neither best.pt nor last.pt; it should be the folder of a run")
    return found


def read(path: Path) -> Stored:
    """Reads weights onto the CPU; nothing in the file is executed.

    Raises:
        InputError: on a file that is cut short or holds no weights.
    """
    weights, epoch, metadata = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    beside = path.parent / "config.yaml"
    return Stored(path, weights, _yaml(beside) if beside.exists() else {}, epoch, metadata)


def load_trained(
    stored: Stored, device: torch.device, data: DataConfig | None = None, model: ModelConfig | None = None
) -> Trained:
    """Builds the model and loads its data; what is not given is taken from the run's config.

    Raises:
        InputError: where neither tells the data or the model, or the weights don't fit them.
    """
    data = data or _part(stored, "data", DataConfig)
    model = model or _part(stored, "model", ModelConfig)
    images = load_data(data)
    attack = stored.config.get("attack", {})
    eps = attack.get("eps") or data.eps
    built = _built(stored, model, images.image_shape, images.num_classes, images.mean_std(), f"data {images.name}")
    built = built.to(device)
    if images.x_train.dim() == 4:
        built = built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Trained(stored, built, model, images, data, float(eps), str(attack.get("norm", "linf")))


def load_model(path: str | Path) -> nn.Module:
    """The model in a safetensors file that ``ro-fast export`` wrote, in eval mode; from [N, ...] in [0, 1] to logits.

    Raises:
        InputError: on another file.
    """
    stored = read(Path(path))
    try:
        about = json.loads(stored.metadata["ro_fast"])
        config, shape, classes = ModelConfig(**about["model"]), tuple(about["image_shape"]), int(about["num_classes"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} was not written by ro-fast export; load_trained takes other files") from error
    per_channel = shape[0] if len(shape) == 3 else 1
    return _built(stored, config, shape, classes, ([0.0] * per_channel, [1.0] * per_channel), "its metadata")


def _built(
    stored: Stored,
    config: ModelConfig,
    shape: tuple[int, ...],
    classes: int,
    mean_std: tuple[list[float], list[float]],
    what: str,
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away
        model = build_model(config, shape, classes, *mean_std)
    _fits(stored, model.state_dict(), config.name, what)
    model.load_state_dict(stored.weights)
    return model.eval()


def _fits(stored: Stored, needed: Mapping[str, Tensor], name: str, what: str) -> None:
    """Raises InputError, in one sentence, where weights are not those of the model."""
    there, path = stored.weights, stored.path
    for first, taken in (("channels", _channels), ("classes", _classes)):
        theirs, ours = taken(there), taken(needed)
        if None not in (theirs, ours) and theirs != ours and set(there) == set(needed):
            raise InputError(f"{path}: the model was trained for {theirs} {first}, {what} has {ours}; give data= that it fits")
    if odd := sorted(set(needed) ^ set(there)):
        where = "lacks" if odd[0] in needed else "has also"
        raise InputError(f"{path} is not a '{name}': it {where} {odd[0]} ({len(odd)} names differ); give the model= that it is")
    for key, value in needed.items():
        if value.shape != there[key].shape:
            shapes = f"{list(there[key].shape)}, {list(value.shape)} is needed"
            raise InputError(f"{path} does not fit model '{name}' and {what}: {key} is {shapes}; see model.width and data=")


def _channels(weights: Mapping[str, Tensor]) -> int | None:
    return next((value.shape[1] for value in weights.values() if value.dim() == 4), None)


def _classes(weights: Mapping[str, Tensor]) -> int | None:
    matrices = [value for value in weights.values() if value.dim() == 2]
    return matrices[-1].shape[0] if matrices else None


def _torch(path: Path) -> tuple[Weights, int | None, dict[str, str]]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on broken files
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"checkpoint={path} is cut short or no checkpoint of weights alone ({reason})") from error
    epoch = state.get("epoch") if isinstance(state, dict) else None
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            f"checkpoint={path} holds no weights; a state dict of tensors, or one below 'model' or 'state_dict', is needed"
        )
    return state, epoch if isinstance(epoch, int) else None, {}


def _safetensors(path: Path) -> tuple[Weights, int | None, dict[str, str]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise InputError(f"checkpoint={path} needs safetensors: pip install 'ro_fast[export]'") from error
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            return {key: file.get_tensor(key) for key in file.keys()}, None, metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint={path} is cut short or no safetensors file ({error})") from error


def _yaml(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    try:
        import yaml
    except ImportError:
        return json.loads(text)  # which is what config.to_yaml then wrote
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path} can't be read as YAML ({str(error).splitlines()[0]})") from error
    return values if isinstance(values, dict) else {}


def _part(stored: Stored, key: str, kind: Any) -> Any:
    values = stored.config.get(key)
    if not isinstance(values, dict):
        raise InputError(f"checkpoint={stored.path}: there is no config.yaml beside it that tells {key}; give {key}=")
    known = {field.name for field in dataclasses.fields(kind)}
    if odd := sorted(set(values) - known):
        raise InputError(
            f"{stored.path.parent / 'config.yaml'}: {key}.{odd[0]} is unknown to this version of ro_fast; give {key}="
        )
    return kind(**values)


def file_digest(path: Path) -> str:
    """A short name for a file's content."""
    import hashlib

    return checkpoint.digest(hashlib.sha256(path.read_bytes()).hexdigest())
