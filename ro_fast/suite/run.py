"""A suite: arms × seeds that fork from common states, trained side by side, and their results.

Up to the fork, all arms of a seed are one run. It is trained once and stored under a name derived from everything that
influences it (the prefix). Each arm continues from its last state, bit for bit as if it had run alone.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from ro_fast.config import AblateConfig, ArmConfig
from ro_fast.environment import choose_device, cores, use_threads
from ro_fast.errors import InputError, StorageError, WorkError
from ro_fast.findings.study import RESULTS, Results
from ro_fast.findings.verdict import more_seeds
from ro_fast.progress import EpochDone, Listener
from ro_fast.storage import checkpoint, epochs, records
from ro_fast.storage.paths import own_folder
from ro_fast.storage.run_folder import alone_in, lock_of
from ro_fast.storage.saving import writing
from ro_fast.suite.combine import combinations
from ro_fast.suite.final_scores import write_final_scores
from ro_fast.suite.gpu_jobs import gpu_jobs
from ro_fast.suite.launched import Launched
from ro_fast.suite.perturbations import compare_checkpoints
from ro_fast.suite.plan import AUTO, LOCAL, Branch, data_of, plan
from ro_fast.suite.results import collect
from ro_fast.suite.workers import Ended, Workers
from ro_fast.training import trainer

_log = logging.getLogger("ro_fast")


def ablate(config: AblateConfig, listener: Listener | None = None, on_more: Callable[[int, int], None] | None = None) -> Results:
    """Runs a suite into ``config.out`` and returns the contents of ``results.json`` there.

    The same config continues an interrupted suite; finished prefixes and runs are not run again. With ``seeds`` "auto" it is
    judged after 3, 5 and 8 seeds, and ends when its rules settle whether training overfits and each factor's effect. If the suite
    ranks mitigations and says so, the best of them are then tried together.

    Args:
        config: the suite, its seeds and what its runs share.
        listener: called after each epoch trained.
        on_more: called when seeds or arms are added, with the epochs that they add and how many of these are on disk.

    Raises:
        InputError: if the config, the data or a folder doesn't fit, before anything is trained.
        StorageError: if a run can't be saved; the others are ended, and the same command continues all.
        WorkError: at the end, if runs failed or their processes were killed; names them.
    """
    start = time.perf_counter()
    folder = own_folder(config.out, "runs", [RESULTS, "report.html", "figures"])
    config = dataclasses.replace(config, threads=_threads(config))
    use_threads(config.threads)
    branches = plan(config)
    with alone_in(folder):
        while True:
            _train(branches, config, listener)
            results = collect(config, branches, time.perf_counter() - start)
            records.write(folder / RESULTS, results)
            if (seeds := more_seeds(results.arms, results.finding) if config.seeds == AUTO else None) is not None:
                _log.info("not settled with %d seeds: going on to %d", len(results.arms[0].seeds), seeds)
                more = dataclasses.replace(config, seeds=seeds)
            elif together := _combinations(config, results):
                _log.info("the best are tried together: %s", ", ".join(arm.name.replace("_", " ") for arm in together))
                suite = dataclasses.replace(config.suite, arms=[*config.suite.arms, *together])
                config = dataclasses.replace(config, suite=suite)
                more = dataclasses.replace(config, seeds=[seed.seed for seed in results.arms[0].seeds])
            else:
                return results
            known, branches = _epochs(branches), plan(more)
            if on_more is not None:
                on_more(*(now - before for now, before in zip(_epochs(branches), known, strict=True)))


def _combinations(config: AblateConfig, results: Results) -> list[ArmConfig]:
    suite = config.suite
    return combinations(suite.arms, results.ranking, suite.ranking) if results.ranking and suite.ranking else []


def epochs_to_train(config: AblateConfig) -> tuple[int, int]:
    """The suite's total number of epochs, and how many of them are already on disk."""
    threads = _threads(config)
    use_threads(threads)
    return _epochs(plan(dataclasses.replace(config, threads=threads)))


