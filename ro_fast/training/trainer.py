"""Adversarial training: the loop, its state, and how a run is continued.

One epoch is one line of ``metrics.jsonl`` and one ``last.pt``, which holds everything the next epoch depends on; a run
that was killed continues from there, bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ro_fast.check.sample_weights import weights_of
from ro_fast.config import TrainConfig, to_yaml
from ro_fast.data import ImageData, augment, load_data
from ro_fast.data.stored_images import AnyImages, StoredImages
from ro_fast.environment import choose_device, environment, peak_memory_mb, use_threads
from ro_fast.errors import InputError, WorkError
from ro_fast.features.reader import FeatureReader
from ro_fast.findings.outcomes import Cost
from ro_fast.methods import (
    Kept,
    Method,
    Remembered,
    Step,
    baseline_of,
    build_method,
    build_objective,
    build_weight_perturbation,
    remembers,
    small_loss_mask,
)
from ro_fast.methods.step import Work
from ro_fast.models import build_model
from ro_fast.overfitting.early_stop import EarlyStop
from ro_fast.parallel import ALONE, Shared, SharedPGD, World, joined
from ro_fast.progress import EpochDone, Listener
from ro_fast.storage import checkpoint, epochs, records
from ro_fast.storage.checkpoint import State
from ro_fast.storage.epochs import Epoch
from ro_fast.storage.paths import own_folder
from ro_fast.storage.run_folder import alone_in
from ro_fast.storage.saving import saving, writing
from ro_fast.storage.test_images import FILE as TEST_IMAGES
from ro_fast.storage.test_images import RobustImages
from ro_fast.training.averaging import build_averaging
from ro_fast.training.flops import forward_flops
from ro_fast.training.fork import ForkMemory
from ro_fast.training.induced import induced
from ro_fast.training.loggers import logged
from ro_fast.training.observer import FeatureObserver, Generalisation
from ro_fast.training.sample_history import SampleHistory
from ro_fast.training.schedules import piecewise
from ro_fast.training.score import Scores, evaluate
from ro_fast.training.teachers import gather
from ro_fast.training.validate import build_attack, check

_log = logging.getLogger("ro_fast")

__all__ = ["Best", "Run", "build_attack", "check", "train"]

_STREAMS = ("order", "augment", "noise", "method")  # each kind of randomness has its own generator
_WHOLE = ("gairat", "feature_centres")  # methods that several processes can't share
# Where files lie, and what is reported about a run, is not part of its identity.
_NOT_OF_THE_RUN = ("out", "device", "data.path", "data.extra", "teachers", "trainer.log", "nproc")


def train(
    config: TrainConfig,
    listener: Listener | None = None,
    prefix: Path | None = None,
    data: ImageData | None = None,
) -> list[Epoch]:
    """Trains one run into ``config.out``, or continues the run in that folder, and returns its epochs.

    Args:
        config: the run; the same config and folder continue it, and another config in that folder is an error.
        listener: called after each epoch.
        prefix: folder of a finished run from whose last state this one starts.
        data: the result of ``load_data(config.data)``, if available.

    Raises:
        InputError: if the config, the data or a folder doesn't fit; nothing was changed.
        WorkError: if the loss is not finite; the last good state is kept.
        StorageError: if a state can't be written; likewise.

    Bitwise reproducible on a CPU for the same config, number of threads and build.
    """
    use_threads(config.threads)
    check(config)
    own_folder(config.out, "environment.json", ["config.yaml", epochs.FILE, "best.pt", "last.pt"])
    device = choose_device(config.device)
    world = joined(device.type)
    run, costs = prepared(config, data or load_data(config.data), device, world)
    with alone_in(run.folder) if world.first else contextlib.nullcontext():
        run.open(prefix)
        if costs and world.first:
            records.write(run.folder / "teachers.json", costs)
        with logged(config, run.history, listener) if world.first else contextlib.nullcontext() as told:
            run.finish(told)
    world.wait()  # until everything is written
    return run.history


def prepared(
    config: TrainConfig, data: ImageData, device: torch.device, world: World = ALONE
) -> tuple[Run, dict[str, Cost]]:
    """A run with the teachers and extra labels it needs, trained now if they are not on disk, and their costs."""

    def trained(own: TrainConfig, data: ImageData) -> tuple[nn.Module, list[Epoch]]:
        history = train(own, data=data)
        return Run(own, data.to(device), device).model, history

    helped = gather(config, data, device, trained)
    data, costs = helped.data, helped.costs
    if config.data.induced is not None:
        data, costs["adversarial"] = induced(config, data, device, trained)
    return Run(config, data.to(device), device, helped.teachers, world), costs


@dataclass(frozen=True)
class Trained:
    """The result of one pass over the training images, on adversarial images except for the loss that was minimised."""

    lr: float  # of the last step
    loss: float
    robust_acc: float
    robust_loss: float
    small_loss_share: float
    gflop: float


@dataclass
class Best:
    """The epoch of best validation robust accuracy so far."""

    epoch: int = -1
    val_robust_acc: float = -1.0


@dataclass(frozen=True)
class _Progress:
    """What a state says about the epochs before it."""

    epoch: int
    best: Best
    history: list[Epoch]


class Run:
    """The state of one training run in its folder: model, optimiser, random streams, metrics."""

    def __init__(
        self,
        config: TrainConfig,
        data: ImageData,
        device: torch.device,
        teachers: dict[str, nn.Module] | None = None,
        world: World = ALONE,
    ) -> None:
        self.config, self.data, self.device, self.world = config, data, device, world
        self.folder = Path(config.out)
        self.identity = {k: v for k, v in checkpoint.flat(config).items() if k not in _NOT_OF_THE_RUN} | {
            "data": data.fingerprint(),
            "device": device.type,
        }
        self.epoch = 0  # completed epochs
        self.history: list[Epoch] = []
        self.best = Best()
        self.streams = {name: self._generator(name) for name in _STREAMS}
        self.method: Method = build_method(config.method)
        self.before: Method = build_method(baseline_of(config.method))
        self.objective = build_objective(config.method)
        self.start_epoch = int(config.method.get("start_epoch", 0))
        weight = weights_of(config.method["from"], data) if config.method["name"] == "reweight" else None
        if weight is not None:  # the file may change under its name
            self.identity["sample_weights"] = checkpoint.digest(weight.tolist())
        self.kept = Kept(len(data.y_train), data.num_classes, teachers=teachers or {}, weight=weight)
        self.weights, self.averaging = build_weight_perturbation(config.method), build_averaging(config.method)
        self.attack = build_attack(config.attack, config.data.eps, self.streams["noise"])
        steps = config.trainer.eval_steps or config.attack.steps
        self.eval_attack = dataclasses.replace(self.attack, steps=steps, restarts=1, bn="eval", final_forward=False)
        self.model, self.optimizer = self._build()
        # What steps train and attack: of several processes, each has the network see its share of a batch.
        self.trained: nn.Module = self.model
        if world.size > 1:
            if config.method["name"] in _WHOLE:
                told = f"method={config.method['name']} looks at more of the network than its logits"
                raise InputError(f"{told}, which several processes don't gather; train it with nproc=1")
            self.trained = Shared(self.model, world)
            self.attack = SharedPGD(**vars(self.attack), world=world)
        self.memory: ForkMemory | None = None
        self.samples = SampleHistory.empty(len(data.y_train), device)
        self.robust_images = RobustImages.empty(len(data.y_test))
        self.observer = FeatureObserver(self.model, data, config.features) if config.features.every else None

    def _generator(self, name: str) -> torch.Generator:
        device = torch.device("cpu") if name == "order" else self.device
        # The digest keeps the streams of neighbouring seeds apart.
        return torch.Generator(device).manual_seed(int(checkpoint.digest(self.config.seed, name)[:15], 16))

    def _build(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        t = self.config.trainer
        torch.manual_seed(self.config.seed)
        mean, std = self.data.mean_std()
        model = build_model(self.config.model, tuple(self.data.x_train.shape[1:]), self.data.num_classes, mean, std)
        model = model.to(self.device)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.flops = forward_flops(model, self.data.images(self.data.x_train[:2]))
        optimizer = torch.optim.SGD(
            model.parameters(), lr=t.lr, momentum=t.momentum, weight_decay=t.weight_decay, fused=True
        )
        return model, optimizer

    @property
    def judged(self) -> nn.Module:
        """The model that is scored: the average of the weights, if there is one."""
        return self.model if self.averaging is None or self.averaging.model is None else self.averaging.model

    @property
    def channels_last(self) -> bool:
        """Whether images and weights are in channels-last order: 4-dimensional images, if the config asks for it."""
        return self.config.trainer.channels_last and self.data.x_train.dim() == 4

    # -- the loop ------------------------------------------------------------------------------------------------------

    def finish(self, listener: Listener | None = None) -> None:
        """Trains, scores and saves epoch after epoch until the run is done."""
        t = self.config.trainer
        watched = EarlyStop(t.early_stop, self.history, round(min(t.lr_drops) * t.epochs) if t.lr_drops else 0)
        while self.epoch < (t.stop_after or t.epochs) and not watched.ends:
            start = time.perf_counter()
            self._remember()
            trained = self.train_epoch()
            train_seconds = time.perf_counter() - start
            val = self.score(self.data.x_val, self.data.y_val)
            reader = self._reader()
            test = self.score(self.data.x_test, self.data.y_test, reader)
            observed = None if reader is None else self._observed(test)
            done = Epoch(
                epoch=self.epoch,
                lr=trained.lr,
                train_loss=trained.loss,
                train_robust_acc=trained.robust_acc,
                train_robust_loss=trained.robust_loss,
                small_loss_share=trained.small_loss_share,
                gflop=trained.gflop,
                val_robust_acc=val.robust_acc,
                val_robust_loss=val.robust_loss,
                test_acc=test.acc,
                test_robust_acc=test.robust_acc,
                test_robust_loss=test.robust_loss,
                feature_gap=None if observed is None else observed.gap,
                feature_gap_natural=None if observed is None else observed.gap_natural,
                features=None if observed is None else observed.layers,
                train_seconds=train_seconds,
                seconds=time.perf_counter() - start,
                peak_mb=peak_memory_mb(self.device),
                world_size=self.world.size,
            )
            self.epoch += 1
            self.robust_images.add(test.robust)
            self._keep(done)
            notice = watched.see(done)
            if listener is not None:
                arm = str(self.config.method["name"])
                listener(EpochDone(arm, self.config.seed, self.epoch, t.epochs, test.robust_acc, test.acc, notice))
        if not self.world.first:
            return
        self.samples.save(self.folder / "samples.npz")
        if len(self.robust_images.bits) == self.epoch:  # else it began with a version that did not note them
            self.robust_images.save(self.folder / TEST_IMAGES, len(self.data.y_test))

    def train_epoch(self) -> Trained:
        """One pass over the training images; synchronises with the device once, at its end."""
        t, data = self.config.trainer, self.data
        order = torch.randperm(len(data.y_train), generator=self.streams["order"])
        batches = order.to(self.device).split(t.batch_size)
        losses = torch.zeros(len(batches), device=self.device)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # correct, adversarial loss, small-loss samples
        work = Work()
        if self.averaging is not None:
            self.averaging.begin(self.model, self.epoch)
        self.model.train()
        for i, (index, stored) in enumerate(zip(batches, self._read(batches, order.split(t.batch_size)), strict=True)):
            lr = piecewise((self.epoch + (i + 1) / len(batches)) / t.epochs, t.lr, t.lr_drops)
            step = self.step(index, stored, work)
            losses[i] = self.train_step(step, lr)
            decision = step.decision
            assert decision is not None, "a method decides before it returns"
            right = decision.logits.argmax(1) == step.y
            self.samples.update(self.epoch, index, right, decision.loss)
            sums[0] += right.sum()
            sums[1] += decision.loss.sum()
            sums[2] += decision.small.sum()
        self._check_finite(losses)
        if self.averaging is not None:
            every = torch.arange(len(data.y_train), device=self.device).split(t.batch_size)
            work.forward += self.averaging.after_epoch(self.model, (self.inputs(data.x_train[index]) for index in every))
        correct, adversarial_loss, small = (sums / len(data.y_train)).tolist()
        return Trained(lr, losses.mean().item(), correct, adversarial_loss, small, work.forwards * self.flops / 1e9)

    def _read(self, batches: Sequence[Tensor], on_cpu: Sequence[Tensor]) -> Iterator[Tensor]:
        """The stored images of each batch of training samples, whose indices are on the device and on the CPU."""
        x = self.data.x_train
        return x.ahead(on_cpu) if isinstance(x, StoredImages) else (x[index] for index in batches)

    def step(self, index: Tensor, stored: Tensor, work: Work) -> Step:
        """One step on some of the training samples, int64 [N], with their images as stored."""
        x, remembered = self._batch(index, stored)
        return Step(
            self.trained,
            self.attack,
            x,
            self.data.y_train[index],
            self.config.small_loss,
            work,
            index=index,
            objective=self.objective,
            generator=self.streams["method"],
            remembered=remembered,
            kept=self.kept,
            weights=self.weights if self.epoch >= self.start_epoch else None,
        )

    def _batch(self, index: Tensor, stored: Tensor) -> tuple[Tensor, Remembered | None]:
        """The augmented inputs of some training samples, and their state at the fork, if the method needs it."""
        x, kind, stream = self.inputs(stored), self.config.data.augment, self.streams["augment"]
        if self.memory is None:
            return augment(x, kind, stream), None
        # The perturbation moves with its image.
        x, perturbation = augment(torch.cat([x, self.memory.perturbation[index]], 1), kind, stream).chunk(2, 1)
        small = small_loss_mask(self.memory.loss[index], self.memory.num_classes, self.config.small_loss)
        return self._laid_out(x), Remembered(small, self._laid_out(perturbation))

    def _remember(self) -> None:
        """At the fork, gathers what the method needs and keeps it in ``fork.pt``; later reads it from there."""
        if not remembers(self.config.method) or self.memory is not None or self.epoch < self.start_epoch:
            return
        path = self.folder / "fork.pt"
        if not path.exists():
            if self.epoch > self.start_epoch:
                raise InputError(f"{path} is missing but epoch {self.epoch} needs it; choose another out= and run again")
            attack = dataclasses.replace(self.attack, generator=self._generator("fork"), bn="eval", final_forward=False)
            inputs, size = (lambda index: self.inputs(self.data.x_train[index])), self.config.trainer.eval_batch_size
            memory = ForkMemory.of(self.model, inputs, self.data.y_train, attack, self.objective, size)
            self.world.wait()  # until all have seen that it is missing
            if self.world.first:
                memory.save(path)
        self.world.wait()
        self.memory = ForkMemory.load(path, self.device, self.data.x_train.shape)

    def train_step(self, step: Step, lr: float) -> Tensor:
        """Changes the batch, attacks it, computes the loss and descends; returns the loss, detached."""
        method = self.method if self.epoch >= self.start_epoch else self.before
        with self._autocast():
            method.change_inputs(step)
            step.x_adv = method.attack(step)
            loss = method.loss(step)
        self._update(step, loss, lr)
        return loss.detach()

    def _update(self, step: Step, loss: Tensor, lr: float) -> None:
        """The optimiser step and what follows it: removing the weight perturbation and updating the weight average."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * step.lr_scale
        self.optimizer.zero_grad()
        loss.backward()
        self.world.average([p.grad for p in self.model.parameters() if p.grad is not None])
        self.optimizer.step()
        if step.weights is not None:
            step.weights.restore()
        if self.averaging is not None:
            self.averaging.after_step(self.model)
        if self.config.trainer.clean_forward:
            with torch.no_grad(), self._autocast():
                self.model(step.x)

    def score(self, x: AnyImages, y: Tensor, reader: FeatureReader | None = None) -> Scores:
        """Natural and robust accuracy in fp32, with the same noise at every epoch."""
        noise = torch.Generator(self.device).manual_seed(self.config.seed)
        attack = dataclasses.replace(self.eval_attack, generator=noise)
        size = self.config.trainer.eval_batch_size
        return evaluate(self.judged, lambda index: self.inputs(x[index]), y, attack, size, reader, self.world)

    def _reader(self) -> FeatureReader | None:
        """Reads features if they are due this epoch."""
        last = (self.config.trainer.stop_after or self.config.trainer.epochs) - 1
        if self.observer is None or not self.observer.due(self.epoch, last):
            return None
        return self.observer.look_at(self.judged)

    def _observed(self, test: Scores) -> Generalisation:
        assert self.observer is not None and test.features is not None
        data, subset = self.data, self.observer.train
        train = self.score(data.x_train[subset], data.y_train[subset], self.observer.reader)
        assert train.features is not None
        return self.observer.measured(train.features, test.features)

    def inputs(self, stored: Tensor) -> Tensor:
        """Stored images as the model takes them: float32 in [0, 1], in the layout chosen by the run."""
        return self._laid_out(self.data.images(stored))

    def _laid_out(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x.contiguous()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _check_finite(self, losses: Tensor) -> None:
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            kept = self.folder / "last.pt" if self.epoch else "none yet"
            raise WorkError(
                f"{self.folder}: the loss became {losses[step].item()} in epoch {self.epoch}, step {step}; "
                f"a smaller trainer.lr may help (last good state: {kept})"
            )

    # -- the folder ----------------------------------------------------------------------------------------------------

    def open(self, prefix: Path | None = None) -> None:
        """Creates the folder, or continues the run in it, or starts from another run's last state."""
        if not self.world.first:
            self.world.wait()  # until the first has it ready
            last = self.folder / "last.pt"
            if last.exists():
                self.restore_from(last)
            self.world.wait()
            return
        last, best = self.folder / "last.pt", self.folder / "best.pt"
        if not last.exists() and best.exists() and self._is_own(best):
            _log.info("%s is missing: continuing from best.pt, of an earlier epoch", last)
            last = best
        if last.exists():
            state = checkpoint.load(last)
            # Keys that came after the run was written have the values there that they have by default.
            later = {key: value for key, value in checkpoint.flat(TrainConfig()).items() if key in self.identity}
            with checkpoint.taking_apart(last):
                unlike = checkpoint.differences(self.identity, later | state["identity"])
                if unlike:
                    raise InputError(f"{self.folder} holds another run ({unlike}); choose another out=")
                self.restore(state)
        else:
            with writing(self.folder):
                # First what tells that the folder is ours: see own_folder.
                records.write(self.folder / "environment.json", environment(self.device, self.world.size))
                checkpoint.write_text(self.folder / "config.yaml", to_yaml(self.config))
                if prefix is not None:
                    if (prefix / "best.pt").exists():
                        shutil.copyfile(prefix / "best.pt", self.folder / "best.pt")
                    self.restore_from(prefix / "last.pt")
                    checkpoint.save(last, self._state())
        with writing(self.folder):
            checkpoint.write_text(self.folder / epochs.FILE, epochs.written(self.history))
        self.world.wait()
        self.world.wait()  # until the others have read it

    def _is_own(self, best: Path) -> bool:
        """Whether a best.pt is of this run: an arm's is its prefix's, until it does better."""
        with checkpoint.taking_apart(best):
            return not checkpoint.differences(self.identity, checkpoint.load(best)["identity"])

    def _keep(self, done: Epoch) -> None:
        self.history.append(done)
        if not self.world.first:
            return
        if done.val_robust_acc > self.best.val_robust_acc:
            self.best = Best(done.epoch, done.val_robust_acc)
            checkpoint.save(self.folder / "best.pt", self._state())
        checkpoint.save(self.folder / "last.pt", self._state())
        metrics = self.folder / epochs.FILE
        with saving(metrics), open(metrics, "a", encoding="utf-8") as file:
            file.write(epochs.written([done]))

    def _state(self) -> State:
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        averaged = {}
        if self.averaging is not None:
            averaged = {"averaging": self.averaging.state(), "trained": self.model.state_dict()}
        return {
            "identity": self.identity,
            "epoch": self.epoch,
            "model": self.judged.state_dict(),  # whoever loads a checkpoint gets the model that was scored
            **averaged,
            "kept": self.kept.state,
            "optimizer": self.optimizer.state_dict(),
            "streams": {name: stream.get_state() for name, stream in self.streams.items()},
            "torch_rng": [torch.get_rng_state(), *cuda],
            "best": dataclasses.asdict(self.best),
            "samples": self.samples.state(),
            "robust_images": self.robust_images.bits,
            "history": records.as_json(self.history),
        }

    def restore_from(self, path: Path) -> None:
        """Restores the state in a file, a last.pt or best.pt."""
        state = checkpoint.load(path)
        with checkpoint.taking_apart(path):
            self.restore(state)

    def restore(self, state: State) -> None:
        """Restores a state read from last.pt or best.pt."""
        self.model.load_state_dict(state["trained" if "trained" in state else "model"])
        if self.averaging is not None and "averaging" in state:  # a prefix has none
            self.averaging.restore(state["averaging"], self.model, state["model"])
        self.kept.restore(state["kept"], self.device)
        self._restore_optimizer(state["optimizer"])
        for name, stream in self.streams.items():
            stream.set_state(state["streams"][name])
        torch.set_rng_state(state["torch_rng"][0])
        if self.device.type == "cuda" and len(state["torch_rng"]) > 1:
            torch.cuda.set_rng_state(state["torch_rng"][1], self.device)
        self.samples.restore(state["samples"])
        if "robust_images" in state:  # of versions that noted them
            self.robust_images = RobustImages.of(state["robust_images"], len(self.data.y_test))
        told = records.parse(_Progress, {key: state[key] for key in ("epoch", "best", "history")})
        if [epoch.epoch for epoch in told.history] != list(range(told.epoch)):
            raise ValueError(f"its history is not that of {told.epoch} epochs")
        self.epoch, self.best, self.history = told.epoch, told.best, told.history

    def _restore_optimizer(self, state: State) -> None:
        """Raises TypeError if the state has other settings than the run, or buffers of other sizes than the weights."""
        settings = self._optimizer_settings()
        self.optimizer.load_state_dict(state)
        buffers = [(p, buffer) for p, own in self.optimizer.state.items() for buffer in own.values() if buffer is not None]
        if self._optimizer_settings() != settings or any(buffer.shape != p.shape for p, buffer in buffers):
            raise TypeError("the optimiser is another one")

    def _optimizer_settings(self) -> list[dict[str, Any]]:
        """All but the learning rate, which every step sets anew."""
        groups = self.optimizer.param_groups
        return [{key: value for key, value in group.items() if key not in ("lr", "params")} for group in groups]
