"""``python -m ro_fast.benchmarks.gpu FOLDER``: operators, attacks and training step on an NVIDIA GPU, timed by CUDA events."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ro_fast.attacks import PGD
from ro_fast.attacks.engines import ENGINES
from ro_fast.environment import environment
from ro_fast.ops import affine_relu, backends, class_moments, pgd_init, pgd_step, pgd_step_input, weighted_cross_entropy

from . import baselines
from .gpu_paired import Run, paired
from .gpu_studies import study_rows
from .networks import ALPHA, EPS, STEPS, Bench, suite_and_scripts, training_step
from .paired import Row


def main(folder: Path) -> None:
    """Measures what runs; a group that fails is told and the next one is tried."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    rows: list[Row] = []
    for group in (operator_rows, launch_rows, attack_rows, training_rows, study_rows):
        try:
            for row in group():
                rows.append(row)
                goal = f"  {row.target}: must {row.must:g}, goal {row.goal:g}" if row.must is not None else ""
                print(f"{row.name:44} {row.ours:22} vs {row.rival:26} {row.ratio:6.2f}×, {row.ours_ms:.3f} ms, "
                      f"{row.ours_mb:.0f} MB vs {row.rival_mb:.0f}{goal}", flush=True)  # fmt: skip
        except Exception:
            traceback.print_exc()
        about = environment(torch.device("cuda")) | {"cuda": torch.version.cuda, "nvidia_smi": smi()}
        (folder / "gpu.json").write_text(json.dumps({"about": about, "rows": [r.as_json() for r in rows]}, indent=1) + "\n")


