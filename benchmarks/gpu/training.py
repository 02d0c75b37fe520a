"""A training step of PreActResNet-18 compared with the published one: G4, G9 and S1; synchronisations per epoch: G6."""

from __future__ import annotations

import collections
import copy
import statistics
import tempfile
import warnings
from pathlib import Path

import torch
from torch.nn import functional as F

from ro_fast.attacks import PGD
from ro_fast.data import load_data
from ro_fast.methods.objective import Objective
from ro_fast.suite.plan import plan
from ro_fast.training import trainer

from .. import baselines
from ..networks import ALPHA, EPS, SGD, STEPS, Bench, suite_and_scripts, training_step
from .attacks import RICE, engines, network, strongest
from .images import study
from .session import Run, Session

DEFAULT = "default, bf16"


def rice(bench: Bench) -> Run:
    """The published step: attack, training pass, natural forward, numbers for the log."""
    published = baselines.rice_training_step(torch.optim.SGD(bench.plain.parameters(), **SGD), [].append)
    return lambda: published(bench.plain, bench.x, bench.y, EPS, ALPHA, STEPS)


def update(bench: Bench) -> Run:
    """The rest of a step without the attack, in bf16: forward, backward, optimiser."""
    model = copy.deepcopy(bench.last).train()
    optimizer = torch.optim.SGD(model.parameters(), **SGD, fused=True)

    def run() -> None:
        with torch.autocast(bench.device, torch.bfloat16):
            loss = F.cross_entropy(model(bench.x_last), bench.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def steps(session: Session) -> None:
    """G4."""
    session.precision(tf32=True)
    bench = network(session, 128)
    runs = {DEFAULT: training_step(bench, "lean", "bf16"), "default, TF32": training_step(bench, "lean", "fp32")}
    for engine in engines(bench.last, bench.x_last):
        runs[f"{engine}, bf16"] = training_step(bench, "lean", "bf16", engine)
    alone, attack = update(bench), strongest(session, bench.last, bench.x_last, bench.y)

    def compiled() -> None:  # the weights it attacks stay fixed, which does not affect the time
        attack()
        alone()

    runs |= {RICE: rice(bench), "the update alone, bf16": alone, "torch.compile's attack in one graph, bf16": compiled}
    times = session.race("training step, batch 128", runs, rounds=7, seconds=10)
    if times.get(DEFAULT):
        epoch = statistics.median(times[DEFAULT]) / 1e3 * 50_000 / 128
        session.rows.target("G4", "PGD-10 training, 50 000 images, batch 128", epoch)


def memory(session: Session) -> None:
    """G9."""
    session.precision(tf32=True)
    name = "training step, batch 128, memory"
    theirs = session.memory(f"{name}: {RICE}", lambda: rice(network(session, 128)))
    ours = session.memory(f"{name}: {DEFAULT}", lambda: training_step(network(session, 128), "lean", "bf16"))
    session.rows.target("G9/training", name, ours / theirs)


def three_arms(session: Session) -> None:
    """S1."""
    session.precision(tf32=True)
    bench = network(session, 128)
    suite, scripts = suite_and_scripts(bench, training_step(bench, "lean", "bf16"), rice(bench))
    name = "three arms that part half-way"
    times = session.race(name, {DEFAULT: suite, "published scripts, TF32": scripts}, rounds=5, seconds=5, warm_up=2)
    session.faster("S1", name, times, DEFAULT, "published scripts, TF32")


def trades(session: Session) -> None:
    """An attack on the divergence from each batch's own output, and the memory held by eight of them."""
    session.precision(tf32=True)
    bench = network(session, 128)
    objective = Objective("trades", forwards=2, attack_forwards=1)

    def attack() -> object:
        return objective.attack(PGD(EPS, ALPHA, STEPS), bench.last, bench.x_last, bench.y)

    before = torch.cuda.memory_reserved()
    session.race("TRADES' attack, batch 128", {DEFAULT: session.half(attack)}, rounds=5, seconds=3)
    session.rows.put("memory", "TRADES' attacks, eight batches", reserved_mib=(torch.cuda.memory_reserved() - before) / 2**20)


def waits(session: Session) -> None:
    """G6: how often an epoch of training synchronises with the device, and where."""
    session.precision(tf32=True)
    with tempfile.TemporaryDirectory() as folder:
        config = plan(study(session, Path(folder)))[0].config
        device = torch.device(session.device)
        run = trainer.Run(config, load_data(config.data).to(device), device)
        run.train_epoch()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            if session.device == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            try:
                run.train_epoch()
            finally:
                if session.device == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
        seconds = session.milliseconds(run.train_epoch) / 1e3
    places = collections.Counter(f"{Path(w.filename).name}:{w.lineno}" for w in told if "synchroniz" in str(w.message))
    for place, count in places.most_common(8):
        session.rows.put("wait", place, count=count)
    session.rows.put("time", f"an epoch of {config.data.train_size or 'all'} images, default, bf16", ms=1e3 * seconds)
    session.rows.target("G6/waits", "waits for the device in an epoch", float(sum(places.values())))


MEASUREMENTS = {f.__name__: f for f in (steps, memory, three_arms, waits, trades)}
