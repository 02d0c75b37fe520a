"""Decodes the image files of a list: few into memory, many into one file in the cache, which later readings map into memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import math
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ro_fast.data.fetch import cache_folder
from ro_fast.data.files import checksum
from ro_fast.data.image_file import Unreadable, pillow_version, quiet, read_image
from ro_fast.data.stored_images import IN_MEMORY, StoredImages
from ro_fast.environment import cores
from ro_fast.errors import InputError, StorageError
from ro_fast.progress import clock
from ro_fast.storage import records
from ro_fast.storage.checkpoint import digest

_log = logging.getLogger("ro_fast")
MANY = 20_000  # files; more are decoded only once
_PART, _BLOCK = 64, 2048  # at most so many files are taken by a thread at a time, and decoded between two looks at the clock
_BYTES = 2**28  # of the images decoded between them
_VERSION = 1  # of what read_image makes of a file
_SAVED = 5.0  # seconds between two states on disk, and between two lines of progress


Source = Path | bytes  # a file, or its content where it lies within another one


@dataclass
class Size:
    """How many images have a shape, and the first that has."""

    shape: list[int]
    count: int
    first: int  # its place in the list


@dataclass
class Reading:
    """How far a list of files was read, and what was found."""

    done: int = 0
    unreadable: list[tuple[int, str]] = field(default_factory=list)  # places in the list, with reasons
    notes: dict[str, int] = field(default_factory=dict)  # what was done to values -> how many files
    sizes: list[Size] = field(default_factory=list)  # in the order of their first images; only images of the first one are kept
    checksum: int = 0  # CRC-32 of the bytes of the images kept, if they are in a file

    @property
    def kept(self) -> tuple[int, ...]:
        """The shape of the images kept so far, [K, C, H, W]."""
        return (self.sizes[0].count, *self.sizes[0].shape) if self.sizes else (0, 1, 1, 1)

    def add(self, images: Sequence[tuple[NDArray[np.uint8] | None, list[str]]]) -> list[NDArray[np.uint8]]:
        """Notes what the next files of the list hold, and returns those that are kept."""
        notes, kept = Counter(self.notes), []
        for place, (image, said) in enumerate(images, self.done):
            if image is None:
                self.unreadable.append((place, said[0]))
                continue
            notes.update(said)
            size = next((size for size in self.sizes if size.shape == list(image.shape)), None)
            if size is None:
                self.sizes.append(size := Size(list(image.shape), 0, place))
            size.count += 1
            if size is self.sizes[0]:
                kept.append(image)
        self.done, self.notes = self.done + len(images), dict(notes)
        return kept


def decode(files: Sequence[Source], where: str) -> tuple[NDArray[np.uint8] | StoredImages, Reading]:
    """The images of files, uint8 [K, C, H, W] in their order, those left out that can't be read or are of another size.

    More than 20 000 files, or files of more than 1 GiB of images, are decoded once, into a file below ``~/.cache/ro_fast`` (or
    ``XDG_CACHE_HOME``), and read from there as long as no file of the list has other times or another length than then. A
    reading that was killed continues; one that meets an image of another size ends there.
    """
    with quiet():
        size = _bytes_of_one(files)
        paths = [file for file in files if isinstance(file, Path)]
        if len(paths) == len(files) and (len(files) > MANY or len(files) * size > IN_MEMORY):
            return _cached(paths, where, size)
        reading = Reading()
        kept = [image for block in _decoded(files, size) for image in reading.add(block)]
        return np.stack(kept) if kept else np.empty(reading.kept, np.uint8), reading


def _bytes_of_one(files: Sequence[Source]) -> int:
    return next((image.size for image, _ in map(_decode_one, files) if image is not None), 0)


def _decode_one(file: Source) -> tuple[NDArray[np.uint8] | None, list[str]]:
    """An image and what was done to it, or None and why it can't be read."""
    try:
        return read_image(io.BytesIO(file) if isinstance(file, bytes) else file)
    except Unreadable as error:
        return None, [str(error)]


