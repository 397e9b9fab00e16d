"""The builder's side of `socket_calls`, which is loaded by the process that answers them alone: hardly any step needs one."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from img_core.spec.host import Spawned, Spawner

__all__ = ["SocketSupervisor"]

_ENTRY: Final = "img_lib_containers.socket_calls:supervise"


class SocketSupervisor:
    """The builder's side, for one step: a descriptor for the container to send its listener to, and one to watch meanwhile."""

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener = -1
        self._process: Spawned | None = None
        self.watched = self._ours.fileno()  #: call `act` when there is something to read; -1: nothing to watch any more

    @property
    def container_fd(self) -> int:
        """The descriptor that goes to the container, for `owner_supervisor.deliver_listener`."""
        return self._theirs.fileno()

    def act(self, events: int) -> None:
        """Take the listener when it comes; start the process when the first call waits. *events*: of poll(2), for `watched`."""
        self.watched = -1
        if not events & select.POLLIN:  # the last process that could call is gone
            return
        if self._listener < 0:
            _, listeners, _, _ = socket.recv_fds(self._ours, 64, 1, socket.MSG_CMSG_CLOEXEC)
            if listeners:
                self._listener = self.watched = listeners[0]
            return
        self._process = self._spawner.spawn(_ENTRY, {}, fds=[self._listener])
        self._close_listener()

    def __enter__(self) -> SocketSupervisor:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ours.close()
        self._theirs.close()
        self._close_listener()
        if self._process is not None:
            self._process.kill()
            self._process.close()

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, -1
        if listener >= 0:
            os.close(listener)
