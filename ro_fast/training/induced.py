"""Images as adversarial training's own network sees them: perturbed once, against its best or its last state, and then kept.

Training anew on them, without an attack, asks whether the perturbations made late in training leave images that generalise worse
(the induced distribution experiment of Tian and Mao 2023, arXiv 2311.16526). They test on images perturbed against the same
state; natural test images, as here by default, can't be recognised by their perturbations.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ro_fast.config import TrainConfig
from ro_fast.data import ImageData
from ro_fast.data.stored_images import in_memory
from ro_fast.findings.outcomes import Cost
from ro_fast.training.teachers import Trained, teacher
from ro_fast.training.validate import build_attack


def induced(config: TrainConfig, data: ImageData, device: torch.device, train: Trained) -> tuple[ImageData, Cost]:
    """The data with perturbed training images, and the cost of the adversarial training that they come from.

    Images become float32 in [0, 1]. ``data.induced`` is the state that is attacked, with the run's attack and the labels used in
    training; ``data.induced_test`` perturbs the test images too.
    """
    state = config.data.induced
    assert state is not None
    model, cost = teacher(config, "adversarial", {"name": "baseline"}, data, device, train, state)
    images = {name: data.images(in_memory(getattr(data, name), 12)) for name in ("x_train", "x_val", "x_test")}
    for part in ("train", "test") if config.data.induced_test else ("train",):
        images[f"x_{part}"] = _perturbed(config, model, images[f"x_{part}"], getattr(data, f"y_{part}"), device)
    return dataclasses.replace(data, **images, scale=1.0), cost  # type: ignore[arg-type]


def _perturbed(config: TrainConfig, model: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> Tensor:
    noise = torch.Generator(device).manual_seed(config.seed)
    attack = dataclasses.replace(build_attack(config.attack, config.data.eps, noise), bn="eval", final_forward=False)
    size = config.trainer.eval_batch_size
    pairs = zip(x.split(size), y.split(size), strict=True)
    return torch.cat([attack(model, a.to(device), b.to(device)).to(x.device) for a, b in pairs])
