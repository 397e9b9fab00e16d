"""Records as JSON: the body of a cache document (docs/reference/caches.md, "Format").

Layers, bases and stacks stand in tables and records name them by number, so that fifty steps on one another cost fifty entries. All lists
are sorted and keys, too: equal records give equal bytes. Whatever is read comes from strangers: a body is refused as a whole when its
checksum or a table is wrong; single records that say something impossible are left out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from img_core.images import oci
from img_core.images.digests import is_digest
from img_core.spec.cache import CacheLayer, CacheRecord
from img_core.spec.errors import IntegrityError
from img_core.spec.values import Descriptor, DiffId, Digest

__all__ = ["FORMAT", "Body", "UnusableError", "blobs_of", "decode_body", "encode_body", "normal", "signed_bytes"]

FORMAT = 1

_DEPTH_LIMIT = oci.ENTRY_LIMIT  # layers of one stack
_EXPANDED_LIMIT = 4_000_000  # layers of all stacks that are read; a small document can name enormous ones
_TEXT_LIMIT = 1000  # characters of a description or of one input
_WORD_LIMIT = 256
_SIZE_LIMIT = 2**63 - 1
_LAST_TIME = 253_402_300_799.0  # 9999-12-31T23:59:59, the last that RFC 3339 can write

_Blob = tuple[str, str, int, str]  # digest, diff id, size, media type
Item = TypeVar("Item")


class UnusableError(IntegrityError):
    """A document says nothing that could be used; the message is the line for people. One that is not *replaceable* must stay."""

    def __init__(self, message: str, *, replaceable: bool = True) -> None:
        super().__init__(message)
        self.replaceable = replaceable


class _WrongError(Exception):
    """A value is of another kind than it has to be."""


@dataclass(frozen=True, slots=True)
class Body:
    """The records of one document. *segments* are names of documents whose records are in this one, *created* when it was written.

    *dropped* is how many records were read but not understood; *signed* tells that it has a signature, whoever's.
    """

    records: tuple[CacheRecord, ...] = ()
    created: float = 0.0
    writer: str = ""
    segments: tuple[str, ...] = ()
    dropped: int = 0
    signed: bool = False


def blobs_of(records: Iterable[CacheRecord]) -> dict[Digest, CacheLayer]:
    """Return the layers of *records*, each blob once, in the order of their digests."""
    found = {layer.descriptor.digest: layer for record in records for layer in record.layers or ()}
    return dict(sorted(found.items()))


# --------------------------------------------------------------------------------------------------------------- writing


def normal(record: CacheRecord) -> CacheRecord | None:
    """Return *record* as it will be read again, or None if it cannot be written: a name is empty, a digest none, a time not a number."""
    try:
        layers = None if record.layers is None else tuple(map(_normal_layer, record.layers))
        _require(layers is None or len(layers) <= _DEPTH_LIMIT)
        return replace(
            record,
            key=_word(record.key),
            definition=_perhaps(record.definition),
            identity=_perhaps(record.identity),
            base=_perhaps(record.base),
            layers=layers,
            created=_time(record.created),
            last=_time(record.last),
            seconds=_time(record.seconds),
            platform=_written(record.platform, _WORD_LIMIT),
            description=_written(record.description),
            inputs=tuple((_written(name), _written(value)) for name, value in record.inputs),
            trees=tuple(sorted({(_word(action), _word(content)) for action, content in record.trees})),
        )
    except _WrongError:
        return None


def encode_body(body: Body) -> dict[str, Any]:  # Any: JSON
    """Return *body* as JSON without a signature. Records that cannot be written are left out; of two of one step the newest stays."""
    records = [kept for record in body.records if (kept := normal(record)) is not None]
    records = list({_step(record): record for record in sorted(records, key=lambda item: item.created)}.values())
    records.sort(key=_step)
    bases = _numbered(record.base for record in records)
    blobs = _numbered(_blob(layer) for record in records for layer in record.layers or ())
    stacks, ends = _stacks(records, bases, blobs)
    value: dict[str, Any] = {
        "format": FORMAT,
        "writer": _written(body.writer),
        "created": _number(body.created),
        "segments": sorted(set(body.segments)),
        "blobs": [list(blob) for blob in blobs],
        "bases": list(bases),
        "stacks": [[parent, blob, _number(created)] for parent, blob, created in stacks],
        "records": [_encode_record(record, end, bases[record.base]) for record, end in zip(records, ends, strict=True)],
    }
    return {**value, "sum": checksum(value)}


def signed_bytes(value: Mapping[str, Any]) -> bytes:  # Any: JSON
    """Return the canonical bytes of an encoded body that its checksum and its signature are about."""
    return oci.canonical_json({key: item for key, item in value.items() if key not in ("sum", "sig")})


def checksum(value: Mapping[str, Any]) -> str:  # Any: JSON
    """Return the checksum of an encoded body."""
    return hashlib.sha256(signed_bytes(value)).hexdigest()


def _step(record: CacheRecord) -> tuple[str, str]:
    return record.key, record.definition


def _blob(layer: CacheLayer) -> _Blob:
    return layer.descriptor.digest, layer.diff_id, layer.descriptor.size, layer.descriptor.media_type


def _numbered(items: Iterable[Item]) -> dict[Item, int]:
    return {item: number for number, item in enumerate(sorted(set(items)))}  # type: ignore[type-var]  # texts or tuples


def _stacks(
    records: Sequence[CacheRecord], bases: Mapping[str, int], blobs: Mapping[_Blob, int]
) -> tuple[list[tuple[int, int, float]], list[int | None]]:
    """Return all stacks, each once and after what it stands on, and for each record the number of its own (below 0: a base).

    They are numbered from the bottom up, and on each level in the order of what they stand on, so that the order of the records does not
    matter.
    """
    numbers: dict[tuple[int, int, float], int] = {}
    tops = [-1 - bases[record.base] for record in records]
    pending = [number for number, record in enumerate(records) if record.layers]
    level = 0
    while pending:
        entries = {}
        for number in pending:
            layer = (records[number].layers or ())[level]
            entries[number] = (tops[number], blobs[_blob(layer)], layer.created)
        for entry in sorted(set(entries.values())):
            numbers[entry] = len(numbers)
        for number, entry in entries.items():
            tops[number] = numbers[entry]
        level += 1
        pending = [number for number in pending if len(records[number].layers or ()) > level]
    ends = [None if record.layers is None else top for record, top in zip(records, tops, strict=True)]
    return list(numbers), ends


def _encode_record(record: CacheRecord, end: int | None, base: int) -> dict[str, Any]:  # Any: JSON
    value: dict[str, Any] = {
        "k": record.key,
        "c": _number(record.created),
        "last": _number(record.last),
        **({"b": base} if end is None else {"l": end}),
    }
    optional = {
        "v": record.definition,
        "i": record.identity,
        "p": record.platform,
        "d": record.description,
        "s": _number(record.seconds),
        "in": [list(pair) for pair in record.inputs],
        "trees": [list(pair) for pair in record.trees],
    }
    return {**value, **{key: item for key, item in optional.items() if item}}


def _number(value: float) -> float | int:
    """Return *value* in the one way in which it is written."""
    return int(value) if value == int(value) else value


def _normal_layer(layer: CacheLayer) -> CacheLayer:
    plain = Descriptor(layer.descriptor.media_type, layer.descriptor.digest, layer.descriptor.size)
    return _layer((plain.digest, layer.diff_id, plain.size, plain.media_type), layer.created)


def _written(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return *text* as JSON can hold it, of at most *limit* characters."""
    return text[:limit].encode("utf-8", "replace").decode()


