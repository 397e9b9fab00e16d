"""One set of records from those of several documents, within limits of age and size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from img_core.spec.cache import CacheRecord
from img_core.spec.values import Digest

__all__ = ["is_news", "pruned", "size_of", "united"]


def united(records: Iterable[CacheRecord]) -> list[CacheRecord]:
    """Return one record for each step: the newest. What equal results say beside it (layers, digests of parts, last use) is kept."""
    found: dict[tuple[str, str], CacheRecord] = {}
    for record in records:
        step = record.key, record.definition
        found[step] = _joined(found[step], record) if step in found else record
    return [found[step] for step in sorted(found)]


def _joined(one: CacheRecord, other: CacheRecord) -> CacheRecord:
    older, newer = sorted((one, other), key=_age)
    last = max(older.last, newer.last)
    if (older.identity, older.base) != (newer.identity, newer.base):
        return replace(newer, last=last)
    return replace(
        newer,
        last=last,
        # Layers are those of one record as a whole: stacks are never mixed.
        layers=older.layers if newer.layers is None else newer.layers,
        trees=tuple(sorted({*older.trees, *newer.trees})),
    )


def _age(record: CacheRecord) -> tuple[object, ...]:
    """Return what orders two records of one step; of two that were made at the same time it does not matter who read which first."""
    layers = record.layers or ()
    return record.created, record.identity, record.base, record.layers is not None, [item.diff_id for item in layers]


def is_news(record: CacheRecord, there: CacheRecord | None) -> bool:
    """Tell whether *record* says something that the record *there* of the same step does not."""
    if there is None or (there.identity, there.base) != (record.identity, record.base):
        return there is None or record.created >= there.created
    return (record.layers is not None and there.layers is None) or not set(record.trees) <= set(there.trees)


def pruned(
    records: Sequence[CacheRecord], *, now: float, max_age: float | None = None, max_size: int | None = None
) -> list[CacheRecord]:
    """Return *records* without those that were not used for *max_age* seconds, and no more than fit into *max_size* bytes of layers.

    What was used last stays, steps before cache mounts; a record without layers needs no space.
    """
    young = [record for record in records if max_age is None or now - max(record.last, record.created) <= max_age]
    if max_size is None:
        return young
    kept, seen, size = set(), set[Digest](), 0
    for record in sorted(young, key=lambda item: (-item.last, item.is_mount, item.key, item.definition)):
        added = {item.descriptor.digest: item.descriptor.size for item in record.layers or ()}
        more = sum(count for digest, count in added.items() if digest not in seen)
        if size + more <= max_size:
            kept.add((record.key, record.definition))
            seen |= set(added)
            size += more
    return [record for record in young if (record.key, record.definition) in kept]


def size_of(records: Iterable[CacheRecord]) -> int:
    """Return the bytes of all layers of *records*, each blob once."""
    sizes = {item.descriptor.digest: item.descriptor.size for record in records for item in record.layers or ()}
    return sum(sizes.values())
