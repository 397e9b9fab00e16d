"""Layers as blobs: fetched from where an image comes from, or written from the snapshot of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.images import oci
from img_core.spec.errors import IntegrityError
from img_core.spec.values import Descriptor, DiffId, Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.solver.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.stacks import Layer
    from img_core.spec.snapshotter import Snapshotter
    from img_core.store import Store
    from img_core.store.snapshots import Snapshot

__all__ = ["LayerBlobs", "extracting"]


def extracting(descriptor: Descriptor) -> str:
    """Return how the unpacking of a layer is called (see `StepStatus`)."""
    return f"extracting {descriptor.digest}"


class LayerBlobs:
    """Turns layers into blobs, each once, whatever asks for them at the same time."""

    def __init__(self, store: Store, snapshotter: Snapshotter, events: Events, cancellation: Cancellation) -> None:
        self._store = store
        self._snapshotter = snapshotter
        self._events = events
        self._cancellation = cancellation

    def chunks(self, layer: Layer) -> Iterator[bytes]:
        """Give the stored form of an image layer, from the store or from its source; in the second case it is stored on the way."""
        descriptor = layer.descriptor
        assert descriptor is not None
        if self._store.blobs.has(descriptor.digest):
            yield from self._told(layer, extracting(descriptor), self._store.blobs.chunks(descriptor))
            return
        with self._store.lock(f"blob:{descriptor.digest}", self._cancellation.check):
            if self._store.blobs.has(descriptor.digest):
                yield from self._told(layer, extracting(descriptor), self._store.blobs.chunks(descriptor))
                return
            if layer.fetch is None:
                raise IntegrityError(
                    f"layer {descriptor.digest} is missing in the state directory", hint="pull the image again"
                )
            yield from self._told(layer, descriptor.digest, self._store.blobs.resume(descriptor, layer.fetch))
            self._events.status(layer.step, descriptor.digest, descriptor.size, descriptor.size, outcome="done")

    def _told(self, layer: Layer, text: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Give *chunks* of the blob of *layer*, and tell under *text* how many bytes passed."""
        assert layer.descriptor is not None
        done = 0
        for chunk in chunks:
            self._cancellation.check()
            done += len(chunk)
            self._events.status(layer.step, text, done, layer.descriptor.size, finished=False)
            yield chunk

    def write(self, layer: Layer) -> Descriptor:
        """Return the stored blob of *layer*; fetch it or write it from the snapshot if there is none."""
        with layer.lock:
            if layer.descriptor is not None and self._store.blobs.has(layer.descriptor.digest):
                return layer.descriptor
            if layer.origin is not None:
                return self._share_blob(layer, layer.origin)
            if layer.base or layer.snapshot is None:
                for _chunk in self.chunks(layer):
                    pass
                assert layer.descriptor is not None
                return layer.descriptor
            layer.diff_id = layer.snapshot.diff_id
            layer.descriptor = self._store.blobs.find_layer(layer.diff_id) if layer.diff_id else None
            if layer.descriptor is None:
                self._write_from_snapshot(layer, layer.snapshot)
            assert layer.descriptor is not None
            return layer.descriptor

    def _share_blob(self, layer: Layer, origin: Layer) -> Descriptor:
        layer.descriptor = self.write(origin)
        layer.diff_id = origin.diff_id
        if layer.diff_id is not None and layer.snapshot is not None and layer.snapshot.diff_id is None:
            self._store.snapshots.set_diff_id(layer.snapshot, layer.diff_id)
        return layer.descriptor

    def describe(self, layer: Layer) -> Descriptor:
        """Return what the stored blob of *layer* is, or would be: a layer of a base image that nobody needed stays in its registry."""
        blobs, descriptor = self._store.blobs, layer.descriptor
        if layer.remote and descriptor and (blobs.has(descriptor.digest) or blobs.origins(descriptor.digest)):
            return descriptor
        return self.write(layer)

    def _write_from_snapshot(self, layer: Layer, snapshot: Snapshot) -> None:
        from img_core.archives.tar import write_layer

        changes = self._snapshotter.changes(snapshot.directory, snapshot.parents)
        try:
            file = self._store.blobs.new_file()
            try:
                with fs.disk_errors(file.path):
                    info = write_layer(
                        changes, changes.root_fd, file.write, owner_of=lambda path, _status: changes.owner(path)
                    )
                    descriptor = Descriptor(oci.OCI_LAYER_GZIP, Digest(info.digest), info.size)
                    if not self._store.blobs.has(descriptor.digest):
                        self._store.blobs.publish(file, descriptor)
            finally:
                file.abort()
        finally:
            changes.close()
        diff_id = DiffId(info.diff_id)
        self._store.blobs.remember_layer(descriptor.digest, diff_id)
        self._store.snapshots.set_diff_id(snapshot, diff_id)
        layer.descriptor, layer.diff_id = descriptor, diff_id  # last: who failed before this is tried again
