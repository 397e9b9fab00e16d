"""Which names a path must hold to lead to a system file: for nearly all paths that answers at once, without looking at the tree.

A lookup comes to such a file by a component of a fixed name: ``proc`` in the root directory, ``null`` in /dev. That stands in the path
itself or in the text of a link, which in turn stands under its own name in the path or in the text of another link. So a path without any
of those names, and without the name of a link whose text holds one, comes to none (if it does not begin in a directory outside,
which `_stubs` knows).

The links that a tree has are found by one look at all of it, which is done once a step has asked so often that it pays. What the step
makes is noted from its beginning, also by other names for what may be a link: a name never stops to count.

Before that, a path is remembered that was looked up without meeting a link: only a link or another name for something can lead it
elsewhere, so it is forgotten when anybody is about to make one. What else may take the place of a directory on its way is a new, empty one.
So it is with links from behind which nothing leads up again.

A path that does hold such a name, as ``/usr/include/sys/types.h`` does, is remembered in the same way, but always only until then.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from itertools import dropwhile
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls
from img_executor_chroot._links import MOST_LINKS, Inode, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["FIRST_LOOK", "Ways"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_PLAIN: Final = os.O_PATH | os.O_DIRECTORY  # nearly all are files, or not there: these are not even opened
_WITHOUT_LINKS: Final = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
_NOWHERE: Final = frozenset((b"", b".", b".."))
#: as many lookups, before it is worth a look at the tree: at so many entries for each, which takes about as long as they did
FIRST_LOOK: Final = 1500
_ENTRIES: Final = 12
#: of different notes; more than any program needs take too much memory
_MOST_NOTES: Final = 1 << 18
_MOST_REMEMBERED: Final = 1 << 12
_NEVER: Final = -1


class Ways:
    """The names that lead out of the tree *root*, the *first* of which do so by themselves.

    *places* are files of it that stand for others.
    """

    def __init__(self, root: int, first: Iterable[bytes], places: Collection[Inode] = ()) -> None:
        self._root = root
        self._places = places
        self._by_part: dict[bytes, set[bytes]] = {}  # component of a text -> names of links with it
        self._notes = 0
        self._asked = 0
        self._next_look = FIRST_LOOK
        self._naming: set[int] = set()  # threads that may be in the middle of it
        self.names = set(first)
        self.known = False  #: whether `names` are all
        #: paths that hold none of `names`; as long as these are not known, those of them in whose way there is no link
        self.harmless: set[bytes] = set()
        #: absolute paths that hold one of `names`, but are those of files of the tree, without a link on the way
        self.plain: set[bytes] = set()

    def makes_name(self, tid: int) -> None:
        """Note that *tid* is about to do one of what follows: who looks at the tree meanwhile might see it before or after that."""
        self._naming.add(tid)
        self.plain.clear()
        if not self.known:
            self.harmless.clear()

    def makes_link(self, name: bytes, text: bytes) -> None:
        """Note that a link *name*, a path of which the last component counts, is about to say *text*."""
        self._note(_last(name), text)

    def links(self, old: bytes, name: bytes) -> None:
        """Note that what has the path *old* is about to have the path *name*, too: that is like a link to it."""
        if _last(old) in _NOWHERE:  # what a descriptor is of
            self._lead(_last(name))
        else:
            self._note(_last(name), _last(old))

    def give_up(self) -> None:
        """Never tell anything any more: somebody is about to make a name that we cannot know."""
        self.known = False
        self._next_look = _NEVER
        self._by_part.clear()
        self.harmless.clear()

    def calls(self, tid: int) -> None:
        """Note that the thread *tid* calls again, so it is done with what it did."""
        self._naming.discard(tid)

    def looked_up(self, count: int) -> None:
        """Note *count* more lookups in the tree; look at all of it when that pays."""
        self._asked += count
        if self._asked >= self._next_look != _NEVER and not self.known:
            most = self._next_look * _ENTRIES
            self._next_look *= 2
            self.known = self._is_quiet() and self._look(most)

    def _is_quiet(self) -> bool:
        """Tell whether nobody is in the middle of giving a name to anything."""
        self._naming = {tid for tid in self._naming if os.path.exists(f"/proc/{tid}")}
        return not self._naming

    def is_plain(self, path: bytes) -> bool:
        """Tell whether the absolute *path*, which is none of a system file, comes to none by links either; remember it then.

        False if it may come to one: that is found out by nothing but following it.
        """
        if not self.names.isdisjoint(path.split(b"/")):
            return self._is_of_the_tree(path)
        whole = path
        for count in range(1, MOST_LINKS):
            if not self.names.isdisjoint(path.split(b"/")):
                return False
            try:
                os.close(syscalls.openat2(self._root, path, _PLAIN, resolve=_WITHOUT_LINKS))
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as err:
                past = self._past_link(path) if err.errno == errno.ELOOP and self._may_remember() else None
                if past is None:
                    return False
                path = past
                continue
            if self._may_remember():
                self.remember(whole)
            self.looked_up(count)
            return True
        return False

    def _is_of_the_tree(self, path: bytes) -> bool:
        """Tell whether *path* is that of a file of the tree, or of nothing, without a link; remember it then."""
        try:
            fd = syscalls.openat2(self._root, path, os.O_PATH, resolve=_WITHOUT_LINKS)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            return False
        else:
            info = os.fstat(fd)
            os.close(fd)
            if (info.st_dev, info.st_ino) in self._places:
                return False
        if self._next_look != _NEVER and self._is_quiet():
            if len(self.plain) == _MOST_REMEMBERED:
                self.plain.clear()
            self.plain.add(path)
        self.looked_up(1)
        return True

    def _may_remember(self) -> bool:
        return not self.known and self._next_look != _NEVER and self._is_quiet()

    def _past_link(self, path: bytes) -> bytes | None:
        """Return *path* with the text of the first link on its way in place of it; None if there is none, or a plain one would not do.

        Behind the link nothing may lead up: if a directory takes the place of a link, what comes then is in the new one.
        """
        done, parts = b"", path.split(b"/")
        for number, part in enumerate(parts, 1):
            if part == b"..":
                done = done.rpartition(b"/")[0]
            elif part not in _NOWHERE:
                text = text_of(self._root, done + b"/" + part)
                if text is not None:
                    if b".." in (*dropwhile(_NOWHERE.__contains__, text.split(b"/")), *parts[number:]):
                        return None
                    return b"/".join([b"" if text.startswith(b"/") else done, text, *parts[number:]])
                done += b"/" + part
        return None

    def remember(self, path: bytes) -> None:
        """Note that *path* is one of `harmless`."""
        if len(self.harmless) == _MOST_REMEMBERED:
            self.harmless.clear()
        self.harmless.add(path)

    def _note(self, name: bytes, text: bytes) -> None:
        if self._next_look == _NEVER:
            return
        for part in {*text.split(b"/")} - _NOWHERE:
            names = self._by_part.setdefault(part, set())
            if name not in names:
                names.add(name)
                self._notes += 1
            if part in self.names:
                self._lead(name)
        if self._notes > _MOST_NOTES:
            self.give_up()

    def _lead(self, name: bytes) -> None:
        todo = [name]
        while todo:
            name = todo.pop()
            if name not in self.names and name not in _NOWHERE:
                self.names.add(name)
                self.harmless.clear()
                todo += self._by_part.get(name, ())

    def _look(self, most: int) -> bool:
        """Note all links of the tree; tell whether it has no more than *most* entries and all could be read."""
        todo = [b"."]
        try:
            while todo and most > 0:
                most -= self._look_into(todo.pop(), todo)
        except OSError:
            return False
        return not todo and self._next_look != _NEVER

    def _look_into(self, directory: bytes, todo: list[bytes]) -> int:
        """Note the links in *directory*, add the directories in it to *todo*; return how many entries it has. What is gone is nothing."""
        count = 0
        try:
            fd = syscalls.openat2(self._root, directory, _DIRECTORY)
        except FileNotFoundError:
            return 0
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_file(follow_symlinks=False):  # as nearly all are
                        continue
                    if entry.is_symlink():
                        with suppress(FileNotFoundError):
                            self._note(os.fsencode(entry.name), os.fsencode(os.readlink(entry.name, dir_fd=fd)))
                    elif entry.is_dir(follow_symlinks=False):
                        todo.append(directory + b"/" + os.fsencode(entry.name))
        finally:
            os.close(fd)
        return count


def _last(path: bytes) -> bytes:
    return path.rstrip(b"/").rpartition(b"/")[2]
