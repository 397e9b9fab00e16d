"""Layers of a build as records keep them, and back: a record belongs to layers, a snapshot is one way to have them here.

And whether a step that ran although it is recorded (``--no-cache``, a lost result) gave something else."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.images.digests import chain_ids
from img_core.solver.keys import digest_of
from img_core.solver.stacks import Layer
from img_core.store.records import RecordedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from img_core.solver.stacks import Stack
    from img_core.spec.snapshotter import Snapshotter
    from img_core.spec.values import ChainId, DiffId
    from img_core.store import Store
    from img_core.store.records import StepRecord

    Changes = Callable[[str, tuple[str, ...]], str]

__all__ = ["certainly_same", "changes_digest", "equal_layers", "made_again", "recorded", "recorded_layer"]


def recorded(layer: Layer) -> RecordedLayer:
    """Return what a record says of *layer*: the same object as long as that is the same, because each step records all layers below it."""
    snapshot, diff_id, known = layer.snapshot.id if layer.snapshot else None, _diff_id(layer), layer.recorded
    if known is None or known.snapshot != snapshot or known.diff_id != diff_id:
        layer.recorded = known = RecordedLayer(layer.name, layer.created or 0.0, snapshot, diff_id)
    return known


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
    known = [diff_id for diff_id in (*map(_diff_id, layers), top) if diff_id is not None]
    return chain_ids(known)[-1] if len(known) > len(layers) else None


def made_again(
    store: Store,
    changes_in: Changes,
    record: StepRecord,
    before: Sequence[StepRecord],
    made: tuple[str, tuple[str, ...]],
) -> tuple[StepRecord, StepRecord | None]:
    """Return *record* with its identity, and the one of the records *before* that holds the same files as the new layer, if any.

    *made* is the directory of the new snapshot, with its parents; *changes_in* gives the `changes_digest` of one. What differs gets
    an identity by its content, so that what was built on the old one is not found; one that is the same keeps the old one's, so that it is.
    It costs reading the new layer once, and the old one unless that was done before.
    """
    changes = changes_in(*made)
    for old in before:
        if changes == (old.changes or _changes_of(store, changes_in, old)):
            return replace(record, identity=old.identity, changes=changes), old
    return replace(record, identity=digest_of("again", record.key, record.definition, changes), changes=changes), None


def certainly_same(store: Store, before: Sequence[StepRecord]) -> StepRecord | None:
    """Return the one of the records *before* that holds what a step has made again whose key tells all that it makes, but for times.

    That is one of this backend and this mapping of ids: with others a copy may have lost attributes or devices.
    """
    return next((old for old in before if store.snapshots.get(old.layers[-1].snapshot or "")), None)


def _changes_of(store: Store, changes_in: Changes, record: StepRecord) -> str:
    snapshot = store.snapshots.get(record.layers[-1].snapshot or "")
    return changes_in(snapshot.directory, snapshot.parents) if snapshot else ""


def changes_digest(
    snapshotter: Snapshotter, check: Callable[[], None], directory: str, parents: tuple[str, ...]
) -> str:
    """Return a digest of what a snapshot changes, but for times. *check* raises Canceled if the build has to end."""
    from img_core.archives.tar import content_digest  # only where a step ran again

    with closing(snapshotter.changes(directory, parents)) as changes:
        return content_digest(changes, changes.root_fd, changes.owner, check)
