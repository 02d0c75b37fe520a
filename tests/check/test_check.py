"""The data check: planted faults are found, clean data raises nothing, and findings can be left out of training."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.browser import fits
from helpers.pages import english, outside

pytest.importorskip("sklearn")
pytest.importorskip("jinja2")

from ro_fast.check import Finding, check, scores
from ro_fast.check.balance import balance
from ro_fast.check.duplicates import duplicates
from ro_fast.check.effects import effect, measured
from ro_fast.check.figures import draw_map
from ro_fast.check.finding import KINDS, SECTIONS, SEVERITIES
from ro_fast.check.images import Images
from ro_fast.check.margins import margins
from ro_fast.check.page import looked_at, page_words
from ro_fast.check.uncovered import uncovered
from ro_fast.check.values import values
from ro_fast.config import CheckConfig, DataConfig, PageConfig
from ro_fast.data import load_data
from ro_fast.data.check_file import EXCLUDED_KINDS, Check, Observation, excluded, read_check
from ro_fast.errors import InputError
from ro_fast.findings.study import read_results
from ro_fast.pages.figure_style import NARROW, WIDE, style
from ro_fast.pages.words import LANGUAGES
from ro_fast.storage.records import as_json

BIAS = Path(__file__).parents[2] / "benchmarks/results/cpu/bias-digits_noisy"


def run(out: Path, name: str = "npz", **options) -> Check:
    own = {key: options.pop(key) for key in ("eps", "eps_l2", "bias", "report") if key in options}
    return check(CheckConfig(data=DataConfig(name=name, **options), out=str(out), threads=1, **own))


def found(result: Check, *severities: str) -> set[str]:
    wanted = severities or ("warning", "serious")
    return {finding.kind for finding in result.findings if finding.severity in wanted}


def of_kind(result: Check, kind: str) -> Observation:
    """The first finding of a kind, which is the most severe."""
    return next(finding for finding in result.findings if finding.kind == kind)


def digits(seed: int = 0) -> dict[str, np.ndarray]:
    """Digits as floats, 600 to train on, 20 more to validate and 200 to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))[:820]
    x, y = (bunch.images[order, None] / 16).astype(np.float32), bunch.target[order]
    return {"x_train": x[:620], "y_train": y[:620], "x_test": x[620:], "y_test": y[620:]}


def planted(tmp_path: Path, **changes: np.ndarray) -> Check:
    path = tmp_path / "data.npz"
    np.savez(path, **(digits() | changes))
    return run(tmp_path / "out", path=str(path), val_size=20)


def pixels(tmp_path: Path, **arrays: np.ndarray) -> list[Finding]:
    """What is found in the values of these arrays, which validation doesn't split."""
    np.savez(tmp_path / "data.npz", **arrays)
    return values(load_data(DataConfig(name="npz", path=str(tmp_path / "data.npz"))).pooled(), 8 / 255)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> tuple[Path, Check]:
    out = tmp_path_factory.mktemp("noisy")
    return out, run(out, "digits_noisy", label_noise=0.2, eps=0.03, bias=str(BIAS))


def test_the_page_in_japanese_has_no_english_sentence(browser: Any, tmp_path: Path) -> None:
    """Over data with findings of every severity."""
    arrays = digits()
    x, y = arrays["x_train"], arrays["y_train"].copy()
    x[5], x[10], x[20], arrays["x_test"][3] = 0, x[11], 0.999 * x[21] + 2e-4, x[30]
    y[:60], y[10] = np.random.default_rng(2).integers(0, 10, 60), (y[11] + 1) % 10
    np.savez(tmp_path / "data.npz", **(arrays | {"x_test": 0.9 * arrays["x_test"], "y_train": y}))
    result = run(tmp_path / "out", path=str(tmp_path / "data.npz"), bias=str(BIAS), report=PageConfig("ja"))
    assert found(result) >= {"label_error", "range", "shift", "duplicate", "leakage"} and found(result, "info")
    page = tmp_path / "out" / "check.html"
    assert "訓練画像" in page.read_text(encoding="utf-8") and english(page.read_text(encoding="utf-8")) == []
    fits(browser, page)


