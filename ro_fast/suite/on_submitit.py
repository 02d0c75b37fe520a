"""Jobs of SLURM by submitit, or, to try it without one, of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ro_fast.config import LauncherConfig
from ro_fast.environment import cores
from ro_fast.errors import InputError, WorkError
from ro_fast.installing import pip_install
from ro_fast.suite.launched import Attempt


class Requeued:
    """An attempt that is queued again when its job is preempted or at its time limit: the state on disk lets it go on."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt

    def __call__(self) -> Exception | None:
        return self.attempt()

    def checkpoint(self) -> Any:
        """What submitit calls for it before the job ends."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class OnSubmitit:
    """A cluster as :mod:`ro_fast.suite.launched` takes it.

    Args:
        config: of the launcher.
        folder: for scripts and logs; every machine has to see it.

    Raises:
        InputError: if submitit is not installed, or there is no SLURM, or no GPU where one is asked for on this machine.
    """

    def __init__(self, config: LauncherConfig, folder: Path) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError(f"launcher=submitit needs submitit: {pip_install('cluster')}") from error
        self._executor = submitit.AutoExecutor(folder.resolve() / "%j", cluster=config.cluster)
        if self._executor.cluster == "local" and config.cluster is None:
            raise InputError("launcher=submitit: there is no SLURM here (no srun); launcher.cluster=local uses this machine")
        if self._executor.cluster == "local" and config.gpus > (there := torch.cuda.device_count()):
            raise InputError(f"launcher.gpus={config.gpus}, but torch sees {there} on this machine; give launcher.gpus={there}")
        # On this machine every job would start at once.
        self.at_once = max(1, cores() // config.cpus) if self._executor.cluster == "local" else None
        wanted = {"slurm_partition": config.partition, "mem_gb": config.memory_gb}
        self._executor.update_parameters(
            name="ro_fast",
            timeout_min=config.minutes,
            cpus_per_task=config.cpus,
            gpus_per_node=config.gpus,
            **{name: value for name, value in wanted.items() if value is not None},
        )

    def submit(self, attempt: Attempt) -> Any:
        return self._executor.submit(Requeued(attempt))

    def ended(self, handle: Any) -> bool:
        return bool(handle.done())

    def outcome(self, handle: Any) -> Exception | None:
        try:
            result: Exception | None = handle.result()
        except Exception as error:  # of submitit's own: the job has left no result
            reason = str(error).strip().splitlines()[0]
            return WorkError(f"job {handle.job_id} ended without a result ({handle.state}): {reason}; see {handle.paths.stderr}")
        return result

    def cancel(self, handle: Any) -> None:
        handle.cancel()

    def close(self) -> None:
        """There is nothing to let go of."""
