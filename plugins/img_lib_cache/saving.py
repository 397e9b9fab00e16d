"""One save: layers first, then our segment, then the union of all under the rolling tag."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from img_core.images.layer_types import layer_codec
from img_core.linux.parallel import run_together
from img_core.spec.cache import CacheLayer, CachePruned, CacheRecord, CacheReport
from img_core.spec.errors import Canceled, ImgError, IntegrityError, NotFoundError, UsageError
from img_core.spec.exporter import BuiltLayer
from img_lib_cache.document import Body, blobs_of, normal
from img_lib_cache.envelope import FoundBodies, pack
from img_lib_cache.places import ConflictError
from img_lib_cache.segments import new_segment, written_at
from img_lib_cache.union import is_news, pruned, united

if TYPE_CHECKING:
    from img_core.spec.exporter import ExportProgress
    from img_core.spec.values import Descriptor, Digest
    from img_lib_cache.backend import DocumentCache
    from img_lib_cache.signing import TrustedKeys

__all__ = ["Save"]

_SEGMENT_LIMIT = 16  # segments that lie about before merged ones are removed
_SETTLED_SECONDS = 600.0  # no writer takes that long between reading the rolling document and writing it
_REFRESH_SECONDS = 86400.0  # how old "last used" may get before it is written anew
_ATTEMPTS = 30
_WORKERS = 4

_Step = tuple[str, str]


class Save:
    """Saves to the place of *cache* once."""

    def __init__(self, cache: DocumentCache, progress: ExportProgress) -> None:
        self._cache = cache
        self._place = cache.place
        self._warnings = cache.warnings
        self._status = progress.status
        self._trust = _merge_trust(cache)

    def run(self, records: Sequence[CacheRecord]) -> CacheReport:
        """Save *records*; without news nothing is written."""
        ours = united(kept for record in records if (kept := normal(record)) is not None)
        self._status(f"looking at {self._place.title}")
        there = self._read_rolling()
        known = {_step(record): record for body in there for record in body.records}
        new = [record for record in ours if is_news(record, known.get(_step(record)))]
        if not new and not self._should_refresh(ours, known):
            return CacheReport(kept=len(known), warnings=tuple(self._warnings))
        for body in there:
            self._place.note(blobs_of(body.records))
        new = self._with_blobs(new, known.values())
        segment = self._write_segment(new) if new and self._place.lists_tags else ""
        now = self._cache.context.now
        steps = {_step(record) for record in new}
        # Of what is there already, only that it was used is news.
        used = [replace(item, layers=None, last=max(item.last, now)) for item in ours if _step(item) not in steps]
        digest, count = self._merge([*new, *used], segment)
        self._tidy()
        return CacheReport(digest, len(new), max(0, count - len(ours)), tuple(self._warnings))

    def prune(self, max_age: float | None, max_size: int | None, *, dry_run: bool) -> CachePruned:
        """Forget what is too old or too much. Raises NotFoundError if there is nothing, UsageError if we must not write it anew."""
        bodies = self._read_rolling()
        if any(body.signed for body in bodies) and self._cache.signing_key is None:
            hint = f"give the key: `type={self._cache.name},…,sign=KEY`"
            raise UsageError(f"{self._place.title} is signed and would not be afterwards", hint=hint)
        segments = self._segments()
        merged = {name for body in bodies for name in body.segments}
        found, unread = self._cache.read_segments(segments - merged, self._trust)
        if not bodies and not found:
            raise NotFoundError(f"there is no cache in {self._place.title}")
        records = united(record for body in [*bodies, *found] for record in body.records)
        kept = pruned(records, now=time.time(), max_age=max_age, max_size=max_size)
        removed = [record for record in records if record not in set(kept)]
        if not dry_run:
            if removed:
                self._publish(self._cache.tag, Body(tuple(kept), segments=tuple(sorted(segments - unread))), ())
                self._compact(segments - unread, always=True)
            self._tidy(always=True)
        return CachePruned(tuple(removed), tuple(kept), tuple(self._warnings))

    def _tidy(self, *, always: bool = False) -> None:
        try:
            self._place.tidy(always=always)
        except Canceled:
            raise
        except ImgError as err:
            self._warnings[f"{self._place.title} is not tidied up: {err.message}"] = None

    def _write_segment(self, new: Sequence[CacheRecord]) -> str:
        name = new_segment(self._cache.tag, time.time())
        self._status(f"writing {name}")
        self._publish(name, Body(tuple(new)), new)
        return name

    # ----------------------------------------------------------------------------------------------- what is there

    def _read_rolling(self) -> list[Body]:
        """Return the bodies of the rolling document, none if there is none. Raises UsageError if it is something else than a cache."""
        try:
            found = self._cache.read(self._cache.tag, self._trust)
        except NotFoundError:
            return []
        if not found.replaceable:
            reason = found.warnings[0] if found.warnings else f"{self._place.title} is an image"
            hint = "choose another name for the cache"
            raise UsageError(f"the cache would replace something else: {reason}", hint=hint)
        return list(found.bodies)

    def _segments(self) -> set[str]:
        return self._cache.segments() if self._place.lists_tags else set()

    def _should_refresh(self, ours: Iterable[CacheRecord], known: Mapping[_Step, CacheRecord]) -> bool:
        """Tell whether "last used" of one of *ours* is so old that it is written anew, or something has to go."""
        mine = [known[_step(record)] for record in ours if _step(record) in known]
        old = any(time.time() - record.last > _REFRESH_SECONDS for record in mine)
        return old or len(self._limited(list(known.values()))) < len(known)

    def _limited(self, records: Sequence[CacheRecord]) -> list[CacheRecord]:
        return pruned(records, now=time.time(), max_age=self._cache.max_age, max_size=self._cache.max_size)

    # ---------------------------------------------------------------------------------------------------------- layers

    def _with_blobs(self, records: Sequence[CacheRecord], there: Iterable[CacheRecord]) -> list[CacheRecord]:
        """Bring the layers of *records* to the place; return the records, those that lack a blob here without layers."""
        wanted = self._forms(records, there)
        brought: set[str] = set()

        def bring(layer: CacheLayer) -> None:
            try:
                stored = wanted[layer.diff_id] = self._packed(layer)
                if not self._place.holds(stored.descriptor) and not self._is_there(stored.descriptor):
                    self._upload(stored.descriptor)
                brought.add(layer.diff_id)
            except (NotFoundError, IntegrityError) as err:
                self._warnings[f"a layer is not saved: {err.message}"] = None

        ordered = sorted(wanted.values(), key=lambda item: -item.descriptor.size)
        run_together([partial(bring, layer) for layer in ordered], workers=_WORKERS, stop=self._place.close)
        complete = (_complete(record, wanted, brought) for record in records)
        return [record for record in complete if record.layers is not None or not record.is_mount]

    def _forms(self, records: Iterable[CacheRecord], there: Iterable[CacheRecord]) -> dict[str, CacheLayer]:
        """Return the blob for each diff id of *records*: one that is there in a form that will do, or ours."""
        found: dict[str, CacheLayer] = {layer.diff_id: layer for record in records for layer in record.layers or ()}
        for record in there:
            for layer in record.layers or ():
                if layer.diff_id in found and self._will_do(layer):
                    found[layer.diff_id] = layer
        return found

    def _will_do(self, layer: CacheLayer) -> bool:
        """Tell whether *layer* is packed as it must be."""
        return not self._cache.forces_form or layer_codec(layer.descriptor) == self._cache.layer_form.compression

    def _packed(self, layer: CacheLayer) -> CacheLayer:
        """Return *layer* packed as it must be."""
        if self._will_do(layer):
            return layer
        from img_lib_export.repack import repack  # only for those who ask

        form = self._cache.layer_form
        built = BuiltLayer(layer.descriptor, layer.diff_id, "")
        packed = repack(self._cache.context.store, built, form.compression, level=form.level)
        return replace(layer, descriptor=packed.descriptor)

    def _is_there(self, descriptor: Descriptor) -> bool:
        """Tell of a blob that the store lacks whether the place has it: the build may have taken it from there without fetching it."""
        try:
            self._cache.context.store.open(descriptor.digest).close()
        except NotFoundError:
            return not self._gone([descriptor])
        return False

    def _upload(self, descriptor: Descriptor) -> None:
        text = f"saving {descriptor.digest}"
        self._status(text, total=descriptor.size)
        self._cache.bring(
            descriptor, lambda done: self._status(text, current=done, total=descriptor.size, finished=False)
        )
        self._status(text, current=descriptor.size, total=descriptor.size, finished=True, outcome="done")

    # ------------------------------------------------------------------------------------------------------- documents

    def _merge(self, ours: Sequence[CacheRecord], segment: str) -> tuple[Digest | None, int]:
        """Publish the union of all under the rolling tag until it has every segment; return its digest and how many records it has."""
        digest: Digest | None = None
        records: list[CacheRecord] = []
        merged: set[str] = set()
        for attempt in range(_ATTEMPTS):
            if attempt:  # so that two writers get out of step
                time.sleep(random.uniform(0.0, 0.03) * min(attempt, 10) if attempt > 1 else 0)  # noqa: S311
            self._status(f"writing {self._place.title}")
            bodies = self._read_rolling()
            there = self._segments() | ({segment} if segment else set())
            done = {name for body in bodies for name in body.segments}
            if digest is not None and there <= done:
                break
            found, unread = self._cache.read_segments(there - done - {segment}, self._trust)
            bodies += found
            there -= unread
            records = self._limited(united([*(record for body in bodies for record in body.records), *ours]))
            try:
                digest = self._publish(self._cache.tag, Body(tuple(records), segments=tuple(sorted(there))), ours)
            except Canceled:
                raise
            except ConflictError:
                continue
            except ImgError as err:
                if not segment:
                    raise
                self._warnings[f"{self._place.title} could not be replaced: {err.message}"] = None
                return digest, len(records)
            merged = there
            if not self._place.lists_tags:
                break
        if digest is None:
            raise ImgError(f"{self._place.title} was written by others again and again", hint="try again later")
        self._compact(merged)
        return digest, len(records)

    def _publish(self, tag: str, body: Body, ours: Iterable[CacheRecord]) -> Digest:
        """Store *body* under *tag*. If that is refused because blobs are gone, it is tried once more without what needs them."""
        body = replace(body, created=time.time(), writer=_writer())
        try:
            return self._store(tag, body)
        except (Canceled, ConflictError):
            raise
        except ImgError:
            gone = self._gone(layer.descriptor for layer in blobs_of(body.records).values())
            if not gone:
                raise
        mine = blobs_of(ours)
        for digest in gone & mine.keys():
            self._upload(mine[digest].descriptor)
        kept = tuple(record for record in body.records if not blobs_of([record]).keys() & (gone - mine.keys()))
        if lost := len(body.records) - len(kept):
            self._warnings[f"{lost} records of {self._place.title} have lost their layers"] = None
        return self._store(tag, replace(body, records=kept))

    def _store(self, tag: str, body: Body) -> Digest:
        created = datetime.fromtimestamp(int(body.created), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        envelope = pack(body, created=created, key=self._cache.signing_key)
        for descriptor, content in envelope.blobs:
            self._place.add(descriptor, partial(_from, content))
        digest = self._place.publish(tag, envelope.manifest)
        if tag == self._cache.tag:
            self._cache.remember(envelope.manifest, self._trust, FoundBodies((body,)))
        return digest

    def _gone(self, descriptors: Iterable[Descriptor]) -> set[Digest]:
        """Return those of *descriptors* that the place does not have."""
        gone: set[Digest] = set()
        for descriptor in descriptors:
            try:
                for _ in self._place.fetch(descriptor, max(0, descriptor.size - 1)):
                    pass
            except NotFoundError:
                gone.add(descriptor.digest)
        return gone

    def _compact(self, merged: Iterable[str], *, always: bool = False) -> None:
        """Remove segments when there are many: those that the rolling document has, and that no writer can still be about to merge."""
        segments = sorted(merged)
        if len(segments) < _SEGMENT_LIMIT and not always:
            return
        for name in segments:
            if time.time() - (written_at(name) or 0.0) < _SETTLED_SECONDS:
                continue
            try:
                self._place.remove(name)
            except Canceled:
                raise
            except ImgError as err:
                self._warnings[f"old parts of {self._place.title} stay: {err.message}"] = None
                return


def _merge_trust(cache: DocumentCache) -> TrustedKeys | None:
    """Return whose documents may be taken over. Who signs vouches for all of it: only what a trusted key signed, its own included."""
    if cache.signing_key is None:
        return cache.trust
    return cache.signing_key.trusted | cache.trust if cache.trust else cache.signing_key.trusted


def _step(record: CacheRecord) -> _Step:
    return record.key, record.definition


def _from(content: bytes, start: int) -> list[bytes]:
    return [content[start:]]


def _complete(record: CacheRecord, blobs: Mapping[str, CacheLayer], brought: set[str]) -> CacheRecord:
    """Return *record* with the blobs as they are stored, or without layers if one is not."""
    if record.layers is None:
        return record
    if not all(layer.diff_id in brought for layer in record.layers):
        return replace(record, layers=None)
    layers = tuple(replace(layer, descriptor=blobs[layer.diff_id].descriptor) for layer in record.layers)
    return replace(record, layers=layers)


def _writer() -> str:
    from img_core import __version__

    return f"img {__version__}"
