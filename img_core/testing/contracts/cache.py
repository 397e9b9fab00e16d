"""What every cache backend that is a place promises. Subclass `CacheContract`, name the class and say where an empty place is::

    class TestMine(CacheContract):
        backend = MyCache

        @pytest.fixture
        def place(self, tmp_path: Path) -> Place | Iterator[Place]:
            yield Place(export={"dest": str(tmp_path)}, source={"src": str(tmp_path)})

Needs no build: records are made up, their blobs are real.
"""

# ruff: noqa: D102, PT017, S311 - a test's name is its claim
from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from img_core.files.fs import faults
from img_core.images import oci
from img_core.spec.cache import CACHE_MOUNT, CacheBackend, CacheContext, CacheLoad, CacheRecord, CacheReport
from img_core.spec.errors import ImgError
from img_core.spec.registry import Registries, Registry, RegistryContext
from img_core.spec.values import DiffId
from img_core.testing.contracts._cache_parts import NOW, Damage, Maker, Place
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.processes import CEILING, LARGE, at_once, fork, memory_growth, status_of
from img_core.testing.results import DirectoryStore, Recorder, host

__all__ = ["CacheContract", "Damage", "Maker", "Place"]

_ROUNDS = 20
_TIMES = 5  #: that two processes save at once
_MANY = 5000