def test_redrawn_labels_are_found(noisy: tuple[Path, Check]) -> None:
    from sklearn.datasets import load_digits
    from sklearn.metrics import average_precision_score

    out, result = noisy
    given = load_data(DataConfig(name="digits_noisy", label_noise=0.2))
    label = dict(zip([*given.rows_train, *given.rows_val], [*given.y_train.tolist(), *given.y_val.tolist()], strict=True))
    right = load_digits().target
    wrong = np.array([label[row] != right[row] for row in result.train.rows])
    score = scores(out / "check.json").numpy()
    assert len(score) == result.train_size == 1200
    assert average_precision_score(wrong, score) >= 0.95  # 0.995 measured; chance is 0.18
    finding = of_kind(result, "label_error")
    assert finding.severity == "serious" and finding.count == len(finding.train_indices)
    found_wrong = [label[row] != right[row] for row in finding.train_indices]
    assert np.mean(found_wrong) >= 0.95 and sum(found_wrong) >= 0.7 * wrong.sum()
    assert finding.train_classes == [str(label[row]) for row in finding.train_indices]
    assert set(finding.train_indices) & set(result.validation)


def test_files_are_as_promised(noisy: tuple[Path, Check]) -> None:
    out, result = noisy
    assert read_check(out / "check.json") == result
    for finding in result.findings:
        assert finding.kind in KINDS and finding.severity in {"info", "warning", "serious"}
        assert finding.message and finding.advice and 0 <= finding.share <= 1
    page = (out / "check.html").read_text(encoding="utf-8")
    worst = of_kind(result, "label_error").message
    assert page.index(result.summary) < page.index(worst) < page.index("<h2>")
    assert page.count('class="example"') >= 12
    assert outside(page) == []
    assert [page.index(f"{i}. {name}") for i, name in enumerate(SECTIONS, start=1)] == sorted(
        page.index(f"{i}. {name}") for i, name in enumerate(SECTIONS, start=1)
    )


def test_effects_on_robust_overfitting_come_from_a_results_file(noisy: tuple[Path, Check], tmp_path: Path) -> None:
    out, result = noisy
    harm = next(h for h in json.loads((BIAS / "results.json").read_text())["harms"] if h["name"] == "wrong_labels")
    told = f"makes robust overfitting worse by {100 * harm['gap']['difference']:.1f} points"
    assert told in (of_kind(result, "label_error").effect or "") and told in (out / "check.html").read_text()
    assert effect("label_error", None) is None and effect("margin", read_results(BIAS)) is None
    shutil.copytree(BIAS, tmp_path / "ablate" / BIAS.name)
    for name, there in (("digits_noisy", True), ("digits", False)):
        config = CheckConfig(data=DataConfig(name=name), out=str(tmp_path / "check" / name))
        assert (measured(config) is not None) == there
    with pytest.raises(InputError, match=r"holds no results\.json"):
        run(tmp_path, "digits", bias=str(tmp_path))


def test_clean_data_has_no_fault(tmp_path: Path) -> None:
    result = run(tmp_path, "digits", eps=0.04)
    assert found(result) == set()
    low, high = result.two_sample_test["low"], result.two_sample_test["high"]
    assert low <= 0.5 <= high


def test_exact_duplicates_keep_one_unless_their_labels_differ(tmp_path: Path) -> None:
    data = digits()
    x, y = data["x_train"], data["y_train"].copy()
    x[100:115], y[100:115] = x[:15], y[:15]
    x[200:205] = x[20:25]
    y[200:205] = (y[20:25] + 1) % 10
    result = planted(tmp_path, x_train=x, y_train=y)
    agree, conflict = sorted((f for f in result.findings if f.kind == "duplicate"), key=lambda f: -f.count)
    assert agree.severity == "warning" and agree.train_indices == [*range(100, 115)]
    assert conflict.train_indices == [*range(20, 25), *range(200, 205)]


@pytest.mark.parametrize(("validated", "severity"), [([], "info"), ([7], "warning"), ([7, 500], "info")])
def test_a_single_copy_matters_where_it_is_validated_with(tmp_path: Path, validated: list[int], severity: str) -> None:
    data = digits()
    data["x_train"][500], data["y_train"][500] = data["x_train"][7], data["y_train"][7]
    np.savez(tmp_path / "data.npz", **data)
    view = Images(
        load_data(DataConfig(name="npz", path=str(tmp_path / "data.npz"))).pooled(), validates=np.isin(np.arange(620), validated)
    )
    finding = next(finding for finding in duplicates(view)[0] if finding.kind == "duplicate")
    assert finding.train_indices == [500] and finding.severity == severity


