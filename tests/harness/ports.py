"""Ports for servers that have to be told one."""

from __future__ import annotations

import random
import socket

__all__ = ["free_ports"]

#: Below those that the kernel gives to who asks for any (ip(7), ``ip_local_port_range``): nobody gets one of these by chance.
_FIRST, _LAST = 15_000, 32_000


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nobody listens now."""
    found: list[int] = []
    for port in random.sample(range(_FIRST, _LAST), _LAST - _FIRST):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"there are no {count} free ports")
