"""A finished build, as exporters see it."""

from __future__ import annotations

import datetime
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from img_core.spec.exporter import BuiltLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from img_core.solver.layers import Layers
    from img_core.solver.stacks import Layer, Stack
    from img_core.spec.exporter import ImageStore
    from img_core.spec.frontend import PlannedImage
    from img_core.spec.snapshotter import Snapshotter

__all__ = ["BuildOutcome", "ImageOutcome", "TreeView", "open_tree", "rfc3339"]

_EPOCH = "1970-01-01T00:00:00Z"


def rfc3339(seconds: float) -> str:
    """Return *seconds* since 1970 UTC as image configs write times."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


class TreeView:
    """The merged files of an image (spec.exporter.Tree)."""

    def __init__(self, fd: int, owners: Mapping[bytes, tuple[int, int]]) -> None:
        self.fd = fd
        self.owners = owners

    def owner(self, path: bytes) -> tuple[int, int] | None:
        """Return the wanted owner of *path* where it differs from what lstat tells, or None."""
        return self.owners.get(path)


@contextmanager
def open_tree(layers: Layers, snapshotter: Snapshotter, stack: Stack, *, recorded: bool) -> Iterator[TreeView]:
    """Open the merged files of *stack*; *recorded* tells that owners are recorded instead of set (single-id mapping)."""
    with layers.snapshots.view(stack) as rootfs:
        top = layers.snapshots.top(stack)
        owners = snapshotter.owners(top.directories) if top and recorded else {}
        yield TreeView(rootfs.fd, owners)


class ImageOutcome:
    """One image of a finished build (spec.exporter.BuiltImage)."""

    def __init__(
        self,
        planned: PlannedImage,
        stack: Stack,
        layer_of: Mapping[str, Layer],
        layers: Layers,
        snapshotter: Snapshotter,
        *,
        recorded: bool,
        source_date_epoch: int | None,
    ) -> None:
        self.platform = planned.platform
        self._planned = planned
        self._stack = stack
        self._layer_of = layer_of
        self._layers = layers
        self._snapshotter = snapshotter
        self._recorded = recorded
        self._epoch = source_date_epoch
        self.needs_base_blobs = True

    def layers(self) -> Sequence[BuiltLayer]:
        """Return the layers, lowest first, as stored; without *needs_base_blobs* those of a base image perhaps only in its registry."""
        built = []
        for layer in self._stack.layers:
            descriptor = (
                self._layers.blobs.write(layer) if self.needs_base_blobs else self._layers.blobs.describe(layer)
            )
            if layer.diff_id is None:
                raise AssertionError("a written layer has a diff id")
            built.append(BuiltLayer(descriptor, layer.diff_id, self._created(layer), layer.base))
        return built

    def _created(self, layer: Layer) -> str:
        if self._epoch is not None and not layer.base:
            return rfc3339(self._epoch)
        return rfc3339(layer.created) if layer.created is not None else self._base_created()

    def _base_created(self) -> str:
        base = self._planned.base.config if self._planned.base else {}
        return str(base.get("created") or _EPOCH)

    def config(self) -> Mapping[str, Any]:
        """Return the finished OCI image config."""
        layers = self.layers()
        history = self._history()
        own = [layer for layer in layers if not layer.base]
        created = own[-1].created if own else self._base_created()
        if self._epoch is not None:
            created = rfc3339(self._epoch)
        return {
            **self._planned.config,
            "created": created,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": history,
        }

    def _history(self) -> list[dict[str, Any]]:
        """Return the history; an entry without a layer has the time of the next layer, else of the last one."""
        entries = self._base_history()
        waiting: list[dict[str, Any]] = []
        moment = rfc3339(self._epoch) if self._epoch is not None else self._base_created()
        for planned in self._planned.history:
            if planned.document is not None:
                continue
            entry: dict[str, Any] = {"created": moment, "created_by": planned.created_by}
            if planned.author:
                entry["author"] = planned.author
            if planned.comment:
                entry["comment"] = planned.comment
            if planned.vertex is None:
                entry["empty_layer"] = True
                waiting.append(entry)
            else:
                moment = entry["created"] = self._created(self._layer_of[planned.vertex.digest])
                for earlier in waiting:
                    earlier["created"] = moment
                waiting.clear()
            entries.append(entry)
        return entries

    def _base_history(self) -> list[dict[str, Any]]:
        """Return the history of the base with as many entries that have a layer as the base has layers.

        Others refuse an image where the two differ, but there are bases without any history; BuildKit evens it out in the same way.
        """
        entries = [dict(planned.document) for planned in self._planned.history if planned.document is not None]
        missing = sum(layer.base for layer in self._stack.layers)
        for entry in entries:
            if not entry.get("empty_layer"):
                entry.update({} if missing else {"empty_layer": True})
                missing -= bool(missing)
        told = {"created": self._base_created(), "comment": "not in the history of the base"}
        return entries + [dict(told) for _ in range(missing)]

    @contextmanager
    def tree(self) -> Iterator[TreeView]:
        """Open the merged root file system."""
        with open_tree(self._layers, self._snapshotter, self._stack, recorded=self._recorded) as view:
            yield view


class BuildOutcome:
    """A finished build (spec.exporter.Result)."""

    def __init__(
        self,
        images: Sequence[ImageOutcome],
        names: Sequence[str],
        store: ImageStore,
        source_date_epoch: int | None,
        *,
        multi_platform: bool,
    ) -> None:
        self.images: Sequence[ImageOutcome] = images
        self.names: Sequence[str] = names
        self.store: ImageStore = store
        self.source_date_epoch = source_date_epoch
        self.multi_platform = multi_platform or len(images) > 1

    def need_base_blobs(self, needed: bool) -> None:
        """Say whether the next exporter reads the blobs of base layers; see `Exporter.needs_base_blobs`."""
        for image in self.images:
            image.needs_base_blobs = needed


def workers() -> int:
    """Return how many steps may run at the same time: they mostly wait for their processes."""
    return max(4, 2 * (os.cpu_count() or 1))
