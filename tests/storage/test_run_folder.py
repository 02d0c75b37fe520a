"""One process works in a folder at a time, on whichever machine; what a lost one held passes on."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ro_fast.storage import run_folder
from ro_fast.storage.run_folder import Busy, alone_in

HOLD = """
import socket, sys, time
socket.gethostname = lambda: sys.argv[2]
from pathlib import Path
from ro_fast.storage import run_folder
run_folder.LEASE = 3.0
with run_folder.alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def held(folder: Path, host: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), host], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_lock_of_a_machine_that_is_lost_passes_on_after_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "LEASE", 3.0)
    elsewhere = held(tmp_path, "elsewhere")
    monkeypatch.setattr(run_folder, "_PATIENCE", 2.0)  # it renews the lease every second
    with pytest.raises(Busy):
        alone_in(tmp_path).__enter__()
    elsewhere.kill()
    elsewhere.wait()
    begun = time.monotonic()
    with alone_in(tmp_path):
        assert time.monotonic() - begun > 1


def test_that_of_a_process_killed_here_passes_on_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "LEASE", 3.0)
    here = held(tmp_path, socket.gethostname())
    here.kill()
    here.wait()
    begun = time.monotonic()
    with alone_in(tmp_path):
        assert time.monotonic() - begun < 1
