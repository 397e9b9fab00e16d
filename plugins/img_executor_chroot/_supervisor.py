"""Answers the calls of one step that ask for what its tree does not have: /proc, /sys, devices, secrets.

The filter (`_filter`) stops every call that takes a path, before the kernel looks at it. Nearly all of them go on at once. What names a
system file (`_outside`) is opened, looked at or read here, and the result is put among the caller's descriptors or into its memory.

What a step says is hostile, and may change while we look: so nothing here decides about safety of the tree. That is the kernel's: a call
that goes on is done with the step's own root and rights. What is handed out is looked up with the ids of the caller: without SYS_PTRACE
the kernel shows us a process only if we are who it is, and as root we come back from that by our saved ids.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import time
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from img_core.linux import syscalls
from img_executor_chroot import _forms as forms
from img_executor_chroot import _outside as outside
from img_executor_chroot._calls import CALLS, NAMINGS, Call, Naming
from img_executor_chroot._links import Inode, leads_to
from img_executor_chroot._stubs import Stubs
from img_executor_chroot._ways import Ways
from img_lib_containers import seccomp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Supervisor"]

_Result = TypeVar("_Result")

_LONGEST_PATH: Final = 4096
_PAGE: Final = 4096
_SHORT_PATH: Final = 256  # as nearly all are
_AT_FDCWD: Final = syscalls.AT_FDCWD & 0xFFFFFFFF
_TREES: Final = frozenset((b"proc", b"sys"))
_RENAME_EXCHANGE: Final = 2  # linux/fs.h
# struct open_how: flags, mode, resolve; see openat2(2)
_OPEN_HOW: Final = struct.Struct("=3Q")


class Supervisor:
    """Serves one step; *memory* maps places in its *tree* to descriptors of files that are in no tree."""

    def __init__(self, listener: int, tree: outside.StepTree, memory: Mapping[str, int]) -> None:
        self._listener = listener
        seccomp.stay_on_one_processor(listener)
        self._tree = tree
        self._root = tree.root
        self._top = tree.top
        self._memory = dict(self._places(memory))
        self._stubs = Stubs(self._root, self._top, tree.systems)
        self._ways = Ways(self._root, (*outside.NAMES, *(os.fsencode(os.path.basename(target)) for target in memory)))
        self._buffer = ctypes.create_string_buffer(_PAGE)
        self._is_directory = False  # whether the path at hand can only mean one
        self._changed = False  # whether we have the ids of a caller
        self._kinds: Mapping[str, Callable[[Call, seccomp.Notification, outside.Target], None]] = {
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

    def _places(self, memory: Mapping[str, int]) -> Iterator[tuple[tuple[int, int], int]]:
        for target, fd in memory.items():
            place = syscalls.openat2(self._root, target, os.O_PATH)
            info = os.fstat(place)
            os.close(place)
            yield (info.st_dev, info.st_ino), fd

    def run(self, pidfd: int) -> None:
        """Answer calls until the process behind *pidfd* has ended."""
        channel = seccomp.Channel(self._listener)
        self._stubs.used = True  # until we know where it begins
        begun = False
        for raw in channel.calls(pidfd, self._passing(channel)):
            begun = begun or self._begin(raw[seccomp.RAW_PID])
            self._serve(seccomp.Notification.of(raw))

    def _begin(self, pid: int) -> bool:
        """Note whether the step begins in a directory that stands for one outside; tell if that is to be seen.

        It is not before the first program is executed, and from there on no process is elsewhere without having asked us.
        """
        try:
            directory = os.fsencode(self._as_caller(pid, os.readlink, f"/proc/{pid}/cwd"))
        except OSError:
            return False
        finally:
            if self._changed:
                self._become_root()
        meant = self._from_root(directory)
        self._stubs.used = meant is None or self._tree.system_path(meant) is not None
        return True

    def _passing(self, channel: seccomp.Channel) -> Callable[[], bool]:
        """Return what tells of the call in *channel* whether it is seen at once not to be about a system file."""
        ways, stubs, buffer = self._ways, self._stubs, self._buffer
        leads, harmless = ways.names, ways.harmless
        read = syscalls.MemoryReader(buffer, channel.pid).reading(_SHORT_PATH)
        words, which, arguments = channel.words, channel.CALL, channel.ARGUMENTS
        shapes = {
            channel.call_of(architecture, number): (
                arguments + call.path,
                arguments + call.flags if call.flags >= 0 else which,
                _not_following(call),
            )
            for architecture, calls in CALLS.items()
            for number, call in calls.items()
        }

        def passes() -> bool:
            shape = shapes.get(words[which])
            if shape is None:
                return False
            count = read(words[shape[0]])
            path: bytes = buffer.value
            if len(path) >= count or (stubs.used and path[:1] != b"/"):
                return False
            if path in harmless:
                return True
            if ways.known:
                if leads.isdisjoint(path.split(b"/")):
                    ways.remember(path)
                    return True
                return False
            # A name alone that is not followed has no way but itself.
            return words[shape[1]] & shape[2] != 0 and b"/" not in path and path not in leads

        return passes

    def _is_harmless(self, path: bytes) -> bool:
        """Tell whether *path* is known to lead to no system file."""
        return (
            (path[:1] == b"/" or not self._stubs.used)
            and self._ways.known
            and self._ways.names.isdisjoint(path.split(b"/"))
        )

    def _serve(self, notification: seccomp.Notification) -> None:
        try:
            if not self._answered(notification):
                seccomp.proceed(self._listener, notification)
        except OSError as err:
            seccomp.answer(self._listener, notification, error=err.errno or errno.EIO)
        finally:
            if self._changed:
                self._become_root()

    def _answered(self, notification: seccomp.Notification) -> bool:
        """Answer a call, or return False for one that the kernel is to do."""
        self._ways.calls(notification.pid)
        call = CALLS.get(notification.architecture, {}).get(notification.number)
        if call is None:
            naming = NAMINGS.get(notification.architecture, {}).get(notification.number)
            if naming is not None:
                self._name(naming, notification)
            return False
        path = self._read_path(notification.pid, notification.arguments[call.path])
        if not path or self._is_harmless(path):
            return False
        meant = self._meaning(call, notification, path)
        if meant is None:
            if path[:1] == b"/" and self._ways.is_plain(path):
                return False
            led = self._by_links(call, notification, path)
            if isinstance(led, tuple):
                return led in self._memory and self._from_memory(call, notification, self._memory[led])
            meant = led
        if meant is None:
            return False
        self._is_directory = path.endswith((b"/", b"/.", b"/.."))
        target = outside.target(meant, notification.pid, self._tree)
        self._kinds[call.kind](call, notification, target)
        return True

    def _name(self, naming: Naming, notification: seccomp.Notification) -> None:
        """Note that something is about to get a name."""
        self._ways.makes_name(notification.pid)
        given = notification.arguments
        text = self._read_path(notification.pid, given[naming.text])
        name = self._read_path(notification.pid, given[naming.name])
        if text is None or name is None:
            if seccomp.still_waiting(self._listener, notification):
                self._ways.give_up()
        elif naming.kind == "makes":
            self._ways.makes_link(name, text)
        elif naming.kind == "links":
            self._ways.links(text, name)
        else:
            self._ways.links(text, name)
            if naming.flags >= 0 and given[naming.flags] & _RENAME_EXCHANGE:
                self._ways.links(name, text)
            if not _TREES.isdisjoint((*text.split(b"/"), *name.split(b"/"))):
                self._stubs.used = True  # whoever is in that directory may be in /proc now

    # --- the caller ---------------------------------------------------------------------------------------------------

    def _read_path(self, pid: int, address: int) -> bytes | None:
        """Return the path at *address* of the caller's memory, or None when it cannot be read."""
        text = b""
        while len(text) < _LONGEST_PATH:
            size = _PAGE - ((address + len(text)) & (_PAGE - 1))  # the next page may not exist
            try:
                at = address + len(text)
                try:
                    count = syscalls.process_vm_read(pid, at, self._buffer, size)
                except PermissionError:
                    count = self._as_caller(pid, syscalls.process_vm_read, pid, at, self._buffer, size)
            except OSError:
                return None
            head = self._buffer.value
            if len(head) < count:
                return text + head
            text += self._buffer.raw[:count]
        return None

    def _as_caller(self, pid: int, work: Callable[..., _Result], *arguments: object) -> _Result:
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

    def _become_root(self) -> None:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        self._changed = False

    def _write(self, notification: seccomp.Notification, address: int, data: bytes) -> None:
        if not seccomp.still_waiting(self._listener, notification):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        syscalls.process_vm_write(notification.pid, address, data)

    def _directory(self, call: Call, notification: seccomp.Notification) -> bytes:
        """Return the directory, as seen from here, that a relative path starts from."""
        number = _AT_FDCWD if call.directory < 0 else notification.arguments[call.directory] & 0xFFFFFFFF
        name = "cwd" if number == _AT_FDCWD else f"fd/{number}"
        return os.fsencode(self._as_caller(notification.pid, os.readlink, f"/proc/{notification.pid}/{name}"))

    def _meaning(self, call: Call, notification: seccomp.Notification, path: bytes) -> bytes | None:
        """Return the system file that *path* means, or None if it is one of the tree."""
        if path[:1] == b"/":
            return self._tree.system_path(path)
        if not self._stubs.used and outside.NAMES.isdisjoint(path.split(b"/")):
            return None
        whole = self._whole(call, notification, path)
        return None if whole is None else self._tree.system_path(whole)

    def _by_links(self, call: Call, notification: seccomp.Notification, path: bytes) -> bytes | Inode | None:
        """Return the system file that links of the tree lead *path* to; of a file to be opened that may be in memory, its inode."""
        follow = self._follows(call, notification)
        if path[:1] != b"/":
            if not follow and b"/" not in path:
                return None  # the name itself is meant, and where it is was found before
            whole = self._whole(call, notification, path, tidy=False)
            if whole is None:
                return None
            path = whole
        self._ways.looked_up(2)
        return leads_to(self._tree, path, follow=follow, inode=bool(self._memory) and call.kind in ("open", "openat2"))

    def _follows(self, call: Call, notification: seccomp.Notification) -> bool:
        """Tell whether a link at the end of the path is followed."""
        if call.kind in ("open", "openat2"):
            return not self._flags(call, notification) & os.O_NOFOLLOW
        return call.follow and not (
            call.flags >= 0 and notification.arguments[call.flags] & syscalls.AT_SYMLINK_NOFOLLOW
        )

    def _whole(self, call: Call, notification: seccomp.Notification, path: bytes, *, tidy: bool = True) -> bytes | None:
        """Return the relative *path* from the root of the step on; *tidy*: without what leads nowhere."""
        try:
            directory = self._directory(call, notification)
        except OSError:
            return None
        meant = self._from_root(directory)
        if meant is None:
            return None
        whole = meant + b"/" + path
        return outside.normal(whole) if tidy else whole

    def _from_root(self, directory: bytes) -> bytes | None:
        """Return what *directory*, as seen from here, is for the step; None for one that is nowhere in the tree."""
        meant = self._stubs.meaning(directory)
        if meant is None and outside.is_below(directory, self._top):
            return directory[len(self._top) :]
        return meant

    # --- answers ------------------------------------------------------------------------------------------------------

    def _flags(self, call: Call, notification: seccomp.Notification) -> int:
        if call.flags < 0:  # creat(2)
            return os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        if call.kind != "openat2":
            return notification.arguments[call.flags] & 0xFFFFFFFF
        count = syscalls.process_vm_read(
            notification.pid, notification.arguments[call.flags], self._buffer, _OPEN_HOW.size
        )
        if count < _OPEN_HOW.size:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return int(_OPEN_HOW.unpack_from(self._buffer)[0])

    def _open(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        flags = self._flags(call, notification)
        if isinstance(target, outside.Magic | outside.Own) and not flags & os.O_PATH and self._may_wait(target):
            if os.fork() == 0:  # reaped with whatever the step leaves behind
                self._open_in_child(notification, target, flags)
            return
        fd = target.open(flags & ~os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                fd = self._safe_directory(fd, target, flags)
            seccomp.answer_with_descriptor(self._listener, notification, fd, close_on_exec=bool(flags & os.O_CLOEXEC))
        finally:
            os.close(fd)

    @staticmethod
    def _may_wait(target: outside.Target) -> bool:
        """Tell whether opening it may wait for somebody: a pipe with a name, for its other end."""
        if isinstance(target, outside.Magic) and target.read_link().startswith(b"pipe:"):
            return False  # one without a name never does
        fd = target.look(follow=True)
        try:
            return stat.S_ISFIFO(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    def _open_in_child(self, notification: seccomp.Notification, target: outside.Target, flags: int) -> NoReturn:
        try:
            fd = target.open(flags & ~os.O_CLOEXEC)
            seccomp.answer_with_descriptor(self._listener, notification, fd, close_on_exec=bool(flags & os.O_CLOEXEC))
        except OSError as err:
            seccomp.answer(self._listener, notification, error=err.errno or errno.EIO)
        finally:
            os._exit(0)

    def _safe_directory(self, fd: int, target: outside.Target, flags: int) -> int:
        """Return what may be given to a step in place of the directory *fd*, which is closed if it is something else."""
        if not isinstance(target, outside.Plain | outside.Text):
            if not outside.is_below(os.fsencode(os.readlink(f"/proc/self/fd/{fd}")), self._top):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return fd
        meant = outside.normal(os.fsencode(os.readlink(f"/proc/self/fd/{fd}")))
        entries = self._entries(meant)
        if self._changed:
            self._become_root()
        stub = self._stubs.open(meant, entries, flags)
        os.close(fd)
        return stub

    def _entries(self, directory: bytes) -> list[tuple[bytes, int]]:
        found = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if directory == b"/proc" and entry.name.isdigit() and not outside.is_visible(entry.name, self._root):
                    continue
                if outside.is_hidden(directory + b"/" + entry.name):
                    continue
                if directory == b"/dev/pts" and entry.name not in (b"ptmx", *self._tree.terminals):
                    continue
                kind = stat.S_IFLNK if entry.is_symlink() else stat.S_IFDIR if entry.is_dir() else stat.S_IFREG
                found.append((entry.name, kind))
        return found

    def _read_link(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        text = target.read_link()[: notification.arguments[call.buffer + 1] & 0xFFFFFFFF]
        self._write(notification, notification.arguments[call.buffer], text)
        seccomp.answer(self._listener, notification, value=len(text))

    def _look(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> int:
        return target.look(follow=self._follows(call, notification) or self._is_directory)

    def _tell(
        self, call: Call, notification: seccomp.Notification, target: outside.Target, read: Callable[[int], bytes]
    ) -> None:
        fd = self._look(call, notification, target)
        try:
            data = read(fd)
        finally:
            os.close(fd)
        self._write(notification, notification.arguments[call.buffer], data)
        seccomp.answer(self._listener, notification)

    def _stat(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        self._tell(call, notification, target, syscalls.raw_stat)

    def _stat64(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        self._tell(call, notification, target, forms.stat64)

    def _statx(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        mask = notification.arguments[call.buffer - 1] & 0xFFFFFFFF
        self._tell(call, notification, target, lambda fd: syscalls.raw_statx(fd, mask))

    def _statfs(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        self._tell(call, notification, target, syscalls.raw_statfs)

    def _statfs64(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        self._tell(call, notification, target, lambda fd: forms.statfs64(syscalls.raw_statfs(fd)))

    def _access(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        fd = self._look(call, notification, target)
        try:
            wanted = notification.arguments[call.path + 1] & (os.R_OK | os.W_OK | os.X_OK)
            allowed = not wanted or os.access(f"/proc/self/fd/{fd}", wanted)
        finally:
            os.close(fd)
        seccomp.answer(self._listener, notification, error=0 if allowed else errno.EACCES)

    def _attribute(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        os.close(self._look(call, notification, target))
        seccomp.answer(self._listener, notification, error=errno.ENOTSUP)

    def _execute(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        """Let the kernel execute what a link of /proc points to: its path in the tree takes the place of the link's."""
        text = target.path if isinstance(target, outside.Own) else target.read_link()
        self._replace(call, notification, text)

    def _enter(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        """Let the kernel enter the stand-in of a directory."""
        if isinstance(target, outside.Own):
            self._replace(call, notification, target.path)
            return
        if isinstance(target, outside.Magic):
            self._replace(call, notification, target.read_link())
            return
        fd = target.open(os.O_RDONLY | os.O_DIRECTORY)
        meant = outside.normal(os.fsencode(os.readlink(f"/proc/self/fd/{fd}")))
        self._stubs.used = True
        if meant in (b"/proc", b"/sys"):
            os.close(fd)
            seccomp.proceed(self._listener, notification)
            return
        os.close(self._safe_directory(fd, target, os.O_RDONLY))
        self._overwrite(call, notification, self._stubs.path(meant))

    def _replace(self, call: Call, notification: seccomp.Notification, text: bytes) -> None:
        if self._changed:
            self._become_root()
        self._overwrite(call, notification, self._stubs.link(text))

    def _overwrite(self, call: Call, notification: seccomp.Notification, path: bytes) -> None:
        """Write *path* over the caller's argument, which may be in memory that it cannot write itself, and let the kernel go on."""
        address = notification.arguments[call.path]
        known = self._read_path(notification.pid, address)
        if known is None or len(known) < len(path) or not seccomp.still_waiting(self._listener, notification):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        memory = os.open(f"/proc/{notification.pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(memory, path + b"\0", address)
        finally:
            os.close(memory)
        seccomp.proceed(self._listener, notification)

    def _from_memory(self, call: Call, notification: seccomp.Notification, source: int) -> bool:
        """Give the file *source*, which is not in the tree, in place of what marks its place there."""
        flags = self._flags(call, notification)
        if flags & os.O_PATH:
            return False
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        fd = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            seccomp.answer_with_descriptor(self._listener, notification, fd, close_on_exec=bool(flags & os.O_CLOEXEC))
        finally:
            os.close(fd)
        return True

    # --- changes ------------------------------------------------------------------------------------------------------

    def _change(
        self, call: Call, notification: seccomp.Notification, target: outside.Target, change: Callable[[str], None]
    ) -> None:
        """Change what is the step's own: a file that it has open, or one of its tree. Nothing else may be."""
        if not target.changeable or not self._follows(call, notification):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        fd = target.look(follow=True)
        try:
            change(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        seccomp.answer(self._listener, notification)

    def _mode(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        mode = notification.arguments[call.path + 1] & 0o7777
        self._change(call, notification, target, lambda path: os.chmod(path, mode))

    def _owner(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        uid, gid = (_id(notification.arguments[call.path + number]) for number in (1, 2))
        self._change(call, notification, target, lambda path: os.chown(path, uid, gid))

    def _times(self, call: Call, notification: seccomp.Notification, target: outside.Target) -> None:
        times = self._read_times(call, notification)
        self._change(call, notification, target, lambda path: _set_times(path, times))

    def _read_times(self, call: Call, notification: seccomp.Notification) -> tuple[int, ...] | None:
        """Return seconds and nanoseconds of both times as utimensat(2) wants them; None for now."""
        address = notification.arguments[call.buffer]
        if not address:
            return None
        form = forms.TIMES_32 if call.kind == "times32" else forms.TIMES
        if syscalls.process_vm_read(notification.pid, address, self._buffer, form.size) < form.size:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return tuple(form.unpack_from(self._buffer))


def _not_following(call: Call) -> int:
    """Return the bits of the flags that keep *call* from following a link at the end of its path; all if it never does."""
    if call.flags < 0:
        return 0 if call.follow else -1
    if call.kind == "openat2":  # its flags are elsewhere
        return 0
    return os.O_NOFOLLOW if call.kind == "open" else syscalls.AT_SYMLINK_NOFOLLOW


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
