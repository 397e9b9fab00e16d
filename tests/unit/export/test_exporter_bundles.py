"""Archives and layouts of images as outputs: what is in them, and that other programs read them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from export_lab import export

from img_core.archives.tar import TarReader
from img_core.files.fs import faults
from img_core.images import oci
from img_core.spec.errors import ImgError, UsageError
from img_core.spec.exporter import Exporter
from img_core.testing.results import ODD_NAMES, DirectoryStore, ReadyResult, host, make_result
from img_exporter_docker._docker import DockerExporter
from img_exporter_oci._oci import OciExporter
from img_lib_export.bundle import read_bundle


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


@pytest.mark.parametrize(("tar", "tags"), [(True, [None]), (False, ["latest"])])
def test_an_image_without_a_name_has_a_tag_in_a_layout_alone(tmp_path: Path, tar: bool, tags: list[str | None]) -> None:
    """As with BuildKit: who loads the archive would take it for a name."""
    export(OciExporter, make_result(tmp_path / "result", names=[]), tmp_path, dest=str(tmp_path / "out"), tar=tar)
    index = members(tmp_path / "out")[b"index.json"][3] if tar else (tmp_path / "out/index.json").read_bytes()
    entries = [entry.get("annotations", {}) for entry in json.loads(index)["manifests"]]
    assert [entry.get("org.opencontainers.image.ref.name") for entry in entries] == tags


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


def test_who_writes_a_bundle_loads_nothing_that_reads_one() -> None:
    code = "import sys, img_lib_export.bundle.exporter; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    dear = {"concurrent.futures", "logging", "img_core.archives.tar.reader", "img_core.archives.codecs"}
    assert dear & set(loaded) == set()
