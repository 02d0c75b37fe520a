"""The rivals, reimplemented: published loops and the same maths in eager torch. None is held back."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def torchattacks_step(x_adv: Tensor, x: Tensor, grad: Tensor, eps: float, alpha: float) -> Tensor:
    """The L∞ update of torchattacks 3.5.1: step, clamp of the difference, clamp to [0, 1]."""
    x_adv = x_adv.detach() + alpha * grad.sign()
    delta = torch.clamp(x_adv - x, min=-eps, max=eps)
    return torch.clamp(x + delta, min=0, max=1).detach()


def rice_step(delta: Tensor, x: Tensor, grad: Tensor, eps: float, alpha: float) -> Tensor:
    """The L∞ update of Rice et al. 2020: indexed views, clamps of the perturbation, written back into it."""
    every = slice(None)
    d, g, here = delta[every], grad[every], x[every]
    d = torch.clamp(d + alpha * torch.sign(g), min=-eps, max=eps)
    d = torch.max(torch.min(d, 1.0 - here), 0.0 - here)
    delta.data[every] = d
    return delta


def chain_linf(x_adv: Tensor, x: Tensor, grad: Tensor, eps: float, alpha: float) -> Tensor:
    """The leanest eager chain, for Inductor to fuse."""
    return torch.clamp(torch.clamp(x_adv + alpha * grad.sign(), x - eps, x + eps), 0, 1)


def chain_l2(x_adv: Tensor, x: Tensor, grad: Tensor, eps: float, alpha: float) -> Tensor:
    """The L2 update of torchattacks 3.5.1."""
    rows = (-1, 1, 1, 1)
    grad = grad / (torch.norm(grad.flatten(1), p=2, dim=1) + 1e-10).view(rows)
    delta = x_adv + alpha * grad - x
    norms = torch.norm(delta.flatten(1), p=2, dim=1)
    factor = torch.min(eps / norms, torch.ones_like(norms))
    return torch.clamp(x + delta * factor.view(rows), 0, 1)


def moments_by_mask(features: Tensor, labels: Tensor, num_classes: int, covariance: bool) -> tuple[Tensor, ...]:
    """Mean and scatter of each class by a loop over masks, in float64."""
    means, scatters = [], []
    for c in range(num_classes):
        rows = features[labels == c].double()
        means.append(rows.mean(0))
        if covariance:
            centred = rows - means[-1]
            scatters.append(centred.T @ centred)
    return (torch.stack(means), torch.stack(scatters)) if covariance else (torch.stack(means),)


def cka_by_gram(a: Tensor, b: Tensor) -> Tensor:
    """Linear CKA through both centred N×N Gram matrices."""
    a, b = a - a.mean(0), b - b.mean(0)
    k, ell = a @ a.T, b @ b.T
    return (k * ell).sum() / (k.norm() * ell.norm())


def rice_attack(model: nn.Module, x: Tensor, y: Tensor, eps: float, alpha: float, steps: int) -> Tensor:
    """PGD of Rice et al. 2020: in the model's mode, a full backward per step, a forward to choose among a single restart."""
    max_loss, max_delta = torch.zeros(len(y), device=x.device), torch.zeros_like(x)
    delta = torch.zeros_like(x).uniform_(-eps, eps)
    delta.data = torch.max(torch.min(delta, 1.0 - x), 0.0 - x)
    delta.requires_grad = True
    for _ in range(steps):
        F.cross_entropy(model(x + delta), y).backward()
        rice_step(delta, x, delta.grad.detach(), eps, alpha)
        delta.grad.zero_()
    loss = F.cross_entropy(model(x + delta), y, reduction="none")
    better = loss >= max_loss
    max_delta[better] = delta.detach()[better]
    return max_delta


def rice_training_step(optimizer: torch.optim.Optimizer, log: Callable[[float], None]) -> Callable[..., None]:
    """One step of the published loop: attack, training pass, natural forward, and four numbers read for the log."""

    def step(model: nn.Module, x: Tensor, y: Tensor, eps: float, alpha: float, steps: int) -> None:
        model.train()
        delta = rice_attack(model, x, y, eps, alpha, steps).detach()
        robust = model(torch.clamp(x + delta, min=0, max=1))
        robust_loss = F.cross_entropy(robust, y)
        optimizer.zero_grad()
        robust_loss.backward()
        optimizer.step()
        output = model(x)
        loss = F.cross_entropy(output, y)
        log(robust_loss.item() * y.size(0))
        log((robust.max(1)[1] == y).sum().item())
        log(loss.item() * y.size(0))
        log((output.max(1)[1] == y).sum().item())

    return step


def adv_lib_attack(model: nn.Module, x: Tensor, y: Tensor, eps: float, alpha: float, steps: int) -> Tensor:
    """The loop of adv-lib 0.2.8, the leanest eager one: in-place updates, no weight gradients.

    The original returns the last iterate that fooled the model; that choice is made here too, and the last iterate is returned,
    so that it can be compared.
    """
    low, high = torch.maximum(-x, torch.full_like(x, -eps)), torch.minimum(1 - x, torch.full_like(x, eps))
    delta = torch.zeros_like(x, requires_grad=True)
    delta.data.uniform_(-1, 1).mul_(eps)
    delta.data.clamp_(low, high)
    best, found = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(steps):
        x_adv = x + delta
        logits = model(x_adv)
        (grad,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="none").sum(), delta)
        fooled = logits.argmax(1) != y
        best = torch.where(fooled.view(-1, 1, 1, 1), x_adv.detach(), best)
        found.logical_or_(fooled)
        delta.data.add_(grad.sign_(), alpha=alpha)
        delta.data.clamp_(low, high)
    return (x + delta).detach()


def compiled_attack(
    model: nn.Module, eps: float, alpha: float, steps: int, mode: str = "default", backend: str = "inductor"
) -> Callable[[Tensor, Tensor], Tensor]:
    """The strongest attack that torch.compile allows, to our knowledge: eval mode, frozen parameters, one full graph per step.

    The graph contains forward, input gradient and update. If ``mode`` creates CUDA graphs, each step's result is cloned, as their
    outputs are overwritten by the next replay. On a GPU there is a stronger one: ``gpu/session.py``'s ``captured`` makes one CUDA
    graph of all steps of the function returned here, in mode "default".
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    has_graphs = mode not in ("default", "max-autotune-no-cudagraphs")

    def step(x_adv: Tensor, x: Tensor, y: Tensor) -> Tensor:
        grad = torch.func.grad(lambda leaf: F.cross_entropy(model(leaf), y, reduction="sum"))(x_adv)
        return chain_linf(x_adv, x, grad, eps, alpha)

    compiled = torch.compile(step, fullgraph=True, dynamic=False, mode=mode, backend=backend)

    def attack(x: Tensor, y: Tensor) -> Tensor:
        x_adv = (x + eps * torch.empty_like(x).uniform_(-1, 1)).clamp_(0, 1)
        for _ in range(steps):
            if has_graphs:
                torch.compiler.cudagraph_mark_step_begin()
            x_adv = compiled(x_adv, x, y)
            x_adv = x_adv.clone() if has_graphs else x_adv
        return x_adv

    return attack
