"""A directory as output: what it becomes, what stays, and where it can be no other than it was (docs/reference/options.md)."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from export_lab import export

from img_core.archives.tar import TarReader
from img_core.files import fs
from img_core.files.fs import faults
from img_core.spec.errors import ImgError, UsageError
from img_core.testing.results import ReadyResult, Recorder, host, make_result
from img_exporter_local._local import LocalExporter
from img_exporter_tar._tar import TarExporter


def test_local_needs_a_destination(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^invalid output option: output: output directory is required for local exporter$"
    ):
        LocalExporter(host(tmp_path), {})


def test_local_refuses_a_file(tmp_path: Path, result: ReadyResult) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a directory"):
        export(LocalExporter, result, tmp_path, dest=str(tmp_path / "file"))


def test_local_gives_everything_to_the_caller(tmp_path: Path, result: ReadyResult) -> None:
    dest = tmp_path / "deep" / "out"
    export(LocalExporter, result, tmp_path, dest=str(dest))
    assert stat.S_IMODE(dest.stat().st_mode) == 0o700
    for path in dest.rglob("*"):
        assert path.lstat().st_uid == os.geteuid()
        if not path.is_symlink():
            assert not path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    assert (dest / "bin" / "tool").stat().st_ino == (dest / "bin" / "tool-again").stat().st_ino
    source = result.images[0].directory
    assert (dest / "etc" / "motd").stat().st_mtime_ns == (source / "etc" / "motd").stat().st_mtime_ns
    assert (dest / "etc").stat().st_mtime_ns == (source / "etc").stat().st_mtime_ns


def test_local_merges_into_what_is_there(tmp_path: Path, result: ReadyResult) -> None:
    dest = tmp_path / "out"
    (dest / "etc").mkdir(parents=True)
    (dest / "etc" / "mine").write_text("mine")
    (dest / "etc" / "motd").write_text("old")
    (dest / "bin").write_text("a file where a directory comes")
    export(LocalExporter, result, tmp_path, dest=str(dest))
    assert (dest / "etc" / "mine").read_text() == "mine"
    assert (dest / "etc" / "motd").read_text() == "hello\n"
    assert (dest / "bin" / "tool").is_file()
    assert not [name for name in os.listdir(dest) if name.startswith(".img-")]
    source = result.images[0].directory
    assert (dest / "etc").stat().st_mtime_ns == (source / "etc").stat().st_mtime_ns


def test_local_never_follows_links_in_the_destination(tmp_path: Path, result: ReadyResult) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    dest = tmp_path / "out"
    dest.mkdir()
    (dest / "etc").symlink_to(outside)
    (dest / "bin").mkdir()
    (dest / "bin" / "tool").symlink_to(outside / "precious")
    export(LocalExporter, result, tmp_path, dest=str(dest))
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"precious": "precious"}
    assert not (dest / "etc").is_symlink()
    assert not (dest / "bin" / "tool").is_symlink()


def test_local_refuses_to_replace_a_full_directory_by_a_file(tmp_path: Path, result: ReadyResult) -> None:
    dest = tmp_path / "out"
    (dest / "etc" / "motd").mkdir(parents=True)
    (dest / "etc" / "motd" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="the directory `etc/motd` in the destination would be replaced by a file"):
        export(LocalExporter, result, tmp_path, dest=str(dest))
    assert sorted(path.name for path in dest.rglob("*")) == ["etc", "mine", "motd"]


def test_local_delete_mode_removes_the_rest(tmp_path: Path, result: ReadyResult) -> None:
    dest = tmp_path / "out"
    (dest / "etc" / "old").mkdir(parents=True)
    (dest / "stale").write_text("x")
    export(LocalExporter, result, tmp_path, dest=str(dest), mode="delete")
    assert sorted(os.listdir(dest)) == sorted(os.listdir(result.images[0].directory))
    assert not (dest / "etc" / "old").exists()


def test_local_merge_has_each_entry_old_or_new_wherever_it_fails(tmp_path: Path, result: ReadyResult) -> None:
    def prepare(dest: Path) -> None:
        (dest / "etc").mkdir(parents=True)
        (dest / "etc" / "motd").write_text("old")
        (dest / "etc" / "mine").write_text("mine")

    prepare(tmp_path / "counted")
    kinds: list[str] = []
    faults.install(log=lambda _number, kind, _path: kinds.append(kind))
    export(LocalExporter, result, tmp_path, dest=str(tmp_path / "counted"))
    faults.uninstall()
    last = len(kinds) - kinds[::-1].index("metadata")  # what follows only removes the empty staging directory
    for number in range(1, last + 1):
        dest = tmp_path / f"out-{number}"
        prepare(dest)
        faults.install(fail_at=number, error=errno.ENOSPC)
        with pytest.raises(ImgError, match="no space left on device"):
            export(LocalExporter, result, tmp_path, dest=str(dest))
        faults.uninstall()
        assert (dest / "etc" / "mine").read_text() == "mine"
        assert (dest / "etc" / "motd").read_text() in ("old", "hello\n")
        assert not [name for name in os.listdir(dest) if name.startswith(".img-")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_local_moves_read_only_directories_and_names_what_it_cannot_write(tmp_path: Path, result: ReadyResult) -> None:
    (result.images[0].directory / "empty").chmod(0o555)
    dest = tmp_path / "out"
    (dest / "etc").mkdir(parents=True)
    export(LocalExporter, result, tmp_path, dest=str(dest))
    assert stat.S_IMODE((dest / "empty").stat().st_mode) == 0o555
    closed = tmp_path / "closed"
    (closed / "etc").mkdir(parents=True)
    (closed / "etc").chmod(0o555)
    with pytest.raises(ImgError, match=r"^cannot write `.*/closed`: permission denied$"):
        export(LocalExporter, result, tmp_path, dest=str(closed))
    assert [path.name for path in closed.rglob("*")] == ["etc"]


def test_local_splits_platforms(tmp_path: Path, both: ReadyResult) -> None:
    export(LocalExporter, both, tmp_path, dest=str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["linux_amd64", "linux_arm_v7"]
    assert (tmp_path / "out" / "linux_arm_v7" / "etc" / "built-for").read_text() == "linux/arm/v7"


def test_local_leaves_sockets_out_with_a_warning(tmp_path: Path, result: ReadyResult) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as endpoint:
        here = os.open(result.images[0].directory, os.O_RDONLY)
        endpoint.bind(f"/proc/self/fd/{here}/a-socket")
        os.close(here)
        recorder = Recorder()
        LocalExporter(host(tmp_path), {"dest": str(tmp_path / "out")}).export(result, recorder)
    assert "warning: left out devices and sockets: `a-socket`" in recorder.lines
    assert not (tmp_path / "out" / "a-socket").exists()


def test_deep_trees_need_few_descriptors(tmp_path: Path) -> None:
    result = make_result(tmp_path / "result")
    tree = result.images[0].directory
    here = os.open(tree, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir(b"d", dir_fd=here)
        below = os.open(b"d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        export(LocalExporter, result, tmp_path, dest=str(tmp_path / "out"))
        export(TarExporter, result, tmp_path, dest=str(tmp_path / "out.tar"))
        assert os.path.isdir(tmp_path / "out" / ("d/" * 1200))
        with (tmp_path / "out.tar").open("rb") as file:
            assert max(member.name.count(b"/") for member in TarReader(file)) == 1200
    finally:  # pytest's own clean-up cannot remove this
        fs.remove_tree(str(tree / "d"))
        fs.remove_tree(str(tmp_path / "out"))
