"""What ``--network`` says."""

from __future__ import annotations

from typing import Final

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError

__all__ = ["TOOLS", "NetworkChoice"]

#: programs that connect a private network, the faster one to start first
TOOLS: Final = ("slirp4netns", "pasta")
_MODES: Final = ("default", "none", "host", "private", *TOOLS)
_OPTION: Final = "allow_host_loopback"


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """The network of steps that do not ask for another.

    *mode* is ``default``, ``none``, ``host`` or ``private``. Of a private one: the *tool* (empty: whichever there is), and whether
    the *host_loopback* (services on the host's 127.0.0.1) can be reached through the gateway.
    """

    mode: str = "default"
    tool: str = ""
    host_loopback: bool = False

    @classmethod
    def parse(cls, text: str) -> NetworkChoice:
        """Parse ``default``, ``none``, ``host``, ``private``, or the name of a tool, the last ones with options as podman writes them."""
        mode, colon, option = text.partition(":")
        if mode not in _MODES:
            raise UsageError(f"unknown network `{mode}`", hint="known: " + ", ".join(f"`{name}`" for name in _MODES))
        if not colon:
            return cls("private", mode) if mode in TOOLS else cls(mode)
        name, _, value = option.partition("=")
        if mode in ("default", "none", "host") or name != _OPTION or value not in ("true", "false"):
            raise UsageError(f"unknown option `{option}` of network `{mode}`", hint=f"e.g. `private:{_OPTION}=true`")
        return cls("private", "" if mode == "private" else mode, value == "true")
