"""The builder's side: prepare mounts as descriptors, have the zygote start the container, watch it, tidy up."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.linux import mounts, syscalls
from img_core.spec.errors import HostError, StepError, Unsupported
from img_core.spec.executor import ExitStatus, Mount, Process, StepIO
from img_lib_containers.containers import (
    own,
    parents_first,
    prepared_mounts,
    read_all,
    request_of,
    root_mount,
    standard_input,
    wait_or_kill,
)
from img_lib_containers.owner_supervisor import OwnerSupervisor
from img_lib_containers.socket_supervisor import SocketSupervisor
from img_lib_containers.spawning import SpawningExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Host, Spawner
    from img_core.spec.snapshotter import Rootfs

_NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)
_ENTRY = "img_executor_userns._init:main"


class UsernsExecutor(SpawningExecutor):
    """Runs a step as the first process of its own pid, mount, ipc, uts and cgroup (and network) namespaces."""

    name = "userns"
    schema: ClassVar[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

    @classmethod
    def probe(cls, host: Host) -> None:
        """Need a namespace in which we may mount, and the mount calls of Linux 5.12."""
        if host.mapping == "none":
            raise Unsupported("`userns` needs to run inside a user namespace (or as root)")
        if host.mapping in ("container", "fake"):
            raise Unsupported("`userns` needs namespaces of its own, which this container may not make")
        try:
            os.close(mounts.bind("/dev/null"))
        except OSError as err:
            raise Unsupported(f"`userns` cannot make bind mounts: {err.strerror}") from err

    def run_step(self, spawner: Spawner, process: Process, rootfs: Rootfs, io: StepIO, stack: ExitStack) -> ExitStatus:
        """Run *process* in namespaces of its own."""
        ordered = parents_first(process.mounts)
        detached = stack.enter_context(prepared_mounts(rootfs.fd, ordered))
        root_fd = own(stack, root_mount(rootfs.fd, process))
        owners = sockets = None
        if self.host.mapping == "single":
            owners = stack.enter_context(OwnerSupervisor(spawner, rootfs.fd, process))
        else:
            sockets = stack.enter_context(SocketSupervisor(spawner))
        supervisor = owners or sockets
        assert supervisor is not None
        network_fd = process.network_fd if process.network == "private" else io.stderr
        stdio = (standard_input(stack, io), io.stdout, io.stderr)
        fds = [supervisor.container_fd, network_fd, *stdio, root_fd, *process.cgroup_fds, *detached]
        payload = {**self._payload(process, ordered), "terminal": io.terminal}
        code, canceled = self._run(spawner, process, payload, fds, io.cancel_fd, sockets)
        return ExitStatus(code, canceled, owners.finish() if owners else ())

    def _run(
        self,
        spawner: Spawner,
        process: Process,
        payload: Mapping[str, Any],  # Any: JSON
        fds: Sequence[int],
        cancel_fd: int,
        sockets: SocketSupervisor | None,
    ) -> tuple[int, bool]:
        report_read, report_write = os.pipe()
        with ExitStack() as stack:
            own(stack, report_read)
            try:
                flags = _NAMESPACES | (syscalls.CLONE_NEWNET if process.network == "none" else 0)
                if process.cgroup_fds:
                    # Made after it has entered its groups: older kernels let nobody move past the root of his namespace.
                    flags &= ~syscalls.CLONE_NEWCGROUP
                spawned = spawner.spawn(_ENTRY, payload, fds=[report_write, *fds], flags=flags)
            finally:
                os.close(report_write)
            stack.callback(spawned.close)
            code, canceled = wait_or_kill(spawned, cancel_fd, sockets)
            if not canceled:
                _raise_reported(read_all(report_read))
            return code, canceled

    def _payload(self, process: Process, ordered: Sequence[Mount]) -> dict[str, Any]:  # Any: JSON
        return {
            **request_of(process),
            "hostname": process.hostname,
            "cgroups": len(process.cgroup_fds),
            "insecure": process.security == "insecure",
            "shm_size": process.shm_size,
            "targets": [os.path.normpath(mount.target) for mount in ordered],
            "single": self.host.mapping == "single",
            "staging": self.host.run_directory,
            "makes_devices": self.host.mapping == "root",
        }


def _raise_reported(report: bytes) -> None:
    """Raise what the container said about its set-up, if it said something."""
    if not report:
        return
    failure = json.loads(report)
    kind = StepError if failure["kind"] == "step" else HostError
    raise kind(failure["message"], hint=failure.get("hint"))
