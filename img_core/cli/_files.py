"""Files named on the command line."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.cli._input import standard_input
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["open_input"]


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open *path* for reading; ``-`` is standard input, unless that is a terminal. Raises UsageError."""
    if path == "-":
        yield _standard_input()
        return
    from img_core.files import output

    with output.open_input(path) as file:
        yield file


def _standard_input() -> BinaryIO:
    stream = standard_input()
    if stream.isatty():
        raise UsageError(
            "cowardly refusing to read an archive from a terminal", hint="name a file, or redirect standard input"
        )
    return stream
