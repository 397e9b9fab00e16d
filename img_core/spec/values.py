"""Small frozen values that everybody exchanges."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, NewType

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChainId", "Credentials", "Descriptor", "DiffId", "Digest", "Platform"]

#: ``sha256:<64 lower-case hex digits>`` of bytes as stored or transferred (OCI image-spec, descriptor.md).
Digest = NewType("Digest", str)

#: Digest of a layer's *uncompressed* tar stream (OCI image-spec, config.md).
DiffId = NewType("DiffId", str)

#: Digest that names a stack of layers, computed from their diff ids (OCI image-spec, config.md, "Layer ChainID").
ChainId = NewType("ChainId", str)


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and processor, e.g. ``linux/arm/v7``, in normalised OCI spelling."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names content by media type, digest and size in bytes (OCI image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a registry accepts from us; the secret parts never appear in ``repr``."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  #: to be exchanged at the token server
    registry_token: str = field(default="", repr=False)  #: a bearer token to be sent as it is
