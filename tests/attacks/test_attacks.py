"""PGD: agreement with torchattacks in float64, and a model that is left as it was found."""

from __future__ import annotations

import copy
import functools
import math

import pytest
import torch
from torch import nn

from ro_fast.attacks import PGD


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
    """With inputs s·x + t and the range and budgets scaled alike, the attack is that on x."""
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
