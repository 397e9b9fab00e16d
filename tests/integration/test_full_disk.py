"""A disk without space: people look at what is there and remove it, and whatever needs space says so in one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bases import BUSYBOX_CONFIG, busybox_root, write_oci_archive
from harness.disks import KINDS, SmallDisk, small_disk
from harness.img import Img, write_context

pytestmark = [pytest.mark.rootless, pytest.mark.slow]

KEPT, OTHER = "docker.io/library/kept:latest", "docker.io/library/other:latest"
FREE = (0, 24 << 10, 100 << 10, 200 << 10)
ENVIRONMENT = (
    ("IMG_IDMAP", "single"),
    ("IMG_SYNC", "0"),
)  # FUSE tells of shared memory that it could not keep at the next sync


@pytest.fixture(scope="module", params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(request.param, tmp_path_factory.mktemp("disk"), 24) as made:
        yield made


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a state with two images and a cached step; copy it."""
    directory = tmp_path_factory.mktemp("used")
    img = Img(directory / "state", directory, ENVIRONMENT)
    for name, tools in {KEPT: ("sh",), OTHER: ("sh", "ls")}.items():
        archive = write_oci_archive(directory / "image.tar", [busybox_root(*tools)], name=name, config=BUSYBOX_CONFIG)
        img.run("load", "-i", archive).ok()
    context = write_context(directory / "context", "FROM kept\nCOPY a /a\n", {"a": "a" * 10_000})
    img.build(context, "--backend", "native").ok()
    img.run("rm", "built").ok()
    return img.state


@pytest.fixture
def img(disk: SmallDisk, used: Path, tmp_path: Path) -> Iterator[Img]:
    """Give the command with a state on the disk."""
    state = disk.outside / "state"
    shutil.copytree(used, state, symlinks=True)
    made = Img(disk.path / "state", tmp_path, ENVIRONMENT)
    disk.run(made, "tag", "kept", "kept").ok()  # makes the reserve, which copying left out
    yield made
    disk.empty()
    shutil.rmtree(state)


def names(disk: SmallDisk, img: Img) -> list[str]:
    return disk.run(img, "ls", "--format", "{{.Name}}").ok().text.split()


@pytest.mark.parametrize("free", FREE)
def test_people_can_look_and_clean_up(disk: SmallDisk, img: Img, free: int) -> None:
    disk.fill(free)
    assert names(disk, img) == [KEPT, OTHER]
    disk.run(img, "inspect", "kept").ok()
    disk.run(img, "history", "kept").ok()
    assert "Reclaimable" in disk.run(img, "du").ok().text
    disk.run(img, "rm", "other").ok()
    assert names(disk, img) == [KEPT]
    before = disk.free()
    assert "Reclaimed" in disk.run(img, "prune").ok().text
    assert disk.free() > before + (1 << 20)
    assert names(disk, img) == [KEPT]
    disk.run(img, "tag", "kept", "again").ok()


def test_the_reserve_is_there_for_the_next_clean_up(disk: SmallDisk, img: Img) -> None:
    for number in range(3):
        disk.run(img, "tag", "kept", f"more{number}").ok()
    disk.fill(0)
    for number in range(3):
        disk.run(img, "rm", f"more{number}").ok()
        disk.fill(0)
    disk.run(img, "prune").ok()
    assert names(disk, img) == [KEPT, OTHER]


@pytest.mark.parametrize("free", FREE[:2])
def test_what_needs_space_says_so(disk: SmallDisk, img: Img, tmp_path: Path, free: int) -> None:
    context = write_context(tmp_path / "large", "FROM kept\nCOPY big /big\n", {"big": "b" * 1_000_000})
    disk.fill(free)
    commands = [
        ("build", "--backend", "native", "-t", "large", context),
        ("tag", "kept", "tagged"),
        ("import", "-", "imported"),
    ]
    for command in commands:
        done = disk.run(img, *command)
        if done.returncode:
            assert done.returncode in (1, 3), str(done)
            assert "no space left on device" in done.error or command[0] == "import", str(done)
            assert "Traceback" not in done.stderr, str(done)
    assert set(names(disk, img)) >= {KEPT, OTHER}


def test_without_a_reserve_people_still_see_what_is_there(disk: SmallDisk, img: Img) -> None:
    (disk.outside / "state/reserve").unlink()
    disk.fill(0)
    assert names(disk, img) == [KEPT, OTHER]
    disk.run(img, "inspect", "kept").ok()


def test_without_a_reserve_little_space_is_enough_to_clean_up(disk: SmallDisk, img: Img) -> None:
    (disk.outside / "state/reserve").unlink()
    disk.fill(24 << 10)
    disk.run(img, "rm", "other").ok()
    disk.fill(24 << 10)
    (disk.outside / "state/reserve").unlink(missing_ok=True)
    disk.fill(24 << 10)
    disk.run(img, "prune").ok()
    assert names(disk, img) == [KEPT]
    assert disk.free() > 1 << 20
