"""A network namespace of a step's own, connected to the outside by a program that an ordinary user may run.

slirp4netns and pasta translate between the packets of the namespace and ordinary sockets of ours. The namespace has the address
10.0.2.100, the gateway 10.0.2.2 and a name server of the tool; unless asked for, nothing in it reaches the host's loopback.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from img_core.kit import linux
from img_core.kit.network.choice import TOOLS
from img_core.spec.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from img_core.kit.network.choice import NetworkChoice
    from img_core.spec.host import Spawner

__all__ = ["GATEWAY", "PrivateNetwork", "find_tool", "new_namespace", "private_network"]

#: where the host's loopback can be reached, if that is allowed
GATEWAY: Final = "10.0.2.2"
_ADDRESS: Final = "10.0.2.100"
_NAME_SERVERS: Final = {"slirp4netns": "10.0.2.3", "pasta": "10.0.2.3"}
_PACKAGES: Final = {"slirp4netns": "slirp4netns", "pasta": "passt"}
_TUN: Final = "/dev/net/tun"
_PATIENCE: Final = 10.0  # seconds; usually it takes milliseconds
_LONGEST_REASON: Final = 4096

_NEW_NAMESPACE: Final = "img_core.kit.network._helpers:send_namespace"
_CONNECT: Final = {name: f"img_core.kit.network._helpers:connect_with_{name}" for name in TOOLS}


@dataclass(frozen=True, slots=True)
class PrivateNetwork:
    """A connected network namespace: join *namespace_fd*, ask *name_server*; the host is at *gateway*, as far as it is allowed."""

    namespace_fd: int
    name_server: str
    gateway: str = GATEWAY


def find_tool(choice: NetworkChoice, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return name and path of the program that connects private networks. Raises HostError with the package to install."""
    for name in (choice.tool,) if choice.tool else TOOLS:
        path = shutil.which(name, path=environment.get("PATH"))
        if path is None:
            continue
        if not os.access(_TUN, os.R_OK | os.W_OK):
            raise HostError(
                f"a private network needs `{_TUN}`, which this user may not open",
                hint=f"`sudo modprobe tun && sudo chmod 666 {_TUN}`, or start the container with `--device {_TUN}`",
            )
        return name, path
    wanted = f"`{choice.tool}`" if choice.tool else "`slirp4netns` or `pasta`"
    package = _PACKAGES[choice.tool or TOOLS[0]]
    raise HostError(
        f"a private network needs {wanted}, which is not on PATH",
        hint=f"install the package `{package}`, or use `--network=host` or `--network=none`",
    )


@contextmanager
def private_network(
    choice: NetworkChoice, spawner: Spawner, environment: Mapping[str, str]
) -> Iterator[PrivateNetwork]:
    """Give a connected namespace for a block; what connects it ends with the block, and with us. Raises HostError."""
    name, path = find_tool(choice, environment)
    with ExitStack() as opened:
        namespace_fd = new_namespace(spawner)
        opened.callback(os.close, namespace_fd)
        _connect(opened, spawner, name, path, namespace_fd, loopback=choice.host_loopback)
        yield PrivateNetwork(namespace_fd, _NAME_SERVERS[name])


def new_namespace(spawner: Spawner) -> int:
    """Return a descriptor of a new network namespace, in which nothing is up. Raises HostError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            spawned = spawner.spawn(_NEW_NAMESPACE, {}, fds=[theirs.fileno()], flags=linux.CLONE_NEWNET)
        try:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
            spawned.wait()
        finally:
            spawned.close()
    if not fds:
        raise HostError("cannot make a network namespace")
    return fds[0]


def _connect(opened: ExitStack, spawner: Spawner, name: str, path: str, namespace_fd: int, *, loopback: bool) -> None:
    """Start the tool *name*; return when the network works."""
    problem = ""
    # Without its own sandbox if it cannot have one, as in an unprivileged container.
    for hardened in (True, False):
        with ExitStack() as stack:
            ready_read, ready_write = os.pipe()
            stack.callback(os.close, ready_read)
            log = os.memfd_create("img-network")
            stack.callback(os.close, log)
            payload = {"program": path, "loopback": loopback, "hardened": hardened, "address": _ADDRESS}
            payload |= {"gateway": GATEWAY, "name_server": _NAME_SERVERS[name]}
            try:
                spawned = spawner.spawn(
                    _CONNECT[name], payload, fds=[namespace_fd, ready_write, log], flags=linux.CLONE_NEWPID
                )
            finally:
                os.close(ready_write)
            stack.callback(spawned.close)
            stack.callback(spawned.kill)  # its end is not waited for: the step has ended anyway
            if _becomes_ready(ready_read):
                opened.push(stack.pop_all())
                return
            problem = _last_line(log)
    raise HostError(f"`{name}` could not connect a private network: {problem or 'it said nothing'}")


def _becomes_ready(ready_fd: int) -> bool:
    """Wait for a byte; the end of the pipe means that the tool has failed."""
    poll = select.poll()
    poll.register(ready_fd, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            return bool(os.read(ready_fd, 1))
    return False


def _last_line(log: int) -> str:
    size = os.fstat(log).st_size
    text = os.pread(log, _LONGEST_REASON, max(0, size - _LONGEST_REASON)).decode(errors="replace")
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
