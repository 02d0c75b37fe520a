"""The operators under torch.compile, autocast and torch.func, on every sample they are tested with."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree

from ro_fast.ops import OPS, affine_relu, margin_loss, pgd_step, weighted_cross_entropy
from ro_fast.testing import DIFFERENTIABLE, outputs, samples

WRITING = ("affine_relu", "affine_relu_backward", "winograd_conv")


def equal(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("op", OPS)
def test_compiles_into_one_graph(op: str) -> None:
    for sample in itertools.islice(samples(op), 0, None, 7):
        compiled = torch.compile(lambda args, kwargs: OPS[op](*args, **kwargs), fullgraph=True, backend="aot_eager")
        found = outputs(compiled(sample.args, sample.kwargs))
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(found, outputs(sample.run()), strict=True)), sample
        torch.compiler.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_autocast_changes_no_digit(op: str, dtype: torch.dtype) -> None:
    """Operators compute in at least float32, whatever autocast would use."""
    for sample in samples(op, dtype):
        expected = outputs(sample.run())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = outputs(sample.run())
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num()), sample


@pytest.mark.parametrize("op", sorted(set(OPS) - set(WRITING)))
def test_vmap_is_the_same_call_for_each_entry(op: str) -> None:
    for sample in itertools.islice(samples(op), 0, None, 2):
        leaves, spec = _pytree.tree_flatten((sample.args, sample.kwargs))

        def call(*leaves: object, spec: _pytree.TreeSpec = spec) -> tuple[Tensor, ...]:
            args, kwargs = _pytree.tree_unflatten(leaves, spec)
            return outputs(OPS[op](*args, **kwargs))

        tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        # The first has its batch last, the second is shared, the others have theirs first.
        dims: list[int | None] = [None] * len(leaves)
        dims[tensors[0]] = -1
        for i in tensors[2:]:
            dims[i] = 0
        entries = [[t if d is None else (t if k != 1 or t.dim() == 0 else t.flip(0)) for t, d in zip(leaves, dims, strict=True)]
                   for k in range(3)]  # fmt: skip
        stacked = [e[0] if d is None else torch.stack(e, d) for e, d in zip(zip(*entries, strict=True), dims, strict=True)]
        found = torch.func.vmap(call, tuple(dims))(*stacked)
        equal(found, tuple(torch.stack(each) for each in zip(*(call(*entry) for entry in entries), strict=True)))


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_gradients_of_each_sample_by_vmap_and_grad(op: str) -> None:
    for sample in samples(op):
        reduction = sample.kwargs.get("reduction", "mean")
        if len(sample.args[0]) == 0 or reduction == "none":
            continue
        leaves, spec = _pytree.tree_flatten((sample.args, sample.kwargs))
        at = [isinstance(leaf, Tensor) for leaf in leaves]

        def loss(logits: Tensor, *rest: object, spec: _pytree.TreeSpec = spec, at: list[bool] = at) -> Tensor:
            one = [v[None] if tensor else v for v, tensor in zip((logits, *rest), at, strict=True)]
            args, kwargs = _pytree.tree_unflatten(one, spec)
            return OPS[op](*args, **kwargs)

        found = torch.func.vmap(torch.func.grad(loss), tuple(0 if tensor else None for tensor in at))(*leaves)
        expected = []
        for n in range(len(sample.args[0])):
            logits = leaves[0][n].clone().requires_grad_()
            loss(logits, *(v[n] if tensor else v for v, tensor in zip(leaves[1:], at[1:], strict=True))).backward()
            expected.append(logits.grad)
        equal((found,), (torch.stack(expected),))  # type: ignore[arg-type]


def test_gradients_of_each_model_of_an_ensemble() -> None:
    """vmap over weights: one mean each, with samples of weight 0 in one of them."""
    generator = torch.Generator().manual_seed(0)
    models, x = torch.randn(3, 5, 4, generator=generator), torch.randn(6, 5, generator=generator)
    y, weight = torch.randint(4, (6,), generator=generator), torch.rand(3, 6, generator=generator)
    weight[1] = 0
    for reduction in ("mean", "weighted_mean", "sum"):
        for op in (weighted_cross_entropy, margin_loss):

            def loss(model: Tensor, w: Tensor, op=op, reduction: str = reduction) -> Tensor:
                return op(x @ model, y, w, reduction=reduction)

            found = torch.func.vmap(torch.func.grad(loss))(models, weight)
            for each, model, w in zip(found, models, weight, strict=True):
                model = model.clone().requires_grad_()
                loss(model, w).backward()
                torch.testing.assert_close(each, model.grad)


def test_what_has_no_rule_says_so() -> None:
    z, y = torch.randn(3, 4), torch.tensor([0, 1, 3])
    with pytest.raises(NotImplementedError, match=r"affine_relu: it writes into its arguments.*all samples"):
        torch.func.vmap(lambda x: affine_relu(x)[0])(torch.rand(2, 3, 4))
    with pytest.raises(NotImplementedError, match="pgd_step_out: it writes"):
        torch.func.vmap(lambda x: pgd_step(x, x, x, 0.1, 0.1, out=torch.empty_like(x)))(torch.rand(2, 3, 4))
    gradient = torch.func.grad(lambda z: weighted_cross_entropy(z, y))
    with pytest.raises(NotImplementedError, match="weighted_cross_entropy: it is differentiable only once"):
        torch.func.grad(lambda z: gradient(z).square().sum())(z)
    leaf = z.clone().requires_grad_()
    (first,) = torch.autograd.grad(weighted_cross_entropy(leaf, y), leaf, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiable only once"):
        first.square().sum().backward()
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(lambda z: margin_loss(z, y), (z,), (z,))
