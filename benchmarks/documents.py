"""``python -m ro_fast.benchmarks.documents``: writes every measured figure of README and of the results' pages from its JSON.

A page is text with blocks between ``<!-- from NAME -->`` and ``<!-- end -->``; what a block says is made of the file that
stands in :data:`BLOCKS`. ``--check`` only tells which pages differ, and a test does the same.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ro_fast.findings.amounts import number
from ro_fast.storage.records import read

from . import faults, large_data, scale, stability
from .architectures import Row, read_rows

ROOT = Path(__file__).resolve().parent.parent
CPU = Path("benchmarks/results/cpu")
PAGES = (Path("README.md"), Path("benchmarks/README.md"), CPU / "README.md", Path("docs/scale.md"))
GONE = ("pgd_step_input",)  # operators that stored measurements hold, but the package no longer does
_BLOCK = re.compile(r"(<!-- from ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def suite_time(results: Mapping[str, Any]) -> str:
    """What the default command trains, and how long it took."""
    arms, seeds = len(results["arms"]), len(results["arms"][0]["seeds"])
    where = results["environment"].get("cpu", "a CPU")
    return (
        f"It trains {arms} arms with {seeds} seeds per arm: {results['epochs_trained']} epochs instead of "
        f"{results['epochs_without_sharing']}, because arms share their first epochs. This takes {results['wall_seconds']:.0f} s "
        f"on two cores of an {where}. It reports:\n"
    )


def finding(results: Mapping[str, Any]) -> str:
    """The final sentences of a suite."""
    return "\n>\n".join(f"> {sentence}" for sentence in results["finding"]["sentences"]) + "\n"


def bias(results: Mapping[str, Any]) -> str:
    """Which property makes it worse, and by how much."""
    lines = [*(f"> {sentence}" for sentence in results["finding"]["sentences"]), ""]
    lines += ["| property | compared with | verdict | gap, points | best robust, points |", "|---|---|---|---|---|"]
    for harm in results["harms"]:
        cells = [harm["factor"], harm["against"], harm["verdict"]]
        for change in (harm["gap"], harm["best"]):
            cells.append(_change(change))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _change(change: Mapping[str, Any]) -> str:
    low, high = map(number, change["ci95"])
    return f"{number(change['difference'])} ({low} to {high})"


def conditions(results: Mapping[str, Any]) -> str:
    """Each claim of a suite with its verdict and the observed numbers, as a list."""
    lines = [
        f"* {claim['claim']}: **{claim['verdict']}** ({'; '.join(condition['text'] for condition in claim['conditions'])})."
        for claim in results["claims"]
    ]
    return "\n".join(lines) + "\n"


def claims(results: Mapping[str, Any]) -> str:
    """Every claim of a report with its verdict and the observed numbers."""
    minutes, arms = results["wall_seconds"] / 60, len(results["arms"])
    about = f"{arms} arms, {len(results['arms'][0]['seeds'])} seeds, {results['epochs_trained']} epochs in {minutes:.1f} minutes"
    lines = [f"{about}; {results['finding']['sentences'][-1]}", "", "| claim | here | evidence |", "|---|---|---|"]
    for claim in results["claims"]:
        number = "" if claim["number"] is None else f"{claim['number']}: "
        seen = "; ".join(condition["text"] for condition in claim["conditions"])
        lines.append(f"| {number}{claim['claim']} | {claim['verdict']} | {seen} |")
    return "\n".join(lines) + "\n"


def mitigations(results: Mapping[str, Any]) -> str:
    """The ranking of remedies, best first."""
    lines = [*results["finding"]["sentences"], ""]
    lines += ["| mitigation | verdict | gain, points | work | last checkpoint under the cascade, % |", "|---|---|---|---|---|"]
    for entry in results["ranking"]:
        gain = _change(entry["gain"])
        cascade = f"{100 * entry['final']['last']['cascade']['mean']:.1f}" if entry.get("final") else ""
        tied = ", tied" if entry.get("tied") else ""
        name = f"{entry['name'].replace('_', ' ')}: {entry['factor']}"
        lines.append(f"| {name} | {entry['verdict']}{tied} | {gain} | {entry['cost']['gflop']['mean']:.2f} | {cascade} |")
    return "\n".join(lines) + "\n"


def speed(bench: Mapping[str, Any]) -> str:
    """README's sentence of the benchmarks."""
    ratio = {(row["name"], row["ours"], row["rival"]): f"{row['ratio']:.2f}" for row in bench["rows"]}
    attack, step = "PGD-10 PreActResNet-18 fp32, batch 16", "training step PreActResNet-18, batch 16"
    eval_last = "eval, channels_last"
    rice, compiled = ratio[attack, eval_last, "Rice attack, fp32"], ratio[attack, eval_last, "torch.compile, fp32"]
    torchattacks = ratio[attack, eval_last, "torchattacks, fp32"]
    half = ratio["PGD-10 PreActResNet-18 bf16, batch 16", "eval, channels_last, bf16", "torch.compile, bf16"]
    same, lean = (ratio[step, recipe, "Rice step"] for recipe in ("rice2020, fp32", "lean, fp32"))
    suite = ratio["three arms that part half-way, PreActResNet-18", "lean, fp32", "published scripts"]
    mlp = ratio["pgd_mlp, PGD-10 784-256-256-10, batch 128", "ro_fast native", "torchattacks"]
    loss = ratio["weighted_cross_entropy + grad [128,10]", "ro_fast native", "F.cross_entropy"]
    where = f"{bench['about']['cpu']} ({bench['about']['date']})"
    said = [
        f"On one thread of an {where}, PGD-10 on PreActResNet-18 was {rice} times as fast as Rice et al.'s loop,",
        f"{torchattacks} times as fast as torchattacks and {compiled} times as fast as the best torch.compile ({half} in bf16).",
        f"A training step with the same recipe was {same} times as fast as Rice et al.'s, a lean step {lean} times,",
        f"and three suite arms that branch half-way {suite} times. An attack on an MLP was {mlp} times as fast as torchattacks.",
        f"Without sample weights, `F.cross_entropy` is the faster loss on small batches ({loss}).",
    ]
    return " ".join(said) + "\n"


