"""Passes what a step may ask of the user's ssh agent on to it, and nothing else.

The agent asks the kernel who connects, and must see us, not an id of the container. Of the agent protocol
(draft-miller-ssh-agent) a step may list keys and have something signed; it must not add, remove or lock keys of the user.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Relay", "short_address"]

_REQUEST_IDENTITIES = 11
_SIGN_REQUEST = 13
_ALLOWED = (_REQUEST_IDENTITIES, _SIGN_REQUEST)
_FAILURE = b"\x00\x00\x00\x01\x05"
_LONGEST_MESSAGE = 256 * 1024  # what OpenSSH's agent accepts


@contextmanager
def short_address(path: str) -> Iterator[str]:
    """Give an address of the socket *path* that fits into the 108 bytes of unix(7), however long *path* is."""
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


class Relay:
    """Accepts connections on *listener* and serves each from a connection of its own to the agent at *target*."""

    def __init__(self, listener: socket.socket, target: str) -> None:
        self._listener = listener
        self._address = target
        self._opened = ExitStack()  # until nobody serves any more
        with suppress(OSError):  # without the directory there is no agent, which those who connect will see
            # Once and now: by its name it may not be found while a step runs.
            self._address = self._opened.enter_context(short_address(target))
        self._stopped = False
        threading.Thread(target=self._accept, name="ssh-relay", daemon=True).start()

    def stop(self) -> None:
        """Accept no further connection."""
        self._stopped = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self) -> None:
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="ssh-relay", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            try:
                agent.connect(self._address)
                while (request := _receive(client)) is not None:
                    client.sendall(_answer(agent, request))
            except OSError:
                pass  # either side went away; the step sees its connection end


def _answer(agent: socket.socket, request: bytes) -> bytes:
    if request[4] not in _ALLOWED:
        return _FAILURE
    agent.sendall(request)
    answer = _receive(agent)
    return answer if answer is not None else _FAILURE


def _receive(source: socket.socket) -> bytes | None:
    """Return one whole message with its length, or None at the end of the stream."""
    header = _exactly(source, 4)
    if header is None:
        return None
    length = int.from_bytes(header, "big")
    if not 1 <= length <= _LONGEST_MESSAGE:
        raise ConnectionError("not a message of the agent protocol")
    body = _exactly(source, length)
    return header + body if body is not None else None


def _exactly(source: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        piece = source.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return data