# --------------------------------------------------------------------------------------------------------------- reading


def decode_body(value: object, name: str) -> Body:
    """Return what the JSON *value*, the body of the document *name*, says. Raises UnusableError."""
    if not isinstance(value, dict):
        raise UnusableError(f"{name} is damaged: its records are no object")
    version = value.get("format")
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
        raise UnusableError(f"{name} has format {version}, which a later version of img wrote", replaceable=False)
    if version != FORMAT or value.get("sum") != checksum(value):
        raise UnusableError(f"{name} is damaged: its checksum is wrong")
    try:
        return _body(value)
    except _WrongError:
        raise UnusableError(f"{name} is damaged: a table has values of a wrong kind") from None


def _body(value: Mapping[str, Any]) -> Body:  # Any: JSON
    blobs = [_read_blob(item) for item in _list(value.get("blobs"))]
    bases = [_perhaps(item) for item in _list(value.get("bases"))]
    stacks = _Stacks(blobs, bases, _list(value.get("stacks")))
    items = _list(value.get("records"))
    records = [record for item in items if (record := _read_record(item, stacks)) is not None]
    return Body(
        records=tuple({_step(record): record for record in records}.values()),
        created=_time(value.get("created")),
        writer=_text(value.get("writer", "")),
        segments=tuple(_word(item) for item in _list(value.get("segments", []))),
        dropped=len(items) - len(records),
        signed="sig" in value,
    )


