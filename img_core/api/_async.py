"""The client for programs with an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.api._client import Client
from img_core.linux.awaiting import Awaitable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.api._given import StrPath, Words

__all__ = ["AsyncClient"]


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
        #: whose methods are called, see `Awaitable`
        self.waited_for = Client(
            state=state, no_plugins=no_plugins, plugin_files=plugin_files, environment=environment, notice=notice
        )

    build = Awaitable(Client.build)
    build_many = Awaitable(Client.build_many)
    check = Awaitable(Client.check)
    outline = Awaitable(Client.outline)
    targets = Awaitable(Client.targets)
    lock = Awaitable(Client.lock)
    handed_out = Awaitable(Client.handed_out)
    workers = Awaitable(Client.workers)
    work = Awaitable(Client.work)
    builds = Awaitable(Client.builds)
    logs = Awaitable(Client.logs)
    images = Awaitable(Client.images)
    image = Awaitable(Client.image)
    inspect = Awaitable(Client.inspect)
    history = Awaitable(Client.history)
    tag = Awaitable(Client.tag)
    remove = Awaitable(Client.remove)
    missing = Awaitable(Client.missing)
    complete = Awaitable(Client.complete)
    pull = Awaitable(Client.pull)
    push = Awaitable(Client.push)
    login = Awaitable(Client.login)
    logout = Awaitable(Client.logout)
    logins = Awaitable(Client.logins)
    credentials = Awaitable(Client.credentials)
    save = Awaitable(Client.save)
    load = Awaitable(Client.load)
    import_rootfs = Awaitable(Client.import_rootfs)
    unpack = Awaitable(Client.unpack)
    usage = Awaitable(Client.usage)
    fsck = Awaitable(Client.fsck)
    prune = Awaitable(Client.prune)
    prune_images = Awaitable(Client.prune_images)
    cache_contents = Awaitable(Client.cache_contents)
    prune_cache = Awaitable(Client.prune_cache)
