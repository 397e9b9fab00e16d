"""Several commands at once on one state directory: all succeed, equal work is done once, and nobody waits for a stranger."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.img import Img, write_context
from harness.processes import executing, running, wait_until

pytestmark = pytest.mark.rootless


def start(
    img: Img, directory: Path, dockerfile: str, tag: str, files: dict[str, bytes | str] | None = None
) -> subprocess.Popen[bytes]:
    directory.mkdir()
    write_context(directory, dockerfile, files)
    return img.start("build", "-t", tag, directory, log=directory.with_suffix(".log"))


def finish(builder: subprocess.Popen[bytes], directory: Path) -> str:
    builder.wait(120)
    log = directory.with_suffix(".log").read_text()
    assert builder.returncode == 0, log
    return log


def test_equal_builds_at_once_do_equal_work_once(img: Img, tmp_path: Path) -> None:
    """The step's output tells its run: all images must have the same one."""
    dockerfile = "FROM busybox\nRUN sleep 0.7; head -c 16 /dev/urandom | sha256sum > /once\nCOPY a /a\nRUN cat /a /once > /both\n"
    names = [f"same{number}" for number in range(4)]
    builders = {name: start(img, tmp_path / name, dockerfile, name, {"a": "a"}) for name in names}
    logs = [finish(builder, tmp_path / name) for name, builder in builders.items()]
    configs = {img.run("inspect", name).ok().text.split('"diff_ids"')[1] for name in names}
    assert len(configs) == 1
    assert sum(log.count("CACHED") for log in logs) == 3 * (len(names) - 1), "\n".join(logs)


def test_different_builds_at_once_all_succeed(img: Img, tmp_path: Path) -> None:
    names = [f"other{number}" for number in range(5)]
    builders = {}
    for name in names:
        text = f"FROM busybox\nRUN echo {name} > /name\nRUN sleep 0.2; cp /name /copy\nCOPY a /a\n"
        builders[name] = start(img, tmp_path / name, text, name, {"a": name})
    for name, builder in builders.items():
        finish(builder, tmp_path / name)
    assert len({img.digest(name) for name in names}) == len(names)
    for name in names:
        rebuilt = img.build(tmp_path / name, tag=name).ok()
        assert rebuilt.stderr.count("CACHED") == 3, rebuilt.stderr


def test_nothing_waits_for_a_running_build(img: Img, tmp_path: Path) -> None:
    marker = "60.1357911"
    long = start(img, tmp_path / "long", f"FROM busybox\nRUN sleep {marker}\n", "long")
    try:
        wait_until(lambda: bool(running(f"sleep {marker}")), "the long step runs")
        assert img.names() == ["docker.io/library/busybox:latest"]
        short = tmp_path / "short"
        short.mkdir()
        img.build(write_context(short, "FROM busybox\nRUN echo hi > /hi\n"), tag="short").ok()
        img.run("tag", "short", "shorter").ok()
        img.run("save", "-o", tmp_path / "short.tar", "short").ok()
        img.run("rm", "short").ok()
        assert running(f"sleep {marker}"), "the long step still runs"
    finally:
        long.terminate()
        long.wait(10)


def test_image_removed_while_another_build_uses_it_does_not_break_that_build(img: Img, tmp_path: Path) -> None:
    marker = "1.8642"
    builder = start(
        img, tmp_path / "user", f"FROM busybox\nRUN sleep {marker}\nCOPY a /a\nRUN cat /a\n", "user", {"a": "a"}
    )
    wait_until(lambda: bool(running(f"sleep {marker}")), "the step runs")
    img.run("rm", "busybox").ok()
    finish(builder, tmp_path / "user")
    assert img.names() == ["docker.io/library/user:latest"]
    img.run("save", "-o", tmp_path / "user.tar", "user").ok()


def test_waiting_build_goes_on_when_the_working_one_is_killed(img: Img, tmp_path: Path) -> None:
    """Its lock dies with it; the half-made step is made again."""
    marker = f"297{os.getpid()}"
    # Whoever comes first does not come to an end by itself, however long the other one takes to start.
    step = f"--mount=type=cache,target=/tries if mkdir /tries/first; then exec sleep {marker}; fi; echo ok > /ok"
    first = start(img, tmp_path / "first", f"FROM busybox\nRUN {step}\n", "first")
    wait_until(lambda: bool(executing("sleep", marker)), "the first build works")
    second = start(img, tmp_path / "second", f"FROM busybox\nRUN {step}\n", "second")
    wait_until(lambda: "2/2" in (tmp_path / "second.log").read_text(), "the second build waits")
    assert executing("sleep", marker)
    assert second.poll() is None
    first.kill()
    first.wait()
    finish(second, tmp_path / "second")
    assert img.names() == ["docker.io/library/busybox:latest", "docker.io/library/second:latest"]


@pytest.mark.parametrize("executor", ["userns", "runc"])
def test_first_steps_of_many_stages_start_at_once(img: Img, tmp_path: Path, executor: str) -> None:
    """They share files such as /etc/hosts, which must stay what the first of them opened."""
    stages = [f"FROM busybox AS s{number}\nRUN cat /etc/hosts /etc/resolv.conf > /hosts{number}" for number in range(6)]
    copies = [f"COPY --from=s{number} /hosts{number} /" for number in range(6)]
    context = tmp_path / "context"
    context.mkdir()
    write_context(context, "\n".join([*stages, "FROM busybox", *copies]) + "\n")
    for _ in range(4):
        img.build(context, "--no-cache", "--executor", executor, "--max-parallelism", "6").ok()
