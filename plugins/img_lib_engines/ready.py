"""Processes that are started before there is a task for them: the start of an interpreter, and of a worker, is then over when it comes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from img_core.linux.line_process import LineProcess, WaitingProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

__all__ = ["Ready"]

_IDLE = 60.0  #: seconds after which a process that nobody took is ended


class Ready:
    """Keeps for each place at most one process that waits for its text on standard input. Any thread may call."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[Hashable, WaitingProcess] = {}

    def expect(self, place: Hashable, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start *command* for the next task of *place*, unless it waits there already."""
        with self._guard:
            known = self._waiting.get(place)
            if known is not None:
                if known.is_running:
                    return
                known.wait()
            try:
                process = self._waiting[place] = WaitingProcess(command, environment=environment)
            except OSError:  # whoever starts it for a task says why
                return
        timer = threading.Timer(_IDLE, self._drop, (place, process))
        timer.daemon = True
        timer.start()

    def begun(
        self,
        place: Hashable,
        command: Sequence[str],
        text: str,
        tell: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> LineProcess:
        """Return a process that does *text*: the one that waits at *place*, or a new one. Raises OSError if that cannot be started."""
        with self._guard:
            process = self._waiting.pop(place, None)
        if process is not None and process.is_running:
            process.begin(text, tell)
            return process
        if process is not None:
            process.wait()
        return LineProcess(command, text, tell, environment=environment)

    def close(self) -> None:
        """End what waits."""
        with self._guard:
            waiting, self._waiting = list(self._waiting.values()), {}
        for process in waiting:
            process.stop()
        for process in waiting:
            process.wait()

    def _drop(self, place: Hashable, process: WaitingProcess) -> None:
        with self._guard:
            if self._waiting.get(place) is not process:
                return
            del self._waiting[place]
        process.stop()
        process.wait()
