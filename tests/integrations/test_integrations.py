"""This project's attack and detector in other libraries, compared with their own, and errors on what doesn't fit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ro_fast.errors import InputError
from ro_fast.integrations import RobustOverfittingMonitor
from ro_fast.integrations.torchattacks import PGD, PGDL2
from ro_fast.overfitting.detector import watch

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Convolution, BatchNorm in train mode with its own statistics, dropout: an attack should see it in eval mode."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(96, 4))
    net = nn.Sequential(*layers).to(dtype)
    net[1].running_mean.normal_()
    return net


def images(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(9, 3, 6, 6, generator=generator, dtype=dtype), torch.randint(4, (9,), generator=generator)


# -- torchattacks ------------------------------------------------------------------------------------------------------


def targets_of_next_class(x: Tensor, y: Tensor) -> Tensor:
    return (y + 1) % 4


MODES = {
    "default": lambda atk: None,
    "by label": lambda atk: atk.set_mode_targeted_by_label(quiet=True),
    "by function": lambda atk: atk.set_mode_targeted_by_function(targets_of_next_class, quiet=True),
    "least likely": lambda atk: atk.set_mode_targeted_least_likely(2, quiet=True),
}


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ours", [PGD, PGDL2])
def test_agrees_with_torchattacks(ours: Any, mode: str, normalised: bool) -> None:
    theirs = pytest.importorskip("torchattacks")
    net, (x, y) = network(), images()
    budget = {"eps": 0.1, "alpha": 0.03} if ours is PGD else {"eps": 0.7, "alpha": 0.2}
    found = []
    for attack in (ours, getattr(theirs, ours.__name__)):
        atk = attack(net, **budget, steps=7, random_start=False)
        if normalised:
            atk.set_normalization_used(MEAN, STD)
        MODES[mode](atk)
        found.append(atk((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1) if normalised else x, y))
    assert net.training
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)
    assert (found[0] - x).abs().max() > 0.01


def test_torchattacks_random_targets_and_starts_and_what_is_not_supported() -> None:
    net, (x, y) = network(), images()
    atk = PGD(net, eps=0.1, alpha=0.05, steps=3)
    atk.set_mode_targeted_random()
    drawn = [atk._targets(x, y) for _ in range(200)]  # type: ignore[misc]
    assert all((each != y).all() and each.min() >= 0 and each.max() < 4 for each in drawn)
    assert len({int(each[0]) for each in drawn}) == 3
    assert not torch.equal(atk(x, y), atk(x, y))
    atk.set_mode_default()
    atk.eps = 0.05
    assert (atk(x, y) - x).abs().max() <= 0.05 + 1e-9
    with pytest.raises(InputError, match="mixtures are not supported"):
        atk.set_model_training_mode(True, batchnorm_training=False)
    with pytest.raises(InputError, match=r"eps = 8 .*8/255"):
        PGD(net, eps=8)
    with pytest.raises(InputError, match=r"model is function; a torch.nn.Module"):
        PGD(targets_of_next_class)  # type: ignore[arg-type]


# -- foolbox -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("bounds", [(0, 1), (-1.5, 2.5)])
@pytest.mark.parametrize("name", ["LinfPGD", "L2PGD"])
def test_agrees_with_foolbox(name: str, bounds: tuple[float, float], targeted: bool) -> None:
    foolbox = pytest.importorskip("foolbox")
    import ro_fast.integrations.foolbox as ours

    net, (x, y) = network().eval(), images()
    lo, hi = bounds
    preprocessing = {"mean": torch.tensor(MEAN).double(), "std": torch.tensor(STD).double(), "axis": -3}
    fmodel = foolbox.PyTorchModel(net, bounds, device="cpu", preprocessing=preprocessing)
    x = lo + (hi - lo) * x
    criterion = foolbox.criteria.TargetedMisclassification(targets_of_next_class(x, y)) if targeted else y
    epsilons = [0.0, 0.1, 0.3]
    results = [
        attack(steps=8, rel_stepsize=0.2, random_start=False)(fmodel, x, criterion, epsilons=epsilons)
        for attack in (getattr(ours, name), getattr(foolbox.attacks, name))
    ]
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    _, clipped, _ = getattr(ours, name)(steps=3, restarts=2, loss="margin")(fmodel, x, y, epsilons=0.2)
    assert clipped.min() >= lo and clipped.max() <= hi and (clipped != x).any()


def test_foolbox_options_that_do_not_fit_are_told() -> None:
    foolbox = pytest.importorskip("foolbox")
    from ro_fast.integrations.foolbox import LinfPGD

    net, (x, y) = network().eval(), images()
    fmodel = foolbox.PyTorchModel(net, (0, 1), device="cpu")
    with pytest.raises(InputError, match="loss 'hinge' is unknown"):
        LinfPGD(loss="hinge")
    with pytest.raises(InputError, match=r"eps = 8 is wider"):
        LinfPGD()(fmodel, x, y, epsilons=8)


# -- ART ---------------------------------------------------------------------------------------------------------------


def art_classifier(clip_values: Any = (0.0, 1.0), **options: Any) -> Any:
    classification = pytest.importorskip("art.estimators.classification")
    net = network(torch.float32)
    return classification.PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (3, 6, 6), 4, clip_values=clip_values, device_type="cpu", **options
    )


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", [np.inf, 2])
def test_agrees_with_art(norm: float, targeted: bool) -> None:
    # ART clips to the range before it projects to the L2 ball, so they agree only away from the range's ends.
    clip_values = (0.0, 255.0) if norm == np.inf else (-300.0, 600.0)
    classifier = art_classifier(clip_values, preprocessing=(np.array(MEAN) * 255, np.array(STD) * 255))
    from art.attacks.evasion import ProjectedGradientDescent as Theirs

    from ro_fast.integrations.art import ProjectedGradientDescent

    x, y = (t.numpy() for t in images(torch.float32))
    options = {"norm": norm, "eps": 20.0, "eps_step": 6.0, "max_iter": 5, "targeted": targeted, "batch_size": 4}
    mine = ProjectedGradientDescent(classifier, **options).generate(255 * x, y)
    theirs = Theirs(classifier, **options, verbose=False).generate(255 * x, y)
    assert mine.dtype == np.float32
    # In float32 the sign of a nearly vanishing gradient is a matter of rounding.
    assert (np.abs(mine - theirs) < 1e-2).mean() > 0.99
    assert np.abs(mine - 255 * x).max() > 1
    one_hot = ProjectedGradientDescent(classifier, **options).generate(255 * x, np.eye(4)[y])
    assert np.array_equal(mine, one_hot)


def test_art_attack_leaves_the_classifier_alone_and_starts_at_random_where_asked() -> None:
    classifier = art_classifier()
    from ro_fast.integrations.art import ProjectedGradientDescent

    x, y = (t.numpy() for t in images(torch.float32))
    predicted = classifier.predict(x).argmax(1)
    attack = ProjectedGradientDescent(classifier, eps=0.1, eps_step=0.03, max_iter=4)
    assert np.array_equal(attack.generate(x), attack.generate(x, predicted))
    attack.set_params(num_random_init=3, loss="margin")
    assert not np.array_equal(attack.generate(x, y), attack.generate(x, y))
    assert np.abs(attack.generate(x, y) - x).max() <= 0.1 + 1e-6
    assert np.array_equal(predicted, classifier.predict(x).argmax(1))


def test_art_options_that_do_not_fit_are_told() -> None:
    classifier = art_classifier()
    from ro_fast.integrations.art import ProjectedGradientDescent

    x, y = (t.numpy() for t in images(torch.float32))
    for words, options in {
        "eps = 8 .*8/255": {"eps": 8.0, "eps_step": 0.1},
        "norm 1 is unknown": {"norm": 1},
        "eps has one value per input": {"eps": np.ones((9, 1, 1, 1))},
        "batch_size = 0": {"batch_size": 0},
    }.items():
        with pytest.raises(InputError, match=words):
            ProjectedGradientDescent(classifier, **options)
    with pytest.raises(InputError, match=r"clip_values are None"):
        ProjectedGradientDescent(art_classifier(None))
    with pytest.raises(InputError, match=r"x spans \[0.*clip_values are \[0, 1\]"):
        ProjectedGradientDescent(classifier).generate(2 * x, y)
    with pytest.raises(InputError, match=r"generate\(mask"):
        ProjectedGradientDescent(classifier).generate(x, y, mask=x)
    with pytest.raises(InputError, match="needs the target classes"):
        ProjectedGradientDescent(classifier, targeted=True).generate(x)


# -- the detector ------------------------------------------------------------------------------------------------------


def curve(epoch: int) -> tuple[float, float]:
    """Robust test and train accuracy of a run that overfits from epoch 20 on."""
    return 0.3 + 0.01 * min(epoch, 20) - 0.003 * max(0, epoch - 20), 0.3 + 0.01 * epoch


def test_monitor_of_a_plain_loop_warns_once_and_goes_on_from_its_state(caplog: pytest.LogCaptureFixture) -> None:
    whole, resumed = RobustOverfittingMonitor(), RobustOverfittingMonitor()
    for epoch in range(40):
        test, train = curve(epoch)
        verdict = whole.update(torch.tensor(test, dtype=torch.float64), train_robust_acc=train)  # type: ignore[arg-type]
        resumed.update(test, train_robust_acc=train)
        state, resumed = resumed.state_dict(), RobustOverfittingMonitor()
        resumed.load_state_dict(state)
        assert whole.should_stop == (verdict.alarm_epoch is not None)
    assert resumed.verdict == whole.verdict == verdict
    alarm = watch([curve(epoch)[0] for epoch in range(40)], train_robust_acc=[curve(epoch)[1] for epoch in range(40)]).alarm_epoch
    assert verdict.alarm_epoch == alarm is not None
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2 and all(words.startswith(f"epoch {alarm}: robust overfitting") for words in warnings)
    with pytest.raises(InputError, match="percentage"):
        whole.update(44.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("every", [1, 2])
def test_lightning_callback_stops_at_the_alarm(every: int, tmp_path: Any) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from ro_fast.integrations.lightning import RobustOverfittingMonitor as Callback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            self.log("train_robust_acc", curve(self.current_epoch)[1], on_epoch=True, on_step=False)
            return (self.weight * batch).sum()

        def validation_step(self, batch: Tensor, index: int) -> None:
            self.log("val_robust_acc", curve(self.current_epoch)[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(callback: Callback, epochs: int, **options: Any) -> Any:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[callback], check_val_every_n_epoch=every, accelerator="cpu",
            default_root_dir=tmp_path, **quiet
        )  # fmt: skip
        data = torch.utils.data.DataLoader(torch.ones(1, 1))
        trainer.fit(Module(), data, data, **options)
        return trainer

    expected, told = RobustOverfittingMonitor(warn=False), []
    for epoch in range(every - 1, 50, every):
        told.append(expected.update(curve(epoch)[0], train_robust_acc=curve(epoch)[1], epoch=epoch))
    alarm = told[-1].alarm_epoch
    assert alarm is not None

    callback = Callback(train_robust_acc="train_robust_acc", stop=True, warn=False)
    trainer = fit(callback, 50)
    assert trainer.current_epoch == alarm + 1
    assert (callback.verdict.alarm_epoch, callback.verdict.onset_epoch) == (alarm, told[-1].onset_epoch)

    first = fit(Callback(train_robust_acc="train_robust_acc", warn=False), 10)
    first.save_checkpoint(tmp_path / "ten.ckpt")
    callback = Callback(train_robust_acc="train_robust_acc", stop=True, warn=False)
    assert fit(callback, 50, ckpt_path=tmp_path / "ten.ckpt").current_epoch == alarm + 1
    with pytest.raises(InputError, match=r"'robust' is not logged for each epoch; available: .*val_robust_acc"):
        fit(Callback("robust"), 4)


# -- where a library is missing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "blocked", "install"),
    [
        ("art", "art", "adversarial-robustness-toolbox"),
        ("foolbox", "foolbox", "foolbox"),
        ("lightning", "lightning.pytorch pytorch_lightning", "lightning"),
    ],
)
def test_a_missing_library_is_told_in_one_sentence(name: str, blocked: str, install: str) -> None:
    code = (
        f"import sys\nfor m in '{blocked}'.split(): sys.modules[m] = None\n"
        f"try: import ro_fast.integrations.{name}\nexcept ImportError as e: print(e)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith(f"pip install {install}") and len(result.stdout.splitlines()) == 1
