"""``--trace FILE``: what took how long, for https://ui.perfetto.dev or chrome://tracing."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.linux import spans

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["write_to", "written_at_the_end"]

_PID = "%p"  #: stands for the process id in the name of the file: a script with the variable set runs many commands
_paths: list[str] = []  # where to, the last one counts; of the process, as the record is


def write_to(path: str) -> None:
    """Let the trace of this command be written to *path* when it ends."""
    _paths.append(path)


@contextmanager
def written_at_the_end(usual: str) -> Iterator[None]:
    """Write what is recorded after the block, however it ends: to where `write_to` said, else to *usual* unless that is empty.

    Raises ImgError if that fails, after a block that did not.
    """
    _paths[:] = [usual] if usual else []
    try:
        with spans.span("command"):
            yield
    except BaseException:
        _write(quietly=True)
        raise
    _write(quietly=False)


def _write(*, quietly: bool) -> None:
    from img_core.cli._output import warn
    from img_core.files.output import open_output
    from img_core.spec.errors import ImgError

    if not _paths:
        return
    path = _paths[-1].replace(_PID, str(os.getpid()))
    try:
        with open_output(path) as output:
            output.write(spans.document())
    except ImgError as err:
        if not quietly:
            raise
        warn(f"the trace was not written: {err.message}")
