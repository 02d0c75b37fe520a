"""Starts the processes of one run on this machine, as torchrun does, and ends all of them when one ends early."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

import torch

from ro_fast.errors import InputError, WorkError


def in_processes(count: int, device: str, work: Callable[[Any], None], argument: Any) -> None:
    """Does ``work(argument)`` in ``count`` processes, which :func:`ro_fast.parallel.joined` connects.

    Args:
        count: of processes.
        device: "cuda" needs a GPU for each.
        work: a function of a module, since each process imports it anew; it reports its own errors and exits with their code.
        argument: that can be pickled.

    Raises:
        InputError: if there are too few GPUs.
        WorkError: if a process was killed.
        SystemExit: with the code of a process that failed and said so.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    there = torch.cuda.device_count()
    if device == "cuda" and count > there:
        raise InputError(f"nproc={count} needs a GPU for each process, but torch sees {there}; give nproc={max(there, 1)}")
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="ro_fast",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        start_method="spawn",
        max_restarts=0,
    )
    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they print tracebacks, and which processes they end
    try:
        elastic_launch(launch, work)(argument)
    except SignalException as error:
        raise KeyboardInterrupt from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            raise SystemExit(failure.exitcode) from error
        told = f"process {rank} of {count} was ended by {signal.Signals(-failure.exitcode).name}, so the others were too"
        raise WorkError(f"{told}; the same command continues") from error
