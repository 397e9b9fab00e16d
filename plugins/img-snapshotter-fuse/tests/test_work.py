"""Ordinary work in a tree of ours: compiling, packing, many files, several at a time; and what happens when the server dies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from img_snapshotter_fuse._snapshotter import FuseSnapshotter

from img_core.files import fs
from img_core.spec.errors import HostError, Unsupported
from img_core.spec.host import Host
from img_core.testing.namespaces import mappings, run_inside
from img_core.testing.shelves import Shelf, Tree

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"),
]

MAKEFILE = """\
OBJECTS = main.o part1.o part2.o part3.o
program: libparts.a main.o
\t$(CC) -o $@ main.o -L. -lparts
libparts.a: part1.o part2.o part3.o
\t$(AR) rcs $@ $^
"""


def _project(tree: Tree) -> None:
    tree.write("src/Makefile", MAKEFILE)
    declarations = "".join(f"int part{number}(void);\n" for number in (1, 2, 3))
    tree.write("src/main.c", declarations + "int main(void) { return part1() + part2() + part3(); }\n")
    for number in (1, 2, 3):
        tree.write(f"src/part{number}.c", f"int part{number}(void) {{ return {number}; }}\n")


@pytest.mark.parametrize("mapping", mappings())
@pytest.mark.skipif(not (shutil.which("make") and shutil.which("cc")), reason="needs make and a C compiler")
def test_a_project_in_c_is_compiled_and_runs(tmp_path: Path, mapping: str) -> None:
    def body(shelf: Shelf) -> None:
        sources = shelf.step([], _project)

        def work(tree: Tree) -> None:
            here = {"cwd": tree.at("src"), "capture_output": True, "text": True, "close_fds": False, "check": False}
            done = subprocess.run(["make", "-j3"], **here)  # type: ignore[call-overload]
            assert done.returncode == 0, done.stderr
            assert subprocess.run([tree.at("src/program")], close_fds=False, check=False).returncode == 6
            tree.write("src/part1.c", "int part1(void) { return 40; }\n")
            assert subprocess.run(["make"], **here).returncode == 0  # type: ignore[call-overload]
            assert subprocess.run([tree.at("src/program")], close_fds=False, check=False).returncode == 45

        made = shelf.step([sources], work)
        changed = shelf.changes(made, [sources])
        assert {"src/program", "src/libparts.a", "src/main.o", "src/part1.c"} <= set(changed)
        assert "src/part2.c" not in changed

    run(tmp_path, mapping, body)


def test_an_archive_unpacked_inside_comes_out_the_same(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    subprocess.run(["tar", "cf", archive, "-C", os.path.dirname(os.__file__), "json", "email", "asyncio"], check=True)
    listed = subprocess.run(["tar", "df", archive, "-C", "/"], capture_output=True, check=False)
    assert listed.returncode  # `tar d` does tell

    def body(shelf: Shelf) -> None:
        def work(tree: Tree) -> None:
            subprocess.run(["tar", "xf", archive], cwd=tree.path, close_fds=False, check=True)
            subprocess.run(["tar", "df", archive], cwd=tree.path, close_fds=False, check=True)

        first = shelf.step([], work)
        root = shelf.driver.view([first])
        subprocess.run(["tar", "df", archive], cwd=f"/proc/self/fd/{root.fd}", close_fds=False, check=True)
        root.close()

    run(tmp_path, mappings()[0], body)


def test_writers_in_several_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    def body(shelf: Shelf) -> None:
        def lower(tree: Tree) -> None:
            for number in range(40):
                tree.write(f"lower/{number}", "x" * 5000)

        first = shelf.step([], lower)

        def work(tree: Tree) -> None:
            def one(number: int) -> None:
                with open(tree.at(f"lower/{number}"), "ab") as file:
                    for _ in range(20):
                        file.write(bytes([number]) * 1000)
                os.rename(tree.at(f"lower/{number}"), tree.at(f"lower/{number}.new"))

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(one, range(40)))
            for number in range(40):
                data = Path(tree.at(f"lower/{number}.new")).read_bytes()
                assert data == b"x" * 5000 + bytes([number]) * 20_000

        shelf.step([first], work)

    run(tmp_path, mappings()[0], body)


def test_a_program_that_gets_many_signals_works_undisturbed(tmp_path: Path) -> None:
    def body(shelf: Shelf) -> None:
        first = shelf.step([], lambda tree: tree.write("large", b"x" * (4 << 20)))

        def work(tree: Tree) -> None:
            seen = []
            signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for number in range(200):
                tree.write(f"dir/{number}", "text")
                os.rename(tree.at(f"dir/{number}"), tree.at(f"dir/new-{number}"))
                assert tree.read(f"dir/new-{number}") == "text"
            assert tree.read("large") == "x" * (4 << 20)
            assert len(os.listdir(tree.at("dir"))) == 200
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert len(seen) > 20

        shelf.step([first], work)

    run(tmp_path, mappings()[0], body)


def test_a_directory_with_fifty_thousand_names(tmp_path: Path) -> None:
    count = 50_000

    def body(shelf: Shelf) -> None:
        first = shelf.step([], lambda tree: tree.write("dir/below"))
        # Written as it lies on disk, for it is the listing that is tested.
        second = shelf.step([first], lambda tree: tree.write("dir/0"))
        for number in range(1, count):
            os.mknod(f"{second}/fs/dir/{number}")

        def work(tree: Tree) -> None:
            seen, removed = set(), 0
            with os.scandir(tree.at("dir")) as entries:
                for entry in entries:
                    assert entry.name not in seen
                    seen.add(entry.name)
                    if entry.name.endswith("77"):
                        os.unlink(entry.path)
                        removed += 1
            assert (len(seen), removed) == (count + 1, count // 100)
            assert len(os.listdir(tree.at("dir"))) == count + 1 - removed

        third = shelf.step([first, second], work)
        assert len(shelf.changes(third, [first, second])) == count // 100 + 1

    run(tmp_path, mappings()[0], body)


def test_holes_stay_holes_when_a_file_is_copied(tmp_path: Path) -> None:
    def body(shelf: Shelf) -> None:
        def make(tree: Tree) -> None:
            tree.write("sparse", "start")
            os.truncate(tree.at("sparse"), 64 << 20)

        first = shelf.step([], make)
        second = shelf.step([first], lambda tree: os.chmod(tree.at("sparse"), 0o600))
        info = os.stat(f"{second}/fs/sparse")
        assert (info.st_size, info.st_blocks * 512 < 1 << 20) == (64 << 20, True)

    run(tmp_path, mappings()[0], body)


def test_a_path_longer_than_a_system_call_takes(tmp_path: Path) -> None:
    def body(shelf: Shelf) -> None:
        def work(tree: Tree) -> None:
            fd = os.open(tree.path, os.O_RDONLY | os.O_DIRECTORY)
            for _ in range(30):
                os.mkdir("d" * 200, dir_fd=fd)
                below = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
            assert os.listdir(fd) == ["file"]
            os.unlink("file", dir_fd=fd)
            os.close(fd)

        shelf.step([], work)

    run(tmp_path, mappings()[0], body)


@pytest.mark.parametrize("lower", [True, False])
def test_a_deleted_directory_is_no_way_to_what_its_path_leads_to_now(tmp_path: Path, lower: bool) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True, mode=0o700)

    def body(shelf: Shelf) -> None:
        first = shelf.step([], lambda tree: tree.mkdir("dir/inner") if lower else None)

        def work(tree: Tree) -> None:
            tree.mkdir("dir/inner")
            fd = os.open(tree.at("dir/inner"), os.O_RDONLY | os.O_DIRECTORY)
            before = os.fstat(fd)
            tree.remove("dir")
            os.symlink(outside, tree.at("dir"))
            for attempt in (
                lambda: os.fchmod(fd, 0o777),
                lambda: os.utime(fd, (1, 1)),
                lambda: os.setxattr(fd, "user.escaped", b"1"),
                lambda: os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd)),
            ):
                with contextlib.suppress(OSError):
                    attempt()
            assert os.fstat(fd).st_ino == before.st_ino
            os.close(fd)

        shelf.step([first], work)

    mapping = mappings()[0]
    run(tmp_path, mapping, body)
    info = (outside / "inner").stat()
    assert (info.st_mode & 0o777, info.st_mtime > 1) == (0o700, True)
    assert os.listxattr(outside / "inner") == []
    assert os.listdir(outside / "inner") == []


def test_when_its_server_dies_a_mount_gives_errors_and_nobody_hangs(tmp_path: Path) -> None:
    def body(shelf: Shelf) -> None:
        root = shelf.driver.prepare(shelf.new(), [])
        Tree(root.fd).write("file")
        server = shelf.driver._chosen()._process
        for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        with pytest.raises(OSError, match=r"(?i)not connected|abort"):
            Tree(root.fd).write("other/file")
        with pytest.raises(HostError, match="the server of a FUSE mount has failed"):
            root.close()

    run(tmp_path, mappings()[0], body)


def test_the_server_ends_with_its_mounts_and_its_owner(tmp_path: Path) -> None:
    def body(shelf: Shelf) -> None:
        root = shelf.driver.view([])
        os.stat(f"/proc/self/fd/{root.fd}/")
        engine = shelf.driver._chosen()
        root.close()
        engine._requests.close()
        assert engine._process.wait(20) == 0

    run(tmp_path, mappings()[0], body)


def run(tmp_path: Path, mapping: str, body: object) -> None:
    base = os.path.join(tmp_path, "shelf")
    os.mkdir(base)

    def inside() -> None:
        try:
            body(Shelf.make(FuseSnapshotter, base, mapping))  # type: ignore[operator,arg-type]
        finally:
            fs.remove_tree(base)

    run_inside(mapping, inside)  # type: ignore[arg-type]


def test_the_probe_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host("full", str(tmp_path), str(tmp_path), environment={"IMG_FUSE_OVERLAYFS": "/no/such/program"})
    with pytest.raises(Unsupported, match="`/no/such/program` is not on PATH"):
        FuseSnapshotter.probe(host)
    monkeypatch.setattr("img_snapshotter_fuse._snapshotter.DEVICE", str(tmp_path / "fuse"))
    with pytest.raises(Unsupported, match=r"needs `.*/fuse`"):
        FuseSnapshotter.probe(Host("full", str(tmp_path), str(tmp_path)))
