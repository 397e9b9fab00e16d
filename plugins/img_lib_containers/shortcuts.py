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
from img_core.files.xattrs import DEFAULT_LIST, MODE, hands_down_a_list
from img_core.linux import syscalls
from img_lib_containers import call_numbers
from img_lib_containers.owner_calls import Refusal
from img_lib_containers.seccomp import Channel
from img_lib_containers.statuses import Status, WideStatus
from img_lib_containers.supervised_calls import CALLS, SupervisedCall

if TYPE_CHECKING:
    from img_lib_containers.fake_root import FakeRecords
    from img_lib_containers.identities import Identities
    from img_lib_containers.owner_calls import Viewpoint
    from img_lib_containers.standing import StandingDirectories

__all__ = ["Shortcuts"]

_SYSTEM: Final = (b"/proc/", b"/sys/", b"/dev/")
_SHORT: Final = 3  # paths that may mean the root directory
_SHORT_PATH: Final = 256  # what is read at first, since hardly any path is longer
#: notes, and what has a directory hand down permissions
_MARKS: Final = frozenset((OWNER_ATTRIBUTE, os.fsdecode(MODE), DEFAULT_LIST))
_EMPTY_PATH: Final = syscalls.AT_EMPTY_PATH
_NO_FOLLOW: Final = syscalls.AT_SYMLINK_NOFOLLOW
_MASK: Final = 3  # the argument of statx(2)
_AT_FDCWD: Final = syscalls.AT_FDCWD & 0xFFFFFFFF
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_KIND: Final = 0o170000  # S_IFMT, of the kinds
_FILE: Final = stat.S_IFREG
_TO_ROOT: Final = (0, 0xFFFFFFFF)  # 0xFFFFFFFF: stays as it is
_NEW: Final = os.O_CREAT | os.O_EXCL
_LONG_WAY: Final = os.O_PATH | (os.O_TMPFILE & ~os.O_DIRECTORY)
_CREAT: Final = os.O_CREAT | os.O_WRONLY | os.O_TRUNC  # creat(2)
_OF_ACCESS: Final = {os.O_RDONLY: 0o400, os.O_WRONLY: 0o200}
_SLASH: Final = 0x2F
_MOST_NAMES: Final = 1 << 12
_MOST: Final = 1 << 16  # files that are remembered

_FIRST: Final = Channel.ARGUMENTS
_LEFT, _GOES_ON, _DONE, _FAULT = Channel.LEFT, Channel.GOES_ON, Channel.DONE, Channel.FAULT

_OWN: Final = b"/proc/self/fd/"
_ROOT: Final = (0, 0)

_NATIVE: Final = {"x86_64": call_numbers.X86_64, "aarch64": call_numbers.AARCH64}.get(syscalls.MACHINE, 0)
Named = tuple[
    bytes, bool
]  #: a name as in `permissions`, and whether it is a descriptor's, so that no link is at its end
Way = Callable[[], int]


