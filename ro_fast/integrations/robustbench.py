"""RobustBench's models by name, to be attacked like any other: ``evaluate_model(model("Rice2020Overfitting"), x, y, 8 / 255)``.

robustbench builds the network and downloads its weights. It isn't on PyPI; its README says how to install it.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from torch import nn

from ro_fast.errors import InputError

try:
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
    from robustbench.utils import load_model
except ImportError as error:
    raise ImportError(f"ro_fast.integrations.robustbench needs robustbench ({error}): install it as its README says") from error


def model(name: str, dataset: str = "cifar10", threat_model: str = "Linf", model_dir: str | Path = "./models") -> nn.Module:
    """The trained model of that name in eval mode: from images [N, 3, H, W] in [0, 1] to logits.

    Args:
        name: as in RobustBench's tables, such as "Rice2020Overfitting".
        dataset: "cifar10", "cifar100" or "imagenet".
        threat_model: that of its training: "Linf", "L2" or "corruptions".
        model_dir: keeps the downloaded weights.

    Raises:
        InputError: if there is none of that name; gives the nearest.

    Source: Croce et al. 2021, "RobustBench: a standardized adversarial robustness benchmark" (arXiv 2010.09670).
    """
    for given, kind in ((dataset, BenchmarkDataset), (threat_model, ThreatModel)):
        if given not in [one.value for one in kind]:
            raise InputError(f"robustbench has no '{given}'; available: {', '.join(one.value for one in kind)}")
    known = model_dicts[BenchmarkDataset(dataset)].get(ThreatModel(threat_model), {})
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.3) or list(known)[:3])
        raise InputError(f"robustbench has no '{name}' for {dataset} and {threat_model}; near it are {near}")
    return load_model(name, model_dir=model_dir, dataset=dataset, threat_model=threat_model).eval()
