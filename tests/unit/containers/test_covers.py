"""What is put into a tree in the place of a mount looks as the mount would, where owners and modes are only noted."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from img_core.files.fs import opened_directory
from img_core.files.ownership import Owners
from img_core.files.treewalk import look_of, walk
from img_core.files.xattrs import MODE, OWNER
from img_core.solver.secrets import Secrets
from img_core.spec.errors import Canceled
from img_core.spec.executor import Mount
from img_lib_containers.covers import Covers


def secret(uid: int, gid: int, mode: int) -> Callable[[ExitStack, Path], int]:
    def source(opened: ExitStack, tmp_path: Path) -> int:
        secrets = Secrets(str(tmp_path), {}, mounts=False, owners=Owners("fake"))
        return secrets.file(opened, b"content", uid=uid, gid=gid, mode=mode)

    return source


def file_of_a_stage(opened: ExitStack, tmp_path: Path) -> int:
    path = tmp_path / "file"
    path.write_text("content")
    os.setxattr(path, OWNER, b"5:6")
    os.setxattr(path, MODE, b"20")
    path.chmod(0o420)
    fd = os.open(path, os.O_PATH)
    opened.callback(os.close, fd)
    return fd


#: what is mounted -> its source, and mode and owner as a step sees them
SOURCES: dict[str, tuple[Callable[[ExitStack, Path], int], tuple[int, int, int]]] = {
    "a secret": (secret(0, 0, 0o400), (0o400, 0, 0)),
    "a secret of a user": (secret(3, 4, 0o440), (0o440, 3, 4)),
    "a secret closed to its owner": (secret(3, 4, 0o044), (0o044, 3, 4)),
    "a file of a stage": (file_of_a_stage, (0o020, 5, 6)),
}


@pytest.mark.parametrize("what", SOURCES)
def test_a_file_in_the_place_of_a_mount_has_its_look(tmp_path: Path, what: str) -> None:
    source, expected = SOURCES[what]
    tree, aside = tmp_path / "tree", tmp_path / "aside"
    tree.mkdir()
    aside.mkdir()
    with ExitStack() as opened:
        fd = source(opened, tmp_path)
        with opened_directory(str(tree)) as root:
            with Covers(root, str(aside), hands_out=False) as covers:
                covers.put(Mount("/place", source_fd=fd))
                ((mode, uid, gid),) = [look_of(entry, None) for entry in walk(root)]
                assert (tree / "place").read_text() == "content"
                assert (mode & 0o7777, uid, gid) == expected
            assert not os.listdir(tree)


@pytest.mark.parametrize("taken", ["tree", "lent"])
def test_whoever_is_canceled_does_not_wait_for_the_step_of_another(tmp_path: Path, taken: str) -> None:
    for name in ("tree", "lent", "aside"):
        (tmp_path / name).mkdir()
    cancel_fd = os.eventfd(1)
    with (
        opened_directory(str(tmp_path / "tree")) as root,
        opened_directory(str(tmp_path / "lent")) as lent,
        opened_directory(str(tmp_path / taken)) as other,
    ):
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Canceled), Covers(root, str(tmp_path / "aside"), cancel_fd=cancel_fd) as covers:
            covers.put(Mount("/place", source_fd=lent, readonly=False))
        assert os.listdir(lent) == os.listdir(root) == []
    os.close(cancel_fd)
