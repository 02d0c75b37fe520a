"""A suite that takes seconds."""

from __future__ import annotations

from pathlib import Path

from ro_fast.config import AblateConfig, ArmConfig, RulesConfig, SuiteConfig, changed

RULES = RulesConfig(min_gap=0.02, min_reduction=0.5, max_robust_loss=0.01, irrelevant=0.2)


def small(folder: Path, out: str = "suite", **changes: object) -> AblateConfig:
    """Three arms, two seeds, four epochs on 200 digits."""
    arms = [
        ArmConfig("baseline", {}),
        ArmConfig("perturbation", {"method": {"name": "perturbation"}}, "their perturbations", "factor"),
        ArmConfig("attack_strength", {"method": {"name": "attack_strength", "eps_ratio": 2.0}}, "a larger budget", "mitigation"),
    ]
    config = AblateConfig(suite=SuiteConfig("tiny", "Does it run?", 0.5, arms=arms, rules=RULES), seeds=2, jobs=1, threads=1)
    values = {"out": str(folder / out), "prefixes": str(folder / "prefixes"), "data.train_size": 200, "data.test_size": 100}
    values |= {"data.eps": 0.05, "data.label_noise": 0.2, "model.width": 8, "attack.steps": 2}
    values |= {"trainer.epochs": 4, "trainer.batch_size": 32}
    return changed(config, values | {key.replace("__", "."): value for key, value in changes.items()})
