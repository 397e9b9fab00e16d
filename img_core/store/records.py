"""What is remembered between builds: finished steps, resolved references, digests of context files."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, NamedTuple

from img_core.spec.dataclass import dataclass
from img_core.spec.values import DiffId, Digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from img_core.files.copy import FileDigests
    from img_core.files.sqlite import Database
    from img_core.forms.comparison import KnownStep
    from img_core.images.resolving import Pin

__all__ = ["RecordedLayer", "Records", "StepRecord", "forget_lost", "place"]

_MANY = 500  # records to compare a step with

#: Steps whose result is not here any more, neither unpacked nor as a blob, and stacks that are part of no step's.
_LOST = (
    "DELETE FROM step WHERE stack IN (SELECT id FROM stack WHERE snapshot IS NULL"
    " AND (diff_id IS NULL OR NOT EXISTS (SELECT 1 FROM layer WHERE layer.diff_id = stack.diff_id)))",
    "DELETE FROM stack WHERE id NOT IN (WITH RECURSIVE kept(id, parent) AS ("
    " SELECT s.id, s.parent FROM stack s JOIN step ON step.stack = s.id"
    " UNION SELECT s.id, s.parent FROM stack s JOIN kept ON s.id = kept.parent) SELECT id FROM kept)",
)


@dataclass(frozen=True, slots=True)
class RecordedLayer:
    """One layer of a recorded stack. *layer* names it wherever it is made or fetched once: the id of the snapshot it was made in, or its
    diff id. *snapshot* holds it at this place of the stack, if it is here; *created* is in seconds since 1970 UTC."""

    layer: str
    created: float
    snapshot: str | None = None
    diff_id: DiffId | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A finished step: *layers* are its result above the base image, lowest first, *base* the chain id of that; *identity* stands for it
    in keys of what builds on it.

    *definition* tells steps of one key apart that differ in what is not in the key. *changes* digests the content of the top layer without
    times, where somebody had to know. *inputs* are the parts of the key by name (hashes, never values), for people; *seconds* is how long
    the work took, and *made* when it ended.
    """

    key: str
    definition: str
    identity: str
    layers: tuple[RecordedLayer, ...]
    base: str = ""
    changes: str = ""
    platform: str = ""
    description: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    made: float = 0.0


def _is_stack(cursor: sqlite3.Cursor, name: str) -> bool:
    return cursor.execute("SELECT 1 FROM stack WHERE id = ?", (name,)).fetchone() is not None


def place(below: str, layer: str) -> str:
    """Return the name of the stack that has *layer* (see `RecordedLayer`) on the stack *below*, or on the base image with that chain id."""
    return hashlib.sha256(f"{below} {layer}".encode()).hexdigest()[:32]


class _Kept(NamedTuple):
    """A stack whose rows were all written: *layers* on the base with the chain id *base*, and *names* of the stacks that end with each."""

    base: str
    layers: tuple[RecordedLayer, ...]
    names: tuple[str, ...]


_TOPS = 32  #: most stacks whose layers are known by heart


