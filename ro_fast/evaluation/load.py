"""Loads a trained model from a file (our checkpoints, safetensors, or a state dict), and the data it was trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.config import AttackConfig, DataConfig, ModelConfig
from ro_fast.config_values import read_values
from ro_fast.data import ImageData, load_data
from ro_fast.errors import InputError
from ro_fast.evaluation import foreign
from ro_fast.evaluation.foreign import Weights
from ro_fast.installing import pip_install
from ro_fast.models import MODELS, build_model
from ro_fast.storage import checkpoint
from ro_fast.storage.paths import given_file

_log = logging.getLogger("ro_fast")


@dataclass(frozen=True)
class Stored:
    """The contents of a file and the config.yaml beside it."""

    path: Path
    weights: Weights
    config: dict[str, Any]  # of the run; {} if it isn't known
    epoch: int | None  # epochs trained
    metadata: dict[str, str]  # of a safetensors file
    identity: checkpoint.Flat  # the configuration as kept with the weights; {} if it isn't


@dataclass(frozen=True)
class Trained:
    """A model in eval mode, its data, and its training budget."""

    stored: Stored
    model: nn.Module
    model_config: ModelConfig
    data: ImageData
    data_config: DataConfig
    eps: float
    norm: str


STATES = ("both", "best", "last")


def checkpoints_in(path: Path, state: str = "both") -> dict[str, Path]:
    """The file itself, best.pt and last.pt of a run's folder, or those of the runs in an arm's folder, by name.

    Args:
        path: a file, a run, or a folder of runs.
        state: "best" or "last" takes only that one of each run.

    Raises:
        InputError: if there is none.
    """
    if state not in STATES:
        raise InputError(f"state '{state}' is unknown; available: {', '.join(STATES)}")
    if not path.exists():
        raise InputError(f"checkpoint={path} does not exist; a run's folder, its best.pt or last.pt, or a .safetensors is needed")
    if not path.is_dir():
        return {path.stem: path}
    names = [name for name in ("best.pt", "last.pt", "model.safetensors") if state in ("both", name.partition(".")[0])]
    found = {Path(name).stem: path / name for name in names if (path / name).exists()}
    if not found:
        runs = sorted(run for run in path.iterdir() if run.is_dir())
        found = {f"{run.name}/{Path(name).stem}": run / name for run in runs for name in names if (run / name).exists()}
    if not found:
        missing = "neither best.pt nor last.pt" if state == "both" else f"no {state}.pt"
        raise InputError(f"checkpoint={path} holds {missing}; it should be the folder of a run, or of runs")
    return found


def read(path: Path) -> Stored:
    """Reads weights onto the CPU; nothing in the file is executed.

    Raises:
        InputError: if a file is truncated or holds no weights.
    """
    given_file(path, f"checkpoint={path}")
    weights, epoch, metadata, identity = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    beside = path.parent / "config.yaml"
    return Stored(path, weights, _yaml(beside) if beside.exists() else {}, epoch, metadata, identity)


def load_trained(
    stored: Stored, device: torch.device, data: DataConfig | None = None, model: ModelConfig | None = None
) -> Trained:
    """Builds the model and loads its data; anything not given is taken from the run's config.

    Raises:
        InputError: if neither specifies the data or the model, or the weights don't fit them.
    """
    data = data or _part(stored, "data", DataConfig)
    model = model or _part(stored, "model", ModelConfig)
    images = load_data(data)
    if not foreign.holds_normalisation(stored.weights) and model.mean is None:
        told = "%s does not say how inputs are normalised: mean and std of data %s are used; give model.mean= and model.std="
        _log.warning(told + " if its training used others", stored.path, images.name)
    _check_normalisation(stored, mean=model.mean, std=model.std)
    attack = _part(stored, "attack", AttackConfig) if "attack" in stored.config else AttackConfig()
    eps = data.eps if attack.eps is None else attack.eps
    built = _built(stored, model, images.image_shape, images.num_classes, images.mean_std(), f"data {images.name}")
    built = built.to(device)
    if images.x_train.dim() == 4:
        built = built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Trained(stored, built, model, images, data, eps, attack.norm)


def load_model(
    path: str | Path,
    model: str | ModelConfig | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """The model in a file, in eval mode; from [N, ...] in [0, 1] to logits.

    Accepts what ``ro-fast export`` wrote, and state dicts of others whose network is one of ours, including RobustBench's and
    those of the papers' code, whatever their dictionaries and prefixes.

    Args:
        path: a .safetensors, or a torch file that holds weights alone.
        model: the network's name, for files that don't specify it; None identifies it by the names of its weights.
        mean, std: how inputs are normalised, for files that don't say; 0 and 1 if they were not. A file that says must agree.

    Raises:
        InputError: if a file has no weights, or not those of the network (gives the nearest name), or another mean or std.
    """
    stored = read(Path(path))
    config, shape, classes = _described(stored, model)
    if mean is None and std is None and "ro_fast" not in stored.metadata and not foreign.holds_normalisation(stored.weights):
        raise InputError(
            f"{path} does not say how inputs are normalised; give mean= and std= of its training, or [0] and [1] if none"
        )
    _check_normalisation(stored, mean=mean, std=std)
    per_channel = shape[0] if len(shape) == 3 else 1
    given = list(mean if mean is not None else [0.0]), list(std if std is not None else [1.0])
    sizes = tuple(values * per_channel if len(values) == 1 else values for values in given)
    return _built(stored, config, shape, classes, (sizes[0], sizes[1]), "its metadata" if stored.metadata else "its shapes")


def _check_normalisation(stored: Stored, **given: Sequence[float] | None) -> None:
    """Raises InputError if a file was trained with another normalisation than the one given."""
    known = foreign.normalisation(stored.weights)
    for name, values in given.items():
        held = known.get(name)
        if values is None or held is None:
            continue
        ours, theirs = (torch.tensor(list(v), dtype=torch.float32) for v in (values, held))
        fits = 1 in (len(ours), len(theirs)) or len(ours) == len(theirs)
        if not fits or not torch.allclose(ours, theirs, rtol=0, atol=5e-4):  # papers round them to three or four digits
            trained = [round(value, 4) for value in held]
            raise InputError(f"{name}={list(values)}, but {stored.path} was trained with {name}={trained}; leave {name}= out")


def _described(stored: Stored, model: str | ModelConfig | None) -> tuple[ModelConfig, tuple[int, ...], int]:
    """Network, input shape and classes, as the file specifies them or its weights imply them."""
    if "ro_fast" in stored.metadata:
        try:
            about = _about(stored.path, stored.metadata)
            return ModelConfig(**about["model"]), tuple(about["image_shape"]), int(about["num_classes"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{stored.path}: its metadata can't be read ({error}); export it again") from error
    name = model or foreign.network_of(stored.weights)
    if name is None:
        first = ", ".join(list(stored.weights)[:3])
        raise InputError(
            f"{stored.path} does not match any built-in network (its names begin with {first}); give model= with one of: "
            f"{', '.join(MODELS)}, or load it with its own code and pass the module to evaluate_model"
        )
    config = name if isinstance(name, ModelConfig) else ModelConfig(name=name)
    channels, classes = _channels(stored.weights), _classes(stored.weights)
    if classes is None:
        raise InputError(f"{stored.path} holds no linear layer from which to count classes; a classifier's weights are needed")
    inputs = next(value.shape[1] for value in stored.weights.values() if value.dim() == 2)
    return config, (inputs,) if channels is None else (channels, 32, 32), classes


def _built(
    stored: Stored,
    config: ModelConfig,
    shape: tuple[int, ...],
    classes: int,
    mean_std: tuple[list[float], list[float]],
    what: str,
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the initial weights are discarded
        model = build_model(config, shape, classes, *mean_std)
    needed = model.state_dict()
    weights = foreign.renamed(stored.weights, needed)
    _check_fit(stored, weights, needed, config.name, what)
    model.load_state_dict(weights)
    return model.eval()


def _check_fit(stored: Stored, weights: Weights, needed: Mapping[str, Tensor], name: str, what: str) -> None:
    """Raises InputError, in one sentence, if weights are not those of the model."""
    path = stored.path
    reason = foreign.misfit(weights, needed)
    if reason is None:
        return
    for first, taken in (("channels", _channels), ("classes", _classes)):
        theirs, ours = taken(weights), taken(needed)
        if None not in (theirs, ours) and theirs != ours and set(weights) == set(needed):
            raise InputError(f"{path}: the model was trained for {theirs} {first} but {what} has {ours}; give data= that fits it")
    if set(weights) == set(needed):
        raise InputError(f"{path} does not fit model '{name}' and {what}: {reason}; see model.width and data=")
    other = foreign.network_of(stored.weights)
    hint = "give the model= it was trained as" if other is None else f"its names are those of '{other}': give model={other}"
    raise InputError(f"{path} is not a '{name}': {reason}; {hint}")


def _channels(weights: Mapping[str, Tensor]) -> int | None:
    return next((value.shape[1] for value in weights.values() if value.dim() == 4), None)


def _classes(weights: Mapping[str, Tensor]) -> int | None:
    matrices = [value for value in weights.values() if value.dim() == 2]
    return matrices[-1].shape[0] if matrices else None


_Read = tuple[Weights, "int | None", dict[str, str], checkpoint.Flat]  # the fields of Stored


def _torch(path: Path) -> _Read:
    try:
        damaged = zipfile.is_zipfile(path) and checkpoint.damaged(path)
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's advice, to run whatever the file holds, is not passed on
        wanted = "save the network's state_dict() alone, and give that file"
        raise InputError(f"checkpoint={path} is no file of weights alone, so it is not read: {wanted}") from error
    except Exception as error:  # torch raises many kinds of errors on broken files
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"checkpoint={path} is truncated or not a checkpoint of plain weights ({reason})") from error
    if damaged:
        raise InputError(f"checkpoint={path} is damaged: it was changed after it was written; take another copy")
    epoch = state.get("epoch") if isinstance(state, dict) else None
    weights = foreign.unwrapped(state)
    if weights is None:
        below = ", ".join(f"'{key}'" for key in foreign.WRAPPERS)
        raise InputError(f"checkpoint={path} holds no weights; a state dict of tensors, or one under {below}, is needed")
    identity = state.get("identity", {}) if isinstance(state, dict) else {}
    return weights, epoch if isinstance(epoch, int) else None, {}, identity if isinstance(identity, dict) else {}


def _safetensors(path: Path) -> _Read:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise InputError(f"checkpoint={path} needs safetensors: {pip_install('export')}") from error
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint={path} is truncated or not a safetensors file ({error})") from error
    about = _about(path, metadata)
    if about.get("digest") not in (None, content_digest(about, weights)):  # files of others and of older versions have none
        raise InputError(f"checkpoint={path} is damaged: it was changed after it was written; take another copy")
    return foreign.unwrapped(weights) or weights, None, metadata, about.get("identity", {})


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What our export says of itself."""
    try:
        return dict(json.loads(metadata.get("ro_fast", "{}")))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its metadata can't be read ({error}); export it again") from error


