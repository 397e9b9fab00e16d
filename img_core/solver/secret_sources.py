"""Where secrets and ssh agents come from, as plain values."""

from __future__ import annotations

from dataclasses import field

from img_core.spec.dataclass import dataclass

__all__ = ["SecretSource", "SshAgent"]


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret comes from: the file *path*, the environment variable *variable*, or the bytes themselves."""

    path: str = ""
    variable: str = ""
    value: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SshAgent:
    """The socket of an agent that steps may use under an id."""

    path: str
