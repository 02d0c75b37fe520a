"""Feature generalisation: statistics compared with other ways to compute them, where features are read, and what a run writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import small, without_seconds
from scipy.linalg import sqrtm
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.errors import InputError
from ro_fast.features.generalisation import class_frechet, feature_gap, measure, probe_gap, spread_ratio
from ro_fast.features.reader import FeatureReader
from ro_fast.models import build_model
from ro_fast.ops import class_moments
from ro_fast.suite.perturbations import compare_perturbations
from ro_fast.training.sample_history import SampleHistory, SampleSummary, summarise_samples
from ro_fast.training.trainer import train


def clusters(n: int, noise: float, seed: int, d: int = 6, classes: int = 4) -> tuple[Tensor, Tensor]:
    """n samples per class around fixed centres."""
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n * classes) % classes
    return centres[y] + noise * torch.randn(len(y), d, generator=torch.Generator().manual_seed(seed)), y


def test_feature_gap_is_leave_one_out_against_test() -> None:
    train_x, y = clusters(5, 1.0, 1)
    test_x, y_test = clusters(9, 1.0, 2)
    right = []
    for i in range(len(y)):
        others = torch.arange(len(y)) != i
        centres = torch.stack([train_x[others & (y == c)].mean(0) for c in range(4)])
        right.append(((train_x[i] - centres).norm(dim=1).argmin() == y[i]).item())
    centres = torch.stack([train_x[y == c].mean(0) for c in range(4)])
    on_test = ((test_x[:, None] - centres).norm(dim=2).argmin(1) == y_test).double().mean()
    assert feature_gap(train_x, y, test_x, y_test, 4).item() == pytest.approx(np.mean(right) - on_test.item())


def test_weights_count_samples_and_leave_out_those_without_any() -> None:
    (x, y), (test_x, y_test) = clusters(5, 1.0, 1), clusters(9, 1.0, 2)
    gap = feature_gap(x, y, test_x, y_test, 4)
    assert feature_gap(x, y, test_x, y_test, 4, torch.full((len(y),), 0.3)) == pytest.approx(gap.item())
    wrong = torch.cat([x, x[:6]]), torch.cat([y, (y[:6] + 1) % 4])  # six samples more, with wrong labels
    right = torch.cat([torch.ones(len(y)), torch.zeros(6)])
    assert feature_gap(*wrong, test_x, y_test, 4, right) == pytest.approx(gap.item())
    assert feature_gap(*wrong, test_x, y_test, 4) < gap - 0.05


def test_feature_gap_is_zero_in_the_mean_for_one_distribution_and_positive_for_learnt_by_heart() -> None:
    gaps = [feature_gap(*clusters(5, 1.5, seed), *clusters(5, 1.5, 100 + seed), 4).item() for seed in range(60)]
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(len(gaps)) + 0.01
    assert feature_gap(*clusters(5, 0.1, 1), *clusters(5, 3.0, 2), 4) > 0.2


def test_a_class_without_samples_is_left_out() -> None:
    x, y = clusters(5, 0.1, 1)
    assert feature_gap(x, y, x, y, 6).item() == 0
    alone = torch.cat([x, 50 + x[:1]]), torch.cat([y, torch.tensor([5])])
    assert feature_gap(*alone, x, y, 6).item() == 0  # its only sample has no centre but itself
    numbers = measure({"natural": alone[0], "adversarial": alone[0]}, alone[1], {"natural": x, "adversarial": x}, y, 6)
    assert json.loads(json.dumps(numbers, allow_nan=False))["natural"]["feature_gap"] == 0


def test_frechet_is_that_of_the_covariances() -> None:
    a, y = clusters(40, 1.0, 1)
    b, y_b = clusters(30, 1.4, 2)
    distances = []
    for c in range(4):
        p, q = a[y == c].double().numpy(), b[y_b == c].double().numpy()
        s, t = np.cov(p.T), np.cov(q.T)
        shift = ((p.mean(0) - q.mean(0)) ** 2).sum()
        distances.append(np.sqrt(shift + np.trace(s + t - 2 * sqrtm(s @ t).real)))
    assert class_frechet(a, y, b, y_b, 4).item() == pytest.approx(np.mean(distances), rel=1e-6)
    assert class_frechet(a, y, a, y, 4).item() == pytest.approx(0, abs=1e-6)
    assert class_frechet(a[:1], y[:1], b, y_b, 4).isnan()


def test_spread_ratio_counts_noise_against_centres() -> None:
    """Within over between, from its definition."""
    x, y = clusters(20, 0.5, 1)
    within = sum((x[y == c] - x[y == c].mean(0)).square().sum().item() for c in range(4))
    between = sum(20 * (x[y == c].mean(0) - x.mean(0)).square().sum().item() for c in range(4))
    assert spread_ratio(class_moments(x, y, 4, covariance=True)).item() == pytest.approx(within / between, rel=1e-5)


def test_probe_gap_sees_what_was_learnt_by_heart() -> None:
    noise = torch.randn(40, 60, generator=torch.Generator().manual_seed(1))  # more features than samples: anything can be fitted
    other = torch.randn(400, 60, generator=torch.Generator().manual_seed(2))
    assert probe_gap(noise, torch.arange(40) % 4, other, torch.arange(400) % 4, 4) > 0.4
    same = clusters(50, 0.3, 1), clusters(50, 0.3, 2)
    assert abs(probe_gap(*same[0], *same[1], 4)) < 0.05


@pytest.mark.parametrize(
    ("name", "shape", "layers"),
    [
        ("small_cnn", (1, 8, 8), ["stage1", "stage2", "stage3", "penultimate"]),
        ("mlp", (1, 8, 8), ["stage1", "stage2", "penultimate"]),
        ("preact_resnet18", (3, 16, 16), ["stage1", "stage2", "stage3", "stage4", "penultimate"]),
    ],
)
def test_layers_have_names_and_unknown_ones_list_them(name: str, shape: tuple[int, ...], layers: list[str]) -> None:
    from ro_fast.config import ModelConfig

    model = build_model(ModelConfig(name=name, width=8), shape, 3, [0.5] * shape[0], [0.2] * shape[0]).eval()
    reader = FeatureReader(model)
    assert reader.layers == layers
    x = torch.rand(2, *shape)
    logits, features = reader(x)
    torch.testing.assert_close(logits, model(x))
    torch.testing.assert_close(features["penultimate"], model.features(x))
    assert all(f.shape[0] == 2 and f.dim() == 2 and not f.requires_grad for f in features.values())
    with pytest.raises(InputError, match=r"no layer 'stage9'; it has: stage1"):
        FeatureReader(model, ["stage9"])


def test_a_run_measures_features_without_changing_a_digit_of_training(tmp_path: Path) -> None:
    plain = train(small(tmp_path / "plain"))
    watched = train(small(tmp_path / "watched", features__every=2, features__size=40, features__layers=["stage2"]))
    assert [epoch.features is not None for epoch in watched] == [True, False, True, True]  # every second epoch and the last
    stripped = [replace(epoch, feature_gap=None, feature_gap_natural=None, features=None) for epoch in watched]
    assert without_seconds(stripped) == without_seconds(plain)
    assert set(watched[0].features) == {"stage2", "penultimate"}
    assert watched[0].feature_gap == watched[0].features["penultimate"]["adversarial"]["feature_gap"]
    assert -1 <= watched[-1].feature_gap <= 1 and 0 <= watched[-1].features["stage2"]["both"]["cka_test"] <= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features__layers": ["stage7"]}, "no layer 'stage7'; it has: stage1, stage2, stage3, penultimate"),
        ({"features__size": 5}, "features.size = 5 should be at least 20"),
        ({"features__every": -1}, "features.every = -1"),
    ],
)
def test_bad_features_are_told(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        train(small(tmp_path / "run", **{"features__every": 1, **changes}))
    assert not (tmp_path / "run" / "last.pt").exists()


def test_sample_history_counts_by_hand(tmp_path: Path) -> None:
    history = SampleHistory.empty(3, torch.device("cpu"))
    answers = [[0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    losses = [[4.0, 1.0, 5.0], [1.0, 3.0, 5.0], [0.5, 0.5, 4.0], [2.0, 0.5, 3.0]]
    for epoch, (right, loss) in enumerate(zip(answers, losses, strict=True)):
        for index in (torch.tensor([2, 0]), torch.tensor([1])):  # in batches, in any order
            history.update(epoch, index, torch.tensor(right, dtype=torch.bool)[index], torch.tensor(loss)[index])
    assert history.forgotten.tolist() == [1, 1, 0] and history.learnt.tolist() == [1, 0, -1]
    assert history.memorisation.tolist() == [7.5 / 4, 5 / 4, 17 / 4] and history.last_loss.tolist() == [2.0, 0.5, 3.0]
    history.save(tmp_path / "samples.npz")
    found = summarise_samples(tmp_path / "samples.npz", torch.tensor([False, False, True]))
    assert found == SampleSummary(2 / 3, 1 / 3, memorisation_auc=1.0)
    assert summarise_samples(tmp_path / "samples.npz", None).memorisation_auc is None


def test_perturbations_of_one_model_agree_with_themselves() -> None:
    torch.manual_seed(0)
    model, other = (nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(2))
    x, y = torch.rand(30, 1, 4, 4), torch.arange(30) % 3
    attack = PGD(eps=0.1, alpha=0.03, steps=5)
    same = compare_perturbations({"a": model, "b": model}, {"test": (x, y)}, attack, 3)["test"]
    assert same["sign_agreement"] == 1 and same["transfer_a_to_b"] == pytest.approx(1)
    assert 0 < same["loss_gain_first_step_a"] <= same["loss_gain_a"] and same["displacement_a"] > 0
    apart = compare_perturbations({"a": model, "b": other}, {"test": (x, y)}, attack, 3)["test"]
    assert apart["sign_agreement"] < 0.9 and apart["transfer_a_to_b"] < 0.9
