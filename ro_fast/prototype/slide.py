"""slide.svg: the prototype on one 16:9 slide, in the page's language; a vector picture, which any slide program can show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ro_fast.pages import render
from ro_fast.pages.letters import is_wide, width_of

WIDTH, HEIGHT = 1600, 900
_COLUMN, _COLUMNS = 690, 1400  # one of two columns, and both
_ROOM = 560  # for the paragraphs and the title
_SIZES = (30, 28, 26, 24, 22, 20)  # of their letters
# What never begins and never ends a line in Japanese (JIS X 4051, its stricter rule).
_NOT_FIRST = "、。，．・：；？！）」』】〉》％%ー〜々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ"
_NOT_LAST = "（「『【〈《"


def draw_slide(
    title: str,
    risk: str,
    level: str,
    points: Sequence[str],
    chart: str,
    axes: tuple[str, str],
    caption: str,
    decide: str,
    foot: str,
    html: str,
) -> str:
    """The slide as SVG.

    Args:
        title: the question.
        risk: the answer, in large letters.
        level: "high", "medium" or "low", which colours it.
        points: what to say, one paragraph each.
        chart: a PNG in base64, on the right, with the titles of its ``axes``, x and y, and its ``caption``.
        decide: what is to be decided.
        foot: how it was found out.
        html: the language of the texts, as HTML names it.
    """
    heading = wrapped(title, _COLUMNS / 44)
    size = next((size for size in _SIZES if _height(points, size) <= _ROOM - 54 * len(heading)), _SIZES[-1])
    return render(
        "slide.svg.j2",
        Path(__file__).parent,
        width=WIDTH,
        height=HEIGHT,
        title=heading,
        size=size,
        risk=risk,
        colour={"low": "#009e73", "medium": "#e69f00", "high": "#d55e00"}[level],
        points=[wrapped(point, _COLUMN / size) for point in points],
        chart=chart,
        axes=axes,
        caption=wrapped(caption, _COLUMN / 20),
        decide=wrapped(decide, _COLUMNS / 24)[0],
        foot=wrapped(foot, _COLUMNS / 20)[0],
        html=html,
    )


def _height(points: Sequence[str], size: int) -> float:
    """Of the paragraphs, as the template sets them."""
    return sum(1.4 * size * len(wrapped(point, _COLUMN / size)) + 0.8 * size for point in points)


def wrapped(text: str, width: float) -> list[str]:
    """A text in lines at most so wide, in units of the letter size; SVG itself breaks no lines.

    >>> wrapped("a few words here", 5), wrapped("日本語の文章。", 3), wrapped("長い（シード）", 3)
    (['a few', 'words', 'here'], ['日本語', 'の文', '章。'], ['長い', '（シー', 'ド）'])
    """
    lines, line = [], ""
    for piece in _together(_pieces(text)):
        if line and width_of(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return [*lines, line.rstrip()]


def _together(pieces: Sequence[str]) -> list[str]:
    """The pieces with those joined between which no line ends."""
    joined = [""]
    for piece in pieces:
        if not joined[-1] or piece[0] in _NOT_FIRST or joined[-1][-1] in _NOT_LAST:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _pieces(text: str) -> list[str]:
    """Words with the space after them; letters of scripts without spaces one by one."""
    pieces = [""]
    for letter in text:
        if is_wide(letter) or (pieces[-1] and (pieces[-1][-1] == " " or is_wide(pieces[-1][-1]))):
            pieces.append(letter)
        else:
            pieces[-1] += letter
    return [piece for piece in pieces if piece]