def test_leakage_and_near_duplicates(tmp_path: Path) -> None:
    data, rng = digits(), np.random.default_rng(1)
    data["x_test"][:6], data["y_test"][:6] = data["x_train"][:6], data["y_train"][:6]
    near = data["x_train"][50:60] * 0.9 + 0.05 + 0.01 * rng.standard_normal((10, 1, 8, 8))  # another exposure of the same object
    data["x_train"][300:310], data["y_train"][300:310] = near.clip(0, 1), data["y_train"][50:60]
    result = planted(tmp_path, **data)
    leaked = of_kind(result, "leakage")
    assert leaked.severity == "serious" and leaked.train_indices == leaked.test_indices == [*range(6)]
    near_found = of_kind(result, "near_duplicate").train_indices
    assert len(near_found) >= 7 and set(near_found) <= set(range(300, 310))
    assert "duplicate" not in found(result)


def test_shift_and_unlike_images(tmp_path: Path) -> None:
    data = digits()
    rng = np.random.default_rng(2)
    data["x_train"][:25] = rng.random((25, 1, 8, 8))
    result = planted(tmp_path, **data)
    unlike = of_kind(result, "unrepresentative")
    assert unlike.severity == "warning" and 20 <= unlike.count <= 32
    assert "shift" not in found(result)
    data["x_test"] = np.roll(data["x_test"], 1, axis=3) * 0.8
    shifted = of_kind(planted(tmp_path, **data), "shift")
    assert shifted.severity == "serious"


def test_imbalance_and_a_class_that_the_test_lacks(tmp_path: Path) -> None:
    data = digits()
    kept = ~((data["y_train"] == 3) & (np.arange(620) > 60))
    rest = data["y_test"] != 7
    result = planted(
        tmp_path,
        x_train=data["x_train"][kept],
        y_train=data["y_train"][kept],
        x_test=data["x_test"][rest],
        y_test=data["y_test"][rest],
    )
    messages = " ".join(f.message for f in result.findings if f.kind == "imbalance" and f.severity == "serious")
    assert "no test image of class 7" in messages and "small classes: 3" in messages
    shares = next(f for f in result.findings if f.message.startswith("Class 3 is"))
    assert "of the classes present in both" in shares.message
    y = data["y_test"][rest]
    assert f"but {100 * (y == 3).mean():.1f} % of test images" in shares.message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x / 255, "divided by 255 twice"),
        (lambda x: (x * 16).astype(np.uint8), "No value exceeds 0.063"),
        (lambda x: np.where(np.arange(len(x))[:, None, None, None] < 40, np.float32(0.5), x), "blank"),
    ],
)
def test_wrong_ranges(tmp_path: Path, change, told: str) -> None:
    data = digits()
    finding = pixels(tmp_path, **{**data, "x_train": change(data["x_train"]), "x_test": change(data["x_test"])})[0]
    assert finding.severity == "serious" and told in finding.message


def test_parts_on_different_scales(tmp_path: Path) -> None:
    result = planted(tmp_path, x_test=digits()["x_test"] / 2)
    assert of_kind(result, "range").severity == "serious"
    assert of_kind(result, "shift").severity == "serious"


def test_margins_against_two_eps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = np.clip(0.1 + 0.3 * y[:, None] + 0.02 * rng.random((80, 12)), 0, 1).astype(np.float32)
    path = tmp_path / "vectors.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x[:20] + 0.001, y_test=y[:20])
    data = load_data(DataConfig(name="npz", path=str(path))).pooled()
    pairs = torch.cdist(data.x_train.double(), data.x_train.double(), p=float("inf"))
    nearest = pairs.masked_fill(data.y_train[:, None] == data.y_train, float("inf")).amin(1)
    for eps in (0.05, float(nearest.median()) / 2, 0.2):
        finding = margins(Images(data), eps, 1e-6).findings[0]
        assert finding.count == int((nearest <= 2 * eps + 1e-7).sum())


