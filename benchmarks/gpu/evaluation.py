"""Evaluation of a network on surviving samples, compared with our own full run and torchattacks' attacks: G8."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ro_fast.attacks import APGD, PGD, Square, any_step, cascade

from ..evaluation import SURVIVING
from .attacks import network
from .session import Session

Judge = Callable[[], Tensor]  # bool [N], which samples are robust


def against_rivals(session: Session) -> None:
    """G8, at a radius where about 45 % survive.

    The network is untrained, and a sample's class is the one it predicts: the duration of an evaluation depends on how many
    samples survive for how long, not on what was learnt.
    """
    session.precision(tf32=True)
    bench = network(session, 512)
    model, x = bench.last, bench.x_last
    with torch.no_grad():
        model.train()(x)  # gives BatchNorm its statistics
        y = model.eval()(x).argmax(1)
    eps = radius(model, x, y, session.pick(8, 2))
    pairs: dict[str, tuple[str, Judge, Judge]] = {
        "G8/active": ("PGD-20", lambda: pgd(model, x, y, eps, True), lambda: pgd(model, x, y, eps, False))
    }
    pairs |= against_torchattacks(session, model, x, y, eps)
    for key, (name, ours, theirs) in pairs.items():

        def race(key: str = key, name: str = name, ours: Judge = ours, theirs: Judge = theirs) -> None:
            shares = [judge().float().mean().item() for judge in (ours, theirs)]
            if shares[0] > shares[1] + session.pick(0.005, 1.0):
                raise RuntimeError(f"our attack is weaker: it leaves {shares[0]:.1%} robust, but the rival {shares[1]:.1%}")
            session.rows.put("robust", name, ours=shares[0], rival=shares[1])
            times = session.race(name, {"on surviving samples": ours, "rival": theirs}, rounds=5, seconds=3, warm_up=0)
            session.faster(key, name, times, "on surviving samples", "rival")

        session.guarded(f"evaluation: {name}", race)


def pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, drop: bool) -> Tensor:
    """PGD-20 that drops samples once they are broken, or continues with all."""
    return any_step(model, lambda index: x[index], y, PGD(eps, eps / 4, 20), batch_size=256, drop=drop, check_every=4).robust


def radius(model: nn.Module, x: Tensor, y: Tensor, halvings: int) -> float:
    """The radius at which about :data:`SURVIVING` of the samples survive PGD-20, by bisection."""
    low, high = 0.0, 0.5
    for _ in range(halvings):
        eps = (low + high) / 2
        low, high = (eps, high) if pgd(model, x, y, eps, True).float().mean() > SURVIVING else (low, eps)
    return eps


def against_torchattacks(
    session: Session, model: nn.Module, x: Tensor, y: Tensor, eps: float
) -> dict[str, tuple[str, Judge, Judge]]:
    """APGD-CE, and a cascade of it, APGD-T and Square, with as many steps and queries as theirs."""
    import torchattacks

    steps, few, queries = session.pick(50, 2), session.pick(20, 1), session.pick(500, 5)
    attacks = {"APGD-CE": APGD(eps, steps), "APGD-T": APGD(eps, few, loss="dlr_targeted"), "Square": Square(eps, queries)}
    rivals = [
        torchattacks.APGD(model, eps=eps, steps=steps),
        torchattacks.APGDT(model, eps=eps, steps=few, n_classes=10),
        torchattacks.Square(model, eps=eps, n_queries=queries, loss="margin"),
    ]

    def ours(count: int) -> Tensor:
        some = dict(list(attacks.items())[:count])
        return cascade(model, lambda index: x[index], y, some, batch_size=256)[-1].robust

    def theirs(count: int) -> Tensor:
        """As in AutoAttack: samples broken by an attack are left out of the next one, not of its own steps."""
        robust = torch.ones_like(y, dtype=torch.bool)
        for attack in rivals[:count]:
            for part in robust.nonzero().flatten().split(256):
                x_adv = attack(x[part], y[part])
                with torch.no_grad():
                    robust[part] = model(x_adv).argmax(1) == y[part]
        return robust

    return {
        "G8/apgd": (f"APGD-CE, {steps} steps", lambda: ours(1), lambda: theirs(1)),
        "G8/cascade": ("APGD-CE, APGD-T and Square", lambda: ours(3), lambda: theirs(3)),
    }


MEASUREMENTS = {"against_rivals": against_rivals}
