"""Images of other tools come in, go out and are unpacked with equal trees; what img pushes is read by the others."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.containers import Containers
from harness.host import need
from harness.img import Img, write_context
from img_core.images import oci
from img_core.store import Store
from img_core.testing.registry import DockerRegistry
from img_core.testing.trees import fingerprint

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = [pytest.mark.registry, pytest.mark.rootless]

#: Two layers with all that a layer can hold and an ordinary user can make; the second one takes away and replaces.
FIRST = """
mkdir -p etc usr/bin var/old/deep empty tmp
echo content > etc/file; ln -s ../etc/file usr/link; ln etc/file usr/hard; ln -s /nowhere dangling
printf '#!/bin/sh\\n' > usr/bin/program; chmod 755 usr/bin/program; cp usr/bin/program usr/bin/suid; chmod 4755 usr/bin/suid
echo gone > var/old/deep/gone; echo hidden > var/hidden; chmod 1777 tmp; chmod 700 empty
head -c 300000 /dev/zero > usr/zeros; touch -d @1000000000 etc/file usr/zeros; mkfifo pipe
chown 1:2 usr/bin/program; setfattr -n user.note -v kept etc/file; echo x > 'name with  blanks and ü'
"""
SECOND = """
rm -r var/old; rm var/hidden usr/hard; mkdir var/old; echo new > var/old/new
rm usr/link; mkdir usr/link; echo replaced > usr/link/file; rm -r empty; ln -s usr empty
"""


@pytest.fixture
def empty(tmp_path: Path) -> Img:
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home")


def make_with_buildah(containers: Containers, target: str, form: str) -> None:
    """Push a two-layer image in the *form* ``oci`` or ``docker``."""
    script = f"""
