"""Methods: the samples and inputs that make up a step's loss."""

from __future__ import annotations

import contextlib
import inspect
import itertools

import pytest
import torch
from helpers.steps import gradients, make_step
from torch import Tensor, nn

from ro_fast.attacks import engines
from ro_fast.benchmarks.faulty.files import HOSTILE
from ro_fast.config import SmallLossConfig, TrainConfig
from ro_fast.errors import InputError
from ro_fast.methods import METHODS, Remembered, Step, build_method, build_objective, small_loss_mask
from ro_fast.methods.options import COMMON, OPTIONS
from ro_fast.training.validate import check


def expected(name: str, step: Step) -> Tensor:
    """The loss each method should give, by definition, with loops over samples."""
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
    if name == "mlcat_loss_scaling":
        return sum(loss * (1.2 / loss.item()) if s else loss for loss, s in zip(adversarial, small, strict=True)) / 16
    x = step.x_adv.clone()
    for n in range(16):
        if small[n]:
            x[n] = step.x[n]
            if name == "foreign_perturbation":
                x[n] = (step.x[n] + step.x_adv[n - 1] - step.x[n - 1]).clamp(0, 1)
    return ce(step.model(x), step.y).mean()


@pytest.mark.parametrize(
    "name",
    ["baseline", "data_and_perturbation", "large_loss_removal", "mlcat_loss_scaling", "perturbation", "foreign_perturbation"],
)
def test_loss_is_the_definition(name: str) -> None:
    step = make_step()
    torch.testing.assert_close(METHODS[name].loss(step), expected(name, make_step()))


def test_undetached_loss_scaling_acts_as_removal() -> None:
    """The released code's scaled loss is a constant, so its gradient is that of leaving small-loss samples out."""
    scaled, removed = make_step(), make_step()
    torch.testing.assert_close(
        gradients(scaled, METHODS["mlcat_loss_scaling"].loss(scaled, detach=False)),
        gradients(removed, METHODS["data_and_perturbation"].loss(removed)),
    )


def test_random_removal_takes_as_many_as_are_small_loss() -> None:
    step = make_step()
    loss = METHODS["random_removal"].loss(step)
    small = step.decision.small
    ce = nn.CrossEntropyLoss(reduction="none")(make_step().model(step.x_adv), step.y)
    kept = 16 - int(small.sum())
    rank = torch.rand(16, generator=torch.Generator().manual_seed(1)).argsort().argsort()
    torch.testing.assert_close(loss, ce[rank >= 16 - kept].sum() / 16)
    assert not torch.equal(rank < 16 - kept, small)


def test_random_perturbation_is_noise_of_the_full_radius() -> None:
    step = make_step()
    step.x = step.x * 0.6 + 0.2  # so that no value is clipped
    seen: list[Tensor] = []
    step.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    METHODS["random_perturbation"].loss(step)
    small, delta = step.decision.small, seen[-1] - step.x
    torch.testing.assert_close(delta[small].abs(), torch.full_like(delta[small], 0.1))
    torch.testing.assert_close(seen[-1][~small], step.x_adv[~small])
    assert abs(delta[small].mean()) < 0.05


def test_frozen_perturbation_and_frozen_masks_are_those_of_the_fork() -> None:
    small = torch.arange(16) < 5
    remembered = Remembered(small, torch.full((16, 3, 2, 2), 0.03))
    step = make_step(remembered=remembered)
    seen: list[Tensor] = []
    step.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    METHODS["frozen_perturbation"].loss(step, masks="frozen")
    torch.testing.assert_close(seen[-1][:5], (step.x[:5] + 0.03).clamp(0, 1))
    torch.testing.assert_close(seen[-1][5:], step.x_adv[5:])
    step = make_step(remembered=remembered)
    ce = nn.CrossEntropyLoss(reduction="none")(step.model(step.x_adv), step.y)
    loss = METHODS["data_and_perturbation"].loss(make_step(remembered=remembered), masks="frozen")
    torch.testing.assert_close(loss, ce[5:].sum() / 16)


@pytest.mark.parametrize(("denominator", "lr"), [("all", "as_is"), ("kept", "matched"), ("kept", "as_is"), ("all", "matched")])
def test_denominator_and_matched_rate(denominator: str, lr: str) -> None:
    """The weight of a kept sample's gradient, as a multiple of its share in plain training."""
    step, plain = make_step(), make_step()
    gradient = gradients(step, METHODS["data_and_perturbation"].loss(step, denominator=denominator, lr=lr)) * step.lr_scale
    reference = gradients(plain, METHODS["data_and_perturbation"].loss(plain))
    kept = 1 - step.decision.small.float().mean()
    long = (denominator == "kept") == (lr == "as_is")
    torch.testing.assert_close(gradient, reference / kept if long else reference)


def test_removed_samples_out_of_batchnorm() -> None:
    step = make_step()
    loss = METHODS["data_and_perturbation"].loss(step, removed_in_batchnorm=False)
    other = make_step()
    keep = ~step.decision.small
    logits = other.model(step.x_adv[keep])
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, step.y[keep], reduction="sum") / 16)
    torch.testing.assert_close(step.model.state_dict(), other.model.state_dict())


