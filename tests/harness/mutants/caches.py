"""Cache backends with one thing wrong."""

# ruff: noqa: E501 - one mutant, one line
from __future__ import annotations

import fcntl
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.mutants import Mutant, mutant
from img_cache_local._local import LocalCache
from img_core.spec.cache import CacheLoad, CacheRecord
from img_core.spec.errors import ImgError, NotFoundError
from img_core.testing.contracts.cache import CacheContract, Place

__all__ = ["CACHES"]

Good = LocalCache


class Suite(CacheContract):
    """The suite of a cache in a directory."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        directory = tmp_path / "cache"

        def state() -> Mapping[str, bytes]:
            return {str(path): path.read_bytes() if path.is_file() else b"" for path in directory.rglob("*")}

        def cut(_chance: random.Random) -> Callable[[], None]:
            before = {Path(path): content for path, content in state().items() if "blobs" in path and content}
            for path, content in before.items():
                path.write_bytes(content[: len(content) // 2])

            def undo() -> None:
                for path, content in before.items():
                    path.write_bytes(content)

            return undo

        options = {"export": {"dest": str(directory)}, "source": {"src": str(directory)}}
        return Place(**options, state=lambda: (directory.exists(), state()), damage={"cut": cut}, on_disk=True)


def cache(claim: str, **changes: Any) -> Mutant:
    return mutant(Suite, Good, claim, **changes)


def loading(change: Callable[[Any, tuple[CacheRecord, ...]], Any]) -> Callable[[Any], CacheLoad]:
    """Return a `load` whose records are changed."""

    def load(self: Any) -> CacheLoad:
        found = Good.load(self)
        return CacheLoad(tuple(change(self, found.records)), found.warnings)

    return load


def _from_the_start(self: Any, descriptor: Any, start: int = 0) -> Iterator[bytes]:
    return Good.fetch(self, descriptor)


def _flipping(self: Any, descriptor: Any, start: int = 0) -> Iterator[bytes]:
    content = b"".join(Good.fetch(self, descriptor, start))
    yield content[:-1] + bytes([content[-1] ^ 1])


def _alone(self: Any, records: Any, progress: Any) -> Any:
    shutil.rmtree(self.options["dest"], ignore_errors=True)
    return Good.save(self, records, progress)


def _once(self: Any, records: Any, progress: Any) -> Any:
    try:
        known = {record.key for record in Good.load(self).records}
    except ImgError:
        known = set()
    return Good.save(self, [record for record in records if record.key not in known], progress)


def _always(self: Any, records: Any, progress: Any) -> Any:
    report = Good.save(self, records, progress)
    Path(self.options["dest"], os.urandom(4).hex()).touch()
    return report


def _makes_it(self: Any) -> CacheLoad:
    os.makedirs(self.options["src"], exist_ok=True)
    return Good.load(self)


def _silent_where_nothing_is(self: Any) -> CacheLoad:
    try:
        return Good.load(self)
    except NotFoundError:
        return CacheLoad((), ())


def _guesses(self: Any) -> CacheLoad:
    found = Good.load(self)
    return CacheLoad((CacheRecord("k", "", ""),), ()) if found.warnings else found


def _hides(self: Any) -> CacheLoad:
    try:
        found = Good.load(self)
    except ImgError:
        return CacheLoad((), ())
    return CacheLoad((), ()) if found.warnings else found


def _complains(self: Any) -> CacheLoad:
    found = Good.load(self)
    return CacheLoad(found.records, found.warnings * 2)


def _fails_without_a_layer(self: Any, records: Any, progress: Any) -> Any:
    for record in records:
        for layer in record.layers or ():
            self.context.store.read(layer.descriptor.digest)
    return Good.save(self, records, progress)


def _tells_all_new(self: Any, records: Any, progress: Any) -> Any:
    return replace(Good.save(self, records, progress), new=len(records), kept=0)


def _prune_for_good(self: Any, progress: Any, **more: Any) -> Any:
    return Good.prune(self, progress, **{**more, "dry_run": False})


def _prune_never(self: Any, progress: Any, **more: Any) -> Any:
    return Good.prune(self, progress, **{**more, "dry_run": True})


def _prune_by_age(self: Any, progress: Any, **more: Any) -> Any:
    return Good.prune(self, progress, **{**more, "max_size": None})


def _in_one_piece(self: Any, descriptor: Any, start: int = 0) -> Iterator[bytes]:
    yield b"".join(Good.fetch(self, descriptor, start))


def _without_lock(self: Any, records: Any, progress: Any) -> Any:
    """Add to what was there when it looked, and to nothing that came since."""
    place = Path(self.options["dest"])
    seen = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    threading.Event().wait(0.2)
    with open(place.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(place, ignore_errors=True)
        for path, content in seen.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return Good.save(self, records, progress)


SCHEMA: Mapping[str, Any] = Good.schema or {}

CACHES = {
    "forgets a record": cache("test_what_was_saved", load=loading(lambda _self, records: records[1:])),
    "forgets the layers": cache("test_what_was_saved", load=loading(lambda _self, records: (replace(record, layers=None) for record in records))),
    "swaps layers": cache("test_what_was_saved", load=loading(lambda _self, records: (replace(record, layers=tuple(reversed(record.layers or ()))) for record in records))),
    "gives a blob from its start": cache("test_what_was_saved", fetch=_from_the_start),
    "gives a wrong byte": cache("test_what_was_saved", fetch=_flipping),
    "removes what others saved": cache("test_records_of_others", save=_alone),
    "tells that all is new": cache("test_records_of_others", save=_tells_all_new),
    "keeps the older result": cache("test_a_newer_result", save=_once),
    "writes without news": cache("test_without_news", save=_always),
    "makes what it looks for": cache("test_what_is_missing", load=_makes_it),
    "does not tell that nothing is there": cache("test_what_is_missing", load=_silent_where_nothing_is),
    "takes any option": cache("test_name_and_schema", schema={**SCHEMA, "additionalProperties": True}),
    "explains no option": cache("test_name_and_schema", schema={**SCHEMA, "properties": {"dest": {"type": "string"}}}),
    "guesses what was damaged": cache("test_damage_gives", load=_guesses),
    "loads nothing of what was damaged and is silent": cache("test_damage_gives", load=_hides),
    "warns twice": cache("test_damage_gives", load=_complains),
    "fails without a layer": cache("test_a_layer_that_the_store", save=_fails_without_a_layer),
    "prunes to try": cache("test_what_was_not_used", prune=_prune_for_good),
    "never prunes": cache("test_what_was_not_used", prune=_prune_never),
    "fetches layers in one piece": cache("test_a_large_layer", fetch=_in_one_piece),
    "loses what another process saved": cache("test_two_processes", save=_without_lock),
    "does not look at sizes": cache("test_what_was_used_last", prune=_prune_by_age),
}  # fmt: skip
