"""What every exporter promises, and what is special here. `pip install -e '.[test]'` brings the suite."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from img_core.spec import ImgError, UsageError
from img_core.testing.contracts.driver import ModuleContract
from img_core.testing.contracts.exporter import ExporterContract
from img_core.testing.results import ReadyResult, Recorder, host, make_result

from img_exporter_initramfs._exporter import InitramfsExporter


class TestModule(ModuleContract):
    kind = "exporter"
    module = "img_exporter_initramfs.plugin"


@dataclass
class Member:
    inode: int
    mode: int
    owner: tuple[int, int]
    mtime: int
    data: bytes


def members(image: Path) -> Iterator[tuple[bytes, Member]]:
    """Read an archive as its specification says."""
    data, place = gzip.decompress(image.read_bytes()), 0
    assert len(data) % 512 == 0
    while True:
        assert data[place : place + 6] == b"070701"
        numbers = [int(data[place + 6 + 8 * n : place + 14 + 8 * n], 16) for n in range(13)]
        start = place + 110
        name = data[start : start + numbers[11] - 1]
        content = (start + numbers[11] + 3) // 4 * 4
        place = (content + numbers[6] + 3) // 4 * 4
        if name == b"TRAILER!!!":
            assert not data[place:].strip(b"\0")
            return
        yield (
            name,
            Member(numbers[0], numbers[1], (numbers[2], numbers[3]), numbers[5], data[content : content + numbers[6]]),
        )


class TestContract(ExporterContract):
    exporter = InitramfsExporter

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        found = dict(members(dest))
        contents = {member.inode: member.data for member in found.values()}  # the last of several links has it
        return {path: contents[member.inode] for path, member in found.items() if stat.S_ISREG(member.mode)}

    def links(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes] | None:
        return {path: member.data for path, member in members(dest) if stat.S_ISLNK(member.mode) and path != b"init"}

    def owners(self, dest: Path, result: ReadyResult) -> Mapping[bytes, tuple[int, int]] | None:
        return {path: member.owner for path, member in members(dest) if path != b"init"}


def test_other_programs_read_it(tmp_path: Path) -> None:
    program = shutil.which("busybox")
    assert program, "the tests need busybox"
    archive = gzip.decompress(exported(tmp_path).read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([program, "cpio", "-idm", "--quiet"], input=archive, cwd=out, check=True, capture_output=True)
    assert os.stat(out / "bin/tool").st_ino == os.stat(out / "bin/tool-again").st_ino
    assert (out / "bin/tool-again").read_bytes() == b"#!/bin/sh\n" * 1000
    assert os.readlink(out / "init") == "/sbin/init"
    assert stat.S_ISFIFO(os.lstat(out / "tmp/fifo").st_mode)


def test_init_of_the_image_stays(tmp_path: Path) -> None:
    result = make_result(tmp_path / "result")
    (result.images[0].directory / "init").write_text("#!/bin/sh\n")
    assert dict(members(exported(tmp_path, result)))[b"init"].data == b"#!/bin/sh\n"


def test_init_is_what_was_asked_for(tmp_path: Path) -> None:
    assert dict(members(exported(tmp_path, init="/bin/tool")))[b"init"].data == b"/bin/tool"


def test_all_times_are_the_epoch(tmp_path: Path) -> None:
    found = members(exported(tmp_path, source_date_epoch=1_000_000_000))
    assert {member.mtime for _, member in found} == {1_000_000_000}


def test_a_file_that_would_end_the_archive_is_named(tmp_path: Path) -> None:
    result = make_result(tmp_path / "result")
    (result.images[0].directory / "TRAILER!!!").write_text("")
    with pytest.raises(ImgError, match="cannot be called `TRAILER!!!`"):
        exported(tmp_path, result)
    assert os.listdir(tmp_path / "place") == []


def test_a_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    result = make_result(tmp_path / "result")
    os.truncate(result.images[0].directory / "etc/motd", 1 << 32)
    with pytest.raises(ImgError, match=re.escape("`etc/motd` is too large")):
        exported(tmp_path, result)
    assert os.listdir(tmp_path / "place") == []


def test_lost_attributes_are_told(tmp_path: Path) -> None:
    result = make_result(tmp_path / "result")
    try:
        os.setxattr(result.images[0].directory / "bin/tool", "user.note", b"x")
    except OSError:
        pytest.skip("the file system knows no user attributes")
    recorder = Recorder()
    exported(tmp_path, result, recorder=recorder)
    assert any(re.match(r"left out the extended attributes of \d files", line) for line in recorder.lines)


def test_a_level_that_gzip_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not between 0 and 9"):
        InitramfsExporter(host(tmp_path), {"compression-level": 12})


def exported(
    tmp_path: Path, result: ReadyResult | None = None, recorder: Recorder | None = None, **options: object
) -> Path:
    dest = tmp_path / "place/out"
    dest.parent.mkdir()
    exporter = InitramfsExporter(
        host(tmp_path / "host"),
        {"dest": str(dest), **{name.replace("_", "-"): value for name, value in options.items()}},
    )
    exporter.export(result or make_result(tmp_path / "result"), recorder or Recorder())
    return dest
