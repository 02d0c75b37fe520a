"""The whole prototype: check, measure speed, plan, train seed by seed while the budget lasts, decide, write the page."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from ro_fast.check import check
from ro_fast.config import AblateConfig, ArmConfig, CheckConfig, DataConfig, PrototypeConfig
from ro_fast.data import ImageData, load_data
from ro_fast.data.check_file import Check, excluded, read_check
from ro_fast.data.naming import as_options
from ro_fast.environment import choose_device
from ro_fast.errors import InputError
from ro_fast.findings.decision import (
    EXCLUDE,
    Concern,
    alarms,
    assess_risk,
    beyond_best,
    early_stopping,
    lead,
    order_actions,
    worth,
)
from ro_fast.findings.fall import probability_of_fall
from ro_fast.findings.overfitting import BASELINE, overfitting
from ro_fast.findings.ranking import FIRST, HELPS
from ro_fast.findings.study import Results
from ro_fast.installing import pip_install
from ro_fast.pages.words import LANGUAGES
from ro_fast.progress import Listener
from ro_fast.prototype.clock import Clock
from ro_fast.prototype.costs import check_costs, costs, with_labels
from ro_fast.prototype.enough import enough, least_gain
from ro_fast.prototype.learning_curve import learning_curve
from ro_fast.prototype.page import SLIDE, sentences, write_page
from ro_fast.prototype.plan import (
    PER_CLASS,
    Plan,
    Sizes,
    epochs_for,
    largest_that_fits,
    seconds_of,
    seed_seconds,
    sizes_for,
    sizes_to_try,
)
from ro_fast.prototype.result import RESULT, VERSION, Prototype, Ran
from ro_fast.prototype.speed import Speed, measure_speed
from ro_fast.storage import records
from ro_fast.storage.epochs import FILE, read_epochs
from ro_fast.storage.paths import own_folder
from ro_fast.storage.run_folder import alone_in
from ro_fast.suite.plan import LOCAL, fork_epoch, seed_list
from ro_fast.suite.run import ablate, epochs_to_train, jobs_and_threads
from ro_fast.training.validate import check as check_run

log = logging.getLogger("ro_fast")
WITHOUT_SUSPECTS = "without the images that the check suspects"
Progress = Callable[[int, int, str], AbstractContextManager[Listener]]  # total epochs, already done, title


def prototype(config: PrototypeConfig, progress: Progress | None = None) -> Prototype:
    """Checks the data, trains small runs within ``config.budget`` seconds and says what to do; into ``config.out``.

    The training subset is the largest class-balanced one for which three seeds of all arms fit into the budget left by the check
    (else two, else one), at speeds measured on this machine; seeds are added while another fits. The same command
    continues an interrupted prototype with the same subset and rewrites the page, also in another language.

    Args:
        config: data, model and attack as for training; budget, rules, and the suite of arms.
        progress: creates the display of one seed's progress.

    Raises:
        InputError: on bad data or values, if the budget is too short for one seed, or if config.out holds another
            prototype; nothing is trained then.
        WorkError: if a run fails.
    """
    for module in ("matplotlib", "jinja2", "yaml", "sklearn"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"the prototype needs {module}: {pip_install('train')}")
    if config.data.exclude is not None:
        raise InputError("the prototype itself tests the effect of leaving suspects out: leave data.exclude out")
    if config.launcher.name != LOCAL:
        raise InputError(f"launcher={config.launcher.name}: the prototype's budget is time on this machine; leave launcher= out")
    check_costs(config.cost)
    check_run(config)
    with alone_in(own_folder(config.out, "suite", [RESULT, "report.html", SLIDE])):
        return _decided(config, progress)


def _decided(config: PrototypeConfig, progress: Progress | None) -> Prototype:
    clock = Clock(config)
    data = load_data(config.data)
    checked = _checked(config, data, clock)
    plan = clock.plan or _plan(config, data, checked, clock)
    clock.keep(plan)
    small = config.data if plan.is_whole else _subset(config.data, plan.sizes)
    arms = [*config.suite.arms, *_parts(plan), *_without_suspects(config, small, checked)]
    results = _train(config, small, plan, arms, clock, progress)
    result = _decide(config, data, checked, plan, results)
    clock.keep(plan)
    result = dataclasses.replace(
        result,
        plan=dataclasses.replace(result.plan, seconds=clock.spent),
        enough=enough(result.actions, result.plan.seeds, plan, clock.spent),
    )
    result = dataclasses.replace(result, sentences=sentences(result, result.language))
    out = Path(config.out)
    records.write(out / RESULT, result)
    write_page(result, out, result.language)
    return result


def _plan(config: PrototypeConfig, data: ImageData, checked: Check, clock: Clock) -> Plan:
    jobs, threads = jobs_and_threads(config)
    log.info("prototype: measuring how fast %s trains here", config.model.name)
    speed = measure_speed(config, data, choose_device(config.device), jobs, threads)
    available = Sizes(len(data.x_train), len(data.x_val), len(data.x_test))
    extra = [ArmConfig(name=EXCLUDE, set={"data.exclude": ""})] if excluded(checked.findings) else []
    plans = [_planned(config, size, available, extra, speed) for size in sizes_to_try(available.train, data.num_classes)]
    plan = largest_that_fits(plans, clock.left)
    if plan is None:
        least = min(plans, key=lambda plan: plan.seed_seconds)
        raise InputError(
            f"budget={config.budget} is too short: one seed on {least.sizes.train} images takes about {least.seed_seconds:.0f} s "
            f"here but {max(clock.left, 0):.0f} s are left after the check; give more time or a smaller model (model.width=16)"
        )
    _say_what_it_decides(config, plan, clock.left)
    return plan


def _say_what_it_decides(config: PrototypeConfig, plan: Plan, seconds: float) -> None:
    seeds = min(len(seed_list(config)), max(1, int(seconds / plan.seed_seconds)))
    least = least_gain(seeds, sum(arm.role == "mitigation" for arm in config.suite.arms))
    decides = "one seed has no interval, so it decides nothing" if least is None else (
        f"gains of about {100 * least:.1f} points or more will usually be told apart from none"
    )
    trained = f"{plan.sizes.train} of {plan.available.train} training images"
    log.info("prototype: the budget has room for about %d seed%s on %s: %s", seeds, "s" * (seeds > 1), trained, decides)


def _planned(config: PrototypeConfig, size: int, available: Sizes, extra: list[ArmConfig], speed: Speed) -> Plan:
    t, sizes = config.trainer, sizes_for(size, available)
    epochs = epochs_for(size, t.epochs, config.min_steps, t.batch_size)
    plan = Plan(sizes, available, epochs, 0.0)
    arms = [*config.suite.arms, *_parts(plan), *extra]
    fork = fork_epoch(config.suite.fork, epochs) / epochs
    return dataclasses.replace(plan, seed_seconds=seed_seconds(sizes, epochs, arms, fork, config.attack.steps, speed))


def _checked(config: PrototypeConfig, data: ImageData, clock: Clock) -> Check:
    """The check of the data, run now or found done."""
    out = Path(config.out) / "check"
    wanted = CheckConfig(data=config.data, seed=config.seed, threads=config.threads, report=config.report, out=str(out))
    setattr(wanted, "eps" if config.attack.norm == "linf" else "eps_l2", config.attack.eps)
    done = None
    with contextlib.suppress(InputError):  # there is none, or it is incomplete
        done = read_check(out / "check.json")
    if done is None or done.fingerprint != data.fingerprint() or dataclasses.replace(done.config, report=config.report) != wanted:
        return check(wanted)
    if done.config.report != wanted.report:
        with clock.stopped():  # the budget is not for its page in another language
            return check(wanted)
    return done


def _subset(data: DataConfig, sizes: Sizes) -> DataConfig:
    return dataclasses.replace(data, train_size=sizes.train, train_share=1.0, val_size=sizes.val, test_size=sizes.test)


def _parts(plan: Plan) -> list[ArmConfig]:
    """Arms on smaller subsets; validation and test images stay the same. None if a quarter would be next to nothing."""
    if plan.parts[0] < 2 * PER_CLASS:
        return []
    sizes = {"data.val_size": plan.sizes.val, "data.test_size": plan.sizes.test}
    return [
        ArmConfig(name=f"size_{size}", role="level", x=float(size), set={"data.train_size": size, **sizes}) for size in plan.parts
    ]


def _without_suspects(config: PrototypeConfig, small: DataConfig, checked: Check) -> list[ArmConfig]:
    """An arm that leaves out those of its images that the check of all images suspects, if there are any."""
    if not excluded(checked.findings):
        return []
    path = Path(config.out) / "check" / "check.json"
    here = load_data(small)
    if not excluded(checked.findings) & {*here.rows_train.tolist(), *here.rows_val.tolist()}:
        return []
    try:
        load_data(dataclasses.replace(small, exclude=str(path)))
    except InputError as error:
        log.info("prototype: leaving suspects out is not tested: %s", error)
        return []
    return [ArmConfig(name=EXCLUDE, role="mitigation", factor=WITHOUT_SUSPECTS, set={"data.exclude": str(path)})]


def _train(
    config: PrototypeConfig, data: DataConfig, plan: Plan, arms: list[ArmConfig], clock: Clock, progress: Progress | None
) -> Results:
    """Runs all arms seed after seed, while the budget has room for another."""
    common = {field.name: getattr(config, field.name) for field in dataclasses.fields(AblateConfig)}
    suite = dataclasses.replace(config.suite, arms=arms)
    trainer = dataclasses.replace(config.trainer, epochs=plan.epochs)
    common |= {"data": data, "suite": suite, "trainer": trainer, "out": str(Path(config.out) / "suite")}
    seeds, expected = seed_list(AblateConfig(**common)), plan.seed_seconds
    results, complete = None, 0
    for count in range(1, len(seeds) + 1):
        so_far = AblateConfig(**{**common, "seeds": seeds[:count]})
        total, done = epochs_to_train(so_far)
        if done < total:
            if complete and expected > clock.left:
                break
            start = time.monotonic()
            with _shown(progress, total, done, f"prototype, seed {count} of at most {len(seeds)}") as listener:
                results = ablate(so_far, listener)
            expected = time.monotonic() - start
            clock.keep(plan)
        complete = count
    if results is None:
        with clock.stopped():  # nothing was left to train
            results = ablate(AblateConfig(**{**common, "seeds": seeds[:complete]}))
    return results


def _shown(progress: Progress | None, total: int, done: int, title: str) -> AbstractContextManager[Listener | None]:
    return contextlib.nullcontext() if progress is None else progress(total, done, title)


def _decide(config: PrototypeConfig, data: ImageData, checked: Check, plan: Plan, results: Results) -> Prototype:
    baseline = next(arm for arm in results.arms if arm.name == BASELINE)
    folder = Path(config.out) / "suite" / "runs" / BASELINE
    runs = [read_epochs(folder / f"seed{seed.seed}" / FILE) for seed in baseline.seeds]
    sizes = {f"size_{size}": size for size in plan.parts} | {BASELINE: plan.sizes.train}
    curve = learning_curve(results.arms, sizes, plan.sizes.test)
    found = overfitting(results.arms, config.rules.min_gap)
    assert found is not None and results.ranking is not None and results.ranking_rules is not None  # as the suite has them
    fall = probability_of_fall(results.arms, config.rules.min_gap, sizes, plan.available.train)
    early = early_stopping(baseline, found.gap, results.ranking_rules.max_natural_loss)
    actions = order_actions(results.ranking, early, checked.findings, curve, config.rules)
    actions = [with_labels(action, plan.sizes.train, plan.available.train) for action in actions]
    beyond = beyond_best(results.arms)
    actions = [dataclasses.replace(action, beyond=beyond.get(action.action)) for action in actions]
    arms = [arm.name for arm in results.arms]
    best = next((action.action for action in actions if action.action in arms and action.verdict in (FIRST, HELPS)), None)
    seconds = sum(epoch.train_seconds for run in runs for epoch in run) / sum(map(len, runs))
    seconds_of_all = seconds / plan.sizes.train * plan.available.train
    gflop = sum(seed.gflop or 0.0 for seed in baseline.seeds) / len(baseline.seeds)
    return Prototype(
        version=VERSION,
        data=config.data.name,
        path=config.data.path,
        data_options=as_options(config.data),
        language=config.report.language or LANGUAGES[0],
        sentences=[],
        risk=assess_risk(found, alarms(runs), checked.findings, fall),
        worth=worth(results.arms, best),
        actions=actions,
        learning_curve=curve,
        check=[Concern.of(finding) for finding in checked.findings if finding.severity != "info"],
        suspects=len(excluded(checked.findings)),
        plan=Ran(
            train=plan.sizes.train,
            available=plan.available.train,
            test=plan.sizes.test,
            validation=plan.sizes.val,
            checked=checked.train_size,
            classes=data.num_classes,
            epochs=plan.epochs,
            fork_epoch=results.fork_epoch,
            seeds=len(baseline.seeds),
            arms=len(results.arms),
            model=config.model.name,
            eps=config.attack.eps or config.data.eps,
            norm=config.attack.norm,
            attack_steps=config.attack.steps,
            budget=seconds_of(config.budget),
            seconds=0.0,
            epoch_seconds_of_all=seconds_of_all,
        ),
        rules=config.rules,
        max_natural_loss=results.ranking_rules.max_natural_loss,
        environment=results.environment,
        costs=costs(config.cost, gflop * plan.available.train / plan.sizes.train, seconds_of_all * plan.epochs / 3600),
        lead=lead(results.arms, actions),
    )
