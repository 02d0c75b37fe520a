"""Does a learning curve overfit robustly, since when, how certainly: judged while it grows, from the values so far.

Robust overfitting is a fall of robust test accuracy while the model still improves on its training set. At every
epoch, in points (hundredths of accuracy):

* ``level`` is the median of the last four values of a column, ``peak`` the highest level of robust accuracy so far;
* ``fall = peak − level``, and ``noise`` is the standard error of that difference. It is estimated from the curve itself: the
  70 % quantile of the last 19 second differences, which a trend or a jump of the learning rate hardly affects;
* ``growth`` is the rise of robust train accuracy since the peak. Without that column it is the rise of robust test loss
  beyond what the fall explains, at the rate at which loss and accuracy moved together in this curve; without either,
  half the fall. It is limited to between a quarter of the fall and 5 points. If train accuracy fell too, by more than a
  quarter of the fall, it is 0: a setback, such as a rise of the learning rate causes, is not overfitting;
* ``luck = sqrt(ln(n / 4))``: the highest of n / 4 levels lies above their mean by about ``luck · noise`` if nothing but noise
  moves them (extreme values of normal ones), so that much of a fall from it is expected and means nothing;
* ``score = (1 + 4 / age) · sqrt(max(0, fall − (z + luck) · noise) · growth)``, both extrapolated to four values later at
  their rate over the ``age`` values since the peak. A fast fall is reported early, a slow one once it is large.

The alarm is raised when the score reaches 2.5 points. z is 1.3 if test loss has risen by three times its own noise,
2 if there is no loss but train accuracy, else 3.

How often this is right is measured by ``python -m ro_fast.benchmarks.detector``; benchmarks/results/cpu/detector.md has the
tables. On the 16 public runs that the constants were chosen on, all 5 that end more than 5 points below their best raise an
alarm, 9 to 20 epochs after the best, and none of the 5 that end less than 1.5 points below. On 416 perturbed variants of them it
is 100 % and 2 % (noise of test sets of 300 to 3000 images, truncated, thinned, stretched, rescaled, with a smaller fall). On
curves that constants were not fitted to:

* refitted without a family of runs, to few false alarms before speed, they find 5 of 5 in the families left out, with no alarm
  on the 5 sound ones, but 9 to 43 epochs after the best, 22 in the median (24 without train accuracy, 46 with neither column); on
  variants 99 % and 1 %;
* of flat curves with the noise of 10 000 test images, none raises an alarm with the constants here, of 1000 images 0 to 1 % do,
  of 300 images 6 to 11 %, depending on the columns. With small test sets an alarm is a reason to look, not to stop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import numpy as np

from ro_fast.errors import InputError
from ro_fast.said import COMMA, SEMICOLON, Said, together

MIN_VALUES = 8  # fewer say nothing about noise
WINDOW, NOISE_WINDOW = 4, 19  # values
SETBACK = 2.0  # points; a fall reported as a setback if train accuracy fell with it
# Standard error of the difference of two medians of four, in standard deviations of one value.
_SE = math.sqrt(2.2 / WINDOW)
# The 70 % quantile of abs(x₁ − (x₀ + x₂) / 2) for standard normal x.
_SECOND_DIFFERENCE = 1.0364 * math.sqrt(1.5)


@dataclass(frozen=True)
class Constants:
    """What decides when an alarm is raised."""

    alarm: float = 2.5  # points of score
    ahead: float = 4  # values over which the fall is extrapolated
    z_loss: float = 1.3  # multiples of the noise that a fall must exceed if test loss has clearly risen
    z_train: float = 2.0  # without loss, with train accuracy
    z: float = 3.0  # else


CONSTANTS = Constants()
_WORDS = {
    True: Said("watch.overfits", "robust overfitting"),
    False: Said("watch.sound", "no robust overfitting so far"),
    None: Said("watch.unsure", "unsure whether it overfits robustly"),
}


@dataclass(frozen=True)
class Evidence:
    """What a curve shows at its last value, in points: see the module docstring."""

    seen: int = 0  # values so far
    age: int = 0  # values since the peak
    fall: float = 0.0
    noise: float = math.nan
    growth: float = 0.0
    train_rise: float = math.nan  # NaN without train accuracy
    loss_rise: float = math.nan  # in nats; NaN without loss
    loss_rises: bool = False  # by more than three times its noise

    def score(self, constants: Constants = CONSTANTS) -> float:
        """In points, by which an alarm is raised."""
        if self.age < 2:
            return 0.0
        if not math.isnan(self.loss_rise):
            z = constants.z_loss if self.loss_rises else constants.z
        else:
            z = constants.z if math.isnan(self.train_rise) else constants.z_train
        sure = self.fall - (z + self.luck) * self.noise
        return (1 + constants.ahead / self.age) * math.sqrt(sure * self.growth) if sure > 0 else 0.0

    @property
    def luck(self) -> float:
        """How far the highest of so many levels lies above their mean if nothing but noise moves them, in units of the noise.

        ``√ln k`` for k independent levels: the highest of k normal values lies about √(2 ln k) standard deviations above their
        mean, and the noise of a difference is √2 of them.
        """
        return math.sqrt(math.log(max(1.0, self.seen / WINDOW)))

    @property
    def beyond(self) -> float:
        """The fall beyond what luck explains."""
        return self.fall - self.luck * self.noise

    def alarmed(self, before: bool, constants: Constants = CONSTANTS) -> bool:
        """Whether an alarm stands here: one from ``before`` that the curve has not recovered from, or a new one."""
        return (before and self.fall > self.noise) or self.score(constants) >= constants.alarm


@dataclass(frozen=True)
class Verdict:
    """What a learning curve shows so far. Accuracies and gap are fractions.

    ``overfitting`` is True, False or None (unsure); ``confidence`` is the probability that this answer is right, or for None
    that there is overfitting, as measured on perturbed real curves. ``alarm_epoch`` is the first epoch at which an
    alarm was raised, and is never retracted; ``alarms`` are all of them. After an alarm a curve may recover: ``overfitting`` is
    then False again.
    """

    overfitting: bool | None
    onset_epoch: int | None  # of best accuracy, where the current fall began
    alarm_epoch: int | None
    confidence: float
    gap: float  # best accuracy − mean of the last five values
    best_epoch: int | None
    score: float  # points; the alarm is raised at 2.5
    reason: str
    alarms: tuple[int, ...] = ()

    @property
    def summary(self) -> str:
        """The verdict in one sentence."""
        share = min(99, round(100 * self.confidence))  # the measurements can't distinguish 99 from 100
        likely = Said("watch.likely", "{share} % likely", share=share)
        sure = Said("watch.sure", "{share} % sure", share=share)
        since = Said("watch.since", " since epoch {epoch}", epoch=self.onset_epoch)
        return Said(
            "watch.summary",
            "{word}{since} ({sure}): {reason}",
            word=_WORDS[self.overfitting],
            since=since if self.onset_epoch is not None else "",
            sure=likely if self.overfitting is None else sure,
            reason=self.reason,
        )

    def lines(self) -> list[str]:
        """The verdict in plain lines: the result, the evidence, what to do."""
        gap = Said(
            "watch.gap",
            "gap {gap} points (best value, at epoch {best}, minus the mean of the last five)",
            gap=f"{100 * self.gap:.1f}",
            best=self.best_epoch,
        )
        rang = Said(
            "watch.rang",
            "the detector raised an alarm at epoch {epochs}",
            epochs=together(map(str, self.alarms), COMMA),
        )
        seen = together([gap, rang if self.alarms else ""], SEMICOLON)
        return [self.summary, seen, f"what to do: {self.advice}"]

    @property
    def advice(self) -> str:
        """What to do."""
        return _advice(self.overfitting, self.best_epoch)


class Watch:
    """Watches a run while it trains: one :meth:`update` per epoch, each returning the verdict so far.

    >>> monitor = Watch()
    >>> for epoch in range(60):
    ...     up, over = min(epoch, 20), max(0, epoch - 20)
    ...     verdict = monitor.update(0.3 + 0.01 * up - 0.003 * over, train_robust_acc=0.3 + 0.01 * epoch)
    >>> verdict.overfitting, verdict.onset_epoch, verdict.alarm_epoch
    (True, 20, 24)
    """

    def __init__(self, constants: Constants = CONSTANTS) -> None:
        self._constants = constants
        self._epochs: list[int] = []
        self._acc: list[float] = []
        self._loss: list[float] = []
        self._train: list[float] = []
        self._levels: list[float] = []  # of robust accuracy
        self._slope = _Slope()
        self._best = -1  # index of the highest accuracy; -1: none yet
        self._peak = -1  # index of the highest level; -1: none yet
        self._evidence = Evidence()
        self._alarms: list[int] = []
        self._standing = False  # the last alarm has not been followed by a recovery
        self._last_epoch: int | None = None

    def update(
        self,
        robust_acc: float | None,
        *,
        robust_loss: float | None = None,
        train_robust_acc: float | None = None,
        epoch: int | None = None,
    ) -> Verdict:
        """Takes the values of one epoch and returns the verdict so far.

        Args:
            robust_acc: robust test or validation accuracy, a fraction; None or NaN: not measured at this epoch.
            robust_loss: robust loss on the same samples.
            train_robust_acc: robust accuracy on the training samples.
            epoch: its number; None: one more than the last.

        Raises:
            InputError: if an accuracy is outside [0, 1] or an epoch does not increase.
        """
        if epoch is None:
            epoch = 0 if self._last_epoch is None else self._last_epoch + 1
        if self._last_epoch is not None and epoch <= self._last_epoch:
            raise InputError(f"epoch {epoch} follows epoch {self._last_epoch}; epochs should strictly increase")
        acc = _fraction("robust accuracy", robust_acc, epoch)
        train = _fraction("robust train accuracy", train_robust_acc, epoch)
        self._last_epoch = epoch
        if math.isnan(acc):
            return self.verdict()
        self._epochs.append(epoch)
        self._acc.append(acc)
        self._loss.append(float("nan") if robust_loss is None else float(robust_loss))
        self._train.append(train)
        self._levels.append(_level(self._acc))
        self._slope.add(acc, self._loss[-1])
        if self._best < 0 or acc > self._acc[self._best]:
            self._best = len(self._acc) - 1
        if len(self._acc) >= WINDOW - 1 and (self._peak < 0 or self._levels[-1] > self._levels[self._peak]):
            self._peak = len(self._acc) - 1
        if self._peak >= 0:
            self._evidence = self._weigh()
        self._judge(epoch)
        return self.verdict()

    def _judge(self, epoch: int) -> None:
        if len(self._acc) < MIN_VALUES:
            return
        alarmed = self._evidence.alarmed(self._standing, self._constants)
        if alarmed and not self._standing:
            self._alarms.append(epoch)
        self._standing = alarmed

    @property
    def evidence(self) -> Evidence:
        """What the last measured epoch shows, before any constant is applied."""
        return self._evidence

    def verdict(self) -> Verdict:
        """The verdict on the values so far."""
        if len(self._acc) < MIN_VALUES:
            few = Said(
                "watch.few", "{n} values are too few; at least {least} are needed", n=len(self._acc), least=MIN_VALUES
            )
            return Verdict(None, None, None, 0.0, self._gap(), self._best_epoch(), 0.0, few)
        e = self._evidence
        likely = probability(e, self._standing)
        overfitting = True if self._standing else None if likely >= 0.5 else False
        return Verdict(
            overfitting,
            self._onset() if overfitting is not False else None,
            self._alarms[0] if self._alarms else None,
            1 - likely if overfitting is False else likely,
            self._gap(),
            self._best_epoch(),
            e.score(self._constants),
            _reason(overfitting, e, bool(self._alarms)),
            tuple(self._alarms),
        )

    def _best_epoch(self) -> int | None:
        return self._epochs[self._best] if self._acc else None

    def _gap(self) -> float:
        return self._acc[self._best] - _mean(self._acc[-5:]) if self._acc else 0.0

    def _onset(self) -> int:
        """The best epoch among those whose median is the peak."""
        first = max(0, self._peak - WINDOW + 1)
        return self._epochs[max(range(first, self._peak + 1), key=self._acc.__getitem__)]

    def _weigh(self) -> Evidence:
        """The evidence of the last epoch. It reads a bounded number of values, so that an update costs the same at any length."""
        end = self._peak + 1
        fall = 100 * (self._levels[self._peak] - self._levels[-1])
        loss_rise = _level(self._loss) - _level(self._loss, end)
        # Train accuracy is smooth: as a mean of three, its level lags less.
        train_rise = 100 * (_mean(self._train[-3:]) - _mean(self._train[max(0, end - WINDOW) : end]))
        loss_noise = math.nan if math.isnan(loss_rise) else _SE * _noise(self._loss)
        return Evidence(
            seen=len(self._acc),
            age=len(self._acc) - end,
            fall=fall,
            noise=100 * _SE * _noise(self._acc),
            growth=_growth(fall, train_rise, loss_rise, self._slope),
            train_rise=train_rise,
            loss_rise=loss_rise,
            loss_rises=loss_rise > 3 * loss_noise,
        )


def watch(
    test_robust_acc: Sequence[float | None] | None = None,
    *,
    test_robust_loss: Sequence[float | None] | None = None,
    train_robust_acc: Sequence[float | None] | None = None,
    val_robust_acc: Sequence[float | None] | None = None,
    val_robust_loss: Sequence[float | None] | None = None,
    epochs: Sequence[int] | None = None,
) -> Verdict:
    """Determines whether a learning curve overfits robustly, since when, and how certain that is; the formula is this module's.

    The same as feeding :class:`Watch` epoch by epoch, so ``alarm_epoch`` depends on nothing after it.

    Args:
        test_robust_acc: [epochs] fractions; None or NaN if an epoch was not measured. Validation accuracy works as well.
        test_robust_loss: [epochs] robust test loss, if available.
        train_robust_acc: [epochs] fractions, if available.
        val_robust_acc: [epochs] fractions, judged if test_robust_acc is not given.
        val_robust_loss: [epochs] the corresponding loss.
        epochs: [epochs] their numbers, increasing, gaps allowed; None: 0, 1, 2, …

    Raises:
        InputError: on fewer than 8 values, percentages, different lengths, or epochs that don't increase.

    >>> curve = [0.30, 0.35, 0.40, 0.44, 0.46, 0.47, 0.48, 0.48, 0.47, 0.46, 0.45, 0.44, 0.43, 0.42, 0.41, 0.40]
    >>> verdict = watch(curve, train_robust_acc=[0.30 + 0.02 * epoch for epoch in range(16)])
    >>> verdict.overfitting, verdict.onset_epoch, round(verdict.gap, 3)
    (True, 6, 0.06)
    """
    name, acc, loss = "test_robust_acc", test_robust_acc, test_robust_loss
    if acc is None:
        name, acc, loss = "val_robust_acc", val_robust_acc, val_robust_loss
    if acc is None:
        raise InputError("watch: neither test_robust_acc nor val_robust_acc is given; one of them is needed")
    columns = {"loss": loss, "train_robust_acc": train_robust_acc, "epochs": epochs}
    for other, values in columns.items():
        if values is not None and len(values) != len(acc):
            raise InputError(f"watch: {name} has {len(acc)} values and {other} {len(values)}; they should have the same length")
    monitor, nothing = Watch(), [None] * len(acc)
    for i, value in enumerate(acc):
        monitor.update(
            value,
            robust_loss=(nothing if loss is None else loss)[i],
            train_robust_acc=(nothing if train_robust_acc is None else train_robust_acc)[i],
            epoch=None if epochs is None else int(epochs[i]),
        )
    seen = len(monitor._acc)
    if seen < MIN_VALUES:
        raise InputError(f"watch: {name} has {seen} usable values of {len(acc)}; at least {MIN_VALUES} are needed")
    return monitor.verdict()


# -- evidence ----------------------------------------------------------------------------------------------------------


class _Slope:
    """The fall of robust loss per point of robust accuracy, by least squares over all values so far (Welford's sums)."""

    def __init__(self) -> None:
        self._n, self._acc, self._loss, self._spread, self._joint = 0, 0.0, 0.0, 0.0, 0.0

    def add(self, acc: float, loss: float) -> None:
        if not math.isfinite(loss):
            return
        self._n += 1
        before = acc - self._acc
        self._acc += before / self._n
        self._loss += (loss - self._loss) / self._n
        self._spread += before * (acc - self._acc)
        self._joint += before * (loss - self._loss)

    def nats_per_point(self) -> float:
        """Limited to the range of real curves."""
        return min(max(-self._joint / self._spread / 100, 0.01), 0.1) if self._spread > 0 else 0.03


def _growth(fall: float, train_rise: float, loss_rise: float, slope: _Slope) -> float:
    quarter = fall / 4
    if not math.isnan(train_rise):
        return 0.0 if train_rise <= -quarter else min(max(train_rise, quarter), 5.0)
    if not math.isnan(loss_rise):
        return min(max(loss_rise / slope.nats_per_point() - fall, quarter), 5.0)
    return fall / 2


def _noise(values: list[float]) -> float:
    """Standard deviation of one value around the trend, from the last second differences."""
    x = _finite(values[-(4 * NOISE_WINDOW) :])[-(NOISE_WINDOW + 2) :]
    if len(x) < 3:
        return math.inf
    bends = [abs(mid - (left + right) / 2) for left, mid, right in zip(x, x[1:], x[2:], strict=False)]
    return (quantiles(bends, n=10, method="inclusive")[6] if len(bends) > 1 else bends[0]) / _SECOND_DIFFERENCE


def _level(values: list[float], end: int | None = None) -> float:
    """The median of the last values before ``end``."""
    end = len(values) if end is None else end
    x = _finite(values[max(0, end - WINDOW) : end])
    return median(x) if x else math.nan


def _mean(values: list[float]) -> float:
    x = _finite(values)
    return float(np.mean(x)) if x else math.nan


def _finite(values: list[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _fraction(name: str, value: float | None, epoch: int) -> float:
    if value is None or math.isnan(value):
        return float("nan")
    if not 0 <= value <= 1:
        hint = "it looks like a percentage, so divide it by 100" if 1 < value <= 100 else "give a fraction"
        raise InputError(f"{name} at epoch {epoch} is {value:g} and should lie in [0, 1]; {hint}")
    return float(value)


# -- words -------------------------------------------------------------------------------------------------------------


def probability(e: Evidence, standing: bool) -> float:
    """After an alarm, that a gap above 2 points remains at the run's end; otherwise that the gap so far is above 2 points.

    Logistic in the fall beyond what luck explains, and in the noise. Fitted to prefixes of the public curves with the noise of
    test sets of several sizes, and, as a third of the weight, of curves that are in truth flat:
    ``python -m ro_fast.benchmarks.detector --fit`` prints the numbers, and detector.md says how often what is said came true.
    """
    logit = 2.89 + 0.88 * e.beyond if standing else -2.87 + 0.52 * e.beyond + 0.7 * e.noise
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))


def _advice(overfitting: bool | None, best: int | None) -> str:
    if overfitting:
        return Said(
            "watch.stop",
            "stop, keep the checkpoint of epoch {best}, and find out with ro-fast ablate which mitigation helps",
            best=best,
        )
    if overfitting is None:
        return Said(
            "watch.look",
            "continue training, keep the best checkpoint and watch the curve; a larger test set would reduce the noise",
        )
    return Said("watch.continue", "continue training; keep the best checkpoint anyway")


def _reason(overfitting: bool | None, e: Evidence, rang: bool) -> str:
    fell = Said(
        "watch.fell",
        "robust accuracy is {fall} points below its peak (noise {noise})",
        fall=f"{max(e.fall, 0):.1f}",
        noise=f"{e.noise:.1f}",
    )
    train = Said("watch.train", "train accuracy {rise} points since", rise=f"{e.train_rise:+.1f}")
    loss = Said("watch.loss", "robust loss {rise}", rise=f"{e.loss_rise:+.2f}")
    known = [fell, "" if math.isnan(e.train_rise) else train, "" if math.isnan(e.loss_rise) else loss]
    setback = Said("watch.setback", "train accuracy fell too, which points to a setback rather than overfitting")
    recovered = Said("watch.recovered", "it fell earlier and has recovered")
    fell_too = e.growth == 0 and e.fall > SETBACK and not overfitting
    rest = [setback if fell_too else "", recovered if rang and not overfitting else ""]
    return together([together(known, COMMA), *rest], SEMICOLON)