set -e
first=$(buildah from scratch); cd "$(buildah mount "$first")"; {FIRST} cd /
buildah config --cmd /bin/program --label who=buildah "$first"; buildah commit -q --format {form} "$first" layered:1
second=$(buildah from layered:1); cd "$(buildah mount "$second")"; {SECOND} cd /
buildah commit -q --format {form} "$second" layered:2
buildah push -q --tls-verify=false layered:2 docker://{target}
"""
    containers.run("buildah", "unshare", "bash", "-c", script)


def make_with_umoci(containers: Containers, target: str, directory: Path) -> None:
    layout, bundle = directory / "layout", directory / "bundle"
    containers.run("umoci", "init", "--layout", layout)
    containers.run("umoci", "new", "--image", f"{layout}:1")
    containers.run("umoci", "unpack", "--rootless", "--image", f"{layout}:1", bundle)
    for script in (FIRST.replace("chown 1:2 usr/bin/program; ", ""), SECOND):
        subprocess.run(["bash", "-ec", script], cwd=bundle / "rootfs", check=True)
        containers.run("umoci", "repack", "--refresh-bundle", "--image", f"{layout}:1", bundle)
    containers.run("umoci", "config", "--image", f"{layout}:1", "--config.label", "who=umoci")
    containers.run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{target}")


def make_with_skopeo(containers: Containers, target: str) -> None:
    """Let skopeo pack the layers again, with zstd."""
    make_with_buildah(containers, f"{target}-source", "oci")
    source, form = f"docker://{target}-source", ["--format", "oci", "--dest-compress-format", "zstd"]
    between = ["--src-tls-verify=false", "--dest-tls-verify=false", "--dest-compress"]
    containers.run("skopeo", "copy", "-q", *between, *form, source, f"docker://{target}")


#: What umoci writes about owners, and what overlayfs leaves in buildah's layers.
NOTES = ("user.rootlesscontainers", "user.overlay.", "security.")

Tree = dict[bytes, tuple[Any, ...]]


def comparable(tree: Tree, *, times: bool = True) -> Tree:
    """Leave out what an ordinary user cannot have, owners and set-id bits, and notes of the tools; times in whole seconds."""

    def simple(path: bytes, entry: tuple[Any, ...]) -> tuple[Any, ...]:
        mode, _uid, _gid, size, content, first, attributes, modified, _changed = entry
        kind = stat.S_IFMT(int(mode, 8))
        kept = tuple(pair for pair in attributes if not pair[0].startswith(NOTES))
        moment = modified // 10**9 if times and kind == stat.S_IFREG else 0
        return oct(int(mode, 8) & ~0o6000), size, content, first, kept, moment

    return {path: simple(path, entry) for path, entry in tree.items()}


def umoci_tree(containers: Containers, name: str, directory: Path) -> Tree:
    layout, bundle = directory / "theirs", directory / "theirs-bundle"
    containers.run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{layout}:1")
    containers.run("umoci", "unpack", "--rootless", "--image", f"{layout}:1", bundle)
    return fingerprint(str(bundle / "rootfs"))


def podman_tree(containers: Containers, name: str) -> Tree:
    """Return the tree as podman mounts it, read inside of its namespace."""
    code = "import sys; from img_core.testing.trees import fingerprint; print(fingerprint(sys.argv[1]))"
    script = (
        f'm=$(podman image mount {name}) && {sys.executable} -c "{code}" "$m" && podman image unmount -a > /dev/null'
    )
    containers.run("podman", "pull", "-q", "--tls-verify=false", name)
    tree: Tree = ast.literal_eval(containers.run("podman", "unshare", "sh", "-c", script))
    return tree


def raw(containers: Containers, name: str) -> bytes:
    return containers.run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}").encode()


MAKERS: dict[str, Callable[[Containers, str, Path], None]] = {
    "buildah-oci": lambda containers, target, _directory: make_with_buildah(containers, target, "oci"),
    "buildah-docker": lambda containers, target, _directory: make_with_buildah(containers, target, "docker"),
    "skopeo-zstd": lambda containers, target, _directory: make_with_skopeo(containers, target),
    "umoci": make_with_umoci,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_an_image_of_another_tool_is_pulled_listed_saved_unpacked_and_pushed(
    maker: str, empty: Img, registry: DockerRegistry, containers: Containers, tmp_path: Path
) -> None:
    need("buildah", "podman", "skopeo", "umoci", "setfattr")
    name, copy = f"{registry.address}/theirs/{maker}:1", f"{registry.address}/ours/{maker}:1"
    MAKERS[maker](containers, name, tmp_path)
    document = raw(containers, name)
    # Pulled and listed with the bytes of the registry.
    empty.run("pull", name).ok()
    assert empty.digest(name) == oci.digest(document)
    if maker != "skopeo-zstd":
        label = json.loads(empty.run("inspect", name).ok().text)["config"]["Labels"]["who"]
        assert label == maker.partition("-")[0]
    # Unpacked as umoci does it (which knows no zstd: there the tree of the source must come out).
    theirs = umoci_tree(containers, f"{name}-source" if maker == "skopeo-zstd" else name, tmp_path)
    empty.run("unpack", "-o", tmp_path / "rootfs", name).ok()
    ours = fingerprint(str(tmp_path / "rootfs"))
    assert comparable(ours) == comparable(theirs)
    assert ours[b"usr/bin/suid"][0] == oct(stat.S_IFREG | 0o755), "set-id bits would mean the caller"
    # Saved, loaded elsewhere, and unpacked to the same.
    other = Img(tmp_path / "other", empty.home)
    empty.run("save", "--format", "oci", "-o", tmp_path / "saved.tar", name).ok()
    other.run("load", "-i", tmp_path / "saved.tar").ok()
    assert other.digest(name) == oci.digest(document)
    other.run("unpack", "-o", tmp_path / "again", name).ok()
    assert fingerprint(str(tmp_path / "again")) == ours
    # Pushed byte for byte, and read by podman with all that it knows: owners and set-id bits, too.
    other.run("push", name, copy).ok()
    assert raw(containers, copy) == document
    mounted = podman_tree(containers, copy)
    assert comparable(mounted) == comparable(ours)
    assert mounted[b"usr/bin/suid"][0] == oct(stat.S_IFREG | 0o4755)
    if maker != "umoci":
        assert mounted[b"usr/bin/program"][1:3] == (1, 2)


# --- unpack -----------------------------------------------------------------------------------------------------------------


def layer(*members: tuple[str, dict[str, Any]]) -> bytes:
    """Return a layer of members by name, with attributes of `tarfile.TarInfo`, ``content`` and ``attributes``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            content = fields.pop("content", b"")
            member.size = len(content)
            member.pax_headers = {f"SCHILY.xattr.{key}": text for key, text in fields.pop("attributes", {}).items()}
            for key, value in {"mode": 0o644, "mtime": 1_000_000_000, **fields}.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


