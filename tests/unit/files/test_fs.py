"""The one module through which the disk is changed, and paths that hostile content chose."""

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img_core.files import _rooted, faults, fs
from img_core.spec.errors import ImgError


@pytest.fixture(params=["openat2", "walk"])
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything about rooted paths must hold with and without openat2(2)."""
    monkeypatch.setattr(_rooted, "_available", request.param == "openat2")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """``root/`` with links of all sorts, ``secret`` beside it; the test gets a descriptor of ``root``."""
    (tmp_path / "secret").write_text("outside")
    top = tmp_path / "root"
    (top / "etc/deep").mkdir(parents=True)
    (top / "etc/passwd").write_text("inside")
    (top / "secret").write_text("the one inside")
    for name, target in {
        "abs": "/etc", "up": "../../../secret", "out": str(tmp_path), "loop": "loop", "file": "/etc/passwd",
        "etc/deep/back": "../..", "dangling": "/var/new", "magic": "/proc/self/root",
    }.items():  # fmt: skip
        (top / name).symlink_to(target)
    os.mkfifo(top / "fifo")
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read_all(fd: int) -> str:
    with os.fdopen(fd) as file:
        return file.read()


@pytest.mark.usefixtures("resolver")
class TestRootedPaths:
    @pytest.mark.parametrize(
        ("path", "content"),
        [
            (b"etc/passwd", "inside"),
            (b"/etc/passwd", "inside"),
            (b"abs/passwd", "inside"),
            (b"file", "inside"),
            (b"up", "the one inside"),
            (b"../../../etc/passwd", "inside"),
            (b"etc/deep/back/etc/./passwd", "inside"),
            (b"etc/../secret", "the one inside"),
        ],
    )
    def test_links_and_dots_resolve_inside_the_root(self, root: int, path: bytes, content: str) -> None:
        assert read_all(fs.open_in_root(root, path, os.O_RDONLY)) == content

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            (b"out/secret", errno.ENOENT),
            (b"loop", errno.ELOOP),
            (b"missing", errno.ENOENT),
            (b"etc/passwd/x", errno.ENOTDIR),
            (b"etc/passwd/", errno.ENOTDIR),
            (b"etc\0/passwd", errno.EINVAL),
        ],
    )
    def test_what_does_not_exist_inside_is_not_found_outside(self, root: int, path: bytes, code: int) -> None:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
            fs.open_in_root(root, path, os.O_RDONLY)
        assert caught.value.errno == code

    @pytest.mark.parametrize("path", [b"abs/passwd", b"file", b"loop", b"etc/deep/back/secret"])
    def test_beneath_follows_no_link(self, root: int, path: bytes) -> None:
        with pytest.raises(OSError, match="symbolic links"):
            fs.open_beneath(root, path, os.O_RDONLY)

    @pytest.mark.parametrize("path", [b"../secret", b"/etc/passwd", b"etc/../../secret"])
    def test_beneath_never_leaves(self, root: int, path: bytes) -> None:
        with pytest.raises(OSError, match="cross-device"):
            fs.open_beneath(root, path, os.O_RDONLY)

    def test_last_link_is_opened_itself_on_demand(self, root: int) -> None:
        fd = fs.open_in_root(root, b"abs", os.O_PATH, follow=False)
        assert stat.S_ISLNK(os.fstat(fd).st_mode)
        os.close(fd)
        with pytest.raises(OSError, match="symbolic links"):
            fs.open_in_root(root, b"file", os.O_RDONLY, follow=False)

    def test_files_are_made_inside(self, root: int, tmp_path: Path) -> None:
        os.close(fs.open_in_root(root, b"abs/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
        assert (tmp_path / "root/etc/new").exists()
        with pytest.raises(FileExistsError):
            fs.open_in_root(root, b"dangling", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)

    def test_directories_are_made_through_links_inside(self, root: int, tmp_path: Path) -> None:
        for path in (b"abs/x/y/z", b"dangling/more", b"/a/../b/c"):
            fd = fs.make_directories(root, path, 0o750)
            assert stat.S_ISDIR(os.fstat(fd).st_mode)
            os.close(fd)
        assert stat.S_IMODE((tmp_path / "root/etc/x/y").stat().st_mode) == 0o750
        assert (tmp_path / "root/var/new/more").is_dir()
        assert sorted(os.listdir(tmp_path)) == ["root", "secret"]

    @pytest.mark.parametrize("path", [b"etc/passwd/x", b"loop/x"])
    def test_directories_are_not_made_over_files_and_circles(self, root: int, path: bytes) -> None:
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            fs.make_directories(root, path)

    def test_bounded_reading_refuses_what_would_block_or_never_end(self, root: int) -> None:
        assert fs.read_bounded(root, b"file", 6) == b"inside"
        with pytest.raises(ImgError, match="larger than 5 bytes: `file`"):
            fs.read_bounded(root, b"file", 5)
        for path in (b"fifo", b"etc"):
            with pytest.raises(ImgError, match="not a regular file"):
                fs.read_bounded(root, path, 100)

    @settings(max_examples=300, deadline=None)
    @given(parts=st.lists(st.sampled_from(["..", ".", "", "etc", "abs", "up", "out", "deep", "back", "file", "secret",
                                           "magic", "passwd"]), min_size=1, max_size=9))  # fmt: skip
    def test_no_path_reaches_the_file_outside(self, parts: list[str]) -> None:
        fd = os.open(self.top(), os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert read_all(fs.open_in_root(fd, "/".join(parts).encode(), os.O_RDONLY | os.O_NONBLOCK)) != "outside"
        except OSError:
            pass
        finally:
            os.close(fd)

    @pytest.fixture(autouse=True)
    def _remember(self, root: int) -> None:
        type(self)._top = os.readlink(f"/proc/self/fd/{root}")

    _top = ""

    def top(self) -> str:
        return self._top


def test_both_resolvers_agree(root: int) -> None:
    resolve = _rooted.RESOLVE_IN_ROOT | _rooted.RESOLVE_NO_MAGICLINKS
    for path in (
        b"",
        b".",
        b"..",
        b"etc/",
        b"abs/",
        b"file/",
        b"up/..",
        b"abs/deep/back/abs",
        b"/",
        b"out/.",
        b"fifo/x",
    ):
        results = []
        for function in (_rooted._openat2, _rooted.walk):
            try:
                fd = function(root, path, os.O_PATH, 0, resolve)
                results.append(os.fstat(fd).st_ino)
                os.close(fd)
            except OSError as err:
                results.append(-(err.errno or 0))
        assert results[0] == results[1], path


def test_renaming_directories_never_opens_the_outside(root: int, tmp_path: Path) -> None:
    """A thread swaps a directory with a link to the outside while we resolve through it."""
    (tmp_path / "root/swap").mkdir()
    (tmp_path / "root/swap/secret").write_text("inside")
    (tmp_path / "root/link").symlink_to(tmp_path)
    stop = threading.Event()

    def swap() -> None:
        top = tmp_path / "root"
        while not stop.is_set():
            os.rename(top / "swap", top / "kept")
            os.rename(top / "link", top / "swap")
            os.rename(top / "swap", top / "link")
            os.rename(top / "kept", top / "swap")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(2000):
            for available in (True, False):
                _rooted._available = available
                try:
                    assert read_all(fs.open_in_root(root, b"swap/secret", os.O_RDONLY)) == "inside"
                except FileNotFoundError:
                    pass
    finally:
        _rooted._available = True
        stop.set()
        thread.join()


# -------------------------------------------------------------------------------------------------------- whole files


def test_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    with fs.AtomicFile(tmp_path) as file:
        file.write(b"new")
        assert target.read_text() == "old"
        file.commit(target, sync=True)
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with fs.AtomicFile(tmp_path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where", ["in the call that makes it", "before the block"])
def test_a_signal_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    opened = os.open

    def interrupted(*arguments: Any) -> None:  # Any: those of what is interrupted
        if where == "in the call that makes it":
            os.close(opened(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "before the block":
            patch.setattr(fs.AtomicFile, "__enter__", interrupted)
        else:
            patch.setattr(os, "open", interrupted)
        with suppress(KeyboardInterrupt):  # it does not keep the frames alive, as `pytest.raises` does
            make_a_file(tmp_path)
    assert os.listdir(tmp_path) == []


def make_a_file(directory: Path) -> None:
    with fs.AtomicFile(directory):
        pytest.fail("the block began")


def test_replace_file_survives_a_crash_or_failure_at_every_mutation(tmp_path: Path) -> None:
    target = tmp_path / "state"
    fs.replace_file(target, b"old")
    faults.install()
    fs.replace_file(target, b"old", sync=True)
    total = faults.count()
    faults.uninstall()
    assert total >= 4
    for number in range(1, total + 1):
        pid = os.fork()
        if not pid:
            faults.install(crash_at=number)
            fs.replace_file(target, b"new", sync=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 137
        assert target.read_bytes() == b"old"
    for left in tmp_path.glob(".tmp-*"):
        left.unlink()
    for number in range(1, total + 1):
        faults.install(fail_at=number)
        try:
            with pytest.raises(ImgError, match="no space left on device: `"):
                fs.replace_file(target, b"new", sync=True)
        finally:
            faults.uninstall()
        assert target.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["state"]


def test_crash_points_work_from_the_environment(tmp_path: Path) -> None:
    code = "import sys; from img_core.files import fs; [fs.replace_file(sys.argv[1], b'x') for _ in range(3)]"
    report = tmp_path / "count"

    def run(**variables: str) -> int:
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), **variables}
        command = [sys.executable, "-c", code, str(tmp_path / "f")]
        return subprocess.run(command, env=environment, check=False, capture_output=True).returncode

    assert run(IMG_COUNT_MUTATIONS=str(report)) == 0
    total = int(report.read_text())
    assert run(IMG_CRASH_AT=str(total)) == 137
    assert run(IMG_CRASH_AT=str(total + 1)) == 0
    assert run(IMG_FAIL_AT=f"{total}:EIO") == 1


def test_mutations_are_counted_once_by_many_threads() -> None:
    seen: list[int] = []

    def mutate() -> None:
        for _ in range(500):
            fs.mutation("x")

    faults.install(log=lambda number, kind, path: seen.append(number))
    try:
        threads = [threading.Thread(target=mutate) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seen) == list(range(1, 4001))
        assert faults.count() == 4000
    finally:
        faults.uninstall()


@pytest.mark.parametrize("size", [0, 1, 4096, 128 * 1024, 128 * 1024 + 1, 3 << 20])
def test_copy_is_exact(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target:
        assert fs.copy_file(source.fileno(), target.fileno(), size) == size
    assert (tmp_path / "b").read_bytes() == data


def test_copy_keeps_holes(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        file.write(b"start")
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"middle")
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target:
        assert fs.copy_file(source.fileno(), target.fileno(), 1 << 30) == 1 << 30
    info = (tmp_path / "b").stat()
    assert info.st_size == 1 << 30
    assert info.st_blocks * 512 < 1 << 20
    with open(tmp_path / "b", "rb") as file:
        assert file.read(5) == b"start"
        file.seek(1 << 29)
        assert file.read(6) == b"middle"


def test_copy_of_a_shrinking_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 200_000)
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target:
        assert fs.copy_file(source.fileno(), target.fileno(), 300_000) == 200_000


# ----------------------------------------------------------------------------------------------------------- removing


def test_removing_follows_no_link_and_copes_with_modes(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep/file").touch()
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/b/c/file").touch()
    (tree / "a/link").symlink_to(tmp_path / "keep")
    os.mkfifo(tree / "a/fifo")
    (tree / "a/b/c").chmod(0o000)
    (tree / "a/b").chmod(0o555)
    (tree / "a").chmod(0o000)
    fs.remove_tree(str(tree))
    assert sorted(os.listdir(tmp_path)) == ["keep"]
    assert os.listdir(tmp_path / "keep") == ["file"]
    fs.remove_tree(str(tree))  # again: nothing to do


def test_removing_a_link_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    fs.remove_tree(str(tmp_path / "l"))
    assert os.listdir(tmp_path) == ["d"]


def test_removing_works_with_few_descriptors_at_any_depth(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    fs.remove_tree(str(tmp_path / "d"))
    assert os.listdir(tmp_path) == []


def test_removing_stops_at_a_mount(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
from img_core.files import fs
from img_core.spec.errors import ImgError
os.makedirs("tree/mnt/inner"); os.makedirs("source/kept")
subprocess.run(["mount", "--bind", "source", "tree/mnt"], check=True)
try:
    fs.remove_tree("tree")
except ImgError as err:
    sys.exit(0 if "mounted" in err.message and os.path.isdir("source/kept") else 3)
sys.exit(4)
"""
    enter = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a user namespace")
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ.get("PATH", os.defpath)}
    result = subprocess.run(
        [*enter, sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", ["", "/", ".", "..", "a/.."])
def test_removing_the_unnamed_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="refusing"):
        fs.remove_tree(path)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain-name_1.0", "plain-name_1.0"),
        ("grün".encode(), "grün"),
        (b"new\nline", "new\\nline"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        (b"caf\xe9", "caf\\xe9"),
        (b"back\\slash", "back\\\\slash"),
        ("bidi\u202e".encode(), "bidi\\u202e"),
    ],
)
def test_names_are_shown_harmlessly(name: bytes, shown: str) -> None:
    assert fs.show(name) == shown
    assert fs.show(name).isprintable()


def test_disk_errors_name_the_path() -> None:
    with pytest.raises(ImgError, match=r"^no space left on device: `a\\nb`$"), fs.disk_errors(b"a\nb"):
        raise OSError(errno.ENOSPC, "x")
    with pytest.raises(FileNotFoundError), fs.disk_errors("a"):
        raise FileNotFoundError