class Shortcuts:
    """Answers calls of one step that are ordinary; *elsewhere* are devices of files that a path of ours would not show as the caller's."""

    def __init__(
        self,
        channel: Channel,
        view: Viewpoint,
        records: FakeRecords,
        identities: Identities,
        *,
        elsewhere: frozenset[int],
        standing: StandingDirectories | None,
    ) -> None:
        self._channel = channel
        self._words, self._pid = channel.words, channel.pid
        self._view = view
        self._records = records
        self._permissions = records.permissions
        self._identities = identities
        self._elsewhere = elsewhere
        self._standing = standing
        self._uid, self._gid = os.getuid(), os.getgid()
        self._narrow, self._wide = Status(channel.pid), WideStatus(channel.pid)
        self._short_path = syscalls.MemoryReader(view.buffer, channel.pid).texts(_SHORT_PATH)
        self._may_mean = self._meaning()
        self._remembers = True
        self._descriptors: dict[tuple[int, int], tuple[bytes, Named]] = {}
        makers: dict[str, Callable[[SupervisedCall], Way]] = {
            "stat": self._showing,
            "statx": self._showing,
            "owner": self._giving,
            "mode": self._changing_mode,
            "open": self._opening,
            "directory": self._making,
            "link": self._making,
            "program": self._executing,
            "access": self._accessing,
        }
        if standing is not None:
            makers |= {"entry": self._entering, "enter": self._entering}
        #: what answers a call if it is ordinary, and returns `LEFT` for one that has to go the long way
        ways = {
            channel.call_of(_NATIVE, number): makers[call.kind](call)
            for number, call in CALLS.get(_NATIVE, {}).items()
            if call.kind in makers
        }
        way_of, words, which = ways.get, channel.words, channel.CALL

        def take() -> int:
            way = way_of(words[which])
            return way() if way is not None else _LEFT

        #: does with the call in the channel what is ordinary, or leaves it for the long way, as `Channel.calls` asks for
        self.take = take

    def forget(self) -> None:
        """Remember nothing any more: the step itself sets what may be a note."""
        self._remembers = False
        self._records.plain.clear()

    # --- what they are about ------------------------------------------------------------------------------------------

    def _meaning(self) -> Callable[[bytes], bool]:
        """Return what tells whether a path may mean a directory that stands in ``/``, or a root that is elsewhere."""
        standing, shortest = self._standing, _SHORT if self._view.stand_in else 1
        if standing is None:
            return lambda path: len(path) < shortest
        may_mean = standing.may_mean
        return lambda path: len(path) < shortest or may_mean(path)

    def _read_long_path(self, pointer: int) -> bytes | None:
        """Read what `_short_path` could not; None if there is nothing to be read."""
        try:
            return self._view.read_path(self._pid.value, pointer)
        except Refusal:
            return None

    def _naming(self, call: SupervisedCall, *, descriptors: bool = False) -> Callable[[int], Named | None]:
        """Return what names the file of a call with such flags, and returns None if there is more to it.

        *descriptors*: also by a path that names a descriptor, as C libraries do to change the mode of what is no link.
        """
        path_at = _FIRST + call.path if call.path >= 0 else 0
        directory_at = _FIRST + call.directory if call.directory >= 0 else 0
        short_path, long_path, may_mean = self._short_path, self._read_long_path, self._may_mean
        known, describe, words, process = self._descriptors.get, self._name_descriptor, self._words, self._pid

        def name_of(flags: int) -> Named | None:
            pid, path = process.value, b""
            if path_at and (pointer := words[path_at]):
                found = short_path(pointer)
                if found is None and (found := long_path(pointer)) is None:
                    return None
                path = found
            if path:
                if path[0] == _SLASH:
                    if not path.startswith(_SYSTEM):
                        return None if may_mean(path) else (path, False)
                    number = path[len(_OWN) :]
                    own = descriptors and path.startswith(_OWN) and number.isdigit()
                    return (b"%d/fd/%b" % (pid, number), True) if own else None
                if may_mean(path):
                    return None
            elif path_at and not flags & _EMPTY_PATH:
                return None
            number_of_directory = words[directory_at] & 0xFFFFFFFF if directory_at else _AT_FDCWD
            directory = known((pid, number_of_directory)) or describe(pid, number_of_directory)
            return (directory[0] + path, False) if path else directory[1]

        return name_of

    def _name_descriptor(self, pid: int, number: int) -> tuple[bytes, Named]:
        """Return how names begin that start at a descriptor, or at the working directory (AT_FDCWD), and its own name.

        Making these takes a while.
        """
        if len(self._descriptors) == _MOST_NAMES:
            self._descriptors.clear()
        name = b"%d/cwd" % pid if number == _AT_FDCWD else b"%d/fd/%d" % (pid, number)
        named = self._descriptors[pid, number] = name + b"/", (name, True)
        return named

    def _looking(
        self, call: SupervisedCall, *, descriptors: bool = False, links: bool = False
    ) -> Callable[[int], tuple[bytes, os.stat_result] | None]:
        """Return what gives name and looks of a file or directory of ours of which nothing is noted, or None; with *links*, of one, too.

        It raises OSError if there is none.
        """
        name_of, look, plain = self._naming(call, descriptors=descriptors), os.stat, self._records.plain
        itself, uid, is_plain = _itself(call), self._uid, self._is_plain
        kinds = (_FILE, stat.S_IFDIR, stat.S_IFLNK) if links else (_FILE, stat.S_IFDIR)

        def found(flags: int) -> tuple[bytes, os.stat_result] | None:
            named = name_of(flags)
            if named is None:
                return None
            name, is_open = named
            info = look(name, follow_symlinks=is_open or not itself | flags & _NO_FOLLOW)
            mode = info.st_mode
            kind = mode & _KIND
            if info.st_uid != uid or kind not in kinds:
                return None
            if mode & _SET_ID and kind == _FILE:
                return None
            key = info.st_dev, info.st_ino
            ordinary = key in plain or (info.st_dev not in self._elsewhere and is_plain(name, key, mode))
            return (name, info) if ordinary else None

        return found

    def _is_elsewhere(self, device: int, mode: int) -> bool:
        """Tell whether a path may have led to a process or a descriptor of ours instead of the caller's."""
        return device in self._elsewhere or stat.S_ISCHR(mode)  # no step can make one

    def _is_roots(self) -> bool:
        try:
            return self._identities.is_root(self._pid.value)
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

    def _status_of(self, call: SupervisedCall) -> Status:
        return self._wide if call.kind == "statx" else self._narrow

    def _showing(self, call: SupervisedCall) -> Way:
        """Show a file, also one with notes. Where the files of root are ours the kernel does nearly always."""
        name_of, plain, words, status = self._naming(call), self._records.plain, self._words, self._status_of(call)
        flags_at, itself, value_at, mask_at = _flags_of(call), _itself(call), _FIRST + call.value, _FIRST + _MASK
        read, give, waits, uid, gid = status.read, status.give, self._channel.waits, self._uid, self._gid

        def show() -> int:
            flags = words[flags_at] if flags_at else 0
            named = name_of(flags)
            if named is None:
                return _LEFT
            name, is_open = named
            how = 0 if is_open else itself | flags & _NO_FOLLOW
            found = read(name, how, words[mask_at])
            if found is None:
                return _LEFT if ctypes.get_errno() == errno.EACCES else _GOES_ON  # the kernel will find it, too
            device, inode, mode, owner, group = found
            key = device, inode
            if key not in plain:
                if not is_open and self._is_elsewhere(device, mode):
                    return _LEFT
                if owner != uid:
                    return _GOES_ON
                if not self._is_plain(name, key, mode):
                    return self._show_noted(call, name, how)
            if not uid:
                return _GOES_ON
            if waits() and not give(words[value_at], 0, 0 if group == gid else group):
                return _FAULT
            return _DONE

        return show

    def _show_noted(self, call: SupervisedCall, name: bytes, how: int) -> int:
        """Show a file of ours that has notes; *how*: flags of newfstatat(2)."""
        status, words = self._status_of(call), self._words
        found = status.read(name, how, words[_FIRST + _MASK])
        if found is None:
            return _LEFT
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
        if self._channel.waits() and not status.give(words[_FIRST + call.value], *owner, permissions):
            return _FAULT
        return _DONE

    def _giving(self, call: SupervisedCall) -> Way:
        """Give a file to root, whose it is, or a link, which may have another owner in the layers below: so that is noted."""
        found_of, at, flags_at = self._looking(call, links=True), _FIRST + call.value, _flags_of(call)
        words = self._words

        def give() -> int:
            if words[at] & 0xFFFFFFFF not in _TO_ROOT or words[at + 1] & 0xFFFFFFFF not in _TO_ROOT:
                return _LEFT
            if not self._is_roots():
                return _LEFT
            try:
                found = found_of(words[flags_at] if flags_at else 0)
                if found is None or found[1].st_gid != self._gid:
                    return _LEFT
                name, info = found
                link = stat.S_ISLNK(info.st_mode)
                if self._uid:
                    os.chown(name, -1, -1, follow_symlinks=not link)  # a new time of change
            except OSError:
                return _LEFT
            if link:
                self._records.inodes[info.st_dev, info.st_ino] = _ROOT
            return _DONE if self._uid else _GOES_ON

        return give

    def _changing_mode(self, call: SupervisedCall) -> Way:
        """Give a file a mode with which its owner may read it, and a directory one with which he may use it."""
        found_of, at, is_closed = (
            self._looking(call, descriptors=True),
            _FIRST + call.value,
            self._permissions.is_closed,
        )
        words = self._words

        def change() -> int:
            try:
                found = found_of(0)
            except OSError:
                return _LEFT
            if found is None or is_closed(words[at], directory=stat.S_ISDIR(found[1].st_mode)):
                return _LEFT
            return _GOES_ON

        return change

    def _opening(self, call: SupervisedCall) -> Way:
        """Open a file that is there and may be written, or make one."""
        name_of, flags_at, mode_at = self._naming(call), _flags_of(call), _FIRST + call.value
        words = self._words

        def open_or_make() -> int:
            flags = words[flags_at] & 0xFFFFFFFF if flags_at else _CREAT
            named = None if flags & _LONG_WAY else name_of(0)
            if named is None:
                return _LEFT
            name = named[0]
            if flags & _NEW == _NEW:
                return self._make_at(name, words[mode_at])
            try:
                info = os.stat(name, follow_symlinks=not flags & os.O_NOFOLLOW)
            except FileNotFoundError:
                return self._make_at(name, words[mode_at]) if flags & os.O_CREAT else _LEFT
            except OSError:
                return _LEFT
            wanted = _OF_ACCESS.get(flags & os.O_ACCMODE, 0o600) | (0o200 if flags & os.O_TRUNC else 0)
            mode = info.st_mode
            if info.st_uid != self._uid or self._is_elsewhere(info.st_dev, mode):
                return _LEFT
            return _GOES_ON if mode & wanted == wanted and not mode & _SET_ID else _LEFT

        return open_or_make

    def _making(self, call: SupervisedCall) -> Way:
        """Make a directory or a link."""
        name_of, mode_at, link, records = self._naming(call), _FIRST + call.value, call.kind == "link", self._records

        words = self._words

        def make() -> int:
            if link and records.others:  # the new one may have the number of one that is gone
                return _LEFT
            named = name_of(0)
            if named is None:
                return _LEFT
            return self._make_at(named[0], 0o777 if link else words[mode_at], directory=not link)

        return make

    def _make_at(self, name: bytes, mode: int, *, directory: bool = False) -> int:
        permissions = self._permissions
        if permissions.masked or permissions.is_closed(mode, directory=directory) or not self._is_roots():
            return _LEFT
        parent = name.rstrip(b"/").rpartition(b"/")[0] or b"/"
        try:
            above = os.stat(parent)
        except OSError:
            return _LEFT
        if above.st_mode & stat.S_ISGID:
            return _LEFT
        key = above.st_dev, above.st_ino
        if key not in self._records.plain:
            plain = above.st_uid == self._uid and self._is_plain(parent, key, above.st_mode)
            if not plain and hands_down_a_list(parent):
                return _LEFT
        return _GOES_ON

    def _executing(self, call: SupervisedCall) -> Way:
        """Execute a program that gives no other rights."""
        found_of, simple = self._looking(call), call.flags < 0

        def execute() -> int:
            if not simple or not self._is_roots():
                return _LEFT
            try:
                return _LEFT if found_of(0) is None else _GOES_ON
            except FileNotFoundError:
                return _GOES_ON
            except OSError:
                return _LEFT

        return execute

    def _accessing(self, call: SupervisedCall) -> Way:
        """Ask for what the owner may do, and so may root."""
        found_of, simple, at = self._looking(call), call.flags < 0, _FIRST + call.value

        words, enter = self._words, self._entering(call) if self._standing is not None else None

        def access() -> int:
            if enter is not None and not words[at] & (os.W_OK | os.X_OK):  # else the filter lets it go on
                return enter()
            if not simple:
                return _LEFT
            wanted = (words[at] & 0o7) << 6
            try:
                found = found_of(0)
            except FileNotFoundError:
                return _GOES_ON
            except OSError:
                return _LEFT
            return _GOES_ON if found is not None and found[1].st_mode & wanted == wanted else _LEFT

        return access

    def _entering(self, call: SupervisedCall) -> Way:
        """Enter, remove, rename or ask for what is no directory that stands in ``/``: the end of a path tells."""
        short_path, words, path_at = self._short_path, self._words, _FIRST + call.path
        assert self._standing is not None
        may_mean = self._standing.may_mean

        def enter() -> int:
            path = short_path(words[path_at])
            return _LEFT if path is None or may_mean(path) else _GOES_ON

        return enter


def _flags_of(call: SupervisedCall) -> int:
    """Return where the flags of a call are in what the kernel tells; 0 if it has none."""
    return _FIRST + call.flags if call.flags >= 0 else 0


def _itself(call: SupervisedCall) -> int:
    """Return the flag of newfstatat(2) with which a link is not followed if the call never does."""
    return 0 if call.follow else _NO_FOLLOW
