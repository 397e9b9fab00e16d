"""Who a process of a step believes to be, where it can be nobody else: what the calls of credentials(7) do, as values.

The identity of a process travels with it in the kernel: as the distance of the soft limit ``RLIMIT_RTTIME`` from the hard one, which
numbers a table of the supervisor. A limit is inherited by every child and kept by every program, whoever starts it and whatever becomes
of its parents, and it can be read and set from outside by one call (prlimit(2)). This one says how long a process of a real-time policy
may compute, which no step may be.
"""

from __future__ import annotations

import errno
import resource
from dataclasses import dataclass, replace
from typing import Final

from img_lib_containers.owner_calls import Refusal

__all__ = ["ROOT", "Identities", "ProcessIds", "after_program", "changed", "with_groups", "with_keeping"]

_CARRIER: Final = 15  # RLIMIT_RTTIME; see getrlimit(2)
_MOST: Final = 65536  # identities of one step

Ids = tuple[int, int, int]  #: real, effective, saved
_ALL_ROOT: Final[Ids] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class ProcessIds:
    """Ids of users and groups.

    *capable*: it may change them as it likes; *keeps*: also when it is no longer root (PR_SET_KEEPCAPS).
    """

    uids: Ids = (0, 0, 0)
    gids: Ids = (0, 0, 0)
    groups: tuple[int, ...] = ()
    capable: bool = True
    keeps: bool = False

    @property
    def owner(self) -> tuple[int, int]:
        """Who owns what it makes."""
        return self.uids[1], self.gids[1]

    @property
    def is_root(self) -> bool:
        """Tell whether it is root in every respect, and stays that in each program."""
        return self.capable and not self.keeps and self.uids == _ALL_ROOT == self.gids

    def is_in(self, gid: int) -> bool:
        """Tell whether it belongs to a group."""
        return gid == self.gids[1] or gid in self.groups


ROOT: Final = ProcessIds()


class Identities:
    """The table of a step; all begin as root."""

    def __init__(self) -> None:
        self._all = [ROOT]
        self._numbers = {ROOT: 0}
        self._are_all_root = True

    def is_root(self, pid: int) -> bool:
        """Tell whether a process (or thread) is root in every respect, whatever groups it has. Raises OSError if it is gone."""
        return self._are_all_root or self.of(pid).is_root

    def of(self, pid: int) -> ProcessIds:
        """Return the identity of a process (or thread). Raises OSError if it is gone."""
        soft, hard = resource.prlimit(pid, _CARRIER)
        number = hard - soft  # no limit is -1
        return self._all[number] if 0 < number < len(self._all) else ROOT

    def give(self, pid: int, identity: ProcessIds) -> None:
        """Let a process have *identity* from now on. Raises OSError if it is gone."""
        number = self._numbers.get(identity)
        if number is None:
            number = len(self._all)
            if number == _MOST:
                raise Refusal(errno.EAGAIN)
            self._all.append(identity)
            self._are_all_root = self._are_all_root and identity.is_root
            self._numbers[identity] = number
        _, hard = resource.prlimit(pid, _CARRIER)
        resource.prlimit(pid, _CARRIER, (hard - number, hard))


def changed(identity: ProcessIds, name: str, arguments: tuple[int, ...], bits: int) -> ProcessIds:
    """Return what ``setuid``, ``setreuid``, ``setresuid`` and their likes for groups make of *identity*. Raises `Refusal`."""
    root = identity.capable
    field = "uids" if name.endswith("uid") else "gids"
    old = identity.uids if field == "uids" else identity.gids
    wanted = [_id(argument, bits) for argument in arguments[:3]]
    if name in ("setuid", "setgid"):
        new = _set(old, wanted[0], root=root)
    elif name in ("setreuid", "setregid"):
        new = _set_two(old, wanted[0], wanted[1], root=root)
    else:
        if not root and any(each not in (-1, *old) for each in wanted):
            raise Refusal(errno.EPERM)
        real, effective, saved = (kept if each == -1 else each for each, kept in zip(wanted, old, strict=True))
        new = (real, effective, saved)
    if field == "gids":
        return replace(identity, gids=new)
    return replace(identity, uids=new, capable=new[1] == 0 or (root and identity.keeps))


def with_groups(identity: ProcessIds, groups: tuple[int, ...]) -> ProcessIds:
    """Return what setgroups(2) makes of *identity*. Raises `Refusal`."""
    if not identity.capable:
        raise Refusal(errno.EPERM)
    return replace(identity, groups=groups)


def with_keeping(identity: ProcessIds, *, keeps: bool) -> ProcessIds:
    """Return what prctl(2), PR_SET_KEEPCAPS, makes of *identity*."""
    return replace(identity, keeps=keeps)


def after_program(identity: ProcessIds, set_user: int | None, set_group: int | None) -> ProcessIds:
    """Return what becomes of *identity* when it executes a program; the other arguments are the owners that its set-id bits stand for."""
    user = identity.uids[1] if set_user is None else set_user
    group = identity.gids[1] if set_group is None else set_group
    return replace(
        identity,
        uids=(identity.uids[0], user, user),
        gids=(identity.gids[0], group, group),
        capable=user == 0,
        keeps=False,
    )


def _id(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return -1 if value == (1 << bits) - 1 else value


def _set(old: Ids, wanted: int, *, root: bool) -> Ids:
    if wanted == -1:
        raise Refusal(errno.EINVAL)
    if root:
        return (wanted, wanted, wanted)
    if wanted not in (old[0], old[2]):
        raise Refusal(errno.EPERM)
    return (old[0], wanted, old[2])


def _set_two(old: Ids, real: int, effective: int, *, root: bool) -> Ids:
    if not root and (real not in (-1, old[0], old[1]) or effective not in (-1, *old)):
        raise Refusal(errno.EPERM)
    new_real = old[0] if real == -1 else real
    new_effective = old[1] if effective == -1 else effective
    saved = new_effective if real != -1 or (effective != -1 and effective != old[0]) else old[2]
    return (new_real, new_effective, saved)