class _Stacks:
    """The table of stacks, expanded as far as records name them."""

    def __init__(self, blobs: Sequence[_Blob], bases: Sequence[str], items: Sequence[object]) -> None:
        self.bases = bases
        self._layers: list[tuple[int, CacheLayer]] = []
        for number, item in enumerate(items):
            parent, blob, created = _row(item, 3)
            layer = _layer(blobs[_integer(blob, 0, len(blobs))], created)
            self._layers.append((_integer(parent, -len(bases), number), layer))
        self._known: dict[int, tuple[str, tuple[CacheLayer, ...]]] = {}
        self._expanded = 0

    def __getitem__(self, end: object) -> tuple[str, tuple[CacheLayer, ...]]:
        """Return base and layers of the stack *end*."""
        number = _integer(end, -len(self.bases), len(self._layers))
        if number not in self._known:
            self._known[number] = self._expand(number)
        return self._known[number]

    def _expand(self, end: int) -> tuple[str, tuple[CacheLayer, ...]]:
        layers: list[CacheLayer] = []
        while end >= 0:
            end, layer = self._layers[end]
            layers.append(layer)
            _require(len(layers) <= _DEPTH_LIMIT)
        self._expanded += len(layers)
        _require(self._expanded <= _EXPANDED_LIMIT)
        return self.bases[-1 - end], tuple(reversed(layers))


def _read_record(item: object, stacks: _Stacks) -> CacheRecord | None:
    """Return the record, None if it is not understood."""
    try:
        _require(isinstance(item, dict))
        assert isinstance(item, dict)
        layers: tuple[CacheLayer, ...] | None = None
        if "l" in item:
            base, layers = stacks[item["l"]]
        else:
            base = stacks.bases[_integer(item.get("b"), 0, len(stacks.bases))]
        return CacheRecord(
            key=_word(item.get("k")),
            definition=_perhaps(item.get("v", "")),
            identity=_perhaps(item.get("i", "")),
            base=base,
            layers=layers,
            created=_time(item.get("c")),
            last=_time(item.get("last")),
            seconds=_time(item.get("s", 0)),
            platform=_text(item.get("p", ""), _WORD_LIMIT),
            description=_text(item.get("d", "")),
            inputs=tuple((_text(name), _text(text)) for name, text in _pairs(item.get("in", []))),
            trees=tuple((_word(action), _word(content)) for action, content in _pairs(item.get("trees", []))),
        )
    except _WrongError:
        return None


def _read_blob(item: object) -> _Blob:
    digest, diff_id, size, media_type = _row(item, 4)
    return digest, diff_id, size, media_type


def _layer(blob: _Blob, created: object) -> CacheLayer:
    digest, diff_id, size, media_type = blob
    for text in (digest, diff_id):
        _require(isinstance(text, str) and is_digest(text))
    _integer(size, 0, _SIZE_LIMIT)
    _require(isinstance(media_type, str) and oci.layer_compression(media_type) is not None)
    _require(not oci.is_foreign_layer(media_type))
    return CacheLayer(Descriptor(media_type, Digest(digest), size), DiffId(diff_id), _time(created))


def _require(condition: bool) -> None:
    if not condition:
        raise _WrongError


def _integer(value: object, low: int, end: int) -> int:
    """Return a number from *low* to below *end*."""
    _require(isinstance(value, int) and not isinstance(value, bool))
    assert isinstance(value, int)
    _require(low <= value < end)
    return value


def _list(value: object) -> list[Any]:  # Any: JSON
    _require(isinstance(value, list))
    assert isinstance(value, list)
    return value


def _row(value: object, length: int) -> list[Any]:  # Any: JSON
    row = _list(value)
    _require(len(row) == length)
    return row


def _pairs(value: object) -> list[list[Any]]:  # Any: JSON
    return [_row(item, 2) for item in _list(value)]


def _text(value: object, limit: int = _TEXT_LIMIT) -> str:
    _require(isinstance(value, str) and len(value) <= limit)
    return str(value)


def _word(value: object) -> str:
    """Return a key, an identity or a name: printable ASCII, not empty."""
    _require(isinstance(value, str) and 0 < len(value) <= _WORD_LIMIT and value.isascii() and value.isprintable())
    return str(value)


def _perhaps(value: object) -> str:
    """Return a word, or an empty text where there is none: scratch has no chain id, files that are no step's have no definition."""
    return "" if value == "" else _word(value)


def _time(value: object) -> float:
    """Return seconds since 1970, or a duration in seconds."""
    _require(isinstance(value, int | float) and not isinstance(value, bool))
    assert isinstance(value, int | float)
    _require(0 <= value <= _LAST_TIME and math.isfinite(value))
    return float(value)
