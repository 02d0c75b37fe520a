"""The commands: one table with the name of each, its purpose, its keys, and the function that runs it."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ro_fast import config as schemas
from ro_fast.errors import InputError


@dataclass(frozen=True)
class Command:
    """One command of ``ro-fast``.

    Args:
        summary: one line for the list of commands.
        run: executes it, given its composed configuration.
        schema: the dataclass of its configuration; None: it takes no keys.
    """

    summary: str
    run: Callable[[Any], None]
    schema: type | None = None


def _train(config: Any) -> None:
    if config.nproc == 1:
        _train_here(config)
        return
    if "RANK" in os.environ:
        raise InputError(f"nproc={config.nproc}: torchrun has started the processes already; leave nproc= out")
    from ro_fast.environment import choose_device
    from ro_fast.torchrun import in_processes
    from ro_fast.training.validate import check

    check(config)
    in_processes(config.nproc, choose_device(config.device).type, _train_with_others, dataclasses.replace(config, nproc=1))


def _train_with_others(config: Any) -> None:
    """What each process of a run does; it ends with an exit code."""
    from ro_fast.cli.guarded import guarded

    def work() -> None:
        try:
            _train_here(config)
        except Exception:
            if os.environ["RANK"] != "0":
                time.sleep(3)  # what all find wrong is told once: the first to end ends the others
            raise

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the terminal sends to all of them: the one that started them ends them
    sys.exit(guarded(["train"], work))


def _train_here(config: Any) -> None:
    from ro_fast.environment import keep_freed_memory
    from ro_fast.progress import Progress
    from ro_fast.suite.run import epochs_done
    from ro_fast.training.trainer import train

    keep_freed_memory()
    epochs = config.trainer.stop_after or config.trainer.epochs
    with Progress(epochs, "train") as progress:
        if (Path(config.out) / "last.pt").exists():  # without it the run starts from scratch
            progress.add(min(epochs, epochs_done(Path(config.out))))
        history = train(config, progress)
    last = history[-1]
    if os.environ.get("RANK", "0") == "0":  # of several processes started by torchrun
        print(f"robust test accuracy {last.test_robust_acc:.3f}, natural {last.test_acc:.3f}; in {config.out}")


def _ablate(config: Any) -> None:
    from ro_fast.environment import keep_freed_memory
    from ro_fast.findings.verdict import more_seeds
    from ro_fast.progress import Progress
    from ro_fast.report import build_report
    from ro_fast.suite.run import ablate, epochs_to_train

    keep_freed_memory()
    total, done = epochs_to_train(config)
    with Progress(total, "ablate") as progress:
        progress.add(done)
        results = ablate(config, progress, progress.extend)
    report = build_report(Path(config.out), config.report.language)
    print("\n".join(results.finding.sentences))
    if more := more_seeds(results.arms, results.finding):
        print(f"more seeds may settle this: run the same command with seeds={more}, which keeps finished runs")
    print(f"{results.wall_seconds:.0f} s; report: {report}")


def _watch(config: Any) -> None:
    from ro_fast.overfitting.curve_files import read_curve, watch_curve

    if not config.curve:
        wanted = "curve=PATH of a .csv, .json, .jsonl, text log, TensorBoard event file, or a folder with one of them"
        raise InputError(f"curve= is not given; {wanted} is needed")
    if config.out is not None and not config.out.endswith((".png", ".html")):
        raise InputError(f"out={config.out} should name a page, FILE.html, or a picture, FILE.png")
    curve = read_curve(config.curve, config.column, loss=config.loss, train=config.train)
    verdict = watch_curve(curve)
    print("\n".join([*verdict.lines(), curve.read_as]))
    if config.out is not None:
        from ro_fast.report.watch_page import write_watch_page
        from ro_fast.storage.saving import writing

        with writing(Path(config.out)):
            print(write_watch_page(curve, verdict, Path(config.curve).name, Path(config.out), config.report.language))


def _check(config: Any) -> None:
    from ro_fast.check import check
    from ro_fast.check.finding import SEVERITIES
    from ro_fast.check.page import looked_at
    result = check(config)
    for finding in sorted(result.findings, key=lambda finding: SEVERITIES.index(finding.severity)):
        if finding.severity != "info":
            print(f"{finding.severity}: {finding.message}")
    print(f"{result.summary} {result.wall_seconds:.0f} s; page: {Path(config.out) / 'check.html'}")
    print(looked_at(result))


def _prototype(config: Any) -> None:
    from ro_fast.environment import keep_freed_memory
    from ro_fast.progress import Progress
    from ro_fast.prototype import prototype

    keep_freed_memory()

    def progress(total: int, done: int, title: str) -> Progress:
        shown = Progress(total, title)
        shown.add(done)
        return shown

    result = prototype(config, progress)
    print("\n".join(result.sentences))
    if (more := result.enough) is not None:
        decides = "would probably decide it" if result.plan.seeds > 1 else f"goes on to {more.seeds} seeds, which have intervals"
        print(f"open: {', '.join(more.actions)}; the same command with {more.options} {decides}")
    print(f"{result.plan.seconds:.0f} s; page: {Path(config.out) / 'report.html'}")


def _evaluate(config: Any) -> None:
    from ro_fast.environment import keep_freed_memory
    from ro_fast.evaluation.checkpoints import evaluate_checkpoint, folder_of, table
    from ro_fast.progress import Progress
    from ro_fast.protocol.decide import decide
    from ro_fast.protocol.page import PAGE, sentences, write_page
    from ro_fast.protocol.protocol import obey, read_protocol
    from ro_fast.report.evaluation_page import write_evaluation_page
    from ro_fast.storage import records
    from ro_fast.storage.run_folder import alone_in

    keep_freed_memory()
    protocol = None if config.protocol is None else read_protocol(Path(config.protocol))
    config = config if protocol is None else obey(config, protocol)
    with Progress(100, "evaluate, % of the work at most") as progress:
        found = evaluate_checkpoint(config, lambda share, what: progress.reach(int(100 * share), what))
    out = folder_of(config)
    print(table(found))
    with alone_in(out):
        print(f"page: {write_evaluation_page(found, out, config.report.language)}")
        if protocol is not None:
            decision = decide(protocol, found)
            records.write(out / "decision.json", decision)
            write_page(protocol, out / PAGE, config.report.language, decision)
    if protocol is not None:
        print("\n".join(sentences(decision, config.report.language)))
        print(f"page: {out / PAGE}")


def _protocol(config: Any) -> None:
    from ro_fast.protocol.page import PAGE, write_page
    from ro_fast.protocol.protocol import FILE, make_protocol, write_protocol
    from ro_fast.storage.paths import own_folder
    from ro_fast.storage.saving import writing

    protocol, out = make_protocol(config), own_folder(config.out, FILE, [PAGE])
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        write_protocol(protocol, out / FILE)
        write_page(protocol, out / PAGE, config.report.language)
    print(
        f"{protocol.images} of {protocol.available} test images: ± {100 * protocol.precision:.1f} points at a robust accuracy of "
        f"{100 * protocol.expected:g} %; to agree on: {out / PAGE}; then: ro-fast evaluate protocol={out / FILE} checkpoint=RUN"
    )


def _export(config: Any) -> None:
    from ro_fast.evaluation.export import export

    print(export(config))


def _report(config: Any) -> None:
    from ro_fast.prototype.page import rebuild_page
    from ro_fast.prototype.result import RESULT
    from ro_fast.report import build_report

    if not config.run:
        raise InputError("run= is not given; give the folder of a finished suite or prototype, run=PATH")
    folder, language = Path(config.run), config.report.language
    if (folder / RESULT).exists():
        print(rebuild_page(folder, language))
        return
    print(build_report(folder, language))


def _bench(config: Any) -> None:
    from ro_fast.benchmarks.run import bench

    bench(Path(config.out), config.groups, config.fail_under, config.allow_missing)


def _doctor(config: Any) -> None:
    from ro_fast.cli.doctor import report

    print(report())


def _build(config: Any) -> None:
    from ro_fast import _build

    print(_build.build_in_place())


COMMANDS = {
    "train": Command(
        "one adversarial training run: data= model= attack= method= trainer= recipe=", _train, schemas.TrainConfig
    ),
    "ablate": Command("a suite of arms × seeds, suite=factors by default, then its report", _ablate, schemas.AblateConfig),
    "watch": Command(
        "curve=PATH (CSV, JSON, text log, TensorBoard, run folder): does it overfit robustly, since when, how sure",
        _watch,
        schemas.WatchConfig,
    ),
    "prototype": Command(
        "check, small runs within budget=10min, one page for the decision: risk, what to do first, its cost",
        _prototype,
        schemas.PrototypeConfig,
    ),
    "check": Command(
        "checks a data set before any training: labels, duplicates, leakage, shift, margins", _check, schemas.CheckConfig
    ),
    "protocol": Command(
        "robust=0.4: what an evaluation will measure and which result means go, fixed before it",
        _protocol,
        schemas.ProtocolConfig,
    ),
    "evaluate": Command(
        "checkpoint=PATH: natural, PGD, CW and an AutoAttack-style cascade, with intervals and warnings",
        _evaluate,
        schemas.EvaluateConfig,
    ),
    "export": Command("checkpoint=PATH: model.safetensors with a model card", _export, schemas.ExportConfig),
    "report": Command("run=PATH: rebuilds report.html from what is on disk", _report, schemas.ReportConfig),
    "bench": Command(
        "operators, attack and training compared with rivals on this machine; fail_under=must makes it a check",
        _bench,
        schemas.BenchConfig,
    ),
    "doctor": Command("versions, devices and backends; why a backend is missing and how to get it", _doctor),
    "build": Command("compiles the native operators into the installed package", _build),
}