def test_pairs_at_exactly_two_eps_count(tmp_path: Path) -> None:
    y = np.arange(40) % 2
    x = (np.arange(0, 239, dtype=np.int64) + 16 * y[:, None]).astype(np.uint8)
    np.savez(tmp_path / "bytes.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    data = load_data(DataConfig(name="npz", path=str(tmp_path / "bytes.npz"), val_size=4)).pooled()
    assert margins(Images(data), 8 / 255, 1e-6).findings[0].count == 40


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_names_of_findings_leave_the_map_its_room(language: str, width: float) -> None:
    view = Images(load_data(DataConfig(name="digits")).pooled())
    findings = [Finding(kind, "warning", 40, 0.1, "", "", list(range(40)), []) for kind in KINDS]
    rows = np.arange(200)
    with style():
        chart = draw_map(view, findings, rows, view.features[0][rows, :2], "PCA", page_words(language), width)
        chart.figure.canvas.draw()
    room = [axes.get_position() for axes in chart.figure.axes]
    across = 0.35 if width == WIDE else 0.7  # two panels beside each other, or one below the other
    assert all(panel.width > across and panel.height > 0.2 for panel in room)


def test_a_radius_that_no_stored_image_can_hold_is_told(tmp_path: Path) -> None:
    x = (np.random.default_rng(0).integers(0, 17, (60, 1, 8, 8)) / 16).astype(np.float32)
    np.savez(tmp_path / "grey.npz", x_train=x, y_train=np.arange(60) % 2, x_test=x[:20], y_test=np.arange(20) % 2)
    data = load_data(DataConfig(name="npz", path=str(tmp_path / "grey.npz"), val_size=4)).pooled()
    below, above = ([f for f in values(data, eps) if f.kind == "radius"] for eps in (0.031, 0.0313))
    assert [f.severity for f in below] == ["warning"] and "49.6 % of one step" in below[0].message and above == []


@pytest.mark.parametrize(("colour", "severity"), [(True, "warning"), (False, "info")])
def test_grey_images_stored_in_colour(tmp_path: Path, colour: bool, severity: str) -> None:
    data = {name: np.repeat(x, 3, axis=1) if x.ndim == 4 else x for name, x in digits().items()}
    data["x_train"][:30] = 0.5  # blank, which is reported separately from grey
    if colour:
        data["x_train"][60:, 0] /= 2
        data["x_test"][5:, 0] /= 2
    told = "grey in a set of colour" if colour else "All images are grey"
    grey = next(finding for finding in pixels(tmp_path, **data) if told in finding.message)
    assert grey.severity == severity and grey.share == grey.count / 820
    if colour:
        assert grey.train_indices == [*range(30, 60)] and grey.test_indices == [0, 1, 2, 3, 4]
    else:
        assert grey.count == 590 + 200


def test_exclude_leaves_out_what_was_found_and_nothing_else(noisy: tuple[Path, Check]) -> None:
    out, result = noisy
    whole = load_data(DataConfig(name="digits_noisy", label_noise=0.2))
    data = load_data(DataConfig(name="digits_noisy", label_noise=0.2, exclude=str(out / "check.json")))
    gone = of_kind(result, "label_error").train_indices
    kept, kept_val = (np.flatnonzero(~np.isin(rows, gone)) for rows in (whole.rows_train, whole.rows_val))
    assert len(kept) + len(kept_val) == 1200 - len(gone)
    assert torch.equal(data.x_train, whole.x_train[kept]) and torch.equal(data.y_train, whole.y_train[kept])
    assert torch.equal(data.x_val, whole.x_val[kept_val]) and torch.equal(data.x_test, whole.x_test)
    assert data.redrawn.float().mean() < 0.06 < whole.redrawn.float().mean()
    assert torch.equal(scores(out / "check.json", data), scores(out / "check.json", whole)[kept])


def test_exclude_of_other_data_is_refused(noisy: tuple[Path, Check], tmp_path: Path) -> None:
    out, result = noisy
    for options in ({"seed": 1}, {"label_noise": 0.1}):
        with pytest.raises(InputError, match=r"was made for other images or labels.*number \d+.*same data\.\*"):
            load_data(DataConfig(**{"name": "digits_noisy", "label_noise": 0.2, "exclude": str(out / "check.json"), **options}))
    with pytest.raises(InputError, match=r"cannot be read.*ro-fast check"):
        load_data(DataConfig(exclude="nowhere.json"))
    data = load_data(DataConfig(name="digits_noisy", label_noise=0.2))
    whole_class, validation = data.rows_train[data.y_train == 4].tolist(), data.rows_val.tolist()
    leak = Observation("leakage", "serious", 1, 0.1, "", "")
    for content, told in (
        ({}, "has version 1 but 2 is needed.*run the same ro-fast check again"),
        ({"version": 2}, "missing required field `data`"),
        (as_json(result) | {"train_size": "many"}, "train_size: expected `int`, got `str`"),
        (as_json(replace(result, findings=[replace(leak, train_indices=[1797])])), "training images that its data don't have"),
        (as_json(replace(result, label_error_score=[0.5])), "should be 1200 finite numbers"),
        (as_json(replace(result, findings=[replace(leak, train_indices=whole_class)])), "every training image of class 4"),
        (as_json(replace(result, findings=[replace(leak, train_indices=validation)])), "every validation image"),
    ):
        (tmp_path / "other.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=told):
            load_data(DataConfig(name="digits_noisy", label_noise=0.2, exclude=str(tmp_path / "other.json")))


# Numbers, files and classes as the user knows them


CLASSES = ("=cat", "+dog", "@owl")  # as a spreadsheet would take for formulas


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of three kinds in no order, the last two rarer."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1, 2], [120, 30, 30]))
    return (rng.integers(0, 60, (180, 1, 6, 6)) + 60 * y[:, None, None, None] + 30).astype(np.uint8), y


def as_npz(root: Path, arrays: dict[str, np.ndarray]) -> tuple[str, list]:
    np.savez(root / "own.npz", **arrays)
    return "own.npz", [*range(180)]


def as_csv(root: Path, arrays: dict[str, np.ndarray]) -> tuple[str, list]:
    """Training and test images on mixed lines, which an editor counts from 1, the header's."""
    from PIL import Image

    lines, line_of = ["file,class,split"], {}
    for place in np.random.default_rng(2).permutation(360).tolist():
        part, i = ("train", place) if place < 180 else ("test", place - 180)
        Image.fromarray(arrays[f"x_{part}"][i, 0]).save(root / f"{part}{i}.png")
        lines.append(f"{part}{i}.png,{CLASSES[arrays[f'y_{part}'][i]]},{part}")
        line_of[part, i] = len(lines)
    (root / "own.csv").write_text("\n".join(lines), encoding="utf-8")
    return "own.csv", [line_of["train", i] for i in range(180)]


def as_folder(root: Path, arrays: dict[str, np.ndarray]) -> tuple[str, list]:
    from PIL import Image

    names = []
    for part in ("train", "test"):
        for i, (image, label) in enumerate(zip(arrays[f"x_{part}"], arrays[f"y_{part}"], strict=True)):
            file = root / "own" / part / CLASSES[label] / f"画像{7 * i % 180:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(file)
            names += [f"{part}/{CLASSES[label]}/{file.name}"] if part == "train" else []
    return "own", names


@pytest.mark.parametrize(("name", "written"), [("npz", as_npz), ("csv", as_csv), ("folder", as_folder)])
def test_the_images_named_are_the_users_and_just_these_are_left_out(tmp_path: Path, name: str, written) -> None:
    (x, y), (x_test, y_test) = blobs(0), blobs(1)
    cats, dog = np.flatnonzero(y == 0), np.flatnonzero(y == 1)[0]
    x[cats[60:72]], x[dog], x[cats[100]] = x[cats[:12]], x[cats[90]], x_test[7]
    path, known_as = written(tmp_path, {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test})
    # Of copies the first that the user lists stays; of equal images with different labels none does.
    wanted = {max(known_as[i], known_as[j]) for i, j in zip(cats[60:72], cats[:12], strict=True)}
    wanted |= {known_as[i] for i in (dog, cats[90], cats[100])}
    own = {"name": name, "path": str(tmp_path / path)}
    result = run(tmp_path / "out", **own)
    text = (tmp_path / "out" / "check.csv").read_bytes().decode("utf-8")
    table = [*csv.DictReader(text.removeprefix("\ufeff").splitlines())]
    assert text[0] == "\ufeff" and not any(cell[:1] in "=+-@" for line in table for cell in line.values() if cell)
    severities = [line["severity"] for line in table]
    assert severities == sorted(severities, key=SEVERITIES.index)
    column = "file" if name == "folder" else "row"
    class_of = {str(known_as[i]): str(y[i]) if name == "npz" else f"'{CLASSES[y[i]]}" for i in range(180)}
    listed = {line[column]: line["class"] for line in table if line["split"] == "train" and line["finding"] in EXCLUDED_KINDS}
    assert listed == {str(key): class_of[str(key)] for key in wanted}
    assert any("which flatters validation" in finding.message for finding in result.findings)
    check_file = tmp_path / "out" / "check.json"
    for options in ({}, {"train_size": 100, "val_size": 40}, {"seed": 3}):
        whole, left = (load_data(DataConfig(**own, **options, exclude=file)) for file in (None, str(check_file)))
        for part in ("train", "val"):
            rows, files = getattr(whole, f"rows_{part}"), getattr(whole, f"files_{part}")
            stays = ~np.isin(files if name == "folder" else rows, [*wanted])
            assert torch.equal(getattr(left, f"x_{part}"), getattr(whole, f"x_{part}")[stays])
        images = torch.cat([left.x_train, left.x_val, left.x_test]).flatten(1)
        assert len(images.unique(dim=0)) == len(images)  # nothing leaks, into validation neither
        score = dict(zip(result.train.rows, result.label_error_score, strict=True))
        assert scores(check_file, left).tolist() == [score[row] for row in left.rows_train]


def test_what_was_not_examined_is_told_and_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = digits()
    data["x_train"][300:] = data["x_train"][:320]
    data["y_train"][300:] = data["y_train"][:320]
    data |= {name: data[name].reshape(-1, 64) for name in ("x_train", "x_test")}  # vectors, which no page shows
    np.savez(tmp_path / "data.npz", **data)
    own = {"name": "npz", "path": str(tmp_path / "data.npz")}
    result = run(tmp_path / "out", **own, train_size=100, val_size=20, test_size=50)
    assert (result.train_size, result.test_size) == (120, 50)
    assert "500 training images and 150 test images that these data.* values leave out" in looked_at(result)
    left = load_data(DataConfig(**own, exclude=str(tmp_path / "out" / "check.json")))
    assert len(left.x_train) + len(left.x_val) == 620 - len(excluded(result.findings)) < 620
    assert "was made without 500 of the 620" in caplog.text and "leaves out" in caplog.text
    with pytest.raises(InputError, match=r"lacks .* of the training images"):
        scores(tmp_path / "out" / "check.json", left)


def test_a_kind_that_training_misses_is_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, y_test = rng.permutation(np.arange(300) % 3), rng.permutation(np.arange(240) % 3)
    bright = (y_test == 1) & (rng.random(240) < 0.3)  # brighter, and in the test only
    x, x_test = ((0.2 * rng.random((len(labels), 1, 6, 6)) + 0.3 * labels[:, None, None, None]) for labels in (y, y_test))
    x_test[bright] = x_test[bright] / 2 + 0.5
    arrays = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}
    np.savez(tmp_path / "data.npz", **{name: a.astype(np.float32) if a.ndim == 4 else a for name, a in arrays.items()})
    data = load_data(DataConfig(name="npz", path=str(tmp_path / "data.npz"))).pooled()
    finding, regions = uncovered(Images(data))
    assert set(finding.test_indices) == set(np.flatnonzero(bright)) and finding.severity == "warning"
    assert [region.label for region in regions] == [1] and finding.labels == round(bright.sum() * 100 / 80)
    assert {part for example in finding.examples for part, _ in example.images} == {"train", "test"}


def test_what_the_split_leaves_a_rare_class(tmp_path: Path) -> None:
    y = np.repeat([0, 1], [500, 30])
    x = np.random.default_rng(0).integers(256, size=(530, 1, 2, 2), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x[:505], y_test=y[:505])
    split = load_data(DataConfig(name="npz", path=str(tmp_path / "data.npz")))
    data = split.pooled()
    found = balance(Images(data, validates=np.isin(data.rows_train, split.rows_val)))
    assert any("1 25 / 5 / 5" in finding.message and finding.severity == "warning" for finding in found)
    assert next(finding.labels for finding in found if "small classes: 1" in finding.message) == 167 - 30


# Folders and tiny data


def write_folder(
    root: Path, train: int = 20, test: int = 8, size: tuple[int, int] = (40, 48), classes: tuple[str, ...] = ("big cat", "犬")
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for number, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (*size, 3)) + 100 * number
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"画像 {i}.png")


