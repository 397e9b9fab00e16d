"""Do a few things at the same time, of which the first failure stops all; one part of a stream beside others; and one thing once."""

from __future__ import annotations

from _thread import get_ident  # `threading` is for who works in threads
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from img_core.linux import waiting
from img_core.linux.spans import span
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor
    from queue import Queue
    from threading import Thread
    from types import TracebackType
    from typing import Self

__all__ = ["Answer", "Background", "Company", "Worker", "once", "run_together"]

Made = TypeVar("Made")

_HERE = 512 * 1024  # bytes that a `Worker` consumes in the thread of its caller
_DEPTH = 4  # blocks in flight to it, each of about 1 MiB


class Background:
    """A thread that does one task after the other beside other work. What a task raises is lost. It starts with the first one."""

    def __init__(self) -> None:
        import threading

        self._starting = threading.Lock()
        self._pool: list[Executor] = []

    def add(self, task: Callable[[], object]) -> None:
        """Do *task* when those before it are done."""
        with self._starting:
            if not self._pool:
                from concurrent.futures import ThreadPoolExecutor  # 9 ms; only where there is something to do

                self._pool.append(ThreadPoolExecutor(1, thread_name_prefix="background"))
            self._pool[0].submit(task)

    def end(self) -> None:
        """Wait for the task that is being done, and drop those that were not begun. What is added later begins anew."""
        with self._starting:
            pool, self._pool = self._pool, []
        for one in pool:
            one.shutdown(wait=True, cancel_futures=True)


class Worker:
    """Calls *consume* with each block that was `put`, in order: in a thread of its own once more than half a MiB came.

    `close` waits until everything is consumed. Leaving the ``with`` block by an exception drops what is queued.
    """

    def __init__(self, consume: Callable[[bytes], object], *, name: str) -> None:
        self._consume = consume
        self._name = name
        self._left = _HERE
        self._error: BaseException | None = None
        self._running: tuple[Queue[bytes | None], Thread] | None = None

    def put(self, block: bytes) -> None:
        """Let *block* be consumed; raise what that failed with, now or before."""
        self._raise()
        self._left -= len(block)
        if self._left < 0 and self._running is None:
            self._start()
        if self._running is None:
            self._consume(block)
        else:
            self._running[0].put(block)

    def _start(self) -> None:
        from queue import Queue
        from threading import Thread

        blocks: Queue[bytes | None] = Queue(_DEPTH)
        thread = Thread(target=self._run, args=(blocks,), name=self._name, daemon=True)
        with suppress(RuntimeError):  # "can't start new thread": the caller does it
            thread.start()
            self._running = blocks, thread

    def _run(self, blocks: Queue[bytes | None]) -> None:
        while (block := blocks.get()) is not None:
            if self._error is None:
                try:
                    with span("pipeline", self._name):
                        self._consume(block)
                except BaseException as err:  # raised again by the caller's next call
                    self._error = err

    def close(self) -> None:
        """Wait for the rest; raise what the worker failed with."""
        running, self._running = self._running, None
        if running is not None:
            running[0].put(None)
            running[1].join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        self._error = self._error or error  # the thread only drains from now on
        with suppress(BaseException):  # it is the error
            self.close()


class Company:
    """Work that goes on side by side in several threads, parts of which have to be alone."""

    def __init__(self) -> None:
        import threading

        self._changed = threading.Condition()  # guards the two below
        self._working: set[int] = set()  # threads
        self._alone = False

    @contextmanager
    def together(self, check: Callable[[], None]) -> Iterator[None]:
        """Work beside others in the block, as soon as nobody is alone. *check* is called while waiting; it raises to give up."""
        with self._changed:
            self._wait(lambda: not self._alone, check)
            self._working.add(get_ident())
        try:
            yield
        finally:
            with self._changed:
                self._working.discard(get_ident())
                self._changed.notify_all()

    @contextmanager
    def alone(self, check: Callable[[], None]) -> Iterator[None]:
        """Be the only one who works, also in a block of `together`. Others end theirs first, or wait for their turn to be alone."""
        own = {get_ident()}
        with self._changed:
            beside = self._working & own
            self._working -= own
            self._changed.notify_all()
            try:
                self._wait(lambda: not self._alone and not self._working, check)
            except BaseException:
                self._working |= beside
                raise
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._working |= beside
                self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool], check: Callable[[], None]) -> None:
        while not self._changed.wait_for(ready, timeout=0.1):
            check()


def run_together(tasks: Iterable[Callable[[], object]], *, workers: int, stop: Callable[[], None]) -> None:
    """Run *tasks*, at most *workers* at a time, and wait for all of them.

    When one raises, or a signal interrupts the waiting, the others that did not start are dropped, *stop* is called once to end those
    that wait for something, and the first error is raised when all have ended.
    """
    listed = list(tasks)
    if not listed:
        return
    import threading  # not `concurrent.futures`, which brings the modules of logging along: 10 ms

    pending = iter(enumerate(listed))
    errors: dict[int, BaseException] = {}
    done: list[int] = []
    lock = threading.Lock()  # guards the three above
    ended = threading.Event()  # all is done, or something failed

    def work() -> None:
        while True:
            with lock:
                number, task = (0, None) if ended.is_set() else next(pending, (0, None))
            if task is None:
                return
            try:
                task()
            except BaseException as err:  # raised in the caller
                with lock:
                    errors[number] = err
                ended.set()
            else:
                with lock:
                    done.append(number)
                    if len(done) == len(listed):
                        ended.set()

    threads = [threading.Thread(target=work, name=f"together-{number}") for number in range(min(workers, len(listed)))]
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
    except RuntimeError:  # "can't start new thread": those that run do it
        if not started:
            raise
    try:
        waiting.until_set(ended)
        with lock:
            if errors:  # in the order of the tasks, so that the same failure gives the same message
                raise errors[min(errors)]
    except BaseException:
        ended.set()
        stop()
        raise
    finally:
        for thread in started:
            waiting.join(thread)


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """Return a function that calls *make* the first time only; several threads may ask at once."""
    import threading  # as above

    made: list[Made] = []
    making = threading.Lock()

    def get() -> Made:
        with making:
            if not made:
                made.append(make())
        return made[0]

    return get


class Answer(Generic[Made]):
    """What asking for something gave: asked until there is something, by one at a time, and never again after it failed."""

    def __init__(self) -> None:
        import threading  # as above

        self._asking = threading.Lock()
        self._found: Made | None = None
        self._error: ImgError | None = None

    def get(self, ask: Callable[[], Made | None]) -> Made | None:
        """Return what there is, by *ask* if that is nothing yet. Raises what that raised, now or before."""
        with self._asking:
            if self._error is not None:
                raise self._error
            if self._found is None:
                try:
                    self._found = ask()
                except ImgError as err:
                    self._error = err
                    raise
            return self._found
