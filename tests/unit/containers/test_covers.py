"""What is put into a tree in the place of a mount looks as the mount would, where owners and modes are only noted."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from img_core.files import faults
from img_core.files.fs import opened_directory
from img_core.files.locks import RunDirectory, sweep
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


# --- a builder that is killed -----------------------------------------------------------------------------------------


def contents(directory: Path) -> dict[str, str]:
    """Return the files below *directory*, and what is in each."""
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def in_child(work: Callable[[], object], at: int) -> int:
    """Do *work* in a child that is killed before its change number *at* of the disk; return its status, or the number of its last one."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            faults.install(crash_at=at)
            work()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def step_with_mounts(state: Path) -> None:
    """Run a step that has two caches, one in the other, a secret in that one, and a file and a directory that the image has."""
    run = RunDirectory(str(state))
    tree = Path(run.path, "tree")
    (tree / "cache/old").mkdir(parents=True)
    (tree / "cache/old/of the image").write_text("image")
    caches = {"/cache": "outer", "/cache/inner": "inner", "/made/for/it": "third"}
    with ExitStack() as opened, opened_directory(str(tree)) as root:
        covers = opened.enter_context(Covers(root, run.path, hands_out=False, keeper=os.getpid()))
        for target, name in caches.items():
            fd = opened.enter_context(opened_directory(str(state / "cache-mounts" / name), os.O_PATH))
            covers.put(Mount(target, source_fd=fd, readonly=False))
        covers.put(Mount("/cache/token", source_fd=secret(0, 0, 0o400)(opened, tree.parent)))
        for target in caches:
            faults.mutation("write")
            (tree / target[1:] / "new").write_text("new")
        faults.mutation("write")
        opened.pop_all().close()
    assert contents(tree) == {"cache/old/of the image": "image"}
    run.close()


@pytest.mark.parametrize("again", [False, True])
def test_a_cache_mount_is_never_lost_with_its_builder(tmp_path: Path, again: bool) -> None:
    """Nor does it keep anything of the step that is not its own; *again*: who brings it back is killed, too."""
    code, at = 137, 0
    while code:
        at += 3 if again else 1
        state = tmp_path / str(at)
        for name in ("outer", "inner", "third"):
            (state / "cache-mounts" / name).mkdir(parents=True)
            (state / "cache-mounts" / name / name).write_text("old")
        (state / "cache-mounts/outer/token").write_text("hidden")
        (state / "cache-mounts/outer/inner").mkdir()
        (state / "cache-mounts/outer/inner/hidden").write_text("hidden")
        code = in_child(partial(step_with_mounts, state), at)
        for moment in range(1, 100 if again else 1):
            if in_child(partial(sweep, str(state)), moment) == 0:
                break
        sweep(str(state))
        found = contents(state / "cache-mounts")
        written = {path for path in found if path.endswith("/new")}
        assert {path: found[path] for path in found.keys() - written} == {
            "outer/outer": "old", "outer/token": "hidden", "outer/inner/hidden": "hidden", "inner/inner": "old", "third/third": "old"
        }, at  # fmt: skip
        assert written <= {"outer/new", "inner/new", "third/new"}
        assert not any((state / "run").glob("*"))
        assert code in (0, 137)
    assert len(written) == 3
    assert at > 40
