"""Calling listeners: through pluggy, and so that the failure of one that only observes reaches neither the others nor the build."""

from __future__ import annotations

import threading
from functools import wraps
from typing import TYPE_CHECKING, Any

from img_core.plugins._discovery import describe_failure
from img_core.spec.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pluggy import HookRelay

__all__ = ["ListenerFailure", "Notice", "notify", "shielded"]


class ListenerFailure(PluginError):
    """The *listener* (``listener:name of distribution version``) raised when it was told something."""

    def __init__(self, listener: str, hook: str, err: Exception) -> None:
        name = listener.partition(" ")[0]
        super().__init__(
            f"plugin {listener} failed: {describe_failure(err)} (in `{hook}`)", hint=f"do without: `--no-plugin {name}`"
        )
        self.listener = listener


class Notice:
    """Something that observers are told: *listener* is called right now, *failures* are of those that were."""

    def __init__(self) -> None:
        self.listener = ""
        self.failures: list[ListenerFailure] = []

    def tell(self, relay: HookRelay, hook: str, values: dict[str, object]) -> None:
        """Call *hook* of all listeners."""
        outer, _here.notice = _current(), self
        try:
            getattr(relay, hook)(**values)
        finally:
            _here.notice = outer


_here = (
    threading.local()
)  #: ``notice``: what this thread tells observers; without one, failures are raised as pluggy does


def _current() -> Notice | None:
    notice: Notice | None = getattr(_here, "notice", None)
    return notice


def notify(relay: HookRelay, hook: str, /, **values: object) -> list[ListenerFailure]:
    """Call an observing hook (`img_event`, `img_step_finished`) of every listener; return the failures instead of raising them.

    One listener's failure does not keep the others from being called.
    """
    notice = Notice()
    notice.tell(relay, hook, values)
    return notice.failures


def shielded(listener: str, hook: str, function: Callable[..., Any], *, wrapper: bool) -> Callable[..., Any]:
    """Return an implementation of *hook* like *function* whose failure goes to the notice that is being told, if there is one.

    It has the marks and arguments of *function*, which pluggy reads. Any: what the hook says.
    """

    @wraps(function)
    def call(*args: Any, **more: Any) -> Any:
        notice = _current()
        if notice is None:
            from img_core.forms.answers import checked_answer  # not for who has no listeners

            return checked_answer(listener, hook, function(*args, **more))
        notice.listener = listener
        try:
            return function(*args, **more)
        except Exception as err:
            notice.failures.append(ListenerFailure(listener, hook, err))
            return None

    @wraps(function)
    def wrap(*args: Any, **more: Any) -> Generator[Any, Any, Any]:
        notice, body = _current(), function(*args, **more)
        if notice is None:
            return (yield from body)
        notice.listener = listener
        try:
            next(body)
        except Exception as err:
            notice.failures.append(ListenerFailure(listener, hook, err))
            return (yield)  # as if there were no wrapper
        result = yield
        notice.listener = listener
        try:
            body.send(result)
        except StopIteration as end:
            return end.value
        except Exception as err:
            notice.failures.append(ListenerFailure(listener, hook, err))
        else:
            notice.failures.append(ListenerFailure(listener, hook, RuntimeError("it yields twice")))
            body.close()
        return None

    return wrap if wrapper else call
