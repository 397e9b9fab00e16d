"""What every exporter promises. Subclass `ExporterContract` and name the class and its options::

    class TestMine(ExporterContract):
        exporter = MyExporter
        options = {"level": 3}

Needs no namespaces and no build: results come from `img_core.testing.results`. Options named ``dest`` are filled in; others that the schema
requires stand in *options*. What changes the disk through `img_core.files.fs` is interrupted at each change; what a program writes that the
exporter calls is interrupted from outside: by a limit of file sizes, as on a full disk, and by SIGKILL at many moments.
"""

# ruff: noqa: D102, PT017 - a test's name is its claim
from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from img_core.files.fs import faults
from img_core.spec.errors import Canceled, ImgError, UsageError
from img_core.spec.exporter import Exporter
from img_core.spec.values import Platform
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.processes import CEILING, LARGE, fork, in_child, kill_after, little_room, memory_growth, status_of
from img_core.testing.results import ReadyResult, Recorder, host, make_result

__all__ = ["ExporterContract", "Seen", "observe"]

#: how often an export is killed, spread over the time that a whole one takes
_KILLS = 12
_PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))

#: A directory's content: path to (type and permissions, content or link target).
Seen = Mapping[str, tuple[int, bytes]]


def observe(directory: Path) -> Seen:
    """Return everything in *directory* that a user would notice; times are left out."""
    seen: dict[str, tuple[int, bytes]] = {}
    for parent, directories, files in os.walk(directory):
        for name in [*directories, *files]:
            path = os.path.join(parent, name)
            info = os.lstat(path)
            content = b""
            if stat.S_ISLNK(info.st_mode):
                content = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(info.st_mode):
                content = Path(path).read_bytes()
            seen[os.path.relpath(path, directory)] = (info.st_mode, content)
    return seen


