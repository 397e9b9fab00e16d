"""Processes that wait for a task: who gets them, what becomes of those that nobody takes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from img_core.linux.line_process import WaitingProcess
from img_core.testing.processes import eventually, is_alive
from img_lib_engines import ready as ready_module
from img_lib_engines.ready import Ready

#: Notes its id when it has started, and says it and its text when that is complete.
PROGRAM = """\
import os, sys
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
print(os.getpid(), sys.stdin.read(), flush=True)
"""


@pytest.fixture
def ready() -> Iterator[Ready]:
    made = Ready()
    yield made
    made.close()


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(tmp_path / "started")]


def started(command: list[str], count: int = 1) -> list[int]:
    """Wait until so many processes have started; return their ids."""
    file = Path(command[-1])
    eventually(lambda: file.exists() and file.read_text().count("\n") >= count, "the processes to start")
    return [int(line) for line in file.read_text().split()]


def done(ready: Ready, place: str, command: list[str], text: str) -> tuple[int, str]:
    """Let *place* do *text*; return which process did, and what it got."""
    heard: list[str] = []
    assert ready.begun(place, command, text, heard.append).wait() == 0
    (line,) = heard
    pid, _, got = line.partition(" ")
    return int(pid), got


def test_a_task_goes_to_the_process_that_waits_for_it(ready: Ready, command: list[str]) -> None:
    ready.expect("a", command)
    (pid,) = started(command)
    assert done(ready, "a", command, "one") == (pid, "one")
    again, text = done(ready, "a", command, "two")
    assert again != pid
    assert text == "two"


def test_only_one_waits_at_a_place_and_only_for_that(ready: Ready, command: list[str]) -> None:
    ready.expect("a", command)
    ready.expect("a", command)
    (pid,) = started(command)
    other, _ = done(ready, "b", command, "one")
    assert other != pid
    assert started(command, 2) == [pid, other]


def test_one_that_was_killed_meanwhile_is_another(ready: Ready, command: list[str]) -> None:
    ready.expect("a", command)
    (pid,) = started(command)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not ready._waiting["a"].is_running, "its end to be noticed")
    other, text = done(ready, "a", command, "one")
    assert other != pid
    assert text == "one"


def test_what_cannot_be_started_is_told_by_the_task(ready: Ready, tmp_path: Path) -> None:
    ready.expect("a", [f"{tmp_path}/nothing"])
    with pytest.raises(FileNotFoundError):
        ready.begun("a", [f"{tmp_path}/nothing"], "", lambda _line: None)


def test_closing_leaves_nothing(ready: Ready, command: list[str]) -> None:
    ready.expect("a", command)
    (pid,) = started(command)
    ready.close()
    assert not is_alive(pid)


def test_one_that_nobody_takes_ends(ready: Ready, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_module, "_IDLE", 0.01)
    ready.expect("a", command)
    eventually(lambda: not ready._waiting, "the process to be dropped")


def test_a_process_that_gets_its_text_later_is_like_any_other() -> None:
    heard: list[str] = []
    process = WaitingProcess([sys.executable, "-c", "import sys; print(sys.stdin.read()); sys.exit(3)"])
    process.begin("text", heard.append)
    assert process.wait() == 3
    assert heard == ["text"]
