"""A step that ran although it is recorded (``--no-cache``, a lost result): did it give something else?

Only loaded when that happens: it costs reading the new layer once, and the old one unless that was done before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.archives.tar import write_layer
from img_core.solver.keys import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.solver.scope import BuildScope
    from img_core.store.records import StepRecord

__all__ = ["made_again"]


def made_again(
    scope: BuildScope, record: StepRecord, before: Sequence[StepRecord], made: tuple[str, tuple[str, ...]]
) -> tuple[StepRecord, StepRecord | None]:
    """Return *record* with its identity, and the one of the records *before* that holds the same files as the new layer, if any.

    *made* is the directory of the new snapshot, with its parents. A result that differs gets an identity by its content, so that what was
    built on the old one is not found; one that is the same keeps the old one's, so that it is.
    """
    changes = _changes(scope, *made)
    for old in before:
        if changes == (old.changes or _changes_of(scope, old)):
            return replace(record, identity=old.identity, changes=changes), old
    return replace(record, identity=digest_of("again", record.key, record.definition, changes), changes=changes), None


def _changes_of(scope: BuildScope, record: StepRecord) -> str:
    snapshots = scope.store.snapshots
    snapshot = snapshots.get(record.layers[-1].snapshot or "")
    return _changes(scope, snapshot.directory, snapshot.parents) if snapshot else ""


def _changes(scope: BuildScope, directory: str, parents: tuple[str, ...]) -> str:
    """Return a digest of what a snapshot changes: paths, kinds, modes, owners, links, attributes, deletions and bytes, but no times.

    It is the diff id of the layer with all times at 1970.
    """
    changes = scope.drivers.snapshotter.changes(directory, parents)
    try:
        return write_layer(
            changes,
            changes.root_fd,
            lambda _data: scope.cancellation.check(),
            compression="uncompressed",
            owner_of=lambda path, _status: changes.owner(path),
            clamp_mtime=0,
        ).diff_id
    finally:
        changes.close()
