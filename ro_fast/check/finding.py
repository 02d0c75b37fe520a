"""A finding, the unit of a check's results, and wording shared by all findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ro_fast.data.check_file import Observation
from ro_fast.data.image_data import ImageData

SEVERITIES = ("serious", "warning", "info")
# Among findings of one severity, what invalidates every number comes before what costs some accuracy.
KINDS = (
    "range",
    "leakage",
    "label_error",
    "shift",
    "duplicate",
    "near_duplicate",
    "imbalance",
    "margin",
    "unrepresentative",
)
TITLES = {
    "range": "Values",
    "leakage": "Test images in training",
    "label_error": "Suspect labels",
    "shift": "Training versus test images",
    "duplicate": "Duplicates",
    "near_duplicate": "Near duplicates",
    "imbalance": "Class balance",
    "margin": "Class margins",
    "unrepresentative": "Unlike any test image",
}


@dataclass(frozen=True)
class Example:
    """Images to look at together, with a description of what they show."""

    images: tuple[tuple[str, int], ...]  # ("train" or "test", row)
    caption: str


@dataclass(frozen=True)
class Finding(Observation):
    """The result of the check on one point, with images to show on its page."""

    examples: list[Example] = field(default_factory=list)

    @property
    def rank(self) -> tuple[int, int, int]:
        """Sort key: what to do first comes first."""
        return SEVERITIES.index(self.severity), KINDS.index(self.kind), -self.count

    def without_examples(self, data: ImageData) -> Observation:
        """The finding as stored in check.json; for images in files, also their names."""
        values = {name: value for name, value in vars(self).items() if name != "examples"}
        if data.files_train is not None and data.files_test is not None:
            values["train_files"] = [data.files_train[i] for i in self.train_indices]
            values["test_files"] = [data.files_test[i] for i in self.test_indices]
        return Observation(**values)


def by_share(share: float, *, warning: float, serious: float) -> str:
    """The severity for a share.

    >>> by_share(0.02, warning=0.01, serious=0.05)
    'warning'
    """
    return "serious" if share >= serious else "warning" if share >= warning else "info"


def some(things: Iterable[object], most: int = 8) -> str:
    """The first few items in words.

    >>> some(range(4), most=2)
    '0, 1 and 2 more'
    """
    listed = list(things)
    text = ", ".join(map(str, listed[:most]))
    return f"{text} and {len(listed) - most} more" if len(listed) > most else text


def images(count: int, what: str = "image") -> str:
    """A count with its noun.

    >>> images(1), images(2, "test image")
    ('1 image', '2 test images')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """A share in words, never rounded to a plain 0.

    >>> percent(0.2), percent(0.0004)
    ('20.0 %', '0.04 %')
    """
    return f"{100 * share:.{1 if share == 0 or share >= 0.001 else 2}f} %"
