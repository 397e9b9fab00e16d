"""Everything that one can do to a file system, as functions that say what came out; for comparing two of them.

Each takes the path of the root, two names below it and a number, and returns something comparable or raises OSError.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import stat
from collections.abc import Callable
from typing import Any

Operation = Callable[[str, str, str, int], Any]  # Any: whatever can be compared
OPERATIONS: dict[str, Operation] = {}

OLD = 1_000_000_000
CAPABILITY = bytes.fromhex("0100000202000000000000000000000000000000")
_libc = ctypes.CDLL(None, use_errno=True)


def operation(function: Operation) -> Operation:
    """Enter *function* into the table."""
    OPERATIONS[function.__name__] = function
    return function


def look(path: str) -> tuple[Any, ...]:
    """Return what lstat(2) says that must be equal everywhere."""
    info = os.lstat(path)
    directory = stat.S_ISDIR(info.st_mode)
    return (
        oct(info.st_mode),
        info.st_uid,
        info.st_gid,
        0 if directory else info.st_size,
        0 if directory else info.st_nlink,
    )


def _content(number: int) -> bytes:
    return (b"%d-" % number) * (number * 40 + 1)


def _write(path: str, flags: int, data: bytes, position: int = -1) -> int:
    fd = os.open(path, flags, 0o640)
    try:
        return os.write(fd, data) if position < 0 else os.pwrite(fd, data, position)
    finally:
        os.close(fd)


def _rename(old: str, new: str, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# --- content ---


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
    return _write(f"{root}/{a}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _content(n))


@operation
def create_exclusively(root: str, a: str, _b: str, n: int) -> Any:
    return _write(f"{root}/{a}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, _content(n))


@operation
def append(root: str, a: str, _b: str, n: int) -> Any:
    return _write(f"{root}/{a}", os.O_WRONLY | os.O_APPEND, _content(n))


@operation
def append_with_two_descriptors(root: str, a: str, _b: str, n: int) -> Any:
    first = os.open(f"{root}/{a}", os.O_WRONLY | os.O_APPEND)
    second = os.open(f"{root}/{a}", os.O_WRONLY | os.O_APPEND)
    try:
        return [os.write(fd, _content(n)) for fd in (first, second, first)]
    finally:
        os.close(first)
        os.close(second)


@operation
def overwrite_in_the_middle(root: str, a: str, _b: str, n: int) -> Any:
    return _write(f"{root}/{a}", os.O_WRONLY, b"MIDDLE", n)


@operation
def write_beyond_the_end(root: str, a: str, _b: str, n: int) -> Any:
    return _write(f"{root}/{a}", os.O_WRONLY, b"END", 10_000 * n)


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
        return os.pwritev(fd, [b"one", b"two", _content(n)], 1), os.preadv(fd, [bytearray(5)], 0)
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
        _write(f"{root}/{b}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _content(n))
        if os.path.samefile(f"{root}/{a}", f"{root}/{b}"):
            return None  # a lower file that is open stays as it was in the kernel's overlayfs
        os.rename(f"{root}/{b}", f"{root}/{a}")
        with open(f"{root}/{a}", "rb") as new:
            return file.read(), new.read()


# --- names ---


@operation
def unlink(root: str, a: str, _b: str, _n: int) -> Any:
    os.unlink(f"{root}/{a}")


@operation
def rmdir(root: str, a: str, _b: str, _n: int) -> Any:
    os.rmdir(f"{root}/{a}")


@operation
def remove_a_tree(root: str, a: str, _b: str, _n: int) -> Any:
    shutil.rmtree(f"{root}/{a}")


@operation
def empty_a_directory(root: str, a: str, _b: str, _n: int) -> Any:
    for name in sorted(os.listdir(f"{root}/{a}")):
        path = f"{root}/{a}/{name}"
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    return os.listdir(f"{root}/{a}")


@operation
def mkdir(root: str, a: str, _b: str, n: int) -> Any:
    os.mkdir(f"{root}/{a}", 0o700 + n)
    return look(f"{root}/{a}")


@operation
def mkdir_with_parents(root: str, a: str, _b: str, _n: int) -> Any:
    os.makedirs(f"{root}/{a}", exist_ok=True)


@operation
def make_a_directory_that_hands_down_its_group(root: str, a: str, b: str, _n: int) -> Any:
    os.mkdir(f"{root}/{a}")
    os.chmod(f"{root}/{a}", 0o2775)
    os.mkdir(f"{root}/{a}/sub")
    _write(f"{root}/{a}/file", os.O_WRONLY | os.O_CREAT, b"x")
    return look(f"{root}/{a}/sub"), look(f"{root}/{a}/file")


@operation
def replace_a_directory(root: str, a: str, _b: str, n: int) -> Any:
    shutil.rmtree(f"{root}/{a}")
    os.mkdir(f"{root}/{a}")
    _write(f"{root}/{a}/new", os.O_WRONLY | os.O_CREAT, _content(n))
    return sorted(os.listdir(f"{root}/{a}"))


@operation
def replace_a_file_by_a_directory(root: str, a: str, _b: str, _n: int) -> Any:
    os.unlink(f"{root}/{a}")
    os.mkdir(f"{root}/{a}")
    return os.listdir(f"{root}/{a}")


@operation
def replace_a_directory_by_a_file(root: str, a: str, _b: str, n: int) -> Any:
    shutil.rmtree(f"{root}/{a}")
    return _write(f"{root}/{a}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, _content(n))


@operation
def symlink(root: str, a: str, b: str, _n: int) -> Any:
    os.symlink(b, f"{root}/{a}")
    return look(f"{root}/{a}")


@operation
def readlink(root: str, a: str, _b: str, _n: int) -> Any:
    return os.readlink(f"{root}/{a}")


@operation
def link(root: str, a: str, b: str, _n: int) -> Any:
    os.link(f"{root}/{a}", f"{root}/{b}", follow_symlinks=False)
    return look(f"{root}/{a}"), look(f"{root}/{b}")


@operation
def write_through_one_of_two_links(root: str, a: str, b: str, n: int) -> Any:
    os.link(f"{root}/{a}", f"{root}/{b}", follow_symlinks=False)
    _write(f"{root}/{b}", os.O_WRONLY | os.O_TRUNC, _content(n))
    return read(root, a, b, n)


@operation
def unlink_one_of_two_links(root: str, a: str, b: str, _n: int) -> Any:
    os.link(f"{root}/{a}", f"{root}/{b}", follow_symlinks=False)
    os.unlink(f"{root}/{a}")
    return look(f"{root}/{b}")


@operation
def make_a_fifo(root: str, a: str, _b: str, _n: int) -> Any:
    os.mkfifo(f"{root}/{a}", 0o620)
    return look(f"{root}/{a}")


@operation
def make_a_socket(root: str, a: str, _b: str, _n: int) -> Any:
    os.mknod(f"{root}/{a}", stat.S_IFSOCK | 0o755)
    return look(f"{root}/{a}")


@operation
def make_a_plain_node(root: str, a: str, _b: str, _n: int) -> Any:
    os.mknod(f"{root}/{a}", stat.S_IFREG | 0o4755)
    return look(f"{root}/{a}")


@operation
def make_a_whiteout(root: str, a: str, _b: str, _n: int) -> Any:
    os.mknod(f"{root}/{a}", stat.S_IFCHR, 0)


@operation
def rename(root: str, a: str, b: str, _n: int) -> Any:
    os.rename(f"{root}/{a}", f"{root}/{b}")
    return look(f"{root}/{b}"), os.path.lexists(f"{root}/{a}")


@operation
def rename_to_a_new_name(root: str, a: str, b: str, _n: int) -> Any:
    _rename(f"{root}/{a}", f"{root}/{b}", 1)
    return look(f"{root}/{b}")


@operation
def exchange(root: str, a: str, b: str, _n: int) -> Any:
    _rename(f"{root}/{a}", f"{root}/{b}", 2)
    return look(f"{root}/{a}"), look(f"{root}/{b}")


@operation
def rename_leaving_a_whiteout(root: str, a: str, b: str, _n: int) -> Any:
    _rename(f"{root}/{a}", f"{root}/{b}", 4)


@operation
def rename_with_unknown_flags(root: str, a: str, b: str, _n: int) -> Any:
    _rename(f"{root}/{a}", f"{root}/{b}", 3)


@operation
def rename_into_itself(root: str, a: str, _b: str, _n: int) -> Any:
    os.rename(f"{root}/{a}", f"{root}/{a}/inner")


@operation
def rename_to_the_same_name(root: str, a: str, _b: str, _n: int) -> Any:
    os.rename(f"{root}/{a}", f"{root}/{a}")


@operation
def rename_there_and_back(root: str, a: str, b: str, _n: int) -> Any:
    _rename(f"{root}/{a}", f"{root}/{b}", 1)
    os.rename(f"{root}/{b}", f"{root}/{a}")
    return look(f"{root}/{a}")


@operation
def make_fill_and_move_a_directory(root: str, a: str, b: str, n: int) -> Any:
    os.mkdir(f"{root}/{a}")
    os.mkdir(f"{root}/{a}/inner")
    _write(f"{root}/{a}/inner/file", os.O_WRONLY | os.O_CREAT, _content(n))
    os.rename(f"{root}/{a}", f"{root}/{b}")
    return read(root, f"{b}/inner/file", "", 0), sorted(os.listdir(f"{root}/{b}"))


@operation
def move_as_mv_does(root: str, a: str, b: str, _n: int) -> Any:
    try:
        _rename(f"{root}/{a}", f"{root}/{b}", 1)
    except OSError as err:
        if err.errno != errno.EXDEV:
            raise
        shutil.copytree(f"{root}/{a}", f"{root}/{b}", symlinks=True, ignore=_no_special)
        shutil.rmtree(f"{root}/{a}")
        return "copied"
    return "renamed"


def _no_special(directory: str, names: list[str]) -> list[str]:
    kinds = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
    return [name for name in names if stat.S_IFMT(os.lstat(f"{directory}/{name}").st_mode) not in kinds]


@operation
def long_name(root: str, a: str, _b: str, n: int) -> Any:
    name = "n" * (254 + n % 3)
    return _write(f"{root}/{a}/{name}", os.O_WRONLY | os.O_CREAT, b"long")


@operation
def create_in_a_removed_directory(root: str, a: str, _b: str, _n: int) -> Any:
    os.mkdir(f"{root}/{a}")
    fd = os.open(f"{root}/{a}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rmdir(f"{root}/{a}")
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    finally:
        os.close(fd)


@operation
def work_below_a_descriptor(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.close(os.open("below", os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600 + n, dir_fd=fd))
        return look(f"{root}/{a}/below")
    finally:
        os.close(fd)


# --- attributes ---


@operation
def lstat(root: str, a: str, _b: str, _n: int) -> Any:
    return look(f"{root}/{a}")


@operation
def stat_through_links(root: str, a: str, _b: str, _n: int) -> Any:
    return oct(os.stat(f"{root}/{a}").st_mode)


@operation
def time_of_files(root: str, a: str, _b: str, _n: int) -> Any:
    info = os.lstat(f"{root}/{a}")
    return info.st_mtime_ns if info.st_mtime < OLD + 1000 else "now"


@operation
def trailing_slash(root: str, a: str, _b: str, _n: int) -> Any:
    return oct(os.stat(f"{root}/{a}/").st_mode)


@operation
def access(root: str, a: str, _b: str, n: int) -> Any:
    return os.access(f"{root}/{a}", n % 8)


@operation
def longest_name(root: str, a: str, _b: str, _n: int) -> Any:
    return os.statvfs(f"{root}/{a}").f_namemax


@operation
def chmod(root: str, a: str, _b: str, n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o600 + n)
    return look(f"{root}/{a}")


@operation
def chmod_set_id(root: str, a: str, _b: str, _n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o6755)
    return look(f"{root}/{a}")


@operation
def chown(root: str, a: str, _b: str, n: int) -> Any:
    os.chown(f"{root}/{a}", n, n + 1)
    return look(f"{root}/{a}")


@operation
def chown_a_link(root: str, a: str, _b: str, n: int) -> Any:
    os.chown(f"{root}/{a}", -1, n, follow_symlinks=False)
    return look(f"{root}/{a}")


@operation
def chown_a_set_id_program(root: str, a: str, _b: str, n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o6755)
    os.chown(f"{root}/{a}", 0, -1)
    return look(f"{root}/{a}")


@operation
def set_times(root: str, a: str, _b: str, n: int) -> Any:
    os.utime(f"{root}/{a}", ns=(OLD * 10**9 + n, OLD * 10**9 + 7 * n))
    return os.stat(f"{root}/{a}").st_mtime_ns


@operation
def set_times_of_a_link(root: str, a: str, _b: str, n: int) -> Any:
    os.utime(f"{root}/{a}", (OLD, OLD + n), follow_symlinks=False)
    return os.lstat(f"{root}/{a}").st_mtime_ns


@operation
def set_times_of_an_open_file(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.pwrite(fd, b"time", n)
        os.utime(fd, (OLD, OLD + n))
        return os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)


@operation
def write_as_somebody_else(root: str, a: str, _b: str, n: int) -> Any:
    """An ordinary user's write takes set-id bits away."""
    os.chmod(f"{root}/{a}", 0o6777)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresgid(1, 1, 1)
            os.setresuid(1, 1, 1)
            fd = os.open(f"{root}/{a}", os.O_WRONLY)
            status = 2
            os.ftruncate(fd, n) if n % 2 else os.pwrite(fd, b"mine", n)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1], look(f"{root}/{a}")


