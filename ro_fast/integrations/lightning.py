"""A Lightning callback that reports robust overfitting while a model trains, and can end the training there."""

from __future__ import annotations

from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError as error:
        raise ImportError("ro_fast.integrations.lightning needs Lightning: pip install lightning") from error

from ro_fast.errors import InputError
from ro_fast.integrations import monitor as plain
from ro_fast.overfitting.detector import Verdict


class RobustOverfittingMonitor(Callback):
    """Reads robust accuracy from what the module logs, warns at an alarm and, with ``stop=True``, ends the training.

    ``Trainer(callbacks=[RobustOverfittingMonitor("val_robust_acc", stop=True)])``. Each epoch with a validation gives one value;
    others are skipped. The values so far are part of the trainer's checkpoints.

    Args:
        monitor: name under which the module logs robust validation accuracy, a fraction.
        robust_loss, train_robust_acc: names of the robust loss on the same samples and of robust train accuracy, logged for
            each epoch (``on_epoch=True``); they make the verdict more certain.
        stop: end the training at the alarm.
        warn: log the verdict as a warning of the logger "ro_fast".

    Raises:
        InputError: if the module logs no such value.
    """

    def __init__(
        self,
        monitor: str = "val_robust_acc",
        *,
        robust_loss: str | None = None,
        train_robust_acc: str | None = None,
        stop: bool = False,
        warn: bool = True,
    ) -> None:
        super().__init__()
        self._names = {"robust_acc": monitor, "robust_loss": robust_loss, "train_robust_acc": train_robust_acc}
        self.stop = stop
        self._plain = plain.RobustOverfittingMonitor(warn=warn)
        self._validated = False

    @property
    def verdict(self) -> Verdict:
        """The verdict on the epochs so far."""
        return self._plain.verdict

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Notes that there are new values, which are complete only at the end of the epoch."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Takes the epoch's values."""
        if trainer.enable_validation and not self._validated:
            return
        self._validated = False
        logged = trainer.callback_metrics
        wanted = {figure: name for figure, name in self._names.items() if name is not None}
        for name in wanted.values():
            if name not in logged:
                there = ", ".join(logged)
                raise InputError(f"RobustOverfittingMonitor: '{name}' is not logged for each epoch; available: {there}")
        self._plain.update(**{figure: float(logged[name]) for figure, name in wanted.items()}, epoch=trainer.current_epoch)
        if self.stop and self._plain.should_stop:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """The values so far, for the trainer's checkpoint."""
        return self._plain.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a checkpoint."""
        self._plain.load_state_dict(state_dict)
