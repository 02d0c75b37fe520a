"""Checkpoints of other projects: the same function, or one sentence on what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.published import RicePreAct, RobustBenchPreAct, TradesWide, settled
from torch import nn

from ro_fast.errors import InputError
from ro_fast.evaluation import load_model
from ro_fast.evaluation.foreign import network_of, renamed, unwrapped
from ro_fast.models import Network, Normalize
from ro_fast.models.preact_resnet import preact_trunk

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


@pytest.fixture(scope="module")
def rice() -> nn.Module:
    torch.manual_seed(0)
    return settled(RicePreAct())


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: prefixed("module.", s),
        lambda s: {"net": prefixed("module.", s), "acc": 51.3, "epoch": 99},
        lambda s: {"state_dict": prefixed("_orig_mod.", s), "optimizer": {"state": {}}},
        lambda s: {"model_state_dict": prefixed("module.model.", s)},
        lambda s: {"model_ema": {"n_averaged": torch.tensor(3), **prefixed("module.", s)}},
        lambda s: {name: value for name, value in s.items() if not name.endswith("num_batches_tracked")},
    ],
)
def test_checkpoints_of_the_papers_code_load_as_the_network_that_they_are(rice: nn.Module, wrap, tmp_path: Path) -> None:
    torch.save(wrap(rice.state_dict()), tmp_path / "theirs.pth")
    ours = load_model(tmp_path / "theirs.pth", mean=MEAN, std=STD)
    x = torch.rand(3, 3, 32, 32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), rice((x - mean) / std), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inside", [True, False])
def test_a_normalisation_within_the_file_is_taken(inside: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = settled(RobustBenchPreAct())
    state = theirs.state_dict()
    if not inside:  # as in Sequential(normalisation, network)
        state = {f"0.{'mean' if n == 'mu' else 'std'}" if n in ("mu", "sigma") else f"1.{n}": v for n, v in state.items()}
    torch.save(state, tmp_path / "theirs.pt")
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "theirs.pt")(x), theirs(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"mean": [0.5, 0.5, 0.5]}, {"std": [0.1]}, {"std": [0.2, 0.2]}])
def test_a_normalisation_other_than_the_files_is_refused(wrong: dict, tmp_path: Path) -> None:
    theirs = RobustBenchPreAct()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    held = {"mean": theirs.mu.flatten().tolist(), "std": theirs.sigma.flatten().tolist()}
    load_model(tmp_path / "theirs.pt", mean=[round(v, 3) for v in held["mean"]], std=held["std"])
    with pytest.raises(InputError) as told:
        load_model(tmp_path / "theirs.pt", **{**held, **wrong})
    ((name, values),) = wrong.items()
    assert f"{name}={values}" in str(told.value) and f"{name}={[round(v, 4) for v in held[name]]}" in str(told.value)


def test_a_wide_residual_network_of_trades_code_is_ours() -> None:
    with torch.device("meta"):
        assert network_of(unwrapped(prefixed("module.", TradesWide().state_dict()))) == "wide_resnet34_10"
    torch.manual_seed(2)
    theirs = settled(TradesWide(widen=1, blocks=2)).double()
    ours = Network(Normalize((3, 32, 32), [0.0], [1.0]), *preact_trunk(3, 16, (16, 32, 64), 2), 10).double().eval()
    weights = renamed(theirs.state_dict(), ours.state_dict())
    assert set(weights) == set(ours.state_dict())
    ours.load_state_dict(weights)
    x = torch.rand(2, 3, 32, 32).double()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-10)


def test_what_does_not_fit_is_told_with_the_nearest_name_and_what_to_write(rice: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "theirs.pt"
    torch.save(rice.state_dict(), file)
    with pytest.raises(InputError, match=r"does not say how inputs are normalised; give mean= and std="):
        load_model(file)
    with pytest.raises(InputError, match=r"is not a 'small_cnn': there is no .*nearest is .*give model=preact_resnet18"):
        load_model(file, "small_cnn", mean=MEAN, std=STD)
    without = {name: value for name, value in rice.state_dict().items() if not name.startswith("bn.")}
    torch.save(without, file)  # the network of Wong et al. 2020, which has no BatchNorm before its classifier
    with pytest.raises(InputError, match=r"does not match any built-in network .*pass the module to evaluate_model"):
        load_model(file, mean=MEAN, std=STD)
    with pytest.raises(InputError, match=r"is not a 'preact_resnet18': there is no trunk.5.weight \[512\]"):
        load_model(file, "preact_resnet18", mean=MEAN, std=STD)
    torch.save({"optimizer": {"lr": 0.1}, "epoch": 3}, file)
    with pytest.raises(InputError, match=r"holds no weights; .*'model_state_dict'"):
        load_model(file)
