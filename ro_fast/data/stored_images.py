"""Images that are too many to hold beside a network: they stay in their file, or in memory, and are read when asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ro_fast.environment import memory
from ro_fast.errors import InputError

IN_MEMORY = 2**30  # bytes; training images that take no more are held in memory
_ON_DEVICE = 0.5  # of a GPU's free memory, up to which they are held there; the rest is for the network
_CHUNK = 4096  # images that are looked at together when all of them are
_AHEAD = 2  # batches that are read while another one is trained on


class StoredImages:
    """Rows of an array of images, which may lie in a file: as a tensor [N, ...] of which only what is asked for is read.

    Indexing returns tensors on ``device``. An array of type ``np.memmap`` needs no memory of its own: the system keeps as much of
    the file as it has room for.
    """

    def __init__(self, pool: NDArray[Any], rows: NDArray[np.int64] | None = None, device: torch.device | str = "cpu") -> None:
        self.pool = pool
        self.rows = np.arange(len(pool)) if rows is None else rows
        self.device = torch.device(device)
        self.shape = torch.Size((len(self.rows), *pool.shape[1:]))
        self.dtype = torch.from_numpy(np.empty(0, pool.dtype)).dtype
        self.nbytes = self.shape.numel() * pool.itemsize
        # Taken as bytes: of numbers that lie in a file at no multiple of their size, NumPy would copy all before it takes some.
        self._bytes = pool.reshape(len(pool), self.shape[1:].numel()).view(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def dim(self) -> int:
        """The number of dimensions, the first of which counts images."""
        return len(self.shape)

    def __getitem__(self, index: Tensor | NDArray[np.int64] | slice) -> Tensor:
        return self._read(index).to(self.device)

    def taken(self, index: Tensor | NDArray[np.int64] | slice) -> StoredImages:
        """Some of the images, which are not read yet."""
        return StoredImages(self.pool, self.rows[_on_cpu(index)], self.device)

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in order, ``size`` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device | str) -> AnyImages:
        """The images for work on a device: held there if they take at most half of a GPU's free memory, else read when needed."""
        device = torch.device(device)
        if device.type == "cuda" and self.nbytes <= _ON_DEVICE * torch.cuda.mem_get_info(device)[0]:
            return self.held(device)
        return StoredImages(self.pool, self.rows, device)

    def held(self, device: torch.device | str) -> Tensor:
        """All images in a device's memory."""
        x = torch.empty(self.shape, dtype=self.dtype, device=device)
        for start in range(0, len(self), _CHUNK):
            x[start : start + _CHUNK] = self._read(slice(start, start + _CHUNK)).to(device)
        return x

    def ahead(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of each batch of indices, read and copied to the device while the batches before are worked on."""
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        order = iter(batches)
        with ThreadPoolExecutor(1, "images") as reader:
            coming: deque[Future[tuple[Tensor, Any]]] = deque()
            for index in islice(order, _AHEAD):
                coming.append(reader.submit(self._fetch, index, stream))
            while coming:
                x, copied = coming.popleft().result()
                for index in islice(order, 1):
                    coming.append(reader.submit(self._fetch, index, stream))
                if copied is not None:
                    own = torch.cuda.current_stream(self.device)
                    own.wait_event(copied)
                    x.record_stream(own)  # its memory is not given to another batch before this stream is done with it
                yield x

    def _fetch(self, index: Tensor, stream: torch.cuda.Stream | None) -> tuple[Tensor, Any]:
        if stream is None:
            return self[index], None
        with torch.cuda.stream(stream):
            return self._read(index, pinned=True).to(self.device, non_blocking=True), stream.record_event()

    def _read(self, index: Tensor | NDArray[np.int64] | slice, pinned: bool = False) -> Tensor:
        rows = self.rows[_on_cpu(index)]
        x = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype, pin_memory=pinned)
        # Read by NumPy: torch maps read-only files only for writing, which the system may refuse for one larger than its memory.
        # Rows are known to be there; with mode "raise" NumPy would read into a buffer of its own first.
        np.take(self._bytes, rows, axis=0, out=x.numpy().reshape(len(rows), self.shape[1:].numel()).view(np.uint8), mode="clip")
        return x


AnyImages = Tensor | StoredImages


def _on_cpu(index: Tensor | NDArray[np.int64] | slice) -> NDArray[np.int64] | slice:
    return index.cpu().numpy() if isinstance(index, Tensor) else index


def rows_of(x: AnyImages, index: Tensor | NDArray[np.int64] | slice) -> AnyImages:
    """Some images, held in memory if they take no more than 1 GiB."""
    if isinstance(x, Tensor):
        return x[index]
    found = x.taken(index)
    return found if found.nbytes > IN_MEMORY else found.held(found.device)


def in_memory(x: AnyImages, times: float = 1) -> Tensor:
    """All images as a tensor, for work that looks at all of them together.

    Args:
        x: the images.
        times: the memory that this work takes in all, as a multiple of theirs.

    Raises:
        InputError: if this is more than half of the memory.
    """
    if isinstance(x, Tensor):
        return x
    room = memory() / 2 / times
    if x.nbytes > room:
        raise InputError(
            f"{len(x)} images of {x.nbytes / 1e9:.1f} GB are too many to look at together in {memory() / 1e9:.1f} GB of memory; "
            f"give data.train_size={int(len(x) * room / x.nbytes)}, or less"
        )
    return x.held(x.device)
