"""``--cache-from``: results that other builds recorded. All documents are loaded in one round before the build; layers when they are read.

A record is taken only on the layers it was made on. What is missing, damaged or not what it claims to be is a warning, and the build goes
on without it (`img_core.solver.stacks.RestartError`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from img_core.images.oci import layer_compression
from img_core.linux.parallel import run_together
from img_core.solver.recorded import equal_layers, recorded
from img_core.solver.stacks import Imported, Layer, Rejection, RestartError, Stack, rejecting
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import Canceled, ImgError, IntegrityError, NotFoundError
from img_core.store.records import RecordedLayer, StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from img_core.forms.comparison import KnownStep
    from img_core.solver.layers import Layers
    from img_core.spec.cache import CacheBackend, CacheLoad, CacheRecord
    from img_core.spec.graph import Vertex
    from img_core.spec.source import PinnedTree
    from img_core.spec.values import Descriptor
    from img_core.store import Store

__all__ = ["CacheSource", "Imports", "load_all", "step_record"]

_WORKERS = 4  # layers that are fetched at the same time


@dataclass(frozen=True, slots=True)
class CacheSource:
    """One ``--cache-from``: its *name* for people, and what reads it. One that is *new* may not be there yet."""

    name: str
    backend: CacheBackend
    new: bool = False


class Imports:
    """The records of all sources, those of earlier sources first, and within one the newest first.

    *warn* gets one line for each thing that cannot be used. Called from several threads.
    """

    def __init__(self, loaded: Iterable[tuple[CacheSource, CacheLoad]], warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._steps: dict[str, list[Imported]] = {}
        self._facts: dict[tuple[str, str], str] = {}
        self._mounts: dict[str, list[Imported]] = {}
        self._rejected: set[Imported] = set()
        self.preferred: set[str] = set()  #: vertices whose imported results go before those of our own
        self.made = False  #: whether a step of this build was done, so that a restart would cost something
        for source, load in loaded:
            for record in sorted(load.records, key=lambda record: -record.created):
                self._add(Imported(record, source.name, source.backend))

    def _add(self, imported: Imported) -> None:
        record = imported.record
        if any(layer_compression(layer.descriptor.media_type) is None for layer in record.layers or ()):
            return  # made by a later img, or by nobody
        if record.is_mount:
            if record.layers and len(record.layers) == 1:
                self._mounts.setdefault(record.key, []).append(imported)
        elif record.definition:
            self._steps.setdefault(record.key, []).append(imported)
        else:
            for files, digest in record.trees:
                self._facts.setdefault((record.key, files), digest)

    def find(self, key: str) -> Iterator[Imported]:
        """Give the usable records of a step's *key*."""
        return (found for found in self._steps.get(key, ()) if found not in self._rejected)

    def mounts(self, name: str, mount_id: str) -> Iterator[Imported]:
        """Give what may be restored of the cache mount whose directory is called *name*, and whose id people know."""
        found = (item for item in self._mounts.get(name, ()) if item not in self._rejected)
        return (item for item in found if item.backend.carries_mount(mount_id))

    def records(self) -> Iterator[CacheRecord]:
        """Give the records of all steps, those of earlier sources first."""
        return (found.record for records in self._steps.values() for found in records)

    def known_steps(self) -> Iterator[KnownStep]:
        """Give what all records say of their steps, see `img_core.forms.comparison`."""
        for records in self._steps.values():
            for found in records:
                yield found.record.key, found.record.description, found.record.inputs

    def layer(self, imported: Imported, base: Stack, vertex: Vertex) -> Layer | None:
        """Return the layer that a record puts on *base*, or None if it was made on others.

        A record without layers gives one that is only a name; it must not stand on results of our own, of which it may know others.
        Raises RestartError if it is worth it to take what is below from the same cache.
        """
        record = imported.record
        if record.layers is None:
            if any(layer.imported is None for layer in base.own):
                return None
            name = f"{record.identity} {record.created}"
            return Layer(created=record.created, step=vertex.digest, name=name, imported=imported)
        if not record.layers:
            return None
        *below, top = record.layers
        if not equal_layers(
            [RecordedLayer(item.diff_id, item.created, None, item.diff_id) for item in below], base.own
        ):
            chain = _base_chain(vertex)
            if not self.made and not chain <= self.preferred:
                raise RestartError(preferred=chain)
            return None
        return Layer(
            descriptor=top.descriptor,
            diff_id=top.diff_id,
            fetch=partial(self._fetch, imported, top.descriptor),
            created=top.created,
            step=vertex.digest,
            name=top.diff_id,
            imported=imported,
        )

    def _fetch(self, imported: Imported, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        try:
            yield from imported.backend.fetch(descriptor, start)
        except (Canceled, GeneratorExit):
            raise
        except Exception as err:  # whatever a cache does, it fails no build
            reason = err.message if isinstance(err, ImgError) else f"{type(err).__name__}: {err}"
            raise RestartError([Rejection(imported, f"layer {descriptor.digest}: {reason}")]) from err

    # ------------------------------------------------------------------------------------------ what was copied from where

    def tree_digest(self, source: Stack | PinnedTree, files: str) -> str | None:
        """Return the digest of some *files* of an imported result, if its record tells it."""
        assert isinstance(source, Stack)
        top = source.layers[-1]
        if top.origin is None:
            assert top.imported is not None
            return dict(top.imported.record.trees).get(files)
        if all(layer.imported for layer in source.own):
            return self.fact(source.identity, files)
        return None

    def fact(self, identity: str, files: str) -> str | None:
        """Return the digest of some *files* of what has this identity wherever it is: an image, or exactly named files."""
        return self._facts.get((identity, files))

    # ------------------------------------------------------------------------------------------------------ doing without

    def reject(self, restart: RestartError) -> bool:
        """Do without what *restart* names, from now on; return whether that is something new."""
        fresh = {item.imported: item for item in restart.rejections if item.imported not in self._rejected}.values()
        is_new = bool(fresh) or not restart.preferred <= self.preferred
        self.preferred |= restart.preferred
        for rejection in fresh:
            found = rejection.imported
            self._rejected.add(found)
            if rejection.reason:
                name = found.record.description or found.record.key
                self._warn(f"cache {found.source} is not used for `{name}`: {rejection.reason}")
        return is_new

    # ---------------------------------------------------------------------------------------------------- fetching, keeping

    def fetch(
        self,
        wanted: Iterable[Layer],
        layers: Layers,
        store: Store,
        stop: Callable[[], None],
        stays: Callable[[Layer], bool] = lambda _layer: False,
    ) -> None:
        """Fetch and check those of the layers *wanted* that are imported, some at the same time.

        Of one that *stays* in its registry only the last byte is fetched, to see that it is there. Raises RestartError that tells all
        that failed.
        """
        imported = {layer.origin or layer: None for layer in wanted if layer.imported}
        failed: list[Rejection] = []

        def get(layer: Layer) -> None:
            try:
                if stays(layer):
                    _leave(layer, store)
                else:
                    _fetch_checked(layer, layers, store)
            except RestartError as err:
                failed.extend(err.rejections)

        run_together([partial(get, layer) for layer in imported], workers=_WORKERS, stop=stop)
        if failed:
            raise RestartError(failed)

    def keep(self, results: Iterable[tuple[StepRecord, Stack]], store: Store) -> None:
        """Make those of the *results* that are imported, and whose layers came here, our own."""
        for record, stack in results:
            top = stack.layers[-1] if stack.layers else None
            if top is None or top.imported is None or top.descriptor is None:
                continue
            if top.snapshot is None and store.blobs.layer_diff_id(top.descriptor.digest) != top.diff_id:
                continue
            store.records.add_step(_with_layers(record, stack))
            for files, digest in top.imported.record.trees:
                store.records.set_tree_digest(record.identity, files, digest)


def _base_chain(vertex: Vertex) -> set[str]:
    """Return the digests of the vertices that *vertex* is built on."""
    chain = set()
    while vertex.inputs and getattr(vertex.op, "has_base", True):
        vertex = vertex.inputs[0]
        chain.add(vertex.digest)
    return chain


def step_record(record: CacheRecord) -> StepRecord:
    """Return what our own records say of a step that another build recorded, but for its layers."""
    return StepRecord(
        record.key, record.definition, record.identity, (), record.base, "", record.platform, record.description, record.inputs,
        record.seconds, record.created,
    )  # fmt: skip


def _with_layers(record: StepRecord, stack: Stack) -> StepRecord:
    return replace(record, layers=tuple(map(recorded, stack.own)), base=stack.base)


def _fetch_checked(layer: Layer, layers: Layers, store: Store) -> None:
    """Fetch the blob of *layer*, unless it is here, and see that it holds what its record says."""
    descriptor = layer.descriptor
    if descriptor is None or not store.blobs.has(descriptor.digest):
        descriptor = layers.blobs.write(layer)
    if layer.snapshot is not None or store.blobs.layer_diff_id(descriptor.digest) == layer.diff_id:
        return
    from img_core.archives.layers import diff_id_of

    with rejecting(layer):
        found = diff_id_of(store.blobs.chunks(descriptor), descriptor, layer.diff_id or "")
        if found != layer.diff_id:
            raise IntegrityError(f"layer {descriptor.digest} holds {found} instead of {layer.diff_id}")
        store.blobs.remember_layer(descriptor.digest, found)


def _leave(layer: Layer, store: Store) -> None:
    """See that *layer* is in its registry, and let it stay there."""
    assert layer.imported is not None
    if layer.descriptor is None or layer.fetch is None:
        raise RestartError([Rejection(layer.imported)])
    for _last in layer.fetch(max(0, layer.descriptor.size - 1)):
        pass
    store.blobs.remember_origins([layer.descriptor.digest], layer.imported.backend.repository)
    layer.remote = True


def load_all(
    sources: Sequence[CacheSource],
    failed: Callable[[str], None],
    stop: Callable[[], None],
    shown: Callable[[str], AbstractContextManager[object]],
) -> list[tuple[CacheSource, CacheLoad]]:
    """Load all *sources* at the same time, each *shown* by its name; one that cannot be read is told to *failed*."""
    loads: dict[int, CacheLoad] = {}

    def load(number: int, source: CacheSource) -> None:
        with shown(source.name):
            try:
                loads[number] = source.backend.load()
            except Canceled:
                raise
            except Exception as err:  # whatever a cache does, it fails no build
                if source.new and isinstance(err, NotFoundError):
                    return
                failed(f"cache {source.name} is not used: {err.message if isinstance(err, ImgError) else repr(err)}")

    run_together([partial(load, *item) for item in enumerate(sources)], workers=_WORKERS, stop=stop)
    return [(source, loads[number]) for number, source in enumerate(sources) if number in loads]
