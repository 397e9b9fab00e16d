"""An engine for tests: each worker is a directory of this machine, each task a process ``img worker`` on the state in there.

As a plugin of one file (``engine-processes.py``)::

    from img_lib_engines.processes import engine_plugin
    img_engine = engine_plugin()
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

from img_core.images.platforms import host_platform
from img_core.linux.line_process import LineProcess
from img_core.spec.engine import EngineHandle, EngineTask, EngineWorker
from img_core.spec.errors import ImgError
from img_core.spec.host import Host
from img_lib_engines.ready import Ready
from img_lib_engines.sharing import TaskEngine, task_schema

__all__ = ["ProcessEngine", "engine_plugin"]


class _Handle(EngineHandle):
    def __init__(self) -> None:
        self.worker = ""
        self.process: LineProcess | None = None
        self.canceled = False
        self.ended = threading.Event()
        self.error: ImgError | None = None

    def wait(self) -> None:
        """See `EngineHandle.wait`."""
        self.ended.wait()
        if self.error is not None:
            raise self.error


class ProcessEngine(TaskEngine):
    """Does tasks in processes of this machine, on one state directory per worker."""

    name: ClassVar[str] = "processes"
    is_here: ClassVar[bool] = True
    schema: ClassVar[Mapping[str, Any] | None] = task_schema(  # Any: JSON
        workers={"type": "string", "description": "NAME[=PLATFORM] of each, separated by `;`; by default a;b"},
        states={"type": "string", "description": "the directory that holds a state directory for each worker"},
    )

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(host, options)
        named = str(self.options.get("workers", "a;b")).split(";")
        self._platforms = {item.partition("=")[0]: item.partition("=")[2] or str(host_platform()) for item in named}
        self._free = dict.fromkeys(self._platforms, 1)
        self._changed = threading.Condition()
        self._handles: set[_Handle] = set()
        self._ready = Ready()

    def capacity(self) -> tuple[EngineWorker, ...]:
        """See `Engine.capacity`."""
        return tuple(EngineWorker(name, (platform,)) for name, platform in self._platforms.items())

    def expect(self, workers: Collection[str]) -> None:
        """See `TaskEngine.expect`."""
        for worker in workers:
            self._ready.expect(worker, self._command(worker), self._environment(worker))

    def submit(self, task: EngineTask, tell: Callable[[str], None]) -> EngineHandle:
        """See `Engine.submit`."""
        handle = _Handle()
        if not self._fitting(task):
            raise ImgError(f"no worker can do task `{task.name}` for {task.platform or 'any platform'}")
        with self._changed:
            self._handles.add(handle)
        threading.Thread(target=self._do, args=(task, tell, handle), daemon=True).start()
        return handle

    def cancel(self, handle: EngineHandle) -> None:
        """See `Engine.cancel`."""
        assert isinstance(handle, _Handle)
        with self._changed:
            handle.canceled = True
            process = handle.process
            self._changed.notify_all()
        if process is not None:
            process.stop()

    def close(self) -> None:
        """See `Engine.close`."""
        with self._changed:
            handles = list(self._handles)
        for handle in handles:
            self.cancel(handle)
        for handle in handles:
            handle.ended.wait()
        self._ready.close()

    def _fitting(self, task: EngineTask) -> list[str]:
        return [
            name
            for name, platform in self._platforms.items()
            if task.platform in ("", platform) and (not task.workers or name in task.workers) and name not in task.avoid
        ]

    def _do(self, task: EngineTask, tell: Callable[[str], None], handle: _Handle) -> None:
        worker = self._taken(task, handle)
        try:
            if worker:
                self._run(worker, task, tell, handle)
        except OSError as err:
            handle.error = ImgError(f"worker {worker} cannot be started: {err.strerror}")
        finally:
            with self._changed:
                if worker:
                    self._free[worker] += 1
                self._handles.discard(handle)
                self._changed.notify_all()
            handle.ended.set()

    def _taken(self, task: EngineTask, handle: _Handle) -> str:
        """Wait for a free worker and take it; nothing for a task that was canceled."""
        fitting = self._fitting(task)
        with self._changed:
            while not handle.canceled:
                for name in fitting:
                    if self._free[name]:
                        self._free[name] -= 1
                        handle.worker = name
                        return name
                self._changed.wait()
        return ""

    def _run(self, worker: str, task: EngineTask, tell: Callable[[str], None], handle: _Handle) -> None:
        process = self._ready.begun(worker, self._command(worker), task.document, tell, self._environment(worker))
        with self._changed:
            handle.process = process
            canceled = handle.canceled
        if canceled:
            process.stop()
        status = process.wait()
        if status and not handle.canceled:
            told = process.complaint
            handle.error = ImgError(f"worker {worker} ended with status {status}" + (f": {told}" if told else ""))

    def _environment(self, worker: str) -> dict[str, str]:
        return {**self.host.environment, "IMG_TEST_WORKER": worker}

    def _command(self, worker: str) -> list[str]:
        state = os.path.join(str(self.options.get("states") or self.host.state_directory + "-workers"), worker)
        path = [os.path.abspath(item) for item in sys.path]
        program = f"import sys; sys.path[:] = {path!r}; from img_core.cli import main; sys.exit(main())"
        return self.command(sys.executable, "-c", program, "-s", state, "worker", "-")


def engine_plugin() -> Callable[[], type[TaskEngine]]:
    """Return what a module of a plugin calls ``img_engine``."""
    from img_core.spec.hooks import hookimpl

    def img_engine() -> type[TaskEngine]:
        return ProcessEngine

    marked: Callable[[], type[TaskEngine]] = hookimpl(img_engine)
    return marked
