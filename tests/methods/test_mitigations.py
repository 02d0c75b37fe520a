"""Mitigations compared with their definitions, reimplemented with loops or autograd; their state survives an interruption."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import small, without_seconds
from helpers.steps import gradients, make_step
from torch import Tensor, nn

from ro_fast.check.sample_weights import weights_of
from ro_fast.config import changed
from ro_fast.data import load_data
from ro_fast.data.check_file import examined
from ro_fast.errors import InputError
from ro_fast.methods import METHODS, Kept, Step, WeightPerturbation, build_method, build_objective
from ro_fast.methods.feature_centres import centre_loss
from ro_fast.storage import checkpoint
from ro_fast.storage.records import as_json
from ro_fast.training.trainer import Run, prepared, train

CE = nn.CrossEntropyLoss(reduction="none")


def logits_of(step: Step) -> Tensor:
    """The output on the adversarial batch, from a model and attack like the step's."""
    return make_step().model(step.x_adv)


# -- labels and teachers -----------------------------------------------------------------------------------------------


def test_label_smoothing_is_the_definition() -> None:
    step = make_step()
    loss = METHODS["label_smoothing"].loss(step, smoothing=0.3)
    torch.testing.assert_close(loss, nn.CrossEntropyLoss(label_smoothing=0.3)(logits_of(step), step.y))


def test_temporal_ensembling_follows_the_answers() -> None:
    kept, index = Kept(40, 3), torch.arange(16) + 10
    labels = torch.eye(3)[make_step().y]
    for _ in range(3):
        step = make_step(kept=kept, index=index)
        loss = METHODS["temporal_ensembling"].loss(step, momentum=0.8)
        logits = logits_of(step)
        labels = 0.8 * labels + 0.2 * logits.softmax(1)
        torch.testing.assert_close(loss, -(labels.detach() * logits.log_softmax(1)).sum(1).mean())
        torch.testing.assert_close(kept.state["labels"][index], labels.detach())
    assert not kept.state["labels"][:10].any() and not kept.state["labels"][26:].any()


