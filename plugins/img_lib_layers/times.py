"""Whether the times of files tell that they were changed."""

from __future__ import annotations

import mmap
import os
import time
from typing import Final

from img_core.files import fs

__all__ = ["CLOCK_SECONDS", "shows_memory_writes", "ticked", "time_now"]

CLOCK_SECONDS: Final = 3.0  #: the coarsest file systems count whole seconds, or two


def ticked(directory: str, latest: int) -> bool:
    """Wait until a change beneath the file system of *directory* gets a time after *latest* (ns); tell whether that came to pass.

    A file of ours is made there and removed again.
    """
    path = f"{directory}/tick-{os.urandom(4).hex()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        deadline = time.monotonic() + CLOCK_SECONDS
        while _touched(path) <= latest:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True
    finally:
        os.unlink(path)


def time_now(directory: str) -> int:
    """Return the time (ns) that a change on the file system of *directory* gets now."""
    path = f"{directory}/tick-{os.urandom(4).hex()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        return _touched(path)
    finally:
        os.unlink(path)


def _touched(path: str) -> int:
    os.utime(path)
    return os.stat(path).st_ctime_ns


def shows_memory_writes(directory: str) -> bool:
    """Tell whether a file of *directory* that is changed through shared memory (mmap(2)) gets a new time: not so on a tmpfs."""
    path = f"{directory}/mapped-{os.urandom(4).hex()}"
    with open(path, "x+b", buffering=0) as file:
        try:
            file.write(b"before")
            was = os.fstat(file.fileno()).st_ctime_ns
            if not ticked(directory, was):
                return False
            with mmap.mmap(file.fileno(), 6) as mapped:
                if mapped[0]:  # where nobody waits for the first write, a page that was read may be written unseen
                    mapped[0:5] = b"after"
            return os.fstat(file.fileno()).st_ctime_ns > was
        finally:
            fs.unlink(path)