class CacheContract(DriverContract):
    """The promises of `img_core.spec.CacheBackend`, each as a test."""

    kind = "cache"
    holder = "backend"
    backend: ClassVar[type[CacheBackend]]
    samples: ClassVar[Mapping[str, str]] = {
        "export": "options of an export, KEY=VALUE,…; `{empty}` in them becomes a directory that is not there yet",
        "import": "options of an import from the same place",
    }

    # ---- what a subclass gives

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place | Iterator[Place]:
        """An empty place."""
        empty = tmp_path / "place"
        export, source = (
            dict(item.split("=", 1) for item in self.sample(name).replace("{empty}", str(empty)).split(","))
            for name in ("export", "import")
        )
        return Place(
            export, source, state=lambda: {path: path.read_bytes() for path in empty.rglob("*") if path.is_file()}
        )

    def registries(self, *, insecure: Iterable[str] = (), brief: bool = False) -> Registry:
        """Return a registry, for a backend that needs one."""
        return self.registry_class(RegistryContext(insecure=frozenset(insecure), brief=brief))

    registry_class: ClassVar[type[Registry]]  #: of a backend that needs registries

    # ---- fixtures and helpers

    @pytest.fixture
    def maker(self, tmp_path: Path) -> Maker:
        """Makes records."""
        return Maker(DirectoryStore(tmp_path / "store"))

    @pytest.fixture(autouse=True)
    def no_faults_left(self) -> Iterator[None]:
        yield
        faults.uninstall()

    def context(self, store: DirectoryStore) -> CacheContext:
        """Return a context with *store*."""
        registries: Registries = self.registries
        return CacheContext(host(store.directory.parent / "host"), store, registries, now=NOW)

    def make(self, store: DirectoryStore, options: Mapping[str, Any], *, export: bool) -> CacheBackend:  # Any: JSON
        """Return a backend as a build makes it."""
        made = self.backend(self.context(store), options)
        made.check(export=export)
        return made

    def save(
        self,
        place: Place,
        maker: Maker,
        records: Sequence[CacheRecord],
        **options: Any,  # Any: JSON
    ) -> CacheReport:
        """Save as a build does."""
        made = self.make(maker.store, {**place.export, **options}, export=True)
        try:
            return made.save(records, Recorder())
        finally:
            made.close()

    def load(self, place: Place, maker: Maker, **options: Any) -> CacheLoad:  # Any: JSON
        """Load as a build on another machine does; all layers are fetched and compared with what was saved."""
        made = self.make(DirectoryStore(maker.store.directory / "elsewhere"), {**place.source, **options}, export=False)
        try:
            loaded = made.load()
            for record in loaded.records[:50]:
                for layer in record.layers or ():
                    content = maker.store.read(layer.descriptor.digest)
                    assert b"".join(made.fetch(layer.descriptor)) == content
                    assert b"".join(made.fetch(layer.descriptor, 7)) == content[7:]
        finally:
            made.close()
        return loaded

    # ---- declaration

    def test_name_and_schema_are_declared(self) -> None:
        from jsonschema import Draft202012Validator

        assert self.backend.name == self.backend.name.lower() != ""
        assert self.backend.schema is not None
        Draft202012Validator.check_schema(dict(self.backend.schema))
        assert self.backend.schema["additionalProperties"] is False
        for name, option in self.backend.schema["properties"].items():
            assert option.get("description"), f"option {name} is not explained"

    def test_the_options_of_export_and_import_are_accepted(self, place: Place, maker: Maker) -> None:
        from img_core.archives.codecs import compressor
        from img_core.forms.options import typed_options

        for options, export in ((place.export, True), (place.source, False)):
            typed_options(self.backend.schema, options, "it")
            made = self.make(maker.store, options, export=export)
            assert made.ignores_errors is made.all_layers is False
            assert compressor(made.layer_form.compression, made.layer_form.level).flush() is not None

    # ---- round trips

    def test_what_was_saved_is_loaded(self, place: Place, maker: Maker) -> None:
        records = maker.chain("a", 5)
        report = self.save(place, maker, records)
        assert (report.new, report.kept, report.warnings) == (5, 0, ())
        assert report.digest
        loaded = self.load(place, maker)
        assert set(loaded.records) == set(records)
        assert loaded.warnings == ()

    def test_a_record_without_layers_and_one_of_no_step(self, place: Place, maker: Maker) -> None:
        records = [
            replace(maker.record("a"), layers=None),
            CacheRecord("k", "", "", trees=(("x", "y"),)),
            maker.record("b"),
        ]
        self.save(place, maker, records)
        assert set(self.load(place, maker).records) == set(records)

    def test_what_is_missing_is_told(self, place: Place, maker: Maker) -> None:
        before = place.state()
        with pytest.raises(ImgError) as caught:
            self.load(place, maker)
        assert "\n" not in caught.value.message
        assert place.state() == before, "looking for a cache made something"

    def test_records_of_others_stay(self, place: Place, maker: Maker) -> None:
        first, second = maker.chain("a", 3), maker.chain("b", 2)
        self.save(place, maker, first)
        report = self.save(place, maker, second)
        assert (report.new, report.kept) == (2, 3)
        assert set(self.load(place, maker).records) == {*first, *second}

    def test_a_newer_result_replaces_an_older_one(self, place: Place, maker: Maker) -> None:
        old = maker.record("a", "x")
        new = replace(maker.record("a", "y"), identity="other", created=NOW + 1, last=NOW + 1)
        self.save(place, maker, [old])
        self.save(place, maker, [new])
        assert self.load(place, maker).records == (new,)

    def test_what_is_in_a_cache_mount_is_replaced_as_a_whole(self, place: Place, maker: Maker) -> None:
        step, (mount_layer, newer_layer) = maker.record("a"), map(maker.layer, ("x", "y"))
        old = CacheRecord("m", CACHE_MOUNT, "1", "", (mount_layer,), created=NOW, last=NOW, description="cache mount")
        new = replace(old, identity="2", layers=(newer_layer,), created=NOW + 1, last=NOW + 1)
        self.save(place, maker, [old, step])
        self.save(place, maker, [new])
        assert self.save(place, maker, [old]).new == 0, "an older one is no news"
        assert set(self.load(place, maker).records) == {new, step}

    def test_cache_mounts_are_saved_if_asked_for_and_restored_unless(self, place: Place, maker: Maker) -> None:
        schema = self.backend.schema or {}
        if "cache-mounts" not in schema["properties"]:
            return  # there are none in it
        for text, wanted in ((None, ""), ("true", "abc"), ("false", ""), ("a;c", "ac"), ("b", "b")):
            options = {} if text is None else {"cache-mounts": text}
            for export, given in ((True, place.export), (False, place.source)):
                made = self.make(maker.store, {**given, **options}, export=export)
                carried = "".join(name for name in "abc" if made.carries_mount(name))
                assert carried == ("abc" if text is None and not export else wanted)

    def test_without_news_nothing_is_written(self, place: Place, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        import time

        records = maker.chain("a", 3)
        monkeypatch.setattr(time, "time", lambda: NOW)
        self.save(place, maker, records)
        before = place.state()
        for again in (records, records[:2], [replace(records[0], layers=None)], []):
            report = self.save(place, maker, again)
            assert (report.digest, report.new) == (None, 0)
            assert place.state() == before

    def test_5000_records(self, place: Place, maker: Maker) -> None:
        records = [maker.record(f"step {number}", "below", f"layer {number % 50}") for number in range(_MANY)]
        self.save(place, maker, records)
        assert set(self.load(place, maker).records) == set(records)

    def test_two_writers_at_once_lose_nothing(self, place: Place, maker: Maker) -> None:
        expected: set[CacheRecord] = set()
        for number in range(_ROUNDS):
            rounds = [maker.chain(f"{name} {number}", 2) for name in ("a", "b")]
            failed: list[BaseException] = []
            start = threading.Barrier(2)

            def write(records: list[CacheRecord], failed: list[BaseException] = failed, start: Any = start) -> None:
                try:
                    start.wait(20)
                    self.save(place, maker, records)
                except BaseException as err:  # which the test must hear of
                    failed.append(err)

            threads = [threading.Thread(target=write, args=(records,)) for records in rounds]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert failed == []
            expected |= {record for records in rounds for record in records}
            assert set(self.load(place, maker).records) >= expected

    def test_two_processes_at_once_lose_nothing(self, place: Place, maker: Maker) -> None:
        expected: set[CacheRecord] = set()
        for number in range(_TIMES):
            rounds = [maker.chain(f"process {name} {number}", 2) for name in ("a", "b")]
            at_once(*(partial(self.save, place, maker, records) for records in rounds))
            expected |= {record for records in rounds for record in records}
            assert set(self.load(place, maker).records) >= expected

    def test_a_large_layer_takes_little_memory(self, place: Place, maker: Maker) -> None:
        small, large = maker.record("small", "x"), maker.record("large", "layer of many bytes")
        assert large.layers
        descriptor = maker.store.ingest((bytes(1 << 20) for _ in range(LARGE >> 20)), oci.OCI_LAYER)
        large = replace(
            large, layers=(replace(large.layers[0], descriptor=descriptor, diff_id=DiffId(descriptor.digest)),)
        )
        self.save(place, maker, [small])  # imports what it needs
        self.load(place, maker)

        def there_and_back() -> None:
            self.save(place, maker, [large])
            made = self.make(DirectoryStore(maker.store.directory / "other"), place.source, export=False)
            try:
                assert large in made.load().records
                assert sum(map(len, made.fetch(descriptor))) == LARGE
            finally:
                made.close()

        assert memory_growth(there_and_back) < CEILING

    # ---- limits

    def test_what_was_not_used_for_long_is_pruned(self, place: Place, maker: Maker) -> None:
        import time

        old = [replace(record, last=NOW - 1000) for record in maker.chain("old", 2)]
        new = [replace(record, last=time.time()) for record in maker.chain("new", 2)]
        self.save(place, maker, old)
        self.save(place, maker, new)
        made = self.make(maker.store, place.export, export=True)
        try:
            for dry_run in (True, True, False):
                pruned = made.prune(Recorder(), max_age=3600.0, dry_run=dry_run)
                assert (set(pruned.removed), set(pruned.kept), pruned.warnings) == (set(old), set(new), ())
            assert made.prune(Recorder(), max_age=3600.0).removed == ()
        finally:
            made.close()
        assert set(self.load(place, maker).records) == set(new)

    def test_what_was_used_last_stays_within_a_size(self, place: Place, maker: Maker) -> None:
        records = [replace(maker.record(name, name * 10), last=NOW + age) for age, name in enumerate("abcd")]
        self.save(place, maker, records)
        made = self.make(maker.store, place.export, export=True)
        try:
            assert set(made.prune(Recorder(), max_size=1200).kept) == set(records[2:])
        finally:
            made.close()

    # ---- damage

    def test_damage_gives_one_warning_and_never_a_wrong_record(self, place: Place, maker: Maker) -> None:
        first, second = maker.chain("a", 3), maker.chain("b", 3)
        self.save(place, maker, first)
        self.save(place, maker, second)
        written, chance = {*first, *second}, random.Random(5)
        for name, damage in place.damage.items():
            for _ in range(8):
                undo = damage(chance)
                made = self.make(maker.store, place.source, export=False)
                try:
                    loaded = made.load()
                except ImgError as err:
                    assert "\n" not in err.message, name
                else:
                    assert set(loaded.records) <= written, name
                    # What is gone may have been forgotten by the place itself; what is there and useless is told.
                    complete = set(loaded.records) == written
                    assert complete or loaded.warnings or name == "deleted", name
                    assert len(loaded.warnings) <= 1, name
                finally:
                    made.close()
                    undo()
        assert set(self.load(place, maker).records) == written

    def test_a_damaged_place_can_be_saved_to(self, place: Place, maker: Maker) -> None:
        self.save(place, maker, maker.chain("a", 3))
        chance = random.Random(6)
        for name, damage in place.damage.items():
            damage(chance)
            records = maker.chain(f"after {name}", 2)
            self.save(place, maker, records)
            assert set(self.load_records(place, maker)) >= set(records), name

    def load_records(self, place: Place, maker: Maker) -> Sequence[CacheRecord]:
        """Load without a look at the layers."""
        made = self.make(maker.store, place.source, export=False)
        try:
            return made.load().records
        finally:
            made.close()

    def test_a_layer_that_the_store_has_lost_is_saved_without(self, place: Place, maker: Maker) -> None:
        good, bad = maker.record("good", "x"), maker.record("bad", "y")
        assert bad.layers
        maker.store.path(bad.layers[0].descriptor.digest).unlink()
        report = self.save(place, maker, [good, bad])
        assert len(report.warnings) == 1
        assert set(self.load(place, maker).records) == {good, replace(bad, layers=None)}

    # ---- complete or nothing

    @pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
    def test_failing_disk_leaves_a_readable_cache(self, place: Place, maker: Maker, error: int) -> None:
        if not place.on_disk:
            return  # it changes no disk of ours
        before = maker.chain("before", 2)
        self.save(place, maker, before)
        for number in range(1, self.count_mutations(place, maker) + 1):
            records = maker.chain(f"at {number}", 2)
            faults.install(fail_at=number, error=error)
            try:
                self.save(place, maker, records)
            except ImgError as err:
                assert "\n" not in err.message
            finally:
                faults.uninstall()
            loaded = self.load(place, maker)
            assert set(loaded.records) >= set(before)
            assert loaded.warnings == ()

    def test_kill_leaves_a_readable_cache(self, place: Place, maker: Maker) -> None:
        if not place.on_disk:
            return
        before = maker.chain("before", 2)
        self.save(place, maker, before)
        outcomes = set()
        for number in range(1, self.count_mutations(place, maker) + 1):
            records = maker.chain(f"at {number}", 2)
            self.save_in_child(place, maker, records, crash_at=number)
            loaded = self.load(place, maker)
            assert set(loaded.records) >= set(before)
            assert loaded.warnings == ()
            outcomes.add(set(loaded.records) >= set(records))
        assert False in outcomes  # the last change may be the one that shows all of it

    def count_mutations(self, place: Place, maker: Maker) -> int:
        """Return how often a save changes the disk."""
        records = maker.chain("counted", 2)
        faults.install()
        self.save(place, maker, records)
        faults.uninstall()
        assert faults.count() > 0
        return faults.count()

    def save_in_child(self, place: Place, maker: Maker, records: Sequence[CacheRecord], *, crash_at: int) -> None:
        """Save in another process that ends, as by SIGKILL, at mutation *crash_at*."""

        def save() -> None:
            faults.install(crash_at=crash_at)
            with suppress(ImgError):
                self.save(place, maker, records)

        assert status_of(fork(save)) in (0, 137)
