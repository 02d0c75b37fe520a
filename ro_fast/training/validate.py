"""What a run's configuration must satisfy before anything is trained."""

from __future__ import annotations

import dataclasses
import importlib.util

import torch

from ro_fast.attacks import PGD
from ro_fast.config import AttackConfig, TrainConfig
from ro_fast.config_values import check_values
from ro_fast.errors import InputError
from ro_fast.installing import pip_install
from ro_fast.methods import build_method
from ro_fast.overfitting.early_stop import KINDS
from ro_fast.training.loggers import check_logs


def check(config: TrainConfig) -> None:
    """Raises InputError, naming the key, if a value can't be used for training."""
    check_values(config)
    t = config.trainer
    if t.stop_after is not None and t.stop_after > t.epochs:
        raise InputError(f"trainer.stop_after = {t.stop_after} should be at most trainer.epochs = {t.epochs}")
    start = config.method.get("start_epoch", 0)
    if isinstance(start, bool) or not isinstance(start, int) or not 0 <= start < t.epochs:
        raise InputError(f"method.start_epoch = {start} should be an epoch from 0 to {t.epochs - 1}, before trainer.epochs")
    if config.precision not in ("fp32", "bf16"):
        raise InputError(f"precision '{config.precision}' is unknown; available: fp32, bf16")
    if config.small_loss.unit not in ("loss", "ln_c", "quantile"):
        raise InputError(f"small_loss.unit '{config.small_loss.unit}' is unknown; available: loss, ln_c, quantile")
    if config.small_loss.unit == "quantile" and not 0 <= config.small_loss.value <= 1:
        raise InputError(f"small_loss.value = {config.small_loss.value:g} should lie in [0, 1] where the unit is quantile")
    if config.data.induced not in (None, "best", "last"):
        raise InputError(f"data.induced '{config.data.induced}' is unknown; available: best, last")
    if config.data.induced_test and config.data.induced is None:
        raise InputError("data.induced_test needs data.induced=best or last, the state to perturb test images against")
    if config.data.induced is not None and (config.data.extra is not None or config.data.unlabelled > 0):
        raise InputError("data.induced perturbs labelled training images only: leave out data.extra and data.unlabelled")
    if t.early_stop not in KINDS:
        raise InputError(f"trainer.early_stop '{t.early_stop}' is unknown; available: {', '.join(KINDS)}")
    if config.method.get("name") == "augmentation" and importlib.util.find_spec("kornia") is None:
        raise InputError(f"method augmentation needs kornia: {pip_install('train')}")
    check_logs(t.log)
    build_method(config.method)
    build_attack(config.attack, config.data.eps)


def build_attack(config: AttackConfig, data_eps: float, generator: torch.Generator | None = None) -> PGD:
    """Returns the training attack; the radius defaults to the data's own and the step to a quarter of the radius."""
    eps = data_eps if config.eps is None else config.eps
    values = dataclasses.asdict(config) | {"eps": eps, "alpha": eps / 4 if config.alpha is None else config.alpha}
    try:
        return PGD(**values, generator=generator)
    except ValueError as error:
        raise InputError(f"attack: {error}") from error
