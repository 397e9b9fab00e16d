"""How each step begins that the zygote starts, whatever it is started in."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from img_core.linux.binfmt import Emulation
from img_core.spec.errors import HostError
from img_core.spec.executor import Executor, ExitStatus, Process, StepIO
from img_lib_containers.containers import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.host import Host, Spawner
    from img_core.spec.snapshotter import Rootfs

__all__ = ["SpawningExecutor"]


class SpawningExecutor(Executor):
    """Has the host's spawner start its steps. A subclass runs them in `run_step`, and refuses in `refuse` what it cannot give."""

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:  # Any: JSON
        super().__init__(host, options)
        self._emulation = Emulation(host.mapping, host.environment)

    #: raises an error for a request that cannot be fulfilled
    refuse = staticmethod(check)

    def run(self, process: Process, rootfs: Rootfs, io: StepIO) -> ExitStatus:
        """Run *process* to its end, see `Executor.run`."""
        spawner = self.host.spawner
        if spawner is None:
            raise HostError("this command cannot start processes")
        self.refuse(process)
        with ExitStack() as stack:
            emulated = self._emulation.prepare(rootfs.fd, process, stack)
            return self.run_step(spawner, emulated, rootfs, io, stack)

    @abstractmethod
    def run_step(self, spawner: Spawner, process: Process, rootfs: Rootfs, io: StepIO, stack: ExitStack) -> ExitStatus:
        """Run *process*, which was not refused and finds its emulator, to its end. What is entered in *stack* is left afterwards."""
