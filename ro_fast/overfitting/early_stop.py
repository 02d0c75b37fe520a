"""The detector of robust overfitting during a run: it reports each alarm once, and may end the run there."""

from __future__ import annotations

from collections.abc import Iterable

from ro_fast.overfitting.detector import Watch
from ro_fast.storage.epochs import Epoch

KINDS = ("none", "ro")


class EarlyStop:
    """Watches validation robust accuracy, since data used for testing must not decide when training ends.

    Args:
        kind: "ro" ends the run at the alarm, "none" only reports it.
        history: the completed epochs; a continued run gets the verdict it would have had.
    """

    def __init__(self, kind: str, history: Iterable[Epoch]) -> None:
        self._kind, self._watch, self._alarms = kind, Watch(), 0
        for epoch in history:
            self.see(epoch)

    def see(self, epoch: Epoch) -> str:
        """Takes one epoch; returns the message to report, "" for none."""
        verdict = self._watch.update(
            epoch.val_robust_acc,
            robust_loss=epoch.val_robust_loss,
            train_robust_acc=epoch.train_robust_acc,
            epoch=epoch.epoch,
        )
        if len(verdict.alarms) == self._alarms:
            return ""
        self._alarms = len(verdict.alarms)
        does = "training ends here" if self.ends else "trainer.early_stop=ro would end training here"
        return f"epoch {epoch.epoch}, on validation: {verdict.summary}; {does}"

    @property
    def ends(self) -> bool:
        """Whether an alarm has ended the run."""
        return self._kind == "ro" and bool(self._watch.verdict().alarms)
