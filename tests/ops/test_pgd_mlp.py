"""``pgd_mlp`` takes the same steps as the attack with autograd, and ``mlp_layers`` reads the networks that it can attack."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ro_fast.attacks import PGD
from ro_fast.attacks.engines.mlp import NotAnMLP, mlp_layers
from ro_fast.config import ModelConfig
from ro_fast.models import build_model
from ro_fast.ops import backends, pgd_mlp
from ro_fast.testing import backends_for

RUNNING = [name for name, reason in backends_for("pgd_mlp").items() if reason is None]
FAST = [name for name in RUNNING if name != "triton"]  # without the interpreter


def sequential(widths: tuple[int, ...], seed: int = 0, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [m for i, o in pairwise(widths) for m in (nn.Linear(i, o, bias=bias), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).double()


def batch(n: int, *shape: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, noise = (torch.rand(n, *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return x, torch.randint(classes, (n,), generator=generator), 2 * noise - 1


def assert_same_trajectory(model: nn.Module, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor | None, **budget) -> None:
    """After one step and after all, where the attack with autograd takes the model as it is."""
    weights, biases = mlp_layers(model, x)
    eps, alpha = budget["eps"], budget["alpha"]
    for k in (1, budget["steps"]):
        attack = PGD(eps=1.0, alpha=alpha, steps=k, random_start=noise is not None, engine="eager")
        expected = attack(model, x, y, noise=noise, eps=eps).flatten(1)
        start = None if noise is None else noise.flatten(1)
        # A radius passed to the call scales the attack's step length.
        found = pgd_mlp(x.flatten(1), y, weights, biases, start, eps=eps, alpha=eps * alpha, steps=k)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", RUNNING)
@pytest.mark.parametrize("widths", [(40, 10), (9, 31, 5), (2, 64, 64, 2), (33, 17, 13, 12, 11, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_takes_the_steps_of_the_attack(widths: tuple[int, ...], bias: bool, backend: str) -> None:
    x, y, noise = batch(37, widths[0], classes=widths[-1])
    eps = torch.linspace(0, 0.4, 37, dtype=torch.float64)
    with backends.use_backend(backend):
        for radius, first in ((0.2, None), (eps, noise)):
            assert_same_trajectory(sequential(widths, bias=bias), x, y, first, eps=radius, alpha=0.3, steps=6)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(1, 40), st.integers(0, 2**31))
def test_any_depth_and_width(widths: list[int], n: int, seed: int) -> None:
    x, y, noise = batch(n, widths[0], classes=widths[-1], seed=seed)
    for name in FAST:
        with backends.use_backend(name):
            assert_same_trajectory(sequential(tuple(widths), seed), x, y, noise, eps=0.2, alpha=0.4, steps=3)


@pytest.mark.parametrize("backend", RUNNING)
def test_a_sample_does_not_depend_on_its_batch(backend: str) -> None:
    model = sequential((20, 15, 4)).float()
    x, y, noise = batch(35, 20, classes=4)
    x, noise = x.float(), noise.float()
    with backends.use_backend(backend):
        attack = lambda i: pgd_mlp(x[i], y[i], *mlp_layers(model, x), noise[i], eps=0.1, alpha=0.03, steps=5)  # noqa: E731
        alone = torch.cat([attack(slice(i, i + 1)) for i in (0, 15, 16, 34)])
        torch.testing.assert_close(attack(slice(None))[[0, 15, 16, 34]], alone, rtol=0, atol=0 if backend == "native" else 1e-6)


W, X, Y = [torch.rand(4, 3), torch.rand(2, 4)], torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 1])
BUDGET = {"eps": 0.1, "alpha": 0.03, "steps": 2}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pgd_mlp(X, Y, W, None, None, **{**BUDGET, "eps": 8}), r"eps = 8 .*8/255"),
        (lambda: pgd_mlp(X, Y, W, None, None, **{**BUDGET, "eps": torch.ones(4)}), r"eps has shape \[4\].*5 samples"),
        (lambda: pgd_mlp(X, Y, W, None, None, **{**BUDGET, "steps": -1}), "steps = -1"),
        (lambda: pgd_mlp(X, Y, W[1:], None, None, **BUDGET), r"weights\[0\] has shape \[2, 4\]; \[out, 3\]"),
        (lambda: pgd_mlp(X, Y, [W[0], W[0]], None, None, **BUDGET), r"weights\[1\] has shape \[4, 3\]; \[out, 4\]"),
        (lambda: pgd_mlp(X, Y, W, [None], None, **BUDGET), "2 weights and 1 biases"),
        (lambda: pgd_mlp(X, Y, [], [], None, **BUDGET), "0 weights"),
        (lambda: pgd_mlp(X, Y, W, [None, torch.rand(3)], None, **BUDGET), r"biases\[1\] has shape \[3\]; \[2\]"),
        (lambda: pgd_mlp(X, Y, [w.double() for w in W], None, None, **BUDGET), r"weights\[0\] is torch.float64, x is"),
        (lambda: pgd_mlp(X, Y.int(), W, None, None, **BUDGET), "int32; torch.int64"),
        (lambda: pgd_mlp(X, Y[:2], W, None, None, **BUDGET), r"y has shape \[2\]"),
        (lambda: pgd_mlp(X, Y, W, None, X[:2], **BUDGET), r"noise has shape \[2, 3\]"),
        (lambda: pgd_mlp(X.view(5, 3, 1), Y, W, None, None, **BUDGET), r"\[5, 3, 1\]; \[N, D\]"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_told(call: object, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("name", FAST)
def test_a_label_out_of_range_is_no_silent_result(name: str) -> None:
    with backends.use_backend(name), pytest.raises((RuntimeError, IndexError)):
        pgd_mlp(X, Y + 1, W, None, None, **BUDGET)


# -- reading a network -------------------------------------------------------------------------------------------------


def test_the_mlp_of_this_project_is_read_with_its_normalisation() -> None:
    torch.manual_seed(1)
    for shape, mean, std in (((3, 4, 4), [0.4, 0.5, 0.6], [0.2, 0.3, 0.1]), ((7,), [0.3], [0.7])):
        model = build_model(ModelConfig(name="mlp", width=2), shape, 5, mean, std).double().eval()
        x, y, noise = batch(6, *shape, classes=5)
        assert_same_trajectory(model, x, y, noise, eps=0.2, alpha=0.3, steps=4)


def test_layers_that_do_nothing_are_passed_over() -> None:
    layers = nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Identity(), nn.Dropout(0.5), nn.Sequential(nn.Linear(6, 4, bias=False))
    model = nn.Sequential(*layers).double().eval()
    assert_same_trajectory(model, *batch(5, 3, 2, 2, classes=4), eps=0.2, alpha=0.3, steps=3)
    assert len(mlp_layers(nn.Linear(3, 2), X)[0]) == 1


class Written(nn.Module):
    """An MLP whose code no reader of layers would recognise: parametrised, functional, scaled by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(12, 6))
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first((x - 0.5).div(0.25).flatten(1))
        return nn.functional.relu_(h) @ self.weight.t()


