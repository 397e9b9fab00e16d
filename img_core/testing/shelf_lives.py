"""What the suite of snapshotters does with snapshots: a life as in a build, one that is cut short, layers to unpack, faults of the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from img_core.files import faults
from img_core.spec.errors import ImgError
from img_core.testing import archives
from img_core.testing.shelves import Shelf, Tree
from img_core.testing.trees import fingerprint

__all__ = ["go_around", "large_file", "live", "many_files", "replace_directory", "until", "with_fault"]


def replace_directory(tree: Tree) -> None:
    """Put another directory in the place of `dir` of `example`."""
    tree.remove("dir")
    tree.write("dir/x")


def live(shelf: Shelf, stack: Sequence[str], before: Mapping[bytes, Any], meet: Callable[[], None]) -> None:
    """Do all that a build does on *stack*, which shows *before*; another process does the same from each *meet* to the next."""
    meet()
    view = shelf.driver.view(stack)
    directory = shelf.new()
    root = shelf.driver.prepare(directory, stack, mount_points=True)
    meet()
    replace_directory(Tree(root.fd))
    Tree(root.fd).write("of", shelf.prefix)
    meet()
    root.close()
    made = shelf.finish(directory)
    assert shelf.changes(made, stack) == _CHANGES
    layer = shelf.layer(made, stack)
    meet()
    shelf.driver.owners(stack)
    applied = shelf.apply(stack, layer)
    merged = shelf.tree([*stack, made])
    assert shelf.tree([*stack, applied]) == merged
    assert {path: merged.get(path) for path in before if not path.startswith(b"dir")} == {
        path: (*about[:-2], 0, 0) for path, about in before.items() if not path.startswith(b"dir")
    }
    assert fingerprint(f"/proc/self/fd/{view.fd}") == before
    meet()
    view.close()
    for made_here in (applied, made):
        shelf.driver.remove(made_here)


#: what `live` changes, if there was `example` below
_CHANGES = ["dir/", "-dir/a", "-dir/sub", "dir/x", "of"]


def until(moment: str, shelf: Shelf, stack: Sequence[str], reached: Callable[[], None]) -> None:
    """Use *shelf* until *moment*, then call *reached*."""
    if moment == "view":
        view = shelf.driver.view(stack)
        assert fingerprint(f"/proc/self/fd/{view.fd}")
    elif moment == "prepare":
        replace_directory(Tree(shelf.driver.prepare(shelf.new(), stack).fd))
    elif moment == "changes":
        made = shelf.step(stack, replace_directory)
        next(iter(shelf.driver.changes(made, stack)))
    else:
        shelf.arrive(stack, partial(_stopping, iter([0, 1]), reached))
    reached()


def _stopping(times: Iterator[int], reached: Callable[[], None]) -> Iterator[bytes]:
    """Give a layer; the second time *reached* is called in its middle."""
    again = next(times)
    yield archives.entry(b"arrived", b"1")
    if again:
        reached()
    yield archives.entry(b"late", b"2") + archives.END


def large_file(size: int) -> Iterator[bytes]:
    """Give a layer with a file of *size* bytes."""
    yield archives.header(b"file", size=size)
    yield from (bytes(1 << 20) for _ in range(size >> 20))
    yield archives.END


def many_files(size: int) -> Iterator[bytes]:
    """Give a layer with files that have *size* bytes together, in a place whose path is nearly as long as a path may be."""
    place = b""
    for _ in range(15):
        place += b"d" * 240 + b"/"
        yield archives.pax({b"path": place}) + archives.directory(b"directory/")
    for number in range(size // _SMALL):
        yield archives.pax({b"path": b"%b%06d" % (place, number)}) + archives.entry(b"file", bytes(_SMALL))
    yield archives.entry(b"file") + archives.END


_SMALL = 32 << 10


def go_around(shelf: Shelf, pieces: Callable[[], Iterator[bytes]]) -> None:
    """Unpack a layer in which there is a file `file`, change that in a step, and pack what both changed."""
    first = shelf.arrive([], pieces)
    second = shelf.step([first], _append)
    for directory, parents in ((first, []), (second, [first])):
        shelf.pack(directory, parents, lambda _block: None)
    for directory in (second, first):
        shelf.driver.usage(directory)
        shelf.driver.remove(directory)


def _append(tree: Tree) -> None:
    with open(tree.at("file"), "ab") as file:
        file.write(b"x")


def with_fault(fault: str, number: int, work: Callable[[], object]) -> bool:
    """Do *work* in a process that meets *fault* at its mutation *number*; tell whether it got through."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faults.install(crash_at=number) if fault == "crash" else faults.install(fail_at=number)
            work()
            status = 0
        except (ImgError, OSError):
            status = 2
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 2, 137), f"mutation {number}: status {status}"
    return status == 0
