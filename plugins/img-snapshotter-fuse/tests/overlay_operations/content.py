"""Reading, writing, mapping, locking."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
from typing import Any

from overlay_operations._table import OLD, checked, get, libc, link_descriptor, look, operation, put, text


@operation
def read(root: str, a: str, _b: str, _n: int) -> Any:
    with open(f"{root}/{a}", "rb") as file:
        return file.read()


@operation
def read_unbuffered_piece(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDONLY)
    try:
        return os.pread(fd, 7, n)
    finally:
        os.close(fd)


@operation
def create_or_replace(root: str, a: str, _b: str, n: int) -> Any:
    return put(f"{root}/{a}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, text(n))


@operation
def create_exclusively(root: str, a: str, _b: str, n: int) -> Any:
    return put(f"{root}/{a}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, text(n))


@operation
def append(root: str, a: str, _b: str, n: int) -> Any:
    return put(f"{root}/{a}", os.O_WRONLY | os.O_APPEND, text(n))


@operation
def append_with_two_descriptors(root: str, a: str, _b: str, n: int) -> Any:
    first = os.open(f"{root}/{a}", os.O_WRONLY | os.O_APPEND)
    second = os.open(f"{root}/{a}", os.O_WRONLY | os.O_APPEND)
    try:
        return [os.write(fd, text(n)) for fd in (first, second, first)]
    finally:
        os.close(first)
        os.close(second)


@operation
def overwrite_in_the_middle(root: str, a: str, _b: str, n: int) -> Any:
    return put(f"{root}/{a}", os.O_WRONLY, b"MIDDLE", n)


@operation
def write_beyond_the_end(root: str, a: str, _b: str, n: int) -> Any:
    return put(f"{root}/{a}", os.O_WRONLY, b"END", 10_000 * n)


@operation
def write_and_read_back(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.pwrite(fd, b"back", n)
        return os.pread(fd, 100_000, 0), os.fstat(fd).st_size
    finally:
        os.close(fd)


@operation
def write_a_vector(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        return os.pwritev(fd, [b"one", b"two", text(n)], 1), os.preadv(fd, [bytearray(5)], 0)
    finally:
        os.close(fd)


@operation
def open_for_writing_only(root: str, a: str, _b: str, _n: int) -> Any:
    os.close(os.open(f"{root}/{a}", os.O_RDWR))
    return look(f"{root}/{a}")


@operation
def open_and_truncate(root: str, a: str, _b: str, _n: int) -> Any:
    os.close(os.open(f"{root}/{a}", os.O_WRONLY | os.O_TRUNC))
    return look(f"{root}/{a}")


@operation
def open_a_directory_only(root: str, a: str, _b: str, _n: int) -> Any:
    os.close(os.open(f"{root}/{a}", os.O_RDONLY | os.O_DIRECTORY))


@operation
def open_no_link(root: str, a: str, _b: str, _n: int) -> Any:
    os.close(os.open(f"{root}/{a}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))


@operation
def truncate_to(root: str, a: str, _b: str, n: int) -> Any:
    os.truncate(f"{root}/{a}", n)
    return look(f"{root}/{a}")


@operation
def truncate_longer(root: str, a: str, _b: str, n: int) -> Any:
    os.truncate(f"{root}/{a}", 5000 * n)
    return look(f"{root}/{a}")


@operation
def truncate_a_descriptor(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.write(fd, b"0123456789")
        os.ftruncate(fd, n)
        return os.fstat(fd).st_size, os.pread(fd, 100, 0)
    finally:
        os.close(fd)


@operation
def allocate(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, 100 * n + 1)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


@operation
def seek_to_the_end(root: str, a: str, _b: str, n: int) -> Any:
    if os.path.isdir(f"{root}/{a}"):
        return None  # positions in a directory mean what the file system likes
    fd = os.open(f"{root}/{a}", os.O_RDONLY)
    try:
        return os.lseek(fd, -n, os.SEEK_END)
    finally:
        os.close(fd)


@operation
def copy_range(root: str, a: str, b: str, n: int) -> Any:
    source = os.open(f"{root}/{a}", os.O_RDONLY)
    try:
        target = os.open(f"{root}/{b}", os.O_WRONLY)
        try:
            return os.copy_file_range(source, target, 50, 0, n)
        finally:
            os.close(target)
    finally:
        os.close(source)


@operation
def send_to_a_socket(root: str, a: str, _b: str, _n: int) -> Any:
    ours, theirs = socket.socketpair()
    fd = os.open(f"{root}/{a}", os.O_RDONLY)
    try:
        sent = os.sendfile(ours.fileno(), fd, 0, 100)
        return sent, theirs.recv(sent) if sent else b""
    finally:
        os.close(fd)
        ours.close()
        theirs.close()


@operation
def map_for_reading(root: str, a: str, _b: str, _n: int) -> Any:
    with open(f"{root}/{a}", "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return None
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            return bytes(memory[:200])


@operation
def map_for_writing(root: str, a: str, _b: str, n: int) -> Any:
    with open(f"{root}/{a}", "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return None
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[n % size] = 33
            memory.flush()
        return file.read()


@operation
def sync_a_file(root: str, a: str, _b: str, _n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.write(fd, b"sync")
        os.fsync(fd)
        os.fdatasync(fd)
    finally:
        os.close(fd)


@operation
def sync_a_directory(root: str, a: str, _b: str, _n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@operation
def lock_whole(root: str, a: str, _b: str, _n: int) -> Any:
    first, second = (os.open(f"{root}/{a}", os.O_RDWR) for _ in range(2))
    try:
        fcntl.flock(first, fcntl.LOCK_EX)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "locked"
        return "not locked"
    finally:
        os.close(first)
        os.close(second)


@operation
def lock_a_range(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, n + 1)
        fcntl.lockf(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


@operation
def use_a_deleted_file(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.unlink(f"{root}/{a}")
        os.pwrite(fd, b"gone", n)
        os.fchmod(fd, 0o600)
        os.utime(fd, (OLD, OLD))
        info = os.fstat(fd)
        return os.pread(fd, 1000, 0), oct(info.st_mode), info.st_size, info.st_mtime
    finally:
        os.close(fd)


@operation
def read_a_deleted_file(root: str, a: str, _b: str, _n: int) -> Any:
    with open(f"{root}/{a}", "rb") as file:
        os.unlink(f"{root}/{a}")
        return file.read(), os.path.lexists(f"{root}/{a}")


@operation
def read_a_replaced_file(root: str, a: str, b: str, n: int) -> Any:
    with open(f"{root}/{a}", "rb") as file:
        put(f"{root}/{b}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, text(n))
        if os.path.samefile(f"{root}/{a}", f"{root}/{b}"):
            return None  # a lower file that is open stays as it was in the kernel's overlayfs
        os.rename(f"{root}/{b}", f"{root}/{a}")
        with open(f"{root}/{a}", "rb") as new:
            return file.read(), new.read()


# --- ranges ---

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE, _COLLAPSE_RANGE = 1, 2, 16, 8


@operation
def allocate_beyond_the_end(root: str, a: str, _b: str, n: int) -> Any:
    return _fallocate(f"{root}/{a}", _KEEP_SIZE, 0, 5000 * (n + 1))


@operation
def punch_a_hole(root: str, a: str, _b: str, n: int) -> Any:
    return _fallocate(f"{root}/{a}", _PUNCH_HOLE | _KEEP_SIZE, n, 20 + n)


@operation
def zero_a_range(root: str, a: str, _b: str, n: int) -> Any:
    return _fallocate(f"{root}/{a}", _ZERO_RANGE, 10 * n, 30)


def _fallocate(path: str, mode: int, start: int, length: int) -> Any:
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, b"allocated", 3)
        checked(libc.fallocate64(fd, mode, ctypes.c_int64(start), ctypes.c_int64(length)))
        return os.fstat(fd).st_size, os.pread(fd, 100_000, 0)
    finally:
        os.close(fd)


@operation
def copy_all_within_one_file(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        os.pwrite(fd, b"own", size)
        copied = os.copy_file_range(fd, fd, size, 0, size + 3 + n)
        return copied, os.fstat(fd).st_size, os.pread(fd, 100_000, 0)
    finally:
        os.close(fd)


@operation
def read_what_is_no_hole(root: str, a: str, _b: str, n: int) -> Any:
    """Holes need not be told, but data must be."""
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.pwrite(fd, b"data", 20_000 * n)
        size, position, parts = os.fstat(fd).st_size, 0, bytearray(os.fstat(fd).st_size)
        while position < size:
            try:
                position = os.lseek(fd, position, os.SEEK_DATA)
            except OSError as err:
                if err.errno == errno.ENXIO:
                    break
                raise
            end = os.lseek(fd, position, os.SEEK_HOLE)
            parts[position:end] = os.pread(fd, end - position, position)
            position = end
        return bytes(parts)
    finally:
        os.close(fd)


@operation
def write_to_a_replaced_file(root: str, a: str, b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        put(f"{root}/{b}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, text(n))
        if os.path.samestat(os.fstat(fd), os.stat(f"{root}/{b}")):
            return None
        os.rename(f"{root}/{b}", f"{root}/{a}")
        os.pwrite(fd, b"old", n)
        return os.pread(fd, 10_000, 0), get(f"{root}/{a}"), look(f"{root}/{a}")
    finally:
        os.close(fd)


@operation
def write_synchronously(root: str, a: str, _b: str, n: int) -> Any:
    return put(f"{root}/{a}", os.O_WRONLY | os.O_SYNC, text(n), n)


# --- files without a name ---


@operation
def use_a_nameless_file(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_TMPFILE | os.O_RDWR, 0o640)
    try:
        os.write(fd, text(n))
        os.ftruncate(fd, 10 * n)
        os.fchmod(fd, 0o604)
        info = os.fstat(fd)
        return oct(info.st_mode), info.st_size, info.st_nlink, os.pread(fd, 1000, 0), sorted(os.listdir(f"{root}/{a}"))
    finally:
        os.close(fd)


@operation
def name_a_nameless_file(root: str, a: str, b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_TMPFILE | os.O_WRONLY, 0o600 + n)
    try:
        os.write(fd, text(n))
        link_descriptor(fd, f"{root}/{b}")
        os.write(fd, b"more")
    finally:
        os.close(fd)
    return look(f"{root}/{b}"), get(f"{root}/{b}")


@operation
def name_a_nameless_file_that_gets_none(root: str, a: str, b: str, _n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_TMPFILE | os.O_WRONLY | os.O_EXCL, 0o600)
    try:
        link_descriptor(fd, f"{root}/{b}")
    finally:
        os.close(fd)


@operation
def name_a_deleted_file_again(root: str, a: str, b: str, _n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.unlink(f"{root}/{a}")
        link_descriptor(fd, f"{root}/{b}")
        return look(f"{root}/{b}")
    finally:
        os.close(fd)
