"""What every exporter promises. Subclass `ExporterContract` and name the class and its options::

    class TestMine(ExporterContract):
        exporter = MyExporter
        options = {"level": 3}

Needs no namespaces and no build: results come from `img_core.testing.results`. Options named ``dest`` are filled in.
"""

# ruff: noqa: D102, PT017 - a test's name is its claim
from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from img_core.files.fs import faults
from img_core.spec.errors import Canceled, ImgError, UsageError
from img_core.spec.exporter import Exporter
from img_core.spec.values import Platform
from img_core.testing.results import ReadyResult, Recorder, host, make_result

__all__ = ["ExporterContract", "Seen", "observe"]

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


class ExporterContract:
    """The promises of `img_core.spec.Exporter`, each as a test."""

    exporter: ClassVar[type[Exporter]]
    options: ClassVar[dict[str, Any]] = {}  #: Any: JSON

    # ---- what a subclass may change

    def prepare(self, dest: Path) -> None:
        """Put something at *dest* that a finished export replaces and a failed one leaves alone."""
        dest.write_bytes(b"what was there before")

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        """Return path and content of all regular files that were exported; skips the test that needs it if not overridden."""
        pytest.skip("the suite does not know how to read this exporter's output")

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

    def make(self, dest: Path, **options: Any) -> Exporter:  # Any: JSON
        """Return an exporter to *dest*; its run and state directories are private to the test."""
        properties = (self.exporter.schema or {}).get("properties", {})
        given = {**self.options, **({"dest": str(dest)} if "dest" in properties else {}), **options}
        return self.exporter(host(dest.parent.parent / "host"), given)

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
        (result.store.directory / "tags.json").unlink(missing_ok=True)
        return seen

    # ---- declaration

    def test_name_and_schema_are_declared(self) -> None:
        from jsonschema import Draft202012Validator

        assert self.exporter.name == self.exporter.name.lower() != ""
        assert self.exporter.schema is not None
        Draft202012Validator.check_schema(dict(self.exporter.schema))
        assert self.exporter.schema["additionalProperties"] is False
        for name, option in self.exporter.schema["properties"].items():
            assert option.get("description"), f"option {name} is not explained"

    def test_the_wanted_form_of_layers_can_be_packed(self, tmp_path: Path) -> None:
        from img_core.archives.codecs import compressor

        form = self.make(self.place(tmp_path)).layer_form
        assert compressor(form.compression, form.level).flush() is not None

    def test_schema_refuses_unknown_options_and_wrong_types(self) -> None:
        from jsonschema import Draft202012Validator

        validator = Draft202012Validator(dict(self.exporter.schema or {}))
        assert validator.is_valid({**self.options})
        assert not validator.is_valid({**self.options, "no-such-option": "x"})
        assert not validator.is_valid({**self.options, "dest": 3})

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
        root = os.fsencode(result.images[0].directory)
        wanted = {}
        for parent, _, names in os.walk(root):
            for name in names:
                path = os.path.join(parent, name)
                if stat.S_ISREG(os.lstat(path).st_mode):
                    wanted[os.path.relpath(path, root)] = Path(os.fsdecode(path)).read_bytes()
        assert self.files(dest, result) == wanted

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
            (result.store.directory / "tags.json").unlink(missing_ok=True)
        assert False in outcomes

    def test_cancel_leaves_the_old_state(self, tmp_path: Path, result: ReadyResult) -> None:
        recorder = Recorder()
        self.make(self.place(tmp_path, "complete")).export(result, recorder)
        (result.store.directory / "tags.json").unlink(missing_ok=True)
        for number in range(1, len(recorder.lines) + 1):
            dest = self.place(tmp_path, f"cancel-{number}")
            self.prepare(dest)
            before = self.state(dest, result)
            with pytest.raises(Canceled):
                self.make(dest).export(result, Recorder(cancel_at=number))
            assert self.state(dest, result) == before

    # ---- machinery

    def count_mutations(self, tmp_path: Path, result: ReadyResult) -> int:
        """Return how often a whole export changes the disk."""
        dest = self.place(tmp_path, "counted")
        self.prepare(dest)
        faults.install()
        self.make(dest).export(result, Recorder())
        faults.uninstall()
        (result.store.directory / "tags.json").unlink(missing_ok=True)
        assert faults.count() > 0
        return faults.count()

    def visible(self, dest: Path, result: ReadyResult) -> tuple[Seen, Mapping[str, str]]:
        """Like `state`, without the hidden temporary files that a killed process cannot remove."""
        seen, tags = self.state(dest, result)
        return {path: value for path, value in seen.items() if not path.startswith(".")}, tags

    def export_in_child(self, dest: Path, result: ReadyResult, *, crash_at: int) -> None:
        """Export in another process that ends, as by SIGKILL, at mutation *crash_at*."""
        pid = os.fork()
        if pid == 0:
            try:
                faults.install(crash_at=crash_at)
                self.make(dest).export(result, Recorder())
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 137
