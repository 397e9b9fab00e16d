"""Files of a context that change or vanish between the look, the key and the copy: one line that names them, and no waiting."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from img_core.files.copy import Reading, SourceTree, _tree, apply, digest, select
from img_core.files.ownership import Owners
from img_core.files.walker import Walk
from img_core.spec.errors import ImgError
from img_core.spec.graph import Copy


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


def _file_for_directory(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


def _link_for_directory(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


#: What is changed, how, and what the message names.
CHANGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "file cut": ("dir/f", lambda path: os.truncate(path, 3), "/dir/f"),
    "file longer": ("dir/f", lambda path: path.write_text("x" * 200_000), "/dir/f"),
    "file gone": ("dir/f", os.unlink, "/dir/f"),
    "file is a directory": ("dir/f", _directory, "/dir/f"),
    "file is a fifo": ("dir/f", _fifo, "/dir/f"),
    "file is a link": ("dir/f", _link, "/dir/f"),
    "file is a socket": ("dir/f", _socket, "/dir/f"),
    "link gone": ("dir/link", os.unlink, "/dir/link"),
    "link is a directory": ("dir/link", _directory, "/dir/link"),
    "link is a fifo": ("dir/link", _fifo, "/dir/link"),
    "directory gone": ("dir/sub", shutil.rmtree, "/dir/sub"),
    "directory is a file": ("dir/sub", _file_for_directory, "/dir/sub"),
    "directory is a link": ("dir/sub", _link_for_directory, "/dir/sub"),
    "hard link gone": ("dir/twin", os.unlink, "/dir/pair"),
}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    (path / "dir/sub").mkdir(parents=True)
    (path / "dir/f").write_text("f" * 100_000)
    (path / "dir/link").symlink_to("f")
    (path / "dir/pair").write_text("pair")
    (path / "dir/twin").hardlink_to(path / "dir/pair")
    (path / "dir/sub/more").write_text("more")
    return path


@pytest.mark.parametrize("work", ["key", "copy", "copy for the key"])
@pytest.mark.parametrize("case", CHANGES)
def test_what_changes_after_the_look_is_named_in_one_line(context: Path, tmp_path: Path, case: str, work: str) -> None:
    name, change, named = CHANGES[case]
    (tmp_path / "root").mkdir()
    source, root = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (context, tmp_path / "root"))
    try:
        action = Copy(0, ("dir",), "/")
        selection = replace(select(SourceTree(source), action), reading=Reading() if "key" in work else None)
        change(context / name)
        with pytest.raises(ImgError) as caught:
            digest(selection) if work == "key" else apply([action], [selection], root, owners=Owners("single"))
    finally:
        os.close(source)
        os.close(root)
    assert f"`{named}" in caught.value.message
    assert "\n" not in caught.value.message


class Vanishing:
    """A listing in which *path* is named, and gone when somebody looks."""

    def __init__(self, entries: Iterator[os.DirEntry[str]], path: Path) -> None:
        self._entries = entries
        self._path = path

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        listed = list(self._entries)
        self._path.unlink(missing_ok=True)
        return iter(listed)

    def __exit__(self, *_exception: object) -> None:
        pass


def test_what_is_gone_before_the_look_is_not_there(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda fd: Vanishing(scandir(fd), context / "dir/f"))
    source = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listed = [name for name, _ in _tree.list_directory(SourceTree(source), b"dir")]
    finally:
        os.close(source)
    assert listed == [b"link", b"pair", b"sub", b"twin"]


@pytest.mark.parametrize("change", [os.unlink, _directory, _fifo])
def test_a_link_that_goes_while_it_is_followed_leads_where_it_led(
    context: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    go = Walk.go

    def going(self: Walk, name: bytes, fd: int) -> bytes | None:
        if self.path_of(name) == b"dir/link":
            change(context / "dir/link")
        return go(self, name, fd)

    monkeypatch.setattr(Walk, "go", going)
    source = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(ImgError, match=r"`?/dir/link.* in the build context"):
            select(SourceTree(source), Copy(0, ("dir/link/x",), "/"))
    finally:
        os.close(source)
