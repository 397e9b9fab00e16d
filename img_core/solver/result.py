"""A finished build, as exporters see it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from img_core.images.history import EPOCH, even_history, rfc3339, timed_history
from img_core.spec.dataclass import dataclass
from img_core.spec.exporter import BuiltLayer, LayerForm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Layer, Stack
    from img_core.spec.exporter import Attestation, Exporter, ImageStore
    from img_core.spec.frontend import HistoryEntry, PlannedImage
    from img_core.spec.values import Platform

__all__ = ["BuildOutcome", "ImageOutcome", "TreeView", "open_tree"]


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
    tells what else the config holds, *attestations* what listeners state.
    """

    planned: PlannedImage
    stack: Stack
    layer_of: Mapping[str, Layer]
    scope: BuildScope
    form: LayerForm = LayerForm()  # frozen
    needs_base_blobs: bool = True
    amend: Callable[[ImageOutcome], Mapping[str, Any]] | None = None  # Any: JSON
    attestations: Sequence[Attestation] = ()

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
        return str(base.get("created") or EPOCH)

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
        base = [planned.document for planned in self.planned.history if planned.document is not None]
        created, layers = self._base_created(), sum(layer.base for layer in self.stack.layers)
        steps = [(_entry(planned), self._made(planned)) for planned in self.planned.history if planned.document is None]
        first = created if self._epoch is None else rfc3339(self._epoch)
        return [*even_history(base, layers, created), *timed_history(steps, first)]

    def _made(self, planned: HistoryEntry) -> str | None:
        """Return when the layer of a step was made, None for one without."""
        return self._created(self.layer_of[planned.vertex.digest]) if planned.vertex else None

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


def _entry(planned: HistoryEntry) -> dict[str, Any]:  # Any: JSON
    told = {"created_by": planned.created_by, "author": planned.author, "comment": planned.comment}
    return {name: text for name, text in told.items() if text or name == "created_by"}


def workers() -> int:
    """Return how many steps may run at the same time: they mostly wait for their processes."""
    return max(4, 2 * (os.cpu_count() or 1))
