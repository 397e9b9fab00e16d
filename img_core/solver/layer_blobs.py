"""Layers as blobs: fetched from where an image comes from, or written from the snapshot of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.images.layer_types import layer_codec, layer_type
from img_core.linux.spans import span
from img_core.solver.stacks import Rejection, RestartError, rejecting
from img_core.spec.errors import IntegrityError
from img_core.spec.values import Descriptor, DiffId, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.linux.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.stacks import Layer
    from img_core.spec.exporter import LayerForm
    from img_core.spec.snapshotter import Snapshotter
    from img_core.store import Store
    from img_core.store.snapshots import Snapshot

__all__ = ["LayerBlobs", "extracting"]


def extracting(descriptor: Descriptor) -> str:
    """Return how the unpacking of a layer is called (see `StepStatus`)."""
    return f"extracting {descriptor.digest}"


class LayerBlobs:
    """Turns layers into blobs, each once in each form, whatever asks for them at the same time. *form* is for who wants no certain one.

    *packed* hears of each blob that was made for a layer of a step.
    """

    def __init__(
        self,
        store: Store,
        snapshotter: Snapshotter,
        events: Events,
        cancellation: Cancellation,
        form: LayerForm,
        packed: Callable[[Layer, Descriptor], None] = lambda _layer, _blob: None,
    ) -> None:
        self._form = form
        self._packed = packed
        self._store = store
        self._snapshotter = snapshotter
        self._events = events
        self._cancellation = cancellation

    def chunks(self, layer: Layer, descriptor: Descriptor) -> Iterator[bytes]:
        """Give the blob *descriptor* of *layer*, from the store or from its source; in the second case it is stored on the way."""
        if self._store.blobs.has(descriptor.digest):
            yield from self._told(layer, descriptor, extracting(descriptor), self._store.blobs.chunks(descriptor))
            return
        with self._store.lock(f"blob:{descriptor.digest}", self._cancellation.check):
            if self._store.blobs.has(descriptor.digest):
                yield from self._told(layer, descriptor, extracting(descriptor), self._store.blobs.chunks(descriptor))
                return
            if layer.fetch is None:
                raise IntegrityError(
                    f"layer {descriptor.digest} is missing in the state directory", hint="pull the image again"
                )
            self._cancellation.check()  # who waited for us was ended by it, and would now begin to wait again
            arriving = self._store.blobs.resume(descriptor, layer.fetch)
            yield from self._told(layer, descriptor, descriptor.digest, arriving)
            self._events.status(layer.step, descriptor.digest, descriptor.size, descriptor.size, outcome="done")

    def _told(self, layer: Layer, descriptor: Descriptor, text: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Give *chunks* of the blob of *layer*, and tell under *text* how many bytes passed."""
        done = 0
        for chunk in chunks:
            self._cancellation.check()
            done += len(chunk)
            self._events.status(layer.step, text, done, descriptor.size, finished=False)
            yield chunk

    def write(self, layer: Layer, form: LayerForm | None = None) -> Descriptor:
        """Return a stored blob of *layer*; fetch it, or write it from the snapshot, if there is none.

        One of a step has *form*; without, it has any that is there, and else the first one that an exporter of this build wants. One of
        an image keeps its bytes.
        """
        with layer.lock:
            if layer.origin is not None:
                return self._shared(layer, layer.origin, form)
            if layer.base:
                return self._fetched(layer)
            if found := self.find(layer, form):
                return found
            if layer.snapshot is not None:
                return self._write_from_snapshot(layer, layer.snapshot, form)
            return self._in_form(layer, self._fetched(layer), form)

    def find(self, layer: Layer, form: LayerForm | None) -> Descriptor | None:
        """Return the blob of a step's *layer* that is stored in *form*, if it is.

        What an exporter got at a level of its choice is not found by later builds: a blob does not tell its level, and one that is found
        must be the one that would be written, byte for byte.
        """
        known = layer.packed.get(form)
        if known is not None and self._store.blobs.has(known.digest):
            return known
        if layer.diff_id is None or (form is not None and form.level is not None):
            return None
        found = self._store.blobs.find_layer(layer.diff_id, form.compression if form else None)
        if found is not None:
            layer.packed[form] = found
        return found

    def _shared(self, layer: Layer, origin: Layer, form: LayerForm | None) -> Descriptor:
        descriptor = self.write(origin, form)
        layer.diff_id = origin.diff_id
        if layer.diff_id is not None and layer.snapshot is not None and layer.snapshot.diff_id is None:
            self._store.snapshots.set_diff_id(layer.snapshot, layer.diff_id)
        return descriptor

    def _fetched(self, layer: Layer) -> Descriptor:
        if layer.descriptor is None:
            assert layer.imported is not None
            raise RestartError([Rejection(layer.imported)])
        if not self._store.blobs.has(layer.descriptor.digest):
            with rejecting(layer):
                for _chunk in self.chunks(layer, layer.descriptor):
                    pass
        return layer.descriptor

    def _in_form(self, layer: Layer, stored: Descriptor, form: LayerForm | None) -> Descriptor:
        """Return the blob *stored* of *layer*, or one that is compressed as *form* says, with the bytes that its snapshot would give."""
        if form is None or (form.level is None and layer_codec(stored) == form.compression):
            return stored
        found = self._compressed(self._store.blobs.chunks(stored), stored.media_type, form, layer.diff_id)
        layer.packed[form] = found
        self._packed(layer, found)
        return found

    def _compressed(
        self, chunks: Iterable[bytes], media_type: str, form: LayerForm, diff_id: DiffId | None
    ) -> Descriptor:
        """Store the layer *diff_id*, which arrives in *chunks* of *media_type*, in *form*."""
        from img_core.archives.codecs import codec_of_media_type, compressed, decompressed

        def checked() -> Iterator[bytes]:
            for chunk in chunks:
                self._cancellation.check()
                yield chunk

        unpacked = decompressed(checked(), codec_of_media_type(media_type) or "uncompressed")
        packed = compressed(unpacked, form.compression, form.level)
        found = self._store.ingest(packed, layer_type(form.compression, docker=False))
        if form.level is None and diff_id is not None:  # see `find`
            self._store.blobs.remember_layer(found.digest, diff_id)
        return found

    def describe(self, layer: Layer, form: LayerForm) -> Descriptor:
        """Return what the stored blob of *layer* is, or would be: what a registry has, and nobody needed, stays there."""
        shared = layer.origin or layer
        blobs, descriptor = self._store.blobs, shared.descriptor
        if shared.remote and descriptor and (blobs.has(descriptor.digest) or blobs.origins(descriptor.digest)):
            layer.diff_id = shared.diff_id
            return descriptor
        return self.write(layer, form)

    def _write_from_snapshot(self, layer: Layer, snapshot: Snapshot, form: LayerForm | None) -> Descriptor:
        packing = form or self._form
        if kept := self._snapshotter.packed(snapshot.directory, snapshot.parents):
            diff_id = kept.diff_id
            assert diff_id is not None
            blob = None if packing.level is not None else self._store.blobs.find_layer(diff_id, packing.compression)
            descriptor = blob or self._compressed(kept.chunks, kept.media_type, packing, diff_id)
        else:
            descriptor, diff_id = self._written(snapshot, packing)
        if layer.diff_id != diff_id:
            self._store.snapshots.set_diff_id(snapshot, diff_id)
        layer.diff_id = diff_id
        layer.packed[form] = layer.packed[packing] = descriptor  # last: who failed before this is tried again
        self._packed(layer, descriptor)
        return descriptor

    def _written(self, snapshot: Snapshot, packing: LayerForm) -> tuple[Descriptor, DiffId]:
        """Write the changes of *snapshot* as a blob."""
        from img_core.archives.tar import write_layer

        changes = self._snapshotter.changes(snapshot.directory, snapshot.parents)
        try:
            file = self._store.blobs.new_file()
            try:
                with span("files", "pack a layer"), fs.disk_errors(file.path):
                    info = write_layer(
                        changes,
                        changes.root_fd,
                        file.write,
                        compression=packing.compression,
                        level=packing.level,
                        owner_of=lambda path, _status: changes.owner(path),
                    )
                    media_type = layer_type(packing.compression, docker=False)
                    descriptor = Descriptor(media_type, Digest(info.digest), info.size)
                    if not self._store.blobs.has(descriptor.digest):
                        self._store.blobs.publish(file, descriptor)
            finally:
                file.abort()
        finally:
            changes.close()
        diff_id = DiffId(info.diff_id)
        if packing.level is None:  # see `find`
            self._store.blobs.remember_layer(descriptor.digest, diff_id)
        return descriptor, diff_id
