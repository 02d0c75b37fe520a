"""Evaluation of models and checkpoints: accuracies, warnings, written files, and messages on bad input."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ro_fast.attacks import masking
from ro_fast.config import DataConfig, EvaluateConfig, ExportConfig, ModelConfig, TrainConfig, changed
from ro_fast.errors import InputError
from ro_fast.evaluation.checkpoints import Evaluated, evaluate_checkpoint, read_evaluation, settings_of, table
from ro_fast.evaluation.evaluate import Evaluation, Hooks, evaluate_model
from ro_fast.evaluation.levels import LEVELS, Settings, work

pytest.importorskip("scipy")
EPS = 0.12
QUICK = Settings(steps=8, apgd_steps=8, targets=2, queries=40, masking=False)
Problem = tuple[nn.Module, Tensor, Tensor]


@pytest.fixture(scope="module")
def some(robust_digits: Problem) -> Problem:
    return robust_digits[0], robust_digits[1][:200], robust_digits[2][:200]


class Wrapped(nn.Module):
    """A model surrounded by other layers."""

    def __init__(self, model: nn.Module, before=lambda x: x, after=lambda z: z) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.model(self.before(x)))


def test_a_model_in_train_mode_is_evaluated_and_left_so(some: Problem) -> None:
    model, x, y = some
    stages = {}
    hooks = Hooks(on_stage=lambda stage: stages.update({stage.name: stage}))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = evaluate_model(model.train(), x, y, EPS, settings=QUICK, hooks=hooks)
    assert all(module.training for module in model.modules()) and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.eval().state_dict().items())
    with torch.no_grad():
        assert found.natural.acc == (model(x).argmax(1) == y).double().mean().item()
    assert list(stages) == ["natural", "pgd", "cw", "apgd_ce", "apgd_t", "square"]
    assert found.cascade["apgd_ce"].tried == int((stages["pgd"].robust & stages["cw"].robust).sum())
    assert found.robust_acc <= min(found.pgd.acc, found.cw.acc) < found.natural.acc
    low, high = found.natural.ci95
    assert 0 < low < found.natural.acc < high < 1
    as_json = json.loads(json.dumps(found.as_json()))
    assert as_json["robust_acc"] == found.robust_acc and "not AutoAttack" in as_json["note"]
    stored = evaluate_model(model, (x * 255).round().byte(), y, EPS, settings=QUICK, hooks=Hooks(known=stages))
    assert numbers(stored) == numbers(found)  # known stages are not run again


def numbers(found: Evaluation) -> list[tuple[float, int]]:
    return [(r.acc, r.broken) for r in (found.natural, found.pgd, found.cw, *found.cascade.values())]


def test_the_seed_decides(some: Problem) -> None:
    model, x, y = some
    again = [evaluate_model(model, x, y, EPS, settings=dataclasses.replace(QUICK, batch_size=b)) for b in (64, 200)]
    assert numbers(again[0]) == numbers(again[1])


def test_an_honest_model_is_not_warned_about(some: Problem) -> None:
    model, x, y = some
    for eps, norm in ((EPS, "linf"), (0.5, "l2")):
        assert masking.gradient_masking(model, x[:100], y[:100], eps, norm=norm) == []


def test_masked_gradients_are_warned_about(some: Problem) -> None:
    model, x, y = some[0], some[1][:100], some[2][:100]
    quantised = masking.Probe(Wrapped(model, before=lambda x: (x * 4).round() / 4), x, y, EPS, "linf")
    assert "zero or not finite at 100%" in masking.vanishing(quantised)
    assert masking.huge_radius(quantised).startswith("PGD at a radius of 0.5")
    assert masking.black_box(quantised, 100).startswith("Square, which uses no gradients")
    saturated = masking.Probe(Wrapped(model, after=lambda z: z * 1e4), x, y, EPS, "linf")
    assert "zero or not finite" in masking.vanishing(saturated)
    constant = masking.Probe(Wrapped(model, after=lambda z: z * 0 + torch.arange(10.0)), x, y, EPS, "linf")
    loss = nn.functional.cross_entropy(torch.arange(10.0).expand(100, 10), y).item()
    assert f"does not rise with the radius: {loss:.3g} at 0ε" in masking.flat_loss(constant)
    softmax = Wrapped(model, after=lambda z: z.softmax(1))
    found = evaluate_model(softmax, x[:30], y[:30], EPS, settings=dataclasses.replace(QUICK, masking=True))
    assert any("probabilities, not logits" in w for w in found.warnings)


@pytest.mark.parametrize(("width", "words"), [(0.12, "one gradient step leaves 0.0%"), (0.03, "twenty steps leave"), (0.0, None)])
def test_a_surface_that_misleads_is_warned_about(width: float, words: str | None) -> None:
    """Towards the border, at 0.15 from the images, a ridge of the margin turns back steps shorter than its width."""

    def ridge(x: Tensor) -> Tensor:
        moved = x - 0.5
        rising = (moved > 0.03) & (moved < 0.03 + width)
        margin = torch.where(rising, 1 + moved, 1 - moved) - 2.0 * (moved > 0.15)
        return torch.cat([margin, 0 * margin], 1)

    x, y = torch.full((200, 1), 0.5), torch.zeros(200, dtype=torch.int64)
    found = masking.steps(masking.Probe(ridge, x, y, 0.2, "linf"))
    assert [words in warning for warning in found].count(True) == 1 if words else found == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m, x, y: (m, x.expand(-1, 3, -1, -1), y, EPS), "can't take inputs"),
        (lambda m, x, y: (m, x * 2, y, EPS), "before any normalisation"),
        (lambda m, x, y: (m, x * torch.nan, y, EPS), "must lie in"),
        (lambda m, x, y: (m, x, y + 5, EPS), "but the model has 10 classes"),
        (lambda m, x, y: (m, x, y[:3], EPS), "one label per sample"),
        (lambda m, x, y: (m, x, y.float(), EPS), "int64"),
        (lambda m, x, y: (m, x, y, 8.0), "8/255"),
        (lambda m, x, y: (Wrapped(m, after=lambda z: z * torch.inf), x, y, EPS), "NaN or infinity"),
        (lambda m, x, y: (Wrapped(m, after=lambda z: z[:, 0]), x, y, EPS), "logits \\[N, C\\]"),
    ],
)
def test_what_does_not_fit_is_told(some: Problem, change, words: str) -> None:
    model, x, y, eps = change(*some)
    with pytest.raises(InputError, match=words):
        evaluate_model(model, x, y, eps, settings=QUICK)


# -- Checkpoints -------------------------------------------------------------------------------------------------------

ATTACKS = {"samples": 60, "steps": 2, "apgd_steps": 3, "targets": 1, "queries": 5, "masking": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ro_fast.training.trainer import train

    folder = tmp_path_factory.mktemp("runs") / "東京 run"
    settings = {"data.name": "digits", "data.train_size": 100, "model.width": 4, "attack.steps": 1, "attack.eps": 0.05}
    train(changed(TrainConfig(), {**settings, "trainer.epochs": 2, "out": str(folder)}))
    return folder


def evaluated(checkpoint: Path, out: Path, **options) -> Evaluated:
    return evaluate_checkpoint(EvaluateConfig(checkpoint=str(checkpoint), out=str(out), **{**ATTACKS, **options}))


def test_a_run_is_evaluated_and_goes_on_where_it_was(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ro_fast.evaluation import evaluate

    found = evaluated(run, tmp_path / "whole")
    assert list(found.models) == ["best", "last"] and found.models["last"].eps == 0.05
    assert read_evaluation(tmp_path / "whole" / "evaluation.json") == found

    attack, calls = evaluate.cascade, []

    def interrupted(*arguments, **options):
        calls.append(list(arguments[3]))
        if calls[-1] == ["apgd_t"]:
            raise KeyboardInterrupt
        return attack(*arguments, **options)

    monkeypatch.setattr(evaluate, "cascade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluated(run / "last.pt", tmp_path / "part")
    monkeypatch.setattr(evaluate, "cascade", lambda *a, **o: calls.append(list(a[3])) or attack(*a, **o))
    calls.clear()
    resumed = evaluated(run / "last.pt", tmp_path / "part")
    assert calls == [["apgd_t"], ["square"]]
    assert accuracies(resumed.models["last"]) == accuracies(found.models["last"])
    with pytest.raises(InputError, match=r"another evaluation \(eps: 0.05 there, 0.1 requested\)"):
        evaluated(run / "last.pt", tmp_path / "part", eps=0.1)


def accuracies(found: Evaluation) -> list[float]:
    return [found.natural.acc, found.pgd.acc, found.cw.acc, *(result.acc for result in found.cascade.values())]


def test_levels_try_harder_and_say_beforehand_how_long_they_take(run: Path, tmp_path: Path, caplog) -> None:
    quick, standard, full = (settings_of(EvaluateConfig(level=level)) for level in LEVELS)
    assert full == Settings()
    for easier, harder in ((quick, standard), (standard, full)):
        assert all(work(easier, 10)[name] <= work(harder, 10)[name] for name in work(full, 10))
    assert settings_of(EvaluateConfig(level="quick", steps=7)) == replace(quick, steps=7)
    with pytest.raises(InputError, match="level 'hard' is unknown; available: quick, standard, full"):
        settings_of(EvaluateConfig(level="hard"))
    with caplog.at_level("INFO", "ro_fast"):
        evaluated(run / "last.pt", tmp_path)
        assert re.search(r"last.pt: 60 samples, about \d+:\d\d at most \(level: quick \d+:\d\d, standard .*, full ", caplog.text)
        caplog.clear()
        evaluated(run / "last.pt", tmp_path)
        assert "at most" not in caplog.text  # nothing is left to do


@pytest.mark.parametrize("eps", [8, 1e30])
def test_a_radius_that_is_none_is_told_before_anything_is_measured(eps: float, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is wider than the input range"):
        evaluated(run / "last.pt", tmp_path, eps=eps)


def test_classes_add_up_to_the_whole(run: Path, tmp_path: Path) -> None:
    (found,) = evaluated(run / "last.pt", tmp_path).models.values()
    assert sum(one.samples for one in found.by_class) == found.samples and len(found.by_class) == 10
    assert sum(one.samples * one.robust_acc for one in found.by_class) == pytest.approx(found.samples * found.robust_acc)
    shares = [one.robust_acc for one in found.by_class]
    assert shares == sorted(shares) and all(one.ci95[0] <= one.robust_acc <= one.ci95[1] for one in found.by_class)
    assert "least robust classes, last: " in table(evaluated(run / "last.pt", tmp_path))


def test_export_can_be_loaded_and_evaluated_again(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from ro_fast.evaluation.export import export
    from ro_fast.evaluation.load import load_model

    found = evaluated(run, tmp_path / "evaluation")
    file = str(tmp_path / "evaluation" / "evaluation.json")
    out = export(ExportConfig(checkpoint=str(run / "last.pt"), evaluation=file, out=str(tmp_path / "exported")))
    weights = torch.load(run / "last.pt", weights_only=True)["model"]
    loaded = load_model(out / "model.safetensors")
    assert not loaded.training
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    card = (out / "README.md").read_text(encoding="utf-8")
    last = found.models["last"]
    assert f"| square | {last.robust_acc:.4f} |" in card and "ε = 0.05" in card and "after 2" in card
    again = evaluated(out / "model.safetensors", tmp_path / "again").models["model"]
    assert accuracies(again) == accuracies(last)
    torch.save(weights, tmp_path / "weights.pt")
    digits, small = DataConfig(name="digits", train_size=100), ModelConfig(width=4)
    bare = evaluated(tmp_path / "weights.pt", tmp_path / "bare", data=digits, model=small, eps=0.05).models["weights"]
    assert accuracies(bare) == accuracies(last)


def test_bad_checkpoints_are_one_sentence(run: Path, tmp_path: Path) -> None:
    import numpy as np

    def npz(channels: int, classes: int) -> DataConfig:
        path = tmp_path / f"{channels}-{classes}.npz"
        x, y = np.zeros((60, channels, 8, 8), np.float32), np.arange(60) % classes
        np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
        return DataConfig(name="npz", path=str(path))

    (tmp_path / "cut.pt").write_bytes((run / "last.pt").read_bytes()[:2000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 50)
    torch.save(torch.load(run / "last.pt", weights_only=True)["model"], tmp_path / "bare.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    cases = [
        ("nowhere.pt", {}, "does not exist"),
        (".", {}, "neither best.pt nor last.pt"),
        ("cut.pt", {}, "is truncated"),
        ("cut.safetensors", {}, "is truncated|pip install"),
        ("list.pt", {}, "no weights"),
        ("bare.pt", {}, "give data="),
        (str(run), {"data": npz(3, 10)}, "trained for 1 channels but data npz has 3"),
        (str(run), {"data": npz(1, 4)}, "trained for 10 classes but data npz has 4"),
        (str(run), {"model": ModelConfig(width=8)}, "model.width"),
        (str(run), {"model": ModelConfig(name="mlp")}, "is not a 'mlp'"),
        (str(run), {"samples": 10**6}, "test images here, as the run took a part of them; for all, add data=digits"),
        (str(run), {"queries": 0}, "queries = 0"),
    ]
    for name, options, words in cases:
        with pytest.raises(InputError, match=words) as error:
            evaluated(tmp_path / name, tmp_path / "out", **options)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out" / "evaluation.json").exists()
