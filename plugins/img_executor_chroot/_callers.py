"""The processes that make the calls: their memory, their ids and what they have open.

Without SYS_PTRACE the kernel shows us a process only if we are who it is, so we take its ids for a moment where it refuses us as root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from img_core.linux import syscalls
from img_executor_chroot import _forms as forms
from img_executor_chroot import _outside as outside
from img_lib_containers import seccomp

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_executor_chroot._calls import Call

__all__ = ["Callers", "PathReader"]

_Result = TypeVar("_Result")

_SHORT_PATH: Final = 256  # as nearly all are
_LONGEST_PATH: Final = 4096
#: calls of one thread after the other, until opening its memory pays
_CALLS_TO_OPEN: Final = 6
_NO_CALLER: Final = -1
_SECONDS_TO_ENTER: Final = 0.2
_SECONDS_BETWEEN: Final = 0.0001
_LINKS_ALONE: Final = 3  # of /proc/PID/task, for a single thread
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

    def opened_memory(self, pid: int) -> int:
        """Return a descriptor that reads the memory of a process which has one thread. Raises OSError."""
        try:
            if os.stat(f"/proc/{pid}/task").st_nlink != _LINKS_ALONE:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            return self.as_caller(pid, os.open, f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            self.become_root()

    def has_room(self, call: Call, notification: seccomp.Notification, path: bytes) -> bool:
        """Tell whether *path* is no longer than that of the call. Raises OSError."""
        known = self.path(notification.pid, notification.arguments[call.path])
        return known is not None and len(known) >= len(path)

    # --- where they are -----------------------------------------------------------------------------------------------

    def is_in(self, pid: int, place: os.stat_result) -> bool:
        """Tell whether *place* is the working directory of the process. Raises OSError."""
        return os.path.samestat(self.as_caller(pid, os.stat, f"/proc/{pid}/cwd"), place)

    def wait_until_in(self, pid: int, place: os.stat_result) -> None:
        """Wait until the process is there; not long, if it does not come or has ended."""
        end = time.monotonic() + _SECONDS_TO_ENTER
        with suppress(OSError):
            while not self.is_in(pid, place) and time.monotonic() < end:
                time.sleep(_SECONDS_BETWEEN)

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


class PathReader:
    """Reads the paths of calls, most of which come from one thread after the other, as the number in *pid* says.

    Of a thread that calls again and again /proc/PID/mem stays open, until another one calls: reading that takes half the time, and does not
    ask again who we are. It is the memory that the process had when it was opened. Another one it gets by execve(2) and execveat(2) alone,
    which we see before (`read_last`); and since there is one thread no other does that for it. Its number becomes somebody else's only
    after it has ended, when all other numbers have been used; then there is nothing to be read any more.
    """

    def __init__(self, callers: Callers, pid: ctypes.c_int) -> None:
        self._callers = callers
        self._pid = pid
        self._read = syscalls.MemoryReader(callers.buffer, pid).reading(_SHORT_PATH)
        self._caller = _NO_CALLER
        self._calls = 0
        self._memory = -1

    def read(self, address: int) -> bytes | None:
        """Return the path at *address*, or None if it cannot be read, or not soon."""
        if self._pid.value == self._caller:
            if self._memory >= 0:
                try:
                    text, end, _ = os.pread(self._memory, _SHORT_PATH, address).partition(b"\0")
                except OSError:
                    return None
                return text if end else None
            self._calls += 1
        else:
            self._forget()
            self._caller, self._calls = self._pid.value, 1
        count = self._read(address)
        if self._calls == _CALLS_TO_OPEN or (count < 0 and self._calls < _CALLS_TO_OPEN):
            self._open()
        text = self._callers.buffer.value
        return text if len(text) < count else None

    def read_last(self, address: int) -> bytes | None:
        """Do the same for a call that gives its process another memory."""
        text = self.read(address)
        self._forget()
        return text

    def _open(self) -> None:
        self._calls = _CALLS_TO_OPEN
        with suppress(OSError):
            self._memory = self._callers.opened_memory(self._caller)

    def _forget(self) -> None:
        self._caller = _NO_CALLER
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
