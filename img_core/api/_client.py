"""The client: everything that img does, as typed calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from img_core.api._archive_calls import Archives
from img_core.api._building import Building
from img_core.api._cache_calls import CacheCalls
from img_core.api._kept import KeptImages
from img_core.api._registry_calls import RegistryCalls
from img_core.api._space import Space
from img_core.files.turns import taking_turns
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.linux.cancellation import CancelHandle

__all__ = ["Client", "CommandLine"]


@taking_turns(  # what is done in the caller's process, and looks at files of this machine
    "_load enter images image inspect tag remove missing builds logs located archive_exporter logout logins credentials"
)
class Client(Building, KeptImages, RegistryCalls, Archives, Space, CacheCalls):
    """Builds, moves and looks at the images of one state directory.

    .. code-block:: python

        client = Client()
        client.pull("alpine:3.22")
        client.build(".", tags="app:1")
        client.push("app:1", destination="registry.example/app:1")

    *state* is the state directory (default: that of the command line), *no_plugins* names plugins that are not loaded (``kind:name``),
    *plugin_files* are plugins of single files, ``KIND-NAME.py``; *environment* replaces the variables of the process. *notice* gets
    one-line messages for people (default: the logger ``img``).

    Calls may come from several threads at once, and several clients may use one state directory. Whatever takes long, or needs a user
    namespace, is done in a process of its own: a process must have a single thread to enter one, and never leaves it again. With
    *in_process* it is done in this one, as the command line wants it; *cancel* stops only builds then, *trace* gets what only somebody
    reads who looks for a fault, and `close` (or the end of a ``with``) gives back what `enter` took.

    All errors are `ImgError`; whatever a call raises, nothing half-made is left. *on_event* is called with progress events
    (`img_core.spec.progress`) in the order in which they happen, from the thread of the call; if it raises, the work stops and the
    exception comes back. *cancel* stops the call from elsewhere, see `CancelHandle`.
    """


class CommandLine(Protocol):
    """What people said on the command line that a command of a plugin runs in; click's ``pass_obj`` gives it."""

    def client(self) -> Client:
        """Return a client as the flags ask for it, ``-s`` and ``--no-plugin`` for example. Raises UsageError."""
        ...


def perform(
    call: tuple[str, Mapping[str, Any], Mapping[str, Any]],  # Any: plain data
    functions: Mapping[str, Callable[[Any], Any]],
    cancel: CancelHandle,
) -> Any:  # Any: depends on the method
    """Call a method of a client that works in this process: *call* is its name, its arguments, and how the client is configured.

    *functions* are arguments, too, but for ``notice``, which is the client's.
    """
    from img_core.files import rootlock

    method, arguments, configuration = call
    rootlock.share(functions["notice"])  # before a setting is read, like every command
    given = {name: function for name, function in functions.items() if name != "notice"}
    try:
        client = Client(**configuration, notice=functions["notice"], in_process=True)
        return getattr(client, method)(**arguments, **given, cancel=cancel)
    except ImgError:
        raise
    except Exception as err:
        if (failure := _in_words(err)) is None:
            raise
        raise failure from err


def _in_words(err: Exception) -> ImgError | None:
    """Return what *err* means if it is no bug of ours."""
    from img_core.files import fs
    from img_core.linux.exhausted import exhaustion
    from img_core.plugins import blamed

    if isinstance(err, OSError) and err.errno in fs.DISK_ERRORS:
        return fs.disk_error(err, fs.place_of(err, "the state directory or the destination"))
    return exhaustion(err) or blamed(err)