def test_a_network_is_an_mlp_by_what_it_computes() -> None:
    torch.manual_seed(3)
    assert_same_trajectory(Written().double().eval(), *batch(5, 3, 2, 2, classes=4), eps=0.2, alpha=0.3, steps=3)


def hooked() -> nn.Module:
    model = nn.Linear(3, 2)
    model.register_forward_hook(lambda module, args, out: 2 * out)
    return model


class Doubled(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), "tanh"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), "two linear layers follow each other without a ReLU"),
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), "a ReLU comes before"),
        (nn.Sequential(nn.Linear(3, 2), nn.ReLU()), "does not end in a linear layer"),
        (nn.Sequential(nn.Flatten()), "does not end in a linear layer"),
        (nn.Sequential(nn.Sequential(nn.Dropout(0.5)), nn.Linear(3, 2)), "random numbers"),
        (Doubled(nn.Linear(3, 2)), "does not end in a linear layer"),
        (hooked(), "has hooks"),
    ],
)
def test_what_is_no_mlp_is_told(model: nn.Module, words: str) -> None:
    with pytest.raises(NotAnMLP, match=words):
        mlp_layers(model, X)


def test_a_linear_layer_on_images_that_were_not_flattened_is_no_mlp() -> None:
    with pytest.raises(NotAnMLP, match="not one tensor"):
        mlp_layers(nn.Linear(3, 2), torch.rand(5, 2, 3))
