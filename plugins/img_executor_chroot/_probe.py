"""Try whether a child can be supervised here: some containers and security modules forbid what that takes."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from img_core.linux import syscalls
from img_executor_chroot import _filter
from img_executor_chroot._calls import CALLS
from img_lib_containers import seccomp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["main"]

_PATH = b"/proc/probe"


def main(_payload: Mapping[str, Any], _fds: Sequence[int]) -> int:  # Any: JSON
    """Return 0 if a call of a child can be received, read and answered. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    text = ctypes.create_string_buffer(_PATH)
    pid = os.fork()
    if pid == 0:
        _call(ours, theirs)
    with ours, theirs:
        theirs.close()
        message, listeners, _, _ = socket.recv_fds(ours, 256, 1, socket.MSG_CMSG_CLOEXEC)
    try:
        if not listeners:
            raise OSError(struct.unpack("=i", message)[0] if len(message) == 4 else 1, "no filter with a supervisor")
        notification = seccomp.receive(listeners[0])
        assert notification is not None
        call = CALLS[notification.architecture][notification.number]
        buffer = ctypes.create_string_buffer(64)
        syscalls.process_vm_read(pid, notification.arguments[call.path], buffer, len(_PATH))
        seccomp.answer(listeners[0], notification)
        return int(buffer.value != text.value)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _call(ours: socket.socket, theirs: socket.socket) -> None:
    """Make a call that is received elsewhere; never return."""
    try:
        ours.close()
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        listener = seccomp.install_listener(_filter.program([], network=True, everybody=True), patient=True)
        socket.send_fds(theirs, [b"ok"], [listener])
        os.chdir(_PATH)
    except OSError as err:
        theirs.send(struct.pack("=i", err.errno or 1))
    finally:
        os._exit(0)
