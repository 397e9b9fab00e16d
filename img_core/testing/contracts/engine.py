"""What every engine promises. Subclass `EngineContract` and name the class::

    class TestMine(EngineContract):
        engine_class = MyEngine
        options = {"address": "…"}

Nothing is built: the option ``command`` lets workers, which have to be on this machine, run a small program instead of ``img worker``.
"""

# ruff: noqa: D102, PT017 - a test's name is its claim
from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from img_core.plugins._making import construct
from img_core.spec.engine import Engine, EngineHandle, EngineTask, EngineWorker
from img_core.spec.errors import ImgError
from img_core.spec.host import Host
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.processes import eventually, is_alive, kill_when_told

__all__ = ["EngineContract"]

_SECONDS = 60.0  #: that anything may take on a busy machine
_SOON = 15.0  #: in which a killed caller is noticed

#: What workers run: it does what the document says, step by step.
_PROGRAM = """\
import hashlib, json, os, signal, sys, time
text = sys.stdin.buffer.read()
for verb, value in json.loads(text)["do"]:
    if verb == "say":
        print(value, flush=True)
    elif verb == "digest":
        print(hashlib.sha256(text).hexdigest(), flush=True)
    elif verb == "note":
        with open(value, "a") as file:
            file.write(f"{os.getpid()}\\n")
    elif verb == "await":
        deadline = time.monotonic() + 120
        while not os.path.exists(value) and time.monotonic() < deadline:
            time.sleep(0.01)
    elif verb == "exit":
        sys.exit(value)
    elif verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "words":
        print(value in open("/proc/self/cmdline").read() + open("/proc/self/environ").read(), flush=True)
"""


