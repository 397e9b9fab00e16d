"""Copying what is in a file: extents are shared where the file system can, holes stay, and memory does not grow with the file."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from img_core.files._rooted import read_up_to
from img_core.files.faults import mutation

__all__ = ["SourceError", "copy_and_read", "copy_file", "copy_known", "of_source"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_SMALL = 128 * 1024  # below this, read and write beat reflinks and copy_file_range
_BLOCK = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)


class SourceError(OSError):
    """What the system says of a file that is read while another one is written: who knows its name tells it."""


def of_source(call: Callable[Parameters, Result], /, *given: Parameters.args, **named: Parameters.kwargs) -> Result:
    """Return what *call*, which reads the source of a copy, returns. Raises `SourceError` for its OSError."""
    try:
        return call(*given, **named)
    except OSError as err:
        raise SourceError(err.errno, err.strerror, err.filename) from err


def copy_file(source_fd: int, target_fd: int, size: int) -> int:
    """Copy *size* bytes from the start of *source_fd* into the empty file *target_fd*; return how many there were.

    Shares extents where the file system can, keeps holes, and needs no memory for large files. A result other than
    *size* means that the source changed meanwhile. Raises `SourceError` for what cannot be read, OSError for what cannot be written.
    """
    return _copy_file(source_fd, target_fd, size, None)


def copy_and_read(source_fd: int, target_fd: int, size: int, passing: Callable[[bytes], object]) -> int:
    """Do what `copy_file` does, and give *passing* all bytes in order: those of the copy, while the source is read only once.

    *target_fd* must be open for reading, too.
    """
    return _copy_file(source_fd, target_fd, size, passing)


def copy_known(source_fd: int, target_fd: int, content: bytes) -> None:
    """Do what `copy_file` does with a file that holds *content*, without reading it."""
    mutation("write")
    if len(content) <= _SMALL or not _clone(source_fd, target_fd, len(content)):
        _write_all(target_fd, content)


def _copy_file(source_fd: int, target_fd: int, size: int, passing: Callable[[bytes], object] | None) -> int:
    mutation("write")
    if size <= _SMALL:
        data = of_source(read_up_to, source_fd, size)
        _write_all(target_fd, data)
        if passing is not None:
            passing(data)
        return len(data)
    if _clone(source_fd, target_fd, size):
        return size if passing is None else _pass(target_fd, 0, size, passing)
    info = of_source(os.fstat, source_fd)
    if info.st_blocks * 512 < info.st_size:
        return _copy_sparse(source_fd, target_fd, min(size, info.st_size), passing)
    return _copy_range(source_fd, target_fd, 0, size, passing)


def _clone(source_fd: int, target_fd: int, size: int) -> bool:
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError:
        return False  # another file system, or one without reflinks
    if os.fstat(target_fd).st_size != size:  # it clones the whole file, whatever its size is by now
        os.ftruncate(target_fd, 0)
        return False
    return True


def _copy_sparse(source_fd: int, target_fd: int, size: int, passing: Callable[[bytes], object] | None) -> int:
    """Copy only the parts that hold data."""
    position = 0
    while position < size:
        try:
            start = min(of_source(os.lseek, source_fd, position, os.SEEK_DATA), size)
        except SourceError as err:
            if err.errno != errno.ENXIO:
                raise
            start = size  # only a hole is left
        if passing is not None:
            _pass_zeros(start - position, passing)
        position = start if start == size else min(of_source(os.lseek, source_fd, start, os.SEEK_HOLE), size)
        if _copy_range(source_fd, target_fd, start, position, passing) != position - start:
            return start
    os.ftruncate(target_fd, size)
    return size


def _pass_zeros(count: int, passing: Callable[[bytes], object]) -> None:
    while count:
        zeros = bytes(min(count, _BLOCK))
        passing(zeros)
        count -= len(zeros)


def _pass(fd: int, start: int, end: int, passing: Callable[[bytes], object], target_fd: int = -1) -> int:
    """Give the bytes of *fd* from *start* to *end*, and write them to the same place of *target_fd*; return how many there were."""
    position = start
    while position < end and (data := of_source(os.pread, fd, min(end - position, _BLOCK), position)):
        if target_fd >= 0:
            _pwrite_all(target_fd, data, position)
        passing(data)
        position += len(data)
    return position - start


def _copy_range(source_fd: int, target_fd: int, start: int, end: int, passing: Callable[[bytes], object] | None) -> int:
    """Copy the bytes from *start* to *end* to the same place; return how many there were."""
    if passing is not None:
        return _pass(source_fd, start, end, passing, target_fd)
    position = start
    try:
        while position < end:
            count = os.copy_file_range(source_fd, target_fd, min(end - position, 1 << 30), position, position)
            if not count:
                return position - start
            position += count
    except OSError:  # not here, or a failure of which only two calls tell whose it is
        position += _pass(source_fd, position, end, lambda _data: None, target_fd)
    return position - start


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _pwrite_all(fd: int, data: bytes, position: int) -> int:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, position)
        view = view[count:]
        position += count
    return len(data)
