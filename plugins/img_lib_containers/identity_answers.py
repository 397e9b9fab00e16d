"""Answers to the calls of credentials(7): who a process of a step is, as `identities` says."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

from img_lib_containers.identities import changed, with_groups
from img_lib_containers.owner_calls import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_lib_containers.identities import Identities, ProcessIds
    from img_lib_containers.owner_calls import Caller
    from img_lib_containers.supervised_calls import SupervisedCall

__all__ = ["identify"]

_MOST_GROUPS: Final = 65536
_LETTERS: Final = {16: "H", 32: "I"}  # of struct
_NOBODY: Final = 65534


def identify(call: SupervisedCall, caller: Caller, arguments: Sequence[int], identities: Identities) -> int:
    """Do a call about ids of the caller; return its result. Raises OSError, `Refusal`."""
    identity = identities.of(caller.pid)
    ids = identity.uids if call.name.endswith("uid") else identity.gids
    if call.name in ("getuid", "getgid"):
        return _shown(ids[0], call)
    if call.name in ("geteuid", "getegid", "setfsuid", "setfsgid"):
        return _shown(ids[1], call)
    if call.name in ("getresuid", "getresgid"):
        for pointer, number in zip(arguments, ids, strict=False):
            caller.write_memory(pointer, _packed([number], call))
        return 0
    if call.name == "getgroups":
        return _tell_groups(call, caller, arguments, identity)
    if call.name == "setgroups":
        becomes = with_groups(identity, _read_groups(call, caller, arguments))
    else:
        becomes = changed(identity, call.name, tuple(arguments), call.bits)
    identities.give(caller.pid, becomes)
    return 0


def _tell_groups(call: SupervisedCall, caller: Caller, arguments: Sequence[int], identity: ProcessIds) -> int:
    room, pointer = arguments[0] & 0xFFFFFFFF, arguments[1]
    if room & 0x80000000 or (room and room < len(identity.groups)):
        raise Refusal(errno.EINVAL)
    if room and identity.groups:
        caller.write_memory(pointer, _packed(identity.groups, call))
    return len(identity.groups)


def _read_groups(call: SupervisedCall, caller: Caller, arguments: Sequence[int]) -> tuple[int, ...]:
    count = arguments[0] & 0xFFFFFFFF
    if count > _MOST_GROUPS:
        raise Refusal(errno.EINVAL)
    size = call.bits // 8
    content = caller.read_memory(arguments[1], count * size) if count else b""
    return struct.unpack(f"={count}{_LETTERS[call.bits]}", content)


def _shown(number: int, call: SupervisedCall) -> int:
    """Return an id as the call has it: one that does not fit is that of nobody, see credentials(7)."""
    return number if number < 1 << call.bits else _NOBODY


def _packed(numbers: Sequence[int], call: SupervisedCall) -> bytes:
    return struct.pack(f"={len(numbers)}{_LETTERS[call.bits]}", *(_shown(number, call) for number in numbers))
