"""What a limit of the process or of the kernel refused, in words: no bug of ours, wherever it was met."""

from __future__ import annotations

import errno
import os

from img_core.spec.errors import HostError, ImgError
from img_core.spec.text import show

__all__ = ["exhaustion"]

_MEMORY = "there is not enough memory, or no further thread may be started"
_MEMORY_HINT = "raise the limits of the process (`ulimit -v`, `ulimit -u`), or free some memory"

#: errno -> message, and hint; see getrlimit(2)
_LIMITS = {
    errno.EMFILE: ("too many open files", "raise the limit of the process: `ulimit -n 1024`"),
    errno.ENFILE: ("too many open files on this machine", "the limit is in `/proc/sys/fs/file-max`"),
    errno.EAGAIN: ("no further process may be started", "raise the limit of this user's processes: `ulimit -u`"),
    errno.ENOMEM: (_MEMORY, _MEMORY_HINT),
    errno.EFBIG: ("a file would become too large", "raise the limit of the process: `ulimit -f`"),
}


def exhaustion(err: BaseException) -> ImgError | None:
    """Return *err* as HostError if a limit was reached, as ImgError if a path is too long for the kernel; else None."""
    if isinstance(err, MemoryError) or (isinstance(err, RuntimeError) and "start new thread" in str(err)):
        return HostError(_MEMORY, hint=_MEMORY_HINT)
    if not isinstance(err, OSError):
        return None
    if err.errno == errno.ENAMETOOLONG:
        return ImgError(f"{os.strerror(err.errno).lower()}{_of(err)}", hint="a path has at most 4095 bytes, a name 255")
    if err.errno not in _LIMITS:
        return None
    message, hint = _LIMITS[err.errno]
    return HostError(message + (_of(err) if err.errno == errno.EFBIG else ""), hint=hint)


def _of(err: OSError) -> str:
    named: object = err.filename
    return f": `{show(os.fsencode(named), limit=200)}`" if isinstance(named, (str, bytes)) else ""
