"""Running pyfuse3 without an event loop.

Nothing here ever waits for anything but the next request, so instead of polling and switching tasks the one task simply blocks in
read(2). That makes a request twice as fast. pyfuse3 lets its event loop be replaced, as its own `pyfuse3.asyncio` does; this is the
smallest one there can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_snapshotter_fuse._relay import Disconnected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from img_snapshotter_fuse._relay import Relay

__all__ = ["run"]


class _Always:
    """A lock that nobody else wants, and a group of tasks that run one after the other."""

    def __init__(self) -> None:
        self._waiting: list[Coroutine[Any, Any, Any]] = []

    async def __aenter__(self) -> _Always:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        while self._waiting:
            await self._waiting.pop(0)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any, name: str = "") -> None:
        self._waiting.append(function(*arguments))


class _Task:
    name = "img"


class _LowLevel:
    """What pyfuse3 uses of ``trio.lowlevel``."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def current_task(self) -> _Task:
        """Return the only task."""
        return _Task()

    def current_trio_token(self) -> None:
        """There is none."""

    async def wait_readable(self, _fd: int) -> None:
        """Return when there is a request for pyfuse3. Raises Disconnected."""
        self._relay.pass_on()

    def notify_closing(self, _fd: int) -> None:
        """Nobody waits."""


class _BlockingLoop:
    """What pyfuse3 uses of trio."""

    Lock = _Always
    open_nursery = _Always
    ClosedResourceError = Disconnected

    def __init__(self, relay: Relay) -> None:
        self.lowlevel = _LowLevel(relay)


def run(pyfuse3: Any, relay: Relay) -> None:  # Any: the module has no types
    """Answer requests until the file system is gone."""
    pyfuse3.trio = _BlockingLoop(relay)
    main = pyfuse3.main(min_tasks=1, max_tasks=1)
    try:
        main.send(None)
    except StopIteration:
        return
    raise RuntimeError("pyfuse3 waits for something else than a request")
