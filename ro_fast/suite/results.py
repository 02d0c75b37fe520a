"""The results of a suite's finished runs, as stored in ``results.json``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ro_fast.config import AblateConfig, DataConfig, SuiteConfig
from ro_fast.data.naming import short_name
from ro_fast.environment import Environment, choose_device, environment
from ro_fast.findings.claims import Claim, finding_of_claims, finding_of_study, judge
from ro_fast.findings.harms import finding_of_harms, rank_harms
from ro_fast.findings.images import ImageOutcome, add_images, outcome_of_classes, outcome_of_images
from ro_fast.findings.outcomes import Arm, Cost, Outcome, Seed, summarise_arms, summarise_run
from ro_fast.findings.ranking import finding_of_ranking, rank
from ro_fast.findings.study import VERSION, Answer, Part, PartOfArm, Results
from ro_fast.findings.verdict import LOOK_LEVEL, Finding, compare_arms, write_finding
from ro_fast.storage import checkpoint, records
from ro_fast.storage.epochs import FILE, Epoch, read_epochs
from ro_fast.storage.test_images import FILE as TEST_IMAGES
from ro_fast.storage.test_images import read_robust_images
from ro_fast.suite.final_scores import read_final_scores
from ro_fast.suite.plan import AUTO, LOCAL, Branch, arms_of, data_of, fork_epoch, parts_of
from ro_fast.training.sample_history import summarise_samples


def collect(config: AblateConfig, branches: list[Branch], wall_seconds: float) -> Results:
    """The results of the finished runs on disk."""
    level = LOOK_LEVEL if config.seeds == AUTO else 0.95
    suite, parts = config.suite, parts_of(config.suite)
    configured = arms_of(suite)
    runs = {arm.name: [branch for branch in branches if branch.arm.name == arm.name] for arm in configured}
    epochs = {name: {branch.seed: read_epochs(Path(branch.config.out) / FILE) for branch in own} for name, own in runs.items()}
    outcomes = {name: {seed: summarise_run(own) for seed, own in by_seed.items()} for name, by_seed in epochs.items()}
    images = {name: _images(own, outcomes[name]) for name, own in runs.items()}
    seeds = {
        name: [_seed(b, epochs[name][b.seed], outcomes[name][b.seed], images[name].get(b.seed)) for b in own]
        for name, own in runs.items()
    }
    arms = add_images(summarise_arms(configured, seeds, {name: own[0].fork for name, own in runs.items()}), images)
    named = short_name(config.data.name, config.data.path)
    findings = {
        part.name: write_finding(named, _own(part, arms), part.rules, arms, level) for part in parts if part.rules
    }
    judged = judge(
        {part.name: part.claims for part in parts},
        arms,
        epochs,
        findings,
        {part.name: [arm.name for arm in part.arms] for part in parts},
    )
    answers = {part.name: _answer(part, arms, judged[part.name], findings.get(part.name), config.data) for part in parts}
    several = [
        Part(
            **vars(answers[part.name]),
            suite=part.name,
            question=part.question,
            fork_epoch=fork_epoch(part.fork, config.trainer.epochs),
            arms=[PartOfArm(arm.name, arm.role, arm.factor, arm.control, arm.x) for arm in part.arms],
        )
        for part in (parts if suite.parts else [])
    ]
    claims = [claim for of_part in judged.values() for claim in of_part]
    study = Answer(claims=claims, finding=finding_of_study(claims, list(findings.values()), named))
    prefixes = {branch.prefix.out: branch.fork for branch in branches}
    return Results(
        **vars(study if suite.parts else answers[suite.name]),
        version=VERSION,
        suite=suite.name,
        question=suite.question,
        data=config.data.name,
        wall_seconds=wall_seconds,
        fork_epoch=fork_epoch(suite.fork, config.trainer.epochs),
        epochs_trained=sum(prefixes.values()) + sum(branch.own_epochs for branch in branches),
        epochs_without_sharing=sum(branch.config.trainer.epochs for branch in branches),
        small_loss=config.small_loss,
        config={key: value for key, value in checkpoint.flat(config).items() if not key.startswith("suite.")},
        arms=arms,
        class_names=list(data_of(branches[0].config).class_names),
        comparisons=compare_arms(arms, images),
        environment=_environment(config, Path(branches[0].config.out)),
        parts=several or None,
    )


def _environment(config: AblateConfig, run: Path) -> Environment:
    """This one, in which the runs were done; those done elsewhere say where."""
    if config.launcher.name == LOCAL:
        return environment(choose_device(config.device))
    return records.read(Environment, run / "environment.json", "run the same command again")


def _own(part: SuiteConfig, arms: list[Arm]) -> list[Arm]:
    """A question's arms in its own order, with their roles in it."""
    by_name = {arm.name: arm for arm in arms}
    return [replace(by_name[arm.name], role=arm.role, factor=arm.factor, control=arm.control) for arm in part.arms]


def _answer(part: SuiteConfig, arms: list[Arm], claims: list[Claim], by_rules: Finding | None, data: DataConfig) -> Answer:
    ranking = rank(_own(part, arms), part.ranking) if part.ranking else None
    harms = rank_harms(_own(part, arms)) if part.harms else None
    if by_rules is not None:
        finding = by_rules
    elif ranking and part.ranking:
        finding = finding_of_ranking(ranking, short_name(data.name, data.path), part.ranking.cost)
    elif harms:
        finding = finding_of_harms(harms, short_name(data.name, data.path), data.bias_share)
    else:
        finding = finding_of_claims(claims)
    return Answer(
        x_label=part.x_label,
        figures=part.figures,
        rules=part.rules,
        ranking=ranking,
        ranking_rules=part.ranking,
        harms=harms,
        claims=claims,
        literature=part.literature,
        finding=finding,
    )


def _images(branches: list[Branch], outcomes: dict[int, Outcome]) -> dict[int, ImageOutcome]:
    """By seed, of the runs that noted their test images."""
    noted = {branch.seed: read_robust_images(Path(branch.config.out) / TEST_IMAGES) for branch in branches}
    return {seed: outcome_of_images(robust, outcomes[seed]) for seed, robust in noted.items() if robust is not None}


def _seed(branch: Branch, epochs: list[Epoch], outcome: Outcome, images: ImageOutcome | None) -> Seed:
    folder, remedy = Path(branch.config.out), "move it away and run the same command again"
    data = data_of(branch.config)
    perturbations, teachers = folder / "perturbations.json", folder / "teachers.json"
    helpers = records.read(dict[str, Cost], teachers, remedy) if teachers.exists() else {}
    return Seed(
        seed=branch.seed,
        **vars(outcome),
        **(vars(outcome_of_classes(images, data.y_test.numpy(), data.num_classes)) if images else {}),
        # With extra images, it is no longer known which samples have redrawn labels.
        **vars(summarise_samples(folder / "samples.npz", data.redrawn if data.x_extra is None else None)),
        perturbations=records.read(dict[str, dict[str, float]], perturbations, remedy) if perturbations.exists() else None,
        final=read_final_scores(folder / "scores.json"),
        teachers=helpers or None,
        seconds=sum(epoch.seconds for epoch in epochs),
        # Of the run and the teachers it needed, whether or not they were shared with another.
        train_seconds=sum(epoch.train_seconds for epoch in epochs) + sum(cost.train_seconds for cost in helpers.values()),
        gflop=sum(epoch.gflop for epoch in epochs) + sum(cost.gflop for cost in helpers.values()),
        peak_mb=max(epoch.peak_mb for epoch in epochs),
    )