@pytest.mark.parametrize("options", [{}, {"denominator": "kept"}, {"removed_in_batchnorm": False}, {"lr": "matched"}], ids=str)
def test_a_batch_without_kept_samples_moves_nothing(options: dict) -> None:
    step = make_step(1e9)
    gradient = gradients(step, METHODS["data_and_perturbation"].loss(step, **options))
    assert step.decision.small.all() and (gradient == 0).all()


def test_trades_is_the_definition() -> None:
    """CE(f(x)) + β·KL(f(x) ‖ f(x')), with x' climbing that divergence from the natural output."""
    objective = build_objective({"objective": "trades", "beta": 4.0})
    step = make_step(objective=objective)
    loss = METHODS["baseline"].loss(step)
    model = make_step().model
    adversarial, natural = model(step.x_adv), model(step.x)
    kl = nn.functional.kl_div(adversarial.log_softmax(1), natural.softmax(1), reduction="batchmean")
    torch.testing.assert_close(loss, nn.functional.cross_entropy(natural, step.y) + 4.0 * kl)

    def divergence(x: Tensor) -> Tensor:
        model.eval()
        return nn.functional.kl_div(model(x).log_softmax(1), model(step.x).softmax(1), reduction="batchmean")

    random = (step.x + 0.1 * torch.randn_like(step.x).sign()).clamp(0, 1)
    assert divergence(step.x_adv) > 2 * divergence(random) and (step.x_adv - step.x).abs().max() <= 0.1 + 1e-6


def test_engines_know_the_attack_of_trades_again_from_batch_to_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss created anew for each batch would cause recapture, or recompilation, each time."""
    plans, prepare = [], engines.prepare
    monkeypatch.setattr(engines, "prepare", lambda name, model, x, plan: plans.append(plan) or prepare(name, model, x, plan))
    objective = build_objective({"objective": "trades"})
    for seed in range(2):
        torch.manual_seed(seed)
        step = make_step(attacked=False)
        objective.attack(step.attack, step.model, torch.rand_like(step.x), step.y)
    assert plans[0] == plans[1]


def test_augmentation_mixes_small_loss_images_until_few_are_left() -> None:
    pytest.importorskip("kornia")
    torch.manual_seed(0)

    def step_of(share: float, direction: str = "below") -> tuple[Step, Tensor]:
        step = make_step()
        step.x = torch.rand(16, 3, 2, 2, generator=torch.Generator().manual_seed(3))
        seen: list[Tensor] = []
        step.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
        METHODS["augmentation"].loss(step, share=share, rounds=1, direction=direction)
        return step, seen[-1]

    step, x = step_of(0.0)
    changed = (x - step.x_adv).abs().flatten(1).amax(1) > 1e-6
    assert torch.equal(changed, step.decision.small)
    for share, direction in ((1.0, "below"), (0.0, "above")):
        step, x = step_of(share, direction)
        torch.testing.assert_close(x, step.x_adv)  # that fraction is reached from the start


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


def test_every_option_of_every_method_is_told_and_checked() -> None:
    for name, method in METHODS.items():
        own = {parameter.rstrip("_") for parameter in list(inspect.signature(method.loss).parameters)[1:]}
        assert own <= set(OPTIONS), f"options of {name} that ro_fast/methods/options.py does not tell of: {own - set(OPTIONS)}"


def test_thresholds() -> None:
    loss = torch.tensor([0.1, 1.0, 1.6, 3.0])
    mask = lambda value, unit: small_loss_mask(loss, 10, SmallLossConfig(value, unit)).tolist()  # noqa: E731
    assert mask(1.5, "loss") == [True, True, False, False]
    assert mask(0.7, "ln_c") == [True, True, True, False]  # 0.7·ln 10 = 1.61
    assert mask(0.25, "quantile") == [True, False, False, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "x"}, "attack_strength"),
        ({"name": "perturbation", "eps": 1}, "no option 'eps'; it has: masks, objective, beta"),
        ({"name": "perturbation", "masks": "still"}, "method.masks 'still' is unknown; available: moving, frozen"),
        ({"name": "attack_strength", "eps_ratio": -1}, "method.eps_ratio = -1 should be a number from 0 to"),
        ({"name": "augmentation", "share": 1.5}, "method.share = 1.5 should be a number from 0 to 1"),
        ({"name": "data_and_perturbation", "removed_in_batchnorm": 1}, "should be true or false"),
        ({"name": "baseline", "objective": "x"}, "method.objective 'x' is unknown; available: at, trades"),
        ({"name": "mlcat_loss_scaling", "objective": "trades"}, "should be at"),
    ],
)
def test_unknown_names_list_the_known(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_method(options)


@pytest.mark.parametrize("name", METHODS)
def test_any_value_of_an_option_is_taken_or_refused_in_words(name: str) -> None:
    own = [parameter.rstrip("_") for parameter in list(inspect.signature(METHODS[name].loss).parameters)[1:]]
    for key, value in itertools.product([*own, *COMMON, "start_epoch"], HOSTILE):
        with contextlib.suppress(InputError):
            check(TrainConfig(method={"name": name, key: value}))