def _threads(config: AblateConfig) -> int | None:
    """CPU threads of each run, on which its bits depend."""
    if config.launcher.name != LOCAL:
        return config.threads or config.launcher.cpus
    return jobs_and_threads(config)[1] if choose_device(config.device).type == "cpu" else config.threads


def _epochs(branches: list[Branch]) -> tuple[int, int]:
    prefixes = {branch.prefix.out: branch.fork for branch in branches}
    needed = {branch.prefix.out for branch in branches if _needs_prefix(branch)}
    total = sum(prefixes.values()) + sum(branch.own_epochs for branch in branches)
    done = sum(epochs_done(Path(out)) if out in needed else fork for out, fork in prefixes.items())
    done += sum(max(0, epochs_done(Path(branch.config.out)) - branch.fork) for branch in branches)
    return total, done


# -- the work ----------------------------------------------------------------------------------------------------------


_PREFIX = "prefix"  # what the progress of epochs shared by arms is told as


@dataclass(frozen=True)
class _Task:
    """What one process does in one go."""

    branch: Branch
    prefix: bool  # the epochs that this arm shares with others, rather than its own

    @property
    def name(self) -> str:
        part = "epochs before the fork" if self.prefix else self.branch.arm.name
        return f"{part}, seed {self.branch.seed}"

    @property
    def writes(self) -> str:
        """The folder of its run."""
        return (self.branch.prefix if self.prefix else self.branch.config).out

    @property
    def label(self) -> EpochDone:
        """What its progress is told as, and the epochs that its run begins with."""
        arm, begun = (_PREFIX, 0) if self.prefix else (self.branch.arm.name, self.branch.fork)
        return EpochDone(arm, self.branch.seed, begun, self.branch.config.trainer.epochs, 0.0, 0.0)

    def run(self, listener: Listener | None) -> None:
        """Does it, or finds it done."""
        (_train_prefix if self.prefix else _train_arm)(self.branch, listener)


_Ends = Generator[tuple[_Task, "Exception | None"], None, None]


def _train(branches: list[Branch], config: AblateConfig, listener: Listener | None) -> None:
    """Trains what is not on disk yet; an arm waits for its prefix. A run that fails does not end the others."""
    waiting: dict[str, list[Branch]] = {}
    for branch in branches:
        waiting.setdefault(branch.prefix.out, []).append(branch)
    first = [next((arm for arm in arms if _needs_prefix(arm)), arms[0]) for arms in waiting.values()]
    todo = collections.deque(_Task(branch, prefix=True) for branch in first)
    failed = []
    runner = _runner(config)
    ends = _one_by_one(todo, listener) if runner is None else _side_by_side(todo, runner, listener)
    with contextlib.closing(ends):
        for task, error in ends:
            if error is None:
                if task.prefix:
                    todo.extend(_Task(branch, prefix=False) for branch in waiting[task.branch.prefix.out])
            elif isinstance(error, WorkError) and not isinstance(error, StorageError):
                failed.append(f"{task.name}: {error}")
                _log.warning("%s; the others go on", failed[-1])
            else:  # the next run would end in the same way
                raise type(error)(f"{task.name}: {error}") from error
    if failed:
        raise WorkError(f"{'; '.join(failed)}. All that needs none of these is done; the same command tries the rest")


def _one_by_one(todo: collections.deque[_Task], listener: Listener | None) -> _Ends:
    while todo:
        task = todo.popleft()
        try:
            task.run(listener)
        except (InputError, WorkError) as error:
            yield task, error
        else:
            yield task, None


