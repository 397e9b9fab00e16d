"""What a repeated build knows of an archive: enough to write it again, and nothing of what others wrote."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from img_core.api import BuildResult, Client, Output
from img_core.archives.tar.writer import TarWriter
from img_core.cli._archives import Archive, write
from img_core.cli._repeated import Overhearing, Repetition
from img_core.cli.build import _taken_apart
from img_core.cli.build._repeatable import Repeatable
from img_core.cli.build._taken_apart import taken_apart
from img_core.files.fingerprint import SETTLED_NS
from img_core.files.logs import LogFile
from img_core.files.output import open_output
from img_core.spec.errors import IntegrityError

BLOBS = (b"", b"one" * 1000, b"two" * 700_000, b"x" * 512)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for algorithm in ("sha256", "sha512"):
        directory = tmp_path / "state/blobs" / algorithm
        directory.mkdir(parents=True)
        for blob in BLOBS:
            (directory / hashlib.new(algorithm, blob).hexdigest()).write_bytes(blob)
    return tmp_path / "state"


def members(state: Path) -> dict[str, bytes]:
    """Return what an image layout has."""
    blobs = {str(path.relative_to(state)): path.read_bytes() for path in state.glob("blobs/*/*")}
    return {**blobs, "index.json": b"{}", "oci-layout": b"{}" * 400}


def pack(dest: Path, content: dict[str, bytes]) -> bytes:
    """Write the archive *dest* as exporters do; return what it holds."""
    with open_output(str(dest)) as output:
        writer = TarWriter(output.write)
        for name, data in content.items():
            writer.add(os.fsencode(name), mode=0o444, size=len(data), data=[data])
        writer.finish()
    return dest.read_bytes()


def test_an_archive_is_put_together_again_of_its_blobs(state: Path, tmp_path: Path) -> None:
    dest = tmp_path / "out"
    before = pack(dest, members(state))
    archive = taken_apart(str(dest), str(state))
    assert archive is not None
    assert set(map(os.fsdecode, archive.parts[1::2])) == {str(path.relative_to(state)) for path in state.glob("*/*/*")}
    assert sum(map(len, archive.parts)) < 20_000
    dest.unlink()
    assert write(archive, str(state))
    assert dest.read_bytes() == before


def test_a_member_that_is_no_blob_of_the_store_is_remembered_as_it_is(state: Path, tmp_path: Path) -> None:
    dest, content = tmp_path / "out", members(state)
    unknown = f"blobs/sha256/{'0' * 64}"
    other = next(iter(content))
    before = pack(dest, {**content, unknown: b"0", other: b"of another length"})
    archive = taken_apart(str(dest), str(state))
    assert archive is not None
    assert {os.fsencode(unknown), os.fsencode(other)}.isdisjoint(archive.parts[1::2])
    assert write(archive, str(state))
    assert dest.read_bytes() == before


def test_a_blob_that_changed_leaves_what_was_there(state: Path, tmp_path: Path) -> None:
    dest = tmp_path / "out"
    pack(dest, members(state))
    archive = taken_apart(str(dest), str(state))
    assert archive is not None
    blob = state / "blobs/sha256" / hashlib.sha256(BLOBS[1]).hexdigest()
    blob.write_bytes(b"One" * 1000)
    dest.write_text("old")
    with pytest.raises(IntegrityError):
        write(archive, str(state))
    blob.unlink()
    with pytest.raises(FileNotFoundError):
        write(archive, str(state))
    assert dest.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["out", "state"]


def test_what_others_wrote_there_is_not_remembered(state: Path, tmp_path: Path) -> None:
    dest, other = tmp_path / "out", tmp_path / "other"
    content = pack(dest, members(state))
    other.write_bytes(content)
    assert taken_apart(str(other), str(state)) is None
    other.rename(dest)
    assert taken_apart(str(dest), str(state)) is None
    pack(dest, members(state))
    with dest.open("ab") as file:
        file.write(b"more")
    assert taken_apart(str(dest), str(state)) is None
    dest.unlink()
    os.mkfifo(dest)
    assert taken_apart(str(dest), str(state)) is None


def test_what_is_no_archive_of_blobs_is_not_remembered(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "out"
    with open_output(str(dest)) as output:
        output.write(b"a text that is no tar archive" * 100)
    assert taken_apart(str(dest), str(state)) is None
    pack(dest, {f"blobs/sha256/{number:064}": b"of no store" for number in range(20)})
    assert taken_apart(str(dest), str(state)) is not None
    monkeypatch.setattr(_taken_apart, "_BETWEEN_LIMIT", 10_000)
    assert taken_apart(str(dest), str(state)) is None


def test_little_between_many_blobs_is_much(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dest = tmp_path / "out"
    pack(dest, members(state))
    archive = taken_apart(str(dest), str(state))
    assert archive is not None
    monkeypatch.setattr(_taken_apart, "_BETWEEN_LIMIT", sum(map(len, archive.parts)) + 1)
    assert taken_apart(str(dest), str(state)) == archive
    monkeypatch.setattr(_taken_apart, "_BETWEEN_LIMIT", sum(map(len, archive.parts)))
    assert taken_apart(str(dest), str(state)) is None


def test_a_pipe_gets_nothing_twice(state: Path, tmp_path: Path) -> None:
    dest = tmp_path / "out"
    os.mkfifo(dest)
    reader = os.open(dest, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert not write(Archive(str(dest), (b"all",)), str(state))
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


class Watch:
    """Remembers the notes that a build leaves."""

    def __init__(self) -> None:
        self.began = time.time_ns() + 2 * SETTLED_NS  # what was made just now counts as old
        self.notes: list[Repetition] = []

    def said(self) -> str:
        return ""

    def keep(self, note: Repetition) -> None:
        self.notes.append(note)


@pytest.mark.parametrize(
    ("kind", "own", "dest", "noted"),
    [("oci", True, "out", True), ("oci", False, "out", False), ("tar", True, "out", False), ("oci", True, "-", False)],
)
def test_only_files_of_own_exporters_of_images_leave_a_note(
    state: Path, tmp_path: Path, kind: str, own: bool, dest: str, noted: bool
) -> None:
    dest = dest if dest == "-" else str(tmp_path / dest)
    log = LogFile(str(state))
    log.append(b'{"cached":1,"ran":0}\n')
    log.close()
    plugins = SimpleNamespace(
        names=lambda _kind: [],
        driver=lambda _kind, name: SimpleNamespace(saves=name == "oci"),
        made={("frontend", "dockerfile"): True, ("exporter", kind): own},
    )
    client = SimpleNamespace(config=SimpleNamespace(state_directory=str(state)), plugins=plugins)
    watch = Watch()
    build = Repeatable(cast("Client", client), cast("Overhearing", watch), (), (), [Output(kind, {"dest": dest})])
    pack(tmp_path / "out", members(state))
    build.ended()
    build.keep(BuildResult("", "", (), {}, 1, 1, (), log.id))
    assert [archive.dest for note in watch.notes for archive in note.archives] == ([dest] if noted else [])
    assert len(watch.notes) == noted
