"""Training images perturbed once, against a state of adversarial training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import small, without_seconds

from ro_fast.data import load_data
from ro_fast.errors import InputError
from ro_fast.storage.records import read
from ro_fast.training.trainer import prepared, train


def test_images_are_perturbed_within_the_budget_and_stay_as_they_are(tmp_path: Path) -> None:
    def config(name: str, **changes: object):
        # A constant, large rate, so that the best epoch is not the last.
        changes |= {"trainer__epochs": 8, "trainer__lr": 0.3, "trainer__lr_drops": [], "seed": 1}
        return small(tmp_path / name, method={"name": "natural"}, teachers=str(tmp_path / "teachers"), **changes)

    plain = load_data(config("plain").data)
    x, eps = plain.images(plain.x_train), config("plain").data.eps
    seen = {}
    for state in ("best", "last"):
        run, costs = prepared(config(state, data__induced=state), plain, torch.device("cpu"))
        assert 0 < (run.data.x_train - x).abs().max() <= eps + 1e-6 and 0 <= run.data.x_train.min() <= run.data.x_train.max() <= 1
        assert run.data.x_test.equal(plain.images(plain.x_test)) and run.data.y_train.equal(plain.y_train)
        assert costs["adversarial"].gflop > 0
        seen[state] = run.data.x_train
    assert not seen["best"].equal(seen["last"])
    assert len(list((tmp_path / "teachers").glob("*/last.pt"))) == 1
    both, _ = prepared(config("both", data__induced="last", data__induced_test=True), plain, torch.device("cpu"))
    assert both.data.x_train.equal(seen["last"]) and 0 < (both.data.x_test - plain.images(plain.x_test)).abs().max() <= eps + 1e-6

    history = train(config("last", data__induced="last"))
    assert without_seconds(train(config("last", data__induced="last"))) == without_seconds(history)  # the same images again
    assert "adversarial" in read(dict[str, dict[str, float]], tmp_path / "last" / "teachers.json", "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__induced": "first"}, "data.induced 'first' is unknown; available: best, last"),
        ({"data__induced_test": True}, "data.induced_test needs data.induced"),
        ({"data__induced": "best", "data__unlabelled": 0.5}, "labelled training images only"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        train(small(tmp_path, **changes))
