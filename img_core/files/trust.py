"""Whose the state directory is: what lies in there is believed, mounted and executed, so nobody else may have written it; so with code."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.spec.errors import PluginError, StateError
from img_core.spec.text import show, why

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_trusted", "read_code"]

_UNMAPPED = 65534  # what the kernel shows for ids that a user namespace does not have
_ACL = "system.posix_acl_access"


def check_trusted(state: str, environment: Mapping[str, str]) -> None:
    """Raise StateError if another user owns the directory *state* or may write to it. One that does not exist yet is fine.

    Root's is fine: who is root needs no state directory to do harm. Root itself takes that of the user who called it by sudo
    (``SUDO_UID``), but no other user's, unless it is root of a user namespace only: there all ids are of one user.
    """
    try:
        found = os.stat(state)
    except FileNotFoundError:
        if os.path.islink(state):
            raise StateError(f"state directory `{fs.show(state)}` is a link that leads nowhere") from None
        return
    except OSError as err:
        raise StateError(f"state directory `{fs.show(state)}`: {why(err)}") from err
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(
            f"state directory `{fs.show(state)}` is not a directory", hint="choose another one with `-s DIR`"
        )
    if not _is_ours(found.st_uid, environment):
        raise StateError(
            f"state directory `{fs.show(state)}` belongs to another user ({_name(found.st_uid)})",
            hint="choose one of your own with `-s DIR`",
        )
    if _others_may_write(state, found):
        raise StateError(
            f"others may write to state directory `{fs.show(state)}`",
            hint=f"`chmod go-w {fs.show(state)}`, or choose one inside of it: `-s {fs.show(os.path.join(state, 'img'))}`",
        )


def _is_ours(owner: int, environment: Mapping[str, str]) -> bool:
    if owner in (os.geteuid(), 0):
        return True
    if os.geteuid() != 0 or owner == _UNMAPPED:
        return False
    return environment.get("SUDO_UID") == str(owner) or not _maps_all_ids()


def _maps_all_ids() -> bool:
    """Tell whether this is the user namespace of the host, or one like it."""
    with open("/proc/self/uid_map", encoding="ascii") as table:
        return table.read().split() == ["0", "0", "4294967295"]


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _others_may_write(state: str, found: os.stat_result) -> bool:
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private_group(state, found)


def _is_private_group(state: str, found: os.stat_result) -> bool:
    """Tell whether the group has no other member: many distributions give each user one, and a umask that lets it write."""
    import grp
    import pwd

    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    private = owner.pw_gid == found.st_gid and group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}
    return private and not _has_access_list(state)


def _has_access_list(path: str) -> bool:
    """Tell whether the permission bits of the group are those of a list of users, see acl(5)."""
    try:
        return _ACL in os.listxattr(path)
    except OSError:
        return False


def read_code(path: str) -> bytes:
    """Return the content of the file *path*, which will be run. Raises PluginError if it is none, or somebody else may have written it."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            _check_code(path, os.fstat(file.fileno()))  # of what is read, whatever the name means by then
            return file.read()
    except OSError as err:
        raise PluginError(f"`{show(path)}` cannot be read: {why(err)}") from err


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # it may be a FIFO


def _check_code(path: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise PluginError(f"`{show(path)}` is not a file")
    if info.st_uid not in (0, os.geteuid(), os.getuid()):
        raise PluginError(f"`{show(path)}` belongs to somebody else", hint="plugins run with all your rights")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PluginError(f"`{show(path)}` can be written by others", hint=f"`chmod go-w {show(path)}`")
