"""A network namespace of a step's own, connected to the outside by a program that an ordinary user may run.

slirp4netns and pasta translate between the packets of the namespace and ordinary sockets of ours. The namespace has the address
10.0.2.100, the gateway 10.0.2.2 and a name server of the tool; unless asked for, nothing in it reaches the host's loopback.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from img_core.linux import sandbox, syscalls
from img_core.linux.network.choice import TOOLS, NetworkChoice
from img_core.spec.errors import Canceled, HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from img_core.spec.host import Spawner

__all__ = ["GATEWAY", "PrivateNetwork", "find_tool", "new_namespace", "private_network", "shields_default"]

#: where the host's loopback can be reached, if that is allowed
GATEWAY: Final = "10.0.2.2"
_ADDRESS: Final = "10.0.2.100"
_NAME_SERVER: Final = "10.0.2.3"
_PACKAGES: Final = {"slirp4netns": "slirp4netns", "pasta": "passt"}
_TUN: Final = "/dev/net/tun"
_PATIENCE: Final = 10.0  # seconds; usually it takes milliseconds
_LONGEST_REASON: Final = 4096

_NEW_NAMESPACE: Final = "img_core.linux.network._helpers:send_namespace"
_CONNECT: Final = {name: f"img_core.linux.network._helpers:connect_with_{name}" for name in TOOLS}


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


def shields_default(environment: Mapping[str, str]) -> bool:
    """Tell whether ``--network=default`` means a private network: the kernel cannot hide abstract sockets, and a tool is there."""
    if sandbox.hides_abstract_sockets():
        return False
    try:
        find_tool(NetworkChoice("private"), environment)
    except HostError:
        return False
    return True


@contextmanager
def private_network(
    choice: NetworkChoice, spawner: Spawner, environment: Mapping[str, str], cancel_fd: int
) -> Iterator[PrivateNetwork]:
    """Give a connected namespace for a block; what connects it ends with the block, and with us.

    Raises HostError, and Canceled when *cancel_fd* becomes readable before it is connected.
    """
    name, path = find_tool(choice, environment)
    with ExitStack() as opened:
        namespace_fd = new_namespace(spawner)
        opened.callback(os.close, namespace_fd)
        starter = _Starter(spawner, name, path, namespace_fd, choice.host_loopback, cancel_fd)
        opened.enter_context(starter.connected())
        yield PrivateNetwork(namespace_fd, _NAME_SERVER)


def new_namespace(spawner: Spawner) -> int:
    """Return a descriptor of a new network namespace, in which nothing is up. Raises HostError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            spawned = spawner.spawn(_NEW_NAMESPACE, {}, fds=[theirs.fileno()], flags=syscalls.CLONE_NEWNET)
        try:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
            spawned.wait()
        finally:
            spawned.close()
    if not fds:
        raise HostError("cannot make a network namespace")
    return fds[0]


@dataclass(frozen=True, slots=True)
class _Starter:
    """How to start one tool for one namespace."""

    spawner: Spawner
    name: str
    path: str
    namespace_fd: int
    loopback: bool
    cancel_fd: int

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Keep the tool running for a block, which begins when the network works."""
        problem = ""
        # Without its own sandbox if it cannot have one, as in an unprivileged container.
        for hardened in (True, False):
            with ExitStack() as stack:
                log = os.memfd_create("img-network")
                stack.callback(os.close, log)
                if self._start(stack, log, hardened=hardened):
                    yield
                    return
                problem = _last_line(log)
        raise HostError(f"`{self.name}` could not connect a private network: {problem or 'it said nothing'}")

    def _start(self, stack: ExitStack, log: int, *, hardened: bool) -> bool:
        """Start it, to be killed by *stack*; tell whether it is ready."""
        ready_read, ready_write = os.pipe()
        stack.callback(os.close, ready_read)
        payload: dict[str, Any] = {"program": self.path, "loopback": self.loopback, "hardened": hardened}
        payload |= {"address": _ADDRESS, "gateway": GATEWAY, "name_server": _NAME_SERVER}
        fds = [self.namespace_fd, ready_write, log]
        try:
            spawned = self.spawner.spawn(_CONNECT[self.name], payload, fds=fds, flags=syscalls.CLONE_NEWPID)
        finally:
            os.close(ready_write)
        stack.callback(spawned.close)
        stack.callback(spawned.kill)  # its end is not waited for: the step has ended anyway
        return _becomes_ready(ready_read, self.cancel_fd)


def _becomes_ready(ready_fd: int, cancel_fd: int) -> bool:
    """Wait for a byte; the end of the pipe means that the tool has failed. Raises Canceled."""
    poll = select.poll()
    poll.register(ready_fd, select.POLLIN)
    if cancel_fd >= 0:
        poll.register(cancel_fd, select.POLLIN)
    found = [fd for fd, _ in poll.poll(_PATIENCE * 1000)]
    if cancel_fd in found:
        raise Canceled
    return ready_fd in found and bool(os.read(ready_fd, 1))


def _last_line(log: int) -> str:
    size = os.fstat(log).st_size
    text = os.pread(log, _LONGEST_REASON, max(0, size - _LONGEST_REASON)).decode(errors="replace")
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
