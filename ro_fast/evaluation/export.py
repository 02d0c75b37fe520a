"""``ro-fast export``: a checkpoint as model.safetensors with a model card, for users without the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from ro_fast import __version__
from ro_fast.config import ExportConfig
from ro_fast.errors import InputError
from ro_fast.evaluation.checkpoints import RESULT, default_name, read_evaluation
from ro_fast.evaluation.evaluate import Evaluation
from ro_fast.evaluation.load import Trained, checkpoints_in, content_digest, load_trained, read
from ro_fast.installing import pip_install
from ro_fast.storage import checkpoint
from ro_fast.storage.epochs import FILE, Epoch, read_epochs
from ro_fast.storage.paths import own_folder
from ro_fast.storage.run_folder import alone_in
from ro_fast.storage.saving import writing


def export(config: ExportConfig) -> Path:
    """Writes ``model.safetensors``, ``config.yaml`` and the model card ``README.md``, and returns the folder.

    For a run's folder, best.pt is used. An evaluation is added to the card if ``evaluation=`` names one, or if
    ``ro-fast evaluate`` left one in its usual place.

    Raises:
        InputError: if a checkpoint or the data doesn't fit, the folder can't be written, or safetensors is missing.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise InputError(f"export needs safetensors: {pip_install('export')}") from error
    if not config.checkpoint:
        raise InputError("checkpoint= is not given; a run's folder, or its best.pt or last.pt, is needed")
    path = next(iter(checkpoints_in(Path(config.checkpoint)).values()))
    trained = load_trained(read(path), torch.device("cpu"), config.data, config.model)
    out = Path(config.out or Path("outputs") / "export" / default_name(path))
    beside = path.parent / "config.yaml"
    theirs = ["README.md"] if beside.resolve() == (out / "config.yaml").resolve() else ["README.md", "config.yaml"]
    own_folder(str(out), "model.safetensors", theirs)
    weights = {key: value.contiguous() for key, value in trained.stored.weights.items()}
    about = {
        "model": dataclasses.asdict(trained.model_config),
        "image_shape": list(trained.data.image_shape),
        "num_classes": trained.data.num_classes,
        "identity": trained.stored.identity,
    }
    about["digest"] = content_digest(about, weights)
    content = save(weights, {"format": "pt", "ro_fast": json.dumps(about)})
    card = model_card(trained, _metrics(path), _evaluation(config, path))
    with alone_in(out), writing(out):
        checkpoint.write_atomically(out / "model.safetensors", lambda file: file.write(content))
        checkpoint.write_text(out / "README.md", card)
        if beside.exists() and beside.resolve() != (out / "config.yaml").resolve():
            checkpoint.write_text(out / "config.yaml", beside.read_text(encoding="utf-8"))
    return out


def model_card(trained: Trained, metrics: list[Epoch], evaluation: Evaluation | None) -> str:
    """The card in Markdown, from what is known; the rest is stated to be unknown."""
    run, data, model = trained.stored.config, trained.data, trained.model_config
    parts = (run.get(key) for key in ("trainer", "attack", "method"))
    trainer, attack, method = (part if isinstance(part, dict) else {} for part in parts)
    noise = f", {trained.data_config.label_noise:.0%} of its labels redrawn" if trained.data_config.label_noise else ""
    steps = attack.get("steps", "an unknown number of")
    budget = f"{trained.norm} ε = {trained.eps:.4g}"
    parameters = sum(p.numel() for p in trained.model.parameters())
    lines = [
        f"# {model.name} trained on {data.name}, {budget}",
        "",
        f"* **Model**: {model.name} (width {model.width}), {parameters} parameters; inputs "
        f"{list(data.image_shape)} in [0, 1], normalised by the model; {data.num_classes} logits.",
        f"* **Data**: {data.name}, {len(data.y_train)} training images{noise}, {len(data.y_val)} for choosing the epoch, "
        f"{len(data.y_test)} test images.",
        f"* **Training**: method {method.get('name', 'unknown')}; PGD with {steps} steps, {budget}; "
        f"{trainer.get('epochs', 'unknown')} epochs planned, weights taken after {trained.stored.epoch or 'unknown'}; "
        f"seed {run.get('seed', 'unknown')}; ro_fast {__version__}.",
        "",
        *_measured(trained, metrics),
        *_evaluated(evaluation),
        "## Limits",
        "",
        f"* Robustness is claimed for perturbations up to {budget} of such images only: not for other data, "
        "norms or radii, and not as proof; attacks give upper bounds.",
        "* The training run's robust test accuracy is that at its own PGD's last iterate, which is weaker than the cascade.",
        "* Code that changes the network's inputs (resizing, other ranges) changes these figures.",
        "",
        "## Load",
        "",
        "```python",
        "from ro_fast import load_model",
        "",
        'model = load_model("model.safetensors")  # needs safetensors too; inputs in [0, 1], returns logits',
        "```",
        "",
    ]
    return "\n".join(lines)


def _measured(trained: Trained, metrics: list[Epoch]) -> list[str]:
    if not metrics:
        return ["There were no metrics of the training run next to the checkpoint.", ""]
    own = None if trained.stored.epoch is None else trained.stored.epoch - 1
    picked = {"these weights": [epoch for epoch in metrics if epoch.epoch == own], "the run's last epoch": metrics[-1:]}
    rows = ["| test accuracy | epoch | natural | robust (training's PGD) |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {epoch.epoch} | {epoch.test_acc:.4f} | {epoch.test_robust_acc:.4f} |"
        for name, epochs in picked.items()
        for epoch in epochs
    ]
    return [*rows, ""]


def _evaluated(found: Evaluation | None) -> list[str]:
    if found is None:
        return ["Evaluated only with its own training attack; `ro-fast evaluate` runs stronger ones.", ""]
    rows = {"natural": found.natural, "PGD": found.pgd, "CW": found.cw, **found.cascade}
    where = f"{found.samples} test images, {found.norm} ε = {found.eps:.4g}"
    lines = [f"| evaluation on {where} | accuracy | 95 % interval |", "|---|---|---|"]
    lines += [f"| {name} | {r.acc:.4f} | {r.ci95[0]:.4f} to {r.ci95[1]:.4f} |" for name, r in rows.items()]
    warnings = [f"* Warning: {warning}" for warning in found.warnings]
    return [*lines, "", found.note, "", *warnings, *([""] if warnings else [])]


def _metrics(path: Path) -> list[Epoch]:
    file = path.parent / FILE
    return read_epochs(file) if file.exists() else []


def _evaluation(config: ExportConfig, path: Path) -> Evaluation | None:
    """This checkpoint's part of an evaluation: from the named file, or from where ``evaluate`` would have written it."""
    if config.evaluation is not None:
        files = [Path(config.evaluation)]
        if not files[0].is_file():
            raise InputError(f"evaluation={config.evaluation} does not exist; an evaluation.json is needed")
    else:
        folder = Path("outputs") / "evaluate"
        files = [folder / default_name(place) / RESULT for place in (path, path.parent)]
    for file in files:
        if file.is_file():
            found = read_evaluation(file)
            if path.stem in found.models:
                return found.models[path.stem]
    return None
