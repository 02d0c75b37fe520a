"""Charts of the pages: drawn by matplotlib, shown as SVG within the page, and told point by point to pointer and keyboard.

Matplotlib's SVG was chosen over a chart library in the browser: it is there without any script, on paper too, the same drawing
gives the PNG, and its text stays text, so that the browser's fonts write it, Japanese too. The default suite's three charts take
180 kB. uPlot's script takes 51 kB before any data and Vega-Lite's 830 kB, but without scripts both show nothing. ``page.js``
only points at what is drawn.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ro_fast.pages.figure_style import DPI, GREY, GRID, INK, NARROW, PALETTE, WIDE, new_figure, save, style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
# The page's style sheet gives these for light and dark.
_COLOURS = {INK: "--text", GREY: "--soft", GRID: "--line", **{colour: f"--c{index}" for index, colour in enumerate(PALETTE)}}
INTERVAL = " ({lo:1} to {hi:1})"
_OWNER = "owner "  # begins the id of what belongs to an arm


@dataclass(frozen=True)
class Series:
    """Points of one panel that a reader steps through from left to right."""

    axes: Axes
    owner: str  # what hides them: an arm, "" if nothing does
    name: str
    text: str  # what is told of a point: {x}, and {y:1} with one decimal
    interval: str  # what is added where a point has {lo:1} and {hi:1}
    points: list[list[float]]  # x, y, and the ends of the interval


@dataclass
class Chart:
    """A figure, what each of its points says, and which arm its parts belong to."""

    figure: Figure
    series: list[Series] = field(default_factory=list)

    def tell(
        self,
        axes: Axes,
        name: str,
        x: ArrayLike,
        y: ArrayLike,
        text: str,
        *,
        owner: str = "",
        interval: str = "",
        ends: Any = None,
    ) -> None:
        """Adds a series of points in data coordinates.

        Args:
            axes: their panel.
            name: what they are.
            x, y: [points]; NaN leaves a point out.
            text: of a point, with places for {x} and {y}; {y:1} has one decimal.
            owner: the arm they belong to.
            interval: added to the text, with places for {lo} and {hi}.
            ends: of the intervals, lowest and highest, [points] each; NaN for a point without.
        """
        columns = [np.atleast_1d(np.asarray(values, dtype=float)) for values in (x, y, *(ends if ends is not None else ()))]
        told = [[_brief(value) for value in row if not np.isnan(value)] for row in zip(*columns, strict=True)]
        self.series.append(Series(axes, owner, name, text, interval, [row for row in told if len(row) in (2, 4)]))

    @contextmanager
    def owned(self, owner: str) -> Iterator[None]:
        """What is drawn within belongs to an arm, and is hidden with it."""
        before = {id(artist) for artist in self._artists()}
        yield
        for artist in self._artists():
            if owner and id(artist) not in before:
                artist.set_gid(_OWNER + owner)

    def band(
        self,
        axes: Axes,
        name: str,
        epoch: NDArray[np.float64],
        values: NDArray[np.float64],
        colour: str,
        text: str = "epoch {x}: {y:1} %",
        owner: str = "",
        interval: str = INTERVAL,
        **line: Any,
    ) -> None:
        """Mean over seeds in percent, with the band from the lowest to the highest seed.

        Args:
            axes: the panel.
            name: what it is.
            epoch: [epochs].
            values: fractions, [seeds, epochs].
            colour: of line and band.
            text: of a point.
            owner: the arm it belongs to.
            interval: of a point, from the lowest to the highest seed.
            line: the look of the line.
        """
        low, mean, high = 100 * values.min(axis=0), 100 * values.mean(axis=0), 100 * values.max(axis=0)
        with self.owned(owner):
            axes.fill_between(epoch, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(epoch, mean, color=colour, **line)
        ends = (low, high) if len(values) > 1 else None
        self.tell(axes, name, epoch, mean, text, owner=owner, interval=interval, ends=ends)

    def _artists(self) -> Iterator[Artist]:
        for axes in self.figure.axes:
            yield from axes.get_children()


def _brief(value: float) -> float:
    return round(float(value), 2) if abs(value) >= 10 else float(f"{value:.4g}")


def new_chart(width: float, height: float) -> Chart:
    """An empty chart of the given size in inches."""
    return Chart(new_figure(width, height))


@dataclass(frozen=True)
class Drawing:
    """A chart as a page shows it."""

    wide: str  # SVG
    narrow: str  # SVG, for a phone
    told: str  # JSON: the series, and where they lie in either drawing


def draw(name: str, chart: Callable[[float], Chart], folder: Path | None = None) -> Drawing:
    """Draws a chart for a wide and for a narrow page; the same chart gives the same bytes.

    Args:
        name: no other chart of the page has it.
        chart: draws it at a width in inches.
        folder: where ``name.png`` is written too, if it is given.

    Raises:
        StorageError: if the picture can't be written.
    """
    with style(), warnings.catch_warnings():
        # Without a font for the language the picture shows boxes; in the page the browser's fonts write.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        wide, narrow = chart(WIDE), chart(NARROW)
        if folder is not None:
            save(wide.figure, folder / f"{name}.png")
        pictures = {size: _svg(drawn.figure, f"{name} {size}") for size, drawn in (("wide", wide), ("narrow", narrow))}
    panels = {axes: number for number, axes in enumerate(dict.fromkeys(series.axes for series in wide.series))}
    told = [
        {"panel": panels[s.axes], **{key: getattr(s, key) for key in ("owner", "name", "text", "interval", "points")}}
        for s in wide.series
    ]
    places = [[_place(axes) for axes in dict.fromkeys(s.axes for s in drawn.series)] for drawn in (wide, narrow)]
    # "<" would end the script element that holds it.
    text = json.dumps({"series": told, "places": places}, ensure_ascii=False).replace("<", "\\u003c")
    return Drawing(**pictures, told=text)


def _place(axes: Axes) -> list[float]:
    """Where a panel's data lie in the drawing: x = a + b·f(data x), y = c + d·f(data y), f the logarithm if the axis has it."""
    ends = np.array([axes.get_xlim(), axes.get_ylim()]).T  # two corners
    figure = axes.get_figure(root=True)
    assert figure is not None
    drawn = axes.transData.transform(ends) * 72 / figure.dpi
    drawn[:, 1] = 72 * figure.get_figheight() - drawn[:, 1]
    place = []
    for axis, scale in enumerate((axes.get_xscale(), axes.get_yscale())):
        low, high = np.log(ends[:, axis]) if scale == "log" else ends[:, axis]
        slope = (drawn[1, axis] - drawn[0, axis]) / (high - low)
        place += [round(float(drawn[0, axis] - slope * low), 3), float(f"{slope:.6g}"), int(scale == "log")]
    return place


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an SVG element for a page: its colours the page's, without what no page needs."""
    import matplotlib

    buffer = io.BytesIO()
    # The salt keeps the ids of two charts apart.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", dpi=DPI, transparent=True, metadata=none)
    root = ET.fromstring(buffer.getvalue())
    _reduce(root, set(re.findall(r"#(\w+)", str([list(element.attrib.values()) for element in root.iter()]))))
    root.insert(0, _with_classes(root))
    for key in ("width", "height", "version"):
        del root.attrib[key]
    root.set("aria-hidden", "true")  # the caption and the table say it in words
    ET.register_namespace("", _SVG[1:-1])
    ET.register_namespace("xlink", _LINK[1:-1])
    return ET.tostring(root, encoding="unicode")


