"""The plan of a suite: arms × seeds, the resulting runs, and the prefixes they fork from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from ro_fast.config import AblateConfig, ArmConfig, FinalConfig, SuiteConfig, TrainConfig, changed
from ro_fast.config_values import LARGEST_SEED, check_values, told
from ro_fast.data import ImageData, load_data
from ro_fast.environment import choose_device, environment
from ro_fast.errors import InputError
from ro_fast.findings.claims import check_claims
from ro_fast.findings.harms import check_harms
from ro_fast.findings.ranking import check_ranking
from ro_fast.findings.verdict import LOOKS
from ro_fast.methods import baseline_of
from ro_fast.report.gallery import FIGURES
from ro_fast.storage import checkpoint
from ro_fast.storage.paths import part_of_path
from ro_fast.training import trainer


@dataclass(frozen=True)
class Branch:
    """One arm with one seed: its run, and the prefix it forks from."""

    arm: ArmConfig
    seed: int
    fork: int  # epochs of the prefix
    config: TrainConfig  # of the arm's run
    prefix: TrainConfig  # of the common run; its out is named by content
    final: FinalConfig | None = None  # how the finished run is scored

    @property
    def own_epochs(self) -> int:
        """Epochs from the fork on."""
        return self.config.trainer.epochs - self.fork


LOCAL = "local"  # the launcher that is this machine
AUTO = "auto"  # seeds= of a suite that adds seeds until its rules settle it


def seed_list(config: AblateConfig) -> list[int]:
    """The suite's seeds: as listed, or a number of them counted up from ``config.seed``; for "auto", those it begins with.

    >>> seed_list(AblateConfig(seed=4, seeds=2)), seed_list(AblateConfig(seeds=[7, 9])), seed_list(AblateConfig(seeds="auto"))
    ([4, 5], [7, 9], [0, 1, 2])
    """
    seeds = LOOKS[0] if config.seeds == AUTO else config.seeds
    if isinstance(seeds, int) and not isinstance(seeds, bool) and 1 <= seeds <= 1000:
        seeds = range(config.seed, config.seed + seeds)
    listed = list(seeds) if isinstance(seeds, (list, tuple, range)) else []
    if listed and all(type(s) is int and 0 <= s <= LARGEST_SEED for s in listed) and len(set(listed)) == len(listed):
        return listed
    raise InputError(
        f"seeds = {told(config.seeds)}; a number up to 1000, a list of different whole numbers from 0, or {AUTO} is needed"
    )


def fork_epoch(fork: float, epochs: int) -> int:
    """The epoch at which arms fork: a fraction of the run below 1, otherwise a number of epochs.

    >>> fork_epoch(0.2, 24), fork_epoch(12, 24)
    (5, 12)
    """
    epoch = round(fork * epochs) if fork < 1 else round(fork)
    if not 0 <= epoch < epochs:
        raise InputError(f"suite.fork = {fork:g} is epoch {epoch}; it should be from 0 to {epochs - 1}, before trainer.epochs")
    return epoch


def parts_of(suite: SuiteConfig) -> list[SuiteConfig]:
    """The suites that make up a suite; for one without parts, itself."""
    return list(suite.parts.values()) or [suite]


def arms_of(suite: SuiteConfig) -> list[ArmConfig]:
    """Every arm of a suite's parts once, ready to run: with its changes, those of its suite, and its fork.

    Raises:
        InputError: if there is no arm, a name is missing, or two parts use one name for different arms.
    """
    arms: dict[str, ArmConfig] = {}
    for part in parts_of(suite):
        if not part.arms:
            raise InputError(f"suite '{part.name}' has no arms")
        for arm in part.arms:
            part_of_path(arm.name, f"suite '{part.name}', arm")
            whole = dataclasses.replace(
                arm, set={**suite.set, **part.set, **arm.set}, fork=part.fork if arm.fork is None else arm.fork
            )
            known = arms.setdefault(arm.name, whole)
            if (known.set, known.fork) != (whole.set, whole.fork):
                raise InputError(
                    f"suite '{part.name}', arm '{arm.name}': it needs another name, since the suite '{suite.name}' "
                    "has an arm of that name with other changes"
                )
    return list(arms.values())


def plan(config: AblateConfig) -> list[Branch]:
    """Every arm with every seed, checked; seeds form the outer loop."""
    check_values(config)
    arms = arms_of(config.suite)
    if config.nproc != 1:
        raise InputError(f"nproc={config.nproc} is for a single run; a suite's runs are done side by side: jobs= and launcher=")
    if config.seeds == AUTO and config.suite.rules is None:
        raise InputError(f"seeds={AUTO} needs a suite with rules; '{config.suite.name}' has none: give a number of seeds")
    for part in parts_of(config.suite):
        check_claims(part.name, part.claims, [arm.name for arm in part.arms], bool(part.rules))
        check_ranking(part.name, part.ranking, [arm.name for arm in part.arms])
        check_harms(part)
        unknown = [name for name in part.figures if name not in FIGURES]
        if unknown:
            raise InputError(f"suite '{part.name}': figure '{unknown[0]}' is unknown; available: {', '.join(FIGURES)}")
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    common = TrainConfig(**{name: getattr(config, name) for name in names})
    device, branches = device_of(config), []
    for seed in seed_list(config):
        for arm in arms:
            try:
                run = changed(common, {**arm.set, "seed": seed})
                check_values(run)
            except (KeyError, InputError) as error:
                raise InputError(f"suite '{config.suite.name}', arm '{arm.name}': {error.args[0]}") from error
            fork = fork_epoch(arm.fork or 0, run.trainer.epochs)
            run.method["start_epoch"] = fork
            run.out = str(Path(config.out) / "runs" / arm.name / f"seed{seed}")
            trainer.check(run)
            prefix = _prefix_of(run, fork, Path(config.prefixes), device)
            branches.append(Branch(arm, seed, fork, run, prefix, _final(config.suite)))
    return branches


def _final(suite: SuiteConfig) -> FinalConfig | None:
    """The largest request of any part."""
    asked = [dataclasses.asdict(part.final) for part in (suite, *parts_of(suite)) if part.final is not None]
    for key, value in [item for scores in asked for item in scores.items()]:
        if value < 1:
            raise InputError(f"suite '{suite.name}': final.{key} = {value} should be at least 1")
    return FinalConfig(**{key: max(scores[key] for scores in asked) for key in asked[0]}) if asked else None


def device_of(config: AblateConfig) -> torch.device:
    """Where the runs are done: here, or, by another launcher, on the GPUs that it gives them, whatever this machine has.

    Raises:
        InputError: if it gives them none but they are to be trained on one, or there is none here.
    """
    launcher = config.launcher
    if launcher.name == LOCAL:
        return choose_device(config.device)
    if config.device == "cuda" and launcher.gpus == 0:
        raise InputError(f"device=cuda, but launcher={launcher.name} gives the runs no GPU; give launcher.gpus=1")
    return torch.device("cuda" if launcher.gpus and config.device != "cpu" else "cpu")


def _prefix_of(run: TrainConfig, fork: int, folder: Path, device: torch.device) -> TrainConfig:
    prefix = changed(run, {"method": baseline_of(run.method), "trainer.stop_after": fork, "trainer.log": [], "out": ""})
    name = checkpoint.digest(
        checkpoint.flat(changed(prefix, {"teachers": "", "data.extra": None})),
        data_of(run).fingerprint(),
        environment(device),
        str(torch.get_default_dtype()),
    )
    named: TrainConfig = changed(prefix, {"out": str(folder / name)})
    return named


_loaded: dict[str, ImageData] = {}


def data_of(config: TrainConfig) -> ImageData:
    """The run's data, read once per process."""
    key = checkpoint.digest(dataclasses.asdict(config.data))
    if key not in _loaded:
        _loaded[key] = load_data(config.data)
    return _loaded[key]
