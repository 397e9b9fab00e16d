"""What every importer promises. Subclass `ImporterContract`, name the class and say how *image* looks in its form::

    class TestMine(ImporterContract):
        importer_class = MyImporter

        def write(self, image: SmallImage, directory: Path) -> Path:
            ...  # below directory; return the file or directory that is to be loaded

Needs no namespaces; images go into a plain directory of blobs (`img_core.testing.results.DirectoryStore`).
"""

# ruff: noqa: D102, PT017 - a test's name is its claim
from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from img_core.spec.errors import Canceled, ImgError
from img_core.spec.importer import Importer, LoadedImage
from img_core.spec.values import Descriptor, Digest
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.images import SmallImage, make_image
from img_core.testing.processes import CEILING, LARGE, at_once, kill_when_told, memory_growth
from img_core.testing.results import DirectoryStore

__all__ = ["ImporterContract"]

_BLOBS = 8  #: of an image, at which its loading is stopped
_START = 512  #: bytes of a stream that `Importer.claims` gets


class ImporterContract(DriverContract):
    """The promises of `img_core.spec.Importer`, each as a test."""

    kind = "importer"
    holder = "importer_class"
    importer_class: ClassVar[type[Importer]]
    samples: ClassVar[Mapping[str, str]] = {"image": "a file or directory in its form"}

    def write(self, image: SmallImage, directory: Path) -> Path:
        """Write *image* in the importer's form into the empty *directory*; return what is to be loaded."""
        return _copied(Path(self.sample("image")), directory)

    @pytest.fixture
    def image(self) -> SmallImage:
        return make_image([{"a": b"1"}, {"b": b"2" * 70_000}])

    @pytest.fixture
    def written(self, image: SmallImage, tmp_path: Path) -> Path:
        directory = tmp_path / "written"
        directory.mkdir()
        return self.write(image, directory)

    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "store")

    def test_it_claims_its_own_form_and_no_other(self, written: Path) -> None:
        assert self._claims(written)
        assert not self.importer_class.claims(b"#!/bin/sh\n")
        assert not self.importer_class.claims(b"")

    def test_the_image_arrives_whole(self, written: Path, image: SmallImage, store: DirectoryStore) -> None:
        if self.given_samples is not None:
            assert all(store.read(loaded.descriptor.digest) for loaded in self._load(written, store))
            return
        (loaded,) = self._load(written, store)
        assert loaded.descriptor.digest == image.top.digest
        assert set(image.blobs.values()) <= set(store.blobs().values())

    @pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
    def test_damage_never_becomes_an_image(
        self, part: float, written: Path, image: SmallImage, store: DirectoryStore
    ) -> None:
        whole = set(image.blobs.values()) if self.given_samples is None else self._blobs(written, store)
        victims = sorted(path for path in written.rglob("*") if path.is_file()) if written.is_dir() else [written]
        victim = victims[int(part * len(victims))]
        content = bytearray(victim.read_bytes())
        content[int(part * len(content))] ^= 0x20
        victim.write_bytes(content)
        try:
            loaded = self._load(written, store)
        except ImgError as err:
            assert "\n" not in err.message
        else:  # it was in what does not count, such as padding
            assert all(blob in whole for blob in (store.read(item.descriptor.digest) for item in loaded))

    def test_a_file_that_ends_early_is_an_error_of_one_line(self, written: Path, store: DirectoryStore) -> None:
        victim = max((path for path in [written, *written.rglob("*")] if path.is_file()), key=os.path.getsize)
        os.truncate(victim, victim.stat().st_size // 2)
        with pytest.raises(ImgError) as caught:
            self._load(written, store)
        assert "\n" not in caught.value.message

    @pytest.mark.parametrize("error", [Canceled, ImgError], ids=["cancel", "full-disk"])
    def test_what_stops_the_store_is_not_hidden(self, written: Path, tmp_path: Path, error: type[ImgError]) -> None:
        whole = _Stopping(tmp_path / "whole", -1, error)
        self._load(written, whole)
        for number in range(min(whole.count, _BLOBS)):
            with pytest.raises(error) as caught:
                self._load(written, _Stopping(tmp_path / str(number), number, error))
            assert "\n" not in caught.value.message

    def test_two_processes_at_once_load_the_same(self, written: Path, tmp_path: Path) -> None:
        def load(name: str) -> str:
            return repr(self._load(written, DirectoryStore(tmp_path / name)))

        assert set(at_once(*(partial(load, name) for name in "ab"))) == {load("after")}

    def test_a_load_that_was_killed_changes_nothing_of_what_it_reads(self, written: Path, tmp_path: Path) -> None:
        before = _files(written)
        kill_when_told(lambda reached: self._load(written, _Stopping(tmp_path / "killed", 0, Canceled, reached)))
        assert _files(written) == before
        assert self._load(written, DirectoryStore(tmp_path / "after"))

    def test_a_large_layer_takes_little_memory(self, written: Path, tmp_path: Path) -> None:
        self._load(written, DirectoryStore(tmp_path / "small"))  # imports what it needs
        (tmp_path / "large").mkdir()
        large = self.write(make_image([{"large": bytes(LARGE)}], compress=False), tmp_path / "large")
        assert memory_growth(lambda: self._load(large, DirectoryStore(tmp_path / "store-large"))) < CEILING

    def _claims(self, written: Path) -> bool:
        if written.is_dir():
            return self.importer_class.claims(b"", str(written))
        with written.open("rb") as file:
            return self.importer_class.claims(file.read(_START))

    def _blobs(self, written: Path, store: DirectoryStore) -> set[bytes]:
        """Return the blobs of a sample that nobody damaged."""
        self._load(written, store)
        return set(store.blobs().values())

    def _load(self, written: Path, store: DirectoryStore) -> list[LoadedImage]:
        made: Importer = self.made()
        if written.is_dir():
            return made.load(written, store)
        with written.open("rb") as file:
            return made.load(file, store)


class _Stopping(DirectoryStore):
    """A store that takes *number* blobs, and of the next one a piece; then *reached* is called."""

    def __init__(
        self, directory: Path, number: int, error: type[ImgError], reached: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(directory)
        self._number = number
        self._error = error
        self._reached = reached
        self.count = 0

    def ingest(
        self, chunks: Iterable[bytes], media_type: str, *, digest: Digest | None = None, size: int | None = None
    ) -> Descriptor:
        """See `DirectoryStore.ingest`."""
        if self.count == self._number:
            next(iter(chunks), b"")
            self._reached()
            raise self._error("the store was stopped")
        self.count += 1
        return super().ingest(chunks, media_type, digest=digest, size=size)


def _copied(path: Path, directory: Path) -> Path:
    """Return a copy of *path* in *directory*."""
    target = directory / path.name
    return Path(shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target))


def _files(path: Path) -> dict[str, bytes]:
    """Return the content of a file, or of all files below a directory."""
    return {str(file): file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()}
