"""Where the calls of a client are done: in this process or in one of their own, with the state directory opened as each needs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from img_core.files.turns import in_turn, run_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from img_core.api._given import StrPath, Words
    from img_core.api.session import Session
    from img_core.config import Config
    from img_core.linux.cancellation import CancelHandle
    from img_core.plugins import Plugins
    from img_core.spec.host import Host
    from img_core.spec.progress import Event
    from img_core.store import Store

    Listener = Callable[[Event], None]

__all__ = ["Workplace", "apart", "in_worker", "words"]

#: Functions among the arguments of calls whose answers nobody waits for.
_TOLD = ("notice", "on_event", "on_line")

Place = TypeVar("Place", bound="Workplace")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def apart(
    method: Callable[Concatenate[Place, Arguments], Result],
) -> Callable[Concatenate[Place, Arguments], Result]:
    """Let *method*, which takes long or needs a namespace, be done in a process of its own unless its client works in this one.

    Its arguments are then plain data, but for functions (``on_event`` is told things, others are asked and waited for), and for ``cancel``,
    which it may leave alone: who does not listen to it is interrupted.
    """

    @wraps(method)
    def call(self: Place, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        if self._in_process:
            return in_turn(method)(self, *arguments, **named)
        result: Result = self._in_worker(method, arguments, named)
        return result

    return call


class Workplace:
    """One state directory; `img_core.api.Client` says what its arguments are."""

    def __init__(
        self,
        *,
        state: StrPath | None = None,
        no_plugins: Words = (),
        plugin_files: Words = (),
        environment: Mapping[str, str] | None = None,
        notice: Callable[[str], None] | None = None,
        trace: Callable[[str], None] = lambda _text: None,
        in_process: bool = False,
    ) -> None:
        self._configuration = {
            "state": os.fspath(state) if state is not None else None,
            "no_plugins": words(no_plugins),
            "plugin_files": words(plugin_files),
            "environment": dict(environment) if environment is not None else None,
        }
        self._notice = notice or _log
        self._trace = trace
        self._in_process = in_process
        self._kept_config = self._load() if in_process else None
        self._entered: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what `enter` took; other clients keep nothing open."""
        if self._entered is not None:
            self._entered.close()
            self._entered = None

    def enter(self) -> None:
        """Enter the user namespace now, before the caller starts threads; only for a client that works in this process."""
        if self._in_process and self._entered is None:
            self._entered = self._opened(namespace=True)

    @property
    def config(self) -> Config:
        """What the client is configured with. Raises UsageError for a file that cannot be understood."""
        return self._kept_config or self._load()

    @property
    def plugins(self) -> Plugins:
        """What is installed, and what of it is switched on."""
        from img_core.plugins import Plugins

        return self._entered.plugins if self._entered is not None else Plugins(self.config, self._trace)

    @property
    def host(self) -> Host:
        """What drivers know of this host, from within the user namespace; only for a client that works in this process.

        Its run directory goes when the client is closed.
        """
        self.enter()
        assert self._entered is not None, "the client does not work in this process"
        return self._entered.host

    def _load(self) -> Config:
        from img_core.config import Config

        return Config.load(**self._configuration)  # type: ignore[arg-type]  # the very arguments

    # ------------------------------------------------------------------------------------------------------- opening

    def _opened(self, *, namespace: bool, cleaning: bool = False) -> Session:
        from img_core.api.session import Session

        return Session(self.config, namespace=namespace, cleaning=cleaning, notice=self._notice, trace=self._trace)

    @contextmanager
    def _session(self, *, namespace: bool) -> Iterator[Session]:
        """Give the session that was entered, or one for the block."""
        if self._entered is not None:
            yield self._entered
            return
        with self._opened(namespace=namespace) as session:
            yield session

    def _store(self, *, writable: bool = False, cleaning: bool = False) -> Store:
        """Open the state directory without entering a namespace: for what touches no file of other owners."""
        from img_core.store import Store

        return Store(self._trusted(), writable=writable or cleaning, cleaning=cleaning, notice=self._notice)

    def _trusted(self) -> str:
        """Return the state directory. Raises StateError if somebody else may write to it."""
        from img_core.files.trust import check_trusted

        config = self.config
        check_trusted(config.state_directory, config.environment)
        return config.state_directory

    @property
    def _is_new(self) -> bool:
        """Whether nothing was ever kept here: looking makes no directories."""
        return not os.path.exists(os.path.join(self.config.state_directory, "img.db"))

    # ----------------------------------------------------------------------------------------------------- elsewhere

    def _in_worker(
        self, method: Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> Any:  # Any: depends on the method
        from img_core.linux.worker import bound

        plain, functions, cancel = bound(method, self, arguments, named)
        return in_worker(self._configuration, method.__name__, plain, {"notice": self._notice, **functions}, cancel)


def in_worker(
    configuration: Mapping[str, Any],
    method: str,
    arguments: Mapping[str, Any],
    functions: Mapping[str, Callable[[Any], Any]],
    cancel: CancelHandle,
) -> Any:  # Any: plain data, and what depends on the method
    """Call *method* of a client with that *configuration* in a process of its own; return what it does. *functions* stay here."""
    from img_core.linux.worker import WorkerCall

    call = WorkerCall(
        "img_core.api._client:perform",
        (method, arguments, configuration),
        told=tuple(name for name in functions if name in _TOLD),
        asked=tuple(name for name in functions if name not in _TOLD),
        environment=configuration["environment"],
    )
    return run_apart(call, functions, cancel)


def words(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return several words; one alone may be given as it is."""
    return (given,) if isinstance(given, str) else tuple(given)


def _log(text: str) -> None:
    import logging

    logging.getLogger("img").warning("%s", text)
