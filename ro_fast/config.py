"""The schema of every configuration: plain dataclasses, one per YAML group, with the meaning of each key.

The YAML files below ``configs/`` hold the values; the command line composes and checks them and passes
these dataclasses down, so that nothing below :mod:`ro_fast.cli` knows Hydra.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ro_fast.config_values import LARGEST_SEED


def option(default: Any, about: str, **bounds: Any) -> Any:
    """A key of a configuration: its default, its meaning as printed by --help, and the bounds of its values.

    Bounds are ``least``, ``above``, ``most`` and ``below`` of numbers, and ``among`` of words; :mod:`ro_fast.config_values`
    checks them.
    """
    metadata = {"about": about, **bounds}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def needed(about: str, **bounds: float) -> Any:
    """A key that has no default."""
    return field(metadata={"about": about, **bounds})


@dataclass
class DataConfig:
    """Which images, how many of them, and how they are augmented."""

    name: str = option("digits", "the data set; data=NAME also sets related keys")
    path: str | None = option(None, "file (npz, csv) or folder with the data; null: the data set's usual place")
    train_size: int | None = option(None, "class-balanced subset of the training images; null: all", least=1)
    train_share: float = option(1.0, "share of these that is used, class-balanced too", above=0, most=1)
    test_size: int | None = option(
        None, "class-balanced subset of the test images; null: all, or if train_size is set, as many, at least 1000", least=1
    )
    val_size: int | None = option(
        None, "images held out of the training pool; null: a fifth of train_size, at most 1000", least=1
    )
    label_noise: float = option(0.0, "share of training labels redrawn uniformly over all classes", least=0, most=1)
    eps: float = option(8 / 255, "the usual L∞ radius for these images", least=0)
    augment: str = option("none", '"none" | "crop" | "crop_flip": reflect-pad by 4 and crop, and flip left-right')
    extra: str | None = option(None, "npz file of more training images: x like x_train, and y; without y, with pseudo-labels")
    bias: str = option("none", "done to training: fewer | imbalance | missing_mode | duplicates | shift | wrong_labels")
    bias_share: float = option(0.2, "share of the training images that data.bias changes", least=0, most=1)
    induced: str | None = option(None, "best | last: training images perturbed once, against that state of adversarial training")
    induced_test: bool = option(False, "perturb the test images in the same way")
    unlabelled: float = option(0.0, "share of the training images whose labels are replaced by pseudo-labels", least=0, below=1)
    seed: int = option(0, "seed of subsets, validation split and redrawn labels; not the run's seed", least=0, most=LARGEST_SEED)
    download: bool = option(False, "let torchvision fetch what is missing")
    skip_bad: bool = option(False, "folder, csv: skip unreadable image files instead of raising an error")
    exclude: str | None = option(None, "check.json of ro-fast check: leaves faulty training and validation images out")


@dataclass
class ModelConfig:
    """Which network; normalisation belongs to the model, so inputs stay in [0, 1]."""

    name: str = option(
        "small_cnn", '"mlp" | "small_cnn" | "preact_resnet18" | "wide_resnet34_10" | a timm name when source is "timm"'
    )
    source: str = option("ro_fast", '"ro_fast" | "timm"')
    width: int = option(
        32,
        "channels of small_cnn's first stage, an eighth of mlp's hidden units; others have their published width",
        least=1,
        most=100_000,
    )
    mean: list[float] | None = option(None, "per channel; null: of the training images")
    std: list[float] | None = option(None, "per channel; null: of the training images", above=0)


@dataclass
class AttackConfig:
    """The PGD attack of the inner maximisation; budgets in input units, [0, 1]."""

    norm: str = option("linf", '"linf" | "l2"')
    eps: float | None = option(None, "null: the usual radius for the data, data.eps", least=0)
    alpha: float | None = option(None, "null: eps / 4, which is 2/255 for 8/255", least=0)
    steps: int = option(10, "gradient steps of each restart", least=0)
    restarts: int = option(1, "random starts; the strongest result is kept for each sample", least=1)
    random_start: bool = option(True, "false: starts at the natural image")
    bn: str = option("eval", "'eval' | 'train' | 'keep': the model's mode while it is attacked")
    engine: str = option("auto", '"auto" | "eager" | "mlp" | "fused" | "compiled" | "captured"')
    final_forward: bool = option(
        False, "the published loop's forward after the last step, which only updates BatchNorm"
    )


@dataclass
class SmallLossConfig:
    """When the adversarial loss of a sample counts as small."""

    value: float = option(1.5, "the threshold, in the unit below")
    unit: str = option("loss", '"loss": cross-entropy in nats | "ln_c": multiple of ln(classes) | "quantile": share of the batch')


@dataclass
class TrainerConfig:
    """Optimiser, schedule and loop."""

    epochs: int = option(40, "length of the schedule", least=1)
    batch_size: int = option(128, "samples per step", least=1)
    lr: float = option(0.1, "learning rate before its first drop", above=0, most=100)
    momentum: float = option(0.9, "of SGD", least=0, below=1)
    weight_decay: float = option(5e-4, "of SGD", least=0, most=1)
    lr_drops: list[float] = option([0.5, 0.75], "fractions of the run at which lr drops tenfold", least=0, most=1)
    clean_forward: bool = option(False, "the published loop's extra forward on natural images after each step")
    channels_last: bool = option(True, "memory layout of images and weights")
    eval_steps: int | None = option(None, "PGD steps of validation and test; null: as many as in training", least=1)
    eval_batch_size: int = option(512, "samples at once in validation and test", least=1)
    stop_after: int | None = option(None, "end after this many epochs of the schedule; null: all of them", least=1)
    early_stop: str = option(
        "none", '"none" | "ro": end when the detector of robust overfitting raises an alarm, on validation'
    )
    log: list[str] = option([], "'tensorboard', 'wandb' (offline): also log metrics there, in the run's folder")


@dataclass
class FeaturesConfig:
    """Whether a run measures feature generalisation during training: ro_fast/features/generalisation.py."""

    every: int = option(0, "epochs between measurements; the last epoch is always measured; 0: never", least=0)
    layers: list[str] | None = option(None, 'besides "penultimate"; null: all layers that the model has')
    label_weights: str | None = option(
        None, "for unclean labels, weights of a data check's label scores: its check.json, or auto; null: every label counts"
    )
    size: int | None = option(
        None, "images of the training and of the test subset; null: a tenth of training's, at most 1000", least=1
    )


@dataclass
class TrainConfig:
    """One adversarial training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    attack: AttackConfig = field(default_factory=AttackConfig)
    method: dict[str, Any] = option({"name": "baseline"}, "what a step does with its samples: method=NAME, and its options")
    small_loss: SmallLossConfig = field(default_factory=SmallLossConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    seed: int = option(0, "of initial weights, order, augmentation and noise", least=0, most=LARGEST_SEED)
    device: str = option("auto", '"auto" | "cpu" | "cuda"')
    precision: str = option("fp32", '"fp32" | "bf16": autocast of forward and input gradient')
    threads: int | None = option(None, "CPU threads of one run; null: torch's own choice", least=1, most=1024)
    nproc: int = option(1, "processes that train one run together; train only", least=1, most=64)
    teachers: str = option("outputs/teachers", "where teachers are stored, for all runs that need the same ones")
    out: str = option("outputs/train/run", "the run's folder; the same command continues it")


@dataclass
class ArmConfig:
    """One arm of a suite: what it changes, and the meaning of the change."""

    name: str = option("", "its folder and its name on the page")
    set: dict[str, Any] = option({}, "what it changes: keys of a run, such as trainer.lr, and their values")
    factor: str | None = option(None, "what the arm removes or adds, in words")
    role: str = option("factor", "'baseline' | 'factor' | 'control' | 'mitigation' | 'level', a value on the suite's axis")
    control: str | None = option(None, "for a factor, its matched control arm: a random change of the same size")
    x: float | None = option(None, "position on the suite's axis")
    fork: float | None = option(None, "where the arm branches; null: the suite's fork", least=0)


@dataclass
class FinalConfig:
    """How hard the states of a finished run are attacked: with PGD, then a shortened cascade of ``evaluate`` on what survives."""

    steps: int = option(20, "of PGD", least=1)
    apgd_steps: int = option(20, "of APGD-CE and APGD-T", least=1)
    targets: int = option(3, "target classes of APGD-T", least=1)
    queries: int = option(100, "of Square", least=1)


@dataclass
class RulesConfig:
    """Limits of the verdict on factors, fixed before the runs that they judge; accuracies and gaps are fractions."""

    min_gap: float = needed("baseline gap from which training counts as robustly overfitting")
    min_reduction: float = needed("share of that gap that removing a factor must eliminate if the factor carries it")
    max_robust_loss: float = needed("largest drop of the last robust accuracy allowed with it")
    irrelevant: float = needed("share of that gap within which a change counts as no effect")
    published: dict[str, bool] = option({}, "arm -> whether its removal is a cure in the paper")
    paper: str | None = option(None, "that paper")


@dataclass
class RankingConfig:
    """How mitigations are ordered by gain and cost, fixed before the runs that it judges."""

    gain: str = needed("'last_robust_acc'")
    cost: str = needed("'gflop' | 'train_seconds' | 'step_mb'")
    max_natural_loss: float = option(0.0, "largest mean drop of natural accuracy allowed")
    against: dict[str, str] = option({}, "arm -> the arm it is compared with; others: the baseline")
    combine: int = option(0, "how many of the best are then also tried together, in twos and threes", least=0, most=6)


@dataclass
class ConditionConfig:
    """One condition of a claim: a test and its inputs, see TESTS of ro_fast/findings/claims.py."""

    test: str = option("", "difference, level, trend, peak, correlation, lead, overfits or effect")
    metric: str | None = option(None, "what is compared")
    a: str | None = option(None, "first arm of a difference a - b")
    b: str | None = option(None, "the second arm")
    arm: str | None = option(None, "arm of level and effect")
    arms: list[str] | None = option(None, "in the order of their levels; for correlation and lead, null: all")
    x: str | None = option(None, "metric of correlation and lead")
    y: str | None = option(None, "the other metric")
    value: float | None = option(None, "that a level is compared with")
    expect: str | None = option(None, "higher, lower, above, below, rising, falling, positive or leads")
    at_least: float | None = option(None, "how far the estimate should lie on that side")
    effects: list[str] | None = option(None, "effects of the arm that confirm it: carries, eases, no effect, ...")


@dataclass
class ClaimConfig:
    """A sentence that holds if all of its conditions do."""

    name: str = option("", "its short name")
    claim: str = option("", "the sentence")
    number: int | None = option(None, "of the corresponding claim in the paper")
    all: list[ConditionConfig] = option([], "its conditions")


@dataclass
class SuiteConfig:
    """One question, answered by arms that fork from a common state."""

    name: str = option("", "suite=NAME takes its arms and rules")
    question: str = option("", "what the suite asks")
    fork: float = option(0.2, "share of trainer.epochs that all arms share; from 1 on, a number of epochs", least=0)
    set: dict[str, Any] = option({}, "changes shared by all arms")
    arms: list[ArmConfig] = option([], "what is compared: each arm's name, role and changes")
    x_label: str | None = option(None, "axis label for arms with an x")
    figures: list[str] = option(
        ["curves", "gap", "small_loss_share"],
        "names of figures on the page: curves, gap, small_loss_share, levels, features, correlation, gain_cost",
    )
    rules: RulesConfig | None = option(None, "limits of the verdict on factors, fixed before the runs")
    claims: list[ClaimConfig] = option([], "what the suite tests, fixed before it runs")
    final: FinalConfig | None = option(None, "how best.pt and last.pt are scored at the end; null: not at all")
    ranking: RankingConfig | None = option(None, "how mitigations are ordered by gain and cost, fixed before they run")
    literature: list[str] = option([], "publications on the same question, and what they found, for the page")
    harms: bool = option(False, "order arms by how much worse they make it, each against its control or the baseline")
    parts: dict[str, SuiteConfig] = option({}, "suites run as one; arms with the same name are trained once")


@dataclass
class PageConfig:
    """How a page is written."""

    language: str | None = option("en", '"en" | "ja"', among=("en", "ja"))


@dataclass
class LauncherConfig:
    """Where the runs of a suite are done."""

    name: str = option("local", '"local": processes of this machine | "submitit": jobs of SLURM | "ray": tasks of a Ray cluster')
    cluster: str | None = option(None, "submitit's: slurm, or local; null: slurm where it is there", among=("slurm", "local"))
    address: str | None = option(None, "of a Ray cluster's head, or auto; null: a Ray on this machine alone")
    partition: str | None = option(None, "SLURM's")
    minutes: int = option(1440, "time limit of a job; one that reaches it is queued again and goes on", least=1)
    cpus: int = option(1, "CPU cores of each run", least=1)
    gpus: int = option(0, "GPUs of each run", least=0)
    memory_gb: int | None = option(None, "memory of each run; null: the cluster's default", least=1)


@dataclass
class AblateConfig(TrainConfig):
    """A suite: the run shared by all arms, the arms, and the seeds."""

    suite: SuiteConfig = field(default_factory=SuiteConfig)
    seeds: Any = option(3, "how many, from seed up; a list; auto: 3, 5, 8 until it is settled")
    jobs: int | None = option(None, "parallel runs; null: one per core, to fill a GPU, all on a cluster", least=1, most=1024)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    prefixes: str = option("outputs/prefixes", "where shared prefixes are stored, for any suite that can use them")
    out: str = option("outputs/ablate/run", "the suite's folder; the same command continues it")
    report: PageConfig = field(default_factory=PageConfig)


@dataclass
class DecisionConfig:
    """Limits of a prototype's decision, fixed before the runs that they judge; accuracies are fractions."""

    min_gap: float = option(0.02, "smallest drop of robust accuracy that matters", least=0, most=1)
    min_gain: float = option(0.01, "smallest gain that makes twice the data worth collecting", least=0, most=1)


@dataclass
class CostConfig:
    """What training elsewhere, and people's work, costs."""

    gpu: str | None = option(None, "where the full run would be: H100, A100, L4, T4, ...; null: on this computer")
    hours_per_gflop: float | None = option(None, "of another machine, measured there, instead of gpu", above=0)
    per_hour: float | None = option(None, "price of an hour of that machine", least=0)
    per_label: float | None = option(None, "price of a label that someone looks at, or of a new image with its label", least=0)
    currency: str = option("EUR", "of the prices: EUR, USD, JPY, ...")


@dataclass
class PrototypeConfig(AblateConfig):
    """A check and a small suite within a time budget, and one page to base a decision on."""

    budget: str = option("10min", "wall-clock time: 90s, 10min, 1h30min")
    min_steps: int = option(150, "minimum gradient steps of a run; small sets are trained for more epochs", least=0)
    rules: DecisionConfig = field(default_factory=DecisionConfig)
    cost: CostConfig = field(default_factory=CostConfig)


@dataclass
class CheckConfig:
    """An examination of a data set before any training."""

    data: DataConfig = field(default_factory=DataConfig)
    eps: float | None = option(None, "L∞ radius that margins are compared with, in input units; null: data.eps", least=0)
    eps_l2: float | None = option(
        None, "L2 radius, likewise; null: in proportion to eps, 128/255 for 8/255 and 3072 values", above=0
    )
    seed: int = option(0, "seed of folds and subsets", least=0, most=LARGEST_SEED)
    threads: int | None = option(None, "CPU threads; null: torch's own choice", least=1, most=1024)
    bias: str | None = option(
        None, "results of ro-fast ablate suite=bias, whose effects the page quotes; null: those of the same data, if beside out"
    )
    report: PageConfig = field(default_factory=PageConfig)
    out: str = option("outputs/check/run", "folder of check.json, check.csv and check.html")


@dataclass
class EvaluateConfig:
    """Which checkpoint to attack, and how hard."""

    checkpoint: str = option("", "a run's folder, best.pt, last.pt, .safetensors, or a plain state dict")
    state: str = option("both", '"both" | "best" | "last": of a run\'s folder, or of each seed in an arm\'s folder')
    protocol: str | None = option(None, "a protocol.yaml: evaluate as it says, and decide")
    data: Any = option(None, "data=NAME; null: what the run was trained on")
    model: Any = option(None, "model=NAME; null: that of the run")
    eps: float | None = option(None, "null: the radius of the run's attack", least=0)
    norm: str | None = option(None, "'linf' | 'l2'; null: that of the run's attack")
    samples: int | None = option(None, "class-balanced subset of the test images; null: all", least=1)
    level: str = option("standard", '"quick" | "standard" | "full": how hard to try; full has AutoAttack\'s steps and queries')
    steps: int | None = option(None, "of PGD and of PGD on the CW margin; null, here and below: the level's", least=1)
    apgd_steps: int | None = option(None, "of APGD-CE and APGD-T", least=1)
    restarts: int | None = option(None, "of APGD", least=1)
    targets: int | None = option(None, "target classes of APGD-T, one after another", least=1)
    queries: int | None = option(None, "of Square", least=1)
    masking: bool = option(True, "look for gradient masking")
    batch_size: int = option(512, "samples attacked at once", least=1)
    seed: int = option(0, "of the attacks' noise", least=0, most=LARGEST_SEED)
    device: str = option("auto", '"auto" | "cpu" | "cuda"')
    threads: int | None = option(None, "CPU threads; null: torch's own choice", least=1, most=1024)
    report: PageConfig = field(default_factory=PageConfig)
    out: str | None = option(None, "null: outputs/evaluate/<the run's name>")


@dataclass
class ProtocolConfig:
    """What an evaluation will measure, and which result means go, fixed beforehand. Accuracies are fractions."""

    data: DataConfig = field(default_factory=DataConfig)
    robust: float | None = option(None, "least robust accuracy for a go, such as 0.4; required", above=0, below=1)
    no_go: float | None = option(None, "robust accuracy below which it is a no-go; null: the same", above=0, below=1)
    natural: float | None = option(None, "least natural accuracy; null: not asked for", above=0, below=1)
    worst_class: float | None = option(None, "least robust accuracy of every class; null: not asked for", above=0, below=1)
    precision: float = option(0.03, "half width of the 95 % interval over images, which decides how many", above=0, below=1)
    expected: float = option(0.5, "robust accuracy expected, for the number of images; 0.5 needs most", above=0, below=1)
    norm: str = option("linf", '"linf" | "l2"')
    eps: float | None = option(None, "radius in input units; null: the usual one for the data, data.eps", above=0)
    level: str = option("full", '"quick" | "standard" | "full": how hard the attacks try')
    seeds: int = option(3, "training runs to evaluate", least=1)
    checkpoint: str = option("best", '"best" by validation | "last"')
    signed_by: list[str] = option([], "names of those who agree on it")
    report: PageConfig = field(default_factory=PageConfig)
    out: str = option("outputs/protocol", "folder of protocol.yaml and protocol.html")


@dataclass
class ExportConfig:
    """Which checkpoint to write as safetensors with a model card."""

    checkpoint: str = option("", "a run's folder, for its best.pt, or a file as for evaluate")
    data: Any = option(None, "data=NAME; null: what the run was trained on")
    model: Any = option(None, "model=NAME; null: that of the run")
    evaluation: str | None = option(None, "an evaluation.json; null: the one in evaluate's default folder, if any")
    out: str | None = option(None, "null: outputs/export/<the run's name>")


@dataclass
class ReportConfig:
    """The folder in which to rebuild a report."""

    run: str = option("", "folder of a suite or a prototype")
    report: PageConfig = field(default_factory=lambda: PageConfig(None))


@dataclass
class WatchConfig:
    """Which learning curve to judge."""

    curve: str = option("", ".csv, .json, .jsonl, text log, TensorBoard event file, or a folder with one of them")
    column: str | None = option(None, "the robust accuracy to judge; null: by the usual names, test before validation")
    loss: str | None = option(None, "column of the robust loss on the same samples; null: by the usual names")
    train: str | None = option(None, "column of robust train accuracy; null: by the usual names")
    report: PageConfig = field(default_factory=PageConfig)
    out: str | None = option(None, "page to write, a .html, or a picture of the curve, a .png; null: none")


@dataclass
class BenchConfig:
    """What to compare with the rivals on this machine."""

    groups: list[str] = option([], '"operators", "mlps", "evaluation", "networks"; none: all')
    fail_under: str | None = option(None, "'must' | 'goal': exit with code 1 if a target misses it or was not measured")
    allow_missing: list[str] = option([], "targets, such as C8, that fail_under lets be missing where they can't be measured")
    out: str = option("outputs/bench", "folder of bench.json")


def to_yaml(config: Any) -> str:
    """A config as YAML text; as JSON, which is also YAML, if PyYAML is not installed."""
    values = dataclasses.asdict(config)
    try:
        import yaml
    except ImportError:
        return json.dumps(values, indent=2)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a config with the values at dotted paths replaced.

    Raises:
        KeyError: if a path does not exist; the message names it.

    >>> changed(TrainConfig(), {"trainer.lr": 0.5}).trainer.lr
    0.5
    """
    result = copy.deepcopy(config)
    for path, value in copy.deepcopy(dict(changes)).items():
        *parents, last = path.split(".")
        target = result
        for name in parents:
            target = target.get(name) if isinstance(target, dict) else getattr(target, name, None)
        if isinstance(target, dict):
            target[last] = value
        elif dataclasses.is_dataclass(target) and hasattr(target, last):
            setattr(target, last, value)
        else:
            raise KeyError(f"{path} does not exist in {type(config).__name__}")
    return result
