"""What executors share on the builder's side: mounts as descriptors, mount points, watching a container, what apt needs."""

from __future__ import annotations

import os
import resource
import select
import stat
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from img_core.linux import mounts, syscalls, waiting
from img_core.spec.errors import HostError, StepError
from img_lib_containers.mountpoints import MountPoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from img_core.spec.executor import Mount, Process, StepIO
    from img_core.spec.host import Spawned
    from img_lib_containers.socket_supervisor import SocketSupervisor

__all__ = [
    "APT_CONFIG",
    "APT_CONFIG_PATH",
    "check",
    "check_target",
    "check_without_namespaces",
    "mounted_sockets",
    "own",
    "parents_first",
    "prepared_mounts",
    "read_all",
    "request_of",
    "root_mount",
    "standard_input",
    "wait_or_kill",
]

_PROVIDED: Final = ("/proc", "/sys", "/dev")

#: With a single id apt cannot become its own user, and checks that; this configuration, named by the environment variable
#: ``APT_CONFIG``, tells it not to try. The file lies in a file system of the container and never gets into a layer.
APT_CONFIG: Final = b'APT::Sandbox::User "root";\n'
APT_CONFIG_PATH: Final = "/dev/apt.conf"


def check(process: Process) -> None:
    """Raise StepError for a request that no executor can fulfil; nothing unknown may pass as a weaker default."""
    if not process.args:
        raise StepError("there is no program to run")
    if process.network not in ("host", "none", "private") or (process.network == "private" and process.network_fd < 0):
        raise StepError(f"unknown network mode `{process.network}`", hint="use `host`, `none` or `private`")
    if process.security not in ("sandbox", "insecure"):
        raise StepError(f"unknown security mode `{process.security}`", hint="use `sandbox` or `insecure`")
    for name, _, _ in process.ulimits:
        if not hasattr(resource, f"RLIMIT_{name.upper()}"):
            raise StepError(f"unknown limit `{name}`")
    for text in (*process.args, process.cwd, *(word for pair in process.env for word in pair)):
        if "\0" in text:
            raise StepError("an argument, the environment or the working directory contains a NUL byte")


def check_without_namespaces(process: Process) -> None:
    """Raise an error, like `check`, also for what needs a namespace or a mount; nothing may pass as a weaker default."""
    check(process)
    if process.network == "private":
        raise HostError(
            "a network of its own needs a namespace, which this container may not make",
            hint="use `--network=host` or `--network=none`",
        )
    if process.security == "insecure":
        raise StepError("`--security=insecure` needs a privileged container")


def request_of(process: Process) -> dict[str, Any]:  # Any: JSON
    """Return what every executor tells the zygote of *process*."""
    return {
        "args": process.args,
        "env": process.env,
        "cwd": process.cwd,
        "uid": process.uid,
        "gid": process.gid,
        "groups": process.groups,
        "network": process.network,
        "umask": process.umask,
        "ulimits": process.ulimits,
    }


def own(stack: ExitStack, fd: int) -> int:
    """Close *fd* with *stack*; return it."""
    stack.callback(os.close, fd)
    return fd


