"""``--cache-to``: what a finished build has to tell other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.solver.scope import in_images
from img_core.spec.cache import CacheLayer, CacheRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.solver.scope import BuildScope
    from img_core.solver.solver import Solver
    from img_core.solver.stacks import Layer, Stack
    from img_core.spec.cache import CacheBackend
    from img_core.store.records import StepRecord

__all__ = ["Exports"]


class Exports:
    """The records of one finished build, made at *now*, for each place where they are to go."""

    def __init__(self, scope: BuildScope, solver: Solver, now: float) -> None:
        self._scope = scope
        self._results = solver.results()
        self._digests = solver.tree_digests()
        self._now = now
        self._in_images = frozenset(in_images(scope.plan.roots()))

    def records(self, target: CacheBackend) -> list[CacheRecord]:
        """Return what *target* is to keep; blobs of layers are written, or fetched, unless they are there already.

        Layers that others recorded go only where all of them can be had. Raises RestartError if one cannot be fetched.
        """
        found = [self._record(digest, *result, target) for digest, result in self._results.items()]
        return [*{(item.key, item.definition): item for item in found}.values(), *self._facts(target)]

    def layers_from_elsewhere(self, target: CacheBackend) -> Iterator[Layer]:
        """Give the layers that others recorded, and that have to come here before *target* can keep them."""
        for vertex, (_, stack) in self._results.items():
            if self._wants(vertex, stack, target):
                yield from (layer for layer in stack.own if not _is_there(layer, target))

    def _wants(self, vertex: str, stack: Stack, target: CacheBackend) -> bool:
        if not target.all_layers and vertex not in self._in_images:
            return False
        return not any(layer.imported and layer.imported.record.layers is None for layer in stack.own)

    def _record(self, vertex: str, record: StepRecord, stack: Stack, target: CacheBackend) -> CacheRecord:
        top = stack.layers[-1]
        known = dict(top.imported.record.trees) if top.imported else {}
        return CacheRecord(
            record.key,
            record.definition,
            record.identity,
            stack.base,
            tuple(self._layer(layer, target) for layer in stack.own) if self._wants(vertex, stack, target) else None,
            created=top.created or record.made,
            last=top.created or record.made if target.in_image else self._now,
            seconds=record.seconds,
            platform=record.platform,
            description=record.description,
            inputs=record.inputs,
            trees=tuple(sorted({**known, **self._digests.get(record.identity, {})}.items())),
        )

    def _layer(self, layer: Layer, target: CacheBackend) -> CacheLayer:
        shared = layer.origin or layer
        if _is_there(layer, target) and shared.descriptor is not None:
            descriptor = shared.descriptor
        else:
            descriptor = self._scope.layers.blobs.write(layer, target.layer_form)
        diff_id = shared.diff_id
        assert diff_id is not None
        return CacheLayer(descriptor, diff_id, layer.created or 0.0)

    def _facts(self, target: CacheBackend) -> Iterator[CacheRecord]:
        """Give what was copied from images and from exactly named files, by what they are."""
        steps = {record.identity for record, _ in self._results.values()}
        last = 0.0 if target.in_image else self._now
        for identity, digests in self._digests.items():
            if identity not in steps:
                yield CacheRecord(identity, "", identity, last=last, trees=tuple(sorted(digests.items())))


def _is_there(layer: Layer, target: CacheBackend) -> bool:
    imported = layer.imported
    return imported is not None and bool(target.location) and imported.backend.location == target.location
