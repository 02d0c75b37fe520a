"""RobustBench's models are attacked by name, where robustbench is installed; its weights are replaced by random ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ro_fast.attacks import PGD
from ro_fast.errors import InputError
from ro_fast.evaluation import evaluate_model
from ro_fast.evaluation.levels import Settings

pytest.importorskip("robustbench")
from robustbench.model_zoo import model_dicts
from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

from ro_fast.integrations import robustbench

NAME = "Rice2020Overfitting"


def test_a_model_passes_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = model_dicts[BenchmarkDataset.cifar_10][ThreatModel.Linf][NAME]["model"]().eval()
    at = tmp_path / "cifar10" / "Linf" / f"{NAME}.pt"
    at.parent.mkdir(parents=True)
    torch.save({"state_dict": theirs.state_dict()}, at)
    model = robustbench.model(NAME, model_dir=tmp_path)
    x = torch.rand(4, 3, 32, 32)
    y = theirs(x).argmax(1)
    assert torch.equal(model(x), theirs(x))
    assert PGD().explain(model, x).startswith("engine: fused")
    found = evaluate_model(model, x, y, 8 / 255, settings=Settings(steps=2, apgd_steps=2, queries=2, targets=1, masking=False))
    assert found.natural.acc == 1 and found.robust_acc <= found.pgd.acc


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="near it are Rice2020Overfitting"):
        robustbench.model("Rice2020")
    with pytest.raises(InputError, match="no 'cifar11'; available: cifar10"):
        robustbench.model("Rice2020Overfitting", dataset="cifar11")
