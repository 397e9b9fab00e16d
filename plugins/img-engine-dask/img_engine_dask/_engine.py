"""Tasks as futures of dask.distributed, what they print as its events.

A worker that is lost takes its task along: dask must not start it again, for img knows better what of it is done.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from typing import Any, ClassVar

from img_core.images.platforms import host_platform
from img_core.spec import EngineHandle, EngineTask, EngineWorker, Host, ImgError
from img_engine_dask import _remote
from img_lib_engines.sharing import TaskEngine, task_schema

__all__ = ["DaskEngine"]

_LOOK = 1.0  #: seconds between two looks at whether a worker still lives
_LATE = 30.0  #: seconds that the last lines of a task may be on their way


class _Handle(EngineHandle):
    def __init__(self, engine: DaskEngine, task: EngineTask, tell: Callable[[str], None]) -> None:
        self.worker = ""
        self.name = task.id
        self.topic = f"img-{task.id}"
        self.future: Any = None  # Any: dask says no types
        self.address = ""
        self.canceled = False
        self._engine = engine
        self._tell = tell
        self._heard = 0
        self._changed = threading.Condition()

    def hear(self, event: tuple[float, Any]) -> None:
        """Take a line; called by dask in its own thread."""
        self._tell(str(event[1]))
        with self._changed:
            self._heard += 1
            self._changed.notify_all()

    def wait(self) -> None:
        """See `EngineHandle.wait`."""
        status, lines, complaint = self._engine.result(self)
        with self._changed:
            complete = self._changed.wait_for(lambda: self._heard >= lines, _LATE)
        if not complete:
            raise ImgError(f"what the task printed on {self.worker} got lost")
        if status and not self.canceled:
            raise ImgError(f"worker {self.worker} ended with status {status}" + (f": {complaint}" if complaint else ""))


class DaskEngine(TaskEngine):
    """Lets the workers of a dask cluster do tasks, or processes of this machine where there is none."""

    name: ClassVar[str] = "dask"
    schema: ClassVar[Mapping[str, Any] | None] = task_schema(  # Any: JSON
        address={
            "type": "string",
            "description": "address of the scheduler, e.g. tcp://head:8786; without it this machine",
        },
        workers={
            "type": "integer",
            "minimum": 1,
            "maximum": 64,
            "description": "how many there are without an address",
        },
        timeout={"type": "number", "minimum": 0, "description": "seconds to wait for the scheduler (10)"},
    )

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(host, options)
        self.is_here = not self.options.get("address")  # type: ignore[misc]  # of this object
        self._opened = ExitStack()
        self._connected: Any = None  # Any: dask says no types
        self._connecting = threading.Lock()
        self._handles: set[_Handle] = set()

    # ------------------------------------------------------------------------------------------------------- connecting

    @property
    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> Any:
        import dask  # it takes half a second to import

        distributed: Any = import_module("distributed")
        address = self.options.get("address")
        settings = {
            "distributed.scheduler.allowed-failures": 0,
            "distributed.admin.log-format": "%(message)s",
            "temporary-directory": self.host.run_directory,  # it goes with us
        }
        self._opened.enter_context(dask.config.set(settings))
        try:
            if not address:
                # Threads, for a task is a process anyway; nothing listens beyond this machine.
                address = self._opened.enter_context(
                    distributed.LocalCluster(
                        n_workers=self.options.get("workers", os.cpu_count() or 1), threads_per_worker=1,
                        processes=False, dashboard_address=None, worker_dashboard_address=None,
                        local_directory=self.host.run_directory, memory_limit=0,
                    )
                )  # fmt: skip
            timeout = self.options.get("timeout", 10)
            return self._opened.enter_context(distributed.Client(address, timeout=timeout, set_as_default=False))
        except (OSError, TimeoutError) as err:
            raise ImgError(
                f"no dask scheduler answers at `{address}`: {str(err) or 'it takes too long'}".split("\n")[0]
            ) from err

    def _workers(self) -> dict[str, EngineWorker]:
        """Return the workers by their addresses."""
        client = self._client
        found: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
        silent = [address for address, worker in found.items() if not _declared(worker)]
        told = {} if self.is_here or not silent else client.run(_remote.platform, workers=silent, on_error="ignore")
        own = str(host_platform())
        return {
            address: EngineWorker(
                str(worker.get("name") if worker.get("name") is not None else address),
                _declared(worker) or (told.get(address, own),),
                int(worker.get("nthreads", 1)),
            )
            for address, worker in found.items()
        }

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what dask raises, such as the OSError of a connection that is lost, into one line that names the scheduler."""
        try:
            yield
        except ImgError:
            raise
        except Exception as err:  # a plugin boundary: dask tells nobody what it may raise
            at = f" at `{self.options['address']}`" if not self.is_here else ""
            reason = (str(err) or type(err).__name__).splitlines()[0]
            raise ImgError(f"the dask scheduler{at} does not answer any more: {reason}") from err

    def capacity(self) -> tuple[EngineWorker, ...]:
        """See `Engine.capacity`."""
        with self._answering():
            return tuple(sorted(self._workers().values(), key=lambda worker: worker.name))

    # ------------------------------------------------------------------------------------------------------------ doing

    def expect(self, workers: Collection[str]) -> None:
        """See `TaskEngine.expect`; what waits on other machines ends by itself. Nobody waits for a worker that does not answer."""
        if self.is_here:
            self._expect(workers)
        else:
            threading.Thread(target=self._expect, args=(workers,), daemon=True).start()

    def _expect(self, workers: Collection[str]) -> None:
        with suppress(Exception):  # of dask: a worker or the scheduler is gone, or older than this; tasks tell
            chosen = [address for address, worker in self._workers().items() if worker.name in workers]
            if not self.is_here and chosen:
                self._client.run(_remote.expect, self._command(), workers=chosen, on_error="ignore")
            for address in chosen if self.is_here else ():
                _remote.get_ready(address, self._command())

    def submit(self, task: EngineTask, tell: Callable[[str], None]) -> EngineHandle:
        """See `Engine.submit`."""
        with self._answering():
            fitting = self._fitting(task)
        if not fitting:
            raise ImgError(f"no worker of dask can do the task for {task.platform or 'any platform'} now")
        handle = _Handle(self, task, tell)
        with self._answering():
            self._client.subscribe_topic(handle.topic, handle.hear)
            document = _remote.Document(task.document)
            handle.future = self._client.submit(
                _remote.perform, task.id, document, self._command(), handle.topic,
                key=handle.topic, workers=fitting, allow_other_workers=False, retries=0, pure=False,
            )  # fmt: skip
        self._handles.add(handle)
        return handle

    def _fitting(self, task: EngineTask) -> list[str]:
        """Return the addresses of the workers that can and may do *task*."""
        return [
            address
            for address, worker in self._workers().items()
            if (not task.platform or task.platform in worker.platforms)
            and (not task.workers or worker.name in task.workers)
            and worker.name not in task.avoid
        ]

    def _command(self) -> list[str]:
        """Return what a worker starts; on this machine with our state, so that nothing has to be moved."""
        if not self.is_here:
            return self.command()
        return self.command(sys.executable, "-P", "-m", "img_core", "-s", self.host.state_directory, "worker", "-")

    def result(self, handle: _Handle) -> tuple[int, int, str]:
        """Wait for a task; return what `_remote.perform` does. Raises ImgError for a worker that was lost."""
        from concurrent.futures import CancelledError

        assert handle.future is not None
        try:
            while True:
                with suppress(TimeoutError):
                    return self._told(handle, handle.future.result(timeout=_LOOK))
                self._look_for(handle)
        except (CancelledError, TimeoutError):
            return -15, 0, ""
        except ImgError:
            raise
        except Exception as err:  # a plugin boundary: KilledWorker, a lost connection, an error on the worker
            raise ImgError(f"worker {handle.worker or 'of dask'} was lost: {type(err).__name__}") from err
        finally:
            self._handles.discard(handle)
            with suppress(Exception):  # the connection is gone
                self._client.unsubscribe_topic(handle.topic)

    def _told(self, handle: _Handle, told: tuple[int, int, str]) -> tuple[int, int, str]:
        if not handle.worker:
            self._look_for(handle, gone_is_an_error=False)
        return told

    def _look_for(self, handle: _Handle, *, gone_is_an_error: bool = True) -> None:
        """Note who has a task. Raises ImgError if nobody has it any more who had it."""
        client, workers = self._client, self._workers()
        having = client.who_has([handle.future]) if not gone_is_an_error else client.processing()
        holders = (
            having.get(handle.topic, ())
            if not gone_is_an_error
            else [address for address, keys in having.items() if handle.topic in keys]
        )
        for address in holders:
            if address in workers:
                handle.address, handle.worker = address, workers[address].name
                return
        if gone_is_an_error and handle.address and handle.address not in workers and handle.future is not None:
            handle.future.cancel()
            raise ImgError(f"worker {handle.worker} is gone")

    def cancel(self, handle: EngineHandle) -> None:
        """See `Engine.cancel`."""
        assert isinstance(handle, _Handle)
        handle.canceled = True
        with suppress(Exception):  # of dask: the connection is gone, and with it all that could be ended
            if handle in self._handles and handle.future is not None:
                self._client.run(_remote.stop, handle.name, on_error="ignore")

    def close(self) -> None:
        """See `Engine.close`."""
        for handle in list(self._handles):
            self.cancel(handle)
        with suppress(Exception):  # of dask, which is going away
            for handle in list(self._handles):
                if handle.future is not None:
                    with suppress(Exception):
                        handle.future.result(timeout=_LATE)
            self._opened.close()
        self._connected = None
        if self.is_here:
            _remote.READY.close()


def _declared(worker: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the platforms among the resources that a worker declares."""
    return tuple(sorted(name for name in worker.get("resources") or {} if "/" in name))
