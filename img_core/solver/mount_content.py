"""The content of cache mounts as layers of a shared cache: packed after a build, unpacked before a step that mounts them runs.

A mount travels as a whole: whoever saves last replaces what was there, and nothing is ever put together from two.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from img_core.archives.directories import TooLargeError, pack_directory, unpack_directory
from img_core.files import fs
from img_core.images.layer_types import layer_type
from img_core.solver.keys import digest_of
from img_core.solver.stacks import Rejection, RestartError
from img_core.spec.cache import CACHE_MOUNT, CacheLayer, CacheRecord
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.text import why
from img_core.spec.values import Descriptor, DiffId, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from img_core.solver.cache_import import Imports
    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Imported
    from img_core.spec.cache import CacheBackend

__all__ = ["MountRecords", "restore"]

_COMPRESSION = "zstd"


class MountRecords:
    """The content of the cache *mounts* (ids by the names of directories) of one finished build, packed once for all targets."""

    def __init__(self, scope: BuildScope, mounts: Mapping[str, str], now: float) -> None:
        self._scope = scope
        self._mounts = mounts
        self._now = now
        self._packed: dict[str, CacheLayer | ImgError | None] = {}
        self._packing = threading.Lock()

    def of(self, target: CacheBackend, warn: Callable[[str], None]) -> list[CacheRecord]:
        """Return what *target* is to keep; *warn* gets a line about each mount that cannot be saved. Safe to call from several threads."""
        with self._packing:
            wanted = [(name, mount_id) for name, mount_id in self._mounts.items() if target.carries_mount(mount_id)]
            found = (self._record(name, mount_id, target.mount_limit, warn) for name, mount_id in sorted(wanted))
            return [record for record in found if record is not None]

    def _record(self, name: str, mount_id: str, limit: int, warn: Callable[[str], None]) -> CacheRecord | None:
        layer = self._layer(name, limit)
        if layer is None:
            return None
        if isinstance(layer, CacheLayer) and layer.descriptor.size > limit:
            layer = TooLargeError(limit)
        if isinstance(layer, ImgError):
            warn(f"the cache mount `{fs.show(mount_id)}` is not saved: {layer.message}")
            return None
        return CacheRecord(
            name,
            CACHE_MOUNT,
            digest_of(CACHE_MOUNT, layer.diff_id),
            layers=(layer,),
            created=self._now,
            last=self._now,
            description=f"{CACHE_MOUNT} {mount_id}",
        )

    def _layer(self, name: str, limit: int) -> CacheLayer | ImgError | None:
        """Return the packed mount, or None if there is nothing in it, or why it cannot be had."""
        known = self._packed.get(name)
        if name not in self._packed or (isinstance(known, TooLargeError) and known.limit < limit):
            try:
                # Steps of other builds that lock the mount are waited for; whoever shares it may change it while it is read.
                with self._scope.store.lock(f"cache-mount:{name}", self._scope.cancellation.check):
                    known = self._pack(name, limit)
            except Canceled:
                raise
            except (ImgError, OSError) as err:
                known = err if isinstance(err, ImgError) else ImgError(why(err))
            self._packed[name] = known
        return known

    def _pack(self, name: str, limit: int) -> CacheLayer | None:
        blobs = self._scope.store.blobs
        directory = os.path.join(self._scope.store.state, "cache-mounts", name)
        file = blobs.new_file()
        try:
            check = self._scope.cancellation.check
            info = pack_directory(directory, file, compression=_COMPRESSION, limit=limit, check=check)
            if not info.entries:
                return None
            descriptor = Descriptor(layer_type(_COMPRESSION, docker=False), Digest(info.digest), info.size)
            blobs.lend(file, descriptor.digest)
            return CacheLayer(descriptor, DiffId(info.diff_id), self._now)
        finally:
            file.abort()


def restore(directory: str, found: Imported, imports: Imports, scope: BuildScope) -> bool:
    """Unpack what was *found* into the empty *directory*; if it is missing, damaged or not what it says, tell why and return False."""
    assert found.record.layers is not None
    (layer,) = found.record.layers

    def chunks() -> Iterator[bytes]:
        for chunk in found.backend.fetch(layer.descriptor):
            scope.cancellation.check()
            yield chunk

    try:
        unpack_directory(directory, chunks(), layer.descriptor, layer.diff_id, scope.host.mapping)
    except Canceled:
        raise
    except Exception as err:  # whatever a cache does, it fails no build
        reason = err.message if isinstance(err, ImgError) else f"{type(err).__name__}: {err}"
        imports.reject(RestartError([Rejection(found, reason)]))
        return False
    return True
