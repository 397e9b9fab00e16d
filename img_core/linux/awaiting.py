"""What takes long, done in a thread for programs with an event loop, and stopped when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from img_core.linux.cancellation import CancelHandle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Awaitable", "awaited"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Awaitable(Generic[Arguments, Result]):
    """A method of a class whose calls block, as a coroutine method of another one with the same arguments.

    That one has the object whose method it is as *waited_for*. If the method takes a `CancelHandle` as ``cancel``, canceling the task
    stops it.
    """

    def __init__(self, method: Callable[Concatenate[Any, Arguments], Result]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, owner: Any, kind: type) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
        async def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
            given: dict[str, Any] = dict(named)
            handle: CancelHandle = given.pop("cancel", None) or CancelHandle()
            stop = {"cancel": handle} if "cancel" in signature(self._method).parameters else {}
            work: Callable[[], Result] = partial(self._method, owner.waited_for, *arguments, **given, **stop)  # type: ignore[arg-type]
            return await awaited(work, handle.cancel, name="img")

        return call


async def awaited(work: Callable[[], Result], stop: Callable[[], None], *, name: str) -> Result:
    """Return what *work* does in a thread *name* of its own. If the task is canceled, *stop* stops the work, and its end is awaited."""
    future: Future[Result] = Future()
    # Not the loop's own executor: a few calls would hold up everybody else who uses that.
    threading.Thread(target=_settle, args=(future, work), name=name, daemon=True).start()
    waiting = asyncio.wrap_future(future)
    canceled: asyncio.CancelledError | None = None
    while not waiting.done():
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError as err:
            canceled = err
            stop()
    if canceled is not None:
        waiting.exception()  # it was heard
        raise canceled
    return waiting.result()


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as err:  # surfaces in the task that waits
        future.set_exception(err)
