"""How many runs go side by side on one GPU: as many as it takes to keep it busy, measured on one of them.

A small network's kernels are done sooner than the host can start them, so that the GPU waits most of the time. Runs in
processes of their own fill these gaps, with the results that they have alone. Where NVIDIA's MPS is started, their kernels
overlap too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import tempfile
import time

import torch
from torch.profiler import ProfilerActivity, profile

from ro_fast.config import TrainConfig, changed
from ro_fast.data import ImageData
from ro_fast.environment import cores
from ro_fast.methods import baseline_of
from ro_fast.training.trainer import Run

_IMAGES = 1024
_CONTEXT = 600 * 2**20  # bytes that CUDA takes in each process
_FILLED = 0.9  # of the free memory


def gpu_jobs(config: TrainConfig, data: ImageData, device: torch.device) -> tuple[int, float]:
    """How many runs like one go side by side on a GPU, and the share of the time in which one alone keeps it busy.

    Two epochs of plain adversarial training on up to 1024 images, the second one under torch's profiler; nothing of them
    stays. One run, without a measurement, on a GPU that takes one process only.
    """
    if device.type == "cuda" and _exclusive():
        return 1, float("nan")
    share, held = _watched(config, data, device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else held
    return side_by_side(share, held, free, cores()), share


def side_by_side(share: float, held: float, free: float, cores: int) -> int:
    """The runs that together keep a GPU busy, but no more than fit in its memory or than there are CPU cores to start kernels.

    Args:
        share: of the time in which one run's kernels keep the GPU busy.
        held: bytes of GPU memory that a run takes.
        free: bytes of GPU memory.
        cores: CPU cores.

    >>> side_by_side(0.17, 1e9, 80e9, 16), side_by_side(0.17, 1e9, 80e9, 4), side_by_side(0.17, 30e9, 80e9, 16)
    (6, 4, 2)
    >>> side_by_side(0.9, 1e9, 80e9, 16), side_by_side(0.1, 100e9, 80e9, 16)
    (1, 1)
    """
    return max(1, min(round(1 / max(share, 0.01)), cores, int(_FILLED * free / held)))


def _exclusive() -> bool:
    """Whether a GPU's administrator allows it one process, as on many clusters."""
    asked = ["nvidia-smi", "--query-gpu=compute_mode", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return "Exclusive" in subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
    return False


def _watched(config: TrainConfig, data: ImageData, device: torch.device) -> tuple[float, float]:
    """The share of an epoch's time in which kernels run, and the bytes that a process with the whole data would hold."""
    few = dataclasses.replace(
        data,
        x_train=data.x_train[:_IMAGES],
        y_train=data.y_train[:_IMAGES],
        x_test=data.x_test[: config.trainer.eval_batch_size],
        y_test=data.y_test[: config.trainer.eval_batch_size],
        rows_train=data.rows_train[:_IMAGES],
        files_train=None,
        redrawn=None,
    ).to(device)
    on_gpu = device.type == "cuda"
    # What comes before any method: others may need teachers, or states of earlier epochs.
    plain: TrainConfig = changed(config, {"method": baseline_of(config.method), "features.every": 0})
    with tempfile.TemporaryDirectory() as folder:
        run = Run(dataclasses.replace(plain, out=folder), few, device)
        run.train_epoch()  # engines are built and graphs captured
        run.score(few.x_test, few.y_test)  # takes its share of memory
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
            start = time.perf_counter()
            run.train_epoch()  # ends when the device is done
            seconds = time.perf_counter() - start
    events = seen.key_averages()
    busy = sum(event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events) / 1e6
    reserved = torch.cuda.max_memory_reserved(device) if on_gpu else 0
    return busy / seconds, reserved + _CONTEXT + sum(x.nbytes for x in (data.x_train, data.x_val, data.x_test))
