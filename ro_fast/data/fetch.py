"""Finds a data set's original files, or lets torchvision download them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ro_fast.config import DataConfig
from ro_fast.errors import InputError, WorkError
from ro_fast.installing import pip_install


def cache_folder() -> Path:
    """Where ro_fast keeps what it can get again: ``ro_fast`` in ``XDG_CACHE_HOME``, or else in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ro_fast"


def find_or_download(
    config: DataConfig,
    names: Sequence[str],
    *,
    folders: Sequence[str],
    torchvision_name: str,
    archive: str | None = None,
    system: Path | None = None,
    advice: str | None = None,
) -> dict[str, Path]:
    """Finds a data set's original files, or lets torchvision download them.

    Looks only in config.path if it is given, otherwise in the cache folder, then in the system's.

    Args:
        names: files to find, each plain or with .gz; a name maps to the archive if only that is there.
        folders: where they may lie below the root.
        torchvision_name: the class of torchvision.datasets that downloads them.
        archive: a .tar.gz with all of them.
        system: a folder where a distribution's package puts them.
        advice: one more way to get them.

    Raises:
        InputError: if they are not there; the message says how to get them.
        WorkError: if the download failed.
    """
    root = Path(config.path).expanduser() if config.path else cache_folder() / "data"
    roots = [root] if config.path or system is None else [root, system]
    files = _find(roots, names, folders, archive)
    if files is None and config.download:
        _download(torchvision_name, root)
        files = _find(roots, names, folders, archive)
    if files is None:
        ways = [advice] if advice else []
        ways += [
            f"set data.download=true (needs torchvision: {pip_install('vision')})",
            "set data.path to the location of its files",
        ]
        places = " or ".join(map(str, roots))
        raise InputError(f"{config.name} is not in {places} ({archive or names[0]}); {', or '.join(ways)}")
    return files


def _find(
    roots: Sequence[Path], names: Sequence[str], folders: Sequence[str], archive: str | None
) -> dict[str, Path] | None:
    for root in roots:
        for folder in folders:
            found = {
                name: path
                for name in names
                for path in (root / folder / f"{name}.gz", root / folder / name)
                if path.is_file()
            }
            if len(found) == len(names):
                return found
        if archive is not None:
            for path in (root, root / archive):
                if path.name.endswith(".tar.gz") and path.is_file():
                    return dict.fromkeys(names, path)
    return None


def _download(name: str, root: Path) -> None:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise InputError(f"data.download=true needs torchvision ({error}): {pip_install('vision')}") from error
    try:
        for part in (True, False):
            options: dict[str, Any] = {"split": "train" if part else "test"} if name == "SVHN" else {"train": part}
            getattr(datasets, name)(root, download=True, **options)
    except (OSError, RuntimeError) as error:
        raise WorkError(f"torchvision could not download {name} to {root}: {error}") from error
