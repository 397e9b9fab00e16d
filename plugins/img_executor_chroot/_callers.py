"""The processes that make the calls: their memory, their ids and what they have open.

Without SYS_PTRACE the kernel shows us a process only if we are who it is, so we take its ids for a moment where it refuses us as root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING, Final, TypeVar

from img_core.linux import syscalls
from img_executor_chroot import _forms as forms
from img_executor_chroot import _outside as outside
from img_lib_containers import seccomp

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_executor_chroot._calls import Call

__all__ = ["Callers"]

_Result = TypeVar("_Result")

_LONGEST_PATH: Final = 4096
_PAGE: Final = 4096
_AT_FDCWD: Final = syscalls.AT_FDCWD & 0xFFFFFFFF
# struct open_how: flags, mode, resolve; see openat2(2)
_OPEN_HOW: Final = struct.Struct("=3Q")


class Callers:
    """Looks at the processes of one step, whose calls wait at *listener*, one call after the other."""

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self.buffer = ctypes.create_string_buffer(_PAGE)  #: for what is read of their memory
        self._changed = False  # whether we have the ids of a caller

    # --- ids ----------------------------------------------------------------------------------------------------------

    def as_caller(self, pid: int, work: Callable[..., _Result], *arguments: object) -> _Result:
        """Do *work* as root, or as who the process is, which we are from then on until `become_root`. Raises OSError."""
        try:
            return work(*arguments)
        except PermissionError:
            if self._changed or not self._become(pid):
                raise
            return work(*arguments)

    def _become(self, pid: int) -> bool:
        """Take the ids of the caller; tell whether that is possible."""
        try:
            _, uid, gid = outside.ids_of(pid)
            os.setresgid(gid, gid, 0)
            self._changed = True
            os.setresuid(uid, uid, 0)
        except (OSError, KeyError):
            return False
        return True

    def become_root(self) -> None:
        """Be root again, if we are not."""
        if self._changed:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            self._changed = False

    # --- memory -------------------------------------------------------------------------------------------------------

    def path(self, pid: int, address: int) -> bytes | None:
        """Return the path at *address*, or None when it cannot be read."""
        text = b""
        while len(text) < _LONGEST_PATH:
            size = _PAGE - ((address + len(text)) & (_PAGE - 1))  # the next page may not exist
            try:
                count = self.as_caller(pid, syscalls.process_vm_read, pid, address + len(text), self.buffer, size)
            except OSError:
                return None
            head = self.buffer.value
            if len(head) < count:
                return text + head
            text += self.buffer.raw[:count]
        return None

    def _values(self, pid: int, address: int, form: struct.Struct) -> tuple[int, ...]:
        if syscalls.process_vm_read(pid, address, self.buffer, form.size) < form.size:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return form.unpack_from(self.buffer)

    def write(self, notification: seccomp.Notification, address: int, data: bytes) -> None:
        """Put *data* at *address*. Raises OSError, also if the call waits no more."""
        if not seccomp.still_waiting(self._listener, notification):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        syscalls.process_vm_write(notification.pid, address, data)

    def overwrite_path(self, call: Call, notification: seccomp.Notification, path: bytes) -> None:
        """Write *path* over that of the call, which may be in memory that the caller cannot write itself. Raises OSError."""
        address = notification.arguments[call.path]
        known = self.path(notification.pid, address)
        if known is None or len(known) < len(path) or not seccomp.still_waiting(self._listener, notification):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        memory = os.open(f"/proc/{notification.pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(memory, path + b"\0", address)
        finally:
            os.close(memory)

    # --- what a call says ---------------------------------------------------------------------------------------------

    def working_directory(self, pid: int) -> bytes:
        """Return where the process is, as seen from here. Raises OSError."""
        return os.fsencode(self.as_caller(pid, os.readlink, f"/proc/{pid}/cwd"))

    def directory(self, call: Call, notification: seccomp.Notification) -> bytes:
        """Return the directory, as seen from here, that a relative path starts from. Raises OSError."""
        pid = notification.pid
        number = _AT_FDCWD if call.directory < 0 else notification.arguments[call.directory] & 0xFFFFFFFF
        if number == _AT_FDCWD:
            return self.working_directory(pid)
        return os.fsencode(self.as_caller(pid, os.readlink, f"/proc/{pid}/fd/{number}"))

    def flags(self, call: Call, notification: seccomp.Notification) -> int:
        """Return the flags with which a file is to be opened. Raises OSError."""
        if call.flags < 0:  # creat(2)
            return os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        given = notification.arguments[call.flags]
        if call.kind == "openat2":
            return self._values(notification.pid, given, _OPEN_HOW)[0]
        return given & 0xFFFFFFFF

    def follows(self, call: Call, notification: seccomp.Notification) -> bool:
        """Tell whether a link at the end of the path is followed. Raises OSError."""
        if call.kind in ("open", "openat2"):
            return not self.flags(call, notification) & os.O_NOFOLLOW
        return call.follow and not (
            call.flags >= 0 and notification.arguments[call.flags] & syscalls.AT_SYMLINK_NOFOLLOW
        )

    def times(self, call: Call, notification: seccomp.Notification) -> tuple[int, ...] | None:
        """Return seconds and nanoseconds of both times as utimensat(2) wants them; None for now. Raises OSError."""
        address = notification.arguments[call.buffer]
        if not address:
            return None
        form = forms.TIMES_32 if call.kind == "times32" else forms.TIMES
        return self._values(notification.pid, address, form)
