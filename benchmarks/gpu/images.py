"""A data set and a suite on it, generated on the spot: training time does not depend on what the images show."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ro_fast.config import AblateConfig, ArmConfig, RulesConfig, SuiteConfig, changed

from .session import Session

RULES = RulesConfig(min_gap=0.02, min_reduction=0.5, max_robust_loss=0.01, irrelevant=0.2)


def study(session: Session, folder: Path, model: str = "preact_resnet18", images: int = 2048, epochs: int = 4) -> AblateConfig:
    """A suite of one arm, adversarial training, with three seeds, in bf16, on images with one pattern per class under noise."""
    images = session.pick(images, 64)
    random = np.random.default_rng(0)
    patterns = random.random((10, 3, 32, 32))
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", images), ("test", images // 4)):
        y = np.arange(count) % 10
        x = 255 * (0.5 * patterns[y] + 0.5 * random.random((count, 3, 32, 32)))
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    np.savez(folder / "images.npz", **arrays)
    arms = [ArmConfig("baseline", {"method": {"name": "baseline"}}, "", "baseline")]
    config = AblateConfig(suite=SuiteConfig("three_seeds", "How long?", 0.0, arms=arms, rules=RULES), seeds=3)
    values = {"data.name": "npz", "data.path": str(folder / "images.npz"), "precision": "bf16", "device": session.device}
    values |= {"model.name": session.pick(model, "small_cnn"), "trainer.epochs": session.pick(epochs, 1)}
    values |= {"out": str(folder / "suite"), "prefixes": str(folder / "prefixes")}
    return changed(config, values | ({"model.width": 8, "attack.steps": 1, "jobs": 1, "threads": 1} if session.dry else {}))
