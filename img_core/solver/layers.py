"""Layers on disk: unpacked into snapshots and written as blobs only when somebody needs them."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from img_core.files import fs
from img_core.images import oci
from img_core.spec.errors import ArchiveError, ImgError, IntegrityError
from img_core.spec.values import Descriptor, DiffId, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    from img_core.solver.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.stacks import Layer, Stack
    from img_core.spec.snapshotter import Rootfs, Snapshotter
    from img_core.store import Store
    from img_core.store.snapshots import Snapshot

__all__ = ["Layers"]

Work = TypeVar("Work")


def _extracting(descriptor: Descriptor) -> str:
    """Return how the unpacking of a layer is called (see `StepStatus`)."""
    return f"extracting {descriptor.digest}"


class Layers:
    """Turns layers into snapshots and blobs, each once, whatever asks for them at the same time."""

    def __init__(self, store: Store, snapshotter: Snapshotter, events: Events, cancellation: Cancellation) -> None:
        self._store = store
        self._snapshotter = snapshotter
        self._events = events
        self._cancellation = cancellation
        self._starting_helpers = threading.Lock()
        self._helpers: list[Executor] = []  # none until there is work for them: a cached build has none

    # ---------------------------------------------------------------------------------------------------- snapshots

    def top(self, stack: Stack) -> Snapshot | None:
        """Return the snapshot of *stack* (None for an empty one), unpacking image layers that nobody needed before."""
        if not stack.layers:
            return None
        if stack.layers[-1].snapshot is None and self._find_snapshots(stack.layers) < len(stack.layers):
            # Two builds on one new base: the second waits and finds the first one's work.
            with (
                self._events.waiting(),
                self._store.lock(f"unpack:{stack.layers[0].diff_id or stack.identity}", self._cancellation.check),
            ):
                self._make_snapshots(stack.layers, self._find_snapshots(stack.layers))
        return stack.layers[-1].snapshot

    def _find_snapshots(self, layers: Sequence[Layer]) -> int:
        """Give layers the snapshots that exist for them; return the index of the first one that needs to be made."""
        first = max((index for index, layer in enumerate(layers, 1) if layer.snapshot is not None), default=0)
        for index in range(first, len(layers)):
            layers[index].snapshot = self._find(layers[index], layers[index - 1].snapshot if index else None)
            if layers[index].snapshot is None:
                return index
        return len(layers)

    def _find(self, layer: Layer, parent: Snapshot | None) -> Snapshot | None:
        if apart := self._unpacked_apart(layer):
            return self._store.snapshots.rebased(apart, parent)
        if layer.diff_id is None:
            self.write_blob(layer)
        assert layer.diff_id is not None
        return self._store.snapshots.find(parent, layer.diff_id)

    def _unpacked_apart(self, layer: Layer) -> Snapshot | None:
        """Return the snapshot of a linked layer on its empty root if its directory can be used on any other root as well."""
        return layer.origin.snapshot if layer.origin and self._snapshotter.independent_layers else None

    def _make_snapshots(self, layers: Sequence[Layer], first: int) -> None:
        """Give all *layers* from *first* on a snapshot; those that do not need each other are unpacked at the same time."""
        with self._events.again(next((layer.step for layer in layers[first:] if layer.base), "")):
            unpacked = self._unpack_together(layers[first:]) if self._snapshotter.independent_layers else {}
            for index in range(first, len(layers)):
                layer, parent = layers[index], layers[index - 1].snapshot if index else None
                if apart := self._unpacked_apart(layer):
                    layer.snapshot = self._store.snapshots.rebase(apart, parent)
                else:
                    self._keep(layer, unpacked.get(layer) or self._apply(layer, parent), parent)

    def _unpack_together(self, layers: Sequence[Layer]) -> dict[Layer, str]:
        packed = [layer for layer in layers if not self._unpacked_apart(layer)]
        if len(packed) < 2:
            return {}
        from concurrent.futures import ThreadPoolExecutor  # 9 ms; only when unpacking

        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="unpack") as pool:
            directories = [pool.submit(self._apply, layer, None) for layer in packed]
        return {layer: future.result() for layer, future in zip(packed, directories, strict=True)}

    def _apply(self, layer: Layer, parent: Snapshot | None) -> str:
        """Unpack *layer* into a directory of this process."""
        descriptor = layer.descriptor or self.write_blob(layer)
        assert self._store.run is not None
        directory = self._store.run.new_path("snapshot")
        from img_core.spec.snapshotter import LayerStream

        stream = LayerStream(
            self.chunks(layer),
            descriptor.media_type,
            descriptor.digest,
            descriptor.size,
            layer.diff_id,
        )
        self._events.status(layer.step, _extracting(descriptor), finished=False)
        with self._removed_on_error(directory), fs.disk_errors(directory):
            try:
                applied = self._snapshotter.apply(directory, parent.directories if parent else (), stream)
            except (ArchiveError, IntegrityError) as err:
                if self._store.blobs.has(descriptor.digest):
                    self._store.blobs.verify(descriptor)  # the disk may be to blame
                if isinstance(err, IntegrityError):
                    raise
                # It knows what is wrong, but not which of many layers it is about.
                message = f"layer {descriptor.digest} cannot be unpacked: {err.message}"
                raise ArchiveError(message, hint=err.hint) from err
            self._store.blobs.remember_layer(descriptor.digest, applied.diff_id)
        self._events.status(layer.step, _extracting(descriptor), descriptor.size, descriptor.size, outcome="done")
        for text in applied.skipped:
            self._events.status(layer.step, f"left out {text}")
        return directory

    def _keep(self, layer: Layer, directory: str, parent: Snapshot | None) -> None:
        with self._removed_on_error(directory), fs.disk_errors(directory):
            layer.snapshot = self._store.snapshots.commit(
                directory,
                parent,
                description=f"layer {layer.descriptor.digest if layer.descriptor else ''}",
                diff_id=layer.diff_id,
            )

    @contextmanager
    def _removed_on_error(self, directory: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if os.path.lexists(directory):
                self._snapshotter.remove(directory)
            raise

    @contextmanager
    def view(self, stack: Stack) -> Iterator[Rootfs]:
        """Open the merged files of *stack*, read-only."""
        top = self.top(stack)
        rootfs = self._snapshotter.view(top.directories if top else ())
        try:
            yield rootfs
        finally:
            rootfs.close()

    # ------------------------------------------------------------------------------------------------------- blobs

    def chunks(self, layer: Layer) -> Iterator[bytes]:
        """Give the stored form of an image layer, from the store or from its source; in the second case it is stored on the way."""
        descriptor = layer.descriptor
        assert descriptor is not None
        if self._store.blobs.has(descriptor.digest):
            yield from self._told(layer, _extracting(descriptor), self._store.blobs.chunks(descriptor))
            return
        with self._store.lock(f"blob:{descriptor.digest}", self._cancellation.check):
            if self._store.blobs.has(descriptor.digest):
                yield from self._told(layer, _extracting(descriptor), self._store.blobs.chunks(descriptor))
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

    def write_blob(self, layer: Layer) -> Descriptor:
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
        layer.descriptor = self.write_blob(origin)
        layer.diff_id = origin.diff_id
        if layer.diff_id is not None and layer.snapshot is not None and layer.snapshot.diff_id is None:
            self._store.snapshots.set_diff_id(layer.snapshot, layer.diff_id)
        return layer.descriptor

    def describe(self, layer: Layer) -> Descriptor:
        """Return what the stored blob of *layer* is, or would be: a layer of a base image that nobody needed stays in its registry."""
        blobs, descriptor = self._store.blobs, layer.descriptor
        if layer.remote and descriptor and (blobs.has(descriptor.digest) or blobs.origins(descriptor.digest)):
            return descriptor
        return self.write_blob(layer)

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

    # --------------------------------------------------------------------------------------------- beside other work

    def write_blob_soon(self, layer: Layer) -> None:
        """Write the blob of *layer* beside other work; failures surface in `write_blob`, which tries again."""
        self._later(self.write_blob, layer)

    def unpack_soon(self, stack: Stack) -> None:
        """Fetch and unpack *stack* beside other work; failures surface in `top`, which tries again."""
        if stack.layers and stack.layers[-1].snapshot is None:
            self._later(self.top, stack)

    def _later(self, work: Callable[[Work], object], subject: Work) -> None:
        def quietly() -> None:
            if not self._cancellation.canceled:
                with suppress(ImgError, OSError):  # whoever needs the result meets the reason
                    work(subject)

        with self._starting_helpers:
            if not self._helpers:
                from concurrent.futures import ThreadPoolExecutor  # 9 ms; only when a step ran

                self._helpers.append(ThreadPoolExecutor(max_workers=3, thread_name_prefix="layer"))
            self._helpers[0].submit(quietly)

    def close(self) -> None:
        """Wait for work in the background."""
        for helper in self._helpers:
            helper.shutdown(wait=True, cancel_futures=True)
