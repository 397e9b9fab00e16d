"""The step's side: a process that supervises the step, and below it the user's program.

Runs in a child of the zygote. The supervisor is the ancestor of all processes of the step, which is what Yama (ptrace_scope 1) asks of who
looks at them, and inherits what they leave behind. The order in the other process matters: close every descriptor of a directory before
the working directory is entered, keep nothing that the step may not have, and start the filters last.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
from typing import TYPE_CHECKING, Any, Final, NoReturn

from img_core.linux import children, sandbox, syscalls
from img_executor_chroot import _filter
from img_executor_chroot._outside import StepTree
from img_executor_chroot._supervisor import Supervisor
from img_lib_containers import program, seccomp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["main"]

_WITHHELD: Final = (
    "SYS_CHROOT",
    "MKNOD",
)  # with the first a step would leave its root; and so the builder has more than a step
# Read here, in the zygote: later there is only the image.
_CAPABILITIES: Final = (
    sandbox.DEFAULT_CAPABILITY_MASK
    & sandbox.held_capabilities()
    & ~sum(1 << sandbox.ALL_CAPABILITIES.index(name) for name in _WITHHELD)
)
_FILTER: Final = seccomp.sandbox_program()
_SOCKETS_FILTER: Final = seccomp.sockets_program()


def main(request: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Run the step that *request* describes, and return its exit status when none of its processes is left."""
    report, root, stdin, stdout, stderr, *others = fds
    groups, memory = others[: request["cgroups"]], others[request["cgroups"] :]
    protected = [*request["protected"], os.getppid(), os.getpid()]
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _become_step(request, report, root, (stdin, stdout, stderr), groups, theirs, protected)
    pidfd = syscalls.pidfd_open(pid)
    theirs.close()
    for fd in (report, stdin, stdout, stderr, *groups):
        os.close(fd)
    with ours:
        message, listeners, _, _ = socket.recv_fds(ours, 64, 1, socket.MSG_CMSG_CLOEXEC)
    if message:
        handed = dict(zip(request["memory"], memory, strict=True))
        tree = StepTree(root, request["mounts"], devices=request["devices"])
        Supervisor(listeners[0], tree, handed).run(pidfd)
    _, status = os.waitpid(pid, 0)
    children.end()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become_step(
    request: Mapping[str, Any],
    report: int,
    root: int,
    stdio: Sequence[int],
    groups: Sequence[int],
    connection: socket.socket,
    protected: Sequence[int],
) -> NoReturn:
    try:
        limits = program.limits_of(request["ulimits"])
        os.setsid()
        for group in groups:
            os.write(group, b"0")
        filters = _filter.program(
            protected, network=request["network"] != "none", everybody=sandbox.hides_abstract_sockets()
        )
        sandbox.forbid_imports()
        os.fchdir(root)
        os.chroot(".")
        os.chdir("/")
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        if request["terminal"]:
            program.take_terminal()
    except OSError as err:
        os.write(report, json.dumps({"kind": "host", "message": f"cannot set up the step: {err.strerror}"}).encode())
        os._exit(program.SETUP_FAILED)
    try:
        os.dup2(connection.fileno(), 3, inheritable=False)
        syscalls.close_range(4)
        _run(request, limits, filters)
    except BaseException as err:
        program.fail(f"cannot start the program: {err}", program.SETUP_FAILED)


def _run(request: Mapping[str, Any], limits: Sequence[tuple[int, tuple[int, int]]], filters: bytes) -> NoReturn:
    uid, gid, cwd = request["uid"], request["gid"], request["cwd"]
    if _is_of_the_system(cwd):
        program.fail(
            f"cannot enter the working directory `{cwd}`: here a step cannot begin in /proc or /sys, but its command can `cd`",
            program.CANNOT_EXECUTE,
        )
    if request["devices"] and _is_device(cwd):
        program.fail(
            f"cannot enter the working directory `{cwd}`: {os.strerror(errno.ENOTDIR)}", program.CANNOT_EXECUTE
        )
    program.enter_directory(cwd, uid, gid)
    os.umask(request["umask"])
    for number, values in limits:
        resource.setrlimit(number, values)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)  # filters and Landlock want it of who lacks SYS_ADMIN
    sandbox.keep_apart()
    program.limit_capabilities(_CAPABILITIES)
    program.give_stdio(uid)
    os.setgroups(request["groups"])
    os.setresgid(gid, gid, gid)
    syscalls.capset(_CAPABILITIES, _CAPABILITIES, 0)
    os.setresuid(uid, uid, uid)  # for another user this empties the sets
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    program.reset_signals()
    if _FILTER is not None:
        seccomp.install(_FILTER)
    if _SOCKETS_FILTER is not None:
        seccomp.install(seccomp.refusing(_SOCKETS_FILTER))  # a process has one supervisor
    listener = seccomp.install_listener(filters, patient=True)
    with socket.socket(fileno=3) as connection:
        socket.send_fds(connection, [b"listener"], [listener])
    os.close(listener)
    program.execute(request)


def _is_of_the_system(path: str) -> bool:
    """Tell whether *path*, in the step's root, leads to a file of /proc or /sys: in the tree these are empty, and nobody answers yet."""
    found = os.path.realpath(path)
    return found.startswith(("/proc/", "/sys/")) and not os.path.isdir(found)


def _is_device(path: str) -> bool:
    """Tell whether *path*, in the step's root, leads to a device or beyond one: in the tree it is a link to itself."""
    root, directory, name, *_ = (*os.path.realpath(path).split("/"), "", "")
    return (root, directory) == ("", "dev") and name in sandbox.DEVICES and os.path.islink(f"/dev/{name}")
