"""What is installed, and the line that brings what is missing: one form for errors, notices and ``ro-fast doctor``."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlparse

PACKAGE = Path(__file__).parent.resolve()


def pip_install(extra: str) -> str:
    """The command that brings what an extra lacks here, to be run as it stands, from any folder.

    It names the missing packages themselves, or all of the extra if every one is there but can't be imported: ro_fast is on no
    index, and installing it again from a clone would drop what ``ro-fast build`` compiled. Only where ro_fast runs from a
    clone without being installed, it installs the clone.
    """
    found = extras().get(extra)
    if found is None:
        return f"pip install -e {shlex.quote(f'{PACKAGE.parent}[{extra}]')}"
    if not found:
        return f"nothing of the extra [{extra}] exists for {platform.system()}"
    return shlex.join(["pip", "install", *(missing(extra) or found)])


def missing(extra: str) -> list[str]:
    """The requirements of an extra whose package is not installed."""
    return [requirement for requirement in extras()[extra] if version(_name(requirement)) is None]


def extras() -> dict[str, list[str]]:
    """What each extra requires on this system, with those that it takes from others; empty if ro_fast isn't installed."""
    dist = _installed()
    return {} if dist is None else by_extra(dist.requires or [])


def by_extra(requirements: list[str]) -> dict[str, list[str]]:
    """Sorts a package's requirements, as its metadata list them, by extra.

    >>> by_extra(["torch>=2.10", "rich; extra == 'train'", 'hydra-core>=1.3; extra == "train"', "ro_fast[train]; extra == 'all'"])
    {'train': ['rich', 'hydra-core>=1.3'], 'all': ['rich', 'hydra-core>=1.3']}
    """
    found: dict[str, list[str]] = {}
    for requirement in requirements:
        needed, _, marker = requirement.partition(";")
        extra, system = (re.search(rf"{key} == ['\"]([\w-]+)['\"]", marker) for key in ("extra", "platform_system"))
        if extra:
            group = found.setdefault(extra[1], [])
            if system is None or system[1] == platform.system():
                group.append(needed.strip())
    return {extra: list(dict.fromkeys(_flat(extra, found))) for extra in found}


def version(package: str) -> str | None:
    """The version of an installed package; None if it isn't."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def command() -> str:
    """How the ro_fast that runs here is called: the script belongs to the installed one."""
    return "ro-fast" if installed_in() == PACKAGE else "python -m ro_fast"


def installed_in() -> Path | None:
    """The folder of the installed ro_fast, which Python passes over in the root of another clone; None if there is none."""
    dist = _installed()
    if dist is None:
        return None
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(unquote(urlparse(origin["url"]).path), "ro_fast").resolve()
    return Path(str(dist.locate_file("ro_fast"))).resolve()


def add_file(path: Path) -> None:
    """Lists a file of this package as one of the installed, so that uninstalling removes it too.

    Left behind alone, it would be found as an empty package, before the clone of a later ``pip install -e``.
    """
    dist = _installed()
    if dist is None or Path(str(dist.locate_file("ro_fast"))).resolve() != PACKAGE:
        return  # a clone
    name = f"{PACKAGE.name}/{path.name}"
    record = next(file for file in dist.files or [] if file.name == "RECORD").locate()
    lines = Path(str(record)).read_text(encoding="utf-8").splitlines()
    if not any(line.startswith(f"{name},") for line in lines):
        Path(str(record)).write_text("\n".join([*lines, f"{name},,", ""]), encoding="utf-8")


def _installed() -> importlib.metadata.Distribution | None:
    # A build leaves metadata in the root of the clone too; an installer signs those that it installs.
    dists = importlib.metadata.distributions(name="ro_fast")
    return next((dist for dist in dists if dist.read_text("INSTALLER")), None)


def _flat(extra: str, found: dict[str, list[str]]) -> list[str]:
    """An extra's requirements, with those of the extras that it names instead of these."""
    flat: list[str] = []
    for requirement in found.get(extra, []):
        own = re.fullmatch(r"ro[-_]fast\[(.+)\]", requirement)
        flat += [each for part in own[1].split(",") for each in _flat(part.strip(), found)] if own else [requirement]
    return flat


def _name(requirement: str) -> str:
    return str(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
