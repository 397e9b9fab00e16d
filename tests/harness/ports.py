"""Ports for servers that have to be told one."""

from __future__ import annotations

from img_core.testing.registry import free_port

__all__ = ["free_ports"]


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nobody listens now."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)
