"""Layers as snapshots: found, or unpacked, when a step reads files."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.solver.layer_blobs import extracting
from img_core.solver.stacks import rejecting, require_layers
from img_core.spec.errors import ArchiveError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from img_core.linux.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.layer_blobs import LayerBlobs
    from img_core.solver.stacks import Layer, Stack
    from img_core.spec.snapshotter import Rootfs, Snapshotter
    from img_core.store import Store
    from img_core.store.snapshots import Snapshot

__all__ = ["LayerSnapshots"]


class LayerSnapshots:
    """Turns stacks of layers into snapshots, each layer once, whatever asks for them at the same time."""

    def __init__(
        self, store: Store, snapshotter: Snapshotter, events: Events, cancellation: Cancellation, blobs: LayerBlobs
    ) -> None:
        self._store = store
        self._snapshotter = snapshotter
        self._events = events
        self._cancellation = cancellation
        self._blobs = blobs

    def top(self, stack: Stack) -> Snapshot | None:
        """Return the snapshot of *stack* (None for an empty one), unpacking image layers that nobody needed before."""
        if not stack.layers:
            return None
        require_layers(stack)
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
            self._blobs.write(layer)
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
        descriptor = layer.descriptor or self._blobs.write(layer)
        assert self._store.run is not None
        directory = self._store.run.new_path("snapshot")
        from img_core.spec.snapshotter import LayerStream

        stream = LayerStream(
            self._blobs.chunks(layer, descriptor),
            descriptor.media_type,
            descriptor.digest,
            descriptor.size,
            layer.diff_id,
            self._store.blobs.path(descriptor.digest),
        )
        self._events.status(layer.step, extracting(descriptor), finished=False)
        with rejecting(layer), self._removed_on_error(directory), fs.disk_errors(directory):
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
        self._events.status(layer.step, extracting(descriptor), descriptor.size, descriptor.size, outcome="done")
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