DIRECTORY = {"type": tarfile.DIRTYPE, "mode": 0o555}
LAYERS = [
    layer(
        ("d", dict(DIRECTORY)),
        ("d/kept", {"content": b"1", "uid": 5, "mode": 0o6755, "attributes": {"user.a": "b", "security.x": "y"}}),
        ("d/gone", {"content": b"1"}),
        ("opaque", dict(DIRECTORY)),
        ("opaque/gone", {"content": b"1"}),
        ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ("pipe", {"type": tarfile.FIFOTYPE, "mode": 0o640}),
        ("replaced", dict(DIRECTORY)),
        ("replaced/deep", {"content": b"1"}),
    ),
    layer(
        ("d/.wh.gone", {}),
        ("d/new", {"content": b"2"}),
        ("opaque/.wh..wh..opq", {}),
        ("opaque/new", {"content": b"2"}),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "d/new"}),
        ("replaced", {"type": tarfile.SYMTYPE, "linkname": "d"}),
        ("other-device", {"type": tarfile.BLKTYPE, "devmajor": 7, "devminor": 0}),
    ),
]


def keep_layers(img: Img, name: str) -> None:
    with Store(str(img.state)) as store:
        layers = [store.put(content, oci.OCI_LAYER) for content in LAYERS]
        rootfs = {"type": "layers", "diff_ids": [item.digest for item in layers]}
        config = store.put(
            oci.canonical_json({"os": "linux", "architecture": "amd64", "rootfs": rootfs}), oci.OCI_CONFIG
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": oci.descriptor_document(config),
            "layers": [oci.descriptor_document(item) for item in layers],
        }
        kept = [config.digest, *(item.digest for item in layers)]
        store.tag(name, store.put(oci.canonical_json(manifest), oci.OCI_MANIFEST, references=kept))


@pytest.mark.parametrize("changes", [{}, {"IMG_IDMAP": "single"}], ids=["all ids", "one id"])
def test_unpack_gives_the_caller_what_can_be_given(changes: dict[str, str], empty: Img, tmp_path: Path) -> None:
    empty = empty.with_environment(**changes)
    keep_layers(empty, "docker.io/library/made:latest")
    done = empty.run("unpack", "-o", "rootfs", "made", cwd=tmp_path).ok()
    assert done.text == "Successfully unpacked rootfs for made to: rootfs\n"
    assert "warning: devices were left out: `/null`, `/other-device`" in done.stderr
    root = tmp_path / "rootfs"
    tree = fingerprint(str(root))
    assert sorted(tree) == [b"d", b"d/kept", b"d/new", b"hard", b"opaque", b"opaque/new", b"pipe", b"replaced"]
    assert {entry[1:3] for entry in tree.values()} == {(os.getuid(), os.getgid())}
    assert tree[b"d/kept"][0] == oct(stat.S_IFREG | 0o755)
    assert tree[b"d/kept"][6] == (("user.a", b"b"),)
    assert tree[b"d/new"][5] == b"hard", "one file by two names"
    assert (root / "replaced").readlink() == Path("d")
    # What a layer does in a directory without having an entry for it leaves mode and time alone.
    assert tree[b"d"][0] == tree[b"opaque"][0] == oct(stat.S_IFDIR | 0o555)
    assert (root / "d").stat().st_mtime == (root / "opaque").stat().st_mtime == 1_000_000_000


