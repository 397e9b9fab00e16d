"""The step's side: a process that puts the tree into its place and back, and below it the user's program.

Runs in a child of the zygote, with a single thread. It inherits what the step leaves behind, and ends that before the tree goes back.
From the moment the tree is in place until then it opens, reads and executes nothing of the root directory.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from typing import TYPE_CHECKING, Any, Final, NoReturn

from img_core.linux import children, sandbox, syscalls
from img_executor_swap._fake import Supervision, become_fake
from img_executor_swap._place import RootPlace, turn
from img_lib_containers import program, seccomp
from img_lib_containers.unix_sockets import unix_sockets_only

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["main"]

# Read here, in the zygote: later there is only the image.
_CAPABILITIES: Final = sandbox.DEFAULT_CAPABILITY_MASK & sandbox.held_capabilities()
_ROOT: Final = "/"


def main(request: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Run the step that *request* describes, and return its exit status when all is as it was before."""
    log, stdin, stdout, stderr, *groups = fds
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    sandbox.forbid_imports()
    place = RootPlace(request["tree"], request["note"], _ROOT, keeper=os.getppid(), below=request["below"])
    with turn(_ROOT):
        place.finish_other()
        try:
            place.enter()
            supervision = Supervision(place, request["sockets"]) if request["fake"] else None
            status = _run(request, (stdin, stdout, stderr), groups, supervision)
            children.end()
            if supervision is not None:
                supervision.finish(log)
            lost = place.lost()
        finally:
            place.leave()
    if lost:
        raise OSError(f"it has changed `/{lost}`, which is a volume of the container: that would not be in the image")
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _run(
    request: Mapping[str, Any], stdio: Sequence[int], groups: Sequence[int], supervision: Supervision | None
) -> int:
    """Start the program of *request* and return the status with which it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            _become_step(request, stdio, groups, supervision)
        except BaseException as err:
            program.fail(f"cannot start the program: {err}", program.SETUP_FAILED)
    for fd in (*stdio, *groups):
        os.close(fd)
    if supervision is not None:
        supervision.serve(pid)
    return os.waitpid(pid, 0)[1]


def _become_step(
    request: Mapping[str, Any], stdio: Sequence[int], groups: Sequence[int], supervision: Supervision | None
) -> NoReturn:
    limits = program.limits_of(request["ulimits"])
    os.setsid()
    for group in groups:
        os.write(group, b"0")
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    if request["terminal"]:
        program.take_terminal()
    if supervision is not None:
        os.dup2(supervision.theirs.fileno(), 3, inheritable=False)
    syscalls.close_range(3 if supervision is None else 4)
    uid, gid = request["uid"], request["gid"]
    program.enter_directory(request["cwd"], uid, gid)
    os.umask(request["umask"])
    for number, values in limits:
        resource.setrlimit(number, values)
    if supervision is None:
        _become_user(request)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    program.reset_signals()
    if request["network"] == "none":
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.install(unix_sockets_only())
    if supervision is not None:
        with socket.socket(fileno=3) as connection:
            become_fake(connection, request)
    program.execute(request)


def _become_user(request: Mapping[str, Any]) -> None:
    uid, gid = request["uid"], request["gid"]
    program.limit_capabilities(_CAPABILITIES)
    program.give_stdio(uid)
    os.setgroups(request["groups"])
    os.setresgid(gid, gid, gid)
    syscalls.capset(_CAPABILITIES, _CAPABILITIES, 0)
    os.setresuid(uid, uid, uid)  # for another user this empties the sets
