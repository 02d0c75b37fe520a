"""Worker processes, each of which does one task at a time; one that dies takes only its own task with it.

Each has a pipe of its own: a process that is killed while it writes to a shared queue can leave it locked for all others.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from ro_fast.environment import keep_freed_memory, use_threads
from ro_fast.errors import InputError, WorkError
from ro_fast.progress import show_notices

Task = TypeVar("Task")


@dataclass(frozen=True)
class Ended:
    """The last message on a task: done, or why not."""

    error: Exception | None = None


@dataclass
class _Worker(Generic[Task]):
    process: BaseProcess
    pipe: Connection
    task: Task | None = None


class Workers(Generic[Task]):
    """Up to ``count`` processes that do ``work(task, tell)``, where ``tell`` sends a message back; all end with the context.

    Args:
        count: of processes; they start when there is something to do.
        threads: CPU threads of each.
        work: a function of a module, since each process imports it anew.
    """

    def __init__(self, count: int, threads: int | None, work: Callable[[Task, Callable[[Any], None]], None]) -> None:
        self._count, self._threads, self._work = count, threads, work
        self._workers: list[_Worker[Task]] = []

    def __enter__(self) -> Workers[Task]:
        return self

    def __exit__(self, *_: object) -> None:
        # States are written atomically, so work can be ended at any moment.
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    @property
    def busy(self) -> int:
        """How many are at work."""
        return sum(worker.task is not None for worker in self._workers)

    @property
    def free(self) -> bool:
        """Whether another task can be given."""
        return self.busy < self._count

    def give(self, task: Task) -> None:
        """Has a process that is free, or a new one, do a task."""
        worker = next((worker for worker in self._workers if worker.task is None), None) or self._start()
        worker.task = task
        try:
            worker.pipe.send(task)
        except OSError:  # it died while it had nothing to do
            self._remove(worker)
            self.give(task)

    def messages(self, timeout: float) -> Iterator[tuple[Task, Any]]:
        """What tasks tell within ``timeout`` seconds; the last of each is :class:`Ended`, also if its process has died."""
        of = {worker.pipe: worker for worker in self._workers if worker.task is not None}
        for pipe in wait(list(of), timeout):
            worker = of[pipe]  # type: ignore[index]
            task = worker.task
            assert task is not None
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                message = Ended(WorkError(self._remove(worker)))
            if isinstance(message, Ended):
                worker.task = None
            yield task, message

    def _start(self) -> _Worker[Task]:
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._threads, self._work), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()  # now the pipe ends when the process does
        worker: _Worker[Task] = _Worker(process, pipe)
        self._workers.append(worker)
        return worker

    def _remove(self, worker: _Worker[Task]) -> str:
        """Forgets a process that has died, and says of what."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        if code >= 0:
            return f"its process ended with exit code {code}"
        lacking = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{lacking}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started within never see Ctrl-C: the terminal sends it to all of them, but the suite alone ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Otherwise it is started together with the first process, and unblocks Ctrl-C.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that came meanwhile arrives now


# -- in a worker -------------------------------------------------------------------------------------------------------


def _serve(pipe: Connection, threads: int | None, work: Callable[[Any, Callable[[Any], None]], None]) -> None:
    keep_freed_memory()
    show_notices()
    use_threads(threads)
    threading.Thread(target=_follow_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # of the pipe: the suite was killed
        while True:
            pipe.send(_done(pipe.recv(), pipe.send, work))


def _done(task: Any, tell: Callable[[Any], None], work: Callable[[Any, Callable[[Any], None]], None]) -> Ended:
    try:
        work(task, tell)
    except (InputError, WorkError) as error:
        return Ended(error)
    except Exception as error:
        if os.environ.get("RO_FAST_DEBUG") == "1":
            traceback.print_exc()
        return Ended(RuntimeError(f"{type(error).__name__}: {error}"))
    return Ended()


def _follow_parent() -> None:
    """Ends the worker if the suite was killed and so could not end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
