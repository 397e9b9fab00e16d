"""The other end of a client's call in a process of its own (`img_core.linux.worker`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.linux.cancellation import CancelHandle

__all__ = ["perform"]


def perform(
    call: tuple[str, Mapping[str, Any], Mapping[str, Any]],  # Any: plain data
    functions: Mapping[str, Callable[[Any], Any]],
    cancel: CancelHandle,
) -> Any:  # Any: depends on the method
    """Call a method of a client that works in this process: *call* is its name, its arguments, and how the client is configured.

    *functions* are arguments, too, but for ``notice``, which is the client's.
    """
    from img_core.api._client import Client

    method, arguments, configuration = call
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
