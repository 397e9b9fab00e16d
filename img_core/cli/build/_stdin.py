"""A context or a Dockerfile on standard input."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from img_core.archives.contexts import BLOCK, Chained, is_archive, read_fully, unpack
from img_core.cli._input import standard_input
from img_core.files import fs
from img_core.files.rootlock import given_up
from img_core.spec.errors import DockerfileError, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Context", "read_definition", "unpack_context"]

_HINT = "`-` reads the context or the Dockerfile from it"
_LIMIT = 16 * 1024 * 1024  # bytes of a Dockerfile; more is something else


@dataclass(frozen=True, slots=True)
class Context:
    """A build context as a directory; *definition* is the Dockerfile's text if it does not come from there."""

    directory: str
    definition: bytes | None = None


def read_definition() -> bytes:
    """Read a Dockerfile from standard input. Raises DockerfileError if it is empty, UsageError if it is something else."""
    return _complete(standard_input(hint=_HINT), b"")


def unpack_context(run_directory: str, file: str | None, usual: str) -> Context:
    """Read ``PATH`` = ``-``: an archive is unpacked and is the context; text is a build definition, alone in an empty context.

    It is called *usual* there: ``COPY Dockerfile`` works.
    *run_directory* is private and removed when we end. *file* is the value of ``-f``, looked up inside the archive.
    """
    stream = standard_input(hint=_HINT)
    directory = os.path.join(run_directory, "context")
    fs.mkdir(directory, 0o700)
    with given_up():
        first = read_fully(stream, BLOCK)
    if is_archive(first):
        unpack(Chained(first, stream), directory)
        return Context(directory, None if file is None else _definition_in(directory, file))
    if file is not None:
        raise UsageError(
            "standard input holds a Dockerfile, but `-f` names another one",
            hint="leave `-f` out, or send an archive of the context",
        )
    definition = _complete(stream, first)
    fs.replace_file(os.path.join(directory, usual), definition, 0o644)
    return Context(directory, definition)


def _definition_in(directory: str, file: str) -> bytes:
    """Read the Dockerfile *file* of an unpacked archive; its links cannot lead out of it."""
    try:
        with fs.opened_directory(directory) as root:
            return fs.read_bounded(root, os.fsencode(file), _LIMIT)
    except OSError as err:
        raise DockerfileError(
            f"cannot read `{fs.show(file)}` in the archive on standard input: {(err.strerror or '').lower()}"
        ) from err


def _complete(stream: BinaryIO, first: bytes) -> bytes:
    with given_up():
        data = first + read_fully(stream, _LIMIT + 1 - len(first))
    if len(data) > _LIMIT:
        raise UsageError(f"standard input holds more than {_LIMIT} bytes, which is no Dockerfile")
    if not data.strip():
        raise DockerfileError("the Dockerfile cannot be empty", hint="it was read from standard input")
    return data
