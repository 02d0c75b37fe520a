"""``python -m ro_fast.benchmarks.large_data``: how fast data are read that are many files, or too large for memory.

Two parts, ``files`` and ``images``. The first makes a folder of small PNG files and reads it in processes of its own: one that is
killed after a while, one that goes on to the end, and one that finds everything done. The second makes an .npz file of images of
ImageNet's number at 64×64 pixels, and one of CIFAR's size, and reads random batches of them. What is made stays in ``--folder``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ro_fast.config import DataConfig, TrainConfig, changed
from ro_fast.data import ImageData, load_data
from ro_fast.data.stored_images import StoredImages
from ro_fast.environment import environment
from ro_fast.methods.step import Work
from ro_fast.storage.records import as_json
from ro_fast.training.trainer import Run

from .run import RESULTS

FILE = RESULTS / "cpu" / "large_data.json"
CLASSES, SIDE, BATCH = 100, 32, 128
SIZES = {"CIFAR's": (50_000, 3, 32, 32), "ImageNet's, 64×64": (1_280_000, 3, 64, 64)}
BATCHES, STEPS = 2000, 100


# -- many files --------------------------------------------------------------------------------------------------------------


def make_files(folder: Path, count: int) -> None:
    """PNG files of noise below a folder per class, 1000 of them different, unless they are there."""
    from PIL import Image

    rng = np.random.default_rng(0)
    contents = []
    for _ in range(1000):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(file, "png")
        contents.append(file.getvalue())
    for i in range(count):
        path = folder / "train" / f"c{i % CLASSES:03d}" / f"{i:07d}.png"
        if i < CLASSES:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(contents[i % len(contents)])


def of_files(folder: Path, count: int, kill_after: float) -> dict[str, Any]:
    """Seconds to read a folder of files for the first time, killed once, and to find it read."""
    make_files(folder, count)
    with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
        killed = _reading(folder, cache, kill_after)
        rest, again = _reading(folder, cache), _reading(folder, cache)
    seconds = {name: done["seconds"] for name, done in (("killed_after", killed), ("rest", rest), ("again", again))}
    return {"files": count, **seconds, "mb": again["mb"]}


def _reading(folder: Path, cache: str, kill_after: float | None = None) -> dict[str, Any]:
    """Loads the folder in a process of its own, killed after a number of seconds if given; what it says goes to stderr."""
    command = [sys.executable, "-m", "ro_fast.benchmarks.large_data", "--load", str(folder)]
    start = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "XDG_CACHE_HOME": cache}, stdout=subprocess.PIPE, text=True)
    if kill_after is not None:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return {"seconds": time.perf_counter() - start}
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"loading {folder} ended with {process.returncode}")
    return {"seconds": time.perf_counter() - start, **json.loads(said)}


def _load(folder: Path) -> None:
    from ro_fast.progress import show_notices

    show_notices()
    data = load_data(DataConfig(name="folder", path=str(folder)))
    print(json.dumps({"images": len(data.x_train), "mb": own_memory()}))


def own_memory() -> float:
    """Memory of this process that is not a file's, in MB of 10⁶ bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024 / 1e6


# -- large arrays ------------------------------------------------------------------------------------------------------------


def make_arrays(file: Path, shape: tuple[int, ...]) -> None:
    """Images of noise and labels as np.savez writes them, a piece at a time, unless they are there."""
    if file.exists():
        return
    rng, part = np.random.default_rng(0), file.with_suffix(".part")
    arrays = {"x_train": (shape, np.uint8), "x_test": ((10_000, *shape[1:]), np.uint8)}
    with zipfile.ZipFile(part, "w") as archive:
        for name, (size, dtype) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array_header_2_0(
                    out, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": size}
                )
                for start in range(0, size[0], 10_000):
                    out.write(rng.bytes(min(10_000, size[0] - start) * int(np.prod(size[1:]))))
        for name in arrays:
            with archive.open(f"y{name[1:]}.npy", "w") as out:
                np.save(out, np.arange(arrays[name][0][0], dtype=np.int64) % CLASSES)
    part.rename(file)


