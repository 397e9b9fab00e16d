"""Between the kernel and pyfuse3: what pyfuse3 has no method for.

pyfuse3 cannot be asked for directories that the kernel caches, for unnamed files, for ranges that are allocated or copied. So the device
is read here, and pyfuse3 gets one end of a socket in its place. Requests about names and attributes are passed on, two of them in a form
that pyfuse3 knows. Those about open files, where speed counts and content would be copied once more, are answered here.

The structures are those of <linux/fuse.h>, see also fuse(4).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_snapshotter_fuse._files import OpenFiles
    from img_snapshotter_fuse._node import Nodes

__all__ = ["NAMELESS", "Disconnected", "Relay"]

NAMELESS: Final = b"/"  #: a name that no file has: `create` makes one without, as O_TMPFILE asks

_FORGET, _OPEN, _READ, _WRITE, _RELEASE, _INIT, _CREATE, _INTERRUPT = 2, 14, 15, 16, 18, 26, 35, 36
_FORGET_MANY, _ALLOCATE, _READ_DIRECTORY, _COPY, _CREATE_NAMELESS = 42, 43, 44, 47, 51
_UNANSWERED: Final = frozenset((_FORGET, _FORGET_MANY))

_REQUEST: Final = struct.Struct("=IIQQI")  # fuse_in_header: length, operation, number, node, user …
_REQUEST_SIZE: Final = 40
_ANSWER: Final = struct.Struct("=IiQ")  # fuse_out_header: length, error, number
_OPENING: Final = struct.Struct("=I")  # fuse_open_in: flags …
_OPENED: Final = struct.Struct("=QII")  # fuse_open_out: handle, flags, padding
_KEEP_CACHE: Final = 1 << 1  # FOPEN_KEEP_CACHE
_HANDLE: Final = struct.Struct("=Q")  # fuse_release_in: handle …
_CONTENT: Final = struct.Struct("=QQI")  # fuse_read_in and fuse_write_in: handle, offset, size …
_CONTENT_SIZE: Final = 40
_WRITTEN: Final = struct.Struct("=II")  # fuse_write_out: size, padding
_ALLOCATION: Final = struct.Struct("=QQQI")  # fuse_fallocate_in: handle, offset, length, mode …
_COPIES: Final = struct.Struct("=QQQQQQ")  # fuse_copy_file_range_in: handle, offset, node, handle, offset, length …

# fuse_init_in and fuse_init_out: version, read-ahead, flags …
_FLAGS: Final = struct.Struct("=12xI")
_LARGEST_WRITE: Final = struct.Struct("=20xI")
_DONT_MASK: Final = 1 << 6  # new files are given the caller's umask, which an access list of the directory overrules
_CACHE_SYMLINKS: Final = 1 << 23
_FURTHER_FLAGS: Final = _DONT_MASK | _CACHE_SYMLINKS

_SMALLEST_BUFFER: Final = 1 << 17
_GONE: Final = (errno.ENODEV, errno.ECONNABORTED)  # what the device says after the unmount


class Disconnected(Exception):  # no error: every mount ends so
    """The file system is gone."""


class Relay:
    """Serves the mount of *device*; `end` is the descriptor that pyfuse3 takes for the device."""

    def __init__(self, device: int, nodes: Nodes, files: OpenFiles) -> None:
        self._device = device
        self._nodes = nodes
        self._files = files
        self._ours, self._theirs = socket.socketpair()
        self.end = self._theirs.fileno()
        self._buffer = bytearray(_SMALLEST_BUFFER)
        self._view = memoryview(self._buffer)
        self._content = memoryview(bytearray(_SMALLEST_BUFFER))  # that was read for the kernel
        self._passed = 0  # operation that pyfuse3 was given last
        self._offered = 0  # flags that the kernel knows
        self._answers: dict[int, Callable[[int, int], None]] = {
            _OPEN: self._open,
            _RELEASE: self._release,
            _READ: self._read,
            _WRITE: self._write,
            _ALLOCATE: self._allocate,
            _COPY: self._copy,
        }

    def pass_on(self) -> None:
        """Give the kernel pyfuse3's last answer, and pyfuse3 the next request that is for it. Raises Disconnected."""
        if self._passed and self._passed not in _UNANSWERED:
            self._pass_answer()
        while True:
            size = self._receive()
            _, operation, number, node, _ = _REQUEST.unpack_from(self._buffer)
            if operation == _INTERRUPT:
                continue  # requests are answered one after the other: it comes too late
            answer = self._answers.get(operation)
            if answer is None:
                break
            self._answer(answer, number, size)
        self._translate(operation, node)
        self._passed = operation
        self._ours.sendall(self._view[:size])

    def _receive(self) -> int:
        while True:
            try:
                return os.readv(self._device, [self._buffer])
            except OSError as err:
                if err.errno in _GONE:
                    raise Disconnected from None
                if err.errno != errno.ENOENT:  # the caller was killed before we could read its request
                    raise

    def _translate(self, operation: int, node: int) -> None:
        """Change the request in the buffer to one that pyfuse3 knows."""
        if operation == _READ_DIRECTORY:
            # `opendir` answers ENOSYS, for then the kernel keeps listings and opens directories itself. They have no handle but 0,
            # and pyfuse3 does not say which directory it is.
            _HANDLE.pack_into(self._buffer, _REQUEST_SIZE, node)
        elif operation == _CREATE_NAMELESS:  # the same structure; the kernel gives "/" for a name
            struct.pack_into("=I", self._buffer, 4, _CREATE)
        elif operation == _INIT:
            self._offered = _FLAGS.unpack_from(self._buffer, _REQUEST_SIZE)[0]

    def _pass_answer(self) -> None:
        size = self._ours.recv_into(self._buffer)
        length = _ANSWER.unpack_from(self._buffer)[0]
        while size < length:
            size += self._ours.recv_into(self._view[size:])
        if self._passed == _INIT:
            self._agree(length)
        self._reply([self._view[:length]])

    def _agree(self, length: int) -> None:
        """Add to what pyfuse3 agrees on with the kernel, and be ready for the largest request."""
        at = _ANSWER.size
        flags = _FLAGS.unpack_from(self._buffer, at)[0] | (self._offered & _FURTHER_FLAGS)
        struct.pack_into("=I", self._buffer, at + 12, flags)
        largest = _LARGEST_WRITE.unpack_from(self._buffer, at)[0] + _REQUEST_SIZE + _CONTENT_SIZE
        if largest > len(self._buffer):
            old, self._buffer = self._view[:length], bytearray(largest)
            self._view = memoryview(self._buffer)
            self._view[:length] = old

    def _reply(self, parts: list[memoryview | bytes]) -> None:
        try:
            os.writev(self._device, parts)
        except OSError as err:
            if err.errno != errno.ENOENT and err.errno not in _GONE:  # nobody waits any more
                raise

    # --- answered here ---

    def _answer(self, method: Callable[[int, int], None], number: int, size: int) -> None:
        try:
            method(number, size)
            return
        except OSError as err:
            error = err.errno or errno.EIO
        except Exception:
            traceback.print_exc(file=sys.stderr)  # a bug: this call fails, the others go on
            error = errno.EIO
        self._reply([_ANSWER.pack(_ANSWER.size, -error, number)])

    def _open(self, number: int, _size: int) -> None:
        _, _, _, node, user = _REQUEST.unpack_from(self._buffer)
        flags = _OPENING.unpack_from(self._buffer, _REQUEST_SIZE)[0]
        handle = self._files.open(self._nodes[node], flags, user)
        self._reply([_ANSWER.pack(_ANSWER.size + _OPENED.size, 0, number), _OPENED.pack(handle, _KEEP_CACHE, 0)])

    def _release(self, number: int, _size: int) -> None:
        self._files.close(_HANDLE.unpack_from(self._buffer, _REQUEST_SIZE)[0])
        self._reply([_ANSWER.pack(_ANSWER.size, 0, number)])

    def _read(self, number: int, _size: int) -> None:
        handle, offset, wanted = _CONTENT.unpack_from(self._buffer, _REQUEST_SIZE)
        if wanted > len(self._content):
            self._content = memoryview(bytearray(wanted))
        size = self._files.read(handle, offset, self._content[:wanted])
        self._reply([_ANSWER.pack(_ANSWER.size + size, 0, number), self._content[:size]])

    def _write(self, number: int, size: int) -> None:
        handle, offset, wanted = _CONTENT.unpack_from(self._buffer, _REQUEST_SIZE)
        start = _REQUEST_SIZE + _CONTENT_SIZE
        assert start + wanted == size
        self._written(number, self._files.write(handle, offset, self._view[start:size]))

    def _allocate(self, number: int, _size: int) -> None:
        handle, offset, length, mode = _ALLOCATION.unpack_from(self._buffer, _REQUEST_SIZE)
        self._files.allocate(handle, mode, offset, length)
        self._reply([_ANSWER.pack(_ANSWER.size, 0, number)])

    def _copy(self, number: int, _size: int) -> None:
        source, start, _, target, offset, length = _COPIES.unpack_from(self._buffer, _REQUEST_SIZE)
        self._written(number, self._files.copy(source, start, target, offset, length))

    def _written(self, number: int, size: int) -> None:
        self._reply([_ANSWER.pack(_ANSWER.size + _WRITTEN.size, 0, number), _WRITTEN.pack(size, 0)])
