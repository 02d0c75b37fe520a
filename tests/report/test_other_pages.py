"""evaluation.html and the page of ro-fast watch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.browser import fits
from helpers.pages import english, outside

from ro_fast.attacks.steady import RANDOM
from ro_fast.environment import environment
from ro_fast.evaluation.checkpoints import Evaluated, OfCheckpoint
from ro_fast.evaluation.evaluate import evaluate_model
from ro_fast.evaluation.levels import Settings
from ro_fast.overfitting import watch
from ro_fast.overfitting.curve_files import LearningCurve
from ro_fast.report.evaluation_page import write_evaluation_page
from ro_fast.report.watch_page import write_watch_page


@pytest.fixture(scope="module")
def evaluated(robust_digits) -> Evaluated:
    model, x, y = robust_digits
    quick = Settings(steps=3, apgd_steps=3, targets=2, queries=5, masking=False)
    found = evaluate_model(model, x[:60], y[:60], 0.12, settings=quick)
    doubted = dataclasses.replace(found, warnings=[RANDOM])
    models = {name: OfCheckpoint(**vars(one), epoch=3) for name, one in (("best", found), ("last", doubted))}
    return Evaluated("runs/<b>a", "digits", models, environment(torch.device("cpu")))


@pytest.mark.parametrize("language", ["en", "ja"])
def test_an_evaluation_has_a_page(evaluated: Evaluated, browser, language: str, tmp_path: Path) -> None:
    page = write_evaluation_page(evaluated, tmp_path, language)
    text = page.read_text(encoding="utf-8")
    assert f"{100 * evaluated.models['best'].robust_acc:.1f}" in text and "<b>a" not in text and outside(text) == []
    told = {"en": "Last state: the model is random", "ja": "最後の重み：モデルの出力は毎回変わります"}
    assert told[language] in text and (language == "en" or english(text) == [])
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    fits(browser, page)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_many_seeds_fit_on_an_evaluations_page(evaluated: Evaluated, browser, language: str, tmp_path: Path) -> None:
    models = {f"seed{seed}/{state}": model for seed in range(5) for state, model in evaluated.models.items()}
    page = write_evaluation_page(dataclasses.replace(evaluated, models=models), tmp_path, language)
    text = page.read_text(encoding="utf-8")
    assert text.count({"en": "mean of 5 runs", "ja": "5回の訓練の平均"}[language]) == 2 and "seed4" in text
    fits(browser, page)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_learning_curve_has_a_page(browser, language: str, tmp_path: Path) -> None:
    robust = [min(0.5, 0.1 + 0.02 * epoch) - 0.004 * max(0, epoch - 30) for epoch in range(80)]
    train = [0.1 + 0.01 * epoch for epoch in range(80)]
    curve = LearningCurve(list(range(80)), {"test_robust_acc": robust, "train_robust_acc": train}, ["test_robust_acc"])
    verdict = watch(robust, train_robust_acc=train)
    page = write_watch_page(curve, verdict, "<b>a.csv", tmp_path / "curve.html", language)
    text = page.read_text(encoding="utf-8")
    assert verdict.overfitting and f"{verdict.best_epoch}" in text and "<b>a" not in text and outside(text) == []
    assert {"en": "Robust overfitting since epoch", "ja": "からロバスト過学習が起きている"}[language] in text
    assert language == "en" or english(text) == []
    fits(browser, page)
