"""Owners of files where they cannot be set: with a single mapped id the wanted owner is recorded instead.

Regular files and directories carry the extended attribute ``user.img.owner`` (``uid:gid`` in decimal). The kernel allows ``user.``
attributes on nothing else, so symlinks and special files get a line in a record file beside the tree: a JSON array
``[path, uid, gid]`` per line, undecodable bytes of a path as surrogates. No record means 0:0.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING

from img_core.files import xattrs
from img_core.files.faults import mutation
from img_core.spec.errors import HostError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from img_core.spec.executor import OwnerRecord
    from img_core.spec.host import IdMapping
    from img_core.spec.snapshotter import Changes

__all__ = [
    "OWNER_ATTRIBUTE",
    "Owners",
    "default_owner",
    "format_records",
    "merge_records",
    "parse_records",
    "read_owner",
    "resolve",
]

OWNER_ATTRIBUTE = "user.img.owner"
_NO_ATTRIBUTE = (errno.ENODATA, errno.ENOTSUP, errno.EPERM)

Ids = tuple[int, int]


class Owners:
    """Sets owners in one tree: really where the mapping allows it, else as records.

    *recorded* collects the owners of entries that cannot carry the attribute, by path; whoever finishes the snapshot gives them to
    `Snapshotter.record_owners`. Not thread-safe.
    """

    def __init__(self, mapping: IdMapping) -> None:
        self.records = mapping in ("single", "fake", "none")
        self.recorded: dict[bytes, Ids] = {}
        #: files that we could not read, and directories that we could not use, get these permissions and a note of their mode
        self.opens = mapping == "fake"

    def mode_of(self, fd: int, mode: int, needed: int) -> int:
        """Return the mode that the open file *fd* gets; of the *needed* bits none may be missing where we have no right beyond them."""
        return xattrs.opened(fd, mode, needed) if self.opens else mode

    def open_file(self, fd: int) -> None:
        """Give us the permissions for notes on the new file *fd*, which an access control list of its directory may have taken."""
        if self.records:
            os.fchmod(fd, 0o600)

    def set_fd(self, fd: int, uid: int, gid: int, *, fresh: bool = False) -> None:
        """Give the open regular file or directory *fd* its owner; *fresh* promises that it has no record yet."""
        if not self.records:
            mutation("chown")
            try:
                os.fchown(fd, uid, gid)
            except OSError as err:
                raise _explain(err, uid, gid) from err
        elif uid or gid:
            mutation("setxattr")
            try:
                os.setxattr(fd, OWNER_ATTRIBUTE, b"%d:%d" % (uid, gid))
            except OSError as err:
                raise _explain(err, uid, gid) from err
        elif not fresh:
            _forget(fd)

    def set_at(self, dir_fd: int, name: bytes, path: bytes, uid: int, gid: int) -> None:
        """Give the symlink or special file *name* of *dir_fd* its owner; *path* is its place in the tree."""
        if not self.records:
            mutation("chown", path)
            try:
                os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)
            except OSError as err:
                raise _explain(err, uid, gid) from err
        elif uid or gid:
            self.recorded[path] = (uid, gid)
        else:
            self.recorded.pop(path, None)


def _explain(err: OSError, uid: int, gid: int) -> Exception:
    """EINVAL: the id has no counterpart outside of the user namespace. ENOTSUP: a network file system, for instance."""
    if err.errno == errno.ENOTSUP:
        return HostError(
            f"cannot note that files belong to {uid}:{gid}: the file system of the state directory keeps no attributes",
            hint="choose another place with `-s DIR`",
        )
    if err.errno != errno.EINVAL:
        return err
    return HostError(
        f"cannot give files to {uid}:{gid}: the id is not available here",
        hint="more ids per user are configured in /etc/subuid and /etc/subgid",
    )


def _forget(fd: int) -> None:
    mutation("removexattr")
    try:
        os.removexattr(fd, OWNER_ATTRIBUTE)
    except OSError as err:
        if err.errno not in _NO_ATTRIBUTE:
            raise


def read_owner(fd: int) -> Ids | None:
    """Return the owner recorded in the attribute of the open file *fd*, or None."""
    try:
        value = os.getxattr(fd, OWNER_ATTRIBUTE)
    except OSError as err:
        if err.errno in _NO_ATTRIBUTE:
            return None
        raise
    return parse_owner(value)


def parse_owner(value: bytes) -> Ids | None:
    """Read ``uid:gid``; None when *value*, which a step could have written itself, is something else."""
    uid, _, gid = value.partition(b":")
    if not (uid.isdigit() and gid.isdigit() and len(value) <= 21):
        return None
    return int(uid), int(gid)


# --- record files -----------------------------------------------------------------------------------------------------


def format_records(owners: Mapping[bytes, Ids]) -> bytes:
    """Return the content of a record file, sorted by path."""
    lines = [json.dumps([os.fsdecode(path), *ids]) + "\n" for path, ids in sorted(owners.items())]
    return "".join(lines).encode("ascii")


def parse_records(content: bytes) -> dict[bytes, Ids]:
    """Read a record file. Raises `StateError` when it is damaged."""
    owners: dict[bytes, Ids] = {}
    try:
        for line in content.splitlines():
            path, uid, gid = json.loads(line)
            owners[os.fsencode(path)] = (int(uid), int(gid))
    except (ValueError, TypeError) as err:
        raise StateError("the owner records of a snapshot are damaged") from err
    return owners


def merge_records(layers: Iterable[tuple[Mapping[bytes, Ids], Callable[[bytes], bool]]]) -> dict[bytes, Ids]:
    """Merge records of stacked layers, lowest first: each is ``(records, hides)``.

    *hides* tells whether the layer has an entry, a whiteout or a replaced parent at a path: then the record of a lower layer is
    about a file that is gone.
    """
    merged: dict[bytes, Ids] = {}
    for records, hides in layers:
        merged = {path: ids for path, ids in merged.items() if not hides(path)}
        merged.update(records)
    return merged


# --- after a step -----------------------------------------------------------------------------------------------------


def resolve(records: Iterable[OwnerRecord], changes: Changes, rootfs_fd: int | None = None) -> dict[bytes, Ids]:
    """Find the paths of the inodes in *records* among the *changes* of the step, for `Snapshotter.record_owners`.

    *rootfs_fd* is the root that the step saw, if it is still open: what the step did not make keeps its old device and inode there, but not
    in the directory of its changes. There, too, is looked for what no change shows: a link of the base that got an owner.
    """
    # later ones win, as they did in the step
    wanted = {(record.device, record.inode): (record.uid, record.gid) for record in records}
    if not wanted:
        return {}
    found, known = {}, set()
    for path, info in changes:
        if info is None or stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
            continue
        seen = info if rootfs_fd is None else os.stat(path, dir_fd=rootfs_fd, follow_symlinks=False)
        inode = seen.st_dev, seen.st_ino
        if inode in wanted:
            found[path] = wanted[inode]
            known.add(inode)
    left = {inode: owner for inode, owner in wanted.items() if inode not in known}
    return {**found, **_in_tree(rootfs_fd, left)} if left and rootfs_fd is not None else found


def _in_tree(root_fd: int, wanted: Mapping[tuple[int, int], Ids]) -> dict[bytes, Ids]:
    """Find inodes that are neither files nor directories in a whole tree."""
    found = {}
    for path, directories, files, directory_fd in os.fwalk(b".", dir_fd=root_fd):
        for name in (*directories, *files):
            info = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
            inode = info.st_dev, info.st_ino
            if inode in wanted and not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
                found[os.path.join(path, name)[2:]] = wanted[inode]
    return found


def default_owner(changes: Changes, parent_fd: int | None, uid: int, gid: int) -> dict[bytes, Ids]:
    """Record *uid* and *gid* for what a step of that user made and gave to nobody (single mapping only).

    Regular files and directories are marked in place; the owners of other entries are returned for `Snapshotter.record_owners`.
    *parent_fd* is the root before the step (None: there was none); what exists there keeps its owner.
    """
    if not (uid or gid):
        return {}
    found = {}
    for path, info in changes:
        if info is None or (parent_fd is not None and _same_kind_exists(parent_fd, path, info.st_mode)):
            continue
        if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
            _mark(changes.root_fd, path, uid, gid)
        elif changes.owner(path) is None:
            found[path] = (uid, gid)
    return found


def _same_kind_exists(parent_fd: int, path: bytes, mode: int) -> bool:
    try:
        info = os.stat(path, dir_fd=parent_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_IFMT(info.st_mode) == stat.S_IFMT(mode)


def _mark(root_fd: int, path: bytes, uid: int, gid: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root_fd)
    try:
        if read_owner(fd) is None:
            mutation("setxattr", path)
            os.setxattr(fd, OWNER_ATTRIBUTE, b"%d:%d" % (uid, gid))
    finally:
        os.close(fd)
