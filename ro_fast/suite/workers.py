"""Worker processes, each of which does one task at a time; one that dies takes only its own task with it.

Each has pipes of its own: a process that is killed while it writes to a shared queue can leave it locked for all others. They are
started without :mod:`multiprocessing`, which runs the user's script in every process anew, and whose processes print a traceback
if this one is killed while they start.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ro_fast.environment import keep_freed_memory, use_threads
from ro_fast.errors import InputError, WorkError
from ro_fast.progress import show_notices

Task = TypeVar("Task")

_START = "import sys; sys.path[:] = {path!r}; from ro_fast.suite.workers import serve; serve()"


@dataclass(frozen=True)
class Ended:
    """The last message on a task: done, or why not."""

    error: Exception | None = None


@dataclass(eq=False)
class _Worker(Generic[Task]):
    process: subprocess.Popen[bytes]
    task: Task | None = None

    def send(self, *what: Any) -> None:
        """Raises OSError if the process has died."""
        assert self.process.stdin is not None
        for each in what:
            pickle.dump(each, self.process.stdin)
        self.process.stdin.flush()


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
        self._told: queue.SimpleQueue[tuple[_Worker[Task], Any]] = queue.SimpleQueue()  # None: its process has ended

    def __enter__(self) -> Workers[Task]:
        return self

    def __exit__(self, *_: object) -> None:
        # States are written atomically, so work can be ended at any moment.
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            self._wait(worker)

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
        self._workers = [worker for worker in self._workers if worker.task is not None or worker.process.poll() is None]
        worker = next((worker for worker in self._workers if worker.task is None), None) or self._start()
        worker.task = task
        with contextlib.suppress(OSError):  # it has died, which is the next that is heard of it
            worker.send(task)

    def messages(self, timeout: float) -> Iterator[tuple[Task, Any]]:
        """What tasks tell within ``timeout`` seconds; the last of each is :class:`Ended`, also if its process has died."""
        with contextlib.suppress(queue.Empty):
            worker, message = self._told.get(timeout=timeout)
            task = worker.task
            if message is None:
                self._workers = [other for other in self._workers if other is not worker]
                message = Ended(WorkError(self._wait(worker)))
            if isinstance(message, Ended):
                worker.task = None
            if task is not None:
                yield task, message

    def _start(self) -> _Worker[Task]:
        pipe = subprocess.PIPE
        with _without_interrupts():
            process = subprocess.Popen([sys.executable, "-c", _START.format(path=sys.path)], stdin=pipe, stdout=pipe)
        worker: _Worker[Task] = _Worker(process)
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        with contextlib.suppress(OSError):
            worker.send(self._threads, self._work)
        return worker

    def _listen(self, worker: _Worker[Task]) -> None:
        assert worker.process.stdout is not None
        try:
            while True:
                self._told.put((worker, pickle.load(worker.process.stdout)))
        except (EOFError, pickle.UnpicklingError):  # the process has ended, perhaps within a message
            self._told.put((worker, None))
        except Exception as error:
            self._told.put((worker, Ended(error)))

    def _wait(self, worker: _Worker[Task]) -> str:
        """Waits for the end of a process, and says what it died of."""
        code = worker.process.wait()
        with contextlib.suppress(OSError):  # of what was not sent any more
            worker.process.__exit__(None, None, None)
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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that came meanwhile arrives now


# -- in a worker -------------------------------------------------------------------------------------------------------


def serve() -> None:
    """What a worker does until the process that started it is gone: tasks come by stdin, messages go to stdout."""
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message
    threading.Thread(target=_receive, args=(tasks,), daemon=True).start()
    threads, work = tasks.get(), tasks.get()

    def tell(message: Any) -> None:
        pickle.dump(message, told)
        told.flush()

    keep_freed_memory()
    show_notices()
    use_threads(threads)
    while True:
        tell(_done(tasks.get(), tell, work))


def _receive(tasks: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            tasks.put(pickle.load(sys.stdin.buffer))
    except (EOFError, pickle.UnpicklingError):  # the suite was killed and so could not end this process
        pass
    except Exception:
        traceback.print_exc()
    os._exit(1)


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
