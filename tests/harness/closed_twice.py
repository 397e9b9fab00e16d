"""A guard for commands under test: nobody closes a descriptor that is not open, not even where the error would be suppressed.

Whoever does so closes, at some other moment, the file of another thread that got the number in between. So it is no error that may be
overlooked because it did no harm this time: the process says where it happened, and ends.
"""

from __future__ import annotations

import errno
import os
import traceback

__all__ = ["STATUS", "watch"]

STATUS = 134  #: of a process that did it, as if by SIGABRT


def watch() -> None:
    """Watch this process from now on, and those that it forks."""
    real = os.close

    def close(fd: int) -> None:
        try:
            real(fd)
        except OSError as err:
            if err.errno != errno.EBADF:
                raise
            where = "".join(traceback.format_stack()[:-1])
            os.write(2, f"descriptor {fd} was closed, but is not open:\n{where}".encode(errors="replace"))
            os._exit(STATUS)

    os.close = close
