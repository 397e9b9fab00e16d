"""The command line. Importing this costs next to nothing; the frame and each command are imported when they run."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``img`` with *arguments* (default: those of the process) and exit with its status."""
    gc.set_threshold(50_000, 20, 20)  # a tenth of start-up went into looking for cycles among modules
    from img_core.cli._exit import guarded

    words = list(sys.argv[1:] if arguments is None else arguments)
    status = guarded(lambda: _run(words))
    if arguments is None:
        _leave(status)
    sys.exit(status)


def _leave(status: int) -> None:
    """End the process at once, if nothing but the interpreter is left to be taken apart (10 ms with all our modules).

    `guarded` has flushed the output. With another thread alive this returns, and the interpreter ends as usual.
    """
    threading = sys.modules.get("threading")
    if threading is None or threading.active_count() == 1:
        atexit._run_exitfuncs()  # noqa: SLF001  # what `sys.exit` would call
        os._exit(status)


def _run(words: list[str]) -> None:
    if words in (["-v"], ["--version"]):  # without click: it costs 30 ms
        from img_core.cli._output import echo
        from img_core.cli._version import version_line

        echo(version_line())
        return
    from img_core.cli._frame import run

    run(words)
