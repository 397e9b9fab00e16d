"""Compile `img_lib_containers.seccomp_rules` to classic BPF, one file per architecture, and to a profile for containers with img in them.

Run after a change of the rules or of ``syscalls.txt`` (a test compares the result with the committed files)::

    python contrib/seccomp/generate.py            # writes plugins/img_lib_containers/*.bpf and contrib/seccomp/builder.json
    python contrib/seccomp/generate.py --check    # only compares

The numbers of a system call table are grouped into ranges with the same answer, and the ranges become a binary tree: a call
passes seven or eight comparisons, and the whole program is a quarter of what a linear one needs.
"""

from __future__ import annotations

import errno
import json
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from img_lib_containers import seccomp_rules as rules  # noqa: E402 - needs the path above

# linux/audit.h
AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
#: the architectures that programs for one kernel may use
FAMILIES = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}

# linux/seccomp.h
RET_ALLOW = 0x7FFF0000
RET_USER_NOTIF = 0x7FC00000
RET_ERRNO = 0x00050000
NUMBER_OFFSET, ARCH_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16

# linux/bpf_common.h
LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP, AND, RETURN = 0x20, 0x15, 0x35, 0x05, 0x54, 0x06

S_IFMT, S_IFCHR, S_IFBLK = 0o170000, 0o020000, 0o060000

Program = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, constant


@dataclass(frozen=True)
class Answer:
    """What to do with a call: return *action*, or *matched* if any of the conditions holds."""

    action: int
    conditions: tuple[rules.Condition, ...] = ()
    matched: int = 0

    def program(self) -> Program:
        code: Program = []
        for condition in self.conditions:
            # Little endian: the low half of the 64-bit argument comes first; the kernel ignores the high half of all of these.
            code.append((LOAD, 0, 0, ARGUMENTS_OFFSET + 8 * condition.argument))
            if condition.operator == "masked==":
                code.append((AND, 0, 0, condition.mask))
            code.append((JUMP_EQUAL, 0, 1, condition.value))
            code.append((RETURN, 0, 0, self.matched))
        return [*code, (RETURN, 0, 0, self.action)]


UNKNOWN = Answer(RET_ERRNO | errno.ENOSYS)
REFUSED = Answer(RET_ERRNO | errno.EPERM)
ALLOWED = Answer(RET_ALLOW)
PRETENDED = Answer(RET_ERRNO | 0)


def sandbox_answer(name: str) -> Answer:
    """Answer of the filter that every step gets."""
    conditions = tuple(condition for condition in rules.CONDITIONS if condition.name == name)
    if conditions:
        return Answer(REFUSED.action, conditions, RET_ALLOW)
    if name in rules.HIDDEN:
        return UNKNOWN
    return ALLOWED if name in rules.ALLOWED else REFUSED


def socket_answer(name: str) -> Answer:
    """Answer of the additional filter for calls that hide the family of a socket."""
    conditions = tuple(condition for condition in rules.SOCKET_CALLS if condition.name == name)
    return Answer(RET_ALLOW, conditions, RET_USER_NOTIF) if conditions else ALLOWED


def owner_answer(name: str) -> Answer:
    """Answer of the additional filter for a single mapped id, in place of that for sockets: there can be one supervisor."""
    for call, argument in rules.DEVICE_CALLS:
        if name == call:
            devices = (rules.Condition(call, argument, "masked==", kind, S_IFMT) for kind in (S_IFCHR, S_IFBLK))
            return Answer(RET_USER_NOTIF, tuple(devices), PRETENDED.action)
    if name in rules.OWNER_CALLS:
        return Answer(RET_USER_NOTIF)
    conditions = tuple(condition for condition in rules.OWNER_CONDITIONS if condition.name == name)
    if conditions:
        return Answer(RET_ALLOW, conditions, RET_USER_NOTIF)
    return PRETENDED if name in rules.PRETENDED else socket_answer(name)


def fake_root_answer(name: str) -> Answer:
    """Answer of the filter for who has no capability, in place of that for a single mapped id."""
    if name in rules.FAKE_ROOT_CALLS:
        return Answer(RET_USER_NOTIF)
    exceptions = tuple(condition for condition in rules.FAKE_ROOT_EXCEPTIONS if condition.name == name)
    if exceptions:
        return Answer(RET_USER_NOTIF, exceptions, RET_ALLOW)
    if name in rules.FAKE_ROOT_HIDDEN:
        return UNKNOWN
    if any(condition.name == name for condition in (*rules.FAKE_PRIVILEGES, *rules.CLOSING_MASKS)):
        both = (*rules.FAKE_PRIVILEGES, *rules.CLOSING_MASKS, *rules.OWNER_CONDITIONS)
        return Answer(RET_ALLOW, tuple(condition for condition in both if condition.name == name), RET_USER_NOTIF)
    return owner_answer(name)


