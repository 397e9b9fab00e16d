"""Where a test keeps a cache, and records to put into it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from img_core.images import oci
from img_core.spec.cache import CacheLayer, CacheRecord
from img_core.spec.values import DiffId
from img_core.testing.results import DirectoryStore

__all__ = ["NOW", "Damage", "Maker", "Place"]

NOW = 1_750_000_000.0

#: Changes what is stored, with a source of chance; returns how to undo it.
Damage = Callable[[random.Random], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a test keeps its cache: options of an export and of an import, and what the tests may do behind the backend's back.

    *state* returns all that is stored, to compare before and after. *damage* changes one thing that is stored. Where a save changes our own
    disk, *on_disk* lets the suite crash it and fail it at every change.
    """

    export: Mapping[str, Any]  # Any: JSON
    source: Mapping[str, Any]  # Any: JSON
    state: Callable[[], object]
    damage: Mapping[str, Damage] = field(default_factory=dict)
    on_disk: bool = False


class Maker:
    """Makes records whose layers are blobs of *store*."""

    def __init__(self, store: DirectoryStore) -> None:
        self.store = store
        self._layers: dict[str, CacheLayer] = {}

    def layer(self, name: str) -> CacheLayer:
        """Return a layer; equal names give equal ones."""
        if name not in self._layers:
            content = name.encode() * 50
            diff_id = DiffId("sha256:" + hashlib.sha256(content).hexdigest())
            self._layers[name] = CacheLayer(self.store.put(content, oci.OCI_LAYER), diff_id, NOW)
        return self._layers[name]

    def record(self, name: str, *layers: str) -> CacheRecord:
        """Return the record of a step that made the last of *layers*."""
        key = hashlib.sha256(name.encode()).hexdigest()
        stack = tuple(map(self.layer, layers))
        return CacheRecord(
            key, hashlib.sha256(b"definition " + name.encode()).hexdigest(), key, f"sha256:{'b' * 64}", stack,
            created=NOW, last=NOW, seconds=1.5, platform="linux/amd64", description=f"RUN {name}",
            inputs=(("op", key[:8]),), trees=((key[:16], key[16:32]),),
        )  # fmt: skip

    def chain(self, name: str, count: int) -> list[CacheRecord]:
        """Return the records of *count* steps on each other."""
        names = [f"{name} {number}" for number in range(count)]
        return [self.record(step, *names[: number + 1]) for number, step in enumerate(names)]
