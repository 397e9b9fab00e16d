"""Limits of what a step may use: by control groups where this user may divide one, else refused; by rlimits; and /dev/shm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.build_server import Workshop
from harness.host import AS_ROOT, need
from harness.img import Img, write_context
from harness.processes import AT_ONCE, executing, running, wait_until
from img_core.linux import sandbox
from img_core.linux.cgroups import Limits, groups
from img_core.linux.cgroups.groups import Hierarchy, hierarchies
from img_core.spec.errors import HostError

pytestmark = pytest.mark.rootless

#: Fills memory, not files: each word becomes part of a variable of the shell.
GREEDY = "x=0123456789abcdef; for i in $(seq 24); do x=$x$x; done; echo survived"
SEE = "cat /proc/self/cgroup"


def own_group(controller: str) -> Hierarchy:
    """Return the hierarchy in which this process has a group to divide, or skip."""
    for hierarchy in hierarchies():
        if controller in hierarchy.controllers and os.access(f"{hierarchy.directory}/cgroup.procs", os.W_OK):
            return hierarchy
    pytest.skip(f"this host has not delegated a cgroup with `{controller}` to this user")


def groups_left(hierarchy: Hierarchy) -> list[str]:
    """Return the groups of builders that are gone; others may be at work."""
    parents = (
        {hierarchy.directory, os.path.dirname(hierarchy.directory)} if hierarchy.version == 2 else {hierarchy.directory}
    )
    builders = {name: re.match(r"img-(\d+)", name) for parent in parents for name in os.listdir(parent)}
    return [name for name, builder in builders.items() if builder and not os.path.exists(f"/proc/{builder[1]}")]


@pytest.mark.parametrize("executor", ["userns", "runc"])
def test_step_that_takes_more_memory_than_it_may_is_killed_and_told_why(
    img: Img, tmp_path: Path, executor: str
) -> None:
    need(*([executor] if executor == "runc" else []))
    hierarchy = own_group("memory")
    write_context(tmp_path, f"FROM busybox\nRUN {GREEDY}\n")
    flags = ("--executor", executor, "--memory", "48m", "--memory-swap", "48m")
    done = img.build(tmp_path, *flags)
    done.refused(4, "exit code: 137")
    assert "hint: the kernel killed it for want of memory" in done.stderr
    assert groups_left(hierarchy) == []
    write_context(tmp_path, "FROM busybox\nRUN echo modest\n")
    img.build(tmp_path, *flags).ok()


@pytest.mark.parametrize("executor", ["userns", "runc"])
def test_processor_limits_are_set(img: Img, tmp_path: Path, executor: str) -> None:
    need(*([executor] if executor == "runc" else []))
    hierarchy = own_group("cpu")
    marker = f"3{os.getpid()}"
    write_context(tmp_path, f"FROM busybox\nRUN {SEE} && exec sleep {marker}\n")
    flags = ("--executor", executor, "--cpus", "0.5", "--cpu-shares", "512")
    builder = img.start("build", "-t", "x", *flags, tmp_path, log=tmp_path / "log")
    try:
        wait_until(lambda: bool(executing("sleep", marker)) or builder.poll() is not None, "the step sleeps")
        assert builder.poll() is None, (tmp_path / "log").read_text()
        (sleeper,) = executing("sleep", marker)
        directory = group_of(sleeper, hierarchy)
        assert directory, f"it is in no group below {hierarchy.directory}"
        values = {name: Path(directory, name).read_text().strip() for name in os.listdir(directory) if "cpu." in name}
        if hierarchy.version == 2:
            assert (values["cpu.max"], values["cpu.weight"]) == ("50000 100000", "20")
        else:
            assert (values["cpu.cfs_quota_us"], values["cpu.cfs_period_us"], values["cpu.shares"]) == (
                "50000",
                "100000",
                "512",
            )
        seen = re.compile(r"^#\d+ [\d.]+ \d+:(cpu|.*,cpu|cpu,.*|):/$", re.MULTILINE)
        wait_until(lambda: bool(seen.search((tmp_path / "log").read_text())), "the step sees its group as the root")
    finally:
        builder.send_signal(signal.SIGKILL)
        builder.wait(10)
    # What a killed builder leaves the next one removes.
    wait_until(lambda: not running(f"sleep {marker}"), "the step has ended", seconds=AT_ONCE)
    write_context(tmp_path, "FROM busybox\nRUN echo next\n")
    img.build(tmp_path, *flags).ok()
    assert groups_left(hierarchy) == []


def group_of(pid: int, hierarchy: Hierarchy) -> str:
    """Return the directory of the group of a process outside of us, if it is below ours."""
    for root, directories, files in os.walk(hierarchy.directory):
        if "cgroup.procs" in files and str(pid) in Path(root, "cgroup.procs").read_text().split() and directories == []:
            return root
    return ""


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_runtime_makes_no_group_that_would_stay_when_it_is_killed(img: Img, tmp_path: Path, runtime: str) -> None:
    need(runtime)
    if not any(each.version == 2 and os.access(f"{each.directory}/cgroup.procs", os.W_OK) for each in hierarchies()):
        pytest.skip("this host has not delegated a cgroup of version 2 to this user")
    marker = f"4{os.getpid()}"
    write_context(tmp_path, f"FROM busybox\nRUN exec sleep {marker}\n")
    builder = img.start("build", "--executor", f"runc,runtime={runtime}", tmp_path, log=tmp_path / "log")
    try:
        wait_until(lambda: bool(executing("sleep", marker)) or builder.poll() is not None, "the step sleeps")
        assert builder.poll() is None, (tmp_path / "log").read_text()
        (sleeper,) = executing("sleep", marker)
        assert Path(f"/proc/{sleeper}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    finally:
        builder.kill()
        builder.wait(10)


def test_processors_can_be_chosen(img: Img, tmp_path: Path) -> None:
    own_group("cpuset")
    write_context(tmp_path, "FROM busybox\nRUN grep Cpus_allowed_list /proc/self/status\n")
    done = img.build(tmp_path, "--cpuset-cpus", "0", "--no-console").ok()
    assert "Cpus_allowed_list:\t0\n" in done.stderr
    done = img.build(tmp_path, "--cpuset-cpus", "100-200", "--no-cache")
    done.refused(2, "--cpuset-cpus", "100-200")


def test_limit_that_cannot_be_held_is_an_error_with_the_way_out(img: Img, tmp_path: Path) -> None:
    """On a machine that shows no cgroups at all, whatever this one does."""
    need("unshare")
    write_context(tmp_path, "FROM busybox\nRUN true\n")
    hide = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
    command = [
        "unshare",
        "-Urm",
        "sh",
        "-c",
        hide,
        "sh",
        *img.command("build", "-t", "x", "--memory", "100m", tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=img.environment(), timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert "`--memory` needs the cgroup controller `memory`, which is not available here" in done.stderr
    assert "hint: start it as `systemd-run --user --scope -p Delegate=yes" in done.stderr


IN_VERSION_2 = """
import os, sys
from img_core.linux import syscalls, userns
from img_core.linux.cgroups import Limits, groups
from img_core.linux.cgroups.limits import Setting
from img_core.linux.zygote import Zygote
controller, file, value = sys.argv[1:4]
Limits.settings = lambda self, version: [Setting(controller, file, value, "--memory")] if version == 2 else []
userns.enter()
zygote = Zygote.start()
with groups.limited_group(Limits(memory=1 << 30)) as group:
    (directory,) = group.directories
    print(open(f"{directory}/{file}").read().strip())
    zygote.spawn("test_limits:look", {}, fds=[1, *group.procs_fds]).wait()
