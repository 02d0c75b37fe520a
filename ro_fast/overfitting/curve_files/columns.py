"""Which column is meant: names are split into words, of which a few are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ro_fast.errors import InputError
from ro_fast.said import COMMA, Said, together

EPOCH = ("epoch", "epochs", "ep")
STEP = ("step", "steps", "_step", "global_step", "trainer_global_step", "iteration", "iterations", "iter", "round")
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MEASURES = {
    **dict.fromkeys(("acc", "accs", "accuracy", "accuracies"), "acc"),
    **dict.fromkeys(("err", "error", "errors"), "error"),
    **dict.fromkeys(("loss", "losses"), "loss"),
}
_ROBUST = {
    *("robust", "rob", "robustness", "adv", "adversarial", "attack", "attacked"),
    *("pgd", "apgd", "autopgd", "aa", "autoattack", "fgsm", "ifgsm", "bim", "cw", "square"),
}
_NEUTRAL = {"rate", "epoch", "mean", "avg", "average", "percent", "pct", "top1", "ce"}
# Names with one of these words are of something else: another summary of the values, or accuracy without an attack.
_OTHER = {
    *("best", "max", "min", "std", "gap", "diff", "weight", "step", "top5", "n", "time"),
    *("clean", "natural", "nat", "benign", "standard"),
}


@dataclass(frozen=True)
class Meaning:
    """What a name says."""

    split: str  # "train", "val", "test"; "" if it doesn't say
    measure: str  # "acc", "error", "loss"
    rest: frozenset[str]  # its other words, by which columns of the same attack are recognised
    robust: bool  # under an attack
    known: bool  # no word is unknown

    @property
    def tested(self) -> str:
        """The split, test where none is said."""
        return self.split or "test"


@dataclass
class Choice:
    """The columns of a curve: their names in the file."""

    acc: str
    split: str  # "test" or "val"
    loss: str | None = None
    train: str | None = None
    notes: list[str] = field(default_factory=list)


def plain(name: str) -> str:
    """A name in lower case, with "/", "-", "." and blanks as "_"."""
    return re.sub(r"[/\-. ]", "_", name.strip().lower())


def is_clock(name: str) -> bool:
    """Whether a column counts epochs or steps."""
    return plain(name) in EPOCH + STEP


def meaning(name: str) -> Meaning | None:
    """What a name says; None if it is no accuracy, error or loss.

    >>> meaning("Test/AdvAcc").split, meaning("val_pgd20").measure, meaning("adv_eps")
    ('test', 'acc', None)
    """
    name = name.rpartition(" - ")[2]  # wandb's export puts the run's name in front
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()
    words = [word for word in re.split(r"[\W_]+", spaced) if word]
    splits = {_SPLITS[word] for word in words if word in _SPLITS}
    measures = {_MEASURES[word] for word in words if word in _MEASURES}
    rest = frozenset(word for word in words if word not in _SPLITS and word not in _MEASURES and word not in _NEUTRAL)
    if rest & _OTHER or len(splits) > 1 or len(measures) > 1:
        return None
    kinds = {re.sub(r"\d+$", "", word) for word in rest} - {""}  # pgd20 is a pgd
    robust, known = bool(kinds & _ROBUST), kinds <= _ROBUST
    if not measures and not (robust and known):
        return None
    return Meaning(next(iter(splits), ""), next(iter(measures), "acc"), rest, robust, known)


def choose(header: Sequence[str], where: str, acc: str | None, loss: str | None, train: str | None) -> Choice:
    """Finds the accuracy to judge, test before validation, and what belongs to it.

    Args:
        header: all columns that hold values.
        where: the file, for messages.
        acc: the accuracy, if it is named; likewise ``loss`` and ``train``.

    Raises:
        InputError: if a named column does not exist, or no or several accuracies may be meant.
    """
    for key, name in (("column", acc), ("loss", loss), ("train", train)):
        if name is not None and name not in header:
            raise InputError(f"{where} has no column '{name}' ({key}=); available: {', '.join(header)}")
    found = {name: meant for name in header if not is_clock(name) and (meant := meaning(name)) is not None}
    if acc is None:
        acc = _accuracy(found, header, where)
        split = "test" if found[acc].tested == "test" else "val"
    else:
        split = "test"
    choice = Choice(acc, split, loss, train)
    own = found.get(acc) or Meaning("", "acc", frozenset(), robust=False, known=False)
    if loss is None:
        losses = [
            name
            for name, meant in found.items()
            if meant.measure == "loss" and (meant.split == own.split or (meant.robust and meant.tested == own.tested))
        ]
        choice.loss = _companion("loss", losses, own, found, choice.notes)
    if train is None:
        trains = [
            name
            for name, meant in found.items()
            if meant.measure in ("acc", "error") and name != acc and own.split != "train"
            # keras: accuracy stands beside val_accuracy
            and (meant.split == "train" or (not meant.split and own.split and not meant.robust and not own.robust))
        ]
        choice.train = _companion("train", trains, own, found, choice.notes)
    return choice


def _accuracy(found: dict[str, Meaning], header: Sequence[str], where: str) -> str:
    for split in ("test", "val"):
        names = [
            name for name, meant in found.items() if meant.robust and meant.measure in ("acc", "error") and meant.tested == split
        ]
        if names:
            likely = _likely(names, found, f"{split}_robust_acc")
            if len(likely) > 1:
                raise InputError(
                    f"{where}: {' and '.join(likely)} may each be the robust accuracy; name one with column=NAME, "
                    f"such as column='{likely[0]}'"
                )
            return likely[0]
    raise InputError(
        f"{where} has the columns {', '.join(header)}; "
        f"test_robust_acc or val_robust_acc is needed, or column=NAME to name the robust accuracy"
    )


def _likely(names: list[str], found: dict[str, Meaning], usual: str) -> list[str]:
    """Those that are named most plainly."""
    for test in (
        lambda name: plain(name) == usual,
        lambda name: found[name].known and found[name].split and found[name].measure != "error",
        lambda name: found[name].known and found[name].measure != "error",
        lambda name: found[name].known,
        lambda name: found[name].measure != "error",
    ):
        some = [name for name in names if test(name)]
        if some:
            return some
    return names


def _companion(key: str, names: list[str], own: Meaning, found: dict[str, Meaning], notes: list[str]) -> str | None:
    """The column that goes with the judged one: of the same attack, else the only robust one; None and a note if unclear."""
    same = [name for name in names if found[name].rest == own.rest]
    robust = [name for name in names if found[name].robust]
    usual = "test_robust_loss" if key == "loss" else "train_robust_acc"
    usual = "val_robust_loss" if key == "loss" and own.split == "val" else usual
    likely = _likely(same or robust, found, usual) if same or robust else []
    if len(likely) > 1:
        told = "not used, since more than one may be meant: {names} ({option}=NAME chooses)"
        notes.append(Said("curve.unclear", told, names=together(likely, COMMA), option=key))
        return None
    return likely[0] if likely else None
