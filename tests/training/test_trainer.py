"""Training: the published loop reproduced, runs that continue bit for bit, and failures that lose nothing."""

from __future__ import annotations

import copy
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.runs import small, without_seconds
from torch import Tensor, nn

from ro_fast.config import TrainConfig
from ro_fast.data import load_data
from ro_fast.errors import InputError, WorkError
from ro_fast.methods import METHODS, Method, Step
from ro_fast.methods.step import Work
from ro_fast.storage import checkpoint
from ro_fast.storage.epochs import read_epochs
from ro_fast.training.trainer import Run, build_attack, train

# -- the published loop ------------------------------------------------------------------------------------------------


def published_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, noise: Tensor, eps: float, lr: float
) -> None:
    """One step of the loop of Rice et al. 2020, reimplemented: everything in train mode, all gradients in every backward."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    cross_entropy = nn.functional.cross_entropy
    delta = ((x + eps * noise).clamp(0, 1) - x).requires_grad_()
    for _ in range(10):
        cross_entropy(model(x + delta), y).backward()
        with torch.no_grad():
            moved = (delta + eps / 4 * delta.grad.sign()).clamp(-eps, eps)
            delta.copy_((x + moved).clamp(0, 1) - x)
        delta.grad.zero_()
    with torch.no_grad():
        model(x + delta)  # chooses among restarts, of which there is one
    loss = cross_entropy(model((x + delta.detach()).clamp(0, 1)), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        model(x)  # the natural loss, for the log


def test_rice2020_follows_the_published_loop(tmp_path: Path) -> None:
    recipe = {"attack__bn": "train", "attack__final_forward": True, "attack__steps": 10, "trainer__clean_forward": True}
    config = small(tmp_path, trainer__channels_last=False, **recipe)
    run = Run(config, load_data(config.data), torch.device("cpu"))
    # float64: in float32 the sign of a vanishing gradient is a matter of rounding, on which two correct loops diverge.
    run.model.double().train()
    theirs = copy.deepcopy(run.model)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    ours = torch.optim.SGD(run.model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    run.optimizer = ours
    generator = torch.Generator().manual_seed(11)
    for i in range(20):
        index = torch.randint(0, 200, (32,), generator=generator)
        x, y = run.data.images(run.data.x_train[index]).double(), run.data.y_train[index]
        noise = torch.rand(x.shape, generator=generator, dtype=torch.float64) * 2 - 1
        lr = 0.1 if i < 10 else 0.01

        step = Step(run.model, run.attack, x, y, config.small_loss, Work())
        run.method = Method(METHODS["baseline"].loss, lambda s, noise=noise: s.attack(s.model, s.x, s.y, noise=noise))
        run.train_step(step, lr)
        published_step(theirs, optimizer, x, y, noise, config.data.eps, lr)
    for (name, a), b in zip(run.model.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_recipe_yaml_is_the_published_loop(tmp_path: Path) -> None:
    pytest.importorskip("hydra")
    out = subprocess.run(["ro-fast", "train", "recipe=rice2020", "--cfg", "job"], capture_output=True, text=True, check=True)
    import yaml

    config = yaml.safe_load(out.stdout)
    assert config["attack"] | {"bn": "train", "final_forward": True, "steps": 10, "restarts": 1} == config["attack"]
    trainer = {"clean_forward": True, "epochs": 200, "lr": 0.1, "lr_drops": [0.5, 0.75], "batch_size": 128}
    assert config["trainer"] | trainer == config["trainer"]


# -- continued runs ----------------------------------------------------------------------------------------------------


def test_files_of_a_run(tmp_path: Path) -> None:
    history = train(small(tmp_path))
    epochs = read_epochs(tmp_path / "metrics.jsonl")
    assert epochs == history and [epoch.epoch for epoch in epochs] == [0, 1, 2, 3]
    assert epochs[-1].test_acc > 0.3
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["epoch"] - 1 == max(epochs, key=lambda epoch: epoch.val_robust_acc).epoch
    assert {"config.yaml", "environment.json", "last.pt"} <= {path.name for path in tmp_path.iterdir()}


def test_killed_run_goes_on_to_the_same_digits(tmp_path: Path) -> None:
    whole = train(small(tmp_path / "whole", trainer__epochs=12))
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from helpers.runs import *; from ro_fast.training.trainer import train; "
        "train(small(Path(sys.argv[1]), trainer__epochs=12), print)"
    )
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", code, str(killed), str(Path(__file__).parents[1])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (killed / "metrics.jsonl").exists() and len((killed / "metrics.jsonl").read_text().splitlines()) >= 3:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = checkpoint.load(killed / "last.pt")["epoch"]
    assert 3 <= done < 12
    (killed / "metrics.jsonl").write_text("half a li")  # what a kill between the two writes can leave
    resumed = train(small(killed, trainer__epochs=12))
    assert without_seconds(resumed) == without_seconds(whole)
    written = read_epochs(killed / "metrics.jsonl")
    assert written == resumed
    states = [checkpoint.load(tmp_path / name / "last.pt")["model"] for name in ("whole", "killed")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = train(small(tmp_path))
    heard: list = []
    assert train(small(tmp_path), heard.append) == first and heard == []


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"attack__norm": "l2", "attack__eps": 0.5},
        {"attack__restarts": 2},
        {"method": {"name": "attack_strength", "start_epoch": 1}},
        {"method": {"name": "perturbation"}, "small_loss__unit": "quantile", "small_loss__value": 0.5},
        {"method": {"name": "large_loss_removal", "denominator": "kept"}, "small_loss__unit": "ln_c", "small_loss__value": 0.9},
    ],
    ids=str,
)
def test_options_train(tmp_path: Path, changes: dict) -> None:
    history = train(small(tmp_path, trainer__epochs=2, **changes))
    assert len(history) == 2 and 0 < history[-1].small_loss_share < 1


# -- failures ----------------------------------------------------------------------------------------------------------


def test_another_config_does_not_touch_the_run(tmp_path: Path) -> None:
    train(small(tmp_path, trainer__epochs=1))
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(InputError, match=r"trainer.lr: 0.1 there, 0.2 requested"):
        train(small(tmp_path, trainer__epochs=1, trainer__lr=0.2))
    assert (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "truncated", "foreign"])
def test_bad_checkpoint_is_told_and_kept(tmp_path: Path, content: bytes | str) -> None:
    train(small(tmp_path, trainer__epochs=1))
    last = tmp_path / "last.pt"
    if content == "truncated":
        last.write_bytes(last.read_bytes()[:5000])
    elif content == "foreign":
        torch.save({"weights": torch.zeros(3)}, last)
    else:
        last.write_bytes(content)
    before = last.read_bytes()
    with pytest.raises(InputError, match=r"last.pt is .*not a checkpoint"):
        train(small(tmp_path, trainer__epochs=1))
    assert last.read_bytes() == before


def test_nan_loss_names_epoch_and_step_and_keeps_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path, trainer__batch_size=64)
    steps = 0
    healthy = Run.train_step

    def failing(self: Run, step: Step, lr: float) -> Tensor:
        nonlocal steps
        steps += 1
        loss = healthy(self, step, lr)
        return loss * float("nan") if steps == 7 else loss

    monkeypatch.setattr(Run, "train_step", failing)
    with pytest.raises(WorkError, match=r"epoch 1, step 2"):
        train(config)
    assert checkpoint.load(tmp_path / "last.pt")["epoch"] == 1
    monkeypatch.undo()
    assert len(train(config)) == 4


def test_full_disk_is_told_and_keeps_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(small(tmp_path / "whole"))
    written = 0
    replace = os.replace

    def full(source: object, target: object) -> None:
        nonlocal written
        written += str(target).endswith("last.pt")
        if written == 3:
            raise OSError(28, "No space left on device")
        replace(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WorkError, match=r"last\.pt can't be written \(No space left on device\); free some space"):
        train(small(tmp_path / "full"))
    assert checkpoint.load(tmp_path / "full" / "last.pt")["epoch"] == 2
    assert not [path for path in (tmp_path / "full").iterdir() if path.name.startswith(".last.pt")]
    monkeypatch.undo()
    assert without_seconds(train(small(tmp_path / "full"))) == without_seconds(whole)


def test_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        train(small(tmp_path / "file" / "run"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attack__eps": 8}, "8/255"),
        ({"attack__eps": -1}, "at least 0"),
        ({"trainer__epochs": 0}, "trainer.epochs = 0"),
        ({"trainer__lr": -0.1}, "trainer.lr"),
        ({"precision": "fp8"}, "fp32, bf16"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"small_loss__unit": "nats"}, "loss, ln_c, quantile"),
        ({"method": {"name": "magic"}}, "available: baseline"),
        ({"method": {"name": "attack_strength", "ratio": 2}}, "it has: eps_ratio"),
        ({"model__name": "lenet"}, "small_cnn"),
        ({"data__name": "imagenet"}, "digits"),
        ({"data__train_size": 10**6}, "1000000"),
    ],
    ids=str,
)
def test_bad_values_are_told_before_anything_is_written(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        train(small(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_work_is_counted(tmp_path: Path) -> None:
    run = Run(small(tmp_path), load_data(small(tmp_path).data), torch.device("cpu"))
    w, pixels = 8, 64
    macs = 9 * (w * pixels + w * 2 * w * pixels // 4 + 4 * w * w * pixels // 16) + 2 * w * 10
    assert run.flops == 2 * macs
    # each sample: 2 attack steps at 2F, one training pass at 3F
    assert run.train_epoch().gflop == pytest.approx(200 * 7 * run.flops / 1e9)


def test_attack_budget_follows_the_data() -> None:
    attack = build_attack(TrainConfig().attack, 0.2)
    assert (attack.eps, attack.alpha) == (0.2, 0.05)
    assert dataclasses.replace(attack, eps=0.1).alpha == 0.05


def test_alarm_ends_the_run_where_asked_and_a_stopped_run_stays_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation accuracy is made to fall from epoch 9 on: the run ends at the alarm, keeping every epoch before it."""
    given = Run.score

    def falling(self: Run, x: Tensor, y: Tensor, reader: object = None) -> object:
        fall = 0.5 + 0.02 * min(self.epoch, 9) - 0.04 * max(0, self.epoch - 9)
        return dataclasses.replace(given(self, x, y, reader), robust_acc=fall, robust_loss=2 - fall)

    monkeypatch.setattr(Run, "score", falling)
    heard: list = []
    plain = train(small(tmp_path / "plain", trainer__epochs=20, attack__steps=1), heard.append)
    assert len(plain) == 20 and sum("would end training" in event.notice for event in heard) == 1
    config = small(tmp_path / "run", trainer__epochs=20, attack__steps=1, trainer__early_stop="ro")
    heard.clear()
    history = train(config, heard.append)
    assert 10 < len(history) < 20 and "training ends here" in heard[-1].notice
    assert without_seconds(history) == without_seconds(plain)[: len(history)]
    assert len(train(config)) == len(history)
