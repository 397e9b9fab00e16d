"""Who owns an unpacked file: really, or on record when only one id is mapped."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from img_core.files import fs, xattrs
from img_core.files.xattrs import OWNER
from img_core.spec.errors import HostError

if TYPE_CHECKING:
    from img_core.archives.tar.member import Member
    from img_core.archives.tar.tree import Directory

__all__ = ["MemberOwners", "OwnerPolicy"]


@dataclass(frozen=True, slots=True)
class OwnerPolicy:
    """*mode* ``set`` gives files their owner; ``record`` notes owners other than root (one mapped id).

    ``caller`` makes files of the caller's own: without set-id bits, which would mean the caller, and with ``user.`` attributes only.
    With *open_to_owner* files that the caller could not read, or directories that it could not use, get the permissions for that, and a
    note (`xattrs.MODE`) of theirs. *force* replaces the archive's owners, as ``ADD --chown`` does. Without *devices* those are left out,
    whoever we are.
    """

    mode: Literal["set", "record", "caller"] = "set"
    force: tuple[int, int] | None = None
    devices: bool = True
    open_to_owner: bool = False


class MemberOwners:
    """Applies an `OwnerPolicy`; `recorded` lists ``(path, uid, gid)`` of entries that cannot carry an attribute."""

    def __init__(self, policy: OwnerPolicy) -> None:
        self._force = policy.force
        self._record = policy.mode == "record"
        self._keep = policy.mode == "caller"
        self.devices = policy.devices
        self.mode_bits = 0o1777 if self._keep else 0o7777
        self._opens = policy.open_to_owner
        self.attributes = b"user." if self._keep else b""  #: what the names of attributes start with that are set
        #: whose a file without a note is, see `xattrs.Marks`
        self._self = (0, 0) if self._record else (os.geteuid(), os.getegid())
        self.recorded: list[tuple[bytes, int, int]] = []

    def _wanted(self, member: Member) -> tuple[int, int]:
        return self._force or (member.uid, member.gid)

    def open_file(self, fd: int) -> None:
        """Give us the permissions for notes on the new file *fd*, which an access control list of its directory may have taken."""
        if self._opens:
            os.fchmod(fd, 0o600)

    def own_file(self, fd: int, member: Member, directory: Directory, path: bytes) -> None:
        """Give the new, open file *fd* its owner."""
        wanted = self._wanted(member)
        if self._keep or (wanted == self._self and not directory.inherits):
            return
        if not self._record:
            self._chown(fd, wanted, path)
        elif wanted != self._self:
            self._note(fd, wanted, path)

    def own_again(self, fd: int, member: Member, info: os.stat_result, path: bytes) -> None:
        """Give the open file *fd*, which has *info*, another owner; capabilities go with a change of owner only."""
        if self._record or self._wanted(member) != (info.st_uid, info.st_gid):
            self.own_directory(fd, member, path)

    def own_directory(self, fd: int, member: Member, path: bytes) -> None:
        """Give the open directory *fd*, new or not, its owner."""
        wanted = self._wanted(member)
        if self._keep:
            return
        if not self._record:
            self._chown(fd, wanted, path)
        elif wanted != self._self:
            self._note(fd, wanted, path)
        else:
            try:
                os.removexattr(fd, OWNER)
            except OSError as err:
                if err.errno not in (errno.ENODATA, errno.ENOTSUP):
                    raise

    def mode_of(self, fd: int, member: Member, needed: int) -> int:
        """Return the mode that the open file *fd* gets; of the *needed* bits none may be missing where we need permissions."""
        mode = member.mode & self.mode_bits
        if not self._opens:
            return mode
        return xattrs.opened(fd, mode, needed)

    def own_other(self, name: bytes, directory: Directory, member: Member, path: bytes) -> None:
        """Give the symlink, device or FIFO *name* its owner, by name because it cannot be opened."""
        wanted = self._wanted(member)
        if self._keep or (wanted == self._self and not directory.inherits):
            return
        if self._record:
            if wanted != self._self:
                self.recorded.append((path, *wanted))
            return
        try:
            os.chown(name, *wanted, dir_fd=directory.fd, follow_symlinks=False)
        except OSError as err:
            raise self._explain(err, wanted, path) from err

    def _chown(self, fd: int, wanted: tuple[int, int], path: bytes) -> None:
        try:
            os.fchown(fd, *wanted)
        except OSError as err:
            raise self._explain(err, wanted, path) from err

    def _note(self, fd: int, wanted: tuple[int, int], path: bytes) -> None:
        try:
            os.setxattr(fd, OWNER, b"%d:%d" % wanted)
        except OSError as err:
            if err.errno != errno.ENOTSUP:
                raise
            self.recorded.append((path, *wanted))

    def _explain(self, err: OSError, wanted: tuple[int, int], path: bytes) -> Exception:
        """EINVAL: the id has no counterpart outside the user namespace; EPERM: we are not root at all."""
        if err.errno not in (errno.EINVAL, errno.EPERM):
            return err
        uid, gid = wanted
        return HostError(
            f"cannot give `{fs.show(path)}` to {uid}:{gid}: the id is not available here",
            hint="more ids per user are configured in /etc/subuid and /etc/subgid",
        )