def test_folder_with_bad_files_and_any_names(tmp_path: Path) -> None:
    root = tmp_path / "my images"
    write_folder(root)
    whole = (root / "train" / "犬" / "画像 3.png").read_bytes()
    (root / "train" / "犬" / "画像 3.png").write_bytes(whole[:200])
    (root / "test" / "big cat" / "画像 1.png").write_bytes(b"")
    (root / "train" / "犬" / "画像 5.png").write_bytes((root / "train" / "犬" / "画像 4.png").read_bytes())
    with pytest.raises(
        InputError, match=r"画像 3\.png is not an image that can be read.*nor is 1 more: .*画像 1\.png.*data\.skip_bad=true"
    ):
        run(tmp_path / "out", "folder", path=str(root))
    assert not (tmp_path / "out" / "check.json").exists()
    result = run(tmp_path / "out", "folder", path=str(root), skip_bad=True, val_size=2)
    assert result.train_size == 39 and result.test_size == 15
    skipped = next(f for f in result.findings if "could not be read" in f.message)
    assert "train/犬/画像 3.png" in skipped.message and skipped.count == 2
    copies = of_kind(result, "duplicate")
    assert copies.train_files == ["train/犬/画像 5.png"]
    page = (tmp_path / "out" / "check.html").read_text(encoding="utf-8")
    assert "train/犬/画像 5.png" in page and "label 犬" in page  # classes by name, not by number