def _decoded(files: Sequence[Source], size: int) -> Iterator[list[tuple[NDArray[np.uint8] | None, list[str]]]]:
    """Blocks of decoded files of about that many bytes; threads suffice, since Pillow's decoders run beside each other."""
    block = max(1, min(_BLOCK, _BYTES // max(size, 1)))
    part = min(_PART, -(-block // cores()))

    def decoded(start: int, end: int) -> list[tuple[NDArray[np.uint8] | None, list[str]]]:
        return [_decode_one(file) for file in files[start:end]]

    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(files), block):
            ends = [min(end, start + block, len(files)) for end in range(start + part, start + block + part, part)]
            yield [image for images in pool.map(decoded, [start, *ends[:-1]], ends) for image in images]


# -- the cache -------------------------------------------------------------------------------------------------------------


def _cached(files: Sequence[Path], where: str, size: int) -> tuple[StoredImages, Reading]:
    from ro_fast.storage.run_folder import lock_of  # needs what only the extra "train" brings

    folder = cache_folder() / "images" / digest(str(Path(where).resolve()))
    name = _identity(files)
    images, state = folder / f"{name}.uint8", folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reading = _begun(files, images, state)
        if reading.done < len(files):
            with lock_of(folder / ".lock"):  # of several processes that need it, one reads
                reading = _begun(files, images, state)
                if reading.done < len(files):
                    _read_on(files, where, images, state, reading, size)
                    for older in folder.iterdir():  # of other files, or of these before they changed
                        if older.stem != name and older.suffix in (images.suffix, state.suffix):
                            older.unlink()
        pool = np.memmap(images, np.uint8, "r", shape=reading.kept) if reading.kept[0] else np.empty(reading.kept, np.uint8)
    except OSError as error:
        raise StorageError(
            f"{folder}, into which so many image files are decoded once, can't be written ({error.strerror or error}); set "
            "XDG_CACHE_HOME to a folder with room, or free some here, and run the same command again"
        ) from error
    return StoredImages(pool), reading


def _identity(files: Iterable[Path]) -> str:
    """Changes if a file comes, goes or changes, or is decoded by something else."""
    told = hashlib.sha256(f"{_VERSION} {pillow_version()}\0".encode())
    for file in files:
        told.update(os.fsencode(os.path.abspath(file)))
        with contextlib.suppress(OSError):  # else it has gone, and can't be read either
            stat = file.stat()
            told.update(f"\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\0".encode())
    return told.hexdigest()[:16]


def _begun(files: Sequence[Path], images: Path, state: Path) -> Reading:
    """What an earlier reading has left, if it is whole and what it could not read still can't be read."""
    if not (state.exists() and images.exists()):
        return Reading()
    try:
        reading = records.read(Reading, state, "")
    except InputError:
        reading = None
    if reading is None or checksum(images, 0, math.prod(reading.kept)) != reading.checksum:
        _log.warning("%s is damaged: the files are read again", images)
        return Reading()
    return Reading() if any(_decode_one(files[place])[0] is not None for place, _ in reading.unreadable) else reading


def _read_on(files: Sequence[Path], where: str, images: Path, state: Path, reading: Reading, size: int) -> None:
    start, found = time.monotonic(), reading.done
    told = start
    if not found:
        images.unlink(missing_ok=True)  # another process may have it mapped
    _log.info("%s: reading %d files once, into %s", where, len(files) - found, images.parent)
    with open(images, "r+b" if found else "wb") as file:
        file.truncate(math.prod(reading.kept))
        file.seek(0, os.SEEK_END)

        def save() -> None:
            file.flush()
            os.fsync(file.fileno())
            records.write(state, reading)

        for block in _decoded(files[found:], size):
            for image in reading.add(block):
                content = image.tobytes()
                reading.checksum = zlib.crc32(content, reading.checksum)
                file.write(content)
            if reading.sizes[1:]:
                return  # an error, which is not to wait for all the others
            now = time.monotonic()
            if now - told > _SAVED:
                told = now
                save()
                left = (now - start) / (reading.done - found) * (len(files) - reading.done)
                _log.info("%s: %d of %d files read, %s left", where, reading.done, len(files), clock(left))
        save()
