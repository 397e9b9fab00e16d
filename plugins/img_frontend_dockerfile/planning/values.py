"""Checks of single values: ports, signals, modes, owners."""

from __future__ import annotations

import re

from img_core.files.modes import parse_mode
from img_core.spec.errors import UsageError
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import quote

__all__ = ["check_mode", "check_signal", "is_numeric_owner", "parse_port"]

_PROTOCOLS = ("tcp", "udp", "sctp")
_SIGNAL_NAMES = """
    ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP
    TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX
"""
_SIGNALS = frozenset(_SIGNAL_NAMES.split())
_REALTIME = re.compile(r"RTMIN\+([1-9]|1[0-5])|RTMAX-([1-9]|1[0-4])")


def check_signal(signal: str) -> None:
    """Raise `Fault` unless *signal* is a name with or without ``SIG``, a number of at least 1, or ``SIGRTMIN+n``."""
    name = signal.upper().removeprefix("SIG")
    number = re.fullmatch(r"\+?0*[1-9][0-9]*", signal)
    if not number and name not in _SIGNALS and not _REALTIME.fullmatch(name):
        raise Fault(f"invalid signal: {signal}")


def parse_port(text: str) -> tuple[list[str], bool, bool]:
    """Parse one argument of EXPOSE to ``port/protocol`` texts, ranges unrolled.

    The flags tell that the protocol was not in lower case, and that an address or a host port was given (it is dropped).
    Raises `Fault`.
    """
    front, _, last = text.rpartition(":")
    container, _, protocol = last.partition("/")
    address, _, host = front.rpartition(":")
    protocol = protocol or "tcp"
    if not container:
        raise Fault(f"invalid port: {quote(text)}: no port specified")
    if protocol.lower() not in _PROTOCOLS:
        raise Fault(f"invalid port: {quote(text)}: invalid proto: {protocol}")
    if address and not _is_address(address):
        raise Fault(f"invalid IP address: {address}")
    ports = _port_range(container, "containerPort")
    if host and len(ports) not in (1, len(_port_range(host, "hostPort"))):
        raise Fault(f"invalid ranges specified for container and host Ports: {container} and {host}")
    return [f"{port}/{protocol.lower()}" for port in ports], protocol != protocol.lower(), bool(front)


def _is_address(text: str) -> bool:
    from ipaddress import ip_address  # nobody needs an address here

    try:
        ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return False
    return True


def _port_range(text: str, what: str) -> range:
    first, dash, last = text.partition("-")
    low, high = _port(first), _port(last if dash else first)
    if low is None or high is None or low > high:
        raise Fault(f"invalid {what}: {text}")
    return range(low, high + 1)


def _port(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,9}", text) and 0 <= int(text) < 65536 else None


def check_mode(mode: str) -> None:
    """Raise `Fault` unless *mode* is octal up to 07777 or a symbolic mode as chmod(1) takes."""
    try:
        parse_mode(mode)
    except UsageError as err:
        raise Fault(str(err), hint=err.hint) from None


def is_numeric_owner(owner: str) -> bool:
    """Say whether the value of ``--chown`` can be used without a passwd file."""
    return all(part.isdigit() and part.isascii() for part in owner.split(":") if part)
