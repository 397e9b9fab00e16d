"""Layers of a build as records keep them, and back: a record belongs to layers, a snapshot is one way to have them here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.images.digests import chain_id
from img_core.solver.stacks import Layer
from img_core.store.records import RecordedLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.solver.stacks import Stack
    from img_core.spec.values import ChainId, DiffId
    from img_core.store import Store
    from img_core.store.records import StepRecord

__all__ = ["equal_layers", "recorded", "recorded_layer"]


def recorded(layer: Layer) -> RecordedLayer:
    """Return what a record says of *layer*."""
    return RecordedLayer(
        layer.name, layer.created or 0.0, layer.snapshot.id if layer.snapshot else None, _diff_id(layer)
    )


def recorded_layer(store: Store, record: StepRecord, base: Stack, step: str) -> Layer | None:
    """Return the layer that *record* puts on *base*, or None if it is not here, or was made on other layers.

    It is here as the snapshot of the record, as one with equal layers, or as a blob. *step* is the vertex that shows the work on it.
    """
    *below, top = record.layers
    if not equal_layers(below, base.own):
        return None
    if top.snapshot and (snapshot := store.snapshots.get(top.snapshot)):
        return Layer(snapshot=snapshot, diff_id=snapshot.diff_id, created=top.created, step=step, name=top.layer)
    if top.diff_id is None:
        return None
    blob = store.blobs.find_layer(top.diff_id)
    chain = None if blob else _chain(base.layers, top.diff_id)
    snapshot = store.snapshots.by_chain(chain) if chain else None
    if blob is None and snapshot is None:
        return None
    return Layer(
        descriptor=blob, diff_id=top.diff_id, snapshot=snapshot, created=top.created, step=step, name=top.layer
    )


def _diff_id(layer: Layer) -> DiffId | None:
    return (layer.origin or layer).diff_id


def equal_layers(below: Sequence[RecordedLayer], layers: Sequence[Layer]) -> bool:
    """Tell whether the recorded layers *below* are these *layers*: the same ones, or with the same content."""
    if len(below) != len(layers):
        return False
    if [item.layer for item in below] == [
        layer.name for layer in layers
    ]:  # nearly always, and quicker than what follows
        return True
    return all(
        item.layer == layer.name or (item.diff_id is not None and item.diff_id == _diff_id(layer))
        for item, layer in zip(below, layers, strict=True)
    )


def _chain(layers: Sequence[Layer], top: DiffId) -> ChainId | None:
    """Return the chain id of *top* on *layers*, if all their diff ids are known."""
    chain: list[ChainId] = []
    for diff_id in (*map(_diff_id, layers), top):
        if diff_id is None:
            return None
        chain = [chain_id(chain, diff_id)]
    return chain[0]
