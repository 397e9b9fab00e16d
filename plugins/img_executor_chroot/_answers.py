"""Does in place of the kernel what a call asks of a system file: opens it, looks at it, reads it, or refuses.

What is handed out is looked up with the ids of the caller (`_callers`). No directory outside of the step's root is among it: a step gets a
stand-in (`_stubs`), from which no ``..`` leads on.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from img_core.linux import syscalls
from img_executor_chroot import _forms as forms
from img_executor_chroot import _outside as outside
from img_lib_containers import seccomp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from img_executor_chroot._callers import Callers
    from img_executor_chroot._calls import Call
    from img_executor_chroot._stubs import Stubs

__all__ = ["Answers", "StoppedCall"]

_TREES: Final = (b"/proc", b"/sys")


class StoppedCall(NamedTuple):
    """A call that waits, and the system file *meant* that it is about; *is_directory*: its path can only mean one."""

    call: Call
    notification: seccomp.Notification
    meant: bytes
    target: outside.Target
    is_directory: bool

    def argument(self, position: int) -> int:
        """Return the argument at *position*."""
        return self.notification.arguments[position]


class Answers:
    """Answers the calls of one step, whose root is *tree*."""

    def __init__(self, listener: int, tree: outside.StepTree, stubs: Stubs, callers: Callers) -> None:
        self._listener = listener
        self._tree = tree
        self._stubs = stubs
        self._callers = callers
        self._kinds: Mapping[str, Callable[[StoppedCall], None]] = {
            "open": self._open,
            "openat2": self._open,
            "readlink": self._read_link,
            "stat": self._stat,
            "stat64": self._stat64,
            "statx": self._statx,
            "statfs": self._statfs,
            "statfs64": self._statfs64,
            "access": self._access,
            "execute": self._execute,
            "enter": self._enter,
            "attribute": self._attribute,
            "mode": self._mode,
            "owner": self._owner,
            "times": self._times,
            "times32": self._times,
        }

    def answer(self, asked: StoppedCall) -> None:
        """Answer a call. Raises OSError for what the call is to fail with."""
        self._kinds[asked.call.kind](asked)

    # --- opening ------------------------------------------------------------------------------------------------------

    def _open(self, asked: StoppedCall) -> None:
        target, flags = asked.target, self._callers.flags(asked.call, asked.notification)
        if isinstance(target, outside.Magic | outside.Own) and not flags & os.O_PATH and _may_wait(target):
            if os.fork() == 0:  # reaped with whatever the step leaves behind
                self._open_in_child(asked, flags)
            return
        fd = target.open(flags & ~os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                fd = self._safe_directory(fd, target, flags)
            self._give(asked.notification, fd, flags)
        finally:
            os.close(fd)

    def _open_in_child(self, asked: StoppedCall, flags: int) -> NoReturn:
        try:
            self._give(asked.notification, asked.target.open(flags & ~os.O_CLOEXEC), flags)
        except OSError as err:
            seccomp.answer(self._listener, asked.notification, error=err.errno or errno.EIO)
        finally:
            os._exit(0)

    def _give(self, notification: seccomp.Notification, fd: int, flags: int) -> None:
        close_on_exec = bool(flags & os.O_CLOEXEC)
        seccomp.answer_with_descriptor(self._listener, notification, fd, close_on_exec=close_on_exec)

    def give_from_memory(self, call: Call, notification: seccomp.Notification, source: int) -> bool:
        """Give the file *source*, which is not in the tree, in place of what marks its place there; False if only that is asked for."""
        flags = self._callers.flags(call, notification)
        if flags & os.O_PATH:
            return False
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        fd = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._give(notification, fd, flags)
        finally:
            os.close(fd)
        return True

    def _safe_directory(self, fd: int, target: outside.Target, flags: int) -> int:
        """Return what may be given to a step in place of the directory *fd*, which is closed if it is something else."""
        if not isinstance(target, outside.Plain | outside.Text):
            if not outside.is_below(_place(fd), self._tree.top):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return fd
        meant = outside.normal(_place(fd))
        entries = self._entries(meant)
        self._callers.become_root()
        stub = self._stubs.open(meant, entries, flags)
        os.close(fd)
        return stub

    def _entries(self, directory: bytes) -> list[tuple[bytes, int]]:
        found = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if (
                    directory == b"/proc"
                    and entry.name.isdigit()
                    and not outside.is_visible(entry.name, self._tree.root)
                ):
                    continue
                if outside.is_hidden(directory + b"/" + entry.name):
                    continue
                if directory == b"/dev/pts" and entry.name not in (b"ptmx", *self._tree.terminals):
                    continue
                kind = stat.S_IFLNK if entry.is_symlink() else stat.S_IFDIR if entry.is_dir() else stat.S_IFREG
                found.append((entry.name, kind))
        return found

    # --- looking ------------------------------------------------------------------------------------------------------

    def _look(self, asked: StoppedCall) -> int:
        return asked.target.look(follow=self._callers.follows(asked.call, asked.notification) or asked.is_directory)

    def _read_link(self, asked: StoppedCall) -> None:
        text = asked.target.read_link()[: asked.argument(asked.call.buffer + 1) & 0xFFFFFFFF]
        self._callers.write(asked.notification, asked.argument(asked.call.buffer), text)
        seccomp.answer(self._listener, asked.notification, value=len(text))

    def _tell(self, asked: StoppedCall, read: Callable[[int], bytes]) -> None:
        fd = self._look(asked)
        try:
            data = read(fd)
        finally:
            os.close(fd)
        self._callers.write(asked.notification, asked.argument(asked.call.buffer), data)
        seccomp.answer(self._listener, asked.notification)

    def _stat(self, asked: StoppedCall) -> None:
        self._tell(asked, syscalls.raw_stat)

    def _stat64(self, asked: StoppedCall) -> None:
        self._tell(asked, forms.stat64)

    def _statx(self, asked: StoppedCall) -> None:
        mask = asked.argument(asked.call.buffer - 1) & 0xFFFFFFFF
        self._tell(asked, lambda fd: syscalls.raw_statx(fd, mask))

    def _statfs(self, asked: StoppedCall) -> None:
        self._tell(asked, syscalls.raw_statfs)

    def _statfs64(self, asked: StoppedCall) -> None:
        self._tell(asked, lambda fd: forms.statfs64(syscalls.raw_statfs(fd)))

    def _access(self, asked: StoppedCall) -> None:
        fd = self._look(asked)
        try:
            wanted = asked.argument(asked.call.path + 1) & (os.R_OK | os.W_OK | os.X_OK)
            allowed = not wanted or os.access(f"/proc/self/fd/{fd}", wanted)
        finally:
            os.close(fd)
        seccomp.answer(self._listener, asked.notification, error=0 if allowed else errno.EACCES)

    def _attribute(self, asked: StoppedCall) -> None:
        os.close(self._look(asked))
        seccomp.answer(self._listener, asked.notification, error=errno.ENOTSUP)

    # --- going there --------------------------------------------------------------------------------------------------

    def _execute(self, asked: StoppedCall) -> None:
        """Let the kernel execute what a link of /proc points to: its path in the tree takes the place of the link's."""
        text = _in_the_tree(asked.target)
        self._callers.become_root()
        self._go_on(asked, self._stubs.link(text))

    def _enter(self, asked: StoppedCall) -> None:
        """Let the kernel enter what a link of /proc points to, or the stand-in of a directory."""
        if isinstance(asked.target, outside.Own | outside.Magic):
            text = _in_the_tree(asked.target)
            self._callers.become_root()
            self._go_to(asked, text, self._stubs.link(text))
            return
        fd = asked.target.open(os.O_RDONLY | os.O_DIRECTORY)
        meant = outside.normal(_place(fd))
        self._stubs.used = True
        if meant in _TREES:
            os.close(fd)
            seccomp.proceed(self._listener, asked.notification)
            return
        os.close(self._safe_directory(fd, asked.target, os.O_RDONLY))
        path = self._stubs.path(meant)
        self._go_to(asked, path, path)

    def _go_to(self, asked: StoppedCall, directory: bytes, path: bytes) -> None:
        """Let the kernel enter *directory* of the tree, where *path* ends: by that, or by the caller's own way if that is shorter."""
        if self._callers.has_room(asked.call, asked.notification, path):
            self._go_on(asked, path)
            return
        pid = asked.notification.pid
        fd = syscalls.openat2(self._tree.root, directory, os.O_PATH | os.O_DIRECTORY)
        place = os.fstat(fd)
        os.close(fd)
        if self._callers.is_in(pid, place):  # then nothing would tell when it has come
            seccomp.answer(self._listener, asked.notification)
            return
        self._callers.become_root()
        with self._stubs.leading(asked.meant, directory):
            seccomp.proceed(self._listener, asked.notification)
            self._callers.wait_until_in(pid, place)
            self._callers.become_root()

    def _go_on(self, asked: StoppedCall, path: bytes) -> None:
        """Let the kernel do the call, with *path* in place of its own."""
        self._callers.overwrite_path(asked.call, asked.notification, path)
        seccomp.proceed(self._listener, asked.notification)

    # --- changes ------------------------------------------------------------------------------------------------------

    def _change(self, asked: StoppedCall, change: Callable[[str], None]) -> None:
        """Change what is the step's own: a file that it has open, or one of its tree. Nothing else may be."""
        if not asked.target.changeable or not self._callers.follows(asked.call, asked.notification):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        fd = asked.target.look(follow=True)
        try:
            change(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        seccomp.answer(self._listener, asked.notification)

    def _mode(self, asked: StoppedCall) -> None:
        mode = asked.argument(asked.call.path + 1) & 0o7777
        self._change(asked, lambda path: os.chmod(path, mode))

    def _owner(self, asked: StoppedCall) -> None:
        uid, gid = (_id(asked.argument(asked.call.path + number)) for number in (1, 2))
        self._change(asked, lambda path: os.chown(path, uid, gid))

    def _times(self, asked: StoppedCall) -> None:
        times = self._callers.times(asked.call, asked.notification)
        self._change(asked, lambda path: _set_times(path, times))


def _in_the_tree(target: outside.Target) -> bytes:
    """Return the path of the step's that *target* is."""
    return target.path if isinstance(target, outside.Own) else target.read_link()


def _may_wait(target: outside.Magic | outside.Own) -> bool:
    """Tell whether opening it may wait for somebody: a pipe with a name, for its other end."""
    if isinstance(target, outside.Magic) and target.read_link().startswith(b"pipe:"):
        return False  # one without a name never does
    fd = target.look(follow=True)
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _place(fd: int) -> bytes:
    """Return where the file behind *fd* is, as seen from here."""
    return os.fsencode(os.readlink(f"/proc/self/fd/{fd}"))


def _id(argument: int) -> int:
    """Return a user or group of chown(2); -1 leaves it as it is."""
    return -1 if argument & 0xFFFFFFFF == 0xFFFFFFFF else argument & 0xFFFFFFFF


def _set_times(path: str, times: tuple[int, ...] | None) -> None:
    if times is None or times[1] == times[3] == forms.UTIME_NOW:
        os.utime(path)
        return
    known = os.stat(path)
    values = []
    for seconds, rest, left in ((*times[:2], known.st_atime_ns), (*times[2:], known.st_mtime_ns)):
        now = time.time_ns() if rest == forms.UTIME_NOW else 0
        values.append(left if rest == forms.UTIME_OMIT else now or seconds * 10**9 + rest)
    os.utime(path, ns=(values[0], values[1]))
