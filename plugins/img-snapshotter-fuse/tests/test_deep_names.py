"""Names that are too long for one system call go through descriptors of directories on the way, which others may need, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from img_snapshotter_fuse._node import Node
from img_snapshotter_fuse._stack import Stack
from img_snapshotter_fuse._tree import Creator, Tree

PART = b"p" * 200
DEPTH = 20  #: of PART: 4019 bytes
MANY = 70  #: more directories than are kept open
OURS = Creator(os.getuid(), os.getgid(), 0)


def below(top: Path, *names: bytes) -> int:
    """Make directories below each other in *top*; return a descriptor of the last one."""
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY)
    for name in names:
        try:
            os.mkdir(name, dir_fd=fd)
        except FileExistsError:
            pass
        above, fd = fd, os.open(name, os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
        os.close(above)
    return fd


def test_a_name_stays_good_while_an_operation_asks_for_others(tmp_path: Path) -> None:
    names = [b"%02d" % number for number in range(MANY)]
    for name in names:
        fd = below(tmp_path, name, *[PART] * DEPTH)
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
    stack = Stack([str(tmp_path)])
    try:
        for kept in range(MANY):  # in whatever order
            places = {
                names[number % MANY]: stack.place(0, b"/".join([names[number % MANY], *[PART] * DEPTH]))
                for number in range(kept, kept + 3)
            }
            for name, place in places.items():
                assert os.listdir(place) == [name]
    finally:
        stack.forget_shortcuts()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """A lower layer with a file in the directory ``gone``, very deep."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    fd = below(tmp_path / "lower", *[PART] * DEPTH, b"gone")
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    before = os.umask(0)  # as the server, whose requests tell the mask of who asks
    yield Tree([str(tmp_path / "lower")], str(tmp_path / "upper"), str(tmp_path / "work"))
    os.umask(before)


def looked_up(tree: Tree, parent: Node, name: bytes) -> Node:
    found = tree.lookup(parent, name)
    assert found is not None
    return found[0]


@pytest.fixture
def deep(tree: Tree) -> Node:
    node = tree.root
    for _ in range(DEPTH):
        node = looked_up(tree, node, PART)
    tree.remove(looked_up(tree, node, b"gone"), b"file")  # leaves a mark in the upper layer
    return node


def test_a_deep_directory_of_a_lower_layer_can_be_removed(tree: Tree, deep: Node) -> None:
    tree.remove(deep, b"gone")
    assert tree.lookup(deep, b"gone") is None


def test_a_deep_directory_of_a_lower_layer_can_be_replaced(tree: Tree, deep: Node) -> None:
    new, _ = tree.create(tree.root, b"new", lambda place: os.mkdir(place, 0o755), OURS, 0o040755)
    tree.create(new, b"inside", lambda place: os.mkdir(place, 0o755), OURS, 0o040755)
    tree.rename(tree.root, b"new", deep, b"gone", 0)
    assert looked_up(tree, looked_up(tree, deep, b"gone"), b"inside").is_directory
    assert tree.lookup(tree.root, b"new") is None
