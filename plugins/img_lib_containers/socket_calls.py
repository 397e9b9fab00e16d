"""Sockets of 32-bit x86 programs, whose ``socketcall`` has the family behind a pointer, where no filter can look.

A filter (``sockets_*.bpf``, and part of ``owners_*.bpf``) stops the call that makes a socket and hands it to a supervisor outside of the
container. That one reads the family once. If a step may use it, it makes the socket itself, in a process that has the network, the user and
the capabilities of the caller, and puts it among the caller's descriptors. So it does not help to change the memory meanwhile.

Hardly any step has such a program: `socket_supervisor` starts the supervisor when the first call waits. What differs from a socket of one's
own: where Landlock keeps abstract sockets apart (Linux 6.12), the abstract name of such a socket cannot be reached, not even from inside
the step.

What a step passes is hostile, see `owner_calls`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from img_core.linux import sandbox, syscalls
from img_lib_containers import seccomp, seccomp_rules
from img_lib_containers.owner_calls import Caller, Refusal, Viewpoint, open_proc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["is_socket_call", "serve_socket", "supervise"]

_I386: Final = 0x40000003
_SOCKETCALL: Final = 102
_ARGUMENTS: Final = struct.Struct("=Iii")  # family, type, protocol; see socketcall(2)


def supervise(_payload: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Serve the calls of one container until its last process has ended."""
    (listener,) = fds
    proc = open_proc()
    sandbox.forbid_imports()
    for notification in seccomp.notifications(listener):
        serve_socket(listener, notification, proc)
    return 0


def is_socket_call(notification: seccomp.Notification) -> bool:
    """Tell whether the call is a ``socketcall`` that makes a socket: the only ones that the filters hand over."""
    return (notification.architecture, notification.number) == (_I386, _SOCKETCALL)


def serve_socket(listener: int, notification: seccomp.Notification, proc: int | None) -> None:
    """Answer a socket call; without a */proc* that shows the caller none is allowed."""
    if proc is None:
        seccomp.answer(listener, notification, error=errno.EPERM)
        return
    child = os.fork()  # it becomes what the caller is, for good
    if child == 0:
        try:
            os._exit(_serve(listener, notification, proc))
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        seccomp.answer(listener, notification, error=errno.EPERM)


def _serve(listener: int, notification: seccomp.Notification, proc: int) -> int:
    try:
        _make_socket(listener, notification, proc)
    except Refusal as refusal:
        seccomp.answer(listener, notification, error=refusal.number)
    except OSError as err:
        seccomp.answer(listener, notification, error=err.errno or errno.EPERM)
    return 0


def _make_socket(listener: int, notification: seccomp.Notification, proc: int) -> None:
    caller = Caller(Viewpoint(proc), notification.pid)
    family, kind, protocol = _ARGUMENTS.unpack(caller.read_memory(notification.arguments[1], _ARGUMENTS.size))
    if not seccomp_rules.may_use_family(family):
        raise Refusal(errno.EPERM)  # as of socket(2), where the filter sees it
    if kind < 0 or protocol < 0:
        raise Refusal(errno.EINVAL)
    network, ours, status = caller.network(), os.stat("self/ns/net", dir_fd=proc), caller.status()
    if not seccomp.still_waiting(listener, notification):
        return  # what was read may be another process's
    if not os.path.samestat(os.fstat(network), ours):  # nobody may join the host's, not even from there
        syscalls.setns(network, syscalls.CLONE_NEWNET)
    _become(status)
    with socket.socket(family, kind, protocol) as made:
        seccomp.answer_with_descriptor(
            listener, notification, made.fileno(), close_on_exec=bool(kind & socket.SOCK_CLOEXEC)
        )


def _become(status: Mapping[str, str]) -> None:
    """Take the ids and the capabilities over that ``/proc/PID/status`` tells of."""
    uid, gid = (int(status[name].split()[1]) for name in ("Uid", "Gid"))
    groups = [int(group) for group in status["Groups"].split()]
    capabilities = int(status["CapEff"], 16)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    # With a single mapped id nothing of this may be changed, and nothing has to be.
    if sorted(groups) != sorted(os.getgroups()):
        os.setgroups(groups)
    if gid != os.getegid():
        os.setresgid(gid, gid, gid)
    if uid != os.geteuid():
        os.setresuid(uid, uid, uid)
    syscalls.capset(capabilities, capabilities, 0)
