"""Builds that share a cache, which is kept in memory and can be damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from solver_lab import PLATFORMS, Lab, Tree, World, tree_of

from img_core.solver.cache_export import Exports
from img_core.solver.cache_import import CacheSource, Imports, load_all
from img_core.solver.result import BuildOutcome
from img_core.spec.cache import CacheBackend, CacheLoad, CacheRecord, CacheReport
from img_core.spec.errors import NotFoundError
from img_core.spec.exporter import ExportProgress, LayerForm
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import Vertex
from img_core.spec.values import Descriptor

__all__ = ["CacheLab", "Done", "MemoryCache"]


class MemoryCache(CacheBackend):
    """Keeps records and the blobs of their layers."""

    name = "memory"

    def __init__(self, *, all_layers: bool = True) -> None:
        self.all_layers = all_layers
        self.location = f"memory {id(self)}"
        self.records: dict[tuple[str, str], CacheRecord] = {}
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def load(self) -> CacheLoad:
        return CacheLoad(tuple(self.records.values()))

    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        self.fetched.append(descriptor.digest)
        if descriptor.digest not in self.blobs:
            raise NotFoundError(f"blob {descriptor.digest}: not found")
        yield self.blobs[descriptor.digest][start:]

    def save(self, records: Sequence[CacheRecord], progress: ExportProgress) -> CacheReport:
        raise AssertionError("the lab does that")


@dataclass
class Done:
    """What a build gave: the files of its images, names of steps that ran and were found, and warnings."""

    trees: list[Tree]
    ran: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class CacheLab:
    """Makes builds, each in a new state directory unless it gets one."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._patch = patch
        self._labs: list[Lab] = []

    def state(self) -> Lab:
        """Return an empty state directory."""
        self._labs.append(Lab(self._directory / f"lab{len(self._labs)}", self._patch))
        return self._labs[-1]

    def build(
        self,
        roots: Sequence[Vertex],
        world: World,
        *,
        lab: Lab | None = None,
        sources: Sequence[MemoryCache] = (),
        target: MemoryCache | None = None,
        blobs: bool = False,
    ) -> Done:
        """Solve one graph as a build does, with its caches; with *blobs* an exporter wants them, else one wants files."""
        lab = lab or self.state()
        plan = Plan(tuple(PlannedImage(PLATFORMS[0], root, {}, ()) for root in roots))
        done = Done([])

        def finished(vertex: Vertex, found: bool, _seconds: float, error: str) -> None:
            if error:
                return
            if vertex.inputs or not hasattr(vertex.op, "scheme"):
                (done.found if found else done.ran).append(vertex.name)

        from contextlib import nullcontext

        named = [CacheSource(f"cache {number}", source) for number, source in enumerate(sources)]
        imports = (
            Imports(load_all(named, done.warnings.append, _never, lambda _name: nullcontext()), done.warnings.append)
            if named
            else None
        )
        forms = (LayerForm(),) if blobs or target else ()
        with lab.solver(
            world,
            plan,
            layer_forms=forms,
            all_layers=bool(target and target.all_layers),
            imports=imports,
            finished=finished,
        ) as (solver, scope):
            kept: list[CacheRecord] = []

            def ready(outcome: BuildOutcome) -> None:
                exports = Exports(scope, solver, 1.0)
                if imports is not None:
                    wanted = [layer for image in outcome.images if blobs for layer in image.stack.layers]
                    wanted += exports.layers_from_elsewhere(target) if target else ()
                    imports.fetch(wanted, scope.layers, scope.store, _never)
                    for image in () if blobs else outcome.images:
                        scope.layers.snapshots.top(image.stack)
                    imports.keep(solver.results().values(), scope.store)
                kept[:] = exports.records(target) if target else ()

            outcome = solver.solve(ready=ready)
            for image in outcome.images:
                with image.tree() as tree:
                    done.trees.append(tree_of(tree.fd))
            if target is not None:
                self._save(lab, kept, target)
        return done

    def _save(self, lab: Lab, records: Sequence[CacheRecord], target: MemoryCache) -> None:
        for record in records:
            target.records[record.key, record.definition] = record
            for layer in record.layers or ():
                if layer.descriptor.digest not in target.blobs:
                    target.blobs[layer.descriptor.digest] = b"".join(lab.store.blobs.chunks(layer.descriptor))

    def close(self) -> None:
        """Close all state directories."""
        for lab in self._labs:
            lab.close()


def _never() -> None:
    raise AssertionError("nothing failed")


def damaged(cache: MemoryCache, change: Callable[[CacheRecord], CacheRecord | None]) -> None:
    """Replace each record by what *change* makes of it."""
    changed = {key: change(record) for key, record in cache.records.items()}
    cache.records = {key: record for key, record in changed.items() if record is not None}


def without_layers(record: CacheRecord) -> CacheRecord:
    """Return the record as ``mode=min`` keeps it."""
    return replace(record, layers=None)
