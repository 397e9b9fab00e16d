"""What every source promises: of directory trees (`TreeSourceContract`) or of images (`ImageSourceContract`), by class and operations::

class TestMine(TreeSourceContract):
    source_class = MySource

    @pytest.fixture
    def op(self) -> SourceOp: …  # something that can be had

    @pytest.fixture
    def other_op(self) -> SourceOp: …  # something with other content

    @pytest.fixture
    def large_op(self) -> SourceOp: …  # with a file of `img_core.testing.processes.LARGE` bytes
"""

# ruff: noqa: D102 - a test's name is its claim
from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from img_core.archives.codecs import codec_of_media_type, open_decompressed
from img_core.images import oci
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.graph import SourceOp
from img_core.spec.host import Host
from img_core.spec.source import ImageSource, Source, SourceContext, TreeSource
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.processes import CEILING, at_once, in_child, kill_after, little_room, memory_growth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from img_core.archives.codecs import Readable
    from img_core.spec.source import PinnedTree

__all__ = ["ImageSourceContract", "TreeSourceContract"]

_AT_ONCE = 10.0  #: seconds within which what is canceled has ended, on a busy machine


class _SourceContract(DriverContract):
    """What the suites of trees and images share."""

    kind = "source"
    holder = "source_class"
    source_class: ClassVar[type[Source]]
    samples: ClassVar[Mapping[str, str]] = {
        "address": "the reference of something that can be had",
        "other": "the reference of something with other content",
        "missing": "the reference of something that does not exist",
        "large": "the reference of something with a file of 64 MiB",
    }

    #: how often work is stopped, and killed, spread over the time that a whole one takes
    moments: ClassVar[int] = 4

    @pytest.fixture
    def op(self) -> SourceOp:
        """Something that can be had."""
        return SourceOp(self.source_class.name, self.sample("address"))

    @pytest.fixture
    def other_op(self) -> SourceOp:
        """Something with other content."""
        return SourceOp(self.source_class.name, self.sample("other"))

    @pytest.fixture
    def missing_op(self) -> SourceOp:
        """Something that does not exist."""
        return SourceOp(self.source_class.name, self.sample("missing"))

    @pytest.fixture
    def large_op(self, op: SourceOp) -> SourceOp:
        """Something with a file of `LARGE` bytes; override it unless there is nothing large that can be had."""
        return op if self.given_samples is None else SourceOp(self.source_class.name, self.sample("large"))

    @pytest.fixture
    def context(self, tmp_path: Path) -> SourceContext:
        """What the source may use."""
        for name in ("state", "run"):
            (tmp_path / name).mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        host = Host("none", str(tmp_path / "state"), str(tmp_path / "run"), environment=environment)
        return SourceContext(host)

    def test_close_may_be_called_twice(self, context: SourceContext) -> None:
        made = self.made(context)
        made.close()
        made.close()

    # ---- other builds, each with a run directory of its own

    def obtain(self, source: Any, op: SourceOp, directory: Path) -> str:  # Any: a source of either kind
        """Pin and fetch all of *op*, with *directory*, which is not there yet, for files; return what tells its content from others."""
        raise NotImplementedError

    def build(self, context: SourceContext, op: SourceOp, directory: Path, state: Path, **more: Any) -> str:
        """Do what a build does in *directory*, which is not there yet, with the state of *state*; *more* are fields of the context."""
        for path in (directory / "run", state):
            path.mkdir(parents=True, exist_ok=True)
        host = replace(context.host, run_directory=str(directory / "run"), state_directory=str(state))
        with closing(self.made(replace(context, host=host, **more))) as made:
            return self.obtain(made, op, directory / "tree")

    def timed(self, context: SourceContext, op: SourceOp, tmp_path: Path) -> tuple[str, float]:
        """Return what a build gets that nothing disturbs and that knows nothing, and its seconds."""
        began = time.monotonic()
        found = self.build(context, op, tmp_path / "whole", tmp_path / "state-whole")
        return found, time.monotonic() - began

    def test_two_builds_at_once_get_the_same(self, context: SourceContext, op: SourceOp, tmp_path: Path) -> None:
        builds = (partial(self.build, context, op, tmp_path / name, tmp_path / "both") for name in "ab")
        assert set(at_once(*builds)) == {self.timed(context, op, tmp_path)[0]}

    def test_canceling_ends_with_canceled_or_with_all_of_it(
        self, context: SourceContext, op: SourceOp, tmp_path: Path
    ) -> None:
        expected, whole = self.timed(context, op, tmp_path)
        for number in range(self.moments):
            state = tmp_path / f"state-{number}"
            began = time.monotonic()
            with _readable_after(number * whole / self.moments) as asked:
                try:
                    assert self.build(context, op, tmp_path / f"stopped-{number}", state, cancel_fd=asked) == expected
                except Canceled:
                    pass
            assert time.monotonic() - began < _AT_ONCE + whole
            assert self.build(context, op, tmp_path / f"after-{number}", state) == expected

    def test_what_does_not_fit_on_the_disk_is_an_error_and_no_part_of_it_is_taken(
        self, context: SourceContext, op: SourceOp, tmp_path: Path
    ) -> None:
        expected, _ = self.timed(context, op, tmp_path)
        for limit in (0, 100):
            place, state = tmp_path / f"limit-{limit}", tmp_path / f"state-{limit}"
            told = in_child(partial(self._limited, context, op, place, state, limit))
            assert told == expected or (told.startswith("failed: ") and "\n" not in told)
            assert self.build(context, op, tmp_path / f"after-{limit}", state) == expected

    def _limited(self, context: SourceContext, op: SourceOp, place: Path, state: Path, limit: int) -> str:
        with little_room(limit):
            try:
                return self.build(context, op, place, state)
            except ImgError as err:
                return f"failed: {err.message}"

    def test_a_build_that_was_killed_leaves_nothing_that_the_next_one_takes_for_whole(
        self, context: SourceContext, op: SourceOp, tmp_path: Path
    ) -> None:
        expected, whole = self.timed(context, op, tmp_path)
        for number in range(self.moments):
            place, state = tmp_path / f"killed-{number}", tmp_path / f"state-{number}"
            kill_after(number * whole / self.moments, partial(self.build, context, op, place, state))
            assert self.build(context, op, tmp_path / f"after-{number}", state) == expected

    def test_what_is_large_takes_little_memory(
        self, context: SourceContext, op: SourceOp, large_op: SourceOp, tmp_path: Path
    ) -> None:
        state = tmp_path / "both"
        self.build(context, op, tmp_path / "small", state)  # imports what it needs
        assert memory_growth(lambda: self.build(context, large_op, tmp_path / "large", state)) < CEILING


