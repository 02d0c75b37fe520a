"""protocol.html: the protocol to agree on, and after the evaluation the decision, in English or Japanese."""

from __future__ import annotations

from pathlib import Path

from ro_fast.data.naming import short_name
from ro_fast.pages import render
from ro_fast.pages.words import Words
from ro_fast.protocol.decide import UNDECIDED, Criterion, Decision
from ro_fast.protocol.protocol import Protocol
from ro_fast.storage import checkpoint

PAGE = "protocol.html"
_NORMS = {"linf": "L∞", "l2": "L2"}


def write_page(protocol: Protocol, path: Path, language: str, decision: Decision | None = None) -> None:
    """Writes the page; with a decision, filled in."""
    words = Words(Path(__file__).parent / "texts", language)
    page = render(
        "page.html.j2",
        Path(__file__).parent,
        t=words,
        protocol=protocol,
        name=short_name(protocol.data, protocol.path),
        decision=decision,
        told=_all_told(decision, words) if decision else [],
        rows=_rows(protocol, words),
        limits=_limits(protocol, words, decision),
    )
    checkpoint.write_text(path, page)


def sentences(decision: Decision, language: str) -> list[str]:
    """The decision with the criterion that made it, then the other criteria."""
    words = Words(Path(__file__).parent / "texts", language)
    deciding = [c for c in decision.criteria if c.code == decision.code] or decision.criteria
    others = [c for c in decision.criteria if c not in deciding]
    told = [_told(c, words) for c in deciding] + (_few(decision, words) if decision.code == UNDECIDED else [])
    first = words("decided", code=words(f"code.{decision.code}"), told=words("list").join(told))
    return [first, *(words("decided", code=words(f"code.{c.code}"), told=_told(c, words)) for c in others)]


def _all_told(decision: Decision, words: Words) -> list[str]:
    told = [text[:1].upper() + text[1:] for text in (_told(c, words) for c in decision.criteria)]
    return told + _few(decision, words)


def _few(decision: Decision, words: Words) -> list[str]:
    if decision.runs >= decision.protocol.seeds:
        return []
    return [words("few_runs", runs=decision.runs, seeds=decision.protocol.seeds)]


def _told(criterion: Criterion, words: Words) -> str:
    limits = {"limit": _percent(criterion.limit), "no_go": _percent(criterion.no_go)}
    text: str = words(
        "told",
        name=_name(criterion.name, words, criterion.label),
        acc=_percent(criterion.acc),
        low=_percent(criterion.ci95[0]),
        high=_percent(criterion.ci95[1]),
        against=words(f"against.{criterion.code}", **limits),
    )
    return text if criterion.images_needed is None else text + str(words("needed", images=criterion.images_needed))


def _name(name: str, words: Words, label: str | None = None) -> str:
    text = words(f"name.{name}")
    return str(text if label is None else words("of_class", name=text, label=label))


def _rows(p: Protocol, words: Words) -> list[list[str]]:
    s = p.settings
    square = words("rows.square", queries=s.queries) if p.norm == "linf" else ""
    attacks = {"steps": s.steps, "apgd_steps": s.apgd_steps, "targets": s.targets, "square": square, "level": p.level}
    precision, expected = f"{100 * p.precision:.1f}", _percent(p.expected)
    return [
        words("rows.threat", eps=f"{p.eps:.4g}", norm=_NORMS[p.norm]),
        words("rows.attacks", **attacks),
        words("rows.images", images=p.images, available=p.available, precision=precision, expected=expected),
        words("rows.models", seeds=p.seeds, checkpoint=words(f"checkpoint.{p.checkpoint}")),
    ]


def _limits(protocol: Protocol, words: Words, decision: Decision | None) -> list[list[str]]:
    limits = protocol.limits
    rows = {"robust": (limits.robust, limits.no_go)}
    rows |= {n: (value, value) for n in ("natural", "worst_class") if (value := getattr(limits, n)) is not None}
    found = {c.name: c for c in decision.criteria} if decision else {}
    table = []
    for name, (limit, no_go) in rows.items():
        title = _name(name, words, found[name].label if name in found else None)
        row = [title[:1].upper() + title[1:], _percent(limit), _percent(no_go)]
        if name in found:
            c = found[name]
            row += [f"{_percent(c.acc)} ({_percent(c.ci95[0])}–{_percent(c.ci95[1])})", words(f"code.{c.code}")]
        table.append(row)
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