@operation
def create_as_somebody_else(root: str, a: str, b: str, _n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o777)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresgid(1, 1, 1)
            os.setresuid(1, 1, 1)
            os.mkdir(f"{root}/{a}/theirs", 0o750)
            os.symlink("x", f"{root}/{a}/theirs/link")
            _write(f"{root}/{a}/theirs/file", os.O_WRONLY | os.O_CREAT, b"x")
            status = 0
        finally:
            os._exit(status)
    ended = os.waitpid(child, 0)[1]
    return ended, [look(f"{root}/{a}/{name}") for name in ("theirs", "theirs/link", "theirs/file") if not ended]


@operation
def set_an_attribute(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", f"user.x{n % 3}", _content(n)[:200])
    return get_attributes(root, a, "", 0)


@operation
def set_an_empty_attribute(root: str, a: str, _b: str, _n: int) -> Any:
    os.setxattr(f"{root}/{a}", "user.empty", b"")
    return os.getxattr(f"{root}/{a}", "user.empty")


@operation
def set_a_new_attribute(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", f"user.x{n % 3}", b"new", os.XATTR_CREATE)


@operation
def set_an_old_attribute(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", f"user.x{n % 3}", b"old", os.XATTR_REPLACE)


@operation
def get_attributes(root: str, a: str, _b: str, _n: int) -> Any:
    names = sorted(name for name in os.listxattr(f"{root}/{a}") if name != "security.selinux")
    return [(name, os.getxattr(f"{root}/{a}", name)) for name in names]


@operation
def get_a_missing_attribute(root: str, a: str, _b: str, _n: int) -> Any:
    return os.getxattr(f"{root}/{a}", "user.never")


@operation
def remove_an_attribute(root: str, a: str, _b: str, n: int) -> Any:
    os.removexattr(f"{root}/{a}", f"user.x{n % 3}")


@operation
def set_an_attribute_of_a_link(root: str, a: str, _b: str, _n: int) -> Any:
    os.setxattr(f"{root}/{a}", "user.link", b"1", follow_symlinks=False)


@operation
def list_attributes_of_a_link(root: str, a: str, _b: str, _n: int) -> Any:
    return sorted(set(os.listxattr(f"{root}/{a}", follow_symlinks=False)) - {"security.selinux"})


@operation
def give_a_capability(root: str, a: str, _b: str, _n: int) -> Any:
    os.setxattr(f"{root}/{a}", "security.capability", CAPABILITY)
    return get_attributes(root, a, "", 0)


@operation
def write_to_a_program_with_a_capability(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", "security.capability", CAPABILITY)
    _write(f"{root}/{a}", os.O_WRONLY, b"changed", n)
    return get_attributes(root, a, "", 0)


# --- directories ---


@operation
def listdir(root: str, a: str, _b: str, _n: int) -> Any:
    return sorted(os.listdir(f"{root}/{a}"))


@operation
def list_with_kinds(root: str, a: str, _b: str, _n: int) -> Any:
    with os.scandir(f"{root}/{a}") as entries:
        return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries)


@operation
def walk(root: str, a: str, _b: str, _n: int) -> Any:
    return [(top[len(root) :], sorted(names), sorted(files)) for top, names, files in sorted(os.walk(f"{root}/{a}"))]


@operation
def list_while_deleting(root: str, a: str, _b: str, _n: int) -> Any:
    for number in range(60):
        _write(f"{root}/{a}/tmp-{number}", os.O_WRONLY | os.O_CREAT, b"")
    removed = 0
    with os.scandir(f"{root}/{a}") as entries:
        for entry in entries:
            if entry.name.startswith("tmp-"):
                os.unlink(entry.path)
                removed += 1
    return removed, sorted(os.listdir(f"{root}/{a}"))