def standing_answer(name: str) -> Answer:
    """Answer of the filter for who has no capability either, and sees directories in ``/`` that the tree may lack."""
    return Answer(RET_USER_NOTIF) if name in rules.STANDING_CALLS else fake_root_answer(name)


def read_table(path: Path) -> dict[str, dict[str, int]]:
    """Return architecture -> name -> number."""
    lines = path.read_text().splitlines()
    columns = lines[1].lstrip("# ").split()[1:]
    table: dict[str, dict[str, int]] = {column: {} for column in columns}
    for line in lines[2:]:
        name, *numbers = line.split()
        for column, number in zip(columns, numbers, strict=True):
            if number != "-":
                table[column][name] = int(number)
    return table


def ranges(numbers: dict[str, int], answer: Callable[[str], Answer], unknown: Answer) -> list[tuple[int, Answer]]:
    """Return ``(first number, answer)`` in ascending order; each range reaches to the next one."""
    answers = {number: answer(name) for name, number in numbers.items()}
    found = [(0, answers.get(0, unknown))]
    for number in sorted({n + offset for n in answers for offset in (0, 1)}):
        current = answers.get(number, unknown)
        if current != found[-1][1]:
            found.append((number, current))
    return found


def tree(parts: list[tuple[int, Answer]]) -> Program:
    """Compile *parts* to a binary search on the loaded call number."""
    if len(parts) == 1:
        return parts[0][1].program()
    middle = len(parts) // 2
    low, high = tree(parts[:middle]), tree(parts[middle:])
    return branch(JUMP_GREATER_EQUAL, parts[middle][0], high, low)


def branch(code: int, value: int, when_true: Program, when_false: Program) -> Program:
    """Compile a two-way branch; conditional jumps reach only 255 instructions, the plain jump any distance."""
    if len(when_false) <= 255:
        return [(code, len(when_false), 0, value), *when_false, *when_true]
    return [(code, 0, 1, value), (JUMP, 0, 0, len(when_false)), *when_false, *when_true]


def compile_family(
    table: dict[str, dict[str, int]], family: Iterable[str], answer: Callable[[str], Answer], unknown: Answer
) -> bytes:
    """Compile the program for a kernel that runs all architectures of *family*; calls of others are unknown."""
    program = UNKNOWN.program()
    for architecture in reversed(tuple(family)):
        body: Program = [
            (LOAD, 0, 0, NUMBER_OFFSET),
            *tree(ranges(table[architecture], answer, unknown)),
        ]
        program = branch(JUMP_EQUAL, AUDIT_ARCH[architecture], body, program)
    program = [(LOAD, 0, 0, ARCH_OFFSET), *program]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def programs() -> dict[str, bytes]:
    """Return name in `plugins/img_lib_containers` -> content."""
    table = read_table(ROOT / "contrib/seccomp/syscalls.txt")
    made = {}
    for machine, family in FAMILIES.items():
        made[f"seccomp_{machine}.bpf"] = compile_family(table, family, sandbox_answer, UNKNOWN)
        made[f"owners_{machine}.bpf"] = compile_family(table, family, owner_answer, ALLOWED)
        made[f"fake_root_{machine}.bpf"] = compile_family(table, family, fake_root_answer, ALLOWED)
        made[f"standing_{machine}.bpf"] = compile_family(table, family, standing_answer, ALLOWED)
        hidden = {condition.name for condition in rules.SOCKET_CALLS}
        if any(hidden & table[architecture].keys() for architecture in family):
            made[f"sockets_{machine}.bpf"] = compile_family(table, family, socket_answer, ALLOWED)
    return made


def files() -> dict[Path, bytes]:
    """Return everything that is generated."""
    made = {ROOT / "plugins/img_lib_containers" / name: content for name, content in programs().items()}
    profile = json.dumps(rules.builder_profile(), indent=1) + "\n"
    return {**made, ROOT / "contrib/seccomp/builder.json": profile.encode()}


def main() -> int:
    stale = []
    for path, content in files().items():
        if not path.exists() or path.read_bytes() != content:
            stale.append(path.name)
        if "--check" not in sys.argv:
            path.write_bytes(content)
            print(f"{path.name}: {len(content)} bytes")
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
