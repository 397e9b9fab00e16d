"""What the operations of a client give, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from img_core.store.fsck import Problem

__all__ = [
    "CacheContents",
    "CachedStep",
    "HistoryEntry",
    "ImageDetails",
    "LoadResult",
    "PushResult",
    "RecordedBuild",
    "StateReport",
    "StoredImage",
    "Unpacked",
]


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A stored image. *name* is in full, e.g. ``docker.io/library/app:1``; an image without a name has its digest there.

    *digest* is its id: that of its manifest, or of the index of several platforms. *size* is the stored bytes of manifest, config and
    layers for this host, None if the image is damaged. Times are seconds since 1970 UTC. *labels* are there where they were asked for.
    """

    name: str
    digest: str
    media_type: str
    size: int | None
    created: float
    updated: float
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_untagged(self) -> bool:
        """Whether it is known by its id only, which docker calls dangling."""
        return self.name == self.digest


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A step of an image's history. *layer* is the digest of the layer that it made, empty if it made none; *size* are its stored bytes.

    *created* is a time as the image has it (RFC 3339), perhaps empty.
    """

    created: str
    created_by: str
    comment: str = ""
    layer: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """One platform's image behind a name. *config* is the whole config document; *layers* are digests, the base first.

    *history* begins with the oldest step; layers that it does not speak of come last, as steps without words.
    """

    image: StoredImage
    platform: str
    manifest_digest: str
    config_digest: str
    config: Mapping[str, Any]  # Any: JSON
    layers: tuple[str, ...]
    history: tuple[HistoryEntry, ...]


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did: *name* means *digest* at its registry now. The others count blobs."""

    name: str
    digest: str
    sent: int
    mounted: int
    existed: int


@dataclass(frozen=True, slots=True)
class RecordedBuild:
    """A build that has a log. *started* is in seconds since 1970 UTC, *seconds* how long it took, so far if it runs or was killed.

    *result* is ``ok``, ``failed`` (with *error*), ``canceled``, ``running`` or ``killed``. *context* is a directory or an address, or
    ``-`` for standard input; *definition* is as it was given, empty for the usual one. Of *steps* that were looked up in the cache
    *cached_steps* were found; known at the end.
    """

    id: str
    started: float
    seconds: float
    result: str
    context: str = ""
    definition: str = ""
    target: str = ""
    tags: tuple[str, ...] = ()
    cached_steps: int = 0
    steps: int = 0
    error: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """An image that came out of an archive. *names* are in full; none for an image that is kept under its *digest*."""

    names: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class CachedStep:
    """One result in a cache of many machines. *size* is that of the layer that the step made, None if the cache has only its name.

    *seconds* is how long the step took; *created* and *used* are seconds since 1970 UTC.
    """

    key: str
    description: str
    platform: str
    created: float
    used: float
    seconds: float
    size: int | None


@dataclass(frozen=True, slots=True)
class CacheContents:
    """What a cache of many machines holds: its *steps*, those used last first, and the bytes of all layers, each counted once.

    *warnings* has a line for each thing in it that cannot be used.
    """

    steps: tuple[CachedStep, ...] = ()
    size: int = 0
    layers: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What an unpacking left out: *skipped* names entries (devices), at most 100 of them; *skipped_count* counts all."""

    skipped: tuple[bytes, ...] = ()
    skipped_count: int = 0


@dataclass(frozen=True, slots=True)
class StateReport:
    """What is wrong with a state directory, and how many things of each kind were looked at."""

    problems: tuple[Problem, ...] = ()
    checked: Mapping[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many problems that do harm were not repaired."""
        return sum(not problem.repaired and not problem.harmless for problem in self.problems)
