"""Control groups as files: what the kernel tells about them, and which of them are ours to divide."""

from pathlib import Path

import pytest

from img_core.linux.cgroups import Limits
from img_core.linux.cgroups.groups import Hierarchy, StepGroups, _dividable, hierarchies
from img_core.spec.errors import UsageError


def test_version_2_takes_everything_from_one_directory() -> None:
    limits = Limits(memory=64 << 20, memory_swap=96 << 20, cpu_quota=50_000, cpu_shares=1024, cpuset_cpus="0-1")
    assert [(setting.file, setting.value) for setting in limits.settings(2)] == [
        ("memory.max", str(64 << 20)),
        ("memory.swap.max", str(32 << 20)),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "39"),
        ("cpuset.cpus", "0-1"),
    ]


def test_version_1_has_other_names_for_it() -> None:
    limits = Limits(memory=64 << 20, memory_swap=96 << 20, cpu_period=10_000, cpu_quota=5_000, cpu_shares=512)
    assert [(setting.controller, setting.file, setting.value) for setting in limits.settings(1)] == [
        ("memory", "memory.limit_in_bytes", str(64 << 20)),
        ("memory", "memory.memsw.limit_in_bytes", str(96 << 20)),
        ("cpu", "cpu.cfs_period_us", "10000"),
        ("cpu", "cpu.cfs_quota_us", "5000"),
        ("cpu", "cpu.shares", "512"),
    ]


@pytest.mark.parametrize(("shares", "weight"), [(2, "1"), (262_144, "10000")])
def test_the_ends_of_both_scales_are_the_same(shares: int, weight: str) -> None:
    assert Limits(cpu_shares=shares).settings(2)[0].value == weight


def test_no_limit_is_no_limit() -> None:
    assert not Limits()
    assert Limits(cpu_shares=2)
    assert Limits().settings(1) == Limits().settings(2) == []
    with pytest.raises(UsageError):
        Limits(memory=1).check()


Tree = tuple[Path, str, str]  #: the directory of `tree`, its table of groups and its table of mounts


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A machine with version 2 at /two, and version 1 with two controllers together at /one."""
    for name in ("two/user.slice/app", "one/job"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "two/user.slice/app/cgroup.controllers").write_text("memory pids\n")
    groups, mounts = tmp_path / "cgroup", tmp_path / "mountinfo"
    groups.write_text("4:cpu,cpuacct:/job\n3:freezer:/elsewhere\n1:name=systemd:/x\n0::/user.slice/app\n")
    mounts.write_text(
        f"30 1 0:1 / {tmp_path}/two rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
        f"31 1 0:2 / {tmp_path}/one rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"32 1 0:3 /other {tmp_path}/frozen rw - cgroup cgroup rw,freezer\n"
        "33 1 0:4 / /proc rw - proc proc rw\n"
    )
    return tmp_path, str(groups), str(mounts)


def test_groups_are_found_where_they_are_mounted(tree: Tree) -> None:
    path, groups, mounts = tree
    assert hierarchies(groups, mounts) == [
        Hierarchy(2, f"{path}/two/user.slice/app", frozenset({"memory", "pids"})),
        Hierarchy(1, f"{path}/one/job", frozenset({"cpu", "cpuacct"})),
    ]


def test_group_that_is_the_root_of_its_mount_is_found(tree: Tree) -> None:
    path, groups, mounts = tree
    text = (
        (path / "mountinfo")
        .read_text()
        .replace(f"/ {path}/two", f"/user.slice {path}/two")
        .replace("two", "two/user.slice")
    )
    (path / "mountinfo").write_text(text)
    assert hierarchies(groups, mounts)[0].directory == f"{path}/two/user.slice/app"


def test_missing_files_mean_no_groups(tmp_path: Path) -> None:
    assert hierarchies(str(tmp_path / "absent"), str(tmp_path / "absent")) == []


def test_group_above_that_hands_out_already_is_preferred(tree: Tree) -> None:
    path, groups, mounts = tree
    above = path / "two/user.slice"
    (above / "cgroup.procs").write_text("")
    (above / "cgroup.subtree_control").write_text("memory pids\n")
    found = hierarchies(groups, mounts)[0]
    assert _dividable(found, Limits(memory=1 << 30).settings(2)) == str(above)


def test_own_group_is_told_to_hand_out(tree: Tree) -> None:
    path, groups, mounts = tree
    own = path / "two/user.slice/app"
    for name in ("cgroup.procs", "cgroup.subtree_control"):
        (own / name).write_text("")
    found = hierarchies(groups, mounts)[0]
    assert _dividable(found, Limits(memory=1 << 30, cpu_quota=5000).settings(2)) == str(own)
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +memory"


@pytest.mark.parametrize(
    ("name", "text"), [("memory.events", "oom 2\noom_kill {}\n"), ("memory.oom_control", "under_oom 0\noom_kill {}\n")]
)
def test_kills_for_want_of_memory_are_known(tmp_path: Path, name: str, text: str) -> None:
    group = StepGroups((), (str(tmp_path),))
    assert not group.was_killed()
    (tmp_path / name).write_text(text.format(0))
    assert not group.was_killed()
    (tmp_path / name).write_text(text.format(1))
    assert group.was_killed()
