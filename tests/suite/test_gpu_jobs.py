"""Runs side by side on a GPU; without one here, what can be tried on a CPU."""

from __future__ import annotations

import logging

import torch
from helpers.suites import small

from ro_fast.data import load_data
from ro_fast.suite import run
from ro_fast.suite.gpu_jobs import gpu_jobs


def test_one_run_is_measured_and_leaves_nothing_behind(tmp_path):
    config = run.plan(small(tmp_path))[0].config
    jobs, share = gpu_jobs(config, load_data(config.data), torch.device("cpu"))
    assert jobs >= 1 and share > 0
    assert not list(tmp_path.iterdir())


def test_the_number_is_measured_once_and_told(tmp_path, caplog, monkeypatch):
    measured = []
    monkeypatch.setattr(run, "_measured", {})
    monkeypatch.setattr(run, "gpu_jobs", lambda *given: measured.append(given) or (3, 0.31))
    with caplog.at_level(logging.INFO, "ro_fast"):
        assert [run._on_gpu(small(tmp_path)) for _ in range(2)] == [3, 3]
    assert len(measured) == 1 and "jobs=3 on the GPU: one run keeps it busy for 31 % of the time" in caplog.text
