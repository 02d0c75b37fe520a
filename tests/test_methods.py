"""Methods: which samples and inputs the loss of a step is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.config import SmallLossConfig
from ro_fast.errors import InputError
from ro_fast.methods import METHODS, Step, build_method, small_loss_mask
from ro_fast.methods.step import Work


def make_step(value: float = 1.2) -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).train()
    x, y = torch.rand(16, 3, 2, 2), torch.randint(0, 3, (16,))
    attack = PGD(eps=0.1, alpha=0.025, steps=3, generator=torch.Generator().manual_seed(0))
    return Step(model, attack, x, y, SmallLossConfig(value), Work())


def expected(name: str, step: Step) -> Tensor:
    """The loss each method should give, from the definition, with loops over samples."""
    ce = nn.CrossEntropyLoss(reduction="none")
    adversarial = ce(step.model(step.x_adv), step.y)
    small = [loss.item() < 1.2 for loss in adversarial]
    assert 3 <= sum(small) <= 13
    if name == "baseline":
        return adversarial.mean()
    if name == "data_and_perturbation":
        return sum(loss for loss, s in zip(adversarial, small, strict=True) if not s) / 16
    if name == "large_loss_removal":
        return sum(loss for loss, s in zip(adversarial, small, strict=True) if s) / 16
    x = step.x_adv.clone()
    for n in range(16):
        if small[n]:
            x[n] = step.x[n]
    return ce(step.model(x), step.y).mean()


@pytest.mark.parametrize("name", ["baseline", "data_and_perturbation", "large_loss_removal", "perturbation"])
def test_loss_is_the_definition(name: str) -> None:
    step = make_step()
    torch.testing.assert_close(METHODS[name](step), expected(name, make_step()))


def test_attack_strength_widens_the_ball_of_small_loss_samples_only() -> None:
    step = make_step()
    seen: list[Tensor] = []
    step.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    build_method({"name": "attack_strength", "eps_ratio": 3.0})(step)
    size = (seen[-1] - step.x).abs().flatten(1).amax(1)
    small = step.decision.small
    assert (size[~small] <= 0.1 + 1e-6).all()
    assert (size[small] > 0.11).any() and (size[small] <= 0.3 + 1e-6).all()


def test_deciding_leaves_no_trace_on_batchnorm() -> None:
    step = make_step()
    before = {key: value.clone() for key, value in step.model.state_dict().items()}
    step.decide(trains=False)
    assert all(torch.equal(before[key], value) for key, value in step.model.state_dict().items())
    step.decide(trains=True)
    assert not torch.equal(before["2.running_mean"], step.model.state_dict()["2.running_mean"])


def test_thresholds() -> None:
    loss = torch.tensor([0.1, 1.0, 1.6, 3.0])
    mask = lambda value, unit: small_loss_mask(loss, 10, SmallLossConfig(value, unit)).tolist()  # noqa: E731
    assert mask(1.5, "loss") == [True, True, False, False]
    assert mask(0.7, "ln_c") == [True, True, True, False]  # 0.7·ln 10 = 1.61
    assert mask(0.25, "quantile") == [True, False, False, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"name": "x"}, "attack_strength"), ({"name": "perturbation", "eps": 1}, "no option 'eps'; it has: none")],
)
def test_unknown_names_list_the_known(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_method(options)
