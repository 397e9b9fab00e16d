"""Numbered crash points: every change of the disk passes `mutation` first.

Tests enumerate faults instead of sampling them. Three environment variables, read once at import:

``IMG_CRASH_AT=n``           end the process with status 137, as SIGKILL would, right before the n-th mutation
``IMG_FAIL_AT=n:ENOSPC``     the n-th mutation raises that `OSError` instead of happening
``IMG_COUNT_MUTATIONS=file`` append the number of mutations to *file* when the process ends

A forked child goes on counting from its parent's number.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable

__all__ = ["count", "install", "mutation", "uninstall"]

_hook: Callable[[str, bytes | str], None] | None = None
_reached = 0


def mutation(kind: str, path: bytes | str = b"") -> None:
    """Announce that *path* is about to be changed. Raises `OSError` when this is the mutation that must fail."""
    if _hook is not None:
        _hook(kind, path)


def count() -> int:
    """Number of mutations seen since the last `install`."""
    return _reached


def install(
    *,
    crash_at: int | None = None,
    fail_at: int | None = None,
    error: int = errno.ENOSPC,
    log: Callable[[int, str, bytes | str], None] | None = None,
) -> None:
    """Count from 1 again and crash or fail at the given numbers; *log* sees each (number, kind, path)."""
    global _hook, _reached
    numbers = itertools.count(1)  # next() on it is atomic, threads need no lock
    _reached = 0

    def hook(kind: str, path: bytes | str) -> None:
        global _reached
        number = next(numbers)
        _reached = max(_reached, number)
        if log is not None:
            log(number, kind, path)
        if number == crash_at:
            os._exit(137)
        if number == fail_at:
            raise OSError(error, os.strerror(error), path)

    _hook = hook


def uninstall() -> None:
    """Stop counting; `mutation` costs nothing again."""
    global _hook
    _hook = None


def _write_count(path: str) -> None:
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{_reached}\n")


def _install_from_environment() -> None:
    crash_at = os.environ.get("IMG_CRASH_AT", "")
    fail_at, _, name = os.environ.get("IMG_FAIL_AT", "").partition(":")
    report = os.environ.get("IMG_COUNT_MUTATIONS", "")
    if not (crash_at or fail_at or report):
        return
    install(
        crash_at=int(crash_at) if crash_at else None,
        fail_at=int(fail_at) if fail_at else None,
        error=getattr(errno, name or "ENOSPC"),
    )
    if report:
        import atexit

        atexit.register(_write_count, report)


_install_from_environment()
