"""COPY, ADD and WORKDIR onto real snapshots: real owners, devices, capabilities, and layers with exactly what was copied."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from img_core.archives import unpacking
from img_core.files import fs
from img_core.files.copy import SourceTree, apply, digest, select
from img_core.files.ownership import OWNER_ATTRIBUTE, Owners
from img_core.spec.errors import HostError, ImgError
from img_core.spec.graph import Copy, FileAction, MakeDirectory
from img_core.spec.host import IdMapping
from img_core.testing.namespaces import mappings, run_inside
from img_core.testing.shelves import CAPABILITY, Shelf, Tree
from img_snapshotter_native._native import NativeSnapshotter
from img_snapshotter_overlayfs._overlay import OverlaySnapshotter

pytestmark = pytest.mark.rootless


class Builder:
    """Runs file operations on a shelf, as the core does."""

    def __init__(self, shelf: Shelf, context: Path) -> None:
        self.shelf = shelf
        self.context = context
        self.warnings: list[str] = []

    def step(self, parents: list[str], *actions: FileAction, source: list[str] | None = None) -> str:
        """Make a snapshot; copies come from the context, or from the stage *source*."""
        driver = self.shelf.driver
        view = driver.view(source) if source is not None else None
        fd = view.fd if view is not None else os.open(self.context, os.O_RDONLY | os.O_DIRECTORY)
        tree = SourceTree(fd, keep_owner=source is not None, owners=driver.owners(source or []))
        owners = Owners(self.shelf.mapping)
        directory = self.shelf.new()
        root = driver.prepare(directory, parents)
        try:
            selections = [select(tree, action) if isinstance(action, Copy) else None for action in actions]
            self.warnings += apply(actions, selections, root.fd, owners=owners, archives=unpacking)
        finally:
            root.close()
            view.close() if view is not None else os.close(fd)
        driver.record_owners(directory, owners.recorded)
        return self.shelf.finish(directory)

    def owner(self, parents: list[str], name: str) -> tuple[int, int]:
        """The owner that a layer would carry, real or recorded."""
        blob = self.shelf.layer(parents[-1], parents[:-1])
        with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
            member = archive.getmember(name)
        return member.uid, member.gid


Inside = Callable[[Callable[[Builder], None]], None]


@pytest.fixture(params=mappings())
def mapping(request: pytest.FixtureRequest) -> IdMapping:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[OverlaySnapshotter, NativeSnapshotter], ids=["overlayfs", "native"])
def inside(request: pytest.FixtureRequest, tmp_path: Path, mapping: IdMapping) -> Inside:
    base = tmp_path / "shelf"
    context = tmp_path / "context"
    base.mkdir()
    context.mkdir()

    def run(work: Callable[[Builder], None]) -> None:
        def body() -> None:
            try:
                work(Builder(Shelf.make(request.param, str(base), mapping), context))
            finally:
                fs.remove_tree(str(base))

        run_inside(mapping, body)

    return run


def test_a_copy_into_an_empty_root_makes_only_what_was_copied(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "context/app").mkdir()
    (tmp_path / "context/app/f").write_text("x")

    def body(builder: Builder) -> None:
        made = builder.step([], Copy(0, ("app",), "/srv/app/"))
        assert builder.shelf.changes(made, []) == ["srv/", "srv/app/", "srv/app/f"]

    inside(body)


def test_an_existing_workdir_is_a_layer_without_entries(inside: Inside) -> None:
    def body(builder: Builder) -> None:
        first = builder.step([], MakeDirectory("/w", owner="5:6"))
        second = builder.step([first], MakeDirectory("/w", owner="7"))
        assert builder.shelf.changes(second, [first]) == []
        assert builder.owner([first], "w") == (5, 6)

    inside(body)


def test_chown_reaches_files_links_and_new_parents(inside: Inside, tmp_path: Path) -> None:
    source = tmp_path / "context/dir"
    source.mkdir()
    (source / "file").write_text("x")
    (source / "file").chmod(0o4755)
    (source / "link").symlink_to("file")
    os.mkfifo(source / "pipe")

    def body(builder: Builder) -> None:
        made = [builder.step([], Copy(0, ("dir",), "/a/b/", owner="1000:50"))]
        for name in ("a", "a/b", "a/b/file", "a/b/link", "a/b/pipe"):
            assert builder.owner(made, name) == (1000, 50), name
        assert builder.shelf.tree(made)[b"a/b/file"][0] == oct(stat.S_IFREG | 0o4755)  # chown(2) would have cleared it

    inside(body)


def test_an_id_that_is_not_mapped_is_named_with_a_hint(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "context/f").write_text("x")

    def body(builder: Builder) -> None:
        if builder.shelf.mapping == "full":
            with pytest.raises(HostError, match="cannot give files to 4000000:5: the id is not available here"):
                builder.step([], Copy(0, ("f",), "/", owner="4000000:5"))
        else:
            made = [builder.step([], Copy(0, ("f",), "/", owner="4000000:5"))]
            assert builder.owner(made, "f") == (4000000, 5)

    inside(body)


def test_a_context_belongs_to_root_whoever_owns_it(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "context/f").write_text("x")

    def body(builder: Builder) -> None:
        assert builder.owner([builder.step([], Copy(0, ("f",), "/"))], "f") == (0, 0)

    inside(body)


def test_a_set_group_id_directory_does_not_change_owners(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "context/sub").mkdir()
    (tmp_path / "context/sub/f").write_text("x")

    def body(builder: Builder) -> None:
        if builder.shelf.mapping == "single":
            return  # one group only: nothing to inherit

        def make(tree: Tree) -> None:
            tree.mkdir("d")
            os.chown(tree.at("d"), 3, 4)
            os.chmod(tree.at("d"), 0o2775)

        first = builder.shelf.step([], make)
        made = [first, builder.step([first], Copy(0, (".",), "/d/"))]
        merged = builder.shelf.tree(made)
        assert (merged[b"d"][0], merged[b"d"][1:3]) == (oct(stat.S_IFDIR | 0o2775), (3, 4))
        assert [merged[name][1:3] for name in (b"d/sub", b"d/sub/f")] == [(0, 0)] * 2
        assert merged[b"d/sub"][0] == oct(stat.S_IFDIR | 0o755)

    inside(body)


def test_a_stage_brings_owners_capabilities_and_hard_links(inside: Inside) -> None:
    def body(builder: Builder) -> None:
        def make(tree: Tree) -> None:
            tree.write("app/tool", "#!", 0o755)
            tree.write("app/data", "x")
            os.symlink("tool", tree.at("app/link"))
            os.link(tree.at("app/data"), tree.at("app/same"))
            if builder.shelf.mapping == "single":
                os.setxattr(tree.at("app/data"), OWNER_ATTRIBUTE, b"7:8")
            else:
                os.chown(tree.at("app/data"), 7, 8)
                os.chown(tree.at("app/link"), 7, 8, follow_symlinks=False)
            os.setxattr(tree.at("app/tool"), "security.capability", CAPABILITY)

        directory = builder.shelf.new()
        root = builder.shelf.driver.prepare(directory, [])
        make(Tree(root.fd))
        root.close()
        if builder.shelf.mapping == "single":
            builder.shelf.driver.record_owners(directory, {b"app/link": (7, 8)})
        stage = [builder.shelf.finish(directory)]
        made = [builder.step([], Copy(0, ("/app",), "/x/"), source=stage)]
        assert [builder.owner(made, name) for name in ("x/data", "x/link", "x/tool", "x")] == [
            (7, 8),
            (7, 8),
            (0, 0),
            (0, 0),
        ]
        merged = builder.shelf.tree(made)
        assert dict(merged[b"x/tool"][6])["security.capability"] == CAPABILITY
        assert merged[b"x/same"][5] == b"x/data"

    inside(body)


def test_devices_are_copied_where_they_can_be_made(inside: Inside) -> None:
    def body(builder: Builder) -> None:
        if builder.shelf.mapping != "root":
            return  # nobody else can make the device in the first place
        stage = builder.shelf.step([], lambda tree: os.mknod(tree.at("null"), stat.S_IFCHR | 0o666, os.makedev(1, 3)))
        made = builder.step([], Copy(0, (".",), "/dev2/"), source=[stage])
        assert builder.shelf.tree([made])[b"dev2/null"][3] == os.makedev(1, 3)

    inside(body)


def test_an_archive_is_unpacked_with_its_owners(inside: Inside, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "context/x.tgz", "w:gz") as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/f", tarfile.REGTYPE), ("d/l", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode, info.linkname = kind, 11, 12, 0o755, "f"
            archive.addfile(info)

    def body(builder: Builder) -> None:
        made = [builder.step([], Copy(0, ("x.tgz",), "/e", unpack=True, add=True))]
        assert [builder.owner(made, name) for name in ("e", "e/d", "e/d/f", "e/d/l")] == [(0, 0), *[(11, 12)] * 3]

    inside(body)


def test_links_in_a_snapshot_never_lead_out(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "context/f").write_text("evil")
    (tmp_path / "context/dir").mkdir()
    (tmp_path / "context/dir/g").write_text("evil")
    outside = tmp_path / "outside"
    outside.mkdir()

    def body(builder: Builder) -> None:
        def make(tree: Tree) -> None:
            os.symlink(str(outside), tree.at("abs"))
            os.symlink("../" * 30 + str(outside)[1:], tree.at("up"))
            os.symlink("/proc/self/cwd", tree.at("magic"))

        first = builder.shelf.step([], make)
        for to in ("/abs/", "/up/", "/magic/", "/abs/new", "/up/../../new"):
            builder.step([first], Copy(0, ("f",), to))
            builder.step([first], Copy(0, ("dir",), to), MakeDirectory(to + "/x"))
        assert os.listdir(outside) == []

    inside(body)


def test_sources_in_a_stage_never_lead_out(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")

    def body(builder: Builder) -> None:
        def make(tree: Tree) -> None:
            os.symlink(str(tmp_path / "secret"), tree.at("abs"))
            os.symlink("../" * 30 + str(tmp_path)[1:], tree.at("up"))

        stage = builder.shelf.step([], make)
        for source in ("/abs", "/up/secret", "/../../../../../../../../etc/passwd"):
            with pytest.raises(ImgError, match="not found"):
                builder.step([], Copy(0, (source,), "/x"), source=[stage])

    inside(body)


def test_the_digest_of_a_stage_does_not_depend_on_the_mapping(tmp_path: Path) -> None:
    def body(mapping: IdMapping) -> None:
        shelf = Shelf.make(NativeSnapshotter, str(tmp_path / mapping), mapping)
        builder = Builder(shelf, tmp_path)
        (tmp_path / mapping / "d").mkdir()
        (tmp_path / mapping / "d/f").write_text("x")
        (tmp_path / mapping / "d/l").symlink_to("f")
        for name in ("d", "d/f"):
            (tmp_path / mapping / name).chmod(0o755)
        made = [builder.step([], Copy(0, (f"/{mapping}/d",), "/a/b/", owner="5:6"))]
        view = shelf.driver.view(made)
        tree = SourceTree(view.fd, keep_owner=True, owners=shelf.driver.owners(made))
        (tmp_path / mapping / "digest").write_text(digest(select(tree, Copy(0, ("a",), "/"))))
        view.close()
        fs.remove_tree(shelf.directory)

    for mapping in mappings():
        (tmp_path / mapping).mkdir()
        run_inside(mapping, lambda mapping=mapping: body(mapping))  # type: ignore[misc]
    assert len({(tmp_path / mapping / "digest").read_text() for mapping in mappings()}) == 1


def test_the_digest_of_a_stage_does_not_depend_on_the_snapshotter(tmp_path: Path, mapping: IdMapping) -> None:
    def body() -> None:
        found = set()
        for driver in (OverlaySnapshotter, NativeSnapshotter):
            base = tmp_path / driver.name
            base.mkdir()
            shelf = Shelf.make(driver, str(base), mapping)
            first = shelf.step([], lambda tree: (tree.write("a/f", "x"), os.symlink("f", tree.at("a/l")))[0])  # type: ignore[func-returns-value]
            second = shelf.step([first], lambda tree: tree.write("a/g", "y", 0o600))
            view = shelf.driver.view([first, second])
            found.add(digest(select(SourceTree(view.fd, keep_owner=True), Copy(0, ("a",), "/"))))
            view.close()
        assert len(found) == 1

    run_inside(mapping, body)
