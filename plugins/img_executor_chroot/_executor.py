"""The builder's side: prepare the tree, have the zygote start the step, watch it, give the tree back."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Final

from img_core.linux.sandbox import ALL_CAPABILITIES, held_capabilities
from img_core.spec.errors import HostError, Unsupported
from img_core.spec.executor import ExitStatus, Process, StepIO
from img_executor_chroot._calls import ABIS
from img_lib_containers.containers import (
    check_target,
    check_without_namespaces,
    own,
    parents_first,
    read_all,
    request_of,
    standard_input,
    wait_or_kill,
)
from img_lib_containers.covers import Covers
from img_lib_containers.spawning import SpawningExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.host import Host, Spawner
    from img_core.spec.snapshotter import Rootfs

__all__ = ["ChrootExecutor"]

_ENTRY: Final = "img_executor_chroot._step:main"
_PROBE: Final = "img_executor_chroot._probe:main"
_CANNOT_WATCH: Final = 1


class ChrootExecutor(SpawningExecutor):
    """Runs a step with its tree as root directory, below a process that answers for what is not in the tree."""

    name = "chroot"
    lends: ClassVar[bool] = True
    refuse = staticmethod(check_without_namespaces)
    schema: ClassVar[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

    @classmethod
    def probe(cls, host: Host) -> None:
        """Need root that can make no namespace (others have better), and a kernel that lets us supervise a child."""
        if host.mapping != "container":
            raise Unsupported("`chroot` is for the root of a container that can make no namespace")
        if not held_capabilities() >> ALL_CAPABILITIES.index("SYS_CHROOT") & 1:
            raise Unsupported("`chroot` needs the capability SYS_CHROOT, which this container has not")
        if not ABIS:
            raise Unsupported("`chroot` knows the system calls of x86_64 and aarch64 only")
        if host.spawner is None:
            return
        spawned = host.spawner.spawn(_PROBE, {})
        try:
            if spawned.wait() != 0:
                raise Unsupported(
                    f"`chroot` cannot supervise the system calls of a step: {spawned.error or 'forbidden'}"
                )
        finally:
            spawned.close()

    def run_step(self, spawner: Spawner, process: Process, rootfs: Rootfs, io: StepIO, stack: ExitStack) -> ExitStatus:
        """Run *process* with its tree as root directory."""
        covers = stack.enter_context(
            Covers(rootfs.fd, self.host.run_directory, cancel_fd=io.cancel_fd, keeper=spawner.pid)
        )
        covers.put_system(process.shm_size)
        for mount in parents_first(process.mounts):
            check_target(mount.target)
            covers.put(mount)
        return ExitStatus(*self._run(spawner, process, rootfs.fd, io, covers))

    def _run(self, spawner: Spawner, process: Process, root: int, io: StepIO, covers: Covers) -> tuple[int, bool]:
        report_read, report_write = os.pipe()
        with ExitStack() as stack:
            own(stack, report_read)
            try:
                stdio = [standard_input(stack, io), io.stdout, io.stderr]
                fds = [report_write, root, *stdio, *process.cgroup_fds, *covers.memory.values()]
                payload = {**_payload(process, covers), "terminal": io.terminal}
                spawned = spawner.spawn(_ENTRY, payload, fds=fds)
            finally:
                os.close(report_write)
            stack.callback(spawned.close)
            code, canceled = wait_or_kill(spawned, io.cancel_fd)
            if not canceled:
                if spawned.error:
                    raise HostError(f"cannot run the step: {spawned.error}")
                _raise_reported(read_all(report_read))
            return code, canceled


def _payload(process: Process, covers: Covers) -> dict[str, Any]:  # Any: JSON
    return {
        **request_of(process),
        "cgroups": len(process.cgroup_fds),
        "single": False,
        "devices": not covers.real_devices,
        "mounts": [os.path.normpath(mount.target) for mount in process.mounts],
        "memory": list(covers.memory),
        "protected": [os.getpid()],
    }


def _raise_reported(report: bytes) -> None:
    if report:
        raise HostError(json.loads(report)["message"])
