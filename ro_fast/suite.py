"""A suite: arms × seeds that part from common states, trained side by side, and what they come to.

Up to the fork all arms of a seed are one run. It is trained once, kept under a name made of everything that influences
it (the prefix), and each arm goes on from its last state, to the same digits as if it had run alone.
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import dataclasses
import json
import multiprocessing
import os
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ro_fast import checkpoint, trainer
from ro_fast.config import AblateConfig, ArmConfig, TrainConfig, changed
from ro_fast.data import ImageData, load_data
from ro_fast.environment import choose_device, environment, keep_freed_memory, use_threads
from ro_fast.errors import InputError
from ro_fast.progress import EpochDone, Listener, show_notices
from ro_fast.statistics import summarise_arm, summarise_run
from ro_fast.verdict import compare_arms, write_finding


@dataclass(frozen=True)
class Branch:
    """One arm with one seed: its run, and the prefix it parts from."""

    arm: ArmConfig
    seed: int
    config: TrainConfig  # of the arm's run
    prefix: TrainConfig  # of the common run, its out named by content


def ablate(config: AblateConfig, listener: Listener | None = None) -> dict[str, Any]:
    """Runs a suite into ``config.out`` and returns what ``results.json`` there holds.

    The same config continues a suite that was interrupted; prefixes and runs that are done are not run again.

    Args:
        config: the suite, its seeds and what its runs have in common.
        listener: called after each epoch that is trained.

    Raises:
        InputError: on a config, data or a folder that don't fit, before anything is trained.
        WorkError: where a run fails.
    """
    start = time.perf_counter()
    jobs, threads = _jobs_and_threads(config)
    config = dataclasses.replace(config, threads=threads)
    use_threads(threads)
    branches, fork = plan(config)
    if jobs == 1:
        for branch in branches:
            _train_prefix(branch, listener)
            _train_arm(branch, listener)
    else:
        _train_side_by_side(branches, jobs, threads, listener)
    results = collect(config, branches, fork, time.perf_counter() - start)
    checkpoint.write_text(Path(config.out) / "results.json", json.dumps(results, indent=1, ensure_ascii=False))
    return results


def epochs_to_train(config: AblateConfig) -> tuple[int, int]:
    """Epochs that the suite takes in all, and how many of them are done, on disk."""
    _, threads = _jobs_and_threads(config)
    use_threads(threads)
    branches, fork = plan(dataclasses.replace(config, threads=threads))
    prefixes = {branch.prefix.out for branch in branches}
    total = len(prefixes) * fork + len(branches) * (config.trainer.epochs - fork)
    done = sum(_epochs_done(Path(out)) for out in prefixes)
    done += sum(max(0, _epochs_done(Path(branch.config.out)) - fork) for branch in branches)
    return total, done


# -- the plan ----------------------------------------------------------------------------------------------------------


def seed_list(config: AblateConfig) -> list[int]:
    """The suite's seeds: as listed, or as many as asked for, counted up from ``config.seed``.

    >>> seed_list(AblateConfig(seed=4, seeds=2)), seed_list(AblateConfig(seeds=[7, 9]))
    ([4, 5], [7, 9])
    """
    seeds = config.seeds
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds >= 1:
        return list(range(config.seed, config.seed + seeds))
    if isinstance(seeds, (list, tuple)) and seeds and all(isinstance(s, int) for s in seeds) and len(set(seeds)) == len(seeds):
        return list(seeds)
    raise InputError(f"seeds = {seeds}; a number of seeds, or a list of different whole numbers is needed")


def fork_epoch(config: AblateConfig) -> int:
    """The epoch the arms part at: a share of the run below 1, else a number of epochs.

    >>> fork_epoch(AblateConfig())
    12
    """
    fork, epochs = config.suite.fork, config.trainer.epochs
    epoch = round(fork * epochs) if fork < 1 else round(fork)
    if not 0 <= epoch < epochs:
        raise InputError(f"suite.fork = {fork:g} is epoch {epoch}; it should lie in 0 to {epochs - 1}, before trainer.epochs")
    return epoch


def plan(config: AblateConfig) -> tuple[list[Branch], int]:
    """Every arm with every seed, checked, seeds first; and the epoch they part at."""
    if not config.suite.arms:
        raise InputError(f"suite '{config.suite.name}' has no arms")
    fork = fork_epoch(config)
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    common = TrainConfig(**{name: getattr(config, name) for name in names})
    branches = []
    for seed in seed_list(config):
        for arm in config.suite.arms:
            try:
                run = changed(common, {**arm.set, "seed": seed})
            except KeyError as error:
                raise InputError(f"suite '{config.suite.name}', arm '{arm.name}': {error.args[0]}") from error
            run.method["start_epoch"] = fork
            run.out = str(Path(config.out) / "runs" / arm.name / f"seed{seed}")
            trainer.check(run)
            branches.append(Branch(arm, seed, run, _prefix_of(run, fork, Path(config.prefixes))))
    return branches, fork


def _prefix_of(run: TrainConfig, fork: int, folder: Path) -> TrainConfig:
    prefix = changed(run, {"method": {"name": "baseline"}, "trainer.stop_after": fork, "out": ""})
    device = choose_device(run.device)
    name = checkpoint.digest(
        checkpoint.flat(prefix), _data(run).fingerprint(), environment(device), torch.get_default_dtype().__repr__()
    )
    return changed(prefix, {"out": str(folder / name)})


_loaded: dict[str, ImageData] = {}


def _data(config: TrainConfig) -> ImageData:
    """The run's data, read once a process."""
    key = checkpoint.digest(dataclasses.asdict(config.data))
    if key not in _loaded:
        _loaded[key] = load_data(config.data)
    return _loaded[key]


