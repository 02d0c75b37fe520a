"""``protocol.yaml``: what is attacked and how, how many images and seeds, and the limits of go and no-go."""

from __future__ import annotations

import dataclasses
import datetime
import math
from dataclasses import dataclass, field
from pathlib import Path

from ro_fast import __version__
from ro_fast.config import EvaluateConfig, ProtocolConfig, changed
from ro_fast.config_values import check_values
from ro_fast.data import load_data
from ro_fast.errors import InputError
from ro_fast.evaluation.checkpoints import settings_of
from ro_fast.evaluation.levels import LEVELS, Settings
from ro_fast.storage import checkpoint, records
from ro_fast.storage.paths import given_file

FILE = "protocol.yaml"
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Limits:
    """Least accuracies, as fractions; None is not asked for."""

    robust: float  # go, if the interval lies above it
    no_go: float  # no-go, if the interval of robust accuracy lies below it
    natural: float | None = None  # go needs the intervals of this and the next above it too, no-go follows if one lies below
    worst_class: float | None = None  # robust accuracy of every class


@dataclass(frozen=True)
class Protocol:
    """Fixed beforehand; ``evaluate protocol=`` fills it in."""

    data: str
    norm: str
    eps: float  # in input units
    level: str
    settings: Settings  # of the attacks
    images: int  # class-balanced test images
    available: int
    expected: float  # robust accuracy for which the number of images was computed
    precision: float  # half width of the 95 % interval over images, at that accuracy
    seeds: int  # training runs, each with another seed
    checkpoint: str  # "best" by validation, or "last"
    limits: Limits
    signed_by: list[str] = field(default_factory=list)
    path: str | None = None  # of the data, if they have one of their own
    written: str = ""
    ro_fast: str = ""


def images_for(precision: float, expected: float) -> int:
    """Test images for an interval of ± precision: ``n = z²·p·(1 − p) / precision²``, with p the accuracy expected.

    >>> images_for(0.03, 0.5), images_for(0.01, 0.9)
    (1068, 3458)
    """
    return math.ceil(Z**2 * expected * (1 - expected) / precision**2)


def half_width(images: int, accuracy: float) -> float:
    """Half of the 95 % interval over images: :func:`images_for`, solved for the precision."""
    return Z * math.sqrt(accuracy * (1 - accuracy) / images)


def make_protocol(config: ProtocolConfig) -> Protocol:
    """The protocol of a configuration, with the number of test images that its precision needs, or as many as there are.

    Raises:
        InputError: if a value can't be meant, or a limit is missing.
    """
    check_values(config)
    if config.robust is None:
        raise InputError("protocol: robust= is not given; the least robust accuracy for a go is needed, such as robust=0.4")
    no_go = config.robust if config.no_go is None else config.no_go
    limits = Limits(config.robust, no_go, config.natural, config.worst_class)
    _check(config, limits)
    eps = config.data.eps if config.eps is None else config.eps
    available = len(load_data(config.data).y_test)
    images = min(available, images_for(config.precision, config.expected))
    return Protocol(
        data=config.data.name,
        norm=config.norm,
        eps=eps,
        level=config.level,
        settings=settings_of(EvaluateConfig(level=config.level)),
        images=images,
        available=available,
        expected=config.expected,
        precision=half_width(images, config.expected),
        seeds=config.seeds,
        checkpoint=config.checkpoint,
        limits=limits,
        signed_by=list(config.signed_by),
        path=config.data.path,
        written=datetime.date.today().isoformat(),
        ro_fast=__version__,
    )


def _check(found: Protocol | ProtocolConfig, limits: Limits) -> None:
    """Raises InputError if a protocol to be made, or one that was read, asks for what there is not."""
    for key, value, known in (
        ("checkpoint", found.checkpoint, ("best", "last")),
        ("norm", found.norm, ("linf", "l2")),
        ("level", found.level, tuple(LEVELS)),
    ):
        if value not in known:
            raise InputError(f"{key} '{value}' is unknown; available: {', '.join(known)}")
    for key, accuracy in dataclasses.asdict(limits).items():
        if accuracy is not None and not 0 < accuracy < 1:
            raise InputError(f"{key} = {accuracy:g} should be above 0 and below 1")
    if limits.no_go > limits.robust:
        raise InputError(f"no_go = {limits.no_go:g} should be at most robust = {limits.robust:g}")
    if found.seeds < 1:
        raise InputError(f"seeds = {found.seeds} should be at least 1")


def write_protocol(protocol: Protocol, path: Path) -> None:
    """Writes protocol.yaml, which people can read and sign."""
    import yaml

    about = "# Fixed before the evaluation: ro-fast evaluate protocol=THIS checkpoint=RUN. Accuracies are fractions.\n"
    checkpoint.write_text(path, about + yaml.safe_dump(records.as_json(protocol), sort_keys=False, allow_unicode=True))


def read_protocol(path: Path) -> Protocol:
    """The protocol in a file.

    Raises:
        InputError: if it is missing, not YAML, or a field is missing, of another type or not one that a protocol has.
    """
    import yaml

    given_file(path, f"protocol={path}")
    try:
        found = records.parse(Protocol, yaml.safe_load(path.read_text(encoding="utf-8")))
        _check(found, found.limits)
        return found
    except InputError as error:
        raise InputError(f"protocol={path}: {error}") from error
    except OSError as error:
        raise InputError(f"protocol={path} cannot be read ({error.strerror}); ro-fast protocol writes one") from error
    except (ValueError, yaml.YAMLError) as error:
        wrong = " ".join(str(error).split())
        raise InputError(f"protocol={path} is not a protocol ({wrong}); ro-fast protocol writes one") from error


def obey(config: EvaluateConfig, protocol: Protocol) -> EvaluateConfig:
    """The evaluation that a protocol asks for.

    Raises:
        InputError: if the command line asks for another one.
    """
    fixed: dict[str, object] = {"eps": protocol.eps, "norm": protocol.norm, "level": protocol.level, "samples": protocol.images}
    fixed |= {key: value for key, value in dataclasses.asdict(protocol.settings).items() if key != "batch_size"}
    default = EvaluateConfig()
    for key, value in fixed.items():
        given = getattr(config, key)
        if given not in (getattr(default, key), value):
            raise InputError(f"{key}={given} was given, but the protocol fixes {value}: leave it out, or write another protocol")
    obeyed: EvaluateConfig = changed(config, fixed)
    return obeyed
