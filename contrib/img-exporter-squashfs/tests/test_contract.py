"""What every exporter promises, and what is special here. `pip install -e '.[test]'` brings the suite; needs squashfs-tools."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from img_core.spec import ImgError, UsageError
from img_core.testing.contracts.driver import ModuleContract
from img_core.testing.contracts.exporter import ExporterContract
from img_core.testing.results import ReadyResult, Recorder, host, make_result

from img_exporter_squashfs._exporter import SquashfsExporter


class TestModule(ModuleContract):
    kind = "exporter"
    module = "img_exporter_squashfs.plugin"


def unpack(image: Path) -> Path:
    directory = image.parent.parent / f"unpacked-{image.parent.name}"
    if not directory.exists():
        words = ["unsquashfs", "-quiet", "-no-progress", "-no-exit-code", "-d", str(directory), str(image)]
        subprocess.run(words, check=True, capture_output=True)
    return directory


#: an entry of a listing: names may hold line feeds, so it ends before the next one
_ENTRY = re.compile(
    rb"^([-a-zA-Z]{10}) (\d+)/(\d+) .*? (\d{4}-\d\d-\d\d) \d\d:\d\d squashfs-root/?(.*?)\n(?=[-a-z][-a-zA-Z]{9} |\Z)",
    re.MULTILINE | re.DOTALL,
)


def listed(image: Path) -> list[tuple[bytes, str, int, int]]:
    """Return path, type and permissions, and owner of all entries, the root among them."""
    words = ["unsquashfs", "-lln", str(image)]
    text = subprocess.run(words, check=True, capture_output=True, env={**os.environ, "TZ": "UTC"}).stdout
    found = [
        (match[5].partition(b" -> ")[0], match[1].decode(), int(match[2]), int(match[3]))
        for match in _ENTRY.finditer(text)
    ]
    assert found
    return found


def entries(root: Path) -> list[tuple[bytes, str]]:
    top = os.fsencode(root)
    return [
        (os.path.relpath(full, top), os.fsdecode(full))
        for parent, directories, names in os.walk(top)
        for full in (os.path.join(parent, name) for name in (*directories, *names))
    ]


class TestContract(ExporterContract):
    exporter = SquashfsExporter

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        found = entries(unpack(dest))
        return {path: Path(full).read_bytes() for path, full in found if stat.S_ISREG(os.lstat(full).st_mode)}

    def links(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes] | None:
        return {path: os.fsencode(os.readlink(full)) for path, full in entries(unpack(dest)) if os.path.islink(full)}

    def owners(self, dest: Path, result: ReadyResult) -> Mapping[bytes, tuple[int, int]] | None:
        return {path: (uid, gid) for path, _, uid, gid in listed(dest)}


def test_owners_of_a_host_with_one_id_are_in_the_image(tmp_path: Path) -> None:
    found = {path: (mode, uid, gid) for path, mode, uid, gid in listed(_exported(tmp_path, "a"))}
    assert found[b"home/user/file"] == ("-rw-r-----", 1000, 50)
    assert found[b"tmp/fifo"][0][0] == "p"
    assert found[b"tmp/fifo"][1:] == (3_000_000, 3_000_001)
    assert found[b"bin/su"] == ("-rwsr-xr-x", 0, 0)


def test_hard_links_and_attributes_stay(tmp_path: Path) -> None:
    root = unpack(_exported(tmp_path, "a"))
    assert os.stat(root / "bin/tool").st_ino == os.stat(root / "bin/tool-again").st_ino
    try:
        there = os.getxattr(tmp_path / "result-a/tree-amd64/etc/motd", "user.note")
    except OSError:
        pytest.skip("the file system knows no user attributes")
    assert os.getxattr(root / "etc/motd", "user.note") == there == b"a\0b"


def test_all_times_are_the_epoch(tmp_path: Path) -> None:
    dest = _exported(tmp_path, "a", **{"source-date-epoch": 1_000_000_000})
    told = subprocess.run(["unsquashfs", "-UTC", "-s", str(dest)], check=True, capture_output=True, text=True).stdout
    assert "Sun Sep  9 01:46:40 2001" in told
    assert {int(os.lstat(full).st_mtime) for _, full in entries(unpack(dest))} == {1_000_000_000}


@pytest.mark.parametrize("compression", ["gzip", "lz4", "lzo", "xz", "zstd"])
def test_the_compression_is_that_which_was_asked_for(tmp_path: Path, compression: str) -> None:
    dest = _exported(tmp_path, "a", compression=compression, **{"block-size": 65536})
    told = subprocess.run(["unsquashfs", "-s", str(dest)], check=True, capture_output=True, text=True).stdout
    assert f"Compression {compression}" in told
    assert "Block size 65536" in told


@pytest.mark.parametrize("dest", ["", "-"])
def test_standard_output_is_refused_before_the_build(tmp_path: Path, dest: str) -> None:
    with pytest.raises(UsageError, match="needs a file"):
        SquashfsExporter(host(tmp_path), {"dest": dest}).check()


def test_what_the_program_complains_about_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/mksquashfs"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho words >&2\necho 'FATAL ERROR: no such luck' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("os.defpath", f"{program.parent}:{os.defpath}")
    with pytest.raises(ImgError, match=r"^`mksquashfs` failed: FATAL ERROR: no such luck$"):
        _exported(tmp_path, "a")
    assert os.listdir(tmp_path / "place-a") == []


def test_without_the_program_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.defpath", str(tmp_path))
    with pytest.raises(ImgError, match="there is no program `mksquashfs`"):
        _exported(tmp_path, "a")


def _exported(tmp_path: Path, name: str, **options: object) -> Path:
    dest = tmp_path / f"place-{name}/out"
    dest.parent.mkdir()
    exporter = SquashfsExporter(host(tmp_path / "host"), {"dest": str(dest), **options})
    exporter.export(make_result(tmp_path / f"result-{name}"), Recorder())
    return dest
