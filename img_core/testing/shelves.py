"""Snapshots as the core would keep them, and trees to fill them with, for the suite of snapshotters and tests of single ones."""

# ruff: noqa: S103 - odd modes are what is tested
from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from img_core.archives.tar import write_layer
from img_core.plugins._making import construct
from img_core.spec.host import Host, IdMapping
from img_core.spec.snapshotter import LayerStream, Snapshotter
from img_core.spec.values import DiffId, Digest
from img_core.testing.trees import fingerprint

__all__ = ["CAPABILITY", "OLD", "TAR", "Inside", "Shelf", "Tree", "Work", "everything", "example"]

CAPABILITY = bytes.fromhex("0100000202000000000000000000000000000000")  # cap_chown=ep, revision 2
OLD = 1_000_000_000  # a time before every test


class Tree:
    """A root file system to write into, by paths."""

    def __init__(self, fd: int) -> None:
        self.path = f"/proc/self/fd/{fd}"

    def at(self, name: str) -> str:
        """Return the path under which *name* can be reached."""
        return f"{self.path}/{name}"

    def write(self, name: str, content: str | bytes = "", mode: int = 0o644) -> None:
        """Write a file, and make the directories above it."""
        path = self.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)

    def mkdir(self, *names: str) -> None:
        """Make directories, and those above them."""
        for name in names:
            os.makedirs(self.at(name), exist_ok=True)

    def remove(self, *names: str) -> None:
        """Remove files, links and whole directories."""
        for name in names:
            path = self.at(name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def relink(self, name: str, target: str) -> None:
        """Let a link point elsewhere."""
        self.remove(name)
        os.symlink(target, self.at(name))

    def move(self, old: str, new: str) -> None:
        """Rename as mv(1) does: by copying where the file system asks for that."""
        try:
            os.rename(self.at(old), self.at(new))
        except OSError as err:
            if err.errno != errno.EXDEV:
                raise
            shutil.copytree(self.at(old), self.at(new), symlinks=True)
            shutil.rmtree(self.at(old))

    def read(self, name: str) -> str:
        """Return the content of a file."""
        return Path(self.at(name)).read_text()


Work = Callable[[Tree], None]
#: runs a function with a new shelf inside of a namespace
Inside = Callable[[Callable[["Shelf"], None]], None]


@dataclass(slots=True)
class Shelf:
    """A state directory with snapshots in it, as the core would keep them."""

    driver: Snapshotter
    directory: str
    mapping: IdMapping
    count: int = 0
    prefix: str = ""  #: of the names that this process gives to snapshots

    @classmethod
    def make(
        cls, snapshotter: type[Snapshotter], base: str, mapping: IdMapping, options: Mapping[str, Any] | None = None
    ) -> Shelf:
        """Make an empty one in the directory *base*."""
        directory = os.path.join(base, "state")
        run = os.path.join(base, "run")
        os.makedirs(directory, exist_ok=True)
        os.makedirs(run, exist_ok=True)
        return cls(
            construct("snapshotter", snapshotter, (Host(mapping, directory, run),), options or {}), directory, mapping
        )

    def another(self, name: str) -> Shelf:
        """Return the same snapshots as another process, which is called *name*, has them: with a driver and run directory of its own."""
        run = f"{self.driver.host.run_directory}-{name}"
        os.makedirs(run, exist_ok=True)
        host = Host(self.mapping, self.directory, run)
        driver = construct("snapshotter", type(self.driver), (host,), self.driver.options)
        return Shelf(driver, self.directory, self.mapping, prefix=f"{name}-")

    def new(self) -> str:
        """Return the path of a snapshot that is to be made."""
        self.count += 1
        return os.path.join(self.directory, f"{self.prefix}new-{self.count}")

    def finish(self, directory: str) -> str:
        """Rename as the core does when a snapshot is complete."""
        final = os.path.join(self.directory, f"{self.prefix}done-{self.count}")
        os.rename(directory, final)
        return final

    def step(self, parents: Sequence[str], work: Work, *, mount_points: bool = False) -> str:
        """Make a snapshot whose content *work* changes."""
        directory = self.new()
        root = self.driver.prepare(directory, parents, mount_points=mount_points)
        try:
            work(Tree(root.fd))
        finally:
            root.close()
        return self.finish(directory)

    def apply(self, parents: Sequence[str], blob: bytes, **wrong: Any) -> str:
        """Make a snapshot from the uncompressed layer *blob*; *wrong* replaces what the stream claims."""
        return self.arrive(parents, lambda: [blob[at : at + 4096] for at in range(0, len(blob), 4096)], **wrong)

    def arrive(self, parents: Sequence[str], pieces: Callable[[], Iterable[bytes]], **wrong: Any) -> str:
        """Make a snapshot from the uncompressed layer that *pieces* gives: once to see its digest, and again for the driver."""
        hashed, size = hashlib.sha256(), 0
        for piece in pieces():
            hashed.update(piece)
            size += len(piece)
        digest = f"sha256:{hashed.hexdigest()}"
        claims = {"digest": Digest(digest), "size": size, "diff_id": DiffId(digest), **wrong}
        directory = self.new()
        self.driver.apply(directory, parents, LayerStream(iter(pieces()), TAR, **claims))
        return self.finish(directory)

    def tree(self, parents: Sequence[str], *, times: bool = False) -> dict[bytes, tuple[Any, ...]]:
        """Describe the merged tree of *parents*."""
        root = self.driver.view(parents)
        try:
            return fingerprint(f"/proc/self/fd/{root.fd}", times=times)
        finally:
            root.close()

    def changes(self, directory: str, parents: Sequence[str]) -> list[str]:
        """Return the changed paths; deletions with a minus, directories with a slash."""
        changes = self.driver.changes(directory, parents)
        try:
            return [_shown(path, info) for path, info in changes]
        finally:
            changes.close()

    def layer(self, directory: str, parents: Sequence[str]) -> bytes:
        """Return the changes as an uncompressed layer."""
        blocks: list[bytes] = []
        self.pack(directory, parents, blocks.append)
        return b"".join(blocks)

    def pack(self, directory: str, parents: Sequence[str], sink: Callable[[bytes], object]) -> None:
        """Give the changes as an uncompressed layer to *sink*, piece by piece."""
        changes = self.driver.changes(directory, parents)
        try:
            write_layer(
                changes,
                changes.root_fd,
                sink,
                compression="uncompressed",
                owner_of=lambda path, _info: changes.owner(path),
            )
        finally:
            changes.close()


TAR = "application/vnd.oci.image.layer.v1.tar"


def _shown(path: bytes, info: os.stat_result | None) -> str:
    name = os.fsdecode(path)
    if info is None:
        return f"-{name}"
    return f"{name}/" if stat.S_ISDIR(info.st_mode) else name


def example(tree: Tree) -> None:
    """Make a small tree."""
    tree.write("etc/conf", "1")
    tree.write("dir/a", "a")
    tree.write("dir/sub/b", "b")
    tree.write("dir/sub/c", "c")
    tree.write("keep", "k")
    os.symlink("dir", tree.at("link"))


def everything(tree: Tree) -> None:
    """Make one of everything that a file system can hold."""
    tree.write("plain", "text")
    tree.write("program", "#!", 0o6755)
    tree.write("closed", "secret", 0)
    tree.write("empty")
    tree.write("first", "linked")
    tree.mkdir("sticky", "deep/" + "/".join("d" * 20 for _ in range(100)), "private")
    os.link(tree.at("first"), tree.at("sticky/second"))
    os.chmod(tree.at("sticky"), 0o1777)
    os.chmod(tree.at("private"), 0o2700)
    os.symlink("../nowhere", tree.at("dangling"))
    os.symlink("x" * 1000, tree.at("long"))
    os.mkfifo(tree.at("pipe"), 0o620)
    tree.write("n" * os.statvfs(tree.path).f_namemax, "long name")
    with open(os.fsencode(tree.path) + b"/\xff\xfe\n\\", "wb") as file:
        file.write(b"not text")
    tree.write("sparse", "start")
    os.truncate(tree.at("sparse"), 8 << 20)
    os.setxattr(tree.at("plain"), "user.note", b"\0\1\2")
    os.setxattr(tree.at("sticky"), "user.note", b"directory")
    os.setxattr(tree.at("program"), "security.capability", CAPABILITY)
    for name in ("plain", "sticky", "deep"):
        os.utime(tree.at(name), (OLD, OLD))
