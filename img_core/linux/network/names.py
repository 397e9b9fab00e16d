"""How a process in a network finds names: the files hosts(5) and resolv.conf(5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HOST_GATEWAY", "hosts_file", "resolver_file"]

#: in place of an address of a host: wherever the process reaches its own host
HOST_GATEWAY = "host-gateway"


def hosts_file(hostname: str, others: Iterable[tuple[str, str]], *, gateway: str = "127.0.0.1") -> bytes:
    """Return hosts(5) of a machine called *hostname* that knows *others* by name and address; *gateway* leads to the host."""
    lines = ["127.0.0.1\tlocalhost " + hostname, "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{gateway if address == HOST_GATEWAY else address}\t{name}" for name, address in others]
    return "\n".join(lines).encode() + b"\n"


def resolver_file(name_server: str = "") -> bytes:
    """Return this host's resolv.conf(5), empty if it has none, with *name_server* in place of its name servers if that is given."""
    try:
        with open("/etc/resolv.conf", "rb") as file:
            configuration = file.read(64 * 1024)
    except OSError:
        configuration = b""
    if not name_server:
        return configuration
    kept = [line for line in configuration.splitlines() if line.split()[:1] != [b"nameserver"]]
    return b"\n".join([*kept, b"nameserver " + name_server.encode(), b""])