class EngineContract(DriverContract):
    """The promises of `img_core.spec.Engine`, each as a test."""

    kind = "engine"
    holder = "engine_class"
    engine_class: ClassVar[type[Engine]]

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        """Give the engine, whose workers run the small program."""
        made = self.make(tmp_path)
        yield made
        made.close()

    def make(self, directory: Path) -> Engine:
        """Return an engine with its state in *directory*."""
        program = directory / "worker.py"
        program.write_text(_PROGRAM)
        for name in ("state", "run"):
            (directory / name).mkdir()
        host = Host("none", str(directory / "state"), str(directory / "run"), environment=dict(os.environ))
        options = {**self.options, "command": f"{sys.executable} {program}"}
        made: Engine = construct(self.kind, self.driver, (host,), options)
        return made

    @pytest.fixture
    def workers(self, engine: Engine) -> tuple[EngineWorker, ...]:
        return engine.capacity()

    def test_it_says_who_does_what(self, workers: tuple[EngineWorker, ...]) -> None:
        assert workers
        assert len({worker.name for worker in workers}) == len(workers)
        assert all(worker.name and worker.platforms and worker.slots >= 1 for worker in workers)
        assert all("/" in platform for worker in workers for platform in worker.platforms)

    def test_every_line_is_told_in_order_before_waiting_ends(self, engine: Engine, workers: Any) -> None:
        lines = [json.dumps({"n": n}) for n in range(500)]
        heard, handle = submit(engine, [["say", line] for line in lines])
        wait(handle)
        assert heard == lines
        assert handle.worker in {worker.name for worker in workers}

    def test_lines_are_told_while_the_task_runs(self, engine: Engine, tmp_path: Path) -> None:
        heard, handle = submit(engine, [["say", "begun"], ["await", str(tmp_path / "go")]])
        eventually(lambda: heard == ["begun"], "the first line")
        (tmp_path / "go").touch()
        wait(handle)

    def test_a_large_document_arrives_as_it_is(self, engine: Engine) -> None:
        document = json.dumps({"do": [["digest", 0]], "rest": "ä\n\0" * 400_000}, ensure_ascii=False)
        heard, handle = submit(engine, document=document)
        wait(handle)
        assert heard == [hashlib.sha256(document.encode()).hexdigest()]

    def test_the_document_is_in_no_command_line_and_in_no_variable(self, engine: Engine) -> None:
        secret = uuid.uuid4().hex
        heard, handle = submit(engine, [["words", secret]])
        wait(handle)
        assert heard == ["False"]
        assert secret not in repr(EngineTask("id", secret))

    def test_as_many_tasks_run_at_the_same_time_as_there_are_slots(
        self, engine: Engine, workers: tuple[EngineWorker, ...], tmp_path: Path
    ) -> None:
        count = min(2, sum(worker.slots for worker in workers))
        files = [str(tmp_path / f"runs-{number}") for number in range(count)]
        others: list[list[Any]] = [["await", file] for file in files]
        started = [submit(engine, [["note", file], *others]) for file in files]
        for _, handle in started:
            wait(handle)
        assert all(os.path.exists(file) for file in files)

    def test_it_heeds_who_is_wanted_and_who_is_not(self, engine: Engine, workers: tuple[EngineWorker, ...]) -> None:
        for worker in workers[:2]:
            _, handle = submit(engine, [], workers=(worker.name,))
            wait(handle)
            assert handle.worker == worker.name
        if len(workers) > 1:
            _, handle = submit(engine, [], avoid=(workers[0].name,))
            wait(handle)
            assert handle.worker != workers[0].name

    @pytest.mark.parametrize("wrong", [{"platform": "plan9/mips"}, {"workers": ("nobody-is-called-so",)}])
    def test_what_nobody_can_do_is_an_error_of_one_line(self, engine: Engine, wrong: dict[str, Any]) -> None:
        with pytest.raises(ImgError) as caught:
            wait(submit(engine, [["say", "done"]], **wrong)[1])
        assert "\n" not in caught.value.message

    @pytest.mark.parametrize("end", [["exit", 3], ["die", 0]], ids=["a-status", "a-signal"])
    def test_a_task_that_ends_badly_ends_alone_and_runs_once(
        self, engine: Engine, tmp_path: Path, end: list[Any]
    ) -> None:
        ran = tmp_path / "ran"
        lines = [f"{number} " + "so far" * 100 for number in range(500)]
        heard, handle = submit(engine, [["note", str(ran)], *(["say", line] for line in lines), end])
        try:
            wait(handle)
        except ImgError as err:
            assert "\n" not in err.message
        assert heard == lines
        assert len(ran.read_text().splitlines()) == 1
        after, other = submit(engine, [["say", "goes on"]])
        wait(other)
        assert after == ["goes on"]

    def test_canceling_ends_the_process_and_the_waiting(self, engine: Engine, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        _, handle = submit(engine, [["note", str(ran)], ["await", str(tmp_path / "never")]])
        eventually(lambda: ran.exists() and ran.read_text().endswith("\n"), "the task to begin")
        engine.cancel(handle)
        engine.cancel(handle)
        quietly_wait(handle)
        eventually(lambda: not is_alive(int(ran.read_text())), "the process to end")

    def test_canceling_what_has_ended_is_harmless(self, engine: Engine) -> None:
        _, handle = submit(engine, [])
        wait(handle)
        engine.cancel(handle)
        wait(submit(engine, [])[1])

    def test_closing_leaves_nothing_running(self, engine: Engine, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        _, handle = submit(engine, [["note", str(ran)], ["await", str(tmp_path / "never")]])
        eventually(lambda: ran.exists() and ran.read_text().endswith("\n"), "the task to begin")
        engine.close()
        quietly_wait(handle)
        eventually(lambda: not is_alive(int(ran.read_text())), "the process to end")

    def test_what_runs_for_a_caller_who_was_killed_ends(self, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        (tmp_path / "caller").mkdir()

        def call(reached: Callable[[], None]) -> None:
            made = self.make(tmp_path / "caller")
            submit(made, [["note", str(ran)], ["await", str(tmp_path / "never")]])
            eventually(lambda: ran.exists() and ran.read_text().endswith("\n"), "the task to begin")
            reached()

        kill_when_told(call)
        eventually(lambda: not is_alive(int(ran.read_text())), "the process to end", _SOON)


def submit(
    engine: Engine, do: list[list[Any]] | None = None, *, document: str = "", **more: Any
) -> tuple[list[str], EngineHandle]:
    """Hand over what the small program is to do; return the lines that will be told, and the handle."""
    heard: list[str] = []
    text = document or json.dumps({"do": do or []})
    return heard, engine.submit(EngineTask(uuid.uuid4().hex, text, "task", **more), heard.append)


def wait(handle: EngineHandle) -> None:
    """Wait for the end of a task, not for ever."""
    raised: list[BaseException] = []

    def wait_for_it() -> None:
        try:
            handle.wait()
        except BaseException as err:
            raised.append(err)

    thread = threading.Thread(target=wait_for_it, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    assert not thread.is_alive(), f"the task did not end within {_SECONDS:g} s"
    if raised:
        raise raised[0]


def quietly_wait(handle: EngineHandle) -> None:
    """Wait for the end of a task, however it ends."""
    try:
        wait(handle)
    except ImgError:
        pass
