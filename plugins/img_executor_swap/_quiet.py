"""What the builder must not do while the files of an image are in the place of the container's: whoever wants to waits until they are not.

To look up a host or a user, to start a program, to open a file by a name of `/`: C libraries would read settings of the image for that,
and load code that those name, into the process that holds credentials. Audit events (PEP 578) tell of these before they are done. What
sends layers to a cache beside the steps does such things. Modules are no matter: they come from the home of img, which stays.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from img_executor_swap._place import HOME, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Quiet"]

_LOOK_UPS: Final = frozenset(
    (
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "socket.getnameinfo",
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.system",
        "os.forkpty",
        "img.spawn",
    )
)
_OPENINGS: Final = frozenset(("open", "os.listdir", "os.scandir"))


class Quiet:
    """Holds back threads. The interpreter keeps its hook for ever, so there should be one object in a process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the two below
        self._owner = 0
        self._stays: frozenset[str] = frozenset()
        sys.addaudithook(self._audit)

    @contextmanager
    def during(self, root: str = "/") -> Iterator[None]:
        """Hold others back in the block. The thread that is in it may start a process by the zygote, and gets an error for the rest."""
        volumes = [name for name in os.listdir(root) if os.path.ismount(os.path.join(root, name))]
        with self._changed:
            self._changed.wait_for(lambda: not self._owner)
            self._stays = frozenset(("", *SYSTEM, HOME, *volumes))
            self._owner = get_ident()
        try:
            yield
        finally:
            with self._changed:
                self._owner = 0
                self._changed.notify_all()

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:  # Any: what the interpreter tells
        if not self._owner or not (event in _LOOK_UPS or (event in _OPENINGS and self._is_away(arguments[0]))):
            return
        if self._owner == get_ident():
            if event == "img.spawn":
                return
            raise RuntimeError(f"{event} while the files of an image are in place: {arguments[:1]}")
        with self._changed:
            self._changed.wait_for(lambda: not self._owner)

    def _is_away(self, path: Any) -> bool:  # Any: a path or a descriptor
        if not isinstance(path, str | bytes):
            return False
        name = os.fsdecode(path)
        return name.startswith("/") and name.split("/", 2)[1] not in self._stays