class TreeSourceContract(_SourceContract):
    """The promises of `img_core.spec.TreeSource` for trees that are fetched, each as a test."""

    source_class: ClassVar[type[TreeSource]]

    @pytest.fixture
    def source(self, context: SourceContext) -> Iterator[TreeSource]:
        made = self.made(context)
        yield made
        made.close()

    @pytest.fixture
    def fetched(self, source: TreeSource, op: SourceOp, tmp_path: Path) -> Path:
        """Give a directory into which the tree was fetched."""
        return self._fetch(source, source.pin(op, None), tmp_path / "fetched")

    def obtain(self, source: TreeSource, op: SourceOp, directory: Path) -> str:
        """See `_SourceContract.obtain`."""
        return json.dumps(_content(self._fetch(source, source.pin(op, None), directory)))

    def _fetch(self, source: TreeSource, pinned: PinnedTree, directory: Path) -> Path:
        directory.mkdir()
        source.fetch(pinned, str(directory))
        return directory

    def test_identity_begins_with_the_scheme_and_fits_a_line(self, source: TreeSource, op: SourceOp) -> None:
        identity = source.pin(op, None).identity
        assert identity.startswith(f"{self.source_class.name}:")
        assert identity.isprintable()

    def test_the_same_content_has_the_same_identity_in_every_build(
        self, context: SourceContext, source: TreeSource, op: SourceOp
    ) -> None:
        first = source.pin(op, None).identity
        again = self.made(context)
        try:
            assert again.pin(op, None).identity == first == source.pin(op, None).identity
        finally:
            again.close()

    def test_other_content_has_another_identity(self, source: TreeSource, op: SourceOp, other_op: SourceOp) -> None:
        assert source.pin(op, None).identity != source.pin(other_op, None).identity

    def test_fetching_fills_the_directory_with_files_of_the_caller(self, fetched: Path) -> None:
        entries = list(fetched.rglob("*"))
        assert entries
        assert {path.lstat().st_uid for path in entries} == {os.getuid()}
        assert all(stat.S_ISREG(path.lstat().st_mode) or path.is_dir() or path.is_symlink() for path in entries), (
            "no devices, sockets or pipes"
        )

    def test_what_was_pinned_can_be_fetched_by_another_object_and_is_equal(
        self, context: SourceContext, source: TreeSource, op: SourceOp, fetched: Path, tmp_path: Path
    ) -> None:
        again = self.made(context)
        try:
            other = self._fetch(again, again.pin(op, None), tmp_path / "again")
        finally:
            again.close()
        assert _content(other) == _content(fetched)

    def test_pin_and_fetch_work_from_several_threads_at_once(
        self, source: TreeSource, op: SourceOp, other_op: SourceOp, tmp_path: Path
    ) -> None:
        def work(number: int) -> tuple[int, dict[str, str]]:
            pinned = source.pin(op if number % 2 else other_op, None)
            return number % 2, _content(self._fetch(source, pinned, tmp_path / f"t{number}"))

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(work, range(8)))
        assert len({(kind, str(sorted(content.items()))) for kind, content in found}) == 2

    def test_the_run_directory_holds_nothing_open_to_others(self, context: SourceContext, fetched: Path) -> None:
        for name in os.listdir(context.host.run_directory):
            mode = os.lstat(os.path.join(context.host.run_directory, name)).st_mode
            assert not mode & 0o077, name

    def test_what_does_not_exist_is_an_error_in_one_line(self, source: TreeSource, missing_op: SourceOp) -> None:
        with pytest.raises(ImgError) as caught:
            source.pin(missing_op, None)
        assert "\n" not in caught.value.message
        assert caught.value.message[0].islower() or not caught.value.message[0].isalpha()

    def test_the_time_of_a_tree_is_the_same_before_and_after_it_was_fetched(
        self, context: SourceContext, source: TreeSource, op: SourceOp, tmp_path: Path
    ) -> None:
        again = self.made(context)
        try:
            before = again.modified(again.pin(op, None))
        finally:
            again.close()
        pinned = source.pin(op, None)
        self._fetch(source, pinned, tmp_path / "dated")
        assert source.modified(pinned) == before
        assert before is None or 0 < before < 2**33

    def test_closing_after_a_fetch_may_be_done_twice(self, source: TreeSource, fetched: Path) -> None:
        source.close()
        source.close()


