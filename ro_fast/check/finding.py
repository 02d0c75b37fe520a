"""A finding, the unit of a check's results, and wording shared by all findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ro_fast.data.check_file import Observation
from ro_fast.data.image_data import ImageData
from ro_fast.said import COMMA, Said, together

SEVERITIES = ("serious", "warning", "info")
# In the order in which to read them: what is wrong with the images themselves distorts all that follows.
SECTIONS = {
    "Quality": ("range", "radius"),
    "Distribution": ("shift", "uncovered", "unrepresentative"),
    "Class balance": ("imbalance",),
    "Label noise": ("label_error",),
    "Leakage and duplicates": ("leakage", "duplicate", "near_duplicate"),
    "Margins against 2ε": ("margin",),
}
KINDS = tuple(kind for kinds in SECTIONS.values() for kind in kinds)
NEW_LABELS = ("uncovered", "imbalance")  # kinds whose cost is images to collect and label, not labels to look at
Image = tuple[str, int]  # ("train" or "test", row)


@dataclass(frozen=True)
class Example:
    """Images to look at together, with a description of what they show."""

    images: tuple[Image, ...]
    caption: str


@dataclass(frozen=True)
class Reason:
    """Why an image is part of a finding, and what to do about it."""

    action: str
    score: float | None = None
    partner: Image | None = None


@dataclass(frozen=True)
class Finding(Observation):
    """The result of the check on one point, with images to show on its page.

    Its images are rows of the data examined here; :meth:`stored` names them as the user does.
    """

    examples: list[Example] = field(default_factory=list)
    reasons: dict[Image, Reason] = field(default_factory=dict)  # of each image listed

    @property
    def section(self) -> str:
        """The section of the page that it belongs to."""
        return next(name for name, kinds in SECTIONS.items() if self.kind in kinds)

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Sort key of the page: by section, within it by severity."""
        severity, kind = SEVERITIES.index(self.severity), KINDS.index(self.kind)
        return list(SECTIONS).index(self.section), severity, kind, -self.count

    @property
    def urgency(self) -> tuple[int, int, int]:
        """Sort key: what to do first comes first."""
        return SEVERITIES.index(self.severity), KINDS.index(self.kind), -self.count

    def images(self) -> list[Image]:
        """The images listed, training images first."""
        return [("train", i) for i in self.train_indices] + [("test", i) for i in self.test_indices]

    def stored(self, data: ImageData) -> Observation:
        """The finding as stored in check.json: with the user's numbers and files, and the names of the classes."""
        values = {name: value for name, value in vars(self).items() if name not in ("examples", "reasons")}
        parts = (
            ("train", self.train_indices, data.rows_train, data.y_train, data.files_train),
            ("test", self.test_indices, data.rows_test, data.y_test, data.files_test),
        )
        for part, indices, rows, y, files in parts:
            values[f"{part}_indices"] = rows[indices].tolist()
            values[f"{part}_files"] = [files[i] for i in indices] if files is not None else None
            values[f"{part}_classes"] = [data.class_name(int(y[i])) for i in indices] or None
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
    text = together(map(str, listed[:most]), COMMA)
    return Said("and_more", "{listed} and {more} more", listed=text, more=len(listed) - most) if len(listed) > most else text


def images(count: int, what: str = "image") -> str:
    """A count with its noun.

    >>> images(1), images(2, "test image")
    ('1 image', '2 test images')
    """
    return Said(f"count.{what.replace(' ', '_')}", f"{{n}} {what}{'' if count == 1 else 's'}", n=count)


def are(count: int) -> str:
    """The verb of a count, in English."""
    return "is" if count == 1 else "are"


def percent(share: float) -> str:
    """A share in words, never rounded to a plain 0.

    >>> percent(0.2), percent(0.0004)
    ('20.0 %', '0.04 %')
    """
    return Said("percent", "{value} %", value=f"{100 * share:.{1 if share == 0 or share >= 0.001 else 2}f}")


NOTHING_TO_DO = Said("nothing_to_do", "Nothing to do.")
MORE_TEST_IMAGES = Said("more_test_images", "Hold out more test images.")


def of_label(name: str) -> str:
    """The caption of an image: its label."""
    return Said("label", "label {name}", name=name)
