"""The client for programs with an event loop."""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from img_core.api._client import Client
from img_core.linux.awaiting import awaited
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
            return await awaited(work, handle.cancel, name="img")

        return call


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
    build_many = _Variant(Client.build_many)
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
