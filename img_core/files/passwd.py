"""Users and groups of an image: a bounded reader of its ``/etc/passwd`` and ``/etc/group``.

The files belong to the image, so they are opened inside its root, must be regular and small, and lines that make no sense are
passed over, as the C library does.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.spec.errors import ImgError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GroupLine", "RunUser", "UserLine", "read_groups", "read_users", "resolve_owner", "resolve_run_user"]

_LIMIT = 16 << 20  # bytes; a directory of 100,000 users has a few MB
_MAX_ID = 2**32 - 2  # 2**32 - 1 means "leave it alone" to chown(2)


@dataclass(frozen=True, slots=True)
class UserLine:
    """A line of ``/etc/passwd``."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class GroupLine:
    """A line of ``/etc/group``."""

    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunUser:
    """The identity of a process: *groups* are its supplementary groups, *home* is for the variable HOME."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def read_users(root_fd: int | None) -> tuple[UserLine, ...]:
    """Return the users of the image below *root_fd*; none when it has no ``/etc/passwd`` (or *root_fd* is None)."""
    return tuple(
        UserLine(fields[0], uid, gid, (*fields, "", "")[5])
        for fields in _lines(root_fd, b"etc/passwd", 4)
        if (uid := _number(fields[2])) is not None and (gid := _number(fields[3])) is not None
    )


def read_groups(root_fd: int | None) -> tuple[GroupLine, ...]:
    """Return the groups of the image below *root_fd*; none when it has no ``/etc/group``."""
    return tuple(
        GroupLine(fields[0], gid, tuple(name for name in (*fields, "")[3].split(",") if name))
        for fields in _lines(root_fd, b"etc/group", 3)
        if (gid := _number(fields[2])) is not None
    )


def _lines(root_fd: int | None, path: bytes, least: int) -> Iterator[list[str]]:
    if root_fd is None:
        return
    try:
        content = fs.read_bounded(root_fd, path, _LIMIT)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        raise ImgError(f"cannot read `/{path.decode()}` of the image: {err.strerror}") from err
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number <= _MAX_ID else None


def _need_number(text: str, kind: str) -> int | None:
    """Return the id that *text* writes out, None when it is a name. Raises for ids that no file can have."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = _number(text)
    if number is None:
        raise ImgError(f"{kind} id out of range: `{fs.show(text)}`", hint=f"the largest id is {_MAX_ID}")
    return number


def resolve_owner(root_fd: int | None, text: str) -> tuple[int, int]:
    """Return the ids that ``--chown`` (or USER, for WORKDIR) *text* means in the image below *root_fd*.

    ``uid`` alone is also the gid; ``name`` has the group of its passwd line; ``:group`` belongs to uid 0 and ``user:`` to gid 0
    (docs/reference/dockerfile-cases.md, CP8 and CP9). Raises `NotFoundError` that names the user or group and the file.
    """
    if not text:
        return 0, 0
    user_text, colon, group_text = text.partition(":")
    uid, gid = _owning_user(root_fd, user_text) if user_text else (0, 0)
    if colon:
        gid = _group_id(root_fd, group_text) if group_text else 0
    return uid, gid


def _owning_user(root_fd: int | None, text: str) -> tuple[int, int]:
    uid = _need_number(text, "user")
    if uid is not None:
        return uid, uid
    user = _find_user(root_fd, text)
    return user.uid, user.gid


def _find_user(root_fd: int | None, name: str) -> UserLine:
    users = read_users(root_fd)
    for user in users:
        if user.name == name:
            return user
    raise _unknown("user", name, "passwd", [user.name for user in users])


def _group_id(root_fd: int | None, text: str) -> int:
    gid = _need_number(text, "group")
    if gid is not None:
        return gid
    groups = read_groups(root_fd)
    for group in groups:
        if group.name == text:
            return group.gid
    raise _unknown("group", text, "group", [group.name for group in groups])


def _unknown(kind: str, name: str, file: str, known: list[str]) -> NotFoundError:
    from difflib import get_close_matches  # only on the way to an error

    near = get_close_matches(name, known, 1)
    hint = f"did you mean `{fs.show(near[0])}`?" if near else f"numeric ids need no `/etc/{file}`"
    return NotFoundError(f"unable to find {kind} {fs.show(name)}: no matching entries in {file} file", hint=hint)


def resolve_run_user(root_fd: int | None, text: str) -> RunUser:
    """Return the identity that USER *text* gives a RUN step in the image below *root_fd*.

    A user of ``/etc/passwd`` (by name or number) brings group, supplementary groups and home; an unknown number has gid 0. An explicit
    group is then the only one (docs/reference/dockerfile-cases.md, WU7 to WU12). The group is one of the supplementary ones too, as after a
    login: a program that changes its group must not thereby lose what this one is denied. Raises `NotFoundError` for unknown names.
    """
    user_text, _, group_text = text.partition(":")
    user = _running_user(root_fd, user_text or "0")
    if group_text:
        gid = _group_id(root_fd, group_text)
        return RunUser(user.uid, gid, (gid,), user.home)
    extra = {group.gid for group in read_groups(root_fd) if user.name and user.name in group.members}
    return RunUser(user.uid, user.gid, (user.gid, *sorted(extra - {user.gid})), user.home)


def _running_user(root_fd: int | None, text: str) -> UserLine:
    uid = _need_number(text, "user")
    if uid is None:
        return _find_user(root_fd, text)
    for user in read_users(root_fd):
        if user.uid == uid:
            return user
    return UserLine("", uid, 0, "/")
