"""The short way for the calls that a step without capabilities makes by the thousand: listing files, making them, giving them to root.

Nearly always the file has no note, its mode hinders nobody, and who asks is root; then the kernel does what root would get, or all that is
to change are two numbers. That is found out with one look at the file. Whatever is out of the ordinary goes the long way (`fake_root`),
which decides it alone: a shortcut never refuses a call and never writes a note.

*plain* files are those of which a look has found no note. Nobody makes one without going the long way, and each call that does empties the
list, but for attributes that a step sets itself: the kernel does that later, so from then on nothing is remembered.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.files.xattrs import MODE
from img_core.linux import syscalls
from img_lib_containers import call_numbers, seccomp
from img_lib_containers.owner_calls import Refusal
from img_lib_containers.permissions import hands_down_a_list
from img_lib_containers.seccomp import RAW_ARCHITECTURE, RAW_NUMBER, RAW_PID, RawCall
from img_lib_containers.seccomp import RAW_ARGUMENTS as _FIRST
from img_lib_containers.statuses import Status
from img_lib_containers.supervised_calls import CALLS, SupervisedCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_lib_containers.fake_root import FakeRecords
    from img_lib_containers.identities import Identities
    from img_lib_containers.owner_calls import Viewpoint
    from img_lib_containers.standing import StandingDirectories

__all__ = ["Shortcuts"]

_SYSTEM: Final = (b"/proc/", b"/sys/", b"/dev/")
_SHORT: Final = 3  # paths that may mean the root directory
_MARKS: Final = frozenset((OWNER_ATTRIBUTE, os.fsdecode(MODE)))
_AT_FDCWD: Final = syscalls.AT_FDCWD & 0xFFFFFFFF
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_TO_ROOT: Final = (0, 0xFFFFFFFF)  # 0xFFFFFFFF: stays as it is
_NEW: Final = os.O_CREAT | os.O_EXCL
_LONG_WAY: Final = os.O_PATH | (os.O_TMPFILE & ~os.O_DIRECTORY)
_CREAT: Final = os.O_CREAT | os.O_WRONLY | os.O_TRUNC  # creat(2)
_OF_ACCESS: Final = {os.O_RDONLY: 0o400, os.O_WRONLY: 0o200}
_MOST: Final = 1 << 16  # files that are remembered

_NATIVE: Final = {"x86_64": call_numbers.X86_64, "aarch64": call_numbers.AARCH64}.get(syscalls.MACHINE, 0)
#: kinds of calls that make no notes, whoever answers them
_WITHOUT_NOTES: Final = ("identity", "keep", "umask", "enter", "entry", "get attribute")


class Shortcuts:
    """Answers calls of one step that are ordinary; *elsewhere* are devices of files that a path of ours would not show as the caller's."""

    def __init__(
        self,
        listener: int,
        view: Viewpoint,
        records: FakeRecords,
        identities: Identities,
        *,
        elsewhere: frozenset[int],
        standing: StandingDirectories | None,
    ) -> None:
        self._listener = listener
        self._view = view
        self._records = records
        self._permissions = records.permissions
        self._identities = identities
        self._elsewhere = elsewhere
        self._standing = standing
        self._uid, self._gid = os.getuid(), os.getgid()
        self._status = Status()
        self._plain: set[tuple[int, int]] = set()
        self._remembers = True
        ways: dict[str, Callable[[RawCall, SupervisedCall], bool]] = {
            "stat": self._show,
            "statx": self._show,
            "owner": self._give,
            "mode": self._change_mode,
            "open": self._open,
            "directory": self._make,
            "link": self._make,
            "program": self._execute,
            "access": self._access,
        }
        self._ways = {
            number: (ways[call.kind], call) for number, call in CALLS.get(_NATIVE, {}).items() if call.kind in ways
        }
        self._harmless = frozenset(
            number for number, call in CALLS.get(_NATIVE, {}).items() if call.kind in _WITHOUT_NOTES
        )

    def take(self, raw: RawCall) -> bool:
        """Answer an ordinary call; return False for one that has to go the long way."""
        found = self._ways.get(raw[RAW_NUMBER])
        if found is not None and raw[RAW_ARCHITECTURE] == _NATIVE and found[0](raw, found[1]):
            return True
        if raw[RAW_NUMBER] not in self._harmless or raw[RAW_ARCHITECTURE] != _NATIVE:
            self._plain.clear()
        return False

    def forget(self) -> None:
        """Remember nothing any more: the step itself sets what may be a note."""
        self._remembers = False

    # --- what they are about ------------------------------------------------------------------------------------------

    def _path(self, raw: RawCall, call: SupervisedCall, flags: int = 0) -> bytes | None:
        """Return the path that a call has, empty if it is about a descriptor; None if there is more to it."""
        if call.path < 0:
            return b""
        pointer = raw[_FIRST + call.path]
        try:
            path = self._view.read_path(raw[RAW_PID], pointer) if pointer else b""
        except Refusal:
            return None
        if not path:
            return b"" if flags & syscalls.AT_EMPTY_PATH else None
        if path.startswith(_SYSTEM) or (len(path) < _SHORT and self._view.stand_in):
            return None
        return None if self._standing is not None and self._standing.may_mean(path) else path

    def _is_elsewhere(self, device: int, mode: int) -> bool:
        """Tell whether a path may have led to a process or a descriptor of ours instead of the caller's."""
        return device in self._elsewhere or stat.S_ISCHR(mode)  # no step can make one

    def _is_roots(self, raw: RawCall) -> bool:
        try:
            return self._identities.is_root(raw[RAW_PID])
        except OSError:
            return False

    def _is_plain(self, name: bytes, key: tuple[int, int], mode: int) -> bool:
        """Tell whether nothing is noted of a file with that device and inode."""
        if key in self._plain:
            return True
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            if key in self._records.inodes:
                return False
        else:
            try:
                if not _MARKS.isdisjoint(os.listxattr(name)):
                    return False
            except OSError as err:
                if err.errno != errno.ENOTSUP:
                    return False
        if self._remembers:
            if len(self._plain) == _MOST:
                self._plain.clear()
            self._plain.add(key)
        return True

    def _look(self, raw: RawCall, call: SupervisedCall, flags: int = 0) -> tuple[bytes, os.stat_result] | None:
        """Return name and looks of a file or directory of ours of which nothing is noted, or None. Raises OSError if there is none."""
        path = self._path(raw, call, flags)
        if path is None:
            return None
        name = _name_of(raw, call, path)
        follow = not path or (call.follow and not flags & syscalls.AT_SYMLINK_NOFOLLOW)
        info = os.stat(name, follow_symlinks=follow)
        mode = info.st_mode
        ordinary = (
            info.st_uid == self._uid
            and (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
            and not (mode & _SET_ID and stat.S_ISREG(mode))
            and info.st_dev not in self._elsewhere
            and self._is_plain(name, (info.st_dev, info.st_ino), mode)
        )
        return (name, info) if ordinary else None

    def _proceed(self, raw: RawCall) -> bool:
        seccomp.proceed_raw(self._listener, raw)
        return True

    # --- calls --------------------------------------------------------------------------------------------------------

    def _show(self, raw: RawCall, call: SupervisedCall) -> bool:
        """Show a file, also one with notes."""
        flags = raw[_FIRST + call.flags] if call.flags >= 0 else 0
        path = self._path(raw, call, flags)
        if path is None:
            return False
        status, name = self._status, _name_of(raw, call, path)
        follow = not path or (call.follow and not flags & syscalls.AT_SYMLINK_NOFOLLOW)  # what is open is behind a link
        mask = raw[_FIRST + 3] & 0xFFFFFFFF if call.kind == "statx" else None
        if error := status.read(name, follow=follow, mask=mask):
            return error != errno.EACCES and self._proceed(raw)  # the kernel will find it, too
        if path and self._is_elsewhere(status.device, status.mode):
            return False
        if status.uid != self._uid:
            return self._proceed(raw)
        key = (status.device, status.inode)
        if self._is_plain(name, key, status.mode):
            owner, permissions = None, -1
        else:
            owner, permissions = self._noted(name, key, status.mode)
        if owner is None:
            if not self._uid and permissions < 0:
                return self._proceed(raw)
            owner = (0, 0 if status.gid == self._gid else status.gid)
        status.show(owner, permissions)
        if seccomp.waits_raw(self._listener, raw):
            written = status.give(raw[RAW_PID], raw[_FIRST + call.value])
            seccomp.answer_raw(self._listener, raw, error=0 if written else errno.EFAULT)
        return True

    def _noted(self, name: bytes, key: tuple[int, int], mode: int) -> tuple[tuple[int, int] | None, int]:
        """Return owner and permissions that are noted of a file; None and -1: nothing."""
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return self._records.inodes.get(key), self._permissions.special.get(key, -1)
        try:
            noted = self._permissions.mode_of(name, os.stat(name))
            return self._records.owner(name), noted if noted != stat.S_IMODE(mode) else -1
        except OSError:  # it is gone
            return None, -1

    def _give(self, raw: RawCall, call: SupervisedCall) -> bool:
        """Give a file to root, whose it is."""
        at = _FIRST + call.value
        if raw[at] & 0xFFFFFFFF not in _TO_ROOT or raw[at + 1] & 0xFFFFFFFF not in _TO_ROOT or not self._is_roots(raw):
            return False
        flags = raw[_FIRST + call.flags] if call.flags >= 0 else 0
        try:
            found = self._look(raw, call, flags)
            if found is None or found[1].st_gid != self._gid:
                return False
            if self._uid:
                os.chown(found[0], -1, -1)  # a new time of change
                seccomp.answer_raw(self._listener, raw)
                return True
        except OSError:
            return False
        return self._proceed(raw)

    def _change_mode(self, raw: RawCall, call: SupervisedCall) -> bool:
        """Give a file a mode with which its owner may read it, and a directory one with which he may use it."""
        mode = raw[_FIRST + call.value]
        try:
            found = self._look(raw, call)
        except OSError:
            return False
        if found is None:
            return False
        directory = stat.S_ISDIR(found[1].st_mode)
        return not self._permissions.is_closed(mode, directory=directory) and self._proceed(raw)

    def _open(self, raw: RawCall, call: SupervisedCall) -> bool:
        """Open a file that is there and may be written, or make one."""
        flags = raw[_FIRST + call.flags] & 0xFFFFFFFF if call.flags >= 0 else _CREAT
        if flags & _LONG_WAY:
            return False
        path = self._path(raw, call)
        if not path:
            return False
        name = _name_of(raw, call, path)
        if flags & _NEW == _NEW:
            return self._make_at(name, raw[_FIRST + call.value], raw)
        try:
            info = os.stat(name, follow_symlinks=not flags & os.O_NOFOLLOW)
        except FileNotFoundError:
            return bool(flags & os.O_CREAT) and self._make_at(name, raw[_FIRST + call.value], raw)
        except OSError:
            return False
        wanted = _OF_ACCESS.get(flags & os.O_ACCMODE, 0o600) | (0o200 if flags & os.O_TRUNC else 0)
        mode = info.st_mode
        if info.st_uid != self._uid or self._is_elsewhere(info.st_dev, mode):
            return False
        return mode & wanted == wanted and not mode & _SET_ID and self._proceed(raw)

    def _make(self, raw: RawCall, call: SupervisedCall) -> bool:
        """Make a directory or a link."""
        link = call.kind == "link"
        if link and self._records.inodes:  # the new one may have the number of one that is gone
            return False
        path = self._path(raw, call)
        mode = 0o777 if link else raw[_FIRST + call.value]
        return bool(path) and self._make_at(_name_of(raw, call, path or b""), mode, raw, directory=not link)

    def _make_at(self, name: bytes, mode: int, raw: RawCall, *, directory: bool = False) -> bool:
        if (
            self._permissions.masked
            or self._permissions.is_closed(mode, directory=directory)
            or not self._is_roots(raw)
        ):
            return False
        parent = _parent(name)
        try:
            above = os.stat(parent)
        except OSError:
            return False
        return not (above.st_mode & stat.S_ISGID or hands_down_a_list(parent)) and self._proceed(raw)

    def _execute(self, raw: RawCall, call: SupervisedCall) -> bool:
        """Execute a program that gives no other rights."""
        if call.flags >= 0 or not self._is_roots(raw):
            return False
        try:
            found = self._look(raw, call)
        except FileNotFoundError:
            return self._proceed(raw)
        except OSError:
            return False
        return found is not None and self._proceed(raw)

    def _access(self, raw: RawCall, call: SupervisedCall) -> bool:
        """Ask for what the owner may do, and so may root."""
        if call.flags >= 0:
            return False
        wanted = (raw[_FIRST + call.value] & 0o7) << 6
        try:
            found = self._look(raw, call)
        except FileNotFoundError:
            return self._proceed(raw)
        except OSError:
            return False
        return found is not None and found[1].st_mode & wanted == wanted and self._proceed(raw)


def _name_of(raw: RawCall, call: SupervisedCall, path: bytes) -> bytes:
    """Return a name of the file that a call is about, see `permissions`; without a *path* that of its descriptor."""
    if path[:1] == b"/":
        return path
    number = raw[_FIRST + call.directory] & 0xFFFFFFFF if call.directory >= 0 else _AT_FDCWD
    if number == _AT_FDCWD:
        return b"%d/cwd/%b" % (raw[RAW_PID], path)
    return b"%d/fd/%d/%b" % (raw[RAW_PID], number, path) if path else b"%d/fd/%d" % (raw[RAW_PID], number)


def _parent(name: bytes) -> bytes:
    return name.rstrip(b"/").rpartition(b"/")[0] or b"/"
