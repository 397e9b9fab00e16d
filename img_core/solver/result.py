"""A finished build, as exporters see it."""

from __future__ import annotations

import datetime
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from img_core.spec.dataclass import dataclass
from img_core.spec.exporter import BuiltLayer, LayerForm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Layer, Stack
    from img_core.spec.exporter import Exporter, ImageStore
    from img_core.spec.frontend import PlannedImage
    from img_core.spec.values import Platform

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
def open_tree(scope: BuildScope, stack: Stack) -> Iterator[TreeView]:
    """Open the merged files of *stack*."""
    snapshots = scope.layers.snapshots
    with snapshots.view(stack) as rootfs:
        top = snapshots.top(stack)
        owners = scope.drivers.snapshotter.owners(top.directories) if top and scope.records_owners else {}
        yield TreeView(rootfs.fd, owners)


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """One image of a finished build (spec.exporter.BuiltImage), as it was *planned*.

    *layer_of* gives the layers of steps by the digests of their vertices. *form* and *needs_base_blobs* are what an exporter wants. *amend*
    tells what else the config holds.
    """

    planned: PlannedImage
    stack: Stack
    layer_of: Mapping[str, Layer]
    scope: BuildScope
    form: LayerForm = LayerForm()  # frozen
    needs_base_blobs: bool = True
    amend: Callable[[ImageOutcome], Mapping[str, Any]] | None = None  # Any: JSON

    @property
    def platform(self) -> Platform:
        """What it was built for."""
        return self.planned.platform

    @property
    def _epoch(self) -> int | None:
        return self.scope.plan.source_date_epoch

    def layers(self) -> Sequence[BuiltLayer]:
        """Return the layers, lowest first, as stored; without *needs_base_blobs* those of a base image perhaps only in its registry."""
        blobs = self.scope.layers.blobs
        write = blobs.write if self.needs_base_blobs else blobs.describe
        built = []
        for layer in self.stack.layers:
            descriptor = write(layer, self.form)
            if layer.diff_id is None:
                raise AssertionError("a written layer has a diff id")
            form = None if (layer.origin or layer).base else self.form
            built.append(BuiltLayer(descriptor, layer.diff_id, self._created(layer), layer.base, form))
        return built

    def _created(self, layer: Layer) -> str:
        if self._epoch is not None and not layer.base:
            return rfc3339(self._epoch)
        return rfc3339(layer.created) if layer.created is not None else self._base_created()

    def _base_created(self) -> str:
        base = self.planned.base.config if self.planned.base else {}
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
            **self.planned.config,
            "created": created,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": history,
            **(self.amend(self) if self.amend else {}),
        }

    def _history(self) -> list[dict[str, Any]]:
        """Return the history; an entry without a layer has the time of the next layer, else of the last one."""
        entries = self._base_history()
        waiting: list[dict[str, Any]] = []
        moment = rfc3339(self._epoch) if self._epoch is not None else self._base_created()
        for planned in self.planned.history:
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
                moment = entry["created"] = self._created(self.layer_of[planned.vertex.digest])
                for earlier in waiting:
                    earlier["created"] = moment
                waiting.clear()
            entries.append(entry)
        return entries

    def _base_history(self) -> list[dict[str, Any]]:
        """Return the history of the base with as many entries that have a layer as the base has layers.

        Others refuse an image where the two differ, but there are bases without any history; BuildKit evens it out in the same way.
        """
        entries = [dict(planned.document) for planned in self.planned.history if planned.document is not None]
        missing = sum(layer.base for layer in self.stack.layers)
        for entry in entries:
            if not entry.get("empty_layer"):
                entry.update({} if missing else {"empty_layer": True})
                missing -= bool(missing)
        told = {"created": self._base_created(), "comment": "not in the history of the base"}
        return entries + [dict(told) for _ in range(missing)]

    @contextmanager
    def tree(self) -> Iterator[TreeView]:
        """Open the merged root file system."""
        with open_tree(self.scope, self.stack) as view:
            yield view


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """A finished build (spec.exporter.Result): *images* with the *names* that were asked for."""

    images: Sequence[ImageOutcome]
    names: Sequence[str]
    scope: BuildScope

    @property
    def store(self) -> ImageStore:
        """Where the layers are and documents go."""
        return self.scope.store

    @property
    def source_date_epoch(self) -> int | None:
        """The latest time, in seconds since 1970, if the build fixes it."""
        return self.scope.plan.source_date_epoch

    @property
    def multi_platform(self) -> bool:
        """Whether the result is an index."""
        return self.scope.plan.multi_platform or len(self.images) > 1

    def wanted_by(self, exporter: Exporter) -> BuildOutcome:
        """Return the same build with its layers as *exporter* wants them."""
        form, needed = exporter.layer_form, exporter.needs_base_blobs
        images = [replace(image, form=form, needs_base_blobs=needed) for image in self.images]
        return replace(self, images=images)


def workers() -> int:
    """Return how many steps may run at the same time: they mostly wait for their processes."""
    return max(4, 2 * (os.cpu_count() or 1))
