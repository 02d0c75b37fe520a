"""Evaluation protocols: how many images, what is fixed, and which numbers mean go."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.browser import fits
from helpers.pages import english
from helpers.runs import small

from ro_fast.cli import run
from ro_fast.config import DataConfig, EvaluateConfig, ProtocolConfig
from ro_fast.environment import Environment
from ro_fast.errors import InputError
from ro_fast.evaluation.checkpoints import Evaluated, OfCheckpoint
from ro_fast.evaluation.evaluate import OfClass, Result
from ro_fast.evaluation.levels import LEVELS
from ro_fast.protocol.decide import GO, NO_GO, UNDECIDED, decide
from ro_fast.protocol.page import sentences
from ro_fast.protocol.protocol import Protocol, images_for, make_protocol, obey, read_protocol, write_protocol
from ro_fast.training.trainer import train

DIGITS = DataConfig(name="digits", train_size=200, test_size=100, eps=0.05)


def protocol(**changes: object) -> Protocol:
    return make_protocol(ProtocolConfig(data=DIGITS, robust=0.5, level="quick", **changes))


def evaluated(robust: list[float], natural: float = 0.9, worst: float = 0.4, data: str = "digits") -> Evaluated:
    images = 1000
    result = Result(natural, (0.0, 1.0), images, 0, 0.0)
    classes = [OfClass(3, 100, natural, worst, (0.0, 1.0), "three"), OfClass(7, 100, natural, 0.9, (0.0, 1.0), "seven")]
    models = {}
    for k, acc in enumerate(robust):
        models[f"seed{k}/best"] = OfCheckpoint(
            acc, images, 0.05, "linf", 0, result, result, result, {"square": result}, [], LEVELS["quick"], "", classes
        )
    return Evaluated("run", data, models, Environment())


def test_as_many_images_as_the_precision_needs() -> None:
    rng = np.random.default_rng(0)
    n = images_for(0.03, 0.4)
    inside = np.abs(rng.binomial(n, 0.4, 4000) / n - 0.4) <= 0.03
    assert 0.94 < inside.mean() < 0.965
    few = protocol(precision=0.01)
    assert few.images == few.available == 100 and few.precision == pytest.approx(0.098, abs=1e-3)


@pytest.mark.parametrize(
    ("robust", "code"),
    [
        ([0.60, 0.61, 0.59], GO),
        ([0.40, 0.41, 0.39], NO_GO),
        ([0.51, 0.50, 0.52], UNDECIDED),
        ([0.60, 0.61], UNDECIDED),  # fewer runs than agreed
        ([0.75, 0.50, 0.62], UNDECIDED),  # seeds differ too much
    ],
)
def test_the_interval_decides_not_the_mean(robust: list[float], code: str) -> None:
    decision = decide(protocol(), evaluated(robust))
    assert decision.code == code
    for language in ("en", "ja"):
        assert len(sentences(decision, language)) == 1


def test_one_missed_limit_is_a_no_go_and_what_is_open_says_how_many_images_would_settle_it() -> None:
    fixed = protocol(natural=0.8, worst_class=0.6)
    decision = decide(fixed, evaluated([0.6, 0.6, 0.6], worst=0.3))
    assert decision.code == NO_GO and decision.criteria[-1].label == "three"
    assert "robust accuracy of the worst class (three) is 30.0 %" in sentences(decision, "en")[0]
    close = decide(fixed, evaluated([0.6, 0.6, 0.6], worst=0.57))
    worst = close.criteria[-1]
    assert close.code == worst.code == UNDECIDED and worst.images_needed == images_for(0.03, 0.57)
    between = decide(replace(fixed, limits=replace(fixed.limits, no_go=0.3)), evaluated([0.4, 0.4, 0.4]))
    assert between.criteria[0].code == UNDECIDED and between.criteria[0].images_needed is None  # no image settles a grey zone
    assert decide(fixed, evaluated([1.0] * 3, natural=1.0, worst=1.0)).code == GO


def test_a_protocol_is_kept_as_it_is(tmp_path: Path) -> None:
    fixed = protocol(signed_by=["B. Müller", "鈴木"])
    write_protocol(fixed, tmp_path / "p.yaml")
    assert read_protocol(tmp_path / "p.yaml") == fixed
    config = obey(EvaluateConfig(checkpoint="x"), fixed)
    assert (config.samples, config.eps, config.steps, config.level) == (fixed.images, 0.05, 10, "quick")
    assert obey(EvaluateConfig(eps=0.05, batch_size=3), fixed).batch_size == 3
    with pytest.raises(InputError, match=r"eps=0\.1 was given, but the protocol fixes 0\.05"):
        obey(EvaluateConfig(eps=0.1), fixed)
    with pytest.raises(InputError, match="is for data 'digits', but the evaluation used 'other'"):
        decide(fixed, evaluated([0.6], data="other"))
    for text in ("a: [", "limits: 3", "- x", "\x00"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match="is not a protocol"):
            read_protocol(tmp_path / "bad.yaml")
    for key, value in (("checkpoint", ""), ("norm", "l1"), ("level", None), ("seeds", 0), ("robust", 40.0), ("no_go", 0.9)):
        given = yaml.safe_load((tmp_path / "p.yaml").read_text(encoding="utf-8"))
        (given["limits"] if key in given["limits"] else given)[key] = value
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(given))
        with pytest.raises(InputError, match=rf"bad\.yaml.*{key}"):
            read_protocol(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"robust": None}, "robust= is not given"),
        ({"robust": 40.0}, "robust = 40.0 should be below 1"),
        ({"robust": float("nan")}, "robust = nan should be a finite number"),
        ({"no_go": 0.6}, "no_go = 0.6 should be at most robust = 0.5"),
        ({"seeds": 0}, "seeds = 0 should be at least 1"),
        ({"checkpoint": "first"}, "checkpoint 'first' is unknown"),
        ({"norm": "l1"}, "norm 'l1' is unknown"),
        ({"eps": -1.0}, "eps = -1.0 should be above 0"),
        ({"level": "hard"}, "level 'hard' is unknown"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_protocol(ProtocolConfig(**{"data": DIGITS, "robust": 0.5, **changes}))


def test_from_agreement_to_decision(tmp_path: Path, browser: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of an arm, evaluated as agreed; the page tells the decision in either language."""
    for seed in (0, 1):
        train(small(tmp_path / "arm" / f"seed{seed}", seed=seed, data__name="digits"))
    data = ["data=digits", "data.train_size=200", "data.test_size=100", "data.label_noise=0.2", "data.eps=0.05"]
    agreed = ["robust=0.9", "seeds=2", "level=quick", f"out={tmp_path / 'agreed'}"]
    assert run(["protocol", *data, *agreed]) == 0
    before = (tmp_path / "agreed" / "protocol.html").read_text(encoding="utf-8")
    assert "Agreed before the evaluation" in before and "No-go:" not in before
    out = tmp_path / "found"
    command = ["evaluate", f"protocol={tmp_path / 'agreed' / 'protocol.yaml'}", f"checkpoint={tmp_path / 'arm'}", "state=best"]
    assert run([*command, "masking=true", f"out={out}", "report.language=ja"]) == 0
    assert json.loads((out / "decision.json").read_text())["code"] == UNDECIDED  # two seeds say little
    assert set(json.loads((out / "evaluation.json").read_text())["models"]) == {"seed0/best", "seed1/best"}
    assert "判断保留：ロバスト精度は" in capsys.readouterr().out
    page = (out / "protocol.html").read_text(encoding="utf-8")
    assert english(page) == []
    fits(browser, out / "protocol.html")
    assert '<p class="decision">判断保留</p>' in page and "信頼区間0.0〜100.0%" in page
    assert not logging.getLogger("ro_fast").disabled  # what is told beforehand would be lost
