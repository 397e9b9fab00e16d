"""Caches of a test, with a registry that misbehaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from img_core.spec.cache import CacheBackend, CacheContext, CacheLoad, CacheRecord, CacheReport
from img_core.spec.registry import Registry, RegistryContext
from img_core.testing.contracts.cache import Maker
from img_core.testing.results import DirectoryStore, Recorder, host
from img_registry_oci._registry import OciRegistry

__all__ = ["Lab"]


class Lab:
    """Makes backends of one class, whose records have layers in one store."""

    def __init__(self, backend: type[CacheBackend], directory: Path, **options: Any) -> None:
        self._backend = backend
        self._directory = directory
        self._options = options
        self.maker = Maker(DirectoryStore(directory / "store"))

    def make(self, *, export: bool, store: DirectoryStore | None = None, **options: Any) -> CacheBackend:
        context = CacheContext(host(self._directory / "host"), store or self.maker.store, _registries, now=1.75e9)
        made = self._backend(context, {**self._options, **options})
        made.check(export=export)
        return made

    def save(self, records: Sequence[CacheRecord], **options: Any) -> CacheReport:
        made = self.make(export=True, **options)
        try:
            return made.save(records, Recorder())
        finally:
            made.close()

    def load(self, **options: Any) -> CacheLoad:
        made = self.make(export=False, **options)
        try:
            return made.load()
        finally:
            made.close()


def _registries(*, insecure: Iterable[str] = (), brief: bool = False) -> Registry:
    return OciRegistry(RegistryContext(insecure=frozenset(insecure), brief=brief))
