"""A suite's tasks done elsewhere, as jobs of a cluster: given away one by one, followed by what they write to the suite's folder.

Nothing is known of a job but whether it has ended and what came back. Its progress is read from the metrics that its run writes;
its states, locks and results lie in the suite's folder too, which all machines see.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ro_fast.environment import keep_freed_memory, use_threads
from ro_fast.errors import InputError, WorkError
from ro_fast.progress import EpochDone, Listener
from ro_fast.storage.epochs import FILE
from ro_fast.storage.run_folder import Busy
from ro_fast.suite.workers import Ended

_LOOK_EVERY = 1.0  # seconds between looks at the metrics of running jobs
_ASK_AGAIN = 5.0  # seconds until a job whose folder is in use asks again


class Work(Protocol):
    """What a job does."""

    @property
    def writes(self) -> str:
        """The folder of its run."""

    @property
    def label(self) -> EpochDone:
        """What its progress is told as, and the epochs that its run begins with."""

    def run(self, listener: Listener | None) -> None:
        """Does it, or finds it done."""


Task = TypeVar("Task", bound=Work)


class Cluster(Protocol):
    """What does the jobs. A handle is whatever it knows a job by."""

    at_once: int | None  # jobs that it should be given at a time; None: it queues them itself

    def submit(self, attempt: Attempt) -> Any:
        """Starts a job, now or when its turn comes."""

    def ended(self, handle: Any) -> bool:
        """Whether the job has ended, however it did."""

    def outcome(self, handle: Any) -> Exception | None:
        """What an attempt gave back; a WorkError that says why if its job ended without."""

    def cancel(self, handle: Any) -> None:
        """Ends the job."""

    def close(self) -> None:
        """Lets go of the cluster."""


@dataclass
class Attempt:
    """One task in the process of a job; what goes wrong is given back, since clusters wrap what is raised.

    Where an earlier job of the same task still runs, as after the suite itself was killed, it waits for that one to end.
    """

    task: Work
    threads: int | None
    folder: str = field(default_factory=os.getcwd)  # the suite's paths start from here

    def __call__(self) -> Exception | None:
        os.chdir(self.folder)
        keep_freed_memory()
        use_threads(self.threads)
        while True:
            try:
                self.task.run(None)
            except Busy:
                time.sleep(_ASK_AGAIN)
            except (InputError, WorkError) as error:
                return error
            except Exception as error:
                return RuntimeError(f"{type(error).__name__}: {error}")
            else:
                return None


@dataclass
class _Running(Generic[Task]):
    task: Task
    handle: Any
    epochs: int  # told so far


class Launched(Generic[Task]):
    """Up to ``count`` jobs at a time; those that run are cancelled with the context.

    Args:
        cluster: that does them.
        count: at most so many at a time; None: what the cluster does at once, which may be all.
        threads: CPU threads of each.
    """

    def __init__(self, cluster: Cluster, count: int | None, threads: int | None) -> None:
        self._cluster, self._count, self._threads = cluster, count or cluster.at_once, threads
        self._running: list[_Running[Task]] = []
        self._looked = 0.0

    def __enter__(self) -> Launched[Task]:
        return self

    def __exit__(self, *_: object) -> None:
        for job in self._running:
            with contextlib.suppress(Exception):  # it may have ended by itself
                self._cluster.cancel(job.handle)
        self._cluster.close()

    @property
    def busy(self) -> int:
        """How many are given away."""
        return len(self._running)

    @property
    def free(self) -> bool:
        """Whether another task can be given."""
        return self._count is None or self.busy < self._count

    def give(self, task: Task) -> None:
        """Submits a task."""
        epochs = max(len(_lines(task.writes)), task.label.epoch)
        self._running.append(_Running(task, self._cluster.submit(Attempt(task, self._threads)), epochs))

    def messages(self, timeout: float) -> Iterator[tuple[Task, Any]]:
        """Epochs that running jobs have finished meanwhile, and :class:`ro_fast.suite.workers.Ended` for each that has ended."""
        time.sleep(timeout)
        looked = time.monotonic()
        if looked - self._looked < _LOOK_EVERY:
            return
        self._looked = looked
        for job in list(self._running):
            ended = self._cluster.ended(job.handle)  # before its last epochs are read
            for line in _lines(job.task.writes)[job.epochs :]:
                job.epochs += 1
                yield job.task, _told(job.task.label, line)
            if ended:
                self._running.remove(job)
                yield job.task, Ended(self._cluster.outcome(job.handle))


def _lines(run: str) -> list[dict[str, Any]]:
    """The epochs that a run has written completely."""
    with contextlib.suppress(OSError, ValueError):
        text = (Path(run) / FILE).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    return []


def _told(label: EpochDone, line: dict[str, Any]) -> EpochDone:
    return EpochDone(label.arm, label.seed, line["epoch"] + 1, label.epochs, line["test_robust_acc"], line["test_acc"])