def content_digest(about: Mapping[str, Any], weights: Weights) -> str:
    """A digest of what a file says of itself, but for the digest, and of its weights: names, shapes, dtypes and bytes."""
    parts: list[Any] = [{key: value for key, value in about.items() if key != "digest"}]
    for name, value in sorted(weights.items()):
        content = value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        parts.append([name, list(value.shape), str(value.dtype), hashlib.sha256(content).hexdigest()])
    return checkpoint.digest(parts)


def _yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as text in UTF-8 ({error})") from error
    try:
        import yaml
    except ImportError:
        return dict(json.loads(text))  # as then written by config.to_yaml
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2026-99-99 is a ValueError
        raise InputError(f"{path} can't be read as YAML ({str(error).splitlines()[0]})") from error
    return values if isinstance(values, dict) else {}


def _part(stored: Stored, key: str, kind: Any) -> Any:
    values = stored.config.get(key)
    if not isinstance(values, dict):
        raise InputError(f"checkpoint={stored.path}: no config.yaml next to it gives {key}; give {key}=")
    for name, value in values.items():
        trained = stored.identity.get(f"{key}.{name}", value)
        if trained != value:
            raise InputError(
                f"{stored.path.parent / 'config.yaml'}: {key}.{name} is {value}, but {stored.path.name} was trained with "
                f"{trained}; put it back, or give {key}="
            )
    known = {field.name for field in dataclasses.fields(kind)}
    if odd := sorted(set(values) - known):
        raise InputError(
            f"{stored.path.parent / 'config.yaml'}: {key}.{odd[0]} is unknown to this version of ro_fast; give {key}="
        )
    try:
        return read_values(kind, values, f"{key}.")
    except InputError as error:
        raise InputError(f"{stored.path.parent / 'config.yaml'}: {error}; give {key}=") from error


def file_digest(path: Path) -> str:
    """A short digest of a file's content."""
    return checkpoint.digest(hashlib.sha256(path.read_bytes()).hexdigest())