class ImageSourceContract(_SourceContract):
    """The promises of `img_core.spec.ImageSource`, each as a test."""

    source_class: ClassVar[type[ImageSource]]

    @pytest.fixture
    def source(self, context: SourceContext) -> Iterator[ImageSource]:
        made = self.made(context)
        yield made
        made.close()

    def obtain(self, source: ImageSource, op: SourceOp, directory: Path) -> str:
        """See `_SourceContract.obtain`."""
        pinned = source.pin(op, None)
        return json.dumps([pinned.manifest.digest, *(_digest(source.blob(pinned, layer)) for layer in pinned.layers)])

    def test_it_says_that_it_makes_images(self) -> None:
        assert self.source_class.makes_image

    def test_documents_are_complete_and_have_their_digests(self, source: ImageSource, op: SourceOp) -> None:
        pinned = source.pin(op, None)
        for descriptor in (pinned.top, pinned.manifest, pinned.config):
            data = pinned.documents[descriptor.digest]
            assert (oci.digest(data), len(data)) == (descriptor.digest, descriptor.size)
        manifest = oci.parse_manifest(pinned.documents[pinned.manifest.digest], name="the manifest")
        config = oci.parse_config(pinned.documents[pinned.config.digest], name="the config")
        assert [layer.digest for layer in manifest.layers] == [layer.digest for layer in pinned.layers]
        assert len(config.diff_ids) == len(pinned.layers)

    def test_layers_are_what_their_descriptors_say(self, source: ImageSource, op: SourceOp) -> None:
        pinned = source.pin(op, None)
        config = oci.parse_config(pinned.documents[pinned.config.digest], name="the config")
        for layer, diff_id in zip(pinned.layers, config.diff_ids, strict=True):
            data = b"".join(source.blob(pinned, layer))
            assert (oci.digest(data), len(data)) == (layer.digest, layer.size)
            unpacked = open_decompressed(io.BytesIO(data), codec_of_media_type(layer.media_type))
            assert str(oci.digest(_all(unpacked))) == str(diff_id)

    def test_a_layer_can_be_had_from_the_middle(self, source: ImageSource, op: SourceOp) -> None:
        pinned = source.pin(op, None)
        for layer in pinned.layers:
            whole = b"".join(source.blob(pinned, layer))
            for start in (0, 1, len(whole) // 2, len(whole) - 1):
                assert b"".join(source.blob_from(pinned, layer, start)) == whole[start:]

    def test_the_same_image_is_pinned_in_every_build(
        self, context: SourceContext, source: ImageSource, op: SourceOp
    ) -> None:
        first = source.pin(op, None)
        again = self.made(context)
        try:
            assert again.pin(op, None).manifest.digest == first.manifest.digest == source.pin(op, None).manifest.digest
        finally:
            again.close()

    def test_other_content_is_another_image(self, source: ImageSource, op: SourceOp, other_op: SourceOp) -> None:
        assert source.pin(op, None).manifest.digest != source.pin(other_op, None).manifest.digest

    def test_pin_and_blob_work_from_several_threads_at_once(
        self, source: ImageSource, op: SourceOp, other_op: SourceOp
    ) -> None:
        def work(number: int) -> tuple[str, tuple[str, ...]]:
            pinned = source.pin(op if number % 2 else other_op, None)
            return pinned.manifest.digest, tuple(oci.digest(b"".join(source.blob(pinned, it))) for it in pinned.layers)

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(work, range(8)))) == 2

    def test_what_does_not_exist_is_an_error_in_one_line(self, source: ImageSource, missing_op: SourceOp) -> None:
        with pytest.raises(ImgError) as caught:
            source.pin(missing_op, None)
        assert "\n" not in caught.value.message
        assert not caught.value.message[:2].istitle(), "errors begin with a small letter, or an abbreviation"

    def test_the_run_directory_holds_nothing_open_to_others(
        self, context: SourceContext, source: ImageSource, op: SourceOp
    ) -> None:
        source.pin(op, None)
        for name in os.listdir(context.host.run_directory):
            assert not os.lstat(os.path.join(context.host.run_directory, name)).st_mode & 0o077, name


@contextmanager
def _readable_after(seconds: float) -> Iterator[int]:
    """Give a descriptor that can be read after so many seconds."""
    reader, writer = os.pipe()
    timer = threading.Timer(seconds, os.write, (writer, b"!"))
    timer.start()
    if not seconds:
        timer.join()
    try:
        yield reader
    finally:
        timer.cancel()
        timer.join()
        os.close(reader)
        os.close(writer)


def _digest(chunks: Iterable[bytes]) -> str:
    hashed = hashlib.sha256()
    for chunk in chunks:
        hashed.update(chunk)
    return hashed.hexdigest()


def _all(stream: Readable) -> bytes:
    return b"".join(iter(lambda: stream.read(1 << 20), b""))


def _content(directory: Path) -> dict[str, str]:
    """Return mode and digest of every file below *directory*, the target of every link."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"link {os.readlink(path)}"
        elif path.is_file():
            with path.open("rb") as file:
                found[name] = f"{path.stat().st_mode:o} {hashlib.file_digest(file, 'sha256').hexdigest()}"
        else:
            found[name] = f"{path.stat().st_mode:o}"
    return found
