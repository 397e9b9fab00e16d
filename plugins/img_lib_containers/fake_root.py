"""A root that is none: a step of a user who has no capability, and the process that makes it believe it has some.

A filter (``fake_root_*.bpf``) stops what that of a single mapped id does (`owner_supervisor`), and what permissions of files can hinder.
To the answers about ids and owners come: permissions that the kernel wants even of an owner are given (`permissions`), all files of our
user are shown as root's, and capabilities of files are noted in the attribute ``user.img.capability``, from where a layer gets them.

Supervisor and step have the same root directory. The supervisor must be an ancestor of the step (Yama, see ptrace(2)) and shares its
user, so nothing here protects it from the step but Landlock's scopes.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from img_core.files.xattrs import CAPABILITY, DEFAULT_LIST, RECORDED_CAPABILITY, hands_down_a_list, portable_capability
from img_core.linux import sandbox, syscalls
from img_lib_containers import seccomp
from img_lib_containers.answering import Answering
from img_lib_containers.identities import ROOT
from img_lib_containers.owner_answers import STAT_KINDS, Asked, Shown, flags_of_opening, may_make
from img_lib_containers.owner_calls import Refusal, open_proc
from img_lib_containers.owner_records import KEEP, OwnerRecords
from img_lib_containers.permissions import Permissions
from img_lib_containers.shortcuts import Shortcuts
from img_lib_containers.standing import StandingDirectories

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["FakeRecords", "FakeRoot", "deliver"]

_SYSTEM: Final = (b"/proc/", b"/sys/", b"/dev/")
_MAKING: Final = ("open", "directory", "link", "node")
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_NEW: Final = os.O_CREAT | os.O_EXCL
_WITHOUT_NAME: Final = os.O_TMPFILE & ~os.O_DIRECTORY
_OF_ACCESS: Final = {os.O_RDONLY: 0o400, os.O_WRONLY: 0o200}
_SHORT: Final = 3  # paths that may mean the root directory
_LONGEST_CAPABILITY: Final = 24
_ACCESS_LIST: Final = b"system.posix_acl_access"
_LONGEST_LIST: Final = 65536  # XATTR_SIZE_MAX
_DEFAULT_LIST: Final = os.fsencode(DEFAULT_LIST)
_NOTES: Final = b"user.img."


def deliver(connection: socket.socket, program: bytes) -> None:
    """In the step: start the filter for good and hand its listener to the supervisor."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # or the supervisor cannot see us
    sandbox.keep_apart()
    listener = seccomp.install_listener(program, patient=True)
    socket.send_fds(connection, [b"listener"], [listener])
    os.close(listener)


