"""What runs on a worker of dask: one process for each task. Imported there by its name; no code travels."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Sequence
from typing import Any

from img_core.images.platforms import host_platform
from img_core.linux.line_process import LineProcess
from img_core.spec.text import why
from img_lib_engines.ready import Ready

__all__ = ["READY", "Document", "expect", "get_ready", "perform", "platform", "stop"]

_LOOK = 1.0  #: seconds between two looks at whether a task is still wanted
_RUNNING: dict[str, LineProcess] = {}
_STOPPED: set[str] = set()
_GUARD = threading.Lock()  # of both

#: processes that wait for a task, by the address of their worker (several may be threads of one process) and by their command
READY = Ready()


class Document:
    """The text of a task. dask shows arguments in its logs, and this one may hold secrets."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        """Tell nothing."""
        return "<task>"


def platform() -> str:
    """Return the platform of the worker's machine."""
    return str(host_platform())


def expect(command: Sequence[str], dask_worker: Any) -> None:  # Any: dask says no types
    """Get ready for the next task of this worker, which dask names."""
    get_ready(dask_worker.address, command)


def get_ready(address: str, command: Sequence[str]) -> None:
    """Start *command* for the next task of the worker of this process with that *address*; the task will say if that is not possible."""
    READY.expect((address, *command), _found(command))


def perform(name: str, document: Document, command: Sequence[str], topic: str) -> tuple[int, int, str]:
    """Run *command* on *document*; each line that it prints becomes an event of *topic*.

    Return its status, how many lines it printed, and what it complained of.
    """
    from distributed import get_worker

    worker = get_worker()
    lines = 0

    def tell(line: str) -> None:
        nonlocal lines
        lines += 1
        worker.log_event(topic, line)

    with _GUARD:
        if name in _STOPPED:
            return -15, 0, "it was canceled"
        try:
            process = READY.begun((worker.address, *command), _found(command), document.text, tell)
        except OSError as err:
            return 127, 0, f"`{command[0]}` cannot be started: {why(err)}"
        _RUNNING[name] = process
    threading.Thread(target=_watch, args=(worker, topic, process), daemon=True).start()
    try:
        status = process.wait()
    finally:
        with _GUARD:
            del _RUNNING[name]
    return status, lines, process.complaint


def _watch(worker: Any, key: str, process: LineProcess) -> None:  # Any: dask says no types
    """End *process* when nobody wants the result of the task *key* any more: the client that did was killed, or lost its connection."""
    ended = threading.Event()
    while process.is_running:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            process.stop()
            return
        ended.wait(_LOOK)


def stop(name: str) -> None:
    """End the process of a task, now or as soon as it would begin."""
    with _GUARD:
        _STOPPED.add(name)
        process = _RUNNING.get(name)
    if process is not None:
        process.stop()


def _found(command: Sequence[str]) -> list[str]:
    """Return *command*; ``img`` that is not on the PATH is that of this interpreter."""
    if command[0] == "img" and shutil.which("img") is None:
        return [sys.executable, "-m", "img_core", *command[1:]]
    return list(command)
