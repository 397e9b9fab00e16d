"""The filter of system calls for one step: which calls go to the supervisor, and what is refused because no namespace refuses it.

Classic BPF (seccomp(2)), assembled here because it holds the numbers of our own processes. It says nothing about what a step may do
otherwise: that is the filter of all executors (`img_lib_containers.seccomp`), and that of the container.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls
from img_executor_chroot._calls import ABIS, Abi, Call
from img_lib_containers.call_numbers import X86_64

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["program"]

_LOAD: Final = 0x20
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_ANY_BIT: Final = 0x45
_AND: Final = 0x54
_JUMP: Final = 0x05
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_NOTIFY: Final = 0x7FC00000
_ERROR: Final = 0x00050000
# struct seccomp_data: nr, arch, instruction_pointer, args[6]
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16
_X32: Final = 0x40000000
_MAKING: Final = os.O_CREAT | os.O_EXCL
_AF_UNIX: Final = 1
_EVERYBODY: Final = 0xFFFFFFFF
_PASS: Final = (_RETURN, 0, 0, _ALLOW)

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def program(protected: Iterable[int], *, network: bool, everybody: bool) -> bytes:
    """Return the filter. *protected* are processes that a step must not touch; without *network* it gets unix sockets alone.

    Without *everybody* a signal to all processes is refused: where Landlock does not keep it inside the step.
    """
    targets = [number & 0xFFFFFFFF for pid in protected for number in (pid, -pid)]
    targets += [] if everybody else [_EVERYBODY]
    code: list[Instruction] = [(_LOAD, 0, 0, _ARCHITECTURE)]
    for abi in ABIS:
        block = _block_of(abi, targets, network=network)
        code += [(_IF_EQUAL, 1, 0, abi.architecture), (_JUMP, 0, 0, len(block)), *block]
    return b"".join(struct.pack("=HBBI", *each) for each in (*code, _PASS))


def _block_of(abi: Abi, targets: Sequence[int], *, network: bool) -> list[Instruction]:
    """Return what happens to the calls of *abi*; it ends with a return."""
    code: list[Instruction] = [(_LOAD, 0, 0, _NUMBER)]
    if abi.architecture == X86_64:
        code += [(_IF_AT_LEAST, 0, 1, _X32), _refuse(errno.ENOSYS)]
    for number, call in sorted(abi.calls.items()):
        code += _block(number, [*_unseen(call), (_RETURN, 0, 0, _NOTIFY)])
    for number in abi.namings:
        code += _block(number, [(_RETURN, 0, 0, _NOTIFY)])
    for number, position in abi.on_processes.items():
        code += _block(number, _unless(position, targets, errno.EPERM))
    # Limits of others, whoever they are: no scope of Landlock covers them.
    code += _block(abi.prlimit, _only(0, 0, errno.EPERM))
    # A program that hides from ptrace would hide from us, too.
    code += _block(abi.prctl, _exactly({0: syscalls.PR_SET_DUMPABLE, 1: 0}, 0))
    if not network:
        code += _block(abi.socket, _only(0, _AF_UNIX, errno.EAFNOSUPPORT))
        if abi.socketcall >= 0:  # its arguments are where no filter can look
            code += _block(abi.socketcall, [_refuse(errno.EAFNOSUPPORT)])
    return [*code, _PASS]


def _unseen(call: Call) -> list[Instruction]:
    """Let pass what cannot be about a system file.

    That is what is about a descriptor and has no path, as C libraries do fstat(2) and futimens(3), and what makes a file that was not
    there: it opens none that was. In the step's own /proc that is as harmless as mkdir(2), which is not seen either.
    """
    if call.kind in ("times", "times32"):
        high = (_LOAD, 0, 0, _ARGUMENTS + 8 * call.path + 4)
        return [_argument(call.path), (_IF_EQUAL, 0, 3, 0), high, (_IF_EQUAL, 0, 1, 0), _PASS]
    if call.kind == "open" and call.flags >= 0:
        mask = (_AND, 0, 0, _MAKING | os.O_PATH)  # which makes nothing
        return [_argument(call.flags), mask, (_IF_EQUAL, 0, 1, _MAKING), _PASS]
    if call.kind in ("stat", "stat64", "statx", "owner", "mode") and call.flags >= 0:
        return [_argument(call.flags), (_IF_ANY_BIT, 0, 1, syscalls.AT_EMPTY_PATH), _PASS]
    return []


def _refuse(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERROR | error)


def _block(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """For the call *number*, whose number is loaded: *body*, which returns."""
    return [(_IF_EQUAL, 0, len(body), number), *body]


def _argument(position: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * position)  # the lower half, on little-endian machines


def _unless(position: int, values: Sequence[int], error: int) -> list[Instruction]:
    body = [_argument(position)]
    for value in values:
        body += [(_IF_EQUAL, 0, 1, value), _refuse(error)]
    return [*body, _PASS]


def _only(position: int, value: int, error: int) -> list[Instruction]:
    return [_argument(position), (_IF_EQUAL, 0, 1, value), _PASS, _refuse(error)]


def _exactly(arguments: Mapping[int, int], error: int) -> list[Instruction]:
    """Refuse with *error* (0: pretend success) if all *arguments* are these, allow otherwise."""
    body: list[Instruction] = []
    left = 2 * len(arguments)
    for position, value in arguments.items():
        left -= 2
        body += [_argument(position), (_IF_EQUAL, 0, left + 1, value)]
    return [*body, _refuse(error), _PASS]