print(os.path.exists(directory))
"""


def look(_payload: object, fds: list[int]) -> None:
    """In a process of the zygote: enter the groups and tell where it is then."""
    sandbox.enter_cgroups(fds[1:])
    with open("/proc/self/cgroup", "rb") as file:
        os.write(fds[0], next(line for line in file if line.startswith(b"0::")))


def test_group_of_version_2_is_made_below_the_one_above_ours_and_entered_and_removed() -> None:
    """With whatever controller this machine has in version 2; the way is the same for all."""
    known = {"memory": ("memory.max", "104857600"), "hugetlb": ("hugetlb.2MB.max", "2097152")}
    usable = [
        controller
        for hierarchy in hierarchies()
        for controller in known.keys() & hierarchy.controllers
        if hierarchy.version == 2 and os.access(f"{os.path.dirname(hierarchy.directory)}/cgroup.procs", os.W_OK)
    ]
    if not usable or AS_ROOT:
        pytest.skip("this host has not delegated a cgroup of version 2 to this user")
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, "-c", IN_VERSION_2, usable[0], *known[usable[0]]]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted([known[usable[0]][1], "0::/", "False"])


def test_group_of_somebody_else_is_not_divided(tmp_path: Path) -> None:
    if AS_ROOT:
        pytest.skip("root may divide every group")
    for name in ("cgroup.procs", "cgroup.subtree_control"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o444)
    with pytest.raises(HostError, match="`--memory` cannot be held") as caught:
        groups._dividable(Hierarchy(2, str(tmp_path), frozenset({"memory"})), Limits(memory=1 << 30).settings(2))
    assert "systemd-run" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--memory", "1k"], ["at least 6m"]),
        (["--memory", "lots"], ["`lots` for --memory is not a size"]),
        (["--memory-swap", "1g"], ["needs `--memory`"]),
        (["--memory", "1g", "--memory-swap", "500m"], ["must not be less"]),
        (["--cpus", "0"], ["invalid value `0` for --cpus"]),
        (["--cpus", "1", "--cpu-quota", "5000"], ["exclude each other"]),
        (["--cpu-shares", "1"], ["from 2 to 262144"]),
        (["--cpu-period", "1s"], ["invalid value `1s` for --cpu-period"]),
    ],
)
def test_senseless_limits_are_refused(img: Img, tmp_path: Path, flags: list[str], words: list[str]) -> None:
    write_context(tmp_path, "FROM busybox\n")
    img.build(tmp_path, *flags).refused(2, *words)


@pytest.mark.parametrize("executor", ["userns", "runc"])
def test_shared_memory_rlimits_and_hosts_are_as_asked(workshop: Workshop, executor: str) -> None:
    need(*([executor] if executor == "runc" else []))
    script = "df -k /dev/shm | tail -n 1; ulimit -n; ulimit -c; cat /etc/hosts; cat /etc/resolv.conf"
    built = workshop.build(
        f"RUN {script}",
        executor=executor, no_cache=True, shm_size=8 << 20, ulimits=[["nofile", 77, 78], ["core", 0, 0]],
        add_hosts=[("db", "10.1.2.3"), ("db6", "fe80::1"), ("here", "host-gateway")],
    ).ok()  # fmt: skip
    lines = built.log.splitlines()
    assert lines[0].split()[1] == "8192"
    assert lines[1:3] == ["77", "0"]
    assert {"10.1.2.3\tdb", "fe80::1\tdb6", "127.0.0.1\there"} <= set(lines)
    assert set(Path("/etc/resolv.conf").read_text().splitlines()) <= set(lines)
