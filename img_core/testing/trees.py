"""Compare directory trees: with an earlier state of themselves, or with what another tool makes of the same input."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from typing import Any

__all__ = ["fingerprint", "unpack_with_gnu_tar"]

_LABEL = "security.selinux"  # given by the host, not by an image


def fingerprint(top: bytes | str, *, times: bool = True, changes: bool = False) -> dict[bytes, tuple[Any, ...]]:
    """Describe everything below *top* (not *top* itself): type, mode, owner, size, content, links, attributes.

    *times* includes mtimes of everything; *changes* also ctimes, to prove that nobody touched anything.
    Files that share an inode are described by the first path they have in common.
    """
    closed: list[tuple[bytes, int]] = []
    try:
        return _described(os.fsencode(top), closed, times=times, changes=changes)
    finally:
        for path, mode in reversed(closed):
            os.chmod(path, mode)


def _described(
    root: bytes, closed: list[tuple[bytes, int]], *, times: bool, changes: bool
) -> dict[bytes, tuple[Any, ...]]:
    """Do the work of `fingerprint`. Directories that we may not read are opened and noted in *closed* with the modes that they had."""
    found: dict[bytes, tuple[Any, ...]] = {}
    inodes: dict[tuple[int, int], bytes] = {}
    todo = [b""]
    while todo:
        directory = todo.pop()
        place = os.path.join(root, directory)
        if not os.access(place, os.R_OK | os.X_OK):
            closed.append((place, stat.S_IMODE(os.stat(place).st_mode)))
            os.chmod(place, 0o700)
        for entry in sorted(os.listdir(place)):
            path = directory + b"/" + entry if directory else entry
            full = os.path.join(root, path)
            info = os.lstat(full)
            kind = stat.S_IFMT(info.st_mode)
            first = inodes.setdefault((info.st_dev, info.st_ino), path)
            found[path] = (
                oct(info.st_mode),
                info.st_uid,
                info.st_gid,
                info.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else info.st_size if kind != stat.S_IFDIR else 0,
                _content(full, kind),
                first,
                _attributes(full),
                info.st_mtime_ns if times else 0,
                info.st_ctime_ns if changes else 0,
            )
            if kind == stat.S_IFDIR:
                todo.append(path)
    return found


def _content(path: bytes, kind: int) -> bytes:
    if kind == stat.S_IFLNK:
        return os.readlink(path)
    if kind != stat.S_IFREG:
        return b""
    mode = os.stat(path).st_mode
    if not os.access(path, os.R_OK):
        os.chmod(path, 0o600)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    if os.stat(path).st_mode != mode:
        os.chmod(path, stat.S_IMODE(mode))
    return digest


def _attributes(path: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the extended attributes, also of links and special files. Not by the calls that the product makes: it is a second opinion."""
    import xattr

    names = sorted(xattr.listxattr(path, xattr.XATTR_NOFOLLOW))
    return tuple((name, xattr.getxattr(path, name, xattr.XATTR_NOFOLLOW)) for name in names if name != _LABEL)


def unpack_with_gnu_tar(archive: bytes, directory: str) -> bool:
    """Unpack with GNU tar, modes, numeric owners and attributes (but overlayfs's) included; False when it fails; warnings do not count."""
    arguments = [
        "tar",
        "--extract",
        "--preserve-permissions",
        "--numeric-owner",
        "--delay-directory-restore",
        "--xattrs",
    ]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    result = subprocess.run(
        [*arguments, "--xattrs-include=*", "--xattrs-exclude=user.overlay.*", "--file=-", f"--directory={directory}"],
        input=archive,
        capture_output=True,
        env=environment,
        check=False,
        timeout=60,
    )
    return result.returncode == 0
