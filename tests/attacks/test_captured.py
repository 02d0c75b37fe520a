"""When an attack is captured as one graph, and what happens if it can't be: with a recorder that needs no GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.attacks.engines.captured import _KEPT, Captured

choose = importlib.import_module("ro_fast.attacks.engines.choose")  # the package has a function of that name


class Recorder:
    """Runs where a GPU would record, restores the buffers, and runs again where a GPU would replay."""

    def __init__(self) -> None:
        self.recorded, self.replayed, self.error = 0, 0, ""

    def __call__(self, run: Callable[[], Tensor], model: nn.Module) -> tuple[Tensor, Callable[[], None]]:
        if self.error:
            raise RuntimeError(self.error)
        self.recorded += 1
        buffers = [(b, b.clone()) for b in model.buffers()]
        result = run()
        for b, before in buffers:
            b.copy_(before)

        def replay() -> None:
            self.replayed += 1
            result.copy_(run())

        return result, replay


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    engine = Captured(choose.stepwise, recorder, "cpu")
    monkeypatch.setattr(choose, "CAPTURED", engine)
    monkeypatch.setitem(choose.ENGINES, "captured", engine)
    monkeypatch.setitem(choose.AUTO, "cpu", choose.AUTO["cuda"])
    return recorder


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()


def batch(n: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(n)
    x, noise = (torch.rand(n, 2, 6, 6, generator=draw, dtype=torch.float64) for _ in range(2))
    return x, torch.arange(n) % 3, 2 * noise - 1


def test_a_kind_of_attack_is_captured_when_it_comes_again(recorder: Recorder, model: nn.Module) -> None:
    attack, (x, y, noise) = PGD(0.1, 0.03, 3), batch()
    assert "for the first time" in attack.explain(model, x)  # and asking does not count
    found = [attack(model, x, y, noise=noise) for _ in range(3)]
    assert (recorder.recorded, recorder.replayed) == (1, 2) and attack.explain(model, x).startswith("engine: captured")
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-12)
    attack(model, *batch(5)[:2])
    assert recorder.recorded == 1  # another shape comes for the first time


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_a_captured_attack_takes_the_steps_of_eager_with_the_weights_and_budgets_as_they_are(
    bn: str, recorder: Recorder, model: nn.Module
) -> None:
    x, y, noise = batch()
    other = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    for i, eps in enumerate([0.1, 0.1, 0.05, torch.tensor([0.02, 0.1, 0.2, 0.0], dtype=torch.float64)]):
        other.load_state_dict(model.state_dict())
        expected = PGD(0.1, 0.03, 3, bn=bn, engine="eager")(other, x, y, eps=eps, noise=noise)
        found = PGD(0.1, 0.03, 3, bn=bn, engine="captured")(model, x, y, eps=eps, noise=noise)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        for ours, theirs in zip(model.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        with torch.no_grad():
            model[0].weight.mul_(-1.1)
        assert (recorder.recorded, recorder.replayed) == (1, i + 1)


def test_what_cannot_be_captured_runs_step_by_step_and_is_told_once(
    recorder: Recorder, model: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    attack, (x, y, noise) = PGD(0.1, 0.03, 3), batch()
    recorder.error = "CUDA out of memory. Tried to allocate 2 GiB"
    found = [attack(model, x, y, noise=noise) for _ in range(4)]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-12)
    assert sum("could not be captured: CUDA out of memory" in record.message for record in caplog.records) == 1
    assert attack.explain(model, x).startswith("engine: fused") and "out of memory" in attack.explain(model, x)


def test_graphs_and_losses_made_anew_are_limited(recorder: Recorder, model: nn.Module) -> None:
    for n in range(2, 2 + _KEPT + 2):
        for _ in range(2):
            PGD(0.1, 0.03, 1)(model, *batch(n)[:2])
    assert recorder.recorded == _KEPT
    assert "are already captured" in PGD(0.1, 0.03, 1).explain(model, batch(40)[0])
    for _ in range(100):
        PGD(0.1, 0.03, 1, loss=lambda logits, y: logits.sum(1))(model, *batch()[:2])
    assert len(choose.CAPTURED._kinds[model]) <= _KEPT + 32 and recorder.recorded == _KEPT


class Flagged(nn.Module):
    """Its computation depends on an attribute, which a replay would not look at."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.sign = inner, 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.sign * self.inner(x)


@pytest.mark.parametrize("engine", ["auto", "captured"])
def test_a_change_that_a_replay_would_not_see_is_captured_anew(engine: str, recorder: Recorder, model: nn.Module) -> None:
    flagged, attack, (x, y, noise) = Flagged(model), PGD(0.1, 0.03, 3, engine=engine), batch()
    for sign in (1.0, -1.0):
        flagged.sign = sign
        for _ in range(3):
            expected = PGD(0.1, 0.03, 3, engine="eager")(flagged, x, y, noise=noise)
            torch.testing.assert_close(attack(flagged, x, y, noise=noise), expected, rtol=0, atol=1e-12)
    assert recorder.recorded == 2


def test_hooks_and_networks_that_are_not_proven_are_not_captured(recorder: Recorder, model: nn.Module) -> None:
    attack, (x, y, noise) = PGD(0.1, 0.03, 2), batch()
    for _ in range(3):
        PGD(0.1, 0.03, 2, bn="train")(model, x, y, noise=noise)
    assert recorder.recorded == 0 and "captured automatically only if" in PGD(bn="train").explain(model, x)
    model[0].register_forward_hook(lambda module, inputs, output: None)
    for _ in range(3):
        attack(model, x, y, noise=noise)
    assert recorder.recorded == 0 and "which a graph replay would not call" in attack.explain(model, x)
