"""Tasks of a Ray cluster, or of a Ray of this machine's own."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from ro_fast.config import LauncherConfig
from ro_fast.errors import InputError, WorkError
from ro_fast.installing import pip_install
from ro_fast.suite.launched import Attempt


class OnRay:
    """A cluster as :mod:`ro_fast.suite.launched` takes it; Ray itself has tasks wait for the cores they need.

    Args:
        config: of the launcher.

    Raises:
        InputError: if Ray is not installed, its cluster can't be reached, or has not what a run asks for.
    """

    at_once: int | None = None

    def __init__(self, config: LauncherConfig) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise InputError(f"launcher=ray needs ray: {pip_install('cluster')}") from error
        self._ray = ray
        self._own = not ray.is_initialized()
        if self._own:
            own = {} if config.address else {"include_dashboard": False}
            try:
                ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = str(error).strip().splitlines()[0]
                told = f"launcher.address={config.address} can't be reached ({reason}); ray start --head starts a cluster"
                raise InputError(told) from error
        there = ray.cluster_resources()
        for kind, wanted in (("CPU", config.cpus), ("GPU", config.gpus)):
            if wanted > there.get(kind, 0):
                self.close()
                raise InputError(f"launcher.{kind.lower()}s={wanted}, but the Ray cluster has {there.get(kind, 0):g}; give fewer")
        memory = {} if config.memory_gb is None else {"memory": config.memory_gb * 2**30}
        # A run that its machine loses is not tried again by Ray: the suite says so, and the same command tries it again.
        options = {"num_cpus": config.cpus, "num_gpus": config.gpus, "max_retries": 0, **memory}
        self._do = ray.remote(**options)(_do)

    def submit(self, attempt: Attempt) -> Any:
        return self._do.remote(attempt)

    def ended(self, handle: Any) -> bool:
        return bool(self._ray.wait([handle], timeout=0)[0])

    def outcome(self, handle: Any) -> Exception | None:
        try:
            result: Exception | None = self._ray.get(handle)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return WorkError(f"its process ended without a result ({type(error).__name__}: {reason})")
        return result

    def cancel(self, handle: Any) -> None:
        self._ray.cancel(handle, force=True)

    def close(self) -> None:
        if self._own:
            self._ray.shutdown()


def _do(attempt: Attempt) -> Exception | None:
    return attempt()
