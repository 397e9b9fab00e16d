"""Filters of system calls, interpreted."""

from __future__ import annotations

import struct

__all__ = ["evaluate"]


def evaluate(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """Interpret a program as the kernel would."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    position, accumulator = 0, 0
    while True:
        code, if_true, if_false, constant = struct.unpack_from("<HBBI", program, position * 8)
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x05:
            position += constant
        elif code == 0x06:
            return int(constant)
        else:
            hit = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}[
                code
            ]
            position += if_true if hit else if_false
