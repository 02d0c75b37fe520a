"""What the finished runs of a suite come to, as ``results.json`` holds it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ro_fast.config import AblateConfig, SuiteConfig
from ro_fast.environment import choose_device, environment
from ro_fast.findings.claims import finding_of_claims, finding_of_study, judge
from ro_fast.findings.outcomes import summarise_arms, summarise_run
from ro_fast.findings.ranking import final_means, finding_of_ranking, rank
from ro_fast.findings.study_files import VERSION
from ro_fast.findings.verdict import compare_arms, write_finding
from ro_fast.storage import checkpoint
from ro_fast.storage.epochs import FILE, Epoch, read_epochs
from ro_fast.suite.plan import Branch, arms_of, data_of, fork_epoch, parts_of
from ro_fast.training.sample_history import summarise_samples


def collect(config: AblateConfig, branches: list[Branch], wall_seconds: float) -> dict[str, Any]:
    """What the finished runs on disk come to, as ``results.json`` holds it."""
    suite, parts = config.suite, parts_of(config.suite)
    arms, curves = [], {}
    for arm in arms_of(suite):
        runs = [branch for branch in branches if branch.arm.name == arm.name]
        curves[arm.name] = {branch.seed: read_epochs(Path(branch.config.out) / FILE) for branch in runs}
        seeds = [_summary(branch, curves[arm.name][branch.seed]) for branch in runs]
        axis = {} if arm.x is None else {"x": arm.x}
        about: dict[str, Any] = {"name": arm.name, "role": arm.role, "factor": arm.factor, "control": arm.control}
        about |= {"fork_epoch": runs[0].fork, **axis}
        final = final_means(seeds)
        arms.append({**about, "seeds": seeds, **({"final": final} if final else {})})
    for told, summary in zip(arms, summarise_arms(arms), strict=True):
        told |= summary
    prefixes = {branch.prefix.out: branch.fork for branch in branches}
    findings = {part.name: _by_rules(part, arms, config.data.name) for part in parts if part.rules}
    judged = judge({part.name: part.claims for part in parts}, arms, curves, findings)
    results: dict[str, Any] = {
        "version": VERSION,
        "suite": suite.name,
        "question": suite.question,
        "data": config.data.name,
        "wall_seconds": wall_seconds,
        "fork_epoch": fork_epoch(suite.fork, config.trainer.epochs),
        "epochs_trained": sum(prefixes.values()) + sum(branch.own_epochs for branch in branches),
        "epochs_without_sharing": sum(branch.config.trainer.epochs for branch in branches),
        "small_loss": dataclasses.asdict(config.small_loss),
        "config": {key: value for key, value in checkpoint.flat(config).items() if not key.startswith("suite.")},
        "arms": arms,
        "comparisons": compare_arms(arms),
        "environment": environment(choose_device(config.device)),
    }
    answers = [_part_results(part, arms, judged[part.name], findings.get(part.name), config) for part in parts]
    if suite.parts:
        claims = [claim for part in answers for claim in part["claims"]]
        return results | {"parts": answers, "claims": claims, "finding": finding_of_study(answers, config.data.name)}
    own = ("x_label", "figures", "rules", "ranking", "ranking_rules", "claims", "finding")
    return results | {key: answers[0][key] for key in own}


def _own(part: SuiteConfig, arms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A question's arms in its own order, with the parts that they play in it."""
    by_name = {arm["name"]: arm for arm in arms}
    return [{**by_name[arm.name], "role": arm.role, "factor": arm.factor, "control": arm.control} for arm in part.arms]


def _by_rules(part: SuiteConfig, arms: list[dict[str, Any]], data: str) -> dict[str, Any]:
    return write_finding({"data": data, "arms": _own(part, arms)}, part.rules, among=arms)


def _part_results(
    part: SuiteConfig,
    arms: list[dict[str, Any]],
    claims: list[dict[str, Any]],
    finding: dict[str, Any] | None,
    config: AblateConfig,
) -> dict[str, Any]:
    """What one question came to: its arms in its own order, claims and finding."""
    ranking = rank(_own(part, arms), part.ranking) if part.ranking else None
    if finding is None:
        finding = finding_of_ranking(ranking, config.data.name, part.ranking["cost"]) if ranking else finding_of_claims(claims)
    return {
        "suite": part.name,
        "question": part.question,
        "arms": [
            {"name": arm.name, "role": arm.role, "factor": arm.factor, "control": arm.control, "x": arm.x} for arm in part.arms
        ],
        "x_label": part.x_label,
        "figures": part.figures,
        "fork_epoch": fork_epoch(part.fork, config.trainer.epochs),
        "rules": part.rules,
        "ranking": ranking,
        "ranking_rules": part.ranking,
        "claims": claims,
        "finding": finding,
    }


def _summary(branch: Branch, metrics: list[Epoch]) -> dict[str, Any]:
    folder = Path(branch.config.out)
    compared = _read(folder / "perturbations.json")
    perturbations = {"perturbations": compared} if compared else {}
    data = data_of(branch.config)
    helpers = _read(folder / "teachers.json") or {}
    scores = _read(folder / "scores.json")

    def whole(cost: str) -> float:
        """Of the run and of the teachers it needed, whether or not they were shared with another."""
        return sum(line[cost] for line in metrics) + sum(teacher[cost] for teacher in helpers.values())

    return {
        "seed": branch.seed,
        **summarise_run(metrics),
        # With extra images, samples are no longer those whose labels are known to be redrawn.
        **summarise_samples(folder / "samples.npz", data.redrawn if data.x_extra is None else None),
        **perturbations,
        **({"final": scores} if scores else {}),
        **({"teachers": helpers} if helpers else {}),
        "seconds": sum(line["seconds"] for line in metrics),
        "train_seconds": whole("train_seconds"),
        "gflop": whole("gflop"),
        "peak_mb": max(line["peak_mb"] for line in metrics),
    }


def _read(path: Path) -> Any:
    """What a JSON file holds, None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