def _with_classes(root: ET.Element) -> ET.Element:
    """Moves the styles of all elements into a style element of its own; equal ones have equal names on any chart."""
    rules = {}
    for element in root.iter():
        if look := element.attrib.pop("style", ""):
            name = f"s{hashlib.blake2b(look.encode(), digest_size=4).hexdigest()}"
            rules[name] = f".{name}{{{look}}}"
            element.set("class", name)
    style = ET.Element(f"{_SVG}style")
    style.text = "".join(rules.values())
    return style


def _reduce(element: ET.Element, used: set[str]) -> None:
    name = element.get("id", "")
    if name.startswith(_OWNER):
        element.set("data-owner", name[len(_OWNER) :])
    if name not in used:
        element.attrib.pop("id", None)
    for key, value in list(element.attrib.items()):
        element.set(key, _shorter(key, value))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    element.tail = None
    if element.tag != f"{_SVG}text" and not (element.text or "").strip():
        element.text = None
    children: list[ET.Element] = []
    for child in element:
        _reduce(child, used)
        if child.tag == f"{_SVG}style" or (child.tag == f"{_SVG}defs" and not len(child)):
            continue
        # A group that says nothing is left out, its contents are not.
        children += list(child) if child.tag == f"{_SVG}g" and not child.attrib else [child]
    element[:] = children


def _shorter(key: str, value: str) -> str:
    if key == f"{_LINK}href":
        return _with_fewer_colours(value)
    if key == "style":
        value = re.sub(r"font-family:[^;]*;? ?", "", value)
        return re.sub(r"#[0-9a-f]{6}", lambda colour: _page_colour(colour[0]), value)
    if key == "d":
        value = re.sub(r"M (\S+ \S+)((?: L \S+ \S+)+)", _line, re.sub(r"\s+", " ", value).strip())
    return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{round(float(number[0]), 1):.6g}", value)


def _with_fewer_colours(link: str) -> str:
    """An embedded PNG of points in 128 colours, which takes a fifth of the room; any other link as it is."""
    start, comma, data = link.partition("base64,")
    if start != "data:image/png;":
        return link
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    picture.quantize(128, method=Image.Quantize.FASTOCTREE).save(buffer, "png", optimize=True)
    return f"{start}{comma}{base64.b64encode(buffer.getvalue()).decode()}"


def _line(found: re.Match[str]) -> str:
    """A line through points, each given by its distance from the one before, which takes half the room."""
    points = np.array([float(value) for value in f"{found[1]}{found[2]}".replace("L", "").split()]).reshape(-1, 2).round(1)
    steps = np.diff(points, axis=0).round(1) + 0.0
    return f"M{points[0, 0]:g} {points[0, 1]:g}l" + " ".join(f"{value:g}" for value in steps.ravel())


def _page_colour(colour: str) -> str:
    named = {key.lower(): variable for key, variable in _COLOURS.items()}
    named |= {"#000000": "--text", "#ffffff": "--back"}
    return f"var({named[colour]})" if colour in named else colour