def standard_input(stack: ExitStack, io: StepIO) -> int:
    """Return the descriptor that the container reads from; closed with *stack* unless the caller gave it."""
    return io.stdin if io.stdin >= 0 else own(stack, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def root_mount(rootfs_fd: int, process: Process) -> int:
    """Return a detached mount of the root file system for *process*.

    Real root may make any device node, and without a device cgroup only ``nodev`` keeps a step from opening the host's disks.
    """
    return mounts.bind_fd(rootfs_fd, attributes=0 if process.security == "insecure" else syscalls.MOUNT_ATTR_NODEV)


def parents_first(requested: Sequence[Mount]) -> list[Mount]:
    """Return the mounts in an order in which none covers an earlier one."""
    return sorted(requested, key=lambda mount: mount.target.rstrip("/").count("/"))


@contextmanager
def prepared_mounts(root_fd: int, ordered: Sequence[Mount]) -> Iterator[list[int]]:
    """Give detached mounts for *ordered*, and see to it that their mount points exist in the root file system meanwhile.

    Mount points inside other mounts are left to the container. Also provides /proc, /sys and /dev.
    """
    with ExitStack() as stack:
        detached = [own(stack, _detached(mount)) for mount in ordered]
        points = stack.enter_context(MountPoints(root_fd))
        _make_mount_points(points, ordered, detached)
        yield detached


def _detached(mount: Mount) -> int:
    """Return a detached mount for *mount*. An empty read-only tmpfs is of no use, so a tmpfs is always writable."""
    try:
        if mount.kind == "tmpfs":
            attributes = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
            return mounts.tmpfs(size=mount.size, mode=mount.mode, attributes=attributes)
        readonly = syscalls.MOUNT_ATTR_RDONLY if mount.readonly else 0
        return mounts.bind_fd(mount.source_fd, attributes=syscalls.MOUNT_ATTR_NODEV | readonly)
    except OSError as err:
        raise HostError(f"cannot prepare the mount for `{mount.target}`: {err.strerror}") from err


def _make_mount_points(points: MountPoints, ordered: Sequence[Mount], detached: Sequence[int]) -> None:
    covered = [*_PROVIDED]
    for target in _PROVIDED:
        points.refuse_symlink(target[1:])
        points.ensure(target, directory=True)
    for mount, fd in zip(ordered, detached, strict=True):
        check_target(mount.target)
        if not any(mount.target.startswith(f"{above.rstrip('/')}/") for above in covered):
            points.ensure(mount.target, directory=stat.S_ISDIR(os.stat(fd).st_mode))
        covered.append(mount.target)


def mounted_sockets(mounts: Iterable[Mount]) -> list[tuple[int, int, int, int, int]]:
    """Return device, inode, user, group and mode of the sockets among *mounts*: we could not give them away ourselves."""
    found = []
    for mount in mounts:
        if mount.kind == "bind" and stat.S_ISSOCK((status := os.fstat(mount.source_fd)).st_mode):
            found.append((status.st_dev, status.st_ino, *mount.owner, mount.mode))
    return found


def check_target(target: str) -> None:
    """Raise StepError for a place where nothing may be mounted."""
    if not target.startswith("/") or not target.strip("/"):
        raise StepError(f"cannot mount at `{target}`", hint="the target must be an absolute path below `/`")
    path = f"{os.path.normpath(target)}/"
    if path.startswith("/proc/") or path == "/dev/":
        # What programs and runtimes trust to come from the kernel; runc refuses it as well.
        raise StepError(f"cannot mount at `{target}`: that is where the system's own files are")


def wait_or_kill(spawned: Spawned, cancel_fd: int, sockets: SocketSupervisor | None = None) -> tuple[int, bool]:
    """Wait for the end of a container, whose first process *spawned* is; return its status and whether it was canceled.

    It is killed when *cancel_fd* becomes readable, or when an exception such as KeyboardInterrupt ends the waiting. The first
    process of a pid namespace ignores every other signal it has no handler for, and its end is the end of all in there. Meanwhile
    *sockets* is called when it has something to do.
    """
    try:
        canceled = _watch(spawned.pidfd, cancel_fd, sockets)
        if canceled:
            spawned.kill()
        return spawned.wait(), canceled
    except BaseException:
        spawned.kill()
        raise


def _watch(pidfd: int, cancel_fd: int, sockets: SocketSupervisor | None) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if cancel_fd >= 0:
        poll.register(cancel_fd, select.POLLIN)
    while sockets is not None and sockets.watched >= 0:
        watched = sockets.watched
        poll.register(watched, select.POLLIN)
        ready = dict(waiting.ready(poll))
        poll.unregister(watched)
        if ready.keys() != {watched}:
            return pidfd not in ready
        sockets.act(ready[watched])
    return pidfd not in [fd for fd, _ in waiting.ready(poll)]


def read_all(fd: int) -> bytes:
    """Read to the end."""
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)
