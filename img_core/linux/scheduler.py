"""Evaluates a graph in threads: inputs first, independent vertices at the same time, each vertex once."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from img_core.linux import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from img_core.linux.cancellation import Cancellation

__all__ = ["Scheduler"]


class Node(Protocol):
    """A vertex of the graph, known by its digest."""

    @property
    def digest(self) -> str:
        """What equal vertices have in common."""

    @property
    def inputs(self) -> Sequence[Any]:
        """The vertices that come first. Any: of the same class."""


Vertex = TypeVar("Vertex", bound=Node)
Result = TypeVar("Result")


class Scheduler(Generic[Vertex, Result]):
    """Calls ``evaluate(vertex, results of its inputs)`` for every vertex below some roots, in at most *workers* threads.

    The first failure stops the rest: *cancellation* is set, running evaluations are awaited, and the failure is raised in the caller. One
    that is *gentle* lets running evaluations end by themselves.
    """

    def __init__(
        self,
        evaluate: Callable[[Vertex, Sequence[Result]], Result],
        cancellation: Cancellation,
        *,
        workers: int,
        gentle: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._evaluate = evaluate
        self._cancellation = cancellation
        self._workers = workers
        self._gentle = gentle
        self._changed = threading.Condition()
        self._vertices: dict[str, Vertex] = {}
        self._waiting: dict[str, int] = {}
        self._users: dict[str, list[str]] = {}
        self._ready: deque[str] = deque()
        self._results: dict[str, Result] = {}
        self._failure: BaseException | None = None
        self._running = 0

    def run(self, roots: Iterable[Vertex]) -> dict[str, Result]:
        """Evaluate everything below *roots*; return the results by vertex digest."""
        for root in roots:
            self._add(root)
        count = min(self._workers, len(self._vertices))
        for thread in self._started(count):
            waiting.join(thread)
        if self._failure is not None:
            raise self._failure
        self._cancellation.check()
        return self._results

    def _started(self, count: int) -> list[threading.Thread]:
        """Start *count* threads, or as many as a limit of the process allows; without a single one it is an error."""
        threads: list[threading.Thread] = []
        for number in range(count):
            thread = threading.Thread(target=self._work, name=f"solver-{number}")
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread"
                if not threads:
                    raise
                break
            threads.append(thread)
        return threads

    def _add(self, root: Vertex) -> None:
        pending = [root]  # a stack of our own: Dockerfiles may be longer than Python's recursion limit
        while pending:
            vertex = pending.pop()
            if vertex.digest in self._vertices:
                continue
            self._vertices[vertex.digest] = vertex
            inputs = {item.digest for item in vertex.inputs}
            self._waiting[vertex.digest] = len(inputs)
            for digest in inputs:
                self._users.setdefault(digest, []).append(vertex.digest)
            if not inputs:
                self._ready.append(vertex.digest)
            pending.extend(reversed(vertex.inputs))

    def _work(self) -> None:
        while (vertex := self._next()) is not None:
            try:
                self._cancellation.check()
                result = self._evaluate(vertex, [self._results[item.digest] for item in vertex.inputs])
            except BaseException as err:  # carried to the caller
                self._fail(err)
            else:
                self._finish(vertex, result)

    def _next(self) -> Vertex | None:
        with self._changed:
            while not self._ready and self._running and self._failure is None:
                self._changed.wait()
            if self._failure is not None or not self._ready:
                return None
            self._running += 1
            return self._vertices[self._ready.popleft()]

    def _finish(self, vertex: Vertex, result: Result) -> None:
        with self._changed:
            self._results[vertex.digest] = result
            self._running -= 1
            for user in self._users.get(vertex.digest, ()):
                self._waiting[user] -= 1
                if self._waiting[user] == 0:
                    self._ready.append(user)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._running -= 1
            if self._failure is None:
                self._failure = error
                if not isinstance(error, self._gentle):
                    self._cancellation.cancel()
            elif isinstance(self._failure, self._gentle) and not isinstance(error, self._gentle):
                self._failure = error
            self._changed.notify_all()