class ExporterContract(DriverContract):
    """The promises of `img_core.spec.Exporter`, each as a test."""

    kind = "exporter"
    holder = "exporter"
    exporter: ClassVar[type[Exporter]]

    # ---- what a subclass may change

    def prepare(self, dest: Path) -> None:
        """Put something at *dest* that a finished export replaces and a failed one leaves alone."""
        dest.write_bytes(b"what was there before")

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        """Return path and content of all regular files that were exported; skips the test that needs it if not overridden."""
        pytest.skip("the suite does not know how to read this exporter's output")

    def links(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes] | None:
        """Return path and target of all symbolic links that were exported; None if the form knows none."""
        return None

    def owners(self, dest: Path, result: ReadyResult) -> Mapping[bytes, tuple[int, int]] | None:
        """Return path and owner of all that was exported, but the root; None if the form knows none."""
        return None

    def attributes(self, dest: Path, result: ReadyResult) -> Mapping[bytes, Mapping[bytes, bytes]] | None:
        """Return path and extended attributes of the files that were exported with some; None if the form knows none."""
        return None

    # ---- fixtures and helpers

    @pytest.fixture
    def result(self, tmp_path: Path) -> ReadyResult:
        """A result with one image."""
        return make_result(tmp_path / "result")

    @pytest.fixture(autouse=True)
    def no_faults_left(self) -> Iterator[None]:
        """Switch fault injection off after each test."""
        yield
        faults.uninstall()

    def given(self, dest: Path) -> dict[str, Any]:  # Any: JSON
        """Return the options of an export to *dest*."""
        properties = (self.exporter.schema or {}).get("properties", {})
        return {**self.options, **({"dest": str(dest)} if "dest" in properties else {})}

    def make(self, dest: Path, **options: Any) -> Exporter:  # Any: JSON
        """Return an exporter to *dest*; its run and state directories are private to the test."""
        return self.exporter(host(dest.parent.parent / "host"), {**self.given(dest), **options})

    def place(self, tmp_path: Path, name: str = "place") -> Path:
        """Return a destination in a directory of its own, which holds nothing else."""
        (tmp_path / name).mkdir()
        return tmp_path / name / "out"

    def state(self, dest: Path, result: ReadyResult) -> tuple[Seen, Mapping[str, str]]:
        """Return all that an export could have changed: the destination's directory and the names in the store."""
        return observe(dest.parent), result.store.tags()

    def finished(self, tmp_path: Path, result: ReadyResult) -> tuple[Seen, Mapping[str, str]]:
        """Return the state after an export that nothing disturbed."""
        dest = self.place(tmp_path, "finished")
        self.prepare(dest)
        self.make(dest).export(result, Recorder())
        seen = self.state(dest, result)
        self.forget(result)
        return seen

    def forget(self, result: ReadyResult) -> None:
        """Take the names in the store back that an export gave."""
        (result.store.directory / "tags.json").unlink(missing_ok=True)

    # ---- declaration

    def test_an_exporter_without_options_says_so(self) -> None:
        assert self.exporter.schema is not None

    def test_the_wanted_form_of_layers_can_be_packed(self, tmp_path: Path) -> None:
        from img_core.archives.codecs import compressor

        form = self.make(self.place(tmp_path)).layer_form
        assert compressor(form.compression, form.level).flush() is not None

    def test_schema_refuses_unknown_options_and_wrong_types(self) -> None:
        from jsonschema import Draft202012Validator

        validator = Draft202012Validator(dict(self.exporter.schema or {}))
        given = self.given(Path("/some/where"))
        assert validator.is_valid(given), "what is required and is not `dest` has to stand in `options`"
        assert not validator.is_valid({**given, "no-such-option": "x"})
        for name in given:
            assert not validator.is_valid({**given, name: {"of": "no type"}}), f"option {name} takes anything"

    def test_constructor_touches_nothing(self, tmp_path: Path) -> None:
        dest = self.place(tmp_path)
        self.make(dest)
        assert observe(dest.parent) == {}

    def test_check_changes_nothing(self, tmp_path: Path) -> None:
        dest = self.place(tmp_path)
        self.make(dest).check()
        assert observe(dest.parent) == {}

    # ---- what comes out

    def test_same_result_gives_same_output(self, tmp_path: Path) -> None:
        states = []
        for name in ("first", "second"):
            result = make_result(tmp_path / f"result-{name}")
            dest = self.place(tmp_path, name)
            metadata = self.make(dest).export(result, Recorder())
            states.append((self.state(dest, result), dict(metadata)))
        assert states[0] == states[1]
        assert states[0][0] != ({}, {})

    def test_all_files_arrive_whatever_their_names(self, tmp_path: Path, result: ReadyResult) -> None:
        dest = self.place(tmp_path)
        self.make(dest).export(result, Recorder())
        wanted = {
            path: Path(os.fsdecode(full)).read_bytes()
            for path, full in _entries(result)
            if stat.S_ISREG(os.lstat(full).st_mode)
        }
        assert self.files(dest, result) == wanted

    def test_links_keep_their_targets(self, tmp_path: Path, result: ReadyResult) -> None:
        dest = self.place(tmp_path)
        self.make(dest).export(result, Recorder())
        links = {path: os.readlink(full) for path, full in _entries(result) if os.path.islink(full)}
        assert self.links(dest, result) in (None, links)

    def test_owners_are_those_that_the_tree_tells(self, tmp_path: Path, result: ReadyResult) -> None:
        dest = self.place(tmp_path)
        self.make(dest).export(result, Recorder())
        image = result.images[0]
        owners = {path: image.owners.get(path, (0, 0)) for path, _ in _entries(result)}
        found = self.owners(dest, result)
        assert found is None or {path: owner for path, owner in found.items() if path in owners} == owners

    def test_extended_attributes_are_kept(self, tmp_path: Path, result: ReadyResult) -> None:
        dest = self.place(tmp_path)
        self.make(dest).export(result, Recorder())
        found = self.attributes(dest, result)
        assert found is None or {path: dict(given) for path, given in found.items()} == {
            path: attributes for path, full in _entries(result) if (attributes := _attributes(full))
        }

    def test_a_large_file_takes_little_memory(self, tmp_path: Path, result: ReadyResult) -> None:
        self.make(self.place(tmp_path, "small")).export(result, Recorder())  # imports what it needs
        large = make_result(tmp_path / "large", codec="uncompressed", large=LARGE)
        dest = self.place(tmp_path)
        assert memory_growth(lambda: self._export(dest, large)) < CEILING

    def test_an_old_output_is_replaced(self, tmp_path: Path, result: ReadyResult) -> None:
        old, new = self.place(tmp_path, "old"), self.place(tmp_path, "new")
        self.prepare(old)
        self.make(old).export(result, Recorder())
        self.make(new).export(result, Recorder())
        assert {path: content for path, (_, content) in observe(old.parent).items()} == {
            path: content for path, (_, content) in observe(new.parent).items()
        }

    def test_several_platforms_are_written_or_refused(self, tmp_path: Path) -> None:
        result = make_result(tmp_path / "result", platforms=_PLATFORMS)
        dest = self.place(tmp_path)
        self.prepare(dest)
        before = self.state(dest, result)
        try:
            self.make(dest).export(result, Recorder())
        except UsageError as error:
            assert "\n" not in error.message
            assert self.state(dest, result) == before
        else:
            assert self.state(dest, result) != before

    def test_progress_is_told(self, tmp_path: Path, result: ReadyResult) -> None:
        recorder = Recorder()
        self.make(self.place(tmp_path)).export(result, recorder)
        assert recorder.lines
        assert not any("\n" in line for line in recorder.lines)

    # ---- what is left alone

    def test_blobs_in_the_store_stay_as_they_are(self, tmp_path: Path, result: ReadyResult) -> None:
        before = result.store.blobs()
        self.make(self.place(tmp_path)).export(result, Recorder())
        after = result.store.blobs()
        assert {name: after[name] for name in before} == before

    def test_damaged_blob_is_never_passed_on(self, tmp_path: Path, result: ReadyResult) -> None:
        expected = self.finished(tmp_path, result)
        for number, layer in enumerate(result.images[0].stored):
            path = result.store.path(layer.descriptor.digest)
            content = path.read_bytes()
            path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
            dest = self.place(tmp_path, f"damaged-{number}")
            self.prepare(dest)
            before = self.state(dest, result)
            try:
                self.make(dest).export(result, Recorder())
            except ImgError as error:
                assert "\n" not in error.message
                assert self.state(dest, result) == before
            else:
                assert self.state(dest, result) == expected
            path.write_bytes(content)

    # ---- complete or nothing

    @pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
    def test_failing_disk_leaves_the_old_state(self, tmp_path: Path, result: ReadyResult, error: int) -> None:
        total = self.count_mutations(tmp_path, result)
        for number in range(1, total + 1):
            dest = self.place(tmp_path, f"fail-{number}")
            self.prepare(dest)
            before = self.state(dest, result)
            faults.install(fail_at=number, error=error)
            try:
                with pytest.raises(ImgError) as caught:
                    self.make(dest).export(result, Recorder())
            finally:
                faults.uninstall()
            assert "\n" not in caught.value.message
            assert os.strerror(error).lower() in caught.value.message.lower()
            assert self.state(dest, result) == before, f"mutation {number} of {total} left something"

    def test_kill_leaves_the_old_state_or_the_new_one(self, tmp_path: Path, result: ReadyResult) -> None:
        expected = self.finished(tmp_path, result)
        total = self.count_mutations(tmp_path, result)
        outcomes = set()
        for number in range(1, total + 1):
            dest = self.place(tmp_path, f"kill-{number}")
            self.prepare(dest)
            before = self.visible(dest, result)
            self.export_in_child(dest, result, crash_at=number)
            after = self.visible(dest, result)
            assert after in (before, expected), f"mutation {number} of {total} was seen half-done"
            outcomes.add(after == expected)
            self.forget(result)
        assert False in outcomes or total == 0

    def test_what_does_not_fit_on_the_disk_leaves_the_old_state(self, tmp_path: Path, result: ReadyResult) -> None:
        expected = self.finished(tmp_path, result)
        largest = max([len(content) for mode, content in expected[0].values() if stat.S_ISREG(mode)], default=0)
        for limit in sorted({0, 1, largest // 2, max(largest - 1, 0)}):
            dest = self.place(tmp_path, f"limit-{limit}")
            self.prepare(dest)
            before = self.state(dest, result)
            told = in_child(partial(self._with_little_room, dest, result, limit))
            if told:
                assert self.state(dest, result) == before, f"files of more than {limit} bytes could not be written"
                assert "\n" not in told
            else:
                assert self.state(dest, result) == expected, f"files of more than {limit} bytes could not be written"
                assert limit >= 1, "an export to a full disk did not fail"
            self.forget(result)

    def test_kill_at_any_time_leaves_the_old_state_or_the_new_one(self, tmp_path: Path, result: ReadyResult) -> None:
        began = time.monotonic()
        expected = self.finished(tmp_path, result)
        whole = time.monotonic() - began
        for number in range(_KILLS):
            dest = self.place(tmp_path, f"killed-{number}")
            self.prepare(dest)
            before = self.visible(dest, result)
            kill_after(number * whole / _KILLS, partial(self._export, dest, result))
            assert self.visible(dest, result) in (before, expected), f"killed after {number}/{_KILLS} of its time"
            self.forget(result)

    def test_two_processes_at_once_leave_one_whole_output(self, tmp_path: Path, result: ReadyResult) -> None:
        expected = self.finished(tmp_path, result)
        dest = self.place(tmp_path)
        self.prepare(dest)
        children = [fork(lambda: self._export(dest, result)) for _ in range(2)]
        assert 0 in [status_of(child) for child in children]
        assert self.visible(dest, result) == expected

    def test_cancel_leaves_the_old_state(self, tmp_path: Path, result: ReadyResult) -> None:
        recorder = Recorder()
        self.make(self.place(tmp_path, "complete")).export(result, recorder)
        self.forget(result)
        for number in range(1, len(recorder.lines) + 1):
            dest = self.place(tmp_path, f"cancel-{number}")
            self.prepare(dest)
            before = self.state(dest, result)
            asked = Recorder(cancel_at=number)
            try:
                self.make(dest).export(result, asked)
            except Canceled:
                assert self.state(dest, result) == before
            else:  # who waits for a program tells so as long as that takes: now and then that is fewer times
                assert len(asked.lines) < number, "it went on"
                self.forget(result)

    # ---- machinery

    def count_mutations(self, tmp_path: Path, result: ReadyResult) -> int:
        """Return how often a whole export changes the disk through `img_core.files.fs`; 0 if a program does all of it."""
        dest = self.place(tmp_path, "counted")
        self.prepare(dest)
        faults.install()
        self.make(dest).export(result, Recorder())
        faults.uninstall()
        self.forget(result)
        return faults.count()

    def visible(self, dest: Path, result: ReadyResult) -> tuple[Seen, Mapping[str, str]]:
        """Like `state`, without the hidden temporary files that a killed process cannot remove."""
        seen, tags = self.state(dest, result)
        return {path: value for path, value in seen.items() if not path.startswith(".")}, tags

    def _export(self, dest: Path, result: ReadyResult) -> None:
        self.make(dest).export(result, Recorder())

    def _with_little_room(self, dest: Path, result: ReadyResult, limit: int) -> str:
        """Export while no file, of whatever program, may be larger than *limit* bytes; return the message of the failure, if any."""
        with little_room(limit):
            try:
                self._export(dest, result)
            except ImgError as err:
                return err.message
        return ""

    def export_in_child(self, dest: Path, result: ReadyResult, *, crash_at: int) -> None:
        """Export in another process that ends, as by SIGKILL, at mutation *crash_at*."""

        def export() -> None:
            faults.install(crash_at=crash_at)
            self._export(dest, result)

        assert status_of(fork(export)) == 137


def _entries(result: ReadyResult) -> Iterator[tuple[bytes, bytes]]:
    """Give everything in the tree of the first image: its path there, and its path here."""
    root = os.fsencode(result.images[0].directory)
    for parent, directories, names in os.walk(root):
        for name in (*directories, *names):
            full = os.path.join(parent, name)
            yield os.path.relpath(full, root), full


def _attributes(path: bytes) -> dict[bytes, bytes]:
    """Return the attributes that a user may give to a file."""
    names = os.listxattr(path, follow_symlinks=False)
    return {name.encode(): os.getxattr(path, name, follow_symlinks=False) for name in names if name.startswith("user.")}
