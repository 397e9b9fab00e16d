"""Static programs of a few instructions, which a step can run without any library."""

from __future__ import annotations

import struct

__all__ = ["exit_42_on_aarch64", "exit_42_on_i386", "exit_with_euid_on_x86_64"]


def exit_with_euid_on_x86_64() -> bytes:
    """Return a static program: mov eax, 107 (geteuid); syscall; mov edi, eax; mov eax, 60 (exit); syscall."""
    return _of_64_bits(62, bytes.fromhex("b86b000000 0f05 89c7 b83c000000 0f05"))


def exit_42_on_aarch64() -> bytes:
    """Return a static program: mov x0, #42; mov x8, #93 (exit); svc #0."""
    return _of_64_bits(183, bytes.fromhex("400580d2 a80b80d2 010000d4"))


def _of_64_bits(machine: int, code: bytes) -> bytes:
    """Return *code* with the headers of elf(5) for the number of a *machine*."""
    base, offset = 0x400000, 64 + 56
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + offset, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, offset + len(code), offset + len(code), 4096)
    return identity + header + segment + code


def exit_42_on_i386() -> bytes:
    """Return a static program: mov ebx, 42; mov eax, 1 (exit); int 0x80. The headers are those of elf(5)."""
    code = bytes.fromhex("bb2a000000 b801000000 cd80")
    base, offset = 0x08048000, 52 + 32
    identity = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + offset, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, offset + len(code), offset + len(code), 5, 4096)
    return identity + header + segment + code
