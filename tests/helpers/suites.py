"""Suites that take seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from ro_fast.config import AblateConfig, ArmConfig, RulesConfig, SuiteConfig, changed

RULES = RulesConfig(min_gap=0.02, min_reduction=0.5, max_robust_loss=0.01, irrelevant=0.2)


def small(folder: Path, out: str = "suite", **changes: object) -> AblateConfig:
    """Three arms, two seeds, four epochs on 200 digits."""
    arms = [
        ArmConfig("baseline", {}),
        ArmConfig("perturbation", {"method": {"name": "perturbation"}}, "their perturbations", "factor"),
        ArmConfig("attack_strength", {"method": {"name": "attack_strength", "eps_ratio": 2.0}}, "a larger budget", "mitigation"),
    ]
    config = AblateConfig(suite=SuiteConfig("tiny", "Does it run?", 0.5, arms=arms, rules=RULES), seeds=2, jobs=1, threads=1)
    values = {"out": str(folder / out), "prefixes": str(folder / "prefixes"), "data.train_size": 200, "data.test_size": 100}
    values |= {"data.eps": 0.05, "data.label_noise": 0.2, "model.width": 8, "attack.steps": 2}
    values |= {"trainer.epochs": 4, "trainer.batch_size": 32}
    return changed(config, values | {key.replace("__", "."): value for key, value in changes.items()})


_LINE = (
    *("data.train_size=200", "data.test_size=100", "model.width=8", "attack.steps=2", "trainer.epochs=20", "seeds=1"),
    *("suite.arms=[{name: baseline}, {name: pure, set: {data.label_noise: 0}}]", "suite.fork=2", "suite.claims=[]"),
    *("suite.rules=null", "threads=1"),
)


def line(folder: Path) -> list[str]:
    """A suite of two arms that start at the same time."""
    return [*_LINE, f"out={folder}", f"prefixes={folder / 'prefixes'}"]


def begun(folder: Path, arm: str, *more: str) -> subprocess.Popen[str]:
    """The suite in a process group of its own, as a terminal starts it, when an arm has trained some epochs more."""
    metrics = folder / "runs" / arm / "seed0" / "metrics.jsonl"
    before = metrics.stat().st_size if metrics.exists() else 0
    command = [sys.executable, "-m", "ro_fast", "ablate", *line(folder), *more]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which what a shell starts with & ignores
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.stat().st_size > before:
            break
        time.sleep(0.01)
    return process
