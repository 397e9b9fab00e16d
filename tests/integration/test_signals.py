"""Stopping a build: quickly, with the status of the signal, and with nothing left running."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import need
from harness.img import Img, write_context
from harness.processes import AT_ONCE, Orphans, running, wait_until

pytestmark = pytest.mark.rootless

#: Ignores every polite request, and has children that do so as well, and a daemon: a grandchild in a session of its own.
STUBBORN = "trap '' INT TERM HUP; (setsid sleep {n} &); (sleep {n} & sleep {n}) & while :; do sleep {n}; done"


@pytest.fixture
def orphans() -> Iterator[Orphans]:
    with Orphans() as watched:
        yield watched


def start_step(img: Img, tmp_path: Path, marker: str, *flags: str) -> subprocess.Popen[bytes]:
    """Start a build and return when its step runs."""
    context = tmp_path / "context"
    context.mkdir(exist_ok=True)
    write_context(context, f"FROM busybox\nRUN {STUBBORN.format(n=marker)}\n")
    builder = img.start("build", "-t", "never", *flags, context, log=tmp_path / "log")
    wait_until(lambda: len(running(f"sleep {marker}")) >= 4 or builder.poll() is not None, "the step runs")
    assert builder.poll() is None, (tmp_path / "log").read_text()
    return builder


@pytest.mark.parametrize("executor", ["userns", "runc"])
@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "group"])
def test_signal_ends_the_step_at_once_and_the_build_with_it(
    img: Img, tmp_path: Path, orphans: Orphans, executor: str, signum: signal.Signals, status: int, whole_group: bool
) -> None:
    marker = f"9{os.getpid()}{int(signum)}{int(whole_group)}"
    builder = start_step(img, tmp_path, marker, "--executor", executor)
    (os.killpg if whole_group else os.kill)(builder.pid, signum)
    wait_until(lambda: not running(f"sleep {marker}"), "the step has ended", seconds=AT_ONCE)
    assert builder.wait(AT_ONCE) == status, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert sum(line.startswith("Error: ") for line in log.splitlines()) == 1, log
    orphans.gone(f"sleep {marker}")
    assert img.names() == ["docker.io/library/busybox:latest"]
    assert list((img.state / "run").iterdir()) == []


def test_a_signal_that_the_kernel_gives_to_another_thread_is_heard(img: Img, tmp_path: Path) -> None:
    """It interrupts no wait of the main thread, no more than one that comes right before that begins."""
    marker = f"7{os.getpid()}"
    builder = start_step(img, tmp_path, marker)
    others = [int(task.name) for task in Path(f"/proc/{builder.pid}/task").iterdir() if int(task.name) != builder.pid]
    assert others
    assert ctypes.CDLL(None).tgkill(builder.pid, others[0], signal.SIGTERM) == 0
    assert builder.wait(AT_ONCE) == 143, (tmp_path / "log").read_text()


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process so far; proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
@pytest.mark.parametrize("command", [["build", "-t", "never"], ["build", "--check"]], ids=["build", "check"])
def test_signal_ends_the_planning_of_a_long_file(
    img: Img, tmp_path: Path, command: list[str], signum: signal.Signals, status: int
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    write_context(context, "FROM busybox\n" + "RUN x\n" * 49_000)  # far more than ten seconds
    builder = img.start(*command, context, log=tmp_path / "log")
    wait_until(lambda: processor_seconds(builder.pid) > 1.5 or builder.poll() is not None, "it plans", seconds=60)
    assert builder.poll() is None, (tmp_path / "log").read_text()
    os.kill(builder.pid, signum)
    assert builder.wait(AT_ONCE) == status, (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("executor", ["userns", "runc", "crun"])
def test_killed_build_leaves_no_process_and_no_mount_and_the_next_one_works(
    img: Img, tmp_path: Path, orphans: Orphans, executor: str
) -> None:
    if executor == "crun":
        need("crun")
        img, executor = img.with_environment(IMG_RUNTIME="crun"), "runc"
    marker = f"5{os.getpid()}"
    builder = start_step(img, tmp_path, marker, "--executor", executor)
    builder.kill()
    wait_until(lambda: not running(f"sleep {marker}"), "the step has ended", seconds=AT_ONCE)
    assert builder.wait(10) == -signal.SIGKILL
    orphans.gone(f"sleep {marker}")
    assert str(img.state) not in Path("/proc/self/mountinfo").read_text()
    write_context(tmp_path / "context", "FROM busybox\nRUN echo fine > /fine\n")
    img.build(tmp_path / "context", "--executor", executor).ok()
    assert list((img.state / "run").iterdir()) == []


def test_build_after_a_stopped_one_works_and_uses_what_was_done(img: Img, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    marker = f"8{os.getpid()}"
    write_context(context, f"FROM busybox\nRUN echo done > /done\nRUN [ -e /sys/go ] || sleep {marker}\n")
    builder = img.start("build", "-t", "x", context)
    wait_until(lambda: bool(running(f"sleep {marker}")), "the second step runs")
    builder.send_signal(signal.SIGINT)
    assert builder.wait(10) == 130
    write_context(context, "FROM busybox\nRUN echo done > /done\nRUN true\n")
    assert img.build(context).ok().stderr.count("CACHED") == 1


def test_signal_while_exporting_leaves_no_file(img: Img, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    write_context(context, "FROM busybox\nRUN head -c 200000000 /dev/urandom > /big\n")
    img.build(context, timeout=120).ok()
    dest = tmp_path / "out"
    dest.mkdir()
    saver = img.start("save", "-o", dest / "image.tar", "built")
    wait_until(lambda: any(dest.iterdir()) or saver.poll() is not None, "the archive grows")
    saver.send_signal(signal.SIGTERM)
    assert saver.wait(10) in (143, 0)  # 0: it was faster than us
    left = [path.name for path in dest.iterdir()]
    assert left == (["image.tar"] if saver.returncode == 0 else [])