def test_unpack_replaces_a_directory_only_by_force(empty: Img, tmp_path: Path) -> None:
    keep_layers(empty, "docker.io/library/made:latest")
    empty.run("unpack", "made", cwd=tmp_path).ok()
    (tmp_path / "rootfs/d").chmod(0o755)
    (tmp_path / "rootfs/d/mine").write_text("x")
    empty.run("unpack", "made", cwd=tmp_path).refused(2, "destination directory already exists: ./rootfs")
    assert (tmp_path / "rootfs/d/mine").exists()
    empty.run("unpack", "--force", "made", cwd=tmp_path).ok()
    assert sorted(os.listdir(tmp_path / "rootfs/d")) == ["kept", "new"]
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("files", "lost"),
    [
        ((), ""),
        (("d/kept", "opaque/new", "replaced"), ""),
        (("mine",), "mine"),
        (("d/kept", "d/mine"), "d/mine"),
        (("hard/mine",), "hard"),
        (("d",), "d"),
    ],
)
def test_unpack_by_force_loses_no_file_that_the_image_has_not(
    empty: Img, tmp_path: Path, files: tuple[str, ...], lost: str
) -> None:
    keep_layers(empty, "docker.io/library/made:latest")
    (tmp_path / "rootfs").mkdir()
    for name in files:
        (tmp_path / "rootfs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "rootfs" / name).write_text("old")
    before = fingerprint(str(tmp_path / "rootfs"))
    done = empty.run("unpack", "--force", "made", cwd=tmp_path)
    if not lost:
        done.ok()
        return
    done.refused(2, "rootfs` is not replaced", f"`{lost}` would be lost")
    assert fingerprint(str(tmp_path / "rootfs")) == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


WORKING, MOUNTED = "the working directory is there", "is a mount point"
VITAL = [
    ("/", WORKING),
    ("../cwd", WORKING),
    ("..", WORKING),
    ("../link-to-cwd/.", WORKING),
    ("../users/home/.", "the home directory is there"),
    ("../users", "the home directory is there"),
    ("../state", "the state is there"),
    ("../state/blobs", "it belongs to the state"),
    ("../file", "is not a directory"),
]
UNPACK, EXPORT = ("unpack", "--force", "busybox", "-o"), ("build", "../context", "-o")


@pytest.mark.parametrize(
    ("command", "place", "reason"),
    [
        *(
            (UNPACK, *case)
            for case in (*VITAL, ("../link-to-cwd", "is not a directory"), ("/proc", MOUNTED), ("/sys/fs", MOUNTED))
        ),
        *((EXPORT, *case) for case in (*VITAL, ("../link-to-cwd", WORKING))),
    ],
)
def test_nothing_replaces_what_nobody_means(
    tmp_path: Path, seed: Path, command: tuple[str, ...], place: str, reason: str
) -> None:
    shutil.copytree(seed, tmp_path / "state")
    write_context(tmp_path / "context", "FROM busybox\n")
    for name in ("cwd", "users/home"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link-to-cwd").symlink_to("cwd")
    (tmp_path / "home").symlink_to("users/home")
    img = Img(tmp_path / "state", tmp_path / "home")
    dest = f"type=local,mode=delete,dest={place}" if command == EXPORT else place
    img.run(*command, dest, cwd=tmp_path / "cwd").refused(2, reason)
    assert (tmp_path / "cwd/mine").exists()
    assert (tmp_path / "users/home/mine").exists()
    assert (tmp_path / "state/img.db").exists()
