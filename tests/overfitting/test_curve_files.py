"""Learning curves as people have them: each kind of file is read to the same numbers, or refused with what to write."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ro_fast import InputError, watch
from ro_fast.overfitting.curve_files import read_curve, watch_curve
from ro_fast.overfitting.curve_files.csv_file import read_csv
from ro_fast.overfitting.curve_files.curve import to_curve
from ro_fast.overfitting.curve_files.json_file import read_json, read_json_lines
from ro_fast.overfitting.curve_files.text_log import read_log

N = 30
ACC = [round(0.3 + 0.01 * min(i, 15) - 0.006 * max(0, i - 15), 4) for i in range(N)]
LOSS = [round(2 - acc, 4) for acc in ACC]
TRAIN = [round(0.3 + 0.01 * i, 4) for i in range(N)]
CURVE = {"test_robust_acc": ACC, "test_robust_loss": LOSS, "train_robust_acc": TRAIN}


def csv(header: str, row: Callable[[int], str], order: list[int] | None = None) -> str:
    return f"{header}\n" + "".join(row(i) + "\n" for i in order or range(N))


def jsonl(*rows: Callable[[int], dict]) -> str:
    return "".join(json.dumps(row(i)) + "\n" for i in range(N) for row in rows)


STAMP = "[2020/02/01 12:00:00] - "
# The header and rows of Rice et al.'s code, and of what descends from it: the two have their tabs at different places.
HEADER = (
    "Epoch \t Train Time \t Test Time \t LR \t \t Train Loss \t Train Acc \t Train Robust Loss \t Train Robust Acc \t "
    "Test Loss \t Test Acc \t Test Robust Loss \t Test Robust Acc"
)


def logged(i: int) -> str:
    form = "{} \t 278.0 \t \t 51.7 \t \t 0.1000 \t 1.0000 \t 0.5000 \t 1.5000 \t \t {} \t \t 1.0000 \t 0.7000 \t {} \t \t {}"
    row = form.format(i, TRAIN[i], LOSS[i], ACC[i])
    return f"{STAMP}{row}\n{STAMP}validation 1.0000 \t 0.5000 \t 1.5000 \t 0.4000\n"


LOG = f"{STAMP}Namespace(epochs=200, lr=0.1)\n{STAMP}{HEADER}\n"
ALL, ACC_TRAIN, ACC_LOSS, ONLY_ACC = (0, 1, 2), (0, 2), (0, 1), (0,)

# name: file, content, which of CURVE it holds, what is said of it, what is written behind its name
KINDS: dict[str, tuple[str, str, tuple[int, ...], str, dict[str, str]]] = {
    "Lightning's CSVLogger": (
        "metrics.csv",
        csv(
            "epoch,step,train_robust_acc,val_adv_acc,val_adv_loss",
            lambda i: f"{i},{100 * i + 49},{TRAIN[i]},,\n{i},{100 * i + 99},,{ACC[i]},{LOSS[i]}",
        ),
        ALL,
        "read val_adv_acc as val_robust_acc, val_adv_loss as val_robust_loss, train_robust_acc; rows of the same epoch merged",
        {},
    ),
    "sparse lines, nested keys": (
        "log.jsonl",
        jsonl(
            lambda i: {"epoch": i, "train_adv_acc": TRAIN[i]},
            lambda i: {"epoch": i, "test": {"adv_acc": ACC[i], "adv_loss": LOSS[i]}, "note": "x"},
        ),
        ALL,
        "test/adv_acc as test_robust_acc",
        {},
    ),
    "the epoch on its own line": (
        "log.jsonl",
        jsonl(lambda i: {"epoch": i}, lambda i: {"train_pgd_acc": TRAIN[i]}, lambda i: {"pgd_acc": ACC[i]}),
        ACC_TRAIN,
        "rows without epoch counted to the last one named",
        {},
    ),
    "no epoch at all": (
        "log.jsonl",
        jsonl(lambda i: {"train_adv_acc": TRAIN[i]}, lambda i: {"adv_acc": ACC[i]}),
        ACC_TRAIN,
        "no epoch column, a new epoch where a value repeats",
        {},
    ),
    "wandb's exported panel": (
        "wandb.csv",
        csv(
            '"Step","clean-run - test/adv_acc","clean-run - test/adv_acc__MIN","clean-run - test/adv_acc__MAX"',
            lambda i: f'"{391 * i}","{ACC[i]}","{ACC[i]}","{ACC[i]}"',
        ),
        ONLY_ACC,
        "Step taken as epoch",
        {},
    ),
    "wandb's history": (
        "history.csv",
        csv(
            ",_step,_runtime,train/adv_acc,test/adv_acc",
            lambda i: f"{i},{9 * i},0.5,{TRAIN[i]},\n{i},{9 * i + 1},0.5,,{ACC[i]}",
        ),
        ACC_TRAIN,
        "train/adv_acc from the last step before each test/adv_acc",
        {},
    ),
    "percentages": (
        "log.csv",
        csv("Epoch,Test Robust Acc,other,train_robust_acc", lambda i: f"{i},{100 * ACC[i]:.2f} %,x,{TRAIN[i]}"),
        ACC_TRAIN,
        "Test Robust Acc divided by 100",
        {},
    ),
    "errors": (
        "log.csv",
        csv("epoch,val_robust_err,train_robust_error", lambda i: f"{i},{100 - 100 * ACC[i]:.2f},{1 - TRAIN[i]:.4f}"),
        ACC_TRAIN,
        "val_robust_err divided by 100; val_robust_err turned from error into accuracy; train_robust_error turned",
        {},
    ),
    "keras' history": (
        "history.json",
        json.dumps({"loss": LOSS[::-1], "accuracy": TRAIN, "val_loss": LOSS, "val_accuracy": ACC}),
        ALL,
        "val_accuracy as test_robust_acc, val_loss as test_robust_loss, accuracy as train_robust_acc",
        {"column": "val_accuracy"},
    ),
    "keras' history by pandas": (
        "history.json",
        json.dumps({"val_adv_accuracy": dict(enumerate(ACC)), "val_adv_loss": dict(enumerate(LOSS))}),
        ACC_LOSS,
        "val_adv_accuracy as val_robust_acc",
        {},
    ),
    "keras' CSVLogger": (
        "training.csv",
        csv("epoch,accuracy,loss,val_accuracy,val_loss", lambda i: f"{i},{TRAIN[i]},9,{ACC[i]},{LOSS[i]}"),
        ALL,
        "accuracy as train_robust_acc",
        {"column": "val_accuracy"},
    ),
    "a published log": ("output.log", LOG + "".join(map(logged, range(N))), ALL, "read test_robust_acc", {}),
    "a published log, resumed": (
        "output.log",
        LOG + "".join(map(logged, range(20))) + f"{STAMP}Resuming at epoch 9\n" + LOG + "".join(map(logged, range(9, N))),
        ALL,
        "resumed at epoch 9, where later rows count",
        {},
    ),
    "attacks by name": (
        "log.csv",
        csv("epoch,val_pgd20,val_loss_pgd20,train_pgd10,val_clean_acc", lambda i: f"{i},{ACC[i]},{LOSS[i]},{TRAIN[i]},0.8"),
        ALL,
        "val_pgd20 as val_robust_acc, val_loss_pgd20 as val_robust_loss, train_pgd10 as train_robust_acc",
        {},
    ),
    "unordered": (
        "log.tsv",
        csv("epoch\trobust_test_acc", lambda i: f"{i}\t{ACC[i]}", order=[*range(20, N), *range(20)]),
        ONLY_ACC,
        "rows sorted by epoch",
        {},
    ),
    "one of several": (
        "log.csv",
        csv("epoch,test_pgd_acc,test_aa_acc,test_pgd_loss,test_aa_loss", lambda i: f"{i},0.5,{ACC[i]},1,{LOSS[i]}"),
        ACC_LOSS,
        "test_aa_acc as test_robust_acc, test_aa_loss as test_robust_loss",
        {"column": "test_aa_acc"},
    ),
    "a loss that may be either": (
        "log.csv",
        csv("epoch,test_robust_acc,test_pgd_loss,test_aa_loss", lambda i: f"{i},{ACC[i]},1,{LOSS[i]}"),
        ONLY_ACC,
        "not used, since more than one may be meant: test_pgd_loss, test_aa_loss (loss=NAME chooses)",
        {},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_to_the_same_numbers(kind: str, tmp_path: Path) -> None:
    name, text, holds, says, given = KINDS[kind]
    (tmp_path / name).write_text(text, encoding="utf-8")
    curve = read_curve(tmp_path / name, **given)
    found = {column.replace("val", "test"): values for column, values in curve.columns.items()}
    expected = {column: CURVE[column] for index, column in enumerate(CURVE) if index in holds}
    assert found.keys() == expected.keys() and len(curve.epochs) == N and curve.epochs == sorted(curve.epochs)
    for column, values in expected.items():
        assert found[column] == pytest.approx(values, abs=1e-9), column
    assert says in curve.read_as and "\n" not in curve.read_as


def test_what_a_resumed_run_had_beyond_counts_no_more(tmp_path: Path) -> None:
    """The first part came to epoch 24, the second started again at 10 and is at 19: epochs 20 to 24 belong to neither."""
    rows = [f"{i},{0.1 if i >= 10 else ACC[i]}" for i in range(25)] + [f"{i},{ACC[i]}" for i in range(10, 20)]
    (tmp_path / "log.csv").write_text("\n".join(["epoch,adv_acc", *rows]))
    curve = read_curve(tmp_path / "log.csv")
    assert curve.epochs == list(range(20)) and curve.columns["test_robust_acc"] == ACC[:20]


def test_minus_one_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(csv("epoch,adv_acc", lambda i: f"{i},{-1 if i % 5 else ACC[i]}"))
    curve = read_curve(tmp_path / "log.csv")
    assert [i for i, acc in enumerate(curve.columns["test_robust_acc"]) if not math.isnan(acc)] == list(range(0, N, 5))
    assert "adv_acc of -1 taken as not measured" in curve.read_as


def test_run_folder_and_jsonl(tmp_path: Path) -> None:
    rows = jsonl(lambda i: {"epoch": i, **{name: values[i] for name, values in CURVE.items()}, "note": None})
    (tmp_path / "metrics.jsonl").write_text(rows + '{"epoch": 40, "te')
    assert watch_curve(read_curve(tmp_path)) == watch_curve(read_curve(tmp_path / "metrics.jsonl")) == watch(**CURVE)


def test_csv_by_other_names_and_with_holes(tmp_path: Path) -> None:
    path = tmp_path / "曲線 1.csv"
    rows = "".join(f"{2 * i},{'' if i == 4 else 0.4},x\n" for i in range(12))
    path.write_text("\ufeffEpoch, Test/Robust Acc,other\n" + rows, encoding="utf-8")
    curve = read_curve(path)
    assert curve.epochs == list(range(0, 24, 2)) and math.isnan(curve.columns["test_robust_acc"][4])
    assert watch_curve(curve).overfitting is False


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.csv", None, "does not exist"),
        ("a.csv", "epoch,foo\n1,2\n", "has the columns epoch, foo; test_robust_acc or val_robust_acc is needed"),
        ("a.csv", "", "is empty"),
        ("a.csv", "\ufeff \n", "is empty"),
        ("a.csv", "epoch,test_robust_acc\n", r"is a header without rows \(epoch, test_robust_acc\)"),
        ("a.csv", "epoch;test_robust_acc\n0;0,4\n", "separates values by semicolons; use commas"),
        ("a.csv", "epoch,test_robust_acc\n0,high\n", "line 2: test_robust_acc is 'high'; a number is needed"),
        ("a.csv", "epoch,test_robust_acc\n0.5,0.4\n", "line 2: epoch is 0.5; a whole number is needed"),
        ("a.csv", "epoch,test_robust_acc\n0,0.4,1\n", "line 2 has more values than the header has names"),
        ("a.csv", "adv_acc,adv_acc\n0,0.4\n", "has more than one column named adv_acc"),
        ("a.csv", "adv_acc\n1.2\n", "adv_acc is 1.2; fractions in .* or percentages"),
        ("a.csv", "test_pgd10_acc,test_pgd20_acc\n0,0.4\n", "test_pgd10_acc and test_pgd20_acc may each .*column='test_pgd10"),
        ("a.csv", "épochs,acc\n0,0.4\n".encode("latin-1"), "is not text in UTF-8"),
        ("a.csv", b"\x00\x01\x02", "is a binary file"),
        ("a.jsonl", "[1]\n{}\n", "line 1 is not a JSON object"),
        ("a.jsonl", '{"a": 1}\n{"a"\n{"a": 1}\n', "line 2 is not JSON"),
        ("a.json", '{"adv_acc": [0.1, 0.2], "loss": [1]}', r"different lengths \(adv_acc 2, loss 1\)"),
        ("a.json", "{}", "holds no lists of numbers"),
        ("a.csv", "iter,adv_acc\n" + 9 * "99,0.4\n", "9 values at 1 different steps, which seem to start again in each epoch"),
        ("a.txt", "0.1", "has an unknown format"),
        ("a.log", "epoch adv_acc\n", r"has a header \(epoch, adv_acc\), but no row of 2 numbers"),
        ("a.tfevents", b"x" * 99, "holds no scalars|no TensorBoard event file"),
    ],
)
def test_bad_files_are_told_in_a_sentence(name: str, content: str | bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=says) as error:
        read_curve(tmp_path / name)
    assert "\n" not in str(error.value)


WORDS = ["", "epoch", "step", "adv_acc", "test_robust_acc", "val_pgd20", "train_adv_acc", "robust_loss", "test_err"]
NAMES = st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(WORDS), st.text(max_size=5)), min_size=1, max_size=5)
ODD = st.one_of(st.floats(), st.sampled_from(["", "nan", "-", "1e999", "5%"]), st.text(max_size=5))
CELL = st.one_of(st.integers(-2, 120), st.floats(0, 1), ODD)
ROWS = st.lists(st.lists(CELL, min_size=1, max_size=5), min_size=1, max_size=12)


@given(NAMES, ROWS, st.sampled_from([",", "\t", " | ", ": "]))
@settings(max_examples=400, deadline=None)
def test_any_table_of_text_is_read_or_refused_in_a_sentence(names: list[str], rows: list[list[object]], separator: str) -> None:
    text = "\n".join(separator.join(map(str, row)) for row in [names, *rows])
    objects = "\n".join(json.dumps(dict(zip(names, row, strict=False))) for row in rows)
    lists = json.dumps({name: [row[index % len(row)] for row in rows] for index, name in enumerate(names)})
    contents = ((read_csv, text), (read_log, text), (read_json_lines, objects), (read_json, lists), (read_json, text))
    for reader, content in contents:
        with contextlib.suppress(InputError):
            watch_curve(to_curve(reader(content, "curve=x"), "curve=x", None, None, None))


def test_tensorboard_events_of_a_resumed_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    for part, epochs in enumerate((range(20), range(12, N))):
        with SummaryWriter(str(tmp_path), filename_suffix=f".{part}") as writer:
            for i in epochs:
                for name, values in CURVE.items():
                    writer.add_scalar(name.replace("_", "/", 1), values[i] if part else min(values[i], 0.3), i)
        for file in tmp_path.glob(f"*.{part}"):
            file.rename(tmp_path / f"events.out.tfevents.{part}")
    curve = read_curve(tmp_path)
    assert curve.epochs == list(range(N)) and set(curve.columns) == set(CURVE)
    assert curve.columns["test_robust_acc"][12:] == pytest.approx(ACC[12:])
    assert "step taken as epoch; resumed at step 12" in curve.read_as


def test_tensorboard_sub_folders_of_add_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for i in range(N):
            writer.add_scalars("robust/acc", {"test": ACC[i], "train": TRAIN[i]}, i)
    curve = read_curve(tmp_path)
    assert curve.columns["test_robust_acc"] == pytest.approx(ACC) and curve.columns["train_robust_acc"] == pytest.approx(TRAIN)
