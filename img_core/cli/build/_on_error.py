"""``--on-error=shell``: a shell in the step that failed, before the build fails."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from img_core.cli import _terminal
from img_core.cli._output import say
from img_core.spec.errors import UsageError
from img_core.spec.progress import StepFinished

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.api import BuildRequest, BuildResult, CancelHandle, Client, StepFailure
    from img_core.cli._explained import Explained
    from img_core.cli._progress import Display

__all__ = ["build_with_shell"]


def build_with_shell() -> Callable[[Client, BuildRequest, Display | Explained | None, CancelHandle], BuildResult]:
    """Return what builds, and opens a shell on the terminal when a step fails. Raises UsageError if there is none."""
    terminal = _terminal.find(otherwise=True)
    if terminal is None:
        raise UsageError(
            "`--on-error=shell` needs a terminal", hint="without one, `img debug last` looks at it afterwards"
        )

    def build(
        client: Client, request: BuildRequest, show: Display | Explained | None, handle: CancelHandle
    ) -> BuildResult:
        return client.build(request, on_event=show, cancel=handle, on_failure=_Shell(terminal, show).open)

    return build


class _Shell:
    """Opens one shell, for the first step that fails; progress ends there, for both need the terminal."""

    def __init__(self, terminal: int, display: Display | Explained | None) -> None:
        self._terminal = terminal
        self._display = display
        self._opening = threading.Lock()
        self._opened = False

    def open(self, failure: StepFailure) -> None:
        """Open a shell in what the step left, unless another step was faster."""
        with self._opening:
            if self._opened:
                return
            self._opened = True
            if self._display is not None:
                self._display(StepFinished(failure.step, time.time(), error=failure.message))
                self._display.end()
            say(f"a shell in what the step left; the build fails when you leave it (`{failure.shell}`)")
            _terminal.enter(failure, [failure.shell], self._terminal)
