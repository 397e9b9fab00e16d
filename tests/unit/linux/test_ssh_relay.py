"""A step may list keys and sign with the user's agent, and nothing else."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from img_core.linux.ssh_relay import Relay, short_address

FAILURE = b"\x00\x00\x00\x01\x05"


def message(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(payload), kind) + payload


class RecordingAgent:
    """Answers every request with its own kind plus 100 and remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        self.asked: list[int] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                while header := client.recv(4):
                    body = client.recv(int.from_bytes(header, "big"))
                    self.asked.append(body[0])
                    client.sendall(message(body[0] + 100))

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.listener.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RecordingAgent]:
    recording = RecordingAgent(tmp_path / "agent")
    yield recording
    recording.close()


@pytest.fixture
def client(tmp_path: Path, agent: RecordingAgent) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "relay"))
    listener.listen()
    relay = Relay(listener, str(tmp_path / "agent"))
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(tmp_path / "relay"))
    yield connection
    connection.close()
    relay.stop()
    listener.close()


@pytest.mark.parametrize("kind", [11, 13])
def test_listing_and_signing_reach_the_agent(client: socket.socket, agent: RecordingAgent, kind: int) -> None:
    client.sendall(message(kind, b"data"))
    assert client.recv(100) == message(kind + 100)
    assert agent.asked == [kind]


@pytest.mark.parametrize("kind", [17, 18, 19, 20, 22, 23, 25, 27, 0, 255])
def test_changing_the_agent_is_refused_and_never_reaches_it(
    client: socket.socket, agent: RecordingAgent, kind: int
) -> None:
    client.sendall(message(kind, b"data"))
    assert client.recv(100) == FAILURE
    client.sendall(message(11))
    assert client.recv(100) == message(111)
    assert agent.asked == [11]


def test_a_message_in_pieces_arrives_whole(client: socket.socket, agent: RecordingAgent) -> None:
    for byte in message(13, b"x" * 20):
        client.sendall(bytes([byte]))
    assert client.recv(100) == message(113)


@pytest.mark.parametrize("garbage", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"])
def test_garbage_ends_the_connection(client: socket.socket, agent: RecordingAgent, garbage: bytes) -> None:
    client.sendall(garbage)
    assert client.recv(100) == b""
    assert agent.asked == []


def test_a_socket_deep_in_the_tree_has_a_short_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as client,
        short_address(str(deep / "socket")) as address,
    ):
        listener.bind(address)
        listener.listen()
        client.connect(address)
    assert (deep / "socket").is_socket()
