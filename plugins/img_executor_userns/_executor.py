"""The builder's side: prepare mounts as descriptors, have the zygote start the container, watch it, tidy up."""

from __future__ import annotations

import json
import os
import select
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.kit import linux, mounts
from img_core.kit.mountpoints import MountPoints
from img_core.kit.owner_supervisor import OwnerSupervisor
from img_core.spec.errors import HostError, StepError, Unsupported
from img_core.spec.executor import Executor, ExitStatus, Mount, Process, StepIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Host, Spawned, Spawner
    from img_core.spec.snapshotter import Rootfs

_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP
_PROVIDED = ("/proc", "/sys", "/dev")
_ENTRY = "img_executor_userns._init:main"


class UsernsExecutor(Executor):
    """Runs a step as the first process of its own pid, mount, ipc, uts and cgroup (and network) namespaces."""

    name = "userns"
    schema: ClassVar[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

    @classmethod
    def probe(cls, host: Host) -> None:
        """Need a namespace in which we may mount, and the mount calls of Linux 5.12."""
        if host.mapping == "none":
            raise Unsupported("`userns` needs to run inside a user namespace (or as root)")
        try:
            os.close(mounts.bind("/dev/null"))
        except OSError as err:
            raise Unsupported(f"`userns` cannot make bind mounts: {err.strerror}") from err

    def run(self, process: Process, rootfs: Rootfs, io: StepIO) -> ExitStatus:
        """Run *process* to its end, see `Executor.run`."""
        spawner = self.host.spawner
        if spawner is None:
            raise HostError("this command cannot start processes")
        if not process.args:
            raise StepError("there is no program to run")
        with ExitStack() as stack:
            ordered = sorted(process.mounts, key=lambda mount: mount.target.rstrip("/").count("/"))
            attached = [_open_mount(mount, stack) for mount in ordered]
            _make_mount_points(rootfs.fd, ordered, attached, stack)
            root_fd = _own(stack, mounts.bind_fd(rootfs.fd))
            supervisor = None
            if self.host.mapping == "single":
                supervisor = stack.enter_context(OwnerSupervisor(spawner, rootfs.fd))
            # Anything will do where there is no supervisor: the container closes it unused.
            owners_fd = io.stderr if supervisor is None else supervisor.container_fd
            fds = [owners_fd, io.stdout, io.stderr, root_fd, *attached]
            status = self._run(spawner, process, ordered, fds, io.cancel_fd)
            return replace(status, owners=supervisor.finish()) if supervisor else status

    def _run(
        self, spawner: Spawner, process: Process, ordered: Sequence[Mount], fds: Sequence[int], cancel_fd: int
    ) -> ExitStatus:
        report_read, report_write = os.pipe()
        with ExitStack() as stack:
            _own(stack, report_read)
            try:
                flags = _NAMESPACES | (linux.CLONE_NEWNET if process.network == "none" else 0)
                payload = self._payload(process, ordered)
                spawned = spawner.spawn(_ENTRY, payload, fds=[report_write, *fds], flags=flags)
            finally:
                os.close(report_write)
            stack.callback(spawned.close)
            try:
                canceled = _watch(spawned, cancel_fd)
                code = spawned.wait()
            except BaseException:  # an interrupt: nothing may go on behind our back
                spawned.kill()
                raise
            if not canceled:
                _raise_reported(_read_all(report_read))
            return ExitStatus(code, canceled)

    def _payload(self, process: Process, ordered: Sequence[Mount]) -> dict[str, Any]:  # Any: JSON
        return {
            "args": process.args,
            "env": process.env,
            "cwd": process.cwd,
            "uid": process.uid,
            "gid": process.gid,
            "groups": process.groups,
            "hostname": process.hostname,
            "private_network": process.network == "none",
            "insecure": process.security == "insecure",
            "umask": process.umask,
            "shm_size": process.shm_size,
            "ulimits": process.ulimits,
            "targets": [mount.target for mount in ordered],
            "single": self.host.mapping == "single",
            "staging": self.host.run_directory,
        }


def _own(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _open_mount(mount: Mount, stack: ExitStack) -> int:
    """Return a detached mount for *mount*. An empty read-only tmpfs is of no use, so a tmpfs is always writable."""
    try:
        if mount.kind == "tmpfs":
            attributes = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
            return _own(stack, mounts.tmpfs(size=mount.size, mode=mount.mode, attributes=attributes))
        return _own(stack, mounts.bind_fd(mount.source_fd, attributes=linux.MOUNT_ATTR_RDONLY if mount.readonly else 0))
    except OSError as err:
        raise HostError(f"cannot prepare the mount for `{mount.target}`: {err.strerror}") from err


def _make_mount_points(root_fd: int, ordered: Sequence[Mount], attached: Sequence[int], stack: ExitStack) -> None:
    """Make the missing mount points in the image; those inside other mounts are made by the container."""
    points = stack.enter_context(MountPoints(root_fd))
    above = [*_PROVIDED]
    for target in _PROVIDED:
        points.refuse_symlink(target[1:])
        points.ensure(target, directory=True)
    for mount, fd in zip(ordered, attached, strict=True):
        if not mount.target.startswith("/") or not mount.target.strip("/"):
            raise StepError(f"cannot mount at `{mount.target}`", hint="the target must be an absolute path below `/`")
        if not any(mount.target.startswith(f"{covering.rstrip('/')}/") for covering in above):
            points.ensure(mount.target, directory=_is_directory(fd))
        above.append(mount.target)


def _is_directory(fd: int) -> bool:
    return os.stat(fd).st_mode & 0o170000 == 0o040000


def _watch(spawned: Spawned, cancel_fd: int) -> bool:
    """Wait for the end of the container; kill it when *cancel_fd* asks for it, and return whether it did."""
    poll = select.poll()
    poll.register(spawned.pidfd, select.POLLIN)
    if cancel_fd >= 0:
        poll.register(cancel_fd, select.POLLIN)
    ready = [fd for fd, _ in poll.poll()]
    if spawned.pidfd in ready:
        return False
    # The first process ignores every other signal it has no handler for; its end is the end of all in the container.
    spawned.kill()
    return True


def _read_all(fd: int) -> bytes:
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def _raise_reported(report: bytes) -> None:
    """Raise what the container said about its set-up, if it said something."""
    if not report:
        return
    failure = json.loads(report)
    kind = StepError if failure["kind"] == "step" else HostError
    raise kind(failure["message"], hint=failure.get("hint"))
