"""What the operations of a client give, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from img_core.store.fsck import Problem

__all__ = [
    "CacheContents",
    "CachedStep",
    "LoadResult",
    "PushResult",
    "StateReport",
    "Unpacked",
]


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did: *name* means *digest* at its registry now. The others count blobs."""

    name: str
    digest: str
    sent: int
    mounted: int
    existed: int


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
