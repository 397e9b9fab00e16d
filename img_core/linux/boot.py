"""What tells one boot of the machine from another."""

from __future__ import annotations

__all__ = ["boot_id"]


def boot_id() -> str | None:
    """Return the kernel's name of the time since the last boot (random(4)), or None where ``/proc`` does not show it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip() or None
    except OSError:  # e.g. mounted with subset=pid
        return None