class Records:
    """Records of one state directory."""

    def __init__(self, database: Database, backend: str, mapping: str) -> None:
        self._database = database
        self._backend = backend
        self._mapping = mapping
        self._stacks: dict[str, tuple[RecordedLayer, ...]] = {}  # of which others were found to be parts
        self._kept: dict[str, RecordedLayer] = {}  # the top of each stack that this process kept, as it was then
        # The last stacks that it kept, by their top layers: the next step adds one layer to one of them.
        self._tops: dict[str, _Kept] = {}

    def steps(self, key: str) -> list[StepRecord]:
        """Return the records of *key*, the newest first; at most one of each definition was made by this backend and mapping."""
        rows = self._database.query("SELECT * FROM step WHERE key = ? ORDER BY made DESC", (key,))
        return [
            StepRecord(
                key, row["definition"], row["identity"], self._stack(row["stack"]), "", row["changes"], row["platform"], row["description"],
                tuple((name, value) for name, value in json.loads(row["inputs"])), row["seconds"], row["made"],
            )
            for row in rows
        ]  # fmt: skip

    def known_steps(self) -> list[KnownStep]:
        """Return key, description and inputs of the steps that were recorded last."""
        rows = self._database.query("SELECT key, description, inputs FROM step ORDER BY made DESC LIMIT ?", (_MANY,))
        return [(row["key"], row["description"], json.loads(row["inputs"])) for row in rows]

    def durations(self) -> dict[str, float]:
        """Return how many seconds the work of steps took, by their definitions; of several the one that was made last."""
        rows = self._database.query("SELECT definition, seconds FROM step ORDER BY made")
        return {row["definition"]: row["seconds"] for row in rows}

    def _stack(self, top: str) -> tuple[RecordedLayer, ...]:
        """Return all layers of a stack. Those below the top are read once: of a name nothing else changes that counts there."""
        row = self._database.one("SELECT * FROM stack WHERE id = ?", (top,))
        if row is None:
            return ()
        parent = row["parent"]
        if parent is not None and parent not in self._stacks:
            self._read_stacks(parent)
        found = self._stacks[top] = (*(self._stacks[parent] if parent is not None else ()), _recorded_layer(row))
        return found

    def _read_stacks(self, top: str) -> None:
        rows = self._database.query(
            "WITH RECURSIVE part(id, parent, layer, diff_id, snapshot, created, depth) AS ("
            " SELECT id, parent, layer, diff_id, snapshot, created, 0 FROM stack WHERE id = ?"
            " UNION ALL SELECT s.id, s.parent, s.layer, s.diff_id, s.snapshot, s.created, part.depth + 1"
            " FROM stack s JOIN part ON s.id = part.parent) SELECT * FROM part ORDER BY depth DESC",
            (top,),
        )
        self._stacks[top] = tuple(map(_recorded_layer, rows))

    def add_step(self, step: StepRecord) -> None:
        """Keep *step*, which was just made, in place of an older one with its key and definition that this backend could use.

        What was remembered of the files of an earlier result of this identity, which is gone, is forgotten.
        """
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM tree_digest WHERE identity = ?", (step.identity,))
            cursor.execute(
                "DELETE FROM step WHERE key = ? AND definition = ? AND stack IN (SELECT stack.id FROM stack"
                " LEFT JOIN snapshot ON snapshot.id = stack.snapshot"
                " WHERE snapshot.id IS NULL OR (snapshot.backend = ? AND snapshot.mapping = ?))",
                (step.key, step.definition, self._backend, self._mapping),
            )
            self._insert(cursor, step)

    def _insert(self, cursor: sqlite3.Cursor, step: StepRecord) -> None:
        below = self._insert_stack(cursor, step)
        cursor.execute(
            "INSERT OR REPLACE INTO step (key, definition, identity, stack, changes, mapping, platform, description, inputs, seconds, made)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                step.key, step.definition, step.identity, below, step.changes, self._mapping, step.platform, step.description,
                json.dumps(step.inputs), step.seconds, time.time(),
            ),
        )  # fmt: skip

    def _insert_stack(self, cursor: sqlite3.Cursor, step: StepRecord) -> str:
        """Keep the layers of *step*, those of which something else was kept before; return the name of the stack."""
        names = list(self._names_below(cursor, step))
        done = len(names)
        for item in step.layers[done:]:
            names.append(place(names[-1] if names else step.base, item.layer))
        # Others may have removed what nothing seemed to need: then all of it is gone from somewhere on.
        is_kept = len(names) > done + 1 and _is_stack(cursor, names[-2])
        for index, item in enumerate(step.layers[done:], done):
            name = names[index]
            if is_kept and self._kept.get(name) is item:
                continue
            cursor.execute(
                "INSERT INTO stack (id, parent, layer, diff_id, snapshot, created) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " diff_id = coalesce(excluded.diff_id, diff_id), snapshot = coalesce(excluded.snapshot, snapshot)",
                (name, names[index - 1] if index else None, item.layer, item.diff_id, item.snapshot, item.created),
            )
            self._kept[name] = item
        if not names:
            return step.base
        self._tops[step.layers[-1].layer] = _Kept(step.base, step.layers, tuple(names))
        if len(self._tops) > _TOPS:
            del self._tops[next(iter(self._tops))]
        return names[-1]

    def _names_below(self, cursor: sqlite3.Cursor, step: StepRecord) -> Sequence[str]:
        """Return the names of the stacks below the top of *step*, lowest first, as far as their rows say already what they would.

        Most steps add a layer to one of the last stacks, of whose layers only the upper ones changed since: they were packed meanwhile.
        """
        known = self._tops.get(step.layers[-2].layer) if len(step.layers) > 1 else None
        if known is None or known.base != step.base or len(known.layers) != len(step.layers) - 1:
            return ()
        changed = 0
        while (count := len(known.layers) - changed) > 0 and known.layers[:count] != step.layers[:count]:
            changed = changed * 2 or 1
        return known.names[:count] if count > 0 and _is_stack(cursor, known.names[count - 1]) else ()

    def pin(self, reference: str, platform: str) -> Pin | None:
        """Return what *reference* meant last, or None."""
        row = self._database.one(
            "SELECT top, manifest, checked FROM pin WHERE reference = ? AND platform = ?", (reference, platform)
        )
        from img_core.images.resolving import Pin  # who asks for one has it

        return Pin(Digest(row["top"]), Digest(row["manifest"]), row["checked"]) if row else None

    def has_pin(self, reference: str) -> bool:
        """Tell whether *reference* was resolved for some platform."""
        return self._database.one("SELECT 1 FROM pin WHERE reference = ?", (reference,)) is not None

    def set_pin(self, reference: str, platform: str, pin: Pin) -> None:
        """Remember what *reference* means."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT OR REPLACE INTO pin (reference, platform, top, manifest, checked) VALUES (?, ?, ?, ?, ?)",
                (reference, platform, pin.top, pin.manifest, pin.checked),
            )

    def tree_digest(self, identity: str, files: str) -> str | None:
        """Return the remembered digest of some *files* of the tree that *identity* stands for."""
        row = self._database.one("SELECT digest FROM tree_digest WHERE identity = ? AND files = ?", (identity, files))
        return str(row["digest"]) if row else None

    def set_tree_digest(self, identity: str, files: str, digest: str) -> None:
        """Remember the digest of some *files* of the tree that *identity* stands for."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT OR REPLACE INTO tree_digest (identity, files, digest) VALUES (?, ?, ?)",
                (identity, files, digest),
            )

    def file_digests(self, scope: str) -> FileDigests:
        """Return the remembered digests of the files of one tree; *scope* names it (its root's device and inode)."""
        from img_core.files.copy import FileDigests

        return FileDigests(self._database, scope)


def _recorded_layer(row: sqlite3.Row) -> RecordedLayer:
    diff_id = DiffId(row["diff_id"]) if row["diff_id"] else None
    return RecordedLayer(row["layer"], row["created"], row["snapshot"], diff_id)


def forget_lost(cursor: sqlite3.Cursor) -> None:
    """Drop the records of steps whose results were removed."""
    for statement in _LOST:
        cursor.execute(statement)