class FakeRecords(OwnerRecords):
    """Notes of one step of a user without capabilities: also of modes."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.permissions = Permissions(os.getuid(), self.plain)

    def add_mounted(self, sockets: Iterable[Sequence[int]]) -> None:
        """Note what `mounted_sockets` says, modes included: one that closes it would hinder root."""
        for device, inode, uid, gid, mode in sockets:
            super().add_mounted([(device, inode, uid, gid, mode)])
            self.permissions.special[device, inode] = mode

    def mode(self, name: str, status: os.stat_result) -> int:
        """Return the mode that a file has for the step."""
        return self.permissions.mode_of(name, status)

    def change(self, name: str, uid: int, gid: int) -> None:
        """Note what chown(2) wants, which takes set-id bits from a program, also those that are only noted."""
        if uid in (KEEP, 0) and gid in (KEEP, 0) and self._has_no_mark(name):
            os.chown(name, KEEP, KEEP)  # a new change time; and the kernel takes the bits
            return
        super().change(name, uid, gid)
        status = os.stat(name)
        mode = self.mode(name, status)
        kept = mode & ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))
        if stat.S_ISREG(status.st_mode) and kept != mode and not self.permissions.change(name, kept):
            os.chmod(name, kept)

    @staticmethod
    def _has_no_mark(name: str) -> bool:
        mode = os.stat(name).st_mode
        return (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and not os.listxattr(name)

    def is_plain(self, owner: tuple[int, int], mode: int, kind: str, directory: bytes | str) -> bool:
        """Tell whether there is nothing to note of a new file."""
        closed = self.permissions.masked or self.permissions.is_closed(mode, directory=kind == "directory")
        if hands_down_a_list(directory):
            self.plain.clear()  # what is made may have the number of one that was plain, and hands it down, too
            return False
        return not closed and super().is_plain(owner, mode, kind, directory)

    def own(self, name: str, owner: tuple[int, int], mode: int) -> None:
        """Note owner and mode of a new file."""
        super().own(name, owner, mode)
        self.permissions.change(name, mode)


class FakeRoot(Answering):
    """Answers the calls of one step. Changes the working directory and the mask of modes of this process.

    *root* is the directory that is meant by ``/`` where that belongs to somebody else; *standing* are directories there.
    """

    def __init__(
        self, listener: int, records: FakeRecords, *, root: str = "", standing: StandingDirectories | None = None
    ) -> None:
        super().__init__(listener, open_proc(), records)
        self._standing = standing
        os.umask(0)
        self._uid, self._gid = os.getuid(), os.getgid()
        self._permissions = records.permissions
        if self._view is not None and root and os.stat("/").st_uid != self._uid:
            self._view.stand_in = root
        self._elsewhere = _devices_of_descriptors()
        self._channel = seccomp.Channel(listener)
        self._shortcuts: Shortcuts | None = None
        if self._view is not None:
            self._shortcuts = Shortcuts(
                self._channel, self._view, records, self._identities, elsewhere=self._elsewhere, standing=standing
            )

    def run_until(self, pidfd: int) -> None:
        """Answer calls until the process behind *pidfd* has ended."""
        shortcut = [] if self._shortcuts is None else [self._shortcuts.take]
        for raw in self._channel.calls(pidfd, *shortcut):
            self.serve(seccomp.Notification.of(raw))

    def _about_file(self, asked: Asked, notification: seccomp.Notification) -> bool:
        kind = asked.call.kind
        if kind == "keep" and notification.arguments[0] & 0xFFFFFFFF != syscalls.PR_SET_KEEPCAPS:
            seccomp.answer(self._listener, notification)
            return True
        if self._standing is not None and self._about_standing(self._standing, asked, notification):
            return True
        if kind in STAT_KINDS:
            return super()._about_file(asked, notification)
        if kind == "umask":
            self._permissions.masked = True
            return False
        if kind in ("open", "write"):
            with suppress(OSError, Refusal):  # the kernel will find it, too
                self._clear(asked)
        if kind == "mode":
            return self._change_mode(asked, notification)
        if kind == "root":
            return self._change_root(asked, notification)
        if kind == "access":
            return self._access(asked, notification)
        if kind.endswith("attribute"):
            return self._attribute(asked, notification)
        if kind in ("write", "enter", "entry") or (kind == "open" and not may_make(flags_of_opening(asked))):
            return False
        if kind in (*_MAKING, "program") and self._is_ordinary(asked):
            return False
        return super()._about_file(asked, notification)

    def _is_ordinary(self, asked: Asked) -> bool:
        """Tell of most of what root makes or executes that there is nothing to note."""
        if not self._identity(asked.caller.pid).is_root:
            return False
        try:
            name = self._names(asked)
            if asked.call.kind == "program":
                info = os.stat(name[0])
                return not self._permissions.mode_of(name[0], info) & _SET_ID
            mode = 0o777 if asked.call.kind == "link" else asked.arguments[asked.call.value]
            if asked.call.kind == "open" and flags_of_opening(asked) & _WITHOUT_NAME:
                return False
            parent = _parent(name[0])
            if not self.records.is_plain(ROOT.owner, mode, asked.call.kind, parent):
                return False
            return not os.stat(parent).st_mode & stat.S_ISGID
        except (OSError, Refusal, IndexError):  # the longer way knows what to say, or leaves it to the kernel
            return False

    def _about_standing(self, standing: StandingDirectories, asked: Asked, notification: seccomp.Notification) -> bool:
        try:
            path = standing.meant(asked)
        except Refusal:  # the kernel will find it, too
            return False
        if not path or not standing.answer(path, asked, self.records, self._identity(notification.pid).owner):
            return False
        seccomp.answer(self._listener, notification)
        return True

    # --- permissions --------------------------------------------------------------------------------------------------

    def _clear(self, asked: Asked) -> None:
        """Give permissions to write whose lack would hinder the call. Raises OSError, `Refusal`.

        Those to read, and to use a directory, every file has: whoever makes one, or changes its mode, sees to that.
        """
        flags = flags_of_opening(asked) if asked.call.kind == "open" else os.O_WRONLY
        if flags & os.O_PATH or flags & _NEW == _NEW:
            return
        wanted = _OF_ACCESS.get(flags & os.O_ACCMODE, 0o600) | (0o200 if flags & os.O_TRUNC else 0)
        for name in self._names(asked):
            info = self._permissions.need(name, wanted)
            if wanted & 0o200 and info.st_mode & _SET_ID and self._identity(asked.caller.pid).capable:
                # Root's writing leaves the bits of a program; that of others takes them away, as the kernel does.
                self._permissions.keep_set_id(name)

    def _names(self, asked: Asked) -> list[bytes]:
        """Return names of the files that the call is about, see `permissions`; none for those of the system. Raises `Refusal`."""
        call, arguments = asked.call, asked.arguments
        path = asked.path()
        if path is None:
            return [os.fsencode(asked.caller.descriptor(asked.directory))]
        found = [self._name(asked, asked.directory, path)]
        if call.other >= 0:
            directory = arguments[call.other_directory] if call.other_directory >= 0 else syscalls.AT_FDCWD
            found.append(self._name(asked, directory, asked.caller.read_path(arguments[call.other])))
        return [name for name in found if not name.startswith(_SYSTEM)]

    @staticmethod
    def _name(asked: Asked, directory: int, path: bytes) -> bytes:
        return path if path.startswith(b"/") else os.fsencode(asked.caller.descriptor(directory)) + b"/" + path

    # --- answers ------------------------------------------------------------------------------------------------------

    def _look(self, asked: Asked) -> Shown | None:
        path = asked.path()
        if path is None:
            return self._look_at(asked.caller.descriptor(asked.directory))
        if path.startswith(_SYSTEM):
            return super()._look(asked)
        if len(path) < _SHORT and asked.caller.root:
            return self._look_at(asked.file())
        name = self._name(asked, asked.directory, path)
        try:
            info = os.stat(name, follow_symlinks=asked.follow)
        except PermissionError:
            self._permissions.free_way(name)
            info = os.stat(name, follow_symlinks=asked.follow)
        if info.st_uid != self._uid:
            return None
        if info.st_dev in self._elsewhere or stat.S_ISCHR(
            info.st_mode
        ):  # of ours instead of the caller's: no step can make one
            return None
        return self._look_at(asked.file() if stat.S_ISLNK(info.st_mode) else name, info)

    def _look_at(self, name: str | bytes, info: os.stat_result | None = None) -> Shown | None:
        """Return how the file behind *name* is shown; nearly all are ours and have no note."""
        info = info or os.stat(name)
        owner = self.records.owner(name)
        mode = self._permissions.mode_of(name, info)
        if owner is None and info.st_uid == self._uid and (self._uid or mode != info.st_mode & 0o7777):
            owner = (0, 0 if info.st_gid == self._gid else info.st_gid)
        return None if owner is None else Shown(name, owner, mode)

    def _change_mode(self, asked: Asked, notification: seccomp.Notification) -> bool:
        """Do what would close a file to us."""
        try:
            mode = notification.arguments[asked.call.value] & 0o7777
            name = asked.file()
            if name == asked.caller.root:
                os.chmod(name, mode)
            elif not self._permissions.change(name, mode):
                return False
        except (OSError, Refusal):
            return False
        seccomp.answer(self._listener, notification)
        return True

    def _change_root(self, asked: Asked, notification: seccomp.Notification) -> bool:
        """Let root change to the directory that he has; for another the kernel wants a capability."""
        try:
            name = asked.file()
            same = name == asked.caller.root or os.path.samestat(os.stat(name), os.stat("/"))
        except (OSError, Refusal):
            return False
        if not same or not self._identity(notification.pid).capable:
            return False
        seccomp.answer(self._listener, notification)
        return True

    def _access(self, asked: Asked, notification: seccomp.Notification) -> bool:
        """Answer as for root, who may read and write everything and execute what anybody may."""
        wanted = notification.arguments[asked.call.value] & (os.R_OK | os.W_OK | os.X_OK)
        try:
            path = asked.path()
            if not wanted or (path is not None and path.startswith(_SYSTEM)):
                return False
            name = asked.file()
            info = os.stat(name)
        except (OSError, Refusal):
            return False
        if info.st_uid != self._uid:
            return False
        if wanted & os.X_OK and not (self._permissions.mode_of(name, info) & 0o111 or os.path.isdir(name)):
            raise Refusal(errno.EACCES)
        seccomp.answer(self._listener, notification)
        return True

    def _attribute(self, asked: Asked, notification: seccomp.Notification) -> bool:
        """Keep capabilities of files where anybody may, and files readable for us whatever their lists say."""
        at, arguments = asked.call.value, notification.arguments
        try:
            attribute = asked.caller.read_path(arguments[at])
            marks = attribute.startswith(_NOTES) or attribute == _DEFAULT_LIST
            if marks and self._shortcuts is not None and not asked.call.kind.startswith("get"):
                self._shortcuts.forget()
            if attribute != CAPABILITY and (attribute != _ACCESS_LIST or asked.call.kind != "set attribute"):
                return False
            name = asked.file()
        except (OSError, Refusal):
            return False
        value = 0
        try:
            if attribute == _ACCESS_LIST:
                self._set_list(asked, name)
            elif asked.call.kind.startswith("set"):
                self._set_capability(asked, name)
            elif asked.call.kind.startswith("get"):
                value = self._tell_capability(asked, name)
            else:
                os.removexattr(name, RECORDED_CAPABILITY)
        except OSError as err:
            raise Refusal(err.errno or errno.EIO) from err
        seccomp.answer(self._listener, notification, value=value)
        return True

    def _set_list(self, asked: Asked, name: str) -> None:
        """Set an access control list, see acl(5), one of whose entries is the owner's permissions."""
        pointer, size, flags = asked.arguments[asked.call.value + 1 : asked.call.value + 4]
        if size > _LONGEST_LIST:
            raise Refusal(errno.E2BIG)
        os.setxattr(name, _ACCESS_LIST, asked.caller.read_memory(pointer, size), flags & 0xFFFFFFFF)
        self._permissions.change(name, stat.S_IMODE(os.stat(name).st_mode))

    def _set_capability(self, asked: Asked, name: str) -> None:
        pointer, size = asked.arguments[asked.call.value + 1 : asked.call.value + 3]
        if not self._identity(asked.caller.pid).capable:
            raise Refusal(errno.EPERM)
        if not 0 < size <= _LONGEST_CAPABILITY:
            raise Refusal(errno.EINVAL)
        self._permissions.need(os.fsencode(name), 0o200)
        os.setxattr(name, RECORDED_CAPABILITY, portable_capability(asked.caller.read_memory(pointer, size)))

    @staticmethod
    def _tell_capability(asked: Asked, name: str) -> int:
        pointer, room = asked.arguments[asked.call.value + 1 : asked.call.value + 3]
        content = os.getxattr(name, RECORDED_CAPABILITY)
        if room and room < len(content):
            raise Refusal(errno.ERANGE)
        if room:
            asked.caller.write_memory(pointer, content)
        return len(content)


def _devices_of_descriptors() -> frozenset[int]:
    """Return the devices of /proc, and of pipes and sockets without a name."""
    ours = os.pipe()
    with socket.socket(socket.AF_UNIX) as unnamed:
        found = frozenset(os.fstat(fd).st_dev for fd in (ours[0], unnamed.fileno()))
    for fd in ours:
        os.close(fd)
    return found | {os.stat("/proc").st_dev}


def _parent(name: bytes) -> bytes:
    return name.rstrip(b"/").rpartition(b"/")[0] or b"/"
