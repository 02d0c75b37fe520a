"""evaluation.html: which share of the test images each state of a model keeps under which attack."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from ro_fast.evaluation.checkpoints import Evaluated, OfCheckpoint
from ro_fast.evaluation.evaluate import Result
from ro_fast.pages import render
from ro_fast.pages.chart import Chart, draw, new_chart
from ro_fast.pages.figure_style import GREY, PALETTE, WIDE
from ro_fast.pages.words import Words
from ro_fast.storage.checkpoint import write_text

PAGE = "evaluation.html"
_MARKERS = "oDs^"
_NORMS = {"linf": "L∞", "l2": "L2"}


SEVERAL = 4  # models, above which states are summed up over seeds


@dataclass(frozen=True)
class _Row:
    """One model: its accuracy after each attack, with its interval."""

    name: str
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class _OfClass:
    """The classes of one model."""

    name: str
    rows: list[list[str]]


def write_evaluation_page(found: Evaluated, out: Path, language: str | None = None) -> Path:
    """Writes ``evaluation.html`` and ``evaluation.png`` into a folder.

    Args:
        found: the contents of evaluation.json.
        out: the folder.
        language: "en" or "ja".

    Raises:
        InputError: if there are no texts in that language.
        StorageError: if they can't be written.
    """
    words = Words(Path(__file__).parent / "texts", language or "en")
    one = next(iter(found.models.values()))
    page = render(
        "evaluation.html.j2",
        Path(__file__).parent,
        t=words,
        say=words.say,
        found=found,
        name=Path(found.checkpoint).name,
        one=one,
        eps=f"{one.eps:.4g}",
        norm=_NORMS[one.norm],
        sentences=_sentences(found, words),
        doubts=[
            words("evaluation.doubt", model=_name(name, words), warning=words.say(warning))
            for name, model in found.models.items()
            for warning in model.warnings
        ],
        attacks=[_attack(key, one, words, "short") for key in _by_attack(found)],
        described=words("page.between.comma").join(_attack(key, one, words, "attack") for key in _by_attack(found)),
        rows=[
            _Row(_name(name, words), [_cell(results[number], words) for results in _by_attack(found).values()])
            for number, name in enumerate(found.models)
        ],
        classes=[_OfClass(_name(name, words), _classes(model, words)) for name, model in found.models.items()],
        drawing=draw("evaluation", partial(draw_evaluation, found, words), out),
    )
    write_text(out / PAGE, page)
    return out / PAGE


def draw_evaluation(found: Evaluated, words: Words, width: float) -> Chart:
    """Accuracy with its 95 % interval: natural, PGD, CW, then what remains after each attack of the cascade."""
    chart = new_chart(width, 3.4 if width >= WIDE else 4.2)
    ax = chart.figure.subplots()
    one, by_attack = next(iter(found.models.values())), _by_attack(found)
    apart = min(0.16, 0.7 / len(found.models))
    heads = [_attack(key, one, words, "short") for key in by_attack]
    for number, name in enumerate(found.models):
        results = [of_models[number] for of_models in by_attack.values()]
        places = [place + apart * (number - (len(found.models) - 1) / 2) for place in range(len(results))]
        colour, own = PALETTE[number % len(PALETTE)], _name(name, words)
        heights = [100 * result.acc for result in results]
        with chart.owned(own):
            for place, result in zip(places, results, strict=True):
                ax.plot([place, place], [100 * bound for bound in result.ci95], color=colour, lw=4, alpha=0.4)
            ax.plot(places, heights, _MARKERS[number % len(_MARKERS)], color=colour, ms=7, label=own)
            if len(results) > 3:
                ax.plot(places[3:], heights[3:], color=colour, lw=1)
            if len(found.models) <= SEVERAL:
                ax.annotate(f"{heights[-1]:.1f}", (places[-1], heights[-1]), (9, -3), textcoords="offset points")
        for place, height, head, result in zip(places, heights, heads, results, strict=True):
            ends, told = [100 * bound for bound in result.ci95], words("evaluation.told")
            chart.tell(ax, f"{own}, {head}", place, height, told, owner=own, interval=words("chart.interval"), ends=ends)
    ax.axvline(2.5, color=GREY, lw=0.9, ls=(0, (2, 2)))
    ax.set_xticks(range(len(heads)), heads if width >= WIDE else [head.replace(" ", "\n", 1) for head in heads])
    ax.tick_params(axis="x", labelsize=10 if width >= WIDE else 8)
    ax.margins(x=0.1)
    ax.set_ylabel(words("evaluation.accuracy"))
    chart.figure.legend(loc="outside upper right", ncols=2 if width >= WIDE else 1)
    return chart


def _by_attack(found: Evaluated) -> dict[str, list[Result]]:
    """attack -> the result of each model."""
    models = list(found.models.values())
    first = {name: [getattr(model, name) for model in models] for name in ("natural", "pgd", "cw")}
    return first | {name: [model.cascade[name] for model in models] for name in models[0].cascade}


def _attack(key: str, one: OfCheckpoint, words: Words, form: str) -> str:
    """An attack in words; one that is not of this project by its own name."""
    s = one.settings
    if key not in words.texts["evaluation"][form]:
        return key
    return str(
        words(f"evaluation.{form}.{key}", steps=s.steps, apgd_steps=s.apgd_steps, targets=s.targets, queries=s.queries)
    )


def _name(name: str, words: Words) -> str:
    """best, last and seed0/best are the names of states, others those of files."""
    *folders, state = name.split("/")
    known = words.texts["evaluation"]["model"].get(state)
    return name if known is None else " ".join([*folders, str(known)])


def _sentences(found: Evaluated, words: Words) -> list[str]:
    """One for each model; of several seeds, one for each state."""
    states: dict[str, list[OfCheckpoint]] = {}
    for name, model in found.models.items():
        states.setdefault(name.split("/")[-1], []).append(model)
    if len(found.models) <= SEVERAL or len(states) == len(found.models):
        return [_sentence(name, model, words) for name, model in found.models.items()]
    return [_over_seeds(state, models, words) for state, models in states.items()]


def _over_seeds(state: str, models: list[OfCheckpoint], words: Words) -> str:
    robust, natural = [100 * model.robust_acc for model in models], [100 * model.natural.acc for model in models]
    shares = {"robust": f"{fmean(robust):.1f}", "natural": f"{fmean(natural):.1f}"}
    ends = {"low": f"{min(robust):.1f}", "high": f"{max(robust):.1f}"}
    return str(words("evaluation.over_seeds", model=_name(state, words), seeds=len(models), **shares, **ends))


def _sentence(name: str, model: OfCheckpoint, words: Words) -> str:
    last = list(model.cascade.values())[-1] if model.cascade else model.cw
    low, high = (f"{100 * bound:.1f}" for bound in last.ci95)
    shares = {"robust": f"{100 * model.robust_acc:.1f}", "natural": f"{100 * model.natural.acc:.1f}"}
    return str(words("evaluation.finding", model=_name(name, words), low=low, high=high, **shares))


def _cell(result: Result, words: Words) -> tuple[str, str]:
    return f"{100 * result.acc:.1f}", _interval(result.ci95, words)


def _interval(ci95: tuple[float, float], words: Words) -> str:
    low, high = (f"{100 * bound:.1f}" for bound in ci95)
    return str(words("evaluation.interval", low=low, high=high))


def _classes(model: OfCheckpoint, words: Words) -> list[list[str]]:
    return [
        [
            one.name or str(one.label),
            str(one.samples),
            f"{100 * one.natural_acc:.1f}",
            f"{100 * one.robust_acc:.1f}",
            _interval(one.ci95, words),
        ]
        for one in model.by_class
    ]
