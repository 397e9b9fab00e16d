"""One walk along a path of strangers beneath an open directory: the way in which everything here resolves links by itself.

Whoever needs more than openat2(2) gives (making what is missing, hiding what is ignored, saying where a path ends) goes step by step:
take the `next` name, `look` at it, and `go` there. Every directory on the way stays open, so that ``..`` is where we came from whatever
is renamed meanwhile, and no link leads out of the root.
"""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["LINK_LIMIT", "Walk"]

LINK_LIMIT = 40  #: the kernel's own, see path_resolution(7)
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Walk:
    """A walk from the directory *root* along *path*, whose absolute links and ``..`` end at the root. Use as a context manager.

    Not *clamped*, a path, a link or a ``..`` that leads out is an OSError (``EXDEV``) instead.
    """

    def __init__(self, root: int, path: bytes, *, clamped: bool = True) -> None:
        self._root = root
        self._path = path
        self._clamped = clamped
        self._todo: list[bytes] = []
        self._fds: list[int] = []
        self._names: list[bytes] = []
        self._links = 0
        self._lead(path)

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._to_root()

    @property
    def here(self) -> int:
        """The directory where we are; it is closed when the walk goes on or ends."""
        return self._fds[-1] if self._fds else self._root

    @property
    def path(self) -> bytes:
        """Where that is below the root, without links."""
        return b"/".join(self._names)

    def path_of(self, name: bytes) -> bytes:
        """Return where the entry *name* of that directory is."""
        return b"/".join([*self._names, name])

    @property
    def left(self) -> int:
        """How many parts of the path are left to go."""
        return len(self._todo)

    def next(self) -> bytes | None:
        """Return the next name on the path, which means an entry of `here`; None when we are where the path leads."""
        while self._todo:
            name = self._todo.pop()
            if name != b"..":
                return name
            if self._fds:
                self._names.pop()
                os.close(self._fds.pop())
            elif not self._clamped:
                raise self._error(errno.EXDEV)
        return None

    def look(self, name: bytes) -> int:
        """Open the entry *name* of `here` itself (``O_PATH``), also if it is a link. Raises OSError."""
        return os.open(name, _LOOK, dir_fd=self.here)

    def go(self, name: bytes, fd: int) -> bytes | None:
        """Enter the directory *fd*, called *name*, or go where the link *fd* leads, and return its text; *fd* is ours now.

        Raises OSError for anything else (``ENOTDIR``), and for the forty-first link (``ELOOP``).
        """
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            self._fds.append(fd)
            self._names.append(name)
            return None
        try:
            if not stat.S_ISLNK(mode):
                raise self._error(errno.ENOTDIR)
            target = os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
        self.follow(target)
        return target

    def follow(self, target: bytes) -> None:
        """Go on along *target*, what an entry of `here` links to. Raises OSError as `go`."""
        self._links += 1
        if self._links > LINK_LIMIT:
            raise self._error(errno.ELOOP)
        self._lead(target)

    def leave(self) -> int:
        """Return a descriptor of where we are, which is the caller's."""
        return os.dup(self.here)

    def _lead(self, path: bytes) -> None:
        if b"\0" in path:
            raise self._error(errno.EINVAL)
        if path.startswith(b"/"):
            if not self._clamped:
                raise self._error(errno.EXDEV)
            self._to_root()
        self._todo.extend(part for part in reversed(path.split(b"/")) if part not in (b"", b"."))

    def _to_root(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
        self._names.clear()

    def _error(self, code: int) -> OSError:
        return OSError(code, os.strerror(code), self._path)
