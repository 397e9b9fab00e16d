import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from img_core.files import faults
from img_core.spec.errors import StepError
from img_lib_containers.mountpoints import MountPoints


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def points(root: Path) -> Iterator[MountPoints]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield MountPoints(fd)
    os.close(fd)


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_missing_points_are_made_and_removed(root: Path, points: MountPoints) -> None:
    points.ensure("/a/b/file", directory=False)
    points.ensure("/a/dir", directory=True)
    assert everything(root) == ["a", "a/b", "a/b/file", "a/dir"]
    points.remove()
    assert everything(root) == []


def test_what_exists_stays(root: Path, points: MountPoints) -> None:
    (root / "etc").mkdir()
    (root / "etc/hosts").write_text("mine")
    points.ensure("/etc/hosts", directory=False)
    points.ensure("/etc", directory=True)
    points.remove()
    assert (root / "etc/hosts").read_text() == "mine"


def test_parents_get_their_times_back(root: Path, points: MountPoints) -> None:
    (root / "etc").mkdir()
    os.utime(root / "etc", ns=(1, 2))
    points.ensure("/etc/hosts", directory=False)
    points.ensure("/etc/resolv.conf", directory=False)
    points.remove()
    assert (root / "etc").stat().st_mtime_ns == 2


def test_a_change_of_the_step_keeps_its_time(root: Path, points: MountPoints) -> None:
    (root / "etc").mkdir()
    os.utime(root / "etc", ns=(1, 2))
    points.ensure("/etc/hosts", directory=False)
    time.sleep(0.02)
    (root / "etc/new").write_text("")
    changed = (root / "etc").stat().st_mtime_ns
    points.remove()
    assert (root / "etc").stat().st_mtime_ns == changed


def test_what_the_step_filled_stays(root: Path, points: MountPoints) -> None:
    points.ensure("/dir", directory=True)
    points.ensure("/file", directory=False)
    (root / "dir/x").write_text("")
    (root / "file").write_text("content")
    points.remove()
    assert everything(root) == ["dir", "dir/x", "file"]


def test_what_the_step_replaced_stays(root: Path, points: MountPoints, tmp_path: Path) -> None:
    points.ensure("/dir", directory=True)
    (root / "dir").rename(root / "elsewhere")
    (tmp_path / "outside").mkdir()
    (root / "dir").symlink_to(tmp_path / "outside")
    points.remove()
    assert (tmp_path / "outside").is_dir()
    assert everything(root) == ["dir", "elsewhere"]


@pytest.mark.parametrize("link", ["/outside", "../../outside", "../../../../../outside"])
def test_symlinks_never_lead_outside(root: Path, points: MountPoints, tmp_path: Path, link: str) -> None:
    (tmp_path / "outside").mkdir()
    (root / "escape").symlink_to(str(tmp_path / "outside") if link == "/outside" else link)
    points.ensure("/escape/made", directory=True)
    assert list((tmp_path / "outside").iterdir()) == []
    points.remove()
    assert everything(root) == ["escape"]


def test_dangling_link_is_filled_where_it_points(root: Path, points: MountPoints) -> None:
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").symlink_to("../run/stub/resolv.conf")
    points.ensure("/etc/resolv.conf", directory=False)
    assert (root / "run/stub/resolv.conf").is_file()
    points.remove()
    assert everything(root) == ["etc", "etc/resolv.conf"]


def test_loop_of_links_is_refused(root: Path, points: MountPoints) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    with pytest.raises(StepError, match="/one/x"):
        points.ensure("/one/x", directory=True)


@pytest.mark.parametrize("directory", [True, False])
def test_wrong_kind_is_refused_by_name(root: Path, points: MountPoints, directory: bool) -> None:
    (root / "dir").mkdir()
    (root / "file").write_text("")
    target = "/file" if directory else "/dir"
    with pytest.raises(StepError, match=target):
        points.ensure(target, directory=directory)


def test_file_as_parent_is_refused(root: Path, points: MountPoints) -> None:
    (root / "file").write_text("")
    with pytest.raises(StepError, match="/file/below"):
        points.ensure("/file/below", directory=True)


def test_symlinked_system_directory_is_refused(root: Path, points: MountPoints) -> None:
    (root / "proc").symlink_to("etc")
    with pytest.raises(StepError, match="/proc"):
        points.refuse_symlink("proc")
    points.refuse_symlink("absent")


def test_failing_disk_is_an_error_and_leaves_nothing_open(root: Path, points: MountPoints) -> None:
    points.ensure("/a", directory=True)
    points.ensure("/b", directory=True)
    before = len(os.listdir("/proc/self/fd"))
    faults.install(fail_at=1, error=errno.EIO)
    try:
        with pytest.raises(StepError, match="mount point"):
            points.remove()
    finally:
        faults.uninstall()
    assert everything(root) == ["b"]
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_no_descriptor_is_left(root: Path, points: MountPoints) -> None:
    before = os.listdir("/proc/self/fd")
    points.ensure("/a/b/c", directory=False)
    points.remove()
    (root / "one").symlink_to("one")
    with pytest.raises(StepError):
        points.ensure("/one", directory=True)
    points.remove()
    assert os.listdir("/proc/self/fd") == before
