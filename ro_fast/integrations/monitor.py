"""Reports robust overfitting during any training loop."""

from __future__ import annotations

import logging
from typing import Any

from ro_fast.overfitting.detector import Verdict, Watch

_log = logging.getLogger("ro_fast")


class RobustOverfittingMonitor:
    """Watches a training loop: one :meth:`update` per epoch, a warning at an alarm, :attr:`should_stop` from then on.

    The verdict is that of :mod:`ro_fast.overfitting.detector` and depends only on the epochs seen so far.

    Args:
        warn: log the verdict as a warning of the logger "ro_fast" at each alarm.

    >>> monitor = RobustOverfittingMonitor(warn=False)
    >>> for epoch in range(60):
    ...     robust_acc = 0.3 + 0.01 * min(epoch, 20) - 0.003 * max(0, epoch - 20)  # of your evaluation
    ...     verdict = monitor.update(robust_acc, train_robust_acc=0.3 + 0.01 * epoch)
    ...     if monitor.should_stop:
    ...         break
    >>> verdict.overfitting, verdict.onset_epoch, verdict.alarm_epoch == epoch
    (True, 20, True)
    """

    def __init__(self, *, warn: bool = True) -> None:
        self.warn = warn
        self._watch = Watch()
        self._seen: list[dict[str, float | None]] = []
        self._epoch = -1

    def update(
        self,
        robust_acc: float | None,
        *,
        robust_loss: float | None = None,
        train_robust_acc: float | None = None,
        epoch: int | None = None,
    ) -> Verdict:
        """Takes the values of one epoch, each a number or a tensor of one element, and returns the verdict so far.

        Args:
            robust_acc: robust validation or test accuracy, a fraction; None: not measured at this epoch.
            robust_loss: robust loss on the same samples.
            train_robust_acc: robust accuracy on the training samples.
            epoch: its number; None: one more than the last.

        Raises:
            InputError: if an accuracy is outside [0, 1] or an epoch does not increase.
        """
        epoch = self._epoch + 1 if epoch is None else epoch
        figures = {"robust_acc": robust_acc, "robust_loss": robust_loss, "train_robust_acc": train_robust_acc}
        line = {name: None if value is None else float(value) for name, value in figures.items()}
        before = self._watch.verdict().alarms
        verdict = self._watch.update(**line, epoch=epoch)
        self._epoch = epoch
        self._seen.append({**line, "epoch": epoch})
        if self.warn and verdict.alarms != before:
            _log.warning("epoch %d: %s", epoch, verdict.summary)
        return verdict

    @property
    def verdict(self) -> Verdict:
        """The verdict on the values so far."""
        return self._watch.verdict()

    @property
    def should_stop(self) -> bool:
        """Whether an alarm was raised and the curve has not recovered since."""
        return self.verdict.overfitting is True

    def state_dict(self) -> dict[str, Any]:
        """The values so far, for a checkpoint."""
        return {"seen": [dict(line) for line in self._seen]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint's ``state_dict()``."""
        warn, self.warn = self.warn, False
        self._watch, self._seen, self._epoch = Watch(), [], -1
        for line in state["seen"]:
            self.update(**line)
        self.warn = warn
