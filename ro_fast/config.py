"""The schema of every configuration: plain dataclasses, one a YAML group.

The YAML files below ``configs/`` hold the values; the command line composes and checks them and hands
these dataclasses down, so that nothing below :mod:`ro_fast.cli` knows Hydra.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class DataConfig:
    """Which images, how many of them, and how they are augmented."""

    name: str = "digits"
    path: str | None = None  # file (npz) or folder that holds the data; None: where the data set's own tools put it
    train_size: int | None = None  # class-balanced subset of the training images; None: all
    test_size: int | None = None  # class-balanced subset of the test images; None: all, or with train_size as many, at least 1000
    val_size: int | None = None  # held out of the training pool; None: a fifth of train_size, at most 1000
    label_noise: float = 0.0  # share of training labels redrawn uniformly over all classes
    eps: float = 8 / 255  # the L∞ radius that is customary for these images
    augment: str = "none"  # "none" | "crop" | "crop_flip": reflect-pad by 4 and crop, and flip left-right
    extra: str | None = None  # npz file of more training images: x as x_train, and y; without y they get pseudo-labels
    unlabelled: float = 0.0  # share of the training images whose labels are set aside: they get pseudo-labels
    seed: int = 0  # draws subsets, the validation split and redrawn labels; not the run's seed
    download: bool = False  # let torchvision fetch what is missing
    skip_bad: bool = False  # folder: leave out image files that cannot be read, instead of refusing them
    exclude: str | None = None  # check.json of ro-fast check on the same data: training images found faulty are left out


@dataclass
class ModelConfig:
    """Which network; normalisation belongs to the model, so inputs stay in [0, 1]."""

    name: str = "small_cnn"  # "mlp" | "small_cnn" | "preact_resnet18" | "wide_resnet34_10" | a timm name when source is "timm"
    source: str = "ro_fast"  # "ro_fast" | "timm"
    width: int = 32  # channels of small_cnn's first stage, an eighth of mlp's hidden units; others have their published width
    mean: list[float] | None = None  # per channel; None: of the training images
    std: list[float] | None = None


@dataclass
class AttackConfig:
    """The PGD attack of the inner maximisation; budgets in input units, [0, 1]."""

    norm: str = "linf"  # "linf" | "l2"
    eps: float | None = None  # None: the radius that is customary for the data, data.eps
    alpha: float | None = None  # None: eps / 4, which is 2/255 for 8/255
    steps: int = 10
    restarts: int = 1
    random_start: bool = True
    bn: str = "eval"  # "eval" | "train" | "keep": the model's mode while it is attacked
    engine: str = "auto"  # "auto" | "eager" | "mlp" | "fused" | "compiled" | "captured"
    final_forward: bool = False  # the published loop's forward after the last step, of which only a BatchNorm update is left


@dataclass
class SmallLossConfig:
    """Where the adversarial loss of a sample counts as small."""

    value: float = 1.5
    unit: str = "loss"  # "loss": cross-entropy in nats | "ln_c": multiple of ln(classes) | "quantile": share of the batch


@dataclass
class TrainerConfig:
    """Optimiser, schedule and loop."""

    epochs: int = 40
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_drops: list[float] = field(default_factory=lambda: [0.5, 0.75])  # fractions of the run at which lr falls tenfold
    clean_forward: bool = False  # the published loop's extra forward on natural images after each step
    channels_last: bool = True
    eval_steps: int | None = None  # PGD steps of validation and test; None: as many as in training
    eval_batch_size: int = 512
    stop_after: int | None = None  # end after this many epochs of the schedule; None: all of them
    early_stop: str = "none"  # "none" | "ro": end at the alarm of ro_fast/overfitting/detector.py, judged on validation
    log: list[str] = field(default_factory=list)  # "tensorboard", "wandb" (offline): metrics there too, in the run's folder


@dataclass
class FeaturesConfig:
    """Whether a run measures how well its features generalise while it trains: ro_fast/features/generalisation.py."""

    every: int = 0  # epochs from one measurement to the next, and the last epoch; 0: never
    layers: list[str] | None = None  # besides "penultimate"; None: all that the model has
    size: int | None = None  # images of the training and of the test subset; None: a tenth of training's, at most 1000


@dataclass
class TrainConfig:
    """One adversarial training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    attack: AttackConfig = field(default_factory=AttackConfig)
    method: dict[str, Any] = field(default_factory=lambda: {"name": "baseline"})  # name, start_epoch, options: configs/method/
    small_loss: SmallLossConfig = field(default_factory=SmallLossConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    seed: int = 0
    device: str = "auto"  # "auto" | "cpu" | "cuda"
    precision: str = "fp32"  # "fp32" | "bf16": autocast of forward and input gradient
    threads: int | None = None  # CPU threads of one run; None: torch's own choice
    teachers: str = "outputs/teachers"  # where teachers are kept, for any run that asks for the same
    out: str = "outputs/train/run"


@dataclass
class ArmConfig:
    """One arm of a suite: what it changes, and what that means."""

    name: str = ""
    set: dict[str, Any] = field(default_factory=dict)  # dotted paths below TrainConfig and their values
    factor: str | None = None  # what the arm takes away or adds, in words
    role: str = "factor"  # "baseline" | "factor" | "control" | "mitigation" | "level", a value on the suite's axis
    x: float | None = None  # that value
    fork: float | None = None  # where the arm parts; None: where the suite's arms do


@dataclass
class FinalConfig:
    """How hard the states of a finished run are attacked: PGD, and on what it leaves the cascade of ``evaluate``, shortened."""

    steps: int = 20  # of PGD
    apgd_steps: int = 20
    targets: int = 3  # classes that APGD-T goes for
    queries: int = 100  # of Square


@dataclass
class SuiteConfig:
    """One question, asked by arms that part from a common state."""

    name: str = ""
    question: str = ""
    fork: float = 0.2  # share of trainer.epochs that the arms have in common; from 1 on, a number of epochs
    set: dict[str, Any] = field(default_factory=dict)  # changes that all arms have in common
    arms: list[ArmConfig] = field(default_factory=list)
    x_label: str | None = None  # the axis of arms that have an x
    figures: list[str] = field(default_factory=lambda: ["curves", "gap", "small_loss_share"])  # ro_fast/report/gallery.py
    rules: dict[str, Any] = field(default_factory=dict)  # the verdict's on factors, fixed beforehand
    claims: list[dict[str, Any]] = field(default_factory=list)  # what the suite tests, fixed beforehand: findings/claims.py
    final: FinalConfig | None = None  # how best.pt and last.pt are scored at the end; None: they are not
    ranking: dict[str, Any] = field(default_factory=dict)  # of mitigations by gain and cost: findings/ranking.py
    parts: dict[str, SuiteConfig] = field(default_factory=dict)  # suites that are run as one; arms of one name are one arm


@dataclass
class AblateConfig(TrainConfig):
    """A suite: the run that all arms share, the arms, and the seeds."""

    suite: SuiteConfig = field(default_factory=SuiteConfig)
    seeds: Any = 3  # how many, counted up from seed; or a list
    jobs: int | None = None  # runs side by side, a process each; None: one a core on a CPU, one on a GPU
    prefixes: str = "outputs/prefixes"  # where common states are kept, for any suite that can use them
    out: str = "outputs/ablate/run"


@dataclass
class PageConfig:
    """How a page is written."""

    language: str | None = "en"  # "en" | "ja"


@dataclass
class PrototypeConfig(AblateConfig):
    """A check and a small suite within a budget of time, and one page to decide by."""

    budget: str = "10min"  # wall-clock time: 90s, 10min, 1h30min
    min_steps: int = 150  # gradient steps of a run at least; a small set is trained for more epochs
    rules: dict[str, float] = field(default_factory=dict)  # of the decision: findings/decision.py
    report: PageConfig = field(default_factory=PageConfig)


@dataclass
class CheckConfig:
    """A look at a data set before any training."""

    data: DataConfig = field(default_factory=DataConfig)
    eps: float | None = None  # L∞ radius that margins are held against, in input units; None: data.eps
    eps_l2: float | None = None  # L2 radius, likewise; None: as customary beside eps, 128/255 beside 8/255 for 3072 values
    seed: int = 0  # draws folds and subsets
    threads: int | None = None  # CPU threads; None: torch's own choice
    out: str = "outputs/check/run"


@dataclass
class EvaluateConfig:
    """Which checkpoint to attack, and how hard."""

    checkpoint: str = ""  # a run's folder, best.pt, last.pt, .safetensors, or a state dict of weights alone
    data: Any = None  # DataConfig; None: what the run was trained on
    model: Any = None  # ModelConfig; None: that of the run
    eps: float | None = None  # None: the radius of the run's attack
    norm: str | None = None  # "linf" | "l2"; None: that of the run's attack
    samples: int | None = None  # class-balanced subset of the test images; None: all
    steps: int = 20  # of PGD and of PGD on the CW margin
    apgd_steps: int = 100
    restarts: int = 1  # of APGD
    targets: int = 9  # classes that APGD-T goes for, one after another
    queries: int = 5000  # of Square
    masking: bool = True  # look for gradient masking
    batch_size: int = 512
    seed: int = 0
    device: str = "auto"  # "auto" | "cpu" | "cuda"
    threads: int | None = None
    out: str | None = None  # None: outputs/evaluate/<the run's name>


@dataclass
class ExportConfig:
    """Which checkpoint to write as safetensors with a model card."""

    checkpoint: str = ""  # as EvaluateConfig's; of a run's folder best.pt
    data: Any = None
    model: Any = None
    evaluation: str | None = None  # an evaluation.json; None: the one that evaluate left in its usual place, if any
    out: str | None = None  # None: outputs/export/<the run's name>


@dataclass
class ReportConfig:
    """Which folder to rebuild a report in."""

    run: str = ""  # of a suite, or of a prototype
    report: PageConfig = field(default_factory=lambda: PageConfig(None))  # of a prototype's page; None: as it was


@dataclass
class WatchConfig:
    """Which learning curve to judge."""

    curve: str = ""  # .csv, .jsonl, the folder of a run, or a TensorBoard event file
    column: str | None = None  # the robust accuracy to judge; None: by the usual names, test before validation
    out: str | None = None  # picture to draw, a .png; None: none


@dataclass
class BenchConfig:
    """What to measure against the rivals on this machine."""

    groups: list[str] = field(default_factory=list)  # "operators", "mlps", "evaluation", "networks"; none: all
    fail_under: str | None = None  # "must" | "goal": exit 1 where a target's is missed
    out: str = "outputs/bench"


def to_yaml(config: Any) -> str:
    """A config as YAML text; where PyYAML is not installed as JSON, which is YAML too."""
    values = dataclasses.asdict(config)
    try:
        import yaml
    except ImportError:
        return json.dumps(values, indent=2)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def changed(config: Any, changes: dict[str, Any]) -> Any:
    """A copy of a config with the values at dotted paths replaced.

    Raises:
        KeyError: on a path that does not exist; the message names it.

    >>> changed(TrainConfig(), {"trainer.lr": 0.5}).trainer.lr
    0.5
    """
    result = copy.deepcopy(config)
    for path, value in copy.deepcopy(changes).items():
        *parents, last = path.split(".")
        target = result
        for name in parents:
            target = target[name] if isinstance(target, dict) else getattr(target, name, None)
        if isinstance(target, dict):
            target[last] = value
        elif dataclasses.is_dataclass(target) and hasattr(target, last):
            setattr(target, last, value)
        else:
            raise KeyError(f"{path} does not exist in {type(config).__name__}")
    return result
