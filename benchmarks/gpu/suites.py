"""The cost of a suite: three seeds compared with their own single runs, G7, and the default suite as a user starts it, G10."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ro_fast.config import AblateConfig, changed
from ro_fast.suite.plan import plan
from ro_fast.suite.run import ablate
from ro_fast.training.trainer import train

from .images import study
from .session import Session

LIMIT = 45.0  # seconds after which the default suite is stopped; its must is 30
SHORT = ["trainer.epochs=2", "seeds=1", "data.train_size=64", "data.test_size=32", "attack.steps=1", "model.width=8"]
SHORT += ["jobs=1", "threads=1"]


def three_seeds(session: Session) -> None:
    """G7: a small network, including scores and files."""
    session.precision(tf32=True)
    again = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        config = study(session, Path(folder), "small_cnn", images=1024, epochs=2)

        def fresh() -> AblateConfig:
            turn = next(again)
            return changed(config, {"out": f"{config.out}{turn}", "prefixes": f"{config.prefixes}{turn}"})

        def singly() -> None:
            for branch in plan(fresh()):
                train(branch.config)

        runs = {"one suite": lambda: ablate(fresh()), "three runs": singly}
        times = session.race("three seeds of small_cnn", runs, rounds=3, seconds=8, warm_up=1)
    if len(times) == len(runs):
        together, apart = (statistics.median(times[label]) for label in runs)
        session.rows.target("G7", "three seeds of small_cnn: one suite over three runs", together / apart)


def default(session: Session) -> None:
    """G10, in a separate process as started by a user; one that takes too long is stopped, and counts with the time so far."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"out={folder}/suite", f"prefixes={folder}/prefixes", f"device={session.device}"]
        command = [sys.executable, "-m", "ro_fast", "ablate", *places, *session.pick([], SHORT)]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            session.rows.target("G10", "the default suite, stopped before its end", time.perf_counter() - start, finished=False)
            return
        seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"ro-fast ablate ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
    session.rows.target("G10", "the default suite", seconds, finished=True)


MEASUREMENTS = {f.__name__: f for f in (three_seeds, default)}
