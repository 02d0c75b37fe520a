"""Readers of image file formats; unexpected contents are reported as an InputError."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ro_fast.data.stored_images import IN_MEMORY
from ro_fast.errors import InputError
from ro_fast.installing import pip_install

DAMAGED = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


def reason(error: Exception) -> str:
    """What a library says of a damaged file, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def read_bytes(path: Path, member: str) -> bytes:
    """Returns a plain file's bytes, or those of a member of a .tar.gz."""
    try:
        if not path.name.endswith(".tar.gz"):
            return path.read_bytes()
        with tarfile.open(path, "r:gz") as archive:
            file = archive.extractfile(member)
            if file is None:
                raise InputError(f"{path}: {member} is not a file")
            return file.read()
    except KeyError as error:
        raise InputError(f"{path} holds no {member}; it must be the original archive") from error
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Reads an IDX file of bytes, gzipped or plain: 0 0 8 ndim, the sizes as big-endian int32, then the values."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read: {error}; download it again") from error
    header = 4 + 4 * ndim
    if content[:4] != bytes((0, 0, 8, ndim)) or len(content) < header:
        raise InputError(f"{path} is not an IDX file of {ndim}-dimensional bytes")
    shape = [int(size) for size in np.frombuffer(content, ">u4", ndim, 4)]
    if len(content) - header != int(np.prod(shape, dtype=object)):
        raise InputError(f"{path} has {len(content) - header} bytes of data but declares shape {shape}; download it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds only containers and NumPy arrays, so that a foreign pickle cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        numpy_core = module in ("numpy.core.multiarray", "numpy._core.multiarray")
        if numpy_core and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]  # its location depends on NumPy's version
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it requests {module}.{name}")


def read_pickle(content: bytes, where: str) -> dict[str, Any]:
    """Reads a pickled dict of lists and NumPy arrays, written by Python 2 or 3."""
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(f"{where} is not a pickle of arrays: {reason(error)}") from error


def read_mat(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Reads arrays of a MATLAB file."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError(f"{path} needs SciPy ({error}): {pip_install('train')}") from error
    try:
        content = loadmat(path, variable_names=list(names))
    except Exception as error:  # SciPy's readers raise nearly anything on a foreign file
        raise InputError(f"{path} is not a MATLAB file: {reason(error)}") from error
    arrays = [_member(content, name, path) for name in names]
    if any(not isinstance(array, np.ndarray) for array in arrays):
        raise InputError(f"{path}: {' and '.join(names)} must be plain arrays, not sparse ones")
    return arrays


def read_npz(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Reads arrays of an .npz file, without unpickling.

    Raises:
        InputError: if it is not an .npz file, lacks one of them, or its headers and contents don't fit together.
    """
    arrays = read_arrays(path, names)
    return [arrays[name] for name in names]


def read_arrays(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads arrays of an .npz file as :func:`read_npz` does, and those of some others that it holds."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file; it must be an .npz file with {', '.join(names)}")
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise InputError(f"{path} is a single array; it must be an .npz file with {', '.join(names)}")
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            for name in names:
                if name not in members:
                    raise InputError(f"{path} lacks {name}; it holds {', '.join(sorted(members)) or 'no array'}")
            wanted = [*names, *(name for name in optional if name in members)]
            return {name: _read_npy(path, archive, members[name], f"{path}: {name}") for name in wanted}
    except InputError:
        raise
    except Exception as error:  # zipfile's and NumPy's readers raise nearly anything on a damaged file
        raise InputError(f"{path} is not an .npz file of plain arrays: {reason(error)}") from error


def _read_npy(path: Path, archive: zipfile.ZipFile, member: str, where: str) -> np.ndarray:
    """Reads an array whose header is plain and fits the bytes that follow, so that no memory is taken in vain.

    One of over 1 GiB that is not compressed stays in its file, mapped into memory.
    """
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 2's headers
            shape, by_columns, dtype = read_header(file)
        if dtype.hasobject:
            raise InputError(f"{where} holds Python objects, which could run code and are not read; save it as numbers")
        entry, header = archive.getinfo(member), file.tell()
        size, rest = math.prod(shape) * dtype.itemsize, entry.file_size - header
        if size != rest or min(shape, default=0) < 0:
            raise InputError(f"{where} declares shape {list(shape)} of {dtype}, {size} bytes, but {rest} follow; save it again")
    if size > IN_MEMORY and entry.compress_type == zipfile.ZIP_STORED and not by_columns:
        start = _offset(path, entry)
        if checksum(path, start, entry.file_size) != entry.CRC:
            raise InputError(f"{where} is damaged (its checksum is another one); download or save it again")
        return np.memmap(path, dtype, "r", start + header, shape)
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def checksum(path: Path, start: int, size: int) -> int | None:
    """CRC-32 of a part of a file; None if the file ends before."""
    found = 0
    with path.open("rb") as file:
        file.seek(start)
        while size and (part := file.read(min(size, 2**24))):
            found, size = zlib.crc32(part, found), size - len(part)
    return None if size else found


def _offset(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where an archive's member begins: behind 30 bytes, of which the last four say how long name and extra are."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return entry.header_offset + 30 + name + extra


def _member(content: Any, name: str, path: Path) -> np.ndarray:
    if name not in content:
        found = ", ".join(sorted(key for key in content if not key.startswith("__"))) or "nothing"
        raise InputError(f"{path} lacks {name}; it holds {found}")
    return content[name]
