"""Methods that wait while a step of another process has the files of an image in ``/`` (`rootlock`)."""

from __future__ import annotations

import os
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.linux.cancellation import CancelHandle
    from img_core.linux.worker import WorkerCall

__all__ = ["in_turn", "run_apart", "taking_turns"]


class _Noticing(Protocol):
    _notice: Callable[[str], None]  #: told if it has to wait


Owner = TypeVar("Owner", bound=_Noticing)
Kind = TypeVar("Kind", bound=type[Any])  # Any: the methods are told by their names
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_turn(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """Let *method* share the root directory with other commands while it runs, see `rootlock.sharing`."""

    @wraps(method)
    def call(self: Owner, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        if not os.path.isdir("/.img"):  # `rootlock.HOME`, without the import of what only such an image needs
            return method(self, *arguments, **named)
        from img_core.files.rootlock import sharing

        with sharing(self._notice):
            return method(self, *arguments, **named)

    return call


def taking_turns(names: str) -> Callable[[Kind], Kind]:
    """Let the methods *names* (with spaces between) of a class, its own and inherited ones, be `in_turn`."""

    def change(kind: Kind) -> Kind:
        for name in names.split():
            setattr(kind, name, in_turn(getattr(kind, name)))
        return kind

    return change


def run_apart(
    call: WorkerCall, functions: Mapping[str, Callable[[Any], Any]], cancel: CancelHandle
) -> Any:  # Any: a result
    """Do *call* in a worker, see `run_in_worker`; what that asks of this thread waits for no step, for it may be the worker's."""
    from img_core.files.rootlock import serving
    from img_core.linux.worker import run_in_worker

    with serving():
        return run_in_worker(call, functions, cancel)
