"""What runs in processes of the zygote to make and connect a network namespace."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INTERFACE = "tap0"
_MTU = "65520"  # the largest that both tools take


def send_namespace(_payload: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Send a descriptor of this process's own network namespace; it lives on while somebody has one."""
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with socket.socket(fileno=os.dup(fds[0])) as connection:
        socket.send_fds(connection, [b"n"], [namespace])
    return 0


def connect_with_slirp4netns(request: Mapping[str, Any], fds: Sequence[int]) -> int:
    """Become slirp4netns, the first process of a pid namespace."""
    namespace, ready, log = fds
    command = [request["program"], "--configure", f"--mtu={_MTU}", "--netns-type=path"]
    if not request["loopback"]:
        command.append("--disable-host-loopback")
    if request["hardened"]:
        command += ["--enable-sandbox", "--enable-seccomp"]
    command += [f"--ready-fd={ready}", f"/proc/self/fd/{namespace}", _INTERFACE]
    _become(command, (namespace, ready), log)


def connect_with_pasta(request: Mapping[str, Any], fds: Sequence[int]) -> int:
    """Start pasta, which becomes a daemon when it is ready, and stay as the first process of its pid namespace."""
    namespace, ready, log = fds
    os.set_inheritable(ready, False)
    command = [request["program"], "--config-net", "--quiet", "--ns-ifname", _INTERFACE, "--mtu", _MTU]
    command += ["--ipv4-only", "--address", request["address"], "--netmask", "24", "--gateway", request["gateway"]]
    command += ["--dns-forward", request["name_server"], "--no-dhcp", "--no-ndp", "--no-ra"]
    command += ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    if not request["loopback"]:
        command.append("--no-map-gw")
    command += ["--netns-only", "--netns", f"/proc/self/fd/{namespace}"]
    child = os.fork()
    if child == 0:
        _become(command, (namespace,), log)
    _, status = os.waitpid(child, 0)
    if status:
        return 1
    os.write(ready, b"1")
    os.close(ready)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return 0


def _become(command: list[str], kept: Sequence[int], log: int) -> NoReturn:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_DFL)
    for standard in (1, 2):
        os.dup2(log, standard)
    # Everything else is closed by execve.
    for fd in kept:
        os.set_inheritable(fd, True)
    os.execve(command[0], command, {"PATH": os.defpath})  # noqa: S606
