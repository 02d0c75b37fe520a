"""The default engine compared with autograd on torchvision and timm models, as a user finds it who drops it in: G11."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator

import torch
from torch import nn

from ro_fast.attacks import PGD
from ro_fast.config import ModelConfig
from ro_fast.models import build_model

from .session import Session

TORCHVISION = """
resnet18 resnet50 resnext50_32x4d wide_resnet50_2 vgg11 vgg11_bn alexnet squeezenet1_1 mobilenet_v2 mobilenet_v3_small
densenet121 efficientnet_b0 efficientnet_v2_s convnext_tiny regnet_y_400mf regnet_x_400mf shufflenet_v2_x1_0 mnasnet1_0
googlenet inception_v3 vit_b_16 swin_t maxvit_t
"""
OPTIONS = {"googlenet": {"init_weights": False, "aux_logits": False}, "inception_v3": {"init_weights": False}}
TIMM = """
resnet18 resnet26d resnetv2_50 seresnet18 skresnet18 cspresnet50 darknet53 dla34 hrnet_w18_small repvgg_a0 ghostnet_100
mobilenetv3_small_100 efficientnet_lite0 tf_efficientnet_b0 mixnet_s regnetz_b16 nf_regnet_b1 nfnet_l0 xception41 inception_v4
densenet121 dpn68 vovnet39a res2net50_26w_4s resnest14d convnext_atto convnextv2_atto vit_tiny_patch16_224
deit_tiny_patch16_224 swin_tiny_patch4_window7_224 mixer_s32_224 levit_128s mobilevit_xxs edgenext_xx_small poolformer_s12
xcit_nano_12_p16_224 coatnet_0_rw_224 efficientformer_l1 fastvit_t8 mobileone_s0 lcnet_050 rexnet_100 selecsls42 tresnet_m
vgg11_bn wide_resnet50_2
"""
Build = Callable[[], nn.Module]


def models(session: Session) -> Iterator[tuple[str, Build, int]]:
    """Name, builder and image side of each model; in a dry run two of our own represent them all."""
    if session.dry:
        for name in ("small_cnn", "mlp"):
            config = ModelConfig(name=name, width=8)
            yield name, functools.partial(build_model, config, (3, 8, 8), 10, [0.5] * 3, [0.25] * 3), 8
        return
    try:
        import torchvision

        for name in TORCHVISION.split():
            options, side = OPTIONS.get(name, {}), 299 if name == "inception_v3" else 224
            yield f"torchvision {name}", functools.partial(torchvision.models.get_model, name, weights=None, **options), side
    except ImportError as error:
        session.rows.put("skipped", "torchvision", why=str(error))
    try:
        import timm

        for name in TIMM.split():
            yield f"timm {name}", functools.partial(timm.create_model, name, pretrained=False), 224
    except ImportError as error:
        session.rows.put("skipped", "timm", why=str(error))


def speed(session: Session) -> None:
    """G11: PGD-3 in bf16, batch 64, channels last; models without time left get rows of their own."""
    session.precision(tf32=True)
    ratios: dict[str, float] = {}
    for name, build, side in models(session):
        if session.left() < 5:
            session.rows.put("skipped", name, why="the group's time is over")
            continue
        ratio = session.guarded(name, functools.partial(default_over_eager, session, name, build, side))
        if ratio is not None:
            ratios[name] = ratio
        session.tidy()
    if not ratios:
        raise RuntimeError("no model was measured: neither torchvision nor timm is installed, or each failed, with a row")
    slowest = min(ratios, key=lambda name: ratios[name])
    session.rows.target("G11/each", f"the slowest of {len(ratios)} models: {slowest}", ratios[slowest], models=len(ratios))
    mean = math.exp(statistics.fmean(map(math.log, ratios.values())))
    session.rows.target("G11/mean", f"geometric mean of {len(ratios)} models", mean, models=len(ratios))


def default_over_eager(session: Session, name: str, build: Build, side: int) -> float | None:
    """How many times faster the default is, and which engine it was; None if either failed."""
    torch.manual_seed(0)
    model = build().to(session.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    x = torch.rand(session.pick(64, 4), 3, side, side, device=session.device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (len(x),), device=session.device)
    attacks = {engine: PGD(4 / 255, 1 / 255, 3, engine=engine) for engine in ("auto", "eager")}
    runs = {engine: session.half(functools.partial(attack, model, x, y)) for engine, attack in attacks.items()}
    times = session.race(f"PGD-3, {name}", runs, rounds=5, seconds=0.5)
    if len(times) < len(runs):
        return None
    ratio = statistics.median(b / a for a, b in zip(times["auto"], times["eager"], strict=True))
    session.rows.put("model", name, engine=attacks["auto"].explain(model, x).splitlines()[0], ratio=ratio)
    return ratio


MEASUREMENTS = {"speed": speed}