# -- the work ----------------------------------------------------------------------------------------------------------


def _train_prefix(branch: Branch, listener: Listener | None) -> None:
    """Trains the common run, or finds it done; of several processes that want it one trains and the others wait."""
    out = Path(branch.prefix.out)
    fork = branch.prefix.trainer.stop_after or 0
    if _epochs_done(out) < fork:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{out}.lock"):
            trainer.train(branch.prefix, _named("prefix", listener), data=_data(branch.prefix))


def _train_arm(branch: Branch, listener: Listener | None) -> None:
    """Trains the arm from the fork on, or goes on with it, or finds it done."""
    fork = branch.prefix.trainer.stop_after
    prefix = Path(branch.prefix.out) if fork else None
    trainer.train(branch.config, _named(branch.arm.name, listener), prefix, _data(branch.config))


def _named(arm: str, listener: Listener | None) -> Listener | None:
    return None if listener is None else lambda event: listener(dataclasses.replace(event, arm=arm))


def _epochs_done(run: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(1 for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if line.endswith("}"))
    return 0


def _jobs_and_threads(config: AblateConfig) -> tuple[int, int | None]:
    """Runs side by side and CPU threads of each: small networks gain more from a process a core than from threads."""
    if config.jobs is not None and config.jobs < 1:
        raise InputError(f"jobs = {config.jobs} should be at least 1")
    if choose_device(config.device).type != "cpu":
        return config.jobs or 1, config.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = config.jobs or cores
    return jobs, config.threads or max(1, cores // jobs)


def _train_side_by_side(branches: list[Branch], jobs: int, threads: int | None, listener: Listener | None) -> None:
    """Trains in ``jobs`` processes; an arm is handed out when its prefix is done."""
    context = multiprocessing.get_context("spawn")
    news: Any = context.Queue()
    waiting: dict[str, list[Branch]] = {}
    for branch in branches:
        waiting.setdefault(branch.prefix.out, []).append(branch)
    pool = futures.ProcessPoolExecutor(jobs, context, _start_worker, (news, threads))
    try:
        running = {pool.submit(_work, _train_prefix, arms[0]): out for out, arms in waiting.items()}
        while running:
            done, _ = futures.wait(running, timeout=0.1, return_when=futures.FIRST_COMPLETED)
            _pass_on(news, listener)
            for task in done:
                out = running.pop(task)
                task.result()
                for branch in waiting.pop(out, []):
                    running[pool.submit(_work, _train_arm, branch)] = out
    except BaseException:
        # States are written atomically, so that work can be ended at any moment.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    _pass_on(news, listener)


def _pass_on(news: Any, listener: Listener | None) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            event = news.get_nowait()
            if listener is not None:
                listener(event)


_news: Any = None  # in a worker: the way back to the suite


def _start_worker(news: Any, threads: int | None) -> None:
    global _news
    _news = news
    keep_freed_memory()
    show_notices()
    use_threads(threads)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Ends the worker when the suite was killed, which could not tell it so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(train: Any, branch: Branch) -> None:
    def tell(event: EpochDone) -> None:
        _news.put(event)

    train(branch, tell)


# -- the results -------------------------------------------------------------------------------------------------------


def collect(config: AblateConfig, branches: list[Branch], fork: int, wall_seconds: float) -> dict[str, Any]:
    """What the finished runs on disk come to, as ``results.json`` holds it."""
    arms = []
    for arm in config.suite.arms:
        seeds = [_summary(branch) for branch in branches if branch.arm.name == arm.name]
        arms.append({"name": arm.name, "role": arm.role, "factor": arm.factor, "seeds": seeds, **summarise_arm(seeds)})
    epochs = config.trainer.epochs
    prefixes = {branch.prefix.out for branch in branches}
    results: dict[str, Any] = {
        "suite": config.suite.name,
        "question": config.suite.question,
        "data": config.data.name,
        "wall_seconds": wall_seconds,
        "fork_epoch": fork,
        "epochs_trained": len(prefixes) * fork + len(branches) * (epochs - fork),
        "epochs_without_sharing": len(branches) * epochs,
        "small_loss": dataclasses.asdict(config.small_loss),
        "config": {key: value for key, value in checkpoint.flat(config).items() if not key.startswith("suite.")},
        "rules": config.suite.rules,
        "arms": arms,
        "comparisons": compare_arms(arms),
        "environment": environment(choose_device(config.device)),
    }
    results["finding"] = write_finding(results, config.suite.rules)
    return results


def _summary(branch: Branch) -> dict[str, Any]:
    text = (Path(branch.config.out) / "metrics.jsonl").read_text(encoding="utf-8")
    metrics = [json.loads(line) for line in text.splitlines()]
    return {
        "seed": branch.seed,
        **summarise_run(metrics),
        "seconds": sum(line["seconds"] for line in metrics),
        "gflop": sum(line["gflop"] for line in metrics),
        "peak_mb": max(line["peak_mb"] for line in metrics),
    }
