"""The short way for the calls that a step without capabilities makes by the thousand: listing files, making them, giving them to root.

Nearly always the file has no note, its mode hinders nobody, and who asks is root; then the kernel does what root would get, or all that is
to change are two numbers. That is found out with one look at the file. Whatever is out of the ordinary goes the long way (`fake_root`),
which decides it alone: a shortcut never refuses a call, and writes no note but that a link is root's.

*plain* files (`PlainFiles`) are those of which a look has found no note. Whoever notes something of a file takes it from the list, but for
attributes that a step sets itself: the kernel does that later, so from then on nothing is remembered.

Each kind of call has a function that is made for the positions of its arguments, and in which as little as possible is looked up by name:
a call costs about as much as the supervisor needs for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.files.xattrs import MODE
from img_core.linux import syscalls
from img_lib_containers import call_numbers, seccomp
from img_lib_containers.owner_calls import Refusal
from img_lib_containers.permissions import DEFAULT_LIST, hands_down_a_list
from img_lib_containers.seccomp import RAW_ARCHITECTURE, RAW_NUMBER, RAW_PID, RawCall
from img_lib_containers.seccomp import RAW_ARGUMENTS as _FIRST
from img_lib_containers.statuses import Status
from img_lib_containers.supervised_calls import CALLS, SupervisedCall

if TYPE_CHECKING:
    from img_lib_containers.fake_root import FakeRecords
    from img_lib_containers.identities import Identities
    from img_lib_containers.owner_calls import Viewpoint
    from img_lib_containers.standing import StandingDirectories

__all__ = ["Shortcuts"]

_SYSTEM: Final = (b"/proc/", b"/sys/", b"/dev/")
_SHORT: Final = 3  # paths that may mean the root directory
#: notes, and what has a directory hand down permissions
_MARKS: Final = frozenset((OWNER_ATTRIBUTE, os.fsdecode(MODE), DEFAULT_LIST))
_AT_FDCWD: Final = syscalls.AT_FDCWD & 0xFFFFFFFF
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_TO_ROOT: Final = (0, 0xFFFFFFFF)  # 0xFFFFFFFF: stays as it is
_NEW: Final = os.O_CREAT | os.O_EXCL
_LONG_WAY: Final = os.O_PATH | (os.O_TMPFILE & ~os.O_DIRECTORY)
_CREAT: Final = os.O_CREAT | os.O_WRONLY | os.O_TRUNC  # creat(2)
_OF_ACCESS: Final = {os.O_RDONLY: 0o400, os.O_WRONLY: 0o200}
_SLASH: Final = 0x2F
_MOST_NAMES: Final = 1 << 12
_MOST: Final = 1 << 16  # files that are remembered

_OWN: Final = b"/proc/self/fd/"
_ROOT: Final = (0, 0)

_NATIVE: Final = {"x86_64": call_numbers.X86_64, "aarch64": call_numbers.AARCH64}.get(syscalls.MACHINE, 0)
Named = tuple[
    bytes, bool
]  #: a name as in `permissions`, and whether it is a descriptor's, so that no link is at its end
Way = Callable[[RawCall], bool]


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
        self._proceed = seccomp.proceeding(listener)
        self._view = view
        self._records = records
        self._permissions = records.permissions
        self._identities = identities
        self._elsewhere = elsewhere
        self._standing = standing
        self._uid, self._gid = os.getuid(), os.getgid()
        self._status = Status()
        self._remembers = True
        self._descriptors: dict[tuple[int, int], bytes] = {}
        makers: dict[str, Callable[[SupervisedCall], Way]] = {
            "stat": self._showing if self._uid else self._showing_ours,
            "statx": self._showing if self._uid else self._showing_ours,
            "owner": self._giving,
            "mode": self._changing_mode,
            "open": self._opening,
            "directory": self._making,
            "link": self._making,
            "program": self._executing,
            "access": self._accessing,
        }
        #: number of a call -> what answers it if it is ordinary, and returns False for one that has to go the long way
        self._ways = {
            number: makers[call.kind](call) for number, call in CALLS.get(_NATIVE, {}).items() if call.kind in makers
        }

    def take(self, raw: RawCall) -> bool:
        """Answer an ordinary call; return False for one that has to go the long way."""
        way = self._ways.get(raw[RAW_NUMBER])
        return way is not None and raw[RAW_ARCHITECTURE] == _NATIVE and way(raw)

    def forget(self) -> None:
        """Remember nothing any more: the step itself sets what may be a note."""
        self._remembers = False
        self._records.plain.clear()

    # --- what they are about ------------------------------------------------------------------------------------------

    def _naming(self, call: SupervisedCall, *, descriptors: bool = False) -> Callable[[RawCall, int], Named | None]:
        """Return what names the file of a call with such flags, and returns None if there is more to it.

        *descriptors*: also by a path that names a descriptor, as C libraries do to change the mode of what is no link.
        """
        path_at = _FIRST + call.path if call.path >= 0 else 0
        directory_at = _FIRST + call.directory if call.directory >= 0 else 0
        read_path, may_mean = self._view.read_path, self._standing.may_mean if self._standing is not None else None
        shortest = _SHORT if self._view.stand_in else 1
        known, name_descriptor = self._descriptors, self._name_descriptor

        def name_of(raw: RawCall, flags: int) -> Named | None:
            pid = raw[RAW_PID]
            try:
                path = read_path(pid, raw[path_at]) if path_at and raw[path_at] else b""
            except Refusal:
                return None
            if path:
                if path.startswith(_SYSTEM):
                    number = path[len(_OWN) :]
                    own = descriptors and path.startswith(_OWN) and number.isdigit()
                    return (b"%d/fd/%b" % (pid, number), True) if own else None
                if len(path) < shortest or (may_mean is not None and may_mean(path)):
                    return None
                if path[0] == _SLASH:
                    return path, False
            elif path_at and not flags & syscalls.AT_EMPTY_PATH:
                return None
            number_of_directory = raw[directory_at] & 0xFFFFFFFF if directory_at else _AT_FDCWD
            found = known.get((pid, number_of_directory))
            if found is None:
                found = name_descriptor(pid, number_of_directory)
            return (found + path, False) if path else (found[:-1], True)

        return name_of

    def _name_descriptor(self, pid: int, number: int) -> bytes:
        """Return how names begin that start at a descriptor, or at the working directory (AT_FDCWD); making that takes a while."""
        if len(self._descriptors) == _MOST_NAMES:
            self._descriptors.clear()
        name = b"%d/cwd/" % pid if number == _AT_FDCWD else b"%d/fd/%d/" % (pid, number)
        self._descriptors[pid, number] = name
        return name

    def _looking(
        self, call: SupervisedCall, *, descriptors: bool = False, links: bool = False
    ) -> Callable[[RawCall, int], tuple[bytes, os.stat_result] | None]:
        """Return what gives name and looks of a file or directory of ours of which nothing is noted, or None; with *links*, of one, too.

        It raises OSError if there is none.
        """
        name_of, look, plain = self._naming(call, descriptors=descriptors), os.stat, self._records.plain
        follows, uid, is_plain = call.follow, self._uid, self._is_plain

        def found(raw: RawCall, flags: int) -> tuple[bytes, os.stat_result] | None:
            named = name_of(raw, flags)
            if named is None:
                return None
            name, is_open = named
            info = look(name, follow_symlinks=is_open or (follows and not flags & syscalls.AT_SYMLINK_NOFOLLOW))
            mode = info.st_mode
            if info.st_uid != uid or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (links and stat.S_ISLNK(mode))):
                return None
            if mode & _SET_ID and stat.S_ISREG(mode):
                return None
            key = info.st_dev, info.st_ino
            ordinary = key in plain or (info.st_dev not in self._elsewhere and is_plain(name, key, mode))
            return (name, info) if ordinary else None

        return found

    def _is_elsewhere(self, device: int, mode: int) -> bool:
        """Tell whether a path may have led to a process or a descriptor of ours instead of the caller's."""
        return device in self._elsewhere or stat.S_ISCHR(mode)  # no step can make one

    def _is_roots(self, raw: RawCall) -> bool:
        try:
            return self._identities.is_root(raw[RAW_PID])
        except OSError:
            return False

    def _is_plain(self, name: bytes, key: tuple[int, int], mode: int) -> bool:
        """Tell whether nothing is noted of a file of ours with that device and inode."""
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return self._records.inodes.get(key, _ROOT) == _ROOT and key not in self._permissions.special
        try:
            if not _MARKS.isdisjoint(os.listxattr(name)):
                return False
        except OSError as err:
            if err.errno != errno.ENOTSUP:
                return False
        plain = self._records.plain
        if self._remembers and key[0] not in self._elsewhere:
            if len(plain) == _MOST:
                plain.clear()
            plain.add(key)
        return True

    # --- calls --------------------------------------------------------------------------------------------------------

    def _showing_ours(self, call: SupervisedCall) -> Way:
        """Show a file, also one with notes, where the files of root are ours: nearly always the kernel does that."""
        name_of, look, plain, proceed = self._naming(call), os.stat, self._records.plain, self._proceed
        flags_at, follows = _flags_of(call), call.follow

        def show(raw: RawCall) -> bool:
            flags = raw[flags_at] if flags_at else 0
            named = name_of(raw, flags)
            if named is None:
                return False
            name, is_open = named
            follow = is_open or (follows and not flags & syscalls.AT_SYMLINK_NOFOLLOW)
            try:
                info = look(name, follow_symlinks=follow)
            except OSError as err:
                return err.errno != errno.EACCES and proceed(raw)  # the kernel will find it, too
            key, mode = (info.st_dev, info.st_ino), info.st_mode
            if key in plain:
                return proceed(raw)
            if not is_open and self._is_elsewhere(info.st_dev, mode):
                return False
            if info.st_uid or self._is_plain(name, key, mode):
                return proceed(raw)
            return self._show_noted(raw, call, name, follow=follow)

        return show

    def _showing(self, call: SupervisedCall) -> Way:
        """Show a file, also one with notes, where those of root are another user's."""
        name_of, read, plain, proceed = self._naming(call), self._status.read, self._records.plain, self._proceed
        flags_at, follows, value_at, wide = _flags_of(call), call.follow, _FIRST + call.value, call.kind == "statx"
        give, waits, answer, listener = self._status.give, seccomp.waits_raw, seccomp.answer_raw, self._listener
        uid, gid = self._uid, self._gid

        def show(raw: RawCall) -> bool:
            flags = raw[flags_at] if flags_at else 0
            named = name_of(raw, flags)
            if named is None:
                return False
            name, is_open = named
            follow = is_open or (follows and not flags & syscalls.AT_SYMLINK_NOFOLLOW)
            found = read(name, follow=follow, mask=raw[_FIRST + 3] & 0xFFFFFFFF if wide else None)
            if found is None:
                return ctypes.get_errno() != errno.EACCES and proceed(raw)  # the kernel will find it, too
            device, inode, mode, owner, group = found
            key = device, inode
            if key not in plain:
                if not is_open and self._is_elsewhere(device, mode):
                    return False
                if owner != uid:
                    return proceed(raw)
                if not self._is_plain(name, key, mode):
                    return self._show_noted(raw, call, name, follow=follow)
            error = 0
            if waits(listener, raw):
                error = give(raw[RAW_PID], raw[value_at], 0, 0 if group == gid else group)
            answer(listener, raw, error=error)
            return True

        return show

    def _show_noted(self, raw: RawCall, call: SupervisedCall, name: bytes, *, follow: bool) -> bool:
        """Show a file of ours that has notes."""
        status = self._status
        mask = raw[_FIRST + 3] & 0xFFFFFFFF if call.kind == "statx" else None
        found = status.read(name, follow=follow, mask=mask)
        if found is None:
            return False
        device, inode, mode, _, group = found
        permissions = -1
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            try:
                permissions = self._permissions.mode_of(name, os.stat(name))
                owner = self._records.owner(name)
            except OSError:  # it is gone
                owner = None
        else:
            owner = self._records.inodes.get((device, inode))
            permissions = self._permissions.special.get((device, inode), -1)
        if owner is None:
            owner = (0, 0 if group == self._gid else group)
        if seccomp.waits_raw(self._listener, raw):
            error = status.give(raw[RAW_PID], raw[_FIRST + call.value], *owner, permissions)
            seccomp.answer_raw(self._listener, raw, error=error)
        return True

    def _giving(self, call: SupervisedCall) -> Way:
        """Give a file to root, whose it is, or a link, which may have another owner in the layers below: so that is noted."""
        found_of, at, flags_at = self._looking(call, links=True), _FIRST + call.value, _flags_of(call)

        def give(raw: RawCall) -> bool:
            if raw[at] & 0xFFFFFFFF not in _TO_ROOT or raw[at + 1] & 0xFFFFFFFF not in _TO_ROOT:
                return False
            if not self._is_roots(raw):
                return False
            try:
                found = found_of(raw, raw[flags_at] if flags_at else 0)
                if found is None or found[1].st_gid != self._gid:
                    return False
                name, info = found
                link = stat.S_ISLNK(info.st_mode)
                if self._uid:
                    os.chown(name, -1, -1, follow_symlinks=not link)  # a new time of change
            except OSError:
                return False
            if link:
                self._records.inodes[info.st_dev, info.st_ino] = _ROOT
            if not self._uid:
                return self._proceed(raw)
            seccomp.answer_raw(self._listener, raw)
            return True

        return give

    def _changing_mode(self, call: SupervisedCall) -> Way:
        """Give a file a mode with which its owner may read it, and a directory one with which he may use it."""
        found_of, at, is_closed = (
            self._looking(call, descriptors=True),
            _FIRST + call.value,
            self._permissions.is_closed,
        )

        def change(raw: RawCall) -> bool:
            try:
                found = found_of(raw, 0)
            except OSError:
                return False
            if found is None or is_closed(raw[at], directory=stat.S_ISDIR(found[1].st_mode)):
                return False
            return self._proceed(raw)

        return change

    def _opening(self, call: SupervisedCall) -> Way:
        """Open a file that is there and may be written, or make one."""
        name_of, flags_at, mode_at = self._naming(call), _flags_of(call), _FIRST + call.value

        def open_or_make(raw: RawCall) -> bool:
            flags = raw[flags_at] & 0xFFFFFFFF if flags_at else _CREAT
            named = None if flags & _LONG_WAY else name_of(raw, 0)
            if named is None:
                return False
            name = named[0]
            if flags & _NEW == _NEW:
                return self._make_at(name, raw[mode_at], raw)
            try:
                info = os.stat(name, follow_symlinks=not flags & os.O_NOFOLLOW)
            except FileNotFoundError:
                return bool(flags & os.O_CREAT) and self._make_at(name, raw[mode_at], raw)
            except OSError:
                return False
            wanted = _OF_ACCESS.get(flags & os.O_ACCMODE, 0o600) | (0o200 if flags & os.O_TRUNC else 0)
            mode = info.st_mode
            if info.st_uid != self._uid or self._is_elsewhere(info.st_dev, mode):
                return False
            return mode & wanted == wanted and not mode & _SET_ID and self._proceed(raw)

        return open_or_make

    def _making(self, call: SupervisedCall) -> Way:
        """Make a directory or a link."""
        name_of, mode_at, link, records = self._naming(call), _FIRST + call.value, call.kind == "link", self._records

        def make(raw: RawCall) -> bool:
            if link and records.others:  # the new one may have the number of one that is gone
                return False
            named = name_of(raw, 0)
            if named is None:
                return False
            return self._make_at(named[0], 0o777 if link else raw[mode_at], raw, directory=not link)

        return make

    def _make_at(self, name: bytes, mode: int, raw: RawCall, *, directory: bool = False) -> bool:
        permissions = self._permissions
        if permissions.masked or permissions.is_closed(mode, directory=directory) or not self._is_roots(raw):
            return False
        parent = name.rstrip(b"/").rpartition(b"/")[0] or b"/"
        try:
            above = os.stat(parent)
        except OSError:
            return False
        if above.st_mode & stat.S_ISGID:
            return False
        key = above.st_dev, above.st_ino
        if key not in self._records.plain:
            plain = above.st_uid == self._uid and self._is_plain(parent, key, above.st_mode)
            if not plain and hands_down_a_list(parent):
                return False
        return self._proceed(raw)

    def _executing(self, call: SupervisedCall) -> Way:
        """Execute a program that gives no other rights."""
        found_of, simple = self._looking(call), call.flags < 0

        def execute(raw: RawCall) -> bool:
            if not simple or not self._is_roots(raw):
                return False
            try:
                return found_of(raw, 0) is not None and self._proceed(raw)
            except FileNotFoundError:
                return self._proceed(raw)
            except OSError:
                return False

        return execute

    def _accessing(self, call: SupervisedCall) -> Way:
        """Ask for what the owner may do, and so may root."""
        found_of, simple, at = self._looking(call), call.flags < 0, _FIRST + call.value

        def access(raw: RawCall) -> bool:
            if not simple:
                return False
            wanted = (raw[at] & 0o7) << 6
            try:
                found = found_of(raw, 0)
            except FileNotFoundError:
                return self._proceed(raw)
            except OSError:
                return False
            return found is not None and found[1].st_mode & wanted == wanted and self._proceed(raw)

        return access


def _flags_of(call: SupervisedCall) -> int:
    """Return where the flags of a call are in what the kernel tells; 0 if it has none."""
    return _FIRST + call.flags if call.flags >= 0 else 0
