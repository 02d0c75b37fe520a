"""One run trained by several processes, each of which has the network work on its share of every batch.

All processes draw the same batches and the same random numbers, and compute everything but the network alike: augmentation,
masks, thresholds and the loss see whole batches, so that methods need no form of their own for several processes. Only attacks,
forward and backward passes are shared, and their results gathered. BatchNorm takes its statistics over all shares. The steps are
then those of one process, up to the order in which floating-point sums are taken.

torch's DistributedDataParallel is not used, since it averages gradients only where a loss is a mean over each process's own
samples, and not those of ``torch.autograd.grad``, which adversarial weight perturbation takes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ro_fast.attacks import PGD
from ro_fast.ops._torch_private import AnyBatchNorm


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this one is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            dist.barrier()

    def share(self, n: int) -> slice:
        """This process's part of n samples; everything if there are fewer than processes."""
        if n < self.size:
            return slice(0, n)
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def gathered(self, own: Tensor, n: int) -> Tensor:
        """Every process's part of n samples, in order; gradients flow back to where each part came from."""
        return own if n < self.size or self.size == 1 else _Gather.apply(own, n, self)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by their means over the processes, in one exchange."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for t, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            t.copy_(mean.view_as(t))

    def total(self, t: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(t)
        return t


ALONE = World()


def joined(device_type: str) -> World:
    """The processes that torchrun started together with this one, connected; this one alone if it was started otherwise.

    Args:
        device_type: "cuda" connects them by NCCL, each on a GPU of its own, "cpu" by gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if device_type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size())


class _Gather(torch.autograd.Function):
    """Parts [n_r, ...] of every process -> [n, ...]. The gradients that each process then has are averaged, not summed."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, n: int, world: World) -> Tensor:
        ctx.own, ctx.size = world.share(n), world.size
        shares = [World(rank, world.size).share(n) for rank in range(world.size)]
        longest = max(share.stop - share.start for share in shares)
        padded = own.new_zeros((longest, *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(parts, padded)
        return torch.cat([part[: share.stop - share.start] for part, share in zip(parts, shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad[ctx.own] * ctx.size, None, None


class Shared(nn.Module):
    """A network of which each process evaluates its share of a batch: [N, ...] -> [N, C], alike in every process."""

    def __init__(self, network: nn.Module, world: World) -> None:
        super().__init__()
        self.network, self.world = network, world

    def forward(self, x: Tensor) -> Tensor:
        with _together(self.network, self.world, len(x)):
            own = self.network(x[self.world.share(len(x))])
        return self.world.gathered(own, len(x))


@dataclass
class SharedPGD(PGD):
    """PGD of which each process attacks its share of a batch, if it attacks a :class:`Shared` network; same results."""

    world: World = ALONE

    def __call__(
        self,
        model: Callable[[Tensor], Any],
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor | None = None,
        noise: Tensor | None = None,
        active: Tensor | None = None,
    ) -> Tensor:
        """As :class:`PGD`."""
        if not isinstance(model, Shared):
            return super().__call__(model, x, y, eps=eps, noise=noise, active=active)
        noise = self.noise(x) if noise is None else noise  # for the whole batch, as one process draws it
        own, network = self.world.share(len(x)), model.network
        with _together(network, self.world, len(x)) if self.bn != "eval" else contextlib.nullcontext():
            x_adv = super().__call__(
                network,
                x[own],
                y[own],
                eps=eps[own] if isinstance(eps, Tensor) and eps.dim() else eps,
                noise=None if noise is None else noise[own] if noise.dim() == x.dim() else noise[:, own],
                active=None if active is None else active[own],
            )
        return self.world.gathered(x_adv, len(x))


def gradients(model: nn.Module, loss: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of a loss of whole batches, whichever processes computed it."""
    found = torch.autograd.grad(loss, weights)
    if isinstance(model, Shared):
        model.world.average(found)
    return found


# -- BatchNorm over all shares -----------------------------------------------------------------------------------------------


class _Sum(torch.autograd.Function):
    """The sum over the processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        t = t.clone()
        dist.all_reduce(t)
        return t

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


@contextlib.contextmanager
def _together(network: nn.Module, world: World, n: int) -> Iterator[None]:
    """Within, BatchNorm in train mode takes its statistics over the shares of n samples. torch's own does so on GPUs only."""
    shared = 1 < world.size <= n
    norms = [m for m in network.modules() if isinstance(m, AnyBatchNorm) and m.training] if shared else []
    for norm in norms:
        norm.forward = _Joint(norm)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _Joint:
    """The forward of a BatchNorm layer in train mode: (x − μ)/√(σ² + ε)·w + b with μ and σ² over the shares of all processes."""

    def __init__(self, norm: AnyBatchNorm) -> None:
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        norm, others = self.norm, [d for d in range(x.dim()) if d != 1]
        count = torch.tensor([x.numel() / x.shape[1]], dtype=torch.float64, device=x.device)
        dist.all_reduce(count)
        n = count.item()
        along = [1, -1, *[1] * (x.dim() - 2)]
        mean = _Sum.apply(x.sum(others)) / n
        centred = x - mean.view(along)
        variance = _Sum.apply((centred * centred).sum(others)) / n
        if norm.track_running_stats:
            self._move(mean.detach(), variance.detach() * (n / max(n - 1, 1)))
        y = centred * (variance + norm.eps).rsqrt().view(along)
        return y if norm.weight is None else y * norm.weight.view(along) + norm.bias.view(along)

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor) -> None:
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
        norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)
