"""Serves the calls of one step that may ask for what its tree does not have: /proc, /sys, devices, secrets.

The filter (`_filter`) stops every call that takes a path, before the kernel looks at it. Nearly all of them go on at once. What names a
system file (`_outside`) is done here (`_answers`), and the result is put among the caller's descriptors or into its memory (`_callers`).

What a step says is hostile, and may change while we look: so nothing here decides about safety of the tree. That is the kernel's: a call
that goes on is done with the step's own root and rights.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls
from img_executor_chroot import _outside as outside
from img_executor_chroot._answers import Answers, StoppedCall
from img_executor_chroot._callers import Callers, PathReader
from img_executor_chroot._calls import CALLS, NAMINGS, Call, Naming
from img_executor_chroot._links import Inode, leads_to
from img_executor_chroot._stubs import Stubs
from img_executor_chroot._ways import Ways
from img_lib_containers import seccomp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Supervisor"]

_TREES: Final = frozenset((b"proc", b"sys"))
_RENAME_EXCHANGE: Final = 2  # linux/fs.h
_LOOKUPS_OF_LINKS: Final = 4  # that take as long as finding out where links lead


class Supervisor:
    """Serves one step; *memory* maps places in its *tree* to descriptors of files that are in no tree."""

    def __init__(self, listener: int, tree: outside.StepTree, memory: Mapping[str, int]) -> None:
        self._listener = listener
        seccomp.stay_on_one_processor(listener)
        self._tree = tree
        self._root = tree.root
        self._top = tree.top
        self._memory = dict(self._places(memory))
        self._stubs = Stubs(self._root, self._top, tree.systems)
        names = (*outside.NAMES, *(os.fsencode(os.path.basename(target)) for target in memory))
        self._ways = Ways(self._root, names, {*tree.places, *self._memory})
        self._callers = Callers(listener)
        self._answers = Answers(listener, tree, self._stubs, self._callers)

    def _places(self, memory: Mapping[str, int]) -> Iterator[tuple[tuple[int, int], int]]:
        for target, fd in memory.items():
            yield self._tree.hold(syscalls.openat2(self._root, target, os.O_PATH)), fd

    def run(self, pidfd: int) -> None:
        """Answer calls until the process behind *pidfd* has ended."""
        channel = seccomp.Channel(self._listener)
        self._stubs.used = True  # until we know where it begins
        begun = False
        for raw in channel.calls(pidfd, self._passing(channel)):
            begun = begun or self._begin(raw[seccomp.RAW_PID])
            self._serve(seccomp.Notification.of(raw))

    def _begin(self, pid: int) -> bool:
        """Note whether the step begins in a directory that stands for one outside; tell if that is to be seen.

        It is not before the first program is executed, and from there on no process is elsewhere without having asked us.
        """
        try:
            directory = self._callers.working_directory(pid)
        except OSError:
            return False
        finally:
            self._callers.become_root()
        meant = self._from_root(directory)
        self._stubs.used = meant is None or self._tree.system_path(meant) is not None
        return True

    def _passing(self, channel: seccomp.Channel) -> Callable[[], bool]:
        """Return what tells of the call in *channel* whether it is seen at once not to be about a system file."""
        ways, stubs = self._ways, self._stubs
        leads, harmless, plain = ways.names, ways.harmless, ways.plain
        reader = PathReader(self._callers, channel.pid)
        words, which, arguments = channel.words, channel.CALL, channel.ARGUMENTS
        shapes = {
            channel.call_of(architecture, number): (
                reader.read_last if call.kind == "execute" else reader.read,
                arguments + call.path,
                arguments + call.flags if call.flags >= 0 else which,
                _not_following(call),
            )
            for architecture, calls in CALLS.items()
            for number, call in calls.items()
        }

        def passes() -> bool:
            shape = shapes.get(words[which])
            if shape is None:
                return False
            read, path_at, flags_at, not_following = shape
            path = read(words[path_at])
            if path is None or (stubs.used and path[:1] != b"/"):
                return False
            if path in harmless:
                return True
            if ways.known:
                if leads.isdisjoint(path.split(b"/")):
                    ways.remember(path)
                    return True
                return path in plain
            # A name alone that is not followed has no way but itself.
            return path in plain or (words[flags_at] & not_following != 0 and b"/" not in path and path not in leads)

        return passes

    def _is_harmless(self, path: bytes) -> bool:
        """Tell whether *path* is known to lead to no system file."""
        return (
            (path[:1] == b"/" or not self._stubs.used)
            and self._ways.known
            and self._ways.names.isdisjoint(path.split(b"/"))
        )

    def _serve(self, notification: seccomp.Notification) -> None:
        try:
            if not self._answered(notification):
                seccomp.proceed(self._listener, notification)
        except OSError as err:
            seccomp.answer(self._listener, notification, error=err.errno or errno.EIO)
        finally:
            self._callers.become_root()

    def _answered(self, notification: seccomp.Notification) -> bool:
        """Answer a call, or return False for one that the kernel is to do."""
        self._ways.calls(notification.pid)
        call = CALLS.get(notification.architecture, {}).get(notification.number)
        if call is None:
            naming = NAMINGS.get(notification.architecture, {}).get(notification.number)
            if naming is not None:
                self._name(naming, notification)
            return False
        path = self._callers.path(notification.pid, notification.arguments[call.path])
        if not path or self._is_harmless(path):
            return False
        meant = self._meaning(call, notification, path)
        if meant is None:
            if path[:1] == b"/" and self._ways.is_plain(path):
                return False
            led = self._by_links(call, notification, path)
            if isinstance(led, tuple):
                return led in self._memory and self._answers.give_from_memory(call, notification, self._memory[led])
            meant = led
        if meant is None:
            return False
        is_directory = path.endswith((b"/", b"/.", b"/.."))  # it can only mean one
        target = outside.target(meant, notification.pid, self._tree)
        self._answers.answer(StoppedCall(call, notification, meant, target, is_directory))
        return True

    def _name(self, naming: Naming, notification: seccomp.Notification) -> None:
        """Note that something is about to get a name."""
        self._ways.makes_name(notification.pid)
        given = notification.arguments
        text = self._callers.path(notification.pid, given[naming.text])
        name = self._callers.path(notification.pid, given[naming.name])
        if text is None or name is None:
            if seccomp.still_waiting(self._listener, notification):
                self._ways.give_up()
        elif naming.kind == "makes":
            self._ways.makes_link(name, text)
        elif naming.kind == "links":
            self._ways.links(text, name)
        else:
            self._ways.links(text, name)
            if naming.flags >= 0 and given[naming.flags] & _RENAME_EXCHANGE:
                self._ways.links(name, text)
            if not _TREES.isdisjoint((*text.split(b"/"), *name.split(b"/"))):
                self._stubs.used = True  # whoever is in that directory may be in /proc now

    def _meaning(self, call: Call, notification: seccomp.Notification, path: bytes) -> bytes | None:
        """Return the system file that *path* means, or None if it is one of the tree."""
        if path[:1] == b"/":
            return self._tree.system_path(path)
        if not self._stubs.used and outside.NAMES.isdisjoint(path.split(b"/")):
            return None
        whole = self._whole(call, notification, path)
        return None if whole is None else self._tree.system_path(whole)

    def _by_links(self, call: Call, notification: seccomp.Notification, path: bytes) -> bytes | Inode | None:
        """Return the system file that links of the tree lead *path* to; of a file to be opened that may be in memory, its inode."""
        follow = self._callers.follows(call, notification)
        if path[:1] != b"/":
            if not follow and b"/" not in path:
                return None  # the name itself is meant, and where it is was found before
            whole = self._whole(call, notification, path, tidy=False)
            if whole is None:
                return None
            path = whole
        self._ways.looked_up(_LOOKUPS_OF_LINKS)
        return leads_to(self._tree, path, follow=follow, inode=bool(self._memory) and call.kind in ("open", "openat2"))

    def _whole(self, call: Call, notification: seccomp.Notification, path: bytes, *, tidy: bool = True) -> bytes | None:
        """Return the relative *path* from the root of the step on; *tidy*: without what leads nowhere."""
        try:
            directory = self._callers.directory(call, notification)
        except OSError:
            return None
        meant = self._from_root(directory)
        if meant is None:
            return None
        whole = meant + b"/" + path
        return outside.normal(whole) if tidy else whole

    def _from_root(self, directory: bytes) -> bytes | None:
        """Return what *directory*, as seen from here, is for the step; None for one that is nowhere in the tree."""
        meant = self._stubs.meaning(directory)
        if meant is None and outside.is_below(directory, self._top):
            return directory[len(self._top) :]
        return meant


def _not_following(call: Call) -> int:
    """Return the bits of the flags that keep *call* from following a link at the end of its path; all if it never does."""
    if call.flags < 0:
        return 0 if call.follow else -1
    if call.kind == "openat2":  # its flags are elsewhere
        return 0
    return os.O_NOFOLLOW if call.kind == "open" else syscalls.AT_SYMLINK_NOFOLLOW
