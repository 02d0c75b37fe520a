"""All steps of PGD on an MLP in one call, against the loops of torchattacks and of Rice et al., and our own eager engine."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ro_fast.attacks import PGD
from ro_fast.attacks.engines.mlp import mlp_layers, trace_mlp
from ro_fast.ops import pgd_mlp

from . import baselines
from .networks import ALPHA, EPS, NO_TORCHATTACKS, STEPS, import_torchattacks
from .operators import no_native, on, timed_backends
from .paired import Row, paired
from .targets import Missing


def mlp_rows() -> Iterator[Row | Missing]:
    """Target C5."""
    targets = {
        (784, 256, 256, 10): ({"must": 1.15, "goal": 1.3}, {"must": 1.7, "goal": 2}),
        (512, 10): ({"must": 1.8, "goal": 2.5}, {"must": 3.5, "goal": 5}),
        (2, 64, 64, 2): ({"must": 2, "goal": 3}, {"must": 3.5, "goal": 5}),
    }
    if "native" not in timed_backends("pgd_mlp"):
        yield Missing("C5", no_native("pgd_mlp"))
        return
    torchattacks = import_torchattacks()
    if torchattacks is None:
        yield Missing("C5", NO_TORCHATTACKS)
    for (widths, (fast, published)), n in itertools.product(targets.items(), (128, 512)):
        layers = [m for i, o in itertools.pairwise(widths) for m in (torch.nn.Linear(i, o), torch.nn.ReLU())]
        model = torch.nn.Sequential(*layers[:-1]).eval()
        x, y = torch.rand(n, widths[0]), torch.randint(widths[-1], (n,))
        check_mlp(model, x, y)
        attack = PGD(EPS, ALPHA, STEPS, engine="eager")

        def fused(x: Tensor, y: Tensor, model: torch.nn.Module, known: tuple = trace_mlp(model, x)) -> Tensor:
            noise = torch.empty_like(x).uniform_(-1, 1)
            return pgd_mlp(x, y, *mlp_layers(model, x, known), noise, eps=EPS, alpha=ALPHA, steps=STEPS)

        rivals = [
            ("Rice attack", partial(baselines.rice_attack, model, x, y, EPS, ALPHA, STEPS), {"target": "C5", **published}),
            ("our eager engine", partial(attack, model, x, y), {}),
        ]
        if torchattacks:
            theirs = torchattacks.PGD(model, EPS, ALPHA, STEPS)
            rivals.append(("torchattacks", partial(theirs, x, y), {"target": "C5", **fast}))
        for name, rival, target in rivals:
            ours = on("native", partial(fused, x, y, model))
            yield paired(f"pgd_mlp, PGD-10 {'-'.join(map(str, widths))}, batch {n}", ours, (name, rival), seconds=2, **target)


def check_mlp(model: torch.nn.Module, x: Tensor, y: Tensor) -> None:
    """From the same start in float64, the rival and we end at the same point."""
    model, x, y = copy.deepcopy(model).double(), x[:40].double(), y[:40]
    torch.manual_seed(1)
    theirs = x + baselines.rice_attack(model, x, y, EPS, ALPHA, STEPS)
    torch.manual_seed(1)
    noise = torch.zeros_like(x).uniform_(-EPS, EPS) / EPS
    ours = pgd_mlp(x, y, *mlp_layers(model, x), noise, eps=EPS, alpha=ALPHA, steps=STEPS)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
