"""PGD: agreement with torchattacks in float64, and a model left as it was found."""

from __future__ import annotations

import copy
import functools
import math

import pytest
import torch
from torch import nn

from ro_fast.attacks import APGD, PGD, Square, cascade, normalised
from ro_fast.errors import InputError
from ro_fast.evaluation.evaluate import evaluate_model
from ro_fast.evaluation.levels import Settings


def make_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(3)
    layers = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(6 * 36, 4)
    return nn.Sequential(*layers).to(dtype)


def make_batch(n: int = 7, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(n, 2, 6, 6, generator=generator, dtype=dtype)
    return x, torch.randint(0, 4, (n,), generator=generator)


def snapshot(model: nn.Module) -> tuple:
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    flags = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    return copy.deepcopy(model.state_dict()), grads, flags


def same(a: tuple, b: tuple) -> bool:
    states = all(torch.equal(a[0][key], b[0][key]) for key in a[0])
    grads = all((g is None) == (h is None) and (g is None or torch.equal(g, h)) for g, h in zip(a[1], b[1], strict=True))
    return states and grads and a[2] == b[2]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_agrees_with_torchattacks(norm: str, seed: int) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).double().eval()
    x, y = torch.rand(9, 3, 8, 8, dtype=torch.float64), torch.randint(0, 5, (9,))
    eps, alpha = (0.1, 0.03) if norm == "linf" else (1.0, 0.3)
    theirs = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    expected = theirs(model, eps=eps, alpha=alpha, steps=7, random_start=False)(x, y)
    found = PGD(eps=eps, alpha=alpha, steps=7, norm=norm, random_start=False)(model, x, y)
    assert not torch.equal(found, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bn", ["eval", "train", "keep"])
def test_model_comes_back_as_it_was(bn: str) -> None:
    model = make_model().train()
    model[1].eval()  # a mixed mode, and a frozen parameter
    model[0].bias.requires_grad_(False)
    x, y = make_batch()
    model(x).sum().backward()
    before = snapshot(model)
    PGD(steps=2, bn=bn)(model, x, y)
    after = snapshot(model)
    if bn == "train":
        assert not torch.equal(before[0]["1.running_mean"], after[0]["1.running_mean"])
        for key in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
            before[0][key] = after[0][key]
    assert same(before, after)


def test_model_comes_back_where_the_attack_fails() -> None:
    model = make_model().train()
    before = snapshot(model)
    with pytest.raises(RuntimeError):
        PGD(steps=1)(model, torch.rand(2, 5, 6, 6), torch.zeros(2, dtype=torch.int64))
    assert same(before, snapshot(model))


def test_samples_do_not_depend_on_their_batch() -> None:
    model, (x, y) = make_model().eval(), make_batch()
    attack = PGD(eps=0.1, alpha=0.03, steps=4, random_start=False)
    alone = torch.cat([attack(model, x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(attack(model, x, y), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_budgets_by_sample_and_the_active_mask(norm: str) -> None:
    model, (x, y) = make_model().eval(), make_batch()
    eps = torch.linspace(0, 0.3, len(x), dtype=torch.float64)
    active = torch.arange(len(x)) != 4
    attack = PGD(eps=0.1, alpha=0.05, steps=5, norm=norm, generator=torch.Generator().manual_seed(0))
    delta = (attack(model, x, y, eps=eps, active=active) - x).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert (size <= eps + 1e-9).all()
    assert size[4] == 0 and size[0] == 0
    assert (size[[2, 3, 5, 6]] > 0.5 * eps[[2, 3, 5, 6]]).all()


def test_restarts_keep_the_strongest_for_each_sample() -> None:
    model, (x, y) = make_model().eval(), make_batch()
    noise = torch.rand(3, *x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loss = nn.CrossEntropyLoss(reduction="none")
    with torch.no_grad():
        single = [loss(model(PGD(eps=0.2, alpha=0.02, steps=1)(model, x, y, noise=n)), y) for n in noise]
        both = loss(model(PGD(eps=0.2, alpha=0.02, steps=1, restarts=3)(model, x, y, noise=noise)), y)
    torch.testing.assert_close(both, torch.stack(single).amax(0))
    assert len({int(i) for i in torch.stack(single).argmax(0)}) > 1


def test_noise_follows_the_generator() -> None:
    model, (x, y) = make_model().eval(), make_batch()
    runs = [PGD(generator=torch.Generator().manual_seed(s))(model, x, y) for s in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_a_loss_of_ones_own_is_climbed() -> None:
    model, (x, y) = make_model().eval(), make_batch()
    attack = PGD(eps=0.1, alpha=0.02, steps=5, random_start=False, loss=lambda logits, y: logits[:, 0])
    with torch.no_grad():
        assert (model(attack(model, x, y))[:, 0] > model(x)[:, 0]).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": 8}, "8/255"),
        ({"eps": -0.1}, "at least 0"),
        ({"eps": math.nan}, "at least 0"),
        ({"alpha": 2}, "2/255"),
        ({"norm": "l1"}, "linf, l2"),
        ({"bn": "off"}, "eval, train, keep"),
        ({"engine": "warp"}, "auto, eager"),
        ({"restarts": 0}, "restarts = 0"),
        ({"loss": "hinge"}, "ce, margin, dlr"),
    ],
)
def test_options_that_do_not_fit_are_told(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PGD(**options)


def test_inference_mode_is_refused_in_words() -> None:
    x, y = make_batch()
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        PGD()(make_model(), x, y)


def test_inputs_beyond_the_range_are_an_error_and_rounding_is_none() -> None:
    model, y = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.arange(4) % 3
    x = torch.rand(4, 3, 2, 2)
    PGD(0.1, 0.03, 2)(model, x - x.amin() - 3e-8, y)
    with pytest.raises(ValueError, match=r"x spans \[-2, .*range is \[0, 1\]; give lo= and hi="):
        PGD(0.1, 0.03, 2)(model, 4 * x - 4 * x.amin() - 2, y)
    with pytest.raises(TypeError, match=r"x is torch.uint8; a tensor of float32"):
        PGD(0.1, 0.03, 2)(model, (255 * x).byte(), y)
    with pytest.raises(TypeError, match="x is ndarray"):
        PGD(0.1, 0.03, 2)(model, x.numpy(), y)


@pytest.mark.parametrize("engine", ["eager", "fused", "auto"])
def test_a_normalised_network_is_attacked_as_its_inputs_were(engine: str) -> None:
    """With inputs s·x + t and the range and budgets scaled alike, the attack equals that on x."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    x, y, noise = torch.rand(5, 3, 2, 2).double(), torch.arange(5) % 3, 2 * torch.rand(5, 3, 2, 2).double() - 1
    scale, shift = 4.0, -2.0
    plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    plain.load_state_dict(inner.state_dict())
    plain[1].weight.data *= scale
    plain[1].bias.data += shift * inner[1].weight.data.sum(1)
    expected = PGD(0.1, 0.03, 4, engine="eager")(plain, x, y, noise=noise)
    attack = PGD(0.1 * scale, 0.03 * scale, 4, engine=engine, lo=shift, hi=shift + scale)
    found = attack(inner, scale * x + shift, y, noise=noise)
    torch.testing.assert_close(found, scale * expected + shift, rtol=0, atol=1e-12)


def test_a_function_over_a_model_leaves_its_statistics_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    for function in (lambda x: model(x) * 2, functools.partial(lambda m, x: m(x), model), model.forward):
        PGD(0.1, 0.03, 2)(function, torch.rand(4, 3, 2, 2), torch.arange(4) % 3)
        assert all(torch.equal(before[name], t) for name, t in model.state_dict().items()) and model[1].training


def test_the_compiled_engine_takes_any_number_of_batch_sizes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    for n in range(1, 11):
        assert PGD(0.1, 0.03, 1, engine="compiled")(model, torch.rand(n, 2, 2), torch.zeros(n, dtype=torch.int64)).shape[0] == n


def by_channel_model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 4)).double().eval()


MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
ATTACKS = {
    "pgd": lambda lo, hi, by: PGD(tuple(0.1 / s for s in by), tuple(0.03 / s for s in by), 4, lo=lo, hi=hi),
    "apgd": lambda lo, hi, by: APGD(tuple(0.1 / s for s in by), 12, lo=lo, hi=hi),
    "square": lambda lo, hi, by: Square(tuple(0.1 / s for s in by), 30, lo=lo, hi=hi),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_budgets_and_ranges_by_channel_are_those_of_the_images_before_normalisation(name: str) -> None:
    """Attacking normalised inputs in normalised units gives the same as attacking the images through the normalisation."""
    model, mean, std = by_channel_model(), *(torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (MEAN, STD))
    x, y = torch.rand(6, 3, 6, 6).double(), torch.arange(6) % 4
    noise = {} if name == "square" else {"noise": 2 * torch.rand(1, 6, 3, 6, 6).double() - 1}
    expected = ATTACKS[name](0, 1, (1, 1, 1))(normalised(model, MEAN, STD), x, y, **noise)
    lo, hi = (tuple((end - m) / s for m, s in zip(MEAN, STD, strict=True)) for end in (0, 1))
    found = ATTACKS[name](lo, hi, STD)(model, (x - mean) / std, y, **noise)
    torch.testing.assert_close(found * std + mean, expected, rtol=0, atol=1e-9)
    assert (expected - x).abs().amax() > 0.09 and expected.amin() >= 0 and expected.amax() <= 1


def test_a_cascade_keeps_to_the_range_by_channel() -> None:
    model, lo, hi = by_channel_model(), (-1.0, 0.0, 2.0), (1.0, 0.5, 3.0)
    x = torch.stack([torch.empty(9, 6, 6).uniform_(a, b) for a, b in zip(lo, hi, strict=True)], 1).double()
    y, seen = model(x).argmax(1), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    options = {"lo": lo, "hi": hi}
    attacks = {"pgd": PGD(0.01, 0.01, 3, **options), "l2": PGD(0.1, 0.1, 3, "l2", **options), "apgd": APGD(0.02, 5, **options)}
    cascade(model, lambda index: x[index], y, {**attacks, "square": Square(0.3, 5, **options)})
    for channel in range(3):
        values = torch.cat(seen)[:, channel]
        assert values.amin() >= lo[channel] and values.amax() <= hi[channel]
    assert len(seen) > len(attacks)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": (0.1, 0.2), "lo": (0, 0, 0)}, "per-channel values differ \\(eps 2, lo 3\\)"),
        ({"eps": (0.1, 0.2, 0.1), "norm": "l2"}, "in L2, eps and alpha must be numbers"),
        ({"eps": (0.1, 8, 0.1)}, "eps = 8 is wider"),
        ({"lo": (0, 1, 0)}, "is empty"),
        ({"eps": ()}, "eps is empty"),
    ],
)
def test_budgets_by_channel_that_do_not_fit_are_told(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PGD(**options)


def test_inputs_that_do_not_fit_a_range_by_channel_are_told() -> None:
    attack = PGD((0.1, 0.2, 0.1), 0.01, 2, lo=(0, 0, 0), hi=(1, 2, 1))
    y = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"eps has 3 values, one per channel, but x has shape \[2, 1, 6, 6\]"):
        PGD((0.1, 0.2, 0.1), 0.01, 2)(by_channel_model(), torch.rand(2, 1, 6, 6).double(), y)
    with pytest.raises(ValueError, match=r"in channel 2 but the input range is \[0, 1\]"):
        attack(by_channel_model(), torch.tensor([0.5, 1.5, 1.5]).double().view(1, 3, 1, 1).expand(2, 3, 6, 6), y)
    with pytest.raises(ValueError, match="create another PGD"):
        attack(by_channel_model(), torch.rand(2, 3, 6, 6).double(), y, eps=0.1)


class Answer(dict):
    """What Hugging Face's models return: a dict whose items are also attributes."""

    __getattr__ = dict.__getitem__


class Wrapped(nn.Module):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.inner, self.wrap = by_channel_model(), wrap

    def forward(self, x: torch.Tensor):
        return self.wrap(self.inner(x))


@pytest.mark.parametrize("engine", ["eager", "fused", "auto"])
@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda z: (z,), None),
        (lambda z: {"logits": z, "loss": None}, None),
        (lambda z: Answer(logits=z, hidden=3 * z), None),
        (lambda z: {"out": z}, None),
        (lambda z: (None, z, 2 * z), 1),
        (lambda z: {"a": -z, "b": z}, "b"),
        (lambda z: {"parts": [z / 2, z / 2]}, lambda answer: sum(answer["parts"])),
    ],
)
def test_logits_are_found_in_what_models_return(wrap, output, engine: str) -> None:
    model, y = Wrapped(wrap), torch.arange(5) % 4
    x, noise = torch.rand(5, 3, 6, 6).double(), 2 * torch.rand(5, 3, 6, 6).double() - 1
    expected = PGD(0.1, 0.03, 4, engine="eager")(model.inner, x, y, noise=noise)
    found = PGD(0.1, 0.03, 4, engine=engine, output=output)(model, x, y, noise=noise)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    quick = Settings(steps=2, apgd_steps=2, queries=2, masking=False)
    evaluated = evaluate_model(model, x, y, 0.1, output=output, settings=quick)
    assert evaluated.natural.acc == (model.inner(x).argmax(1) == y).double().mean().item()


def test_an_answer_without_logits_is_told_with_what_there_is() -> None:
    x, y = torch.rand(2, 3, 6, 6).double(), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"returns dict with the keys 'a', 'b'; logits \[N, C\] are needed: give output="):
        PGD()(Wrapped(lambda z: {"a": z, "b": z}), x, y)
    with pytest.raises(TypeError, match="returns tuple of 2, whose output 3 is missing"):
        PGD(output=3)(Wrapped(lambda z: (z, z)), x, y)
    with pytest.raises(InputError, match="evaluate: the model returns tuple of 2"):
        evaluate_model(Wrapped(lambda z: (z, z)), x, y, 0.1)


class Together(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :4] - x.flatten(1)[:, :4].mean(0)


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :4] + 0.1 * torch.randn(len(x), 4)


@pytest.mark.parametrize(("model", "words"), [(Noisy(), "the model is random"), (Together(), "depend on the rest of its batch")])
def test_models_that_are_random_or_depend_on_the_batch_are_named(model: nn.Module, words: str, caplog) -> None:
    x, y = torch.rand(6, 3, 2, 2), torch.arange(6) % 4
    state = torch.get_rng_state()
    found = evaluate_model(model, x, y, 0.01, settings=Settings(steps=2, apgd_steps=2, queries=2))
    assert any(words in warning for warning in found.warnings)
    torch.set_rng_state(state)
    for _ in range(2):
        PGD(0.1, 0.03, 2)(model, x, y)
    assert sum(words in record.message for record in caplog.records) == 1


def test_a_steady_model_is_not_doubted(caplog) -> None:
    PGD(0.1, 0.03, 2)(by_channel_model(), torch.rand(6, 3, 6, 6).double(), torch.arange(6) % 4)
    assert not [record for record in caplog.records if record.name == "ro_fast" and record.levelname != "INFO"]
