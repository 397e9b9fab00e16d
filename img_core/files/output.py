"""Where an exporter writes one file: a path that appears whole, a special file, or standard output.

`check_output` refuses a bad destination before the build; `open_output` writes beside the destination and renames at the
end of its ``with`` block, so that a failure, a full disk or kill -9 leaves what was there before. `output_path` does the same for what a
program writes, which needs a name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections import deque
from typing import TYPE_CHECKING, BinaryIO, Protocol

from img_core.files import fs
from img_core.linux import stdout
from img_core.spec.errors import Canceled, ImgError, UsageError
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DIRECTORY_MESSAGE",
    "OpenOutput",
    "check_output",
    "destination_errors",
    "is_stdout",
    "made_here",
    "open_input",
    "open_output",
    "output_path",
    "replacement",
]

DIRECTORY_MESSAGE = "invalid output option: output: destination file is a directory"
_BUFFER = 1 << 20
#: Destinations that this process wrote last, and what stat(2) said of the files; see `made_here`.
_made: deque[tuple[str, tuple[int, ...]]] = deque(maxlen=64)


class OpenOutput(Protocol):
    """What `open_output` gives."""

    def write(self, data: bytes, /) -> object:
        """Append all of *data*."""


def is_stdout(dest: str | None) -> bool:
    """Tell whether the option ``dest`` means standard output."""
    return not dest or dest == "-"


def check_output(dest: str | None, exporter: str, *, hint: str | None = None) -> None:
    """Raise UsageError if *dest* is a directory (*hint* says what else to do), has none to be in, or is a terminal or somebody else's."""
    if dest is None or is_stdout(dest):
        _check_ours()
        if os.isatty(stdout.descriptor()):
            raise UsageError(
                f"invalid output option: output: output file is required for {exporter} exporter. "
                "refusing to write to console",
                hint="name a file with `dest=`, or redirect standard output",
            )
    elif os.path.isdir(dest):
        raise UsageError(DIRECTORY_MESSAGE, hint=hint)
    elif not os.path.isdir(parent := os.path.dirname(os.path.realpath(dest))):
        raise UsageError(f"cannot write `{fs.show(dest)}`: there is no directory `{fs.show(parent)}`")


def _check_ours() -> None:
    if stdout.is_denied():
        raise UsageError(
            "an output of a library call cannot go to standard output, which belongs to the calling program",
            hint="name a file, or a pipe, with `dest`",
        )


@contextlib.contextmanager
def open_output(dest: str | None) -> Iterator[OpenOutput]:
    """Give a writer to *dest* (None or ``-``: standard output). Leaves the ``with`` block with a complete file, or the old one.

    Raises ImgError when *dest* cannot be written, and Canceled (SIGPIPE) when the reader of standard output went away.
    """
    if dest is None or is_stdout(dest):
        _check_ours()
        text = stdout.stream()
        if text is not None:  # closed by the caller
            text.flush()
        yield from _buffered(_Descriptor(stdout.descriptor()), "standard output")
        return
    if _is_special(dest):
        yield from _special(dest)
        return
    with replacement(dest) as file:
        yield from _buffered(file, dest)


@contextlib.contextmanager
def output_path(dest: str) -> Iterator[str]:
    """Give the path of an empty file beside *dest* for a program to fill. Leaves the ``with`` block with it as *dest*, or the old one.

    Raises ImgError when *dest* cannot be written, UsageError when it is a device or a pipe: programs want to seek.
    """
    if _is_special(dest):
        raise UsageError(f"cannot write `{fs.show(dest)}`: it is not a regular file")
    with replacement(dest) as file:
        yield file.path
        with destination_errors(dest):
            is_ours = os.stat(file.path).st_ino == os.fstat(file.fileno()).st_ino
        if not is_ours:
            raise ImgError(f"cannot write `{fs.show(dest)}`: another program replaced `{fs.show(file.path)}`")


@contextlib.contextmanager
def replacement(dest: str) -> Iterator[fs.AtomicFile]:
    """Give a file that is *dest* when the block has ended well. Raises ImgError when *dest* cannot be written.

    An error of the block is none of *dest*, and stays what it is.
    """
    final = os.path.realpath(dest)  # a symlink named by the user keeps its place, its target is replaced
    with destination_errors(dest):
        opened = fs.AtomicFile(os.path.dirname(final), mode=0o666, prefix=".img-")
    with opened as file:
        with destination_errors(dest):
            if (mode := _existing_mode(final)) is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
        yield file
        with destination_errors(dest):
            looks = _looks(os.fstat(file.fileno()))
            file.commit(final, sync=True)
        _made.append((dest, looks))


def made_here(dest: str, found: os.stat_result) -> bool:
    """Tell whether *found* is of a file that this process wrote to *dest* not long ago, and that nobody replaced or changed since."""
    return (dest, _looks(found)) in _made


def _looks(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_special(dest: str) -> bool:
    with destination_errors(dest):
        mode = _existing_mode(dest)
    return mode is not None and not stat.S_ISREG(mode)


def _existing_mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _special(dest: str) -> Iterator[OpenOutput]:
    """Write into a device or FIFO such as ``/dev/null``: replacing it by a file would surprise everybody."""
    with destination_errors(dest):
        fd = os.open(dest, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield from _buffered(_Descriptor(fd), dest)
    finally:
        os.close(fd)


@contextlib.contextmanager
def open_input(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open the file *path*, which the user named, for reading. Raises UsageError."""
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed below; here only the failure to open it is translated
    except OSError as err:
        raise UsageError(f"cannot read `{fs.show(os.fspath(path))}`: {why(err)}") from err
    with file:
        yield file


@contextlib.contextmanager
def destination_errors(name: str) -> Iterator[None]:
    """Turn the system's words about the destination *name* into one line."""
    try:
        with fs.disk_errors(name):
            yield
    except OSError as err:
        from img_core.files.refusals import why_refused

        reason = why_refused(err, name)
        raise ImgError(f"cannot write `{fs.show(name)}`: {reason}", hint="name another place") from err


class _Descriptor:
    """Writes all bytes to an open descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes, /) -> None:
        fs.mutation("write")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            if self._fd != stdout.descriptor():
                raise
            raise Canceled("the reader of standard output went away", signum=signal.SIGPIPE) from None


class _Buffer:
    """Gathers the many small writes of an archive.

    Errors are translated right here: whoever writes may read files at the same time, and must not take our errors for theirs.
    """

    def __init__(self, target: OpenOutput, name: str) -> None:
        self._target = target
        self._name = name
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes, /) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        data, self._parts, self._size = b"".join(self._parts), [], 0
        if data:
            with destination_errors(self._name):
                self._target.write(data)


def _buffered(target: OpenOutput, name: str) -> Iterator[OpenOutput]:
    buffer = _Buffer(target, name)
    yield buffer
    buffer.flush()
