"""What our exporters write and say, beyond what every exporter promises."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from img_core.archives.tar import TarReader
from img_core.files import fs, xattrs
from img_core.files.fs import faults
from img_core.files.output import open_output, output_path
from img_core.images import oci
from img_core.spec.errors import Canceled, ImgError, UsageError
from img_core.spec.exporter import Exporter
from img_core.spec.values import Platform
from img_core.testing.results import ODD_NAMES, DirectoryStore, ReadyResult, Recorder, host, make_result
from img_exporter_docker._docker import DockerExporter
from img_exporter_image._image import ImageExporter
from img_exporter_local._local import LocalExporter
from img_exporter_oci._oci import OciExporter
from img_exporter_tar._tar import TarExporter
from img_lib_export.bundle import read_bundle

AMD64, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")
FILE_EXPORTERS = [OciExporter, DockerExporter, TarExporter]


@pytest.fixture
def result(tmp_path: Path) -> ReadyResult:
    return make_result(tmp_path / "result")


@pytest.fixture
def both(tmp_path: Path) -> ReadyResult:
    return make_result(tmp_path / "both", platforms=[AMD64, ARM])


@pytest.fixture(autouse=True)
def no_faults_left() -> Iterator[None]:
    yield
    faults.uninstall()


def export(kind: type[Exporter], result: ReadyResult, directory: Path, **options: Any) -> dict[str, Any]:
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return dict(kind(host(directory), given).export(result, Recorder()))


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


@pytest.mark.parametrize("kind", ["file", "link", "attributes"])
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


# ----------------------------------------------------------------------------------------------------------- bundles


def members(path: Path) -> dict[bytes, tuple[int, int, int, bytes]]:
    with path.open("rb") as file:
        reader = TarReader(file)
        return {m.name: (m.mode, m.mtime_ns, m.uid, b"".join(reader.chunks())) for m in reader}


def test_docker_bundle_has_the_documented_layout(tmp_path: Path, result: ReadyResult) -> None:
    export(DockerExporter, result, tmp_path, dest=str(tmp_path / "out"))
    found = members(tmp_path / "out")
    names = list(found)
    assert names[:2] == [b"blobs/", b"blobs/sha256/"]
    assert names[-3:] == [b"index.json", b"manifest.json", b"oci-layout"]
    assert all(found[name][:3] == (0o444, 0, 0) for name in names[2:])
    (entry,) = json.loads(found[b"manifest.json"][3])
    assert entry["RepoTags"] == ["sample:latest"]
    assert all(path.encode() in found for path in [entry["Config"], *entry["Layers"]])


def test_docker_refuses_several_platforms(tmp_path: Path, both: ReadyResult) -> None:
    with pytest.raises(UsageError, match=r"^docker exporter does not currently support exporting manifest lists$"):
        export(DockerExporter, both, tmp_path, dest=str(tmp_path / "out"))


def test_oci_bundle_carries_names_tags_and_time(tmp_path: Path, result: ReadyResult) -> None:
    export(OciExporter, result, tmp_path, dest=str(tmp_path / "out"), name="foo:1")
    found = members(tmp_path / "out")
    assert b"manifest.json" not in found
    entries = [entry["annotations"] for entry in json.loads(found[b"index.json"][3])["manifests"]]
    assert [entry["io.containerd.image.name"] for entry in entries] == [
        "docker.io/library/sample:latest",
        "docker.io/library/foo:1",
    ]
    assert [entry["org.opencontainers.image.ref.name"] for entry in entries] == ["latest", "1"]
    assert entries[0]["org.opencontainers.image.created"] == "2024-05-06T07:08:09Z"


def test_oci_directory_keeps_other_images(tmp_path: Path) -> None:
    dest = tmp_path / "layout"
    first = make_result(tmp_path / "first", names=["docker.io/library/a:1"])
    second = make_result(tmp_path / "second", names=["docker.io/library/b:1"], codec="zstd")
    for result in (first, second, second):
        export(OciExporter, result, tmp_path, dest=str(dest), tar=False)
    index = json.loads((dest / "index.json").read_bytes())
    assert [entry["annotations"]["io.containerd.image.name"][-3:] for entry in index["manifests"]] == ["a:1", "b:1"]
    for entry in index["manifests"]:
        assert (dest / "blobs" / "sha256" / entry["digest"][7:]).stat().st_size == entry["size"]


def test_failed_oci_directory_leaves_the_old_layout(tmp_path: Path) -> None:
    first = make_result(tmp_path / "first", names=["docker.io/library/a:1"])
    second = make_result(tmp_path / "second", names=["docker.io/library/b:1"], codec="zstd")
    export(OciExporter, first, tmp_path, dest=str(tmp_path / "counted"), tar=False)
    faults.install()
    export(OciExporter, second, tmp_path, dest=str(tmp_path / "counted"), tar=False)
    total = faults.count()
    faults.uninstall()
    for number in range(1, total + 1):
        dest = tmp_path / f"layout-{number}"
        export(OciExporter, first, tmp_path, dest=str(dest), tar=False)
        before = {path: path.read_bytes() for path in dest.rglob("*") if path.is_file()}
        faults.install(fail_at=number)
        with pytest.raises(ImgError):
            export(OciExporter, second, tmp_path, dest=str(dest), tar=False)
        faults.uninstall()
        assert {path: path.read_bytes() for path in dest.rglob("*") if path.is_file()} == before


def test_killed_oci_directory_is_the_old_layout_or_the_new_one(tmp_path: Path) -> None:
    first = make_result(tmp_path / "first", names=["docker.io/library/a:1"])
    second = make_result(tmp_path / "second", names=["docker.io/library/b:1"], codec="zstd")
    number, seen = 0, set()
    while True:
        number += 1
        dest = tmp_path / f"layout-{number}"
        export(OciExporter, first, tmp_path, dest=str(dest), tar=False)
        pid = os.fork()
        if pid == 0:
            faults.install(crash_at=number)
            export(OciExporter, second, tmp_path, dest=str(dest), tar=False)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        loaded = read_bundle(dest, DirectoryStore(tmp_path / f"store-{number}"))
        names = [name[-3:] for image in loaded for name in image.names]
        seen.add(tuple(names))
        assert names in (["a:1"], ["a:1", "b:1"])
        if status == 0:
            break
    assert len(seen) == 2


def test_directory_output_needs_a_destination(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="output directory is required for oci exporter"):
        OciExporter(host(tmp_path), {"tar": False})


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize(("kind", "scheme"), [(OciExporter, "oci-archive"), (DockerExporter, "docker-archive")])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_skopeo_reads_what_we_write(
    kind: type[Exporter], scheme: str, compression: str, tmp_path: Path, result: ReadyResult
) -> None:
    metadata = export(
        kind, result, tmp_path, dest=str(tmp_path / "out.tar"), compression=compression, force_compression=True
    )
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", f"{scheme}:{tmp_path}/out.tar"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if kind is OciExporter:
        assert oci.digest(done.stdout) == metadata["containerimage.digest"]
    copied = subprocess.run(
        ["skopeo", "copy", "--insecure-policy", f"{scheme}:{tmp_path}/out.tar", f"dir:{tmp_path}/copy"],
        capture_output=True,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")
def test_umoci_unpacks_what_we_write(tmp_path: Path, result: ReadyResult) -> None:
    export(OciExporter, result, tmp_path, dest=str(tmp_path / "layout"), tar=False)
    done = subprocess.run(
        ["umoci", "raw", "unpack", "--rootless", "--image", f"{tmp_path}/layout:latest", f"{tmp_path}/rootfs"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    unpacked = os.fsencode(tmp_path / "rootfs")
    for name in ODD_NAMES:
        assert Path(os.fsdecode(os.path.join(unpacked, b"odd", name))).read_bytes() == name


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


def test_tar_clamps_times_to_the_epoch(tmp_path: Path) -> None:
    result = make_result(tmp_path / "result", source_date_epoch=1_000_000_000)
    export(TarExporter, result, tmp_path, dest=str(tmp_path / "out"))
    with (tmp_path / "out").open("rb") as file:
        assert {member.mtime_ns for member in TarReader(file)} == {1_000_000_000 * 10**9}


@pytest.mark.parametrize("kind", [TarExporter, LocalExporter])
def test_same_path_of_two_platforms_is_refused_without_split(
    kind: type[Exporter], tmp_path: Path, both: ReadyResult
) -> None:
    with pytest.raises(UsageError, match=r"from linux/amd64 with linux/arm/v7 when split option is disabled$"):
        export(kind, both, tmp_path, dest=str(tmp_path / "out"), platform_split=False)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------- local


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