def test_ten_images_in_all(tmp_path: Path) -> None:
    write_folder(tmp_path / "few", train=3, test=2)
    result = run(tmp_path / "out", "folder", path=str(tmp_path / "few"))
    assert of_kind(result, "imbalance").severity == "serious"
    assert "cannot be judged" in of_kind(result, "label_error").message
    assert len(result.label_error_score) == result.train_size == 6


def test_what_no_check_can_work_on_is_told_in_one_line(tmp_path: Path) -> None:
    from PIL import Image

    write_folder(tmp_path / "one", classes=("only",))
    write_folder(tmp_path / "grey")
    Image.new("L", (48, 40)).save(tmp_path / "grey" / "test" / "犬" / "grey.png")
    write_folder(tmp_path / "unknown")
    (tmp_path / "unknown" / "test" / "鳥").mkdir()
    for name, told in (
        ("one", "at least two classes"),
        ("grey", "all of them to grey or to RGB"),
        ("unknown", "has class 鳥, which .*train lacks"),
    ):
        with pytest.raises(InputError, match=told):
            run(tmp_path / "out", "folder", path=str(tmp_path / name))
    for options, told in (
        ({"eps": 8.0}, "8/255"),
        ({"exclude": "check.json"}, "leave data.exclude out"),
        ({"eps_l2": -1.0}, "above 0"),
    ):
        with pytest.raises(InputError, match=told):
            run(tmp_path / "out", "digits", **options)


def test_command_checks_and_training_takes_what_it_found(tmp_path: Path) -> None:
    def ro_fast(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "ro_fast", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    small = ["data.train_size=300", "threads=1"]
    result = ro_fast("check", *small)
    assert result.returncode == 0, result.stderr
    assert "serious: " in result.stdout and "check 9/9" in result.stderr
    file = "data.exclude=outputs/check/digits_noisy/check.json"
    tiny = ["model.width=4", "attack.steps=1", "trainer.epochs=1"]
    assert ro_fast("train", *small, *tiny, file).returncode == 0
    other = ro_fast("train", "data.label_noise=0.1", *tiny, file, "out=other")
    assert other.returncode == 2 and len(other.stderr.splitlines()) == 1
    assert ro_fast("check", "data=digits", "eps=8").returncode == 2