def of_arrays(name: str, file: Path) -> dict[str, Any]:
    """Seconds to open the file, images a second in random batches, and what training waits for them."""
    make_arrays(file, SIZES[name])
    _forget(file)
    start = time.perf_counter()
    data = load_data(DataConfig(name="npz", path=str(file)))
    opened = time.perf_counter() - start
    _forget(file)  # what opening it has read; none of it is mapped yet
    cold = rate(data)
    start = time.perf_counter()
    data.fingerprint()
    data.mean_std()
    row = {"name": name, "gb": data.x_train.nbytes / 1e9, "held": not isinstance(data.x_train, StoredImages), "open": opened}
    row |= {"look": time.perf_counter() - start, "cold": cold, "warm": rate(data), **training(data)}
    return {**row, "mb": own_memory()}


def _forget(file: Path) -> None:
    """Has the system forget what it keeps of a file in memory."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rate(data: ImageData) -> float:
    """Images a second in random batches."""
    order = torch.randperm(len(data.y_train), generator=torch.Generator().manual_seed(0)).split(BATCH)[:BATCHES]
    start = time.perf_counter()
    for index in order:
        data.x_train[index]
    return sum(map(len, order)) / (time.perf_counter() - start)


def training(data: ImageData) -> dict[str, float]:
    """Images a second of a network that is as fast as any here, and the share of the time in which it waits for images."""
    with tempfile.TemporaryDirectory() as out:
        config = changed(TrainConfig(out=out), {"model.name": "mlp", "model.width": 1, "attack.steps": 1})
        run = Run(config, data, torch.device("cpu"))
        order = torch.randperm(len(data.y_train), generator=torch.Generator().manual_seed(1)).split(BATCH)[: 2 * STEPS]
        images = data.x_train.ahead(order) if isinstance(data.x_train, StoredImages) else (data.x_train[i] for i in order)
        waited = begun = 0.0
        for i, index in enumerate(order):
            start = time.perf_counter()
            if i == STEPS:  # engines are built by now
                waited, begun = 0.0, start
            stored = next(images)
            waited += time.perf_counter() - start
            run.train_step(run.step(index, stored, Work()), 0.01)
        seconds = time.perf_counter() - begun
    return {"trained": STEPS * BATCH / seconds, "waiting": waited / seconds}


def table(found: Mapping[str, Any]) -> str:
    """The measurements as Markdown."""
    files, columns = found["files"], ("images", "GB", "opened, s", "looked at once, s", "read a second", "from memory")
    first = files["killed_after"] + files["rest"]
    columns += ("trained a second", "of that, waiting", "own memory, MB")
    lines = [
        f"Two cores of an {found['environment'].get('cpu', 'unknown CPU')}. "
        f"{files['files'] / 1e6:g} million PNG files of {SIDE}×{SIDE}: the first reading "
        f"takes {first:.0f} s ({files['files'] / first:.0f} files a second), killed after {files['killed_after']:.0f} s "
        f"and started again; each later command finds them read within {files['again']:.0f} s, in {files['mb']:.0f} MB.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    for row in found["arrays"]:
        cells = [row["name"], f"{row['gb']:.2f}", *(f"{row[name]:.1f}" for name in ("open", "look"))]
        cells += ["–" if row["held"] else f"{row['cold']:.0f}", f"{row['warm']:.0f}", f"{row['trained']:.0f}"]
        cells += [f"{100 * row['waiting']:.0f} %", f"{row['mb']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("outputs/large_data"))
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--kill-after", type=float, default=40.0)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load is not None:
        _load(args.load)
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"environment": as_json(environment(torch.device("cpu")))}
    found["files"] = of_files(args.folder / "files", args.files, args.kill_after)
    found["arrays"] = [of_arrays(name, args.folder / f"{len(str(size))}-{size[0]}.npz") for name, size in SIZES.items()]
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found), end="")


if __name__ == "__main__":
    main()
