"""What our exporters write and say, beyond what every exporter promises."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from export_lab import export

from img_core.archives.tar import TarReader
from img_core.files import xattrs
from img_core.files.output import open_output, output_path
from img_core.spec.errors import Canceled, ImgError, UsageError
from img_core.spec.exporter import Exporter
from img_core.testing.results import DirectoryStore, ReadyResult, Recorder, host, make_result
from img_exporter_docker._docker import DockerExporter
from img_exporter_image._image import ImageExporter
from img_exporter_local._local import LocalExporter
from img_exporter_oci._oci import OciExporter
from img_exporter_tar._tar import TarExporter

FILE_EXPORTERS = [OciExporter, DockerExporter, TarExporter]


# ------------------------------------------------------------------------------------------------------ destinations


@pytest.mark.parametrize("kind", FILE_EXPORTERS)
def test_dest_directory_is_refused_with_a_hint(kind: type[Exporter], tmp_path: Path, result: ReadyResult) -> None:
    exporter = kind(host(tmp_path), {"dest": str(tmp_path)})
    for attempt in (exporter.check, lambda: exporter.export(result, Recorder())):
        with pytest.raises(
            UsageError, match=r"^invalid output option: output: destination file is a directory$"
        ) as caught:
            attempt()
        assert caught.value.hint


@pytest.mark.parametrize("kind", FILE_EXPORTERS)
def test_terminal_is_refused(kind: type[Exporter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = os.openpty()
    saved = os.dup(1)
    os.dup2(terminal, 1)
    try:
        with pytest.raises(
            UsageError, match=rf"output file is required for {kind.name} exporter. refusing to write to console"
        ):
            kind(host(tmp_path), {"dest": "-"}).check()
    finally:
        os.dup2(saved, 1)
        for fd in (saved, controller, terminal):
            os.close(fd)


@pytest.mark.parametrize("kind", FILE_EXPORTERS)
@pytest.mark.parametrize("dest", [{}, {"dest": "-"}])
def test_standard_output_gets_the_same_bytes_as_a_file(
    kind: type[Exporter],
    dest: dict[str, str],
    tmp_path: Path,
    result: ReadyResult,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    export(kind, result, tmp_path, dest=str(tmp_path / "out"))
    export(kind, result, tmp_path, **dest)
    assert capfdbinary.readouterr().out == (tmp_path / "out").read_bytes()


def test_missing_parent_is_one_line(tmp_path: Path, result: ReadyResult) -> None:
    with pytest.raises(UsageError, match=r"cannot write `.*/no/out`: there is no directory `.*/no`$"):
        TarExporter(host(tmp_path), {"dest": str(tmp_path / "no" / "out")}).check()


def test_parent_that_vanishes_during_the_build_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(ImgError, match=r"cannot write `.*/no/out`: no such file or directory$"),
        open_output(str(tmp_path / "no" / "out")),
    ):
        pass


def test_reader_that_goes_away_ends_the_export_as_sigpipe_would(tmp_path: Path, result: ReadyResult) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    saved = os.dup(1)
    os.dup2(writing, 1)
    os.close(writing)
    try:
        with pytest.raises(Canceled) as caught:
            export(TarExporter, result, tmp_path, dest="-")
        assert caught.value.exit_code == 141
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def test_symlink_to_a_file_keeps_its_place(tmp_path: Path, result: ReadyResult) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    export(TarExporter, result, tmp_path, dest=str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_size > 10_000


def test_device_is_written_into_and_not_replaced(tmp_path: Path, result: ReadyResult) -> None:
    export(TarExporter, result, tmp_path, dest="/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("size", [0, 5_000_000], ids=["at the end", "in the middle"])
def test_full_device_is_named(size: int, tmp_path: Path, result: ReadyResult) -> None:
    (result.images[0].directory / "large").write_bytes(bytes(size))
    with pytest.raises(ImgError, match=r"^no space left on device: `/dev/full`$"):
        export(TarExporter, result, tmp_path, dest="/dev/full")


@pytest.mark.parametrize("opening", [open_output, output_path])
@pytest.mark.parametrize("there", [False, True])
def test_what_goes_wrong_elsewhere_is_no_error_of_the_output(tmp_path: Path, opening: Any, there: bool) -> None:
    dest = tmp_path / "out"
    if there:
        dest.write_text("old")
    with pytest.raises(OSError, match="bad descriptor") as caught, opening(str(dest)):
        raise OSError(errno.EBADF, "bad descriptor")
    assert caught.value.errno == errno.EBADF
    assert os.listdir(tmp_path) == ["out"] * there


@pytest.mark.parametrize("kind", ["file", "content", "link", "attributes"])
@pytest.mark.parametrize("there", [False, True])
def test_what_cannot_be_read_is_no_error_of_a_directory_that_is_written(
    tmp_path: Path, result: ReadyResult, monkeypatch: pytest.MonkeyPatch, kind: str, there: bool
) -> None:
    real_open, dest = os.open, tmp_path / "out"

    def fails(*_arguments: object, **_more: object) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    def opens(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        reads = path == b"motd" and not flags & os.O_CREAT
        return fails() if reads else real_open(path, flags, *rest, **more)

    if there:
        dest.mkdir()
    places: dict[str, tuple[object, str, Any]] = {
        "file": (os, "open", opens),
        "content": (os, "read", fails),
        "link": (os, "readlink", fails),
        "attributes": (xattrs, "read_all", fails),
    }
    monkeypatch.setattr(*places[kind])
    with pytest.raises(ImgError, match=r"^cannot read `.*` of the image: input/output error$"):
        export(LocalExporter, result, tmp_path, dest=str(dest))
    monkeypatch.undo()
    assert os.listdir(dest) == [] if there else not dest.exists()


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.EBADF])
@pytest.mark.parametrize("kind", [OciExporter, DockerExporter])
def test_what_cannot_be_read_is_no_error_of_a_layout_that_is_written(
    kind: type[Exporter], tmp_path: Path, result: ReadyResult, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fails(*_arguments: object) -> Iterator[bytes]:
        yield b"{"
        raise OSError(error, "of the store")

    monkeypatch.setattr(DirectoryStore, "chunks", fails)
    with pytest.raises(OSError, match="of the store"):
        export(kind, result, tmp_path, dest=str(tmp_path / "out"), tar=False)
    assert not (tmp_path / "out").exists()


def test_output_respects_the_umask_and_keeps_an_old_mode(tmp_path: Path, result: ReadyResult) -> None:
    old = os.umask(0o027)
    try:
        export(TarExporter, result, tmp_path, dest=str(tmp_path / "new"))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    export(TarExporter, result, tmp_path, dest=str(tmp_path / "new"))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


# ------------------------------------------------------------------------------------------------------------- image


def test_image_sets_all_names(tmp_path: Path, result: ReadyResult) -> None:
    metadata = export(ImageExporter, result, tmp_path, name="foo,localhost:5000/bar:1")
    names = ["docker.io/library/sample:latest", "docker.io/library/foo:latest", "localhost:5000/bar:1"]
    assert sorted(result.store.tags()) == sorted(names)
    assert set(result.store.tags().values()) == {metadata["containerimage.digest"]}
    assert metadata["image.name"] == ",".join(names)


def test_image_adds_canonical_and_dangling_names(tmp_path: Path) -> None:
    named = make_result(tmp_path / "named")
    digest = export(ImageExporter, named, tmp_path, name_canonical=True)["containerimage.digest"]
    assert f"docker.io/library/sample@{digest}" in named.store.tags()
    nameless = make_result(tmp_path / "nameless", names=())
    export(ImageExporter, nameless, tmp_path, dangling_name_prefix="none")
    assert list(nameless.store.tags()) == [f"none@{digest}"]


def test_image_refuses_a_push_to_nowhere_and_bad_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a push needs to know where to"):
        export(ImageExporter, make_result(tmp_path / "nameless", names=()), tmp_path, push=True)
    with pytest.raises(UsageError, match="invalid reference format"):
        ImageExporter(host(tmp_path), {"name": "UPPER"})


def test_image_without_store_sets_no_name(tmp_path: Path, result: ReadyResult) -> None:
    export(ImageExporter, result, tmp_path, store=False)
    assert result.store.tags() == {}


# --------------------------------------------------------------------------------------------------------------- tar


def test_tar_keeps_owners_modes_links_and_attributes(tmp_path: Path, result: ReadyResult) -> None:
    export(TarExporter, result, tmp_path, dest=str(tmp_path / "out"))
    with (tmp_path / "out").open("rb") as file:
        found = {member.name: member for member in TarReader(file)}
    assert (found[b"home/user/file"].uid, found[b"home/user/file"].gid) == (1000, 50)
    assert (found[b"tmp/fifo"].uid, found[b"tmp/fifo"].gid) == (3_000_000, 3_000_001)
    assert (found[b"etc/dangling"].uid, found[b"etc/dangling"].linkname) == (12, b"no/such/\xff")
    assert found[b"bin/su"].mode == 0o4755
    assert found[b"tmp/"].mode == 0o1777
    assert found[b"bin/tool-again"].linkname == b"bin/tool"
    if b"user.note" in {os.fsencode(name) for name in os.listxattr(result.images[0].directory / "etc" / "motd")}:
        assert found[b"etc/motd"].xattrs == {b"user.note": b"a\0b"}


def test_tar_names_are_sorted_and_stay_inside(tmp_path: Path, both: ReadyResult) -> None:
    export(TarExporter, both, tmp_path, dest=str(tmp_path / "out"))
    with (tmp_path / "out").open("rb") as file:
        names = [member.name for member in TarReader(file)]
    assert not any(name.startswith(b"/") or b".." in name.split(b"/") for name in names)
    tops = [b"linux_amd64/", b"linux_arm_v7/"]
    assert {name.partition(b"/")[0] + b"/" for name in names} == set(tops)
    assert [name for name in names if name in tops] == tops


def test_gnu_tar_agrees_with_us(tmp_path: Path, result: ReadyResult) -> None:
    export(TarExporter, result, tmp_path, dest=str(tmp_path / "out"))
    listed = subprocess.run(["tar", "-tf", str(tmp_path / "out")], capture_output=True, check=True)
    assert listed.stderr == b""
    with (tmp_path / "out").open("rb") as file:
        assert len(listed.stdout.splitlines()) == len(list(TarReader(file)))


@pytest.mark.parametrize("options", [{}, {"source_date_epoch": 1_000_000_000}], ids=["of the build", "an option"])
@pytest.mark.parametrize("kind", [TarExporter, LocalExporter])
def test_all_files_have_the_time_of_the_epoch(kind: type[Exporter], tmp_path: Path, options: dict[str, int]) -> None:
    """The older ones, too, as with BuildKit."""
    epoch = 1_000_000_000
    result = make_result(tmp_path / "result", source_date_epoch=epoch if not options else 5)
    os.utime(result.images[0].directory / "etc/motd", (epoch - 7, epoch - 7))
    out = tmp_path / "out"
    export(kind, result, tmp_path, dest=str(out), **options)
    if kind is LocalExporter:
        found = {int(path.lstat().st_mtime) for path in out.rglob("*")}
    else:
        with out.open("rb") as file:
            found = {member.mtime_ns // 10**9 for member in TarReader(file)}
    assert found == {epoch}


@pytest.mark.parametrize("kind", [TarExporter, LocalExporter])
def test_same_path_of_two_platforms_is_refused_without_split(
    kind: type[Exporter], tmp_path: Path, both: ReadyResult
) -> None:
    with pytest.raises(UsageError, match=r"from linux/amd64 with linux/arm/v7 when split option is disabled$"):
        export(kind, both, tmp_path, dest=str(tmp_path / "out"), platform_split=False)
    assert not (tmp_path / "out").exists()
