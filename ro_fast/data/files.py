"""Readers of image file formats; unexpected contents are reported as an InputError."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ro_fast.errors import InputError

DAMAGED = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


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
    shape = [int(size) for size in np.frombuffer(content, ">i4", ndim, 4)]
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
        raise InputError(f"{where} is not a pickle of arrays: {error}") from error


def read_mat(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Reads arrays of a MATLAB file."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError(f"{path} needs SciPy: pip install 'ro_fast[train]' ({error})") from error
    try:
        content = loadmat(path, variable_names=list(names))
    except Exception as error:  # SciPy's readers raise nearly anything on a foreign file
        raise InputError(f"{path} is not a MATLAB file: {error}") from error
    return [_member(content, name, path) for name in names]


def read_npz(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Reads arrays of an .npz file, without unpickling."""
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise InputError(f"{path} is a single array; it must be an .npz file with {', '.join(names)}")
        with content:
            return [_member(content, name, path) for name in names]
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path} is not an .npz file of plain arrays: {error}") from error


def _member(content: Any, name: str, path: Path) -> np.ndarray:
    if name not in content:
        found = ", ".join(sorted(key for key in content if not key.startswith("__"))) or "nothing"
        raise InputError(f"{path} lacks {name}; it holds {found}")
    return content[name]
