"""The first process of a pid namespace around the runtime, which it becomes.

Whatever the runtime forgets to kill, the kernel kills when this process ends. It has a mount namespace of its own, in which
it attaches the root file system and the mounts of the step where the runtime's configuration expects them.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from typing import TYPE_CHECKING, Any, Final, NoReturn

from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.linux import mounts, sandbox, syscalls
from img_lib_containers import program, seccomp
from img_lib_containers.owner_supervisor import deliver_listener, deliver_or_refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OWNERS_FILTER: Final = seccomp.owners_program()
_SOCKETS_FILTER: Final = seccomp.sockets_program()


def probe(_payload: Mapping[str, Any], _fds: Sequence[int]) -> int:  # Any: JSON
    """Tell by the status whether a fresh /proc can be mounted in a new pid namespace."""
    os.close(mounts.create("proc"))
    return 0


def main(request: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Set the stage and become the runtime."""
    owners, network, stdin, stdout, stderr, root, *others = fds
    groups, attached = others[: request["cgroups"]], others[request["cgroups"] :]
    os.umask(0o022)
    sandbox.enter_cgroups(groups)
    if request["network"] == "private":
        syscalls.setns(network, syscalls.CLONE_NEWNET)
    # The runtime looks at its children by their numbers in our pid namespace.
    syscalls.move_mount(mounts.create("proc", attributes=mounts.SAFE), "/proc")
    _attach(request, root, attached)
    _make_working_directory(request)
    _attach_cgroups(0 if request["makes_groups"] else syscalls.MOUNT_ATTR_RDONLY)
    for number, fd in enumerate((stdin, stdout, stderr)):
        os.dup2(fd, number)
    if request["terminal"]:
        os.setsid()
        program.take_terminal()  # so that the runtime hears of a new size
    sandbox.forget_abstract_sockets()
    if request["single"] and _OWNERS_FILTER is not None:
        with socket.socket(fileno=os.dup(owners)) as connection:
            deliver_listener(connection, _OWNERS_FILTER)
        # The runtime sees that the kernel forbids it with one id, and leaves what it inherits.
        os.setgroups(request["groups"])
    if request["watches_sockets"] and _SOCKETS_FILTER is not None:
        with socket.socket(fileno=os.dup(owners)) as connection:
            deliver_or_refuse(connection, _SOCKETS_FILTER)
    syscalls.close_range(3)
    _become(request["command"])


def _attach(request: Mapping[str, Any], root: int, attached: Sequence[int]) -> None:
    # A file system of our own for the mount points, so that nothing is left in the bundle.
    syscalls.move_mount(mounts.tmpfs(mode=0o755), request["stage"])
    os.mkdir(request["root"])
    syscalls.move_mount(root, request["root"])
    attributes = mounts.SAFE | (0 if request["insecure"] else syscalls.MOUNT_ATTR_RDONLY)
    os.mkdir(request["system"])
    syscalls.move_mount(mounts.bind("/sys", attributes=attributes), request["system"])
    for fd, source in zip(attached, request["sources"], strict=True):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.mkdir(source)
        else:
            os.close(os.open(source, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        syscalls.move_mount(fd, source)


def _attach_cgroups(attributes: int) -> None:
    """Show the runtime the unified hierarchy from our own cgroup down, whatever the host has at that place.

    crun refuses a hybrid layout even when it is told to leave cgroups alone; runc fails where the mount table names hierarchies
    that are not there (any more). With this one both see that they may not change it, and that they need not. Where its user may,
    runc makes a group, which stays when it is killed, so it gets a hierarchy that is read-only; but for real root, where the group
    says which devices may be opened.
    """
    try:
        hierarchy = mounts.create("cgroup2", attributes=mounts.SAFE | attributes)
    except OSError:  # a kernel without it, or a host that forbids it
        hierarchy = mounts.tmpfs(attributes=mounts.SAFE)
    if os.path.isdir("/sys/fs/cgroup"):
        syscalls.move_mount(hierarchy, "/sys/fs/cgroup")


def _make_working_directory(request: Mapping[str, Any]) -> None:
    """Make what is missing of it, owned by the user; in a process that sees nothing but the image."""
    path: str = request["cwd"]
    if path == "/" or path.split("/")[1] in ("proc", "sys", "dev"):
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        sandbox.forbid_imports()
        os.chroot(request["root"])
        os.chdir("/")
        current = ""
        for name in path.split("/"):
            current += name
            if name and not os.path.lexists(current):
                os.mkdir(current, 0o755)
                _give(current, request["uid"], request["gid"], single=request["single"])
            current += "/"
    finally:
        os._exit(0)  # the runtime will complain in better words


def _give(path: str, uid: int, gid: int, *, single: bool) -> None:
    if not single:
        os.chown(path, uid, gid)
    elif uid or gid:
        os.setxattr(path, OWNER_ATTRIBUTE, b"%d:%d" % (uid, gid))


def _become(command: list[str]) -> NoReturn:
    for number in (*range(1, 32), *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    os.execve(command[0], command, {"PATH": os.defpath})  # noqa: S606
