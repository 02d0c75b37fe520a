"""Whatever stands on the command line: done, or refused in one sentence, without Python's words or Hydra's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ro_fast.benchmarks.faulty.lines import TINY, lines, workspace
from ro_fast.benchmarks.faulty.trial import ended_here
from ro_fast.check import check as run_check
from ro_fast.cli import compose
from ro_fast.config import AblateConfig, ArmConfig, CheckConfig, EvaluateConfig, SuiteConfig, TrainConfig, changed
from ro_fast.errors import InputError
from ro_fast.evaluation.checkpoints import evaluate_checkpoint
from ro_fast.suite.plan import plan
from ro_fast.training.validate import check


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workspace(tmp_path_factory.mktemp("lines")) as folder:
        yield folder


def refused(*line: str) -> str:
    """The one sentence with which a command line is refused."""
    end = ended_here(line)
    assert (end.code, end.fault) == (2, None), (line, end.stderr)
    return end.stderr


@pytest.mark.parametrize("command", ["check", "evaluate", "protocol", "prototype", "watch", "report"])
def test_an_unknown_language_is_told_before_any_work(command: str) -> None:
    assert "report.language = fr is unknown; available: en, ja" in refused(command, "report.language=fr")


def test_bad_lines_end_in_a_sentence(place: Path) -> None:
    count = 80
    ends = [ended_here(line) for line in lines(count, seed=0)]
    assert not [(end.line, end.fault, end.stderr) for end in ends if end.fault]
    assert sum(end.code == 2 for end in ends) > count / 2  # the grammar makes bad lines


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("trainer.lr_drops", [math.nan], "trainer.lr_drops[0] = nan should be a finite number"),
        ("trainer.lr_drops", [0.5, 2], "trainer.lr_drops[1] = 2 should be from 0 to 1"),
        ("trainer.lr_drops", [-1], "trainer.lr_drops[0] = -1 should be from 0 to 1"),
        ("trainer.lr_drops", 0.5, "trainer.lr_drops = 0.5 should be a list of numbers"),
        ("trainer.momentum", 2, "trainer.momentum = 2 should be from 0 to below 1"),
        ("trainer.weight_decay", -1, "trainer.weight_decay = -1 should be from 0 to 1"),
        ("trainer.lr", "fast", "trainer.lr = fast should be a number"),
        ("trainer.lr", None, "trainer.lr = null should be a number"),
        ("trainer.stop_after", 41, "trainer.stop_after = 41 should be at most trainer.epochs = 40"),
        ("trainer.batch_size", 0, "trainer.batch_size = 0 should be at least 1"),
        ("trainer.batch_size", 10**12, "trainer.batch_size = 1000000000000 should be at most 1000000000"),
        ("method", {"name": "baseline", "start_epoch": 40}, "method.start_epoch = 40 should be an epoch from 0 to 39"),
        ("attack.eps", math.nan, "attack.eps = nan should be a finite number"),
        ("attack.eps", -0.1, "attack.eps = -0.1 should be at least 0"),
        ("small_loss.value", math.nan, "small_loss.value = nan should be a finite number"),
        ("threads", 0, "threads = 0 should be from 1 to 1024"),
        ("threads", 10**6, "threads = 1000000 should be from 1 to 1024"),
        ("seed", -1, "seed = -1 should be from 0 to 4294967295"),
        ("seed", 10**30, f"seed = {10**30} should be from 0 to 4294967295"),
        ("seed", 1.5, "seed = 1.5 should be a whole number"),
        ("model", {"width": 8}, "model = {width: 8} should be given key by key, as in model.name"),
    ],
)
def test_values_that_mean_nothing_are_refused_by_name(key: str, value: object, words: str) -> None:
    config = changed(TrainConfig(), {key: value})
    with pytest.raises(InputError) as told:
        check(config)
    assert words in str(told.value)
    arms = [ArmConfig("baseline", role="baseline"), ArmConfig("other", {key: value})]
    if key not in ("seed", "method"):  # which a suite sets itself
        with pytest.raises(InputError) as told:
            plan(AblateConfig(suite=SuiteConfig("tiny", arms=arms, fork=0)))
        assert words in str(told.value) and (key.startswith("trainer.stop") or "suite 'tiny', arm 'other'" in str(told.value))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plan(changed(AblateConfig(), {"suite.fork": math.nan})), "suite.fork = nan should be a finite number"),
        (lambda: plan(changed(AblateConfig(), {"jobs": 0})), "jobs = 0 should be from 1 to 1024"),
        (lambda: plan(AblateConfig(suite=SuiteConfig("tiny", arms=[ArmConfig("a", fork=-1)]))), "suite.arms[0].fork = -1 should"),
        (lambda: run_check(CheckConfig(eps_l2=0.0)), "eps_l2 = 0.0 should be above 0"),
        (lambda: evaluate_checkpoint(EvaluateConfig("x", samples=0)), "samples = 0 should be at least 1"),
        (lambda: evaluate_checkpoint(EvaluateConfig("x", eps=math.inf)), "eps = inf should be a finite number"),
    ],
)
def test_other_configurations_are_checked_as_well(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError) as told:
        call()
    assert words in str(told.value)


@pytest.mark.parametrize("seeds", [0, -1, 10**12, 1.5, True, [], [0, 0], [-1], [1.5], "3", None, [10**30]])
def test_seeds_are_few_and_those_of_a_generator(seeds: object) -> None:
    with pytest.raises(InputError, match=r"seeds = .*a number up to 1000"):
        plan(AblateConfig(suite=SuiteConfig("tiny", arms=[ArmConfig("baseline")]), seeds=seeds))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0$"), max_size=12))
def test_text_is_what_the_shell_passed_on(text: str) -> None:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if not quoted and text != "null" and not text.startswith("~"):
        assert compose("check", ["data=npz", f"data.path={text}"]).data.path == text


@pytest.mark.parametrize(
    "text", ["a=b", "a~b", "a,b", "(1)", "[x]", "{x}", "a & b", "#1", "a;b", "it's", '"', "\\", "1e5", "true"]
)
def test_paths_keep_their_letters(text: str) -> None:
    assert compose("train", ["data=npz", f"out={text}", f"data.path=./{text}"]).out == text


def test_a_path_below_home_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert compose("train", ["data=npz", "data.path=~/x"]).data.path == "/somewhere/x"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["train", "trainer.epoch=3"], "trainer.epoch is not a key of train; did you mean trainer.epochs?"),
        (["train", "lr=3"], "did you mean trainer.lr? ro-fast train --help=all"),
        (["train", "data=digit_noisy"], "data=digit_noisy is unknown; did you mean data=digits_noisy? available: cifar10"),
        (["train", "method=gairat", "method.ofset=1"], "method=gairat has no such option; did you mean method.offset?"),
        (["train", "method.slope=1"], "method.slope: method=baseline has no such option; mail has it"),
        (["train", "seed=1,2"], "seed = 1,2 should be a whole number"),
        (["train", "seed=${out}"], "seed = ${out} refers to out, which is text"),
        (["train", "~out"], "~out is not of the form key=value"),
        (["train", "seed=${data.seed}", "data.seed=${seed}"], "${key} refers to itself"),
        (["train", "--fly"], "usage: ro-fast train [key=value ...]"),
        (["check", "data.path=" + "x" * 300, "data=npz"], "is too long for the name of a file"),
        (["doctor", "x=1"], "x=1 is not a key: ro-fast doctor takes none"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_with_what_was_meant(line: list[str], words: str, place: Path) -> None:
    assert words in refused(*line)


def test_a_broken_state_is_not_continued(place: Path) -> None:
    import torch

    state = torch.load("run/last.pt", weights_only=True)
    for part in ("identity", "model", "best", "history", "streams"):
        torch.save({**state, part: "x"}, "run/last.pt")
        assert "run/last.pt: parts of its state are missing or of another kind" in refused("train", *TINY["train"], "out=run")
    torch.save(state, "run/last.pt")
