"""Making, linking, renaming, removing."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import Any

from overlay_operations._table import (
    get,
    look,
    operation,
    operation_with_many_ids,
    put,
    renameat2,
    status_of_somebody_else,
    text,
)


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
    put(f"{root}/{a}/file", os.O_WRONLY | os.O_CREAT, b"x")
    return look(f"{root}/{a}/sub"), look(f"{root}/{a}/file")


@operation
def replace_a_directory(root: str, a: str, _b: str, n: int) -> Any:
    shutil.rmtree(f"{root}/{a}")
    os.mkdir(f"{root}/{a}")
    put(f"{root}/{a}/new", os.O_WRONLY | os.O_CREAT, text(n))
    return sorted(os.listdir(f"{root}/{a}"))


@operation
def replace_a_file_by_a_directory(root: str, a: str, _b: str, _n: int) -> Any:
    os.unlink(f"{root}/{a}")
    os.mkdir(f"{root}/{a}")
    return os.listdir(f"{root}/{a}")


@operation
def replace_a_directory_by_a_file(root: str, a: str, _b: str, n: int) -> Any:
    shutil.rmtree(f"{root}/{a}")
    return put(f"{root}/{a}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, text(n))


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
    put(f"{root}/{b}", os.O_WRONLY | os.O_TRUNC, text(n))
    return get(f"{root}/{a}")


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
    renameat2(f"{root}/{a}", f"{root}/{b}", 1)
    return look(f"{root}/{b}")


@operation
def exchange(root: str, a: str, b: str, _n: int) -> Any:
    renameat2(f"{root}/{a}", f"{root}/{b}", 2)
    return look(f"{root}/{a}"), look(f"{root}/{b}")


@operation
def rename_leaving_a_whiteout(root: str, a: str, b: str, _n: int) -> Any:
    renameat2(f"{root}/{a}", f"{root}/{b}", 4)


@operation
def rename_with_unknown_flags(root: str, a: str, b: str, _n: int) -> Any:
    renameat2(f"{root}/{a}", f"{root}/{b}", 3)


@operation
def rename_into_itself(root: str, a: str, _b: str, _n: int) -> Any:
    os.rename(f"{root}/{a}", f"{root}/{a}/inner")


@operation
def rename_to_the_same_name(root: str, a: str, _b: str, _n: int) -> Any:
    os.rename(f"{root}/{a}", f"{root}/{a}")


@operation
def rename_there_and_back(root: str, a: str, b: str, _n: int) -> Any:
    renameat2(f"{root}/{a}", f"{root}/{b}", 1)
    os.rename(f"{root}/{b}", f"{root}/{a}")
    return look(f"{root}/{a}")


@operation
def make_fill_and_move_a_directory(root: str, a: str, b: str, n: int) -> Any:
    os.mkdir(f"{root}/{a}")
    os.mkdir(f"{root}/{a}/inner")
    put(f"{root}/{a}/inner/file", os.O_WRONLY | os.O_CREAT, text(n))
    os.rename(f"{root}/{a}", f"{root}/{b}")
    return get(f"{root}/{b}/inner/file"), sorted(os.listdir(f"{root}/{b}"))


@operation
def move_as_mv_does(root: str, a: str, b: str, _n: int) -> Any:
    try:
        renameat2(f"{root}/{a}", f"{root}/{b}", 1)
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
    return put(f"{root}/{a}/{name}", os.O_WRONLY | os.O_CREAT, b"long")


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


@operation
def create_with_a_umask(root: str, a: str, _b: str, n: int) -> Any:
    before = os.umask(0o021 + n)
    try:
        put(f"{root}/{a}", os.O_WRONLY | os.O_CREAT, b"masked")
        os.mkdir(f"{root}/{a}.d", 0o777)
        os.mkfifo(f"{root}/{a}.p", 0o666)
        return [look(f"{root}/{a}{end}") for end in ("", ".d", ".p")]
    finally:
        os.umask(before)


@operation_with_many_ids
def remove_from_a_sticky_directory_as_somebody_else(root: str, a: str, b: str, _n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o1777)
    put(f"{root}/{a}/mine", os.O_WRONLY | os.O_CREAT, b"x")
    return [
        status_of_somebody_else(lambda: os.unlink(f"{root}/{a}/mine")),
        status_of_somebody_else(lambda: os.rename(f"{root}/{a}/mine", f"{root}/{a}/other")),
        status_of_somebody_else(lambda: os.mkdir(f"{root}/{a}/theirs")),
        status_of_somebody_else(lambda: os.rmdir(f"{root}/{a}/theirs")),
    ]


@operation
def work_in_a_moved_directory(root: str, a: str, b: str, n: int) -> Any:
    os.mkdir(f"{root}/{a}")
    fd = os.open(f"{root}/{a}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rename(f"{root}/{a}", f"{root}/{b}")
        put(f"/proc/self/fd/{fd}/inside", os.O_WRONLY | os.O_CREAT, text(n))
        return get(f"{root}/{b}/inside"), os.listdir(fd)
    finally:
        os.close(fd)


@operation
def link_a_link(root: str, a: str, b: str, _n: int) -> Any:
    os.symlink("somewhere", f"{root}/{a}")
    os.link(f"{root}/{a}", f"{root}/{b}", follow_symlinks=False)
    return os.readlink(f"{root}/{b}"), look(f"{root}/{b}")
