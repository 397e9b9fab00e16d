"""Engines with one thing wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.mutants import Mutant, mutant
from img_core.spec.engine import EngineHandle, EngineTask, EngineWorker
from img_core.spec.errors import ImgError
from img_core.testing.contracts.engine import EngineContract
from img_lib_engines.processes import ProcessEngine

__all__ = ["ENGINES"]

Tell = Callable[[str], None]


def engine(claim: str, **changes: Any) -> Mutant:
    return mutant(EngineContract, ProcessEngine, claim, **changes)


def submitting(change: Callable[[EngineTask, Tell], tuple[EngineTask, Tell]]) -> Callable[..., EngineHandle]:
    """Return a `submit` that hands over something else than it was given."""

    def submit(self: Any, task: EngineTask, tell: Tell) -> EngineHandle:
        return ProcessEngine.submit(self, *change(task, tell))

    return submit


def _twice(self: Any, worker: str, task: EngineTask, tell: Tell, handle: Any) -> None:
    """Start a task again that ended badly."""
    ProcessEngine._run(self, worker, task, tell, handle)
    if handle.error is not None:
        ProcessEngine._run(self, worker, task, lambda _line: None, handle)


def _apart(self: Any, worker: str, task: EngineTask, tell: Tell, handle: Any) -> None:
    """Start who starts it: the worker is nobody's child."""
    made = ProcessEngine._command(self, worker)
    self._command = lambda _worker: [
        "sh",
        "-c",
        'cat > "$0"; "$@" < "$0" & wait',
        f"{self.host.run_directory}/task",
        *made,
    ]
    ProcessEngine._run(self, worker, task, tell, handle)


def _in_a_variable(self: Any, worker: str, task: EngineTask, tell: Tell, handle: Any) -> None:
    os.environ["TASK"] = task.document
    try:
        self.host = replace(self.host, environment={**self.host.environment, "TASK": task.document})
        ProcessEngine._run(self, worker, task, tell, handle)
    finally:
        del os.environ["TASK"]


def _many_lines(self: Any, task: EngineTask, tell: Tell) -> EngineHandle:
    try:
        return ProcessEngine.submit(self, task, tell)
    except ImgError as err:
        raise ImgError(f"it did not work:\n{err.message}") from err


ENGINES = {
    "has no workers": engine("test_it_says", capacity=lambda self: ()),
    "calls two workers alike": engine("test_it_says", capacity=lambda self: (EngineWorker("a", ("linux/amd64",)),) * 2),
    "does not say what its workers run": engine("test_it_says", capacity=lambda self: (EngineWorker("a"),)),
    "loses lines": engine("test_every_line", submit=submitting(lambda task, tell: (task, lambda line: None))),
    "cuts documents": engine(
        "test_a_large",
        submit=submitting(lambda task, tell: (replace(task, document=task.document.replace("ä", "a")), tell)),
    ),
    "puts documents into a variable": engine("test_the_document", _run=_in_a_variable),
    "gives tasks to anybody": engine(
        "test_it_heeds", submit=submitting(lambda task, tell: (replace(task, workers=()), tell))
    ),
    "gives tasks to those that are to be avoided": engine(
        "test_it_heeds", submit=submitting(lambda task, tell: (replace(task, avoid=()), tell))
    ),
    "takes any platform": engine(
        "test_what_nobody", submit=submitting(lambda task, tell: (replace(task, platform=""), tell))
    ),
    "speaks in many lines": engine("test_what_nobody", submit=_many_lines),
    "lets tasks go on without their caller": engine("test_what_runs_for", _run=_apart),
    "does again what ended badly": engine("test_a_task_that_ends", _run=_twice),
}
