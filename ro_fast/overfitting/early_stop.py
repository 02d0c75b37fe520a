"""The detector of robust overfitting during a run: it reports each alarm once, and may end the run there."""

from __future__ import annotations

from collections.abc import Iterable

from ro_fast.overfitting.detector import Watch
from ro_fast.storage.epochs import Epoch

KINDS = ("none", "ro")
AFTER_DROP = 8  # epochs for which a fall from before the drop must outlast it


class EarlyStop:
    """Watches validation robust accuracy, since data used for testing must not decide when training ends.

    An alarm before the learning rate first drops is reported, not obeyed, since the drop usually lifts robust accuracy above all
    that came before it: going on costs time, while ending could cost accuracy. (Of 16 published curves two raise an alarm before
    the drop, and neither rose above its level before the alarm afterwards; of their 416 perturbed variants 48, of which 3 rose:
    benchmarks/results/cpu/detector.md.) A fall that still lasts 8 epochs after the drop ends the run.

    Args:
        kind: "ro" ends the run at an alarm, "none" only reports it.
        history: the completed epochs; a continued run gets the verdict it would have had.
        first_drop: the epoch of the learning rate's first drop; 0 where it has none.
    """

    def __init__(self, kind: str, history: Iterable[Epoch], first_drop: int = 0) -> None:
        self._kind, self._watch, self._alarms = kind, Watch(), 0
        self._first_drop, self._epoch, self._reported = first_drop, -1, False
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
        self._epoch = epoch.epoch
        new, obeyed = len(verdict.alarms) > self._alarms, self._obeyed()
        if not new and (self._reported or not obeyed):  # an earlier alarm may come to count only after the drop
            return ""
        self._alarms, self._reported = len(verdict.alarms), self._reported or obeyed
        if not obeyed:
            does = f"training goes on, since the learning rate first drops in epoch {self._first_drop}"
        else:
            does = "training ends here" if self.ends else "trainer.early_stop=ro would end training here"
        return f"epoch {epoch.epoch}, on validation: {verdict.summary}; {does}"

    @property
    def ends(self) -> bool:
        """Whether an alarm has ended the run."""
        return self._kind == "ro" and self._obeyed()

    def _obeyed(self) -> bool:
        verdict = self._watch.verdict()
        if any(alarm >= self._first_drop for alarm in verdict.alarms):
            return True
        return bool(verdict.alarms) and verdict.overfitting is True and self._epoch >= self._first_drop + AFTER_DROP
