"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from img_core.api._client import Client
from img_core.linux.cancellation import CancelHandle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from img_core.api._given import StrPath, Words

__all__ = ["AsyncClient"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Variant(Generic[Arguments, Result]):
    """A method of `Client` as a coroutine method with the same arguments."""

    def __init__(self, method: Callable[Concatenate[Client, Arguments], Result]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, owner: AsyncClient, kind: type) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
        async def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
            given: dict[str, Any] = dict(named)
            handle: CancelHandle = given.pop("cancel", None) or CancelHandle()
            stop = {"cancel": handle} if "cancel" in signature(self._method).parameters else {}
            work: Callable[[], Result] = partial(self._method, owner._client, *arguments, **given, **stop)  # type: ignore[arg-type]  # noqa: SLF001
            return await _awaited(work, handle)

        return call


async def _awaited(work: Callable[[], Result], handle: CancelHandle) -> Result:
    """Return what *work* does in a thread of its own. If the task is canceled, *handle* stops the work, and its end is awaited."""
    future: Future[Result] = Future()
    # Not the loop's own executor: a few builds would hold up everybody else who uses that.
    threading.Thread(target=_settle, args=(future, work), name="img", daemon=True).start()
    waiting = asyncio.wrap_future(future)
    canceled: asyncio.CancelledError | None = None
    while not waiting.done():
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError as err:
            canceled = err
            handle.cancel()
    if canceled is not None:
        waiting.exception()  # it was heard
        raise canceled
    return waiting.result()


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as err:  # surfaces in the task that waits
        future.set_exception(err)


class AsyncClient:
    """`Client` for programs with an event loop: the same methods, arguments, results and errors, as coroutines.

    .. code-block:: python

        client = AsyncClient()
        await asyncio.gather(client.build("a", tags="a"), client.build("b", tags="b"))

    The loop is never held up. Cancelling the task stops the work; the task ends when nothing of it is left. *on_event* and *matching*
    are called in a thread of the call: ``loop.call_soon_threadsafe`` hands things to the loop.
    """

    def __init__(
        self,
        *,
        state: StrPath | None = None,
        no_plugins: Words = (),
        plugin_files: Words = (),
        environment: Mapping[str, str] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self._client = Client(
            state=state, no_plugins=no_plugins, plugin_files=plugin_files, environment=environment, notice=notice
        )

    build = _Variant(Client.build)
    check = _Variant(Client.check)
    outline = _Variant(Client.outline)
    targets = _Variant(Client.targets)
    lock = _Variant(Client.lock)
    handed_out = _Variant(Client.handed_out)
    workers = _Variant(Client.workers)
    work = _Variant(Client.work)
    builds = _Variant(Client.builds)
    logs = _Variant(Client.logs)
    images = _Variant(Client.images)
    image = _Variant(Client.image)
    inspect = _Variant(Client.inspect)
    history = _Variant(Client.history)
    tag = _Variant(Client.tag)
    remove = _Variant(Client.remove)
    missing = _Variant(Client.missing)
    complete = _Variant(Client.complete)
    pull = _Variant(Client.pull)
    push = _Variant(Client.push)
    login = _Variant(Client.login)
    logout = _Variant(Client.logout)
    logins = _Variant(Client.logins)
    credentials = _Variant(Client.credentials)
    save = _Variant(Client.save)
    load = _Variant(Client.load)
    import_rootfs = _Variant(Client.import_rootfs)
    unpack = _Variant(Client.unpack)
    usage = _Variant(Client.usage)
    fsck = _Variant(Client.fsck)
    prune = _Variant(Client.prune)
    prune_images = _Variant(Client.prune_images)
    cache_contents = _Variant(Client.cache_contents)
    prune_cache = _Variant(Client.prune_cache)