def every_row(bench: Mapping[str, Any]) -> str:
    """All rows of the benchmarks; those of a target with its must and its goal."""
    about = bench["about"]
    lines = [f"{about['cpu']}, torch {about['torch']}, {about['date']}.", ""]
    lines += ["| target | measurement | ours | rival | times as fast | must | goal |", "|---|---|---|---|---|---|---|"]
    for row in bench["rows"]:
        if row["name"].startswith(GONE):
            continue
        limits = [row["target"], row["must"], row["goal"]]
        target, must, goal = ("" if limit is None else str(limit) for limit in limits)
        cells = [target, row["name"], row["ours"], row["rival"], f"{row['ratio']:.2f}", must, goal]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def networks(rows: list[Row]) -> str:
    """The summary of the table of public networks."""
    ratios = sorted(row.eager for row in rows)
    gain, middle = sum(ratio >= 1.02 for ratio in ratios), ratios[len(ratios) // 2]
    compared = [row.compiled for row in rows if isinstance(row.compiled, float)]
    beside = ""
    if compared:
        ahead = sum(ratio >= 1 for ratio in compared)
        beside = f" Of the {len(compared)} also compared with torch.compile, {ahead} are at least as fast."
    return (
        f"PGD-10 on one thread of an {rows[0].about['cpu']}: the default engine is faster than autograd on {gain} of {len(rows)} "
        f"public networks (CIFAR, torchvision, timm). Its median speed-up is {middle:.2f}, ranging from {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}.{beside}\n"
    )


def _json(path: Path) -> Any:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


BLOCKS: dict[str, Callable[[], str]] = {
    "time": lambda: suite_time(_json(CPU / "factors-digits_noisy/results.json")),
    "finding": lambda: finding(_json(CPU / "factors-digits_noisy/results.json")),
    "tops": lambda: finding(_json(CPU / "factors-tops/results.json")),
    "bias": lambda: bias(_json(CPU / "bias-digits_noisy/results.json")),
    "induced": lambda: conditions(_json(CPU / "induced-digits_noisy/results.json")),
    "induced-tops": lambda: conditions(_json(CPU / "induced-tops/results.json")),
    "stability": lambda: stability.said(stability.read_answers()),
    "five-seeds": lambda: finding(_json(CPU / "factors-digits_noisy-5seeds/results.json")),
    "claims": lambda: claims(_json(CPU / "paper-digits_noisy/results.json")),
    "mitigations": lambda: mitigations(_json(CPU / "mitigations-digits_noisy/results.json")),
    "mitigations-tops": lambda: mitigations(_json(CPU / "mitigations-tops/results.json")),
    "speed": lambda: speed(_json(CPU / "bench.json")),
    "every-row": lambda: every_row(_json(CPU / "bench.json")),
    "faults": lambda: f"{faults.said(read(faults.Campaign, ROOT / CPU / 'faults.json', 'run the campaign again'))}.\n",
    "scale": lambda: scale.table(_json("benchmarks/results/nvidia-h100/scale.json")),
    "large-data": lambda: large_data.table(_json(CPU / "large_data.json")),
    "networks": lambda: networks(read_rows(ROOT / CPU / "architectures.jsonl")),
}


def written(text: str) -> str:
    """A page with its blocks regenerated."""
    return _BLOCK.sub(lambda block: f"{block[1]}{BLOCKS[block[2]]()}{block[4]}", text)


def outside(text: str) -> str:
    """A page without its blocks and its code."""
    return re.sub(r"```.*?```", "", _BLOCK.sub("", text), flags=re.DOTALL)


def main() -> None:
    """Writes the pages, or reports which differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    differing = []
    for page in PAGES:
        before = (ROOT / page).read_text(encoding="utf-8")
        after = written(before)
        if before != after:
            differing.append(str(page))
            if not check:
                (ROOT / page).write_text(after, encoding="utf-8")
    print(f"{'differ' if check else 'written'}: {', '.join(differing) or 'none'}")
    if check and differing:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
