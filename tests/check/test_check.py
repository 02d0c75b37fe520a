"""The data check: planted faults are found, clean data raises nothing, and findings can be left out of training."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("jinja2")

from ro_fast.check import check, scores
from ro_fast.config import CheckConfig, DataConfig
from ro_fast.data import load_data
from ro_fast.data.check_file import Check, Observation, read_check
from ro_fast.errors import InputError
from ro_fast.storage.records import as_json

KINDS = {"label_error", "duplicate", "near_duplicate", "leakage", "shift", "imbalance", "margin", "range", "unrepresentative"}


def run(out: Path, name: str = "npz", **options) -> Check:
    own = {key: options.pop(key) for key in ("eps", "eps_l2") if key in options}
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


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> tuple[Path, Check]:
    out = tmp_path_factory.mktemp("noisy")
    return out, run(out, "digits_noisy", label_noise=0.2, eps=0.03)


def test_redrawn_labels_are_found(noisy: tuple[Path, Check]) -> None:
    from sklearn.metrics import average_precision_score

    out, result = noisy
    wrong = (
        load_data(DataConfig(name="digits")).y_train != load_data(DataConfig(name="digits_noisy", label_noise=0.2)).y_train
    ).numpy()
    score = scores(out / "check.json").numpy()
    assert len(score) == result.train_size == 1000
    assert average_precision_score(wrong, score) >= 0.95  # 0.995 measured; chance is 0.18
    finding = of_kind(result, "label_error")
    assert finding.severity == "serious" and finding.count == len(finding.train_indices)
    assert wrong[finding.train_indices].mean() >= 0.95
    assert wrong[finding.train_indices].sum() >= 0.7 * wrong.sum()


def test_files_are_as_promised(noisy: tuple[Path, Check]) -> None:
    out, result = noisy
    assert read_check(out / "check.json") == result
    for finding in result.findings:
        assert finding.kind in KINDS and finding.severity in {"info", "warning", "serious"}
        assert finding.message and finding.advice and 0 <= finding.share <= 1
    page = (out / "check.html").read_text(encoding="utf-8")
    worst = result.findings[0].message
    assert page.index(result.summary) < page.index(worst) < page.index("<h2>")
    assert page.count('class="example"') >= 12
    assert "http://" not in page and "https://" not in page


def test_clean_data_has_no_fault(tmp_path: Path) -> None:
    result = run(tmp_path, "digits", eps=0.03)
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
    train = load_data(result.config.data)
    rows = train.x_train.flatten(1)
    equal = (rows[:, None] == rows[None]).all(2) & ~torch.eye(len(rows), dtype=torch.bool)
    assert agree.severity == "warning" and 10 <= agree.count <= 15  # a few went to validation
    for i in agree.train_indices:
        assert equal[i, :i].any()
    assert 6 <= conflict.count <= 10
    for i in conflict.train_indices:
        assert (train.y_train[equal[i]] != train.y_train[i]).any()


def test_leakage_and_near_duplicates(tmp_path: Path) -> None:
    data, rng = digits(), np.random.default_rng(1)
    data["x_test"][:6], data["y_test"][:6] = data["x_train"][:6], data["y_train"][:6]
    near = data["x_train"][50:60] * 0.9 + 0.05 + 0.01 * rng.standard_normal((10, 1, 8, 8))  # another exposure of the same object
    data["x_train"][300:310], data["y_train"][300:310] = near.clip(0, 1), data["y_train"][50:60]
    result = planted(tmp_path, **data)
    leaked = of_kind(result, "leakage")
    assert leaked.severity == "serious" and set(leaked.test_indices) <= set(range(6)) and leaked.count >= 5
    assert 7 <= of_kind(result, "near_duplicate").count <= 10
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
    result = planted(tmp_path, x_train=change(data["x_train"]), x_test=change(data["x_test"]))
    finding = of_kind(result, "range")
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
    data = load_data(DataConfig(name="npz", path=str(path)))
    pairs = torch.cdist(data.x_train.double(), data.x_train.double(), p=float("inf"))
    nearest = pairs.masked_fill(data.y_train[:, None] == data.y_train, float("inf")).amin(1)
    for eps in (0.05, float(nearest.median()) / 2, 0.2):
        finding = of_kind(run(tmp_path / "out", path=str(path), eps=eps, eps_l2=1e-6), "margin")
        assert finding.count == int((nearest <= 2 * eps + 1e-7).sum())


def test_pairs_at_exactly_two_eps_count(tmp_path: Path) -> None:
    y = np.arange(40) % 2
    x = (np.arange(0, 239, dtype=np.int64) + 16 * y[:, None]).astype(np.uint8)
    np.savez(tmp_path / "bytes.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    result = run(tmp_path / "out", path=str(tmp_path / "bytes.npz"), eps=8 / 255, eps_l2=1e-6, val_size=4)
    assert of_kind(result, "margin").count == result.train_size == 36


@pytest.mark.parametrize(("colour", "severity"), [(True, "warning"), (False, "info")])
def test_grey_images_stored_in_colour(tmp_path: Path, colour: bool, severity: str) -> None:
    data = {name: np.repeat(x, 3, axis=1) if x.ndim == 4 else x for name, x in digits().items()}
    data["x_train"][:30] = 0.5  # blank, which is reported separately from grey
    if colour:
        data["x_train"][60:, 0] /= 2
        data["x_test"][5:, 0] /= 2
    result = planted(tmp_path, **data)
    told = "grey in a set of colour" if colour else "All images are grey"
    grey = next(finding for finding in result.findings if told in finding.message)
    assert grey.severity == severity and grey.share == grey.count / (result.train_size + result.test_size)
    train = load_data(result.config.data).x_train
    one_value = train.flatten(1).amax(1) == train.flatten(1).amin(1)
    equal = (train == train[:, :1]).flatten(1).all(1) & ~one_value
    if colour:
        assert grey.train_indices == equal.nonzero().flatten().tolist() and grey.test_indices == [0, 1, 2, 3, 4]
    else:
        assert grey.count == int(equal.sum()) + 200


def test_exclude_leaves_out_what_was_found_and_nothing_else(noisy: tuple[Path, Check]) -> None:
    out, result = noisy
    whole = load_data(DataConfig(name="digits_noisy", label_noise=0.2))
    data = load_data(DataConfig(name="digits_noisy", label_noise=0.2, exclude=str(out / "check.json")))
    gone = of_kind(result, "label_error").train_indices
    kept = np.setdiff1d(np.arange(1000), gone)
    assert torch.equal(data.x_train, whole.x_train[kept]) and torch.equal(data.y_train, whole.y_train[kept])
    assert torch.equal(data.x_val, whole.x_val) and torch.equal(data.x_test, whole.x_test)
    assert data.redrawn.float().mean() < 0.06 < whole.redrawn.float().mean()
    assert torch.equal(scores(out / "check.json", data), scores(out / "check.json", whole)[kept])


def test_exclude_of_other_data_is_refused(noisy: tuple[Path, Check], tmp_path: Path) -> None:
    out, result = noisy
    for options in ({"seed": 1}, {"train_size": 500}, {"label_noise": 0.1}):
        with pytest.raises(InputError, match=r"was made for other images or labels.*same data\.\*"):
            load_data(DataConfig(**{"name": "digits_noisy", "label_noise": 0.2, "exclude": str(out / "check.json"), **options}))
    with pytest.raises(InputError, match=r"cannot be read.*ro-fast check"):
        load_data(DataConfig(exclude="nowhere.json"))
    whole_class = load_data(DataConfig(name="digits_noisy", label_noise=0.2)).y_train.eq(4).nonzero().flatten().tolist()
    leak = Observation("leakage", "serious", 1, 0.1, "", "")
    for content, told in (
        ({}, "missing required field `data`"),
        (as_json(result) | {"train_size": "many"}, "train_size: expected `int`, got `str`"),
        (as_json(replace(result, findings=[replace(leak, train_indices=[1000])])), "training images that its data don't have"),
        (as_json(replace(result, label_error_score=[0.5])), "should be 1000 finite numbers"),
        (as_json(replace(result, findings=[replace(leak, train_indices=whole_class)])), "every training image of class 4"),
    ):
        (tmp_path / "other.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=told):
            load_data(DataConfig(name="digits_noisy", label_noise=0.2, exclude=str(tmp_path / "other.json")))


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
    assert result.train_size == 37 and result.test_size == 15
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
    assert len(result.label_error_score) == result.train_size == 5


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
    assert "serious: " in result.stdout and "check 8/8" in result.stderr
    file = "data.exclude=outputs/check/digits_noisy/check.json"
    tiny = ["model.width=4", "attack.steps=1", "trainer.epochs=1"]
    assert ro_fast("train", *small, *tiny, file).returncode == 0
    other = ro_fast("train", "data.train_size=200", *tiny, file, "out=other")
    assert other.returncode == 2 and len(other.stderr.splitlines()) == 1
    assert ro_fast("check", "data=digits", "eps=8").returncode == 2