def test_distillation_is_the_definition() -> None:
    teachers = {name: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)) for name in ("natural", "robust")}
    step = make_step(kept=Kept(16, 3, teachers=teachers))
    loss = METHODS["distillation"].loss(step, natural_share=0.1, robust_share=0.6, temperature=2.0)
    logits = logits_of(step)
    expected = 0.3 * CE(logits, step.y).mean()
    for name, share in (("natural", 0.1), ("robust", 0.6)):
        soft = (teachers[name](step.x_adv) / 2).softmax(1)
        expected = expected + share * 4 * -(soft * (logits / 2).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def test_mart_is_the_definition() -> None:
    step = make_step(objective=build_objective({"objective": "mart", "beta": 5.0}))
    loss = METHODS["baseline"].loss(step)
    model = make_step().model
    adversarial, natural = model(step.x_adv).softmax(1), model(step.x).softmax(1)
    expected = torch.zeros(())
    for n, y in enumerate(step.y.tolist()):
        rival = max(p for k, p in enumerate(adversarial[n]) if k != y)
        kl = sum(t * (t / p).log() for t, p in zip(natural[n], adversarial[n], strict=True))
        expected = expected - adversarial[n, y].log() - (1 - rival).log() + 5.0 * kl * (1 - natural[n, y])
    torch.testing.assert_close(loss, expected / 16)
    ours, theirs = make_step(objective=step.objective), make_step()
    g = gradients(ours, METHODS["baseline"].loss(ours))
    model = theirs.model
    adversarial, natural = model(ours.x_adv).softmax(1), model(ours.x).softmax(1)
    own = adversarial.gather(1, ours.y[:, None]).squeeze(1)
    rival = adversarial.scatter(1, ours.y[:, None], -1).amax(1)
    kl = (natural * (natural.log() - adversarial.log())).sum(1)
    doubt = 1 - natural.gather(1, ours.y[:, None]).squeeze(1)
    truth = gradients(theirs, (-own.log() - (1 - rival).log() + 5 * kl * doubt).mean())
    torch.testing.assert_close(g, truth, rtol=1e-4, atol=1e-6)


# -- weights of samples ------------------------------------------------------------------------------------------------


def test_mail_weighs_by_the_margin() -> None:
    step = make_step()
    loss = METHODS["mail"].loss(step, slope=10.0, bias=0.5)
    logits = logits_of(step)
    p = logits.softmax(1).detach()
    margins = [p[n, y] - max(p[n, k] for k in range(3) if k != y) for n, y in enumerate(step.y.tolist())]
    weight = torch.stack([1 / (1 + torch.exp(10 * (margin - 0.5))) for margin in margins])
    torch.testing.assert_close(loss, (weight / weight.mean() * CE(logits, step.y)).mean())


def test_gairat_counts_the_iterates_that_were_right() -> None:
    step = make_step(attacked=False)
    loss = METHODS["gairat"](step, offset=-1.0)
    other = make_step()
    other.model.eval()
    noise = torch.empty_like(other.x).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    x, right = (other.x + 0.1 * noise).clamp(0, 1), torch.zeros(16)
    for _ in range(3):
        leaf = x.clone().requires_grad_()
        logits = other.model(leaf)
        right += logits.argmax(1) == other.y
        (grad,) = torch.autograd.grad(CE(logits, other.y).sum(), leaf)
        x = torch.max(torch.min(x + 0.025 * grad.sign(), other.x + 0.1), other.x - 0.1).clamp(0, 1)
    torch.testing.assert_close(step.x_adv, x)
    assert 0 < right.sum() < 48  # both kinds of samples occur
    weight = (1 + torch.tanh(-1 + 5 * (1 - 2 * right / 3))) / 2
    torch.testing.assert_close(loss, (weight / weight.mean() * CE(logits_of(step), step.y)).mean())


def test_reweighting_by_a_check(tmp_path: Path) -> None:
    data = load_data(small(tmp_path).data)
    rng = np.random.default_rng(0)
    wrong = data.redrawn.numpy()
    scores = np.where(wrong, rng.normal(3.0, 0.6, 200), rng.normal(-1.0, 0.5, 200))
    path = tmp_path / "check.json"
    ours, theirs = map(as_json, examined(data))
    made_of = {"train": ours, "test": theirs, "train_size": 200, "label_error_score": scores.tolist()}
    content = {"version": 2, "data": "digits", "test_size": 100, "validation": [], "numbering": "", "fingerprint": ""}
    content |= {"classes": 10, "image_shape": [1, 8, 8], "compared_as": "", "summary": ""}
    content |= {"findings": [], "label_accuracy": 0.9, "two_sample_test": {}, "checks": [], "config": {}, "environment": {}}
    content |= {"wall_seconds": 1.0, **made_of}
    path.write_text(json.dumps(content))
    weight = weights_of(str(path), data)
    assert weight[wrong].max() < 0.05 and weight[~wrong].min() > 0.95
    assert (weight[scores.argsort()].diff() <= 0).all()
    step = make_step(kept=Kept(200, 3, weight=weight), index=torch.arange(16))
    torch.testing.assert_close(METHODS["reweight"].loss(step, from_=""), (weight[:16] * CE(logits_of(step), step.y)).mean())
    made = weights_of("auto", data)  # from the check's own scores
    assert made[~wrong].mean() > made[wrong].mean() + 0.3
    config = small(tmp_path / "run", method={"name": "reweight", "from": str(path)}, trainer__epochs=1)
    assert len(train(config)) == 1
    for changes, words in (
        ({"label_error_score": [0.0] * 3}, "should be 200 finite numbers"),
        ({"label_error_score": [None] * 200}, "label_error_score.*expected `float`, got `null`"),
        ({"label_error_score": [float("nan")] * 200}, "should be 200 finite numbers"),
        ({"train": {**ours, "digests": ["x"] * 200}}, "was made for other images or labels"),
    ):
        path.write_text(json.dumps(content | changes))
        with pytest.raises(InputError, match=words):
            weights_of(str(path), data)
    with pytest.raises(InputError, match=r"cannot be read.*ro-fast check"):
        weights_of(str(tmp_path / "none.json"), data)


# -- weights of the network --------------------------------------------------------------------------------------------


def test_weight_perturbation_is_the_definition() -> None:
    """AWP: the gradient at w + v, v_l = γ·‖w_l‖·g_l/‖g_l‖; afterwards the weights are as before."""
    step, plain = make_step(weights=WeightPerturbation("awp", 0.1)), make_step()
    before = {name: p.detach().clone() for name, p in step.model.named_parameters()}
    gradient = gradients(step, METHODS["baseline"].loss(step))
    model = plain.model
    CE(model(step.x_adv), step.y).mean().backward()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1 and name.endswith("weight"):
                p.add_(0.1 * p.norm() * p.grad / p.grad.norm())
    model.zero_grad()
    CE(model(step.x_adv), step.y).mean().backward()
    torch.testing.assert_close(gradient, torch.cat([p.grad.flatten() for p in model.parameters()]))
    step.weights.restore()
    torch.testing.assert_close(dict(step.model.named_parameters()), before)
    # BatchNorm saw one training forward only.
    once = make_step()
    once.model(step.x_adv)
    torch.testing.assert_close(step.model.state_dict()["2.num_batches_tracked"], once.model.state_dict()["2.num_batches_tracked"])
    assert step._work.full == 32


def test_mlcat_weight_perturbation_is_the_definition() -> None:
    step = make_step(weights=WeightPerturbation("mlcat", 0.05))
    gradient = gradients(step, METHODS["baseline"].loss(step))
    model = make_step().model
    names = [name for name, p in model.named_parameters() if p.dim() > 1]
    start = {name: dict(model.named_parameters())[name].detach().clone() for name in names}
    total = {name: torch.zeros_like(p) for name, p in start.items()}
    size = torch.cat([p.flatten() for p in start.values()]).norm()
    for _ in range(10):
        model.zero_grad()
        loss = CE(model(step.x_adv), step.y)
        (loss * (loss.detach() < 1.2)).mean().backward()
        for name in names:
            total[name] += dict(model.named_parameters())[name].grad
        length = torch.cat([g.flatten() for g in total.values()]).norm()
        with torch.no_grad():
            for name in names:
                dict(model.named_parameters())[name].copy_(start[name] + 0.05 * size / length * total[name])
    model.zero_grad()
    CE(model(step.x_adv), step.y).mean().backward()
    theirs = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(gradient, theirs, rtol=1e-3, atol=1e-5)
    assert step._work.full == 11 * 16


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_averages_are_those_of_the_weights_on_the_way(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = {"name": "baseline", "averaging": kind, "decay": 0.9, "start_epoch": 1}
    seen: list[list[Tensor]] = []
    healthy = Run.train_step

    def watched(self: Run, step: Step, lr: float) -> Tensor:
        loss = healthy(self, step, lr)
        seen.append([p.detach().clone() for p in self.model.parameters()])
        return loss

    monkeypatch.setattr(Run, "train_step", watched)
    train(small(tmp_path, method=method, trainer__epochs=3))
    assert len(seen) == 21  # 7 steps per epoch, the first of which belongs to the baseline
    mean, taken = seen[6], seen[7:] if kind == "ema" else [seen[13], seen[20]]
    for n, weights in enumerate(taken):
        share = 0.1 if kind == "ema" else 1 / (n + 1)
        mean = [m + share * (w - m) for m, w in zip(mean, weights, strict=True)]
    run = Run(small(tmp_path, method=method, trainer__epochs=3), load_data(small(tmp_path).data), torch.device("cpu"))
    run.restore(checkpoint.load(tmp_path / "last.pt"))
    torch.testing.assert_close(list(run.judged.parameters()), mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close([p.detach() for p in run.model.parameters()], seen[-1], rtol=0, atol=0)
    # BatchNorm's statistics are the means over batches of natural training images, weighted by size.
    first = next(m for m in run.judged.modules() if isinstance(m, nn.BatchNorm2d))
    conv = next(m for m in run.judged.modules() if isinstance(m, nn.Conv2d))
    x = run.judged.normalize(run.inputs(run.data.x_train))
    torch.testing.assert_close(first.running_mean, conv(x).mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert run.score(run.data.x_test, run.data.y_test).robust_acc == run.history[-1].test_robust_acc


def test_l1_is_added() -> None:
    step = make_step()
    loss = build_method({"name": "baseline", "l1": 0.01})(step)
    weights = [p for name, p in step.model.named_parameters() if name in ("1.weight", "4.weight")]
    torch.testing.assert_close(loss, CE(logits_of(step), step.y).mean() + 0.01 * sum(w.abs().sum() for w in weights))


# -- inputs ------------------------------------------------------------------------------------------------------------


def images_step(kind: str, n: int = 400, side: int = 16, strength: float | None = None) -> tuple[Step, Tensor]:
    """A step on images each of a distinct grey, after its inputs were changed; the attack does nothing."""
    step = make_step(kept=Kept(n, 3))
    x = ((torch.arange(n) + 1) / (n + 1)).view(n, 1, 1, 1).expand(n, 2, side, side).contiguous()
    step.x, step.y = x, torch.arange(n) % 3
    step.target = step.y
    step.model = nn.Sequential(nn.Flatten(), nn.Linear(2 * side * side, 3))
    build_method({"name": "natural", "inputs": kind, "inputs_strength": strength})(step)
    return step, x


def test_mixup_mixes_image_and_label_alike() -> None:
    step, x = images_step("mixup")
    own = step.target.gather(1, step.y[:, None]).squeeze(1)
    grey, first = step.x[:, 0, 0, 0], x[:, 0, 0, 0]
    assert (step.x == grey.view(-1, 1, 1, 1)).all() and (own >= 0.5).all()
    # Where the other image's class differs, it covers the label's share: x = λ·x₁ + (1 − λ)·x₂.
    mixed = own < 0.99
    other = ((grey - own * first) / (1 - own))[mixed]
    number = (other * 401 - 1).round()
    torch.testing.assert_close((number + 1) / 401, other, rtol=0, atol=2e-4)
    rival = step.target.scatter(1, step.y[:, None], 0).argmax(1)[mixed]
    assert torch.equal(number.long() % 3, rival) and len(number.unique()) > 0.95 * len(number)
    # Beta(1.4, 1.4) folded at one half has the mean 0.5 + E|λ − 0.5| ≈ 0.72
    assert abs(own[mixed].mean() - 0.72) < 0.03


def test_cutmix_label_is_the_area() -> None:
    step, x = images_step("cutmix")
    stays = (step.x == x).all(1)
    share = stays.flatten(1).float().mean(1)
    own = step.target.gather(1, step.y[:, None]).squeeze(1)
    rows, columns = (~stays).any(2).sum(1), (~stays).any(1).sum(1)
    assert torch.equal((~stays).flatten(1).sum(1), rows * columns)  # a rectangle
    differs = step.target.amax(1) < 1
    torch.testing.assert_close(own[differs], share[differs])
    assert 0.5 < share.mean() < 0.8 and share.min() < 0.1


def test_cutout_and_idbh() -> None:
    step, x = images_step("cutout")
    black = (step.x == 0).all(1)
    assert black.any((1, 2)).all() and black.flatten(1).sum(1).max() == 49  # 7 of 16 pixels
    assert torch.equal(step.x[~black[:, None].expand_as(x)], x[~black[:, None].expand_as(x)]) and torch.equal(step.target, step.y)
    step, x = images_step("idbh")
    whole = ((step.x == x) | (step.x == 0)).all(1).all(2).all(1)  # not erased
    assert 0.4 < whole.float().mean() < 0.6
    lost = (step.x == 0).all(1)[whole]
    assert torch.equal((~lost).flatten(1).sum(1), (~lost).any(2).sum(1) * (~lost).any(1).sum(1))  # a rectangle remains
    assert (~lost).any(2).sum(1).min() == 16 - round(16 * 11 / 32) and (~lost).any(2).sum(1).max() == 16
    again, _ = images_step("idbh")
    assert torch.equal(step.x, again.x)  # from the method's generator


def test_crop_shift_moves_what_is_left_as_it_was() -> None:
    from ro_fast.methods.inputs import _crop_shift

    x = (torch.arange(8.0)[:, None] * 8 + torch.arange(8.0) + 1).expand(200, 1, 8, 8).contiguous()
    moved = _crop_shift(x, 3, 3, torch.Generator().manual_seed(0))
    down = {}
    for image in moved[:, 0]:
        r, c = (image > 0).nonzero()[0].tolist()
        height, width = (image > 0).any(1).sum(), (image > 0).any(0).sum()
        top, left = divmod(int(image[r, c]) - 1, 8)
        assert torch.equal(image[r : r + height, c : c + width], x[0, 0, top : top + height, left : left + width])
        down[r - top] = down.get(r - top, 0) + 1
    assert {-2, -1, 0, 1, 2} <= down.keys()


# -- features and data -------------------------------------------------------------------------------------------------


def test_centre_loss_is_the_definition() -> None:
    torch.manual_seed(0)
    y = torch.tensor([0, 0, 0, 1, 1, 3, 3, 3, 2])  # a class of one, and an absent one
    features, natural = torch.randn(9, 4, requires_grad=True), torch.randn(9, 4)
    centres = {c: natural[y == c].mean(0) for c in range(4)}
    mean = torch.stack(list(centres.values())).mean(0)
    scale = torch.stack([(m - mean).square().sum() for m in centres.values()]).mean()
    losses = []
    for n in range(8):
        own = [i for i in range(9) if y[i] == y[n] and i != n]
        scores = []
        for c in range(4):
            m = natural[own].mean(0) if c == y[n] else centres[c]
            scores.append(-(features[n] - m).square().sum() / scale)
        losses.append(-torch.stack(scores).log_softmax(0)[y[n]])
    found = centre_loss(features, natural, y, 5)
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, features)[0] for loss in (found, expected)))


def test_feature_centres_adds_it_and_leaves_batchnorm_with_one_forward() -> None:
    step, other = make_step(), make_step()
    loss = METHODS["feature_centres"].loss(step, strength=0.7)
    body = other.model[:-1]
    natural = body(step.x).detach()
    other = make_step()
    features = other.model[:-1](step.x_adv)
    logits = other.model[-1](features)
    torch.testing.assert_close(loss, CE(logits, step.y).mean() + 0.7 * centre_loss(features, natural, step.y, 3))
    torch.testing.assert_close(step.model.state_dict(), other.model.state_dict())


def test_more_data(tmp_path: Path) -> None:
    """Set-aside labels are replaced by a naturally trained network's predictions; a file of extra images does the same."""
    config = small(tmp_path / "run", data__unlabelled=0.5, trainer__epochs=3, teachers=str(tmp_path / "teachers"))
    data, whole = load_data(config.data), load_data(small(tmp_path).data)
    half = load_data(changed(small(tmp_path), {"data.train_share": 0.5}).data)
    assert torch.equal(data.x_train, half.x_train) and torch.equal(data.y_train, half.y_train)
    assert sorted(map(bytes, torch.cat([data.x_train, data.x_extra]).numpy())) == sorted(map(bytes, whole.x_train.numpy()))
    helped_run, _ = prepared(config, data, torch.device("cpu"))
    teacher = Run(config, half, torch.device("cpu")).model
    (folder,) = (path.parent for path in (tmp_path / "teachers").glob("*/last.pt"))
    teacher.load_state_dict(checkpoint.load(folder / "last.pt")["model"])
    answers = teacher.eval()(data.images(data.x_extra)).argmax(1)
    assert torch.equal(helped_run.data.y_train[100:], answers) and torch.equal(helped_run.data.x_train[100:], data.x_extra)
    history = train(config)
    stamps = [path.stat().st_mtime_ns for path in (tmp_path / "teachers").glob("*/last.pt")]
    assert len(history) == 3 and len(stamps) == 1
    cost = json.loads((tmp_path / "run" / "teachers.json").read_text())["pseudo_labels"]["gflop"]
    assert cost == pytest.approx(3 * 100 * 3 * Run(config, half, torch.device("cpu")).flops / 1e9)

    np.savez(tmp_path / "extra.npz", x=whole.x_train[:30].numpy() / 16.0, y=whole.y_train[:30].numpy())
    given = load_data(small(tmp_path, data__extra=str(tmp_path / "extra.npz")).data)
    torch.testing.assert_close(given.images(given.x_train), whole.images(whole.x_train), rtol=0, atol=0)
    torch.testing.assert_close(given.images(given.x_extra), whole.images(whole.x_train[:30]))
    joined, costs = prepared(small(tmp_path), given, torch.device("cpu"))
    assert len(joined.data.y_train) == 230 and torch.equal(joined.data.y_train[200:], whole.y_train[:30]) and not costs
    np.savez(tmp_path / "wrong.npz", x=np.zeros((3, 1, 9, 9), np.float32))
    for name, words in (("wrong.npz", r"an image is \[1, 9, 9\] but a training image \[1, 8, 8\]"), ("none.npz", "not exist")):
        with pytest.raises(InputError, match=words):
            load_data(small(tmp_path, data__extra=str(tmp_path / name)).data)


# -- runs --------------------------------------------------------------------------------------------------------------

STATEFUL = [
    {"name": "temporal_ensembling", "averaging": "ema", "weight_perturbation": "mlcat"},
    {"name": "distillation", "averaging": "swa", "average_from": 2},
    {"name": "mail", "inputs": "idbh", "weight_perturbation": "awp", "objective": "trades"},
]


@pytest.mark.parametrize("method", STATEFUL, ids=lambda m: m["name"])
def test_an_interrupted_run_goes_on_to_the_same_digits(tmp_path: Path, method: dict) -> None:
    """Alone, interrupted after each epoch, and from a common prefix."""

    class Stop(Exception):
        pass

    def stop(event: object) -> None:
        raise Stop

    def config(out: str, **more: object):
        method_ = {**method, "start_epoch": 1}
        return small(tmp_path / out, method=method_, teachers=str(tmp_path / "teachers"), data__train_size=100, **more)

    whole = train(config("whole"))
    for _ in range(4):
        with pytest.raises(Stop):
            train(config("stopped"), stop)
    assert without_seconds(train(config("stopped"))) == without_seconds(whole)
    objective = {key: value for key, value in method.items() if key == "objective"}
    prefix = changed(config("prefix"), {"method": {"name": "baseline", **objective}, "trainer.stop_after": 1})
    train(prefix)
    assert without_seconds(train(config("forked"), prefix=tmp_path / "prefix")) == without_seconds(whole)
    states = [checkpoint.load(tmp_path / name / "last.pt") for name in ("whole", "stopped", "forked")]
    for other in states[1:]:
        for part in ("model", "kept", "trained"):
            assert states[0].get(part, {}).keys() == other.get(part, {}).keys()
            assert all(torch.equal(states[0][part][key], other[part][key]) for key in states[0].get(part, {}))


def test_work_of_mitigations_is_counted(tmp_path: Path) -> None:
    def forwards(method: dict) -> float:
        config = small(tmp_path, method=method)
        run = Run(config, load_data(config.data), torch.device("cpu"))
        return run.train_epoch().gflop * 1e9 / run.flops / 200

    assert forwards({"name": "natural"}) == pytest.approx(3)
    assert forwards({"name": "gairat"}) == pytest.approx(7)  # 2 attack steps at 2F, one training pass at 3F
    assert forwards({"name": "feature_centres"}) == pytest.approx(8)
    assert forwards({"name": "baseline", "objective": "mart"}) == pytest.approx(10)
    assert forwards({"name": "baseline", "objective": "trades", "weight_perturbation": "awp"}) == pytest.approx(17)
    assert forwards({"name": "baseline", "averaging": "swa"}) == pytest.approx(8)
    assert forwards({"name": "baseline", "weight_perturbation": "mlcat"}) == pytest.approx(37)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "baseline", "averaging": "mean"}, "method.averaging 'mean' is unknown; available: ema, swa"),
        ({"name": "baseline", "weight_perturbation": "x"}, "available: awp, mlcat"),
        ({"name": "baseline", "inputs": "flip"}, "available: mixup, cutmix, cutout, idbh"),
        ({"name": "baseline", "inputs": "cutout", "inputs_strength": 2}, "number from 0 to 1 for inputs=cutout"),
        ({"name": "gairat", "inputs": "mixup"}, "needs one class per image"),
        ({"name": "baseline", "objective": "mart", "inputs": "cutmix"}, "objective mart needs one class per image"),
        ({"name": "label_smoothing", "objective": "mart"}, "should be at or trades"),
        ({"name": "distillation", "natural_share": 0.7, "robust_share": 0.6}, "should not exceed 1 together"),
        ({"name": "reweight", "from": None}, "method.from is not given"),
        ({"name": "label_smoothing", "smoothing": 1.2}, "from 0 to 1"),
        ({"name": "mail", "offset": 1}, "no option 'offset'; it has: slope, bias, objective"),
    ],
)
def test_bad_options_are_told(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_method(options)


def test_an_average_is_a_copy() -> None:
    """Attacking, training or renewing one does not affect the other."""
    from ro_fast.training.averaging import Averaging

    model = make_step().model
    before = copy.deepcopy(model.state_dict())
    averaging = Averaging("swa", 0.9, 0)
    averaging.begin(model, 0)
    averaging.after_epoch(model, iter([torch.rand(8, 3, 2, 2)]))
    torch.testing.assert_close(model.state_dict(), before)
    assert not torch.equal(averaging.model.state_dict()["2.running_mean"], before["2.running_mean"])
    assert not averaging.model.training and model.training