def smi() -> str:
    """Driver and clocks, as the driver tells them."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip()


def operator_rows() -> Iterator[Row]:
    """G5: tensors of 64 MB and more, against a copy of as many bytes and Inductor."""
    for dtype in (torch.float32, torch.bfloat16):
        yield from operator_rows_of(dtype)
    rows, many = torch.randn(65536, 512, device="cuda"), torch.randint(512, (65536,), device="cuda")
    back, few, weight = torch.empty_like(rows), many % 10, torch.rand(65536, device="cuda")
    runs: dict[str, Run] = {
        "class_moments": lambda: class_moments(rows, few, 10),
        "weighted_cross_entropy": lambda: weighted_cross_entropy(rows, many, weight=weight),
    }
    for backend, (name, run) in itertools.product(("native", "triton"), runs.items()):
        if there(backend, name):  # what only reads moves half of a copy's bytes
            label, ours, copy = f"{name} float32 [65536,512]", (backend, on(backend, run)), ("copy", lambda: back.copy_(rows))
            yield paired(label, ours, copy, cold=True, scale=0.5, target="G5", must=0.85, goal=0.93)


def operator_rows_of(dtype: torch.dtype) -> Iterator[Row]:
    x, grad = (torch.rand(8192, 3, 32, 32, device="cuda").to(dtype) - shift for shift in (0, 0.5))
    x_adv, out, back = x.clone(), torch.empty_like(x), torch.empty_like(x)  # no tensor twice: it would be read once
    copy = ("copy", lambda: back.copy_(x))
    fused = torch.compile(baselines.chain_linf, fullgraph=True, dynamic=False)
    fused_input = torch.compile(baselines.chain_linf_input, fullgraph=True, dynamic=False)
    mean, std, last = torch.full((3,), 0.5, device="cuda"), torch.full((3,), 0.25, device="cuda"), torch.channels_last
    into = out, torch.empty_like(x, dtype=torch.bfloat16, memory_format=last)
    runs: dict[str, tuple[Run, float]] = {  # and how many copies move as many bytes
        "pgd_step": (lambda: pgd_step(x_adv, x, grad, EPS, ALPHA, out=out), 2.0),
        "pgd_step_input": (lambda: pgd_step_input(x_adv, x, grad, EPS, ALPHA, mean, std, out=into), 2.0 + 1 / x.element_size()),
        "pgd_init": (lambda: pgd_init(x, EPS, grad), 1.5),
        "affine_relu": (lambda: affine_relu(x, out=out), 1.0),
    }
    for backend, (name, (run, copies)) in itertools.product(("native", "triton"), runs.items()):
        if not there(backend, name):
            continue
        ours, label = (backend, on(backend, run)), f"{name} {str(dtype)[6:]} [8192,3,32,32]"
        yield paired(label, ours, copy, cold=True, scale=copies, target="G5", must=0.85, goal=0.93)
        if name == "pgd_step":
            rival = ("Inductor", lambda: fused(x_adv, x, grad, EPS, ALPHA))
            yield paired(label, ours, rival, cold=True, target="G5", must=1.0, goal=1.1)
        if name == "pgd_step_input":
            rival = ("Inductor", lambda: fused_input(x_adv, x, grad, EPS, ALPHA, mean, std, last))
            yield paired(label, ours, rival, cold=True, target="G5", must=1.0, goal=1.1)


def there(backend: str, name: str) -> bool:
    """Whether a backend has an operator; if not, the reason is printed."""
    reason = backends.why_not(backend, name, "cuda")
    if reason:
        print(f"{name}: {backend} is not timed: {reason}")
    return not reason


def on(backend: str, run: Run) -> Run:
    """``run`` on a named backend."""

    def named() -> object:
        with backends.use_backend(backend):
            return run()

    return named


def launch_rows() -> Iterator[Row]:
    """G6: kernels that one attack step launches outside the model; the ratio is 3 over their number."""
    x, grad = torch.rand(128, 3, 32, 32, device="cuda"), torch.randn(128, 3, 32, 32, device="cuda")
    logits, y = torch.randn(128, 10, device="cuda", requires_grad=True), torch.zeros(128, dtype=torch.int64, device="cuda")
    loss = PGD().plan(lambda x: x, y).loss

    def step() -> None:
        torch.autograd.grad(loss(logits, y), logits)
        pgd_step(x, x, grad, EPS, ALPHA, out=x)

    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as record:
        step()
    count = sum(e.count for e in record.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA)
    row = paired("launches of a step outside the model", (f"{count} launches", step), ("limit 3", step))
    yield replace(row, ratio=3 / max(1, count), target="G6", must=1, goal=3)


def attack_rows() -> Iterator[Row]:
    """G1, G2, G3, G9: PGD-10 of each engine in bf16 and channels last against the loops and torch.compile."""
    yield from attack_rows_of(128, 1.1, 1.5)
    yield from attack_rows_of(512, 1.0, 1.3)


def attack_rows_of(batch: int, must: float, goal: float) -> Iterator[Row]:
    bench = Bench("cuda", batch)
    name = f"PGD-10 PreActResNet-18, batch {batch}"
    compiled = baselines.compiled_attack(bench.last, EPS, ALPHA, STEPS, mode="reduce-overhead")
    loop = ("adv-lib's loop, bf16", half(lambda: eager_rival(bench)))
    strongest = ("torch.compile, bf16", half(lambda: compiled(bench.x_last, bench.y)))
    for engine in ENGINES:
        attack = PGD(EPS, ALPHA, STEPS, engine=engine)
        if f"{engine}: available" not in attack.explain(bench.last, bench.x_last):
            continue
        ours = (f"{engine}, bf16", bench.ours(attack, "bf16"))
        yield paired(name, ours, strongest, target="G3", must=must, goal=goal)
        if batch == 128:
            yield paired(name, ours, ("Rice, TF32", bench.rice), target="G1", must=4, goal=8)
            row = paired(name, ours, loop, target="G2", must=1.5, goal=2.5)
            yield row
            less = row.rival_mb / max(row.ours_mb, 1)
            yield replace(row, name=f"{name}, peak memory", ratio=less, target="G9", must=2, goal=4)


def eager_rival(bench: Bench) -> Tensor:
    """The leanest eager loop, given channels last."""
    return baselines.adv_lib_attack(bench.last.eval(), bench.x_last, bench.y, EPS, ALPHA, STEPS)


def half(run: Run) -> Run:
    """``run`` in autocast."""

    def cast() -> object:
        with torch.autocast("cuda", torch.bfloat16):
            return run()

    return cast


def training_rows() -> Iterator[Row]:
    """G4: seconds of 50 000 images, against limits of 6.4 and 3; G9 and S1: against the published step and scripts."""
    bench = Bench("cuda", 128)
    published = baselines.rice_training_step(torch.optim.SGD(bench.plain.parameters(), lr=1e-4), [].append)
    theirs = ("Rice step, TF32", lambda: published(bench.plain, bench.x, bench.y, EPS, ALPHA, STEPS))
    row = paired("training step PreActResNet-18, batch 128", ("lean, bf16", training_step(bench, "lean", "bf16")), theirs)
    yield row
    epoch = row.ours_ms / 1e3 * 50_000 / 128
    limit = {"rival": "6.4 s", "target": "G4", "must": 1, "goal": 6.4 / 3}
    yield replace(row, name=f"50k epoch: {epoch:.2f} s", ratio=6.4 / epoch, **limit)
    less = row.rival_mb / max(row.ours_mb, 1)
    yield replace(row, name="training step, peak memory", ratio=less, target="G9", must=1 / 0.6, goal=2.5)
    ours, scripts = suite_and_scripts(bench, training_step(bench, "lean", "bf16"), theirs[1])
    name = "three arms that part half-way, PreActResNet-18"
    yield paired(name, ("lean, bf16", ours), ("published scripts, TF32", scripts), rounds=5, target="S1", must=8, goal=15)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