def _runner(config: AblateConfig) -> Workers[_Task] | Launched[_Task] | None:
    """What does tasks side by side, as configured; None if they are done one by one, in this process."""
    launcher = config.launcher
    if launcher.name == LOCAL:
        jobs, _ = jobs_and_threads(config)
        return None if jobs == 1 else Workers(jobs, config.threads, _Task.run)
    if launcher.name == "submitit":
        from ro_fast.suite.on_submitit import OnSubmitit

        return Launched(OnSubmitit(launcher, Path(config.out) / "jobs"), config.jobs, config.threads)
    from ro_fast.suite.on_ray import OnRay

    return Launched(OnRay(launcher), config.jobs, config.threads)


def _side_by_side(
    todo: collections.deque[_Task], runner: Workers[_Task] | Launched[_Task], listener: Listener | None
) -> _Ends:
    with runner as workers:
        while todo or workers.busy:
            while todo and workers.free:
                workers.give(todo.popleft())
            for task, message in workers.messages(timeout=0.1):
                if isinstance(message, Ended):
                    yield task, message.error
                elif listener is not None:
                    listener(message)


def _needs_prefix(branch: Branch) -> bool:
    """Whether an arm has yet to start from its prefix, or to be compared with it."""
    out = Path(branch.config.out)
    compared = not branch.config.features.every or (out / "perturbations.json").exists()
    return branch.fork > 0 and not ((out / "last.pt").exists() and compared)


def _train_prefix(branch: Branch, listener: Listener | None) -> None:
    """Trains the common run, or finds it done; if several processes need it, one trains and the others wait."""
    out = Path(branch.prefix.out)
    if _needs_prefix(branch) and epochs_done(out) < branch.fork:
        with writing(out.parent):
            out.parent.mkdir(parents=True, exist_ok=True)
        with lock_of(Path(f"{out}.lock")):
            trainer.train(branch.prefix, _named(_PREFIX, listener), data=data_of(branch.prefix))


def _train_arm(branch: Branch, listener: Listener | None) -> None:
    """Trains or continues the arm from the fork on, or finds it done."""
    prefix = Path(branch.prefix.out) if branch.fork else None
    data = data_of(branch.config)
    trainer.train(branch.config, _named(branch.arm.name, listener), prefix, data)
    if prefix is not None and branch.config.features.every:
        compare_checkpoints(branch.config, prefix, data)
    if branch.final is not None:
        write_final_scores(branch.config, data, branch.final)


def _named(arm: str, listener: Listener | None) -> Listener | None:
    # A suite's report says which arms overfit; alarms for every seed would only clutter its progress.
    return None if listener is None else lambda event: listener(dataclasses.replace(event, arm=arm, notice=""))


def epochs_done(run: Path) -> int:
    """Epochs with complete metrics in a run's folder; 0 if there are none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return sum(1 for line in (run / epochs.FILE).read_text(encoding="utf-8").splitlines() if line.endswith("}"))
    return 0


def _on_gpu(config: AblateConfig) -> int:
    """Number of parallel runs on this machine's GPU, measured once per process."""
    branches = plan(config)
    total, found = _epochs(branches)
    if total == found:
        return 1
    first = branches[0].config
    key = checkpoint.digest({**checkpoint.flat(first), "out": ""})
    if key not in _measured:
        jobs, share = gpu_jobs(first, data_of(first), choose_device(config.device))
        told = "it takes one process only" if math.isnan(share) else f"one run keeps it busy for {100 * share:.0f} % of the time"
        _log.info("jobs=%d on the GPU: %s", jobs, told)
        _measured[key] = jobs
    return _measured[key]


_measured: dict[str, int] = {}


def jobs_and_threads(config: AblateConfig) -> tuple[int, int | None]:
    """Number of parallel runs here and CPU threads of each: small networks gain more from one process per core than threads."""
    if config.jobs is not None and config.jobs < 1:
        raise InputError(f"jobs = {config.jobs} should be at least 1")
    if choose_device(config.device).type != "cpu":
        return config.jobs or _on_gpu(config), config.threads
    jobs = config.jobs or cores()
    return jobs, config.threads or max(1, cores() // jobs)
