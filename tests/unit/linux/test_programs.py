"""Programs that work for a driver, on a host without a zygote; those of a real build are in the tests of git and of exporters."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from img_core.linux.programs import Programs, Running
from img_core.spec.errors import Canceled, HostError, ImgError
from img_core.testing.results import host

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(host(tmp_path))


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_it_gets_our_environment_and_directory_and_its_output_is_kept(programs: Programs, tmp_path: Path) -> None:
    done = programs.run(
        sh("env | grep -v ^_; pwd; cat; echo words >&2"), environment={**ENVIRONMENT, "A": "b"}, directory=str(tmp_path)
    )
    assert done.status == 0
    assert b"A=b" in done.output.splitlines()
    assert os.fsencode(tmp_path) in done.output.splitlines()
    assert not any(line.startswith(b"HOME=") for line in done.output.splitlines())
    assert done.errors == b"words\n"
    done.check()


CASES = {
    "last line": ("echo one >&2; echo two >&2; exit 3", ImgError, "`sh` failed: two"),
    "marked line": ("echo E: one >&2; echo two >&2; exit 3", ImgError, "`sh` failed: E: one"),
    "silent": ("exit 3", ImgError, "`sh` failed: no message"),
    "signal": ("kill -25 $$", ImgError, "`sh` was ended by signal 25: file size limit exceeded"),
    "terminal sequences": (r"printf '\033[31mred\n' >&2; exit 1", ImgError, "`sh` failed: "),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failure_is_one_line(programs: Programs, case: str) -> None:
    script, kind, message = CASES[case]
    with pytest.raises(kind) as caught:
        programs.run(sh(script), environment=ENVIRONMENT, directory="/").check()
    assert caught.value.message.startswith(message)
    assert caught.value.message.isprintable()


def test_a_program_that_does_not_exist_is_a_fault_of_the_host(programs: Programs) -> None:
    with pytest.raises(HostError, match="cannot run `no-such-program`: no-such-program: no such file or directory"):
        programs.run(["no-such-program"], environment=ENVIRONMENT, directory="/").check()


def test_what_it_is_fed_arrives_whole_and_in_order(programs: Programs) -> None:
    parts = [b"a", b"b" * 3_000_000, b"c", b""]
    with programs.start(["sha256sum"], environment=ENVIRONMENT, directory="/", feeds=True) as running:
        for part in parts:
            running.write(part)
        done = running.wait()
    import hashlib

    assert done.output.split()[0].decode() == hashlib.sha256(b"".join(parts)).hexdigest()


def test_who_feeds_a_program_that_ended_hears_why(programs: Programs) -> None:
    def feed(running: Running) -> None:
        while True:
            running.write(b"x" * 100_000)

    command = sh("echo no room >&2; exit 1")
    running = programs.start(command, environment=ENVIRONMENT, directory="/", feeds=True)
    with running, pytest.raises(ImgError, match="`sh` failed: no room"):
        feed(running)


def test_who_waits_may_stop_and_the_program_ends(programs: Programs, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    with programs.start(sh("echo $$ >pid; sleep 1000"), environment=ENVIRONMENT, directory=str(tmp_path)) as running:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
        with pytest.raises(Stopped):
            running.wait(stop)
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))


def test_closing_ends_all_of_them(programs: Programs, tmp_path: Path) -> None:
    ended = []

    def run() -> None:
        try:
            programs.run(sh("touch ready; sleep 1000"), environment=ENVIRONMENT, directory=str(tmp_path))
        except Canceled:
            ended.append(True)

    waiting = threading.Thread(target=run)
    waiting.start()
    wait_for((tmp_path / "ready").exists)
    programs.close()
    waiting.join(30)
    assert ended == [True]
    with pytest.raises(Canceled):
        programs.run(["true"], environment=ENVIRONMENT, directory="/")


def test_no_descriptor_stays_open(programs: Programs) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        programs.run(["true"], environment=ENVIRONMENT, directory="/")
        with programs.start(["cat"], environment=ENVIRONMENT, directory="/", feeds=True) as running:
            running.write(b"x")
    assert len(os.listdir("/proc/self/fd")) == before


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
