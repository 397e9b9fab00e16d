"""Make a control group for a step below our own, if the host has given us one (cgroups(7): delegation).

Version 2 has one hierarchy, in which a group that hands out memory or processor time may hold no processes itself; version 1 has one
per controller. A machine may have both, so each controller is looked for where it is.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from img_core.spec.errors import HostError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from img_core.linux.cgroups.limits import Limits, Setting

__all__ = ["Hierarchy", "StepGroups", "dividable_controllers", "hierarchies", "limited_group"]

_PREFIX: Final = "img-"
_LEAF: Final = "img-builder"
_HINT: Final = (
    "start it as `systemd-run --user --scope -p Delegate=yes img build …`, or in a container with cgroups of its own; "
    "or leave the limit out"
)
_PATIENCE: Final = 1.0  # seconds for the kernel to forget the processes of a group
_CONTROLLERS: Final = frozenset({"cpu", "cpuset", "memory"})
_NUMBERS: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One tree of control groups, and which group of it we are in: an absolute path. Version 2 has all *controllers* it may enable."""

    version: int
    directory: str
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class StepGroups:
    """The groups of one step. A process that writes ``0`` to each of *procs_fds* is in them, with all its later children."""

    procs_fds: tuple[int, ...]
    directories: tuple[str, ...]

    def was_killed(self) -> bool:
        """Tell whether the kernel killed a process of it for want of memory."""
        for directory in self.directories:
            for name in ("memory.events", "memory.oom_control"):
                words = _read(f"{directory}/{name}").split()
                if "oom_kill" in words and words[words.index("oom_kill") + 1] != "0":
                    return True
        return False


@contextmanager
def limited_group(limits: Limits) -> Iterator[StepGroups]:
    """Give a group with *limits* for a block, and remove it afterwards. Raises HostError if the host does not let us make one.

    A limit that cannot be held is an error and no warning: who gives one protects other users of the machine, or a job from being killed.
    """
    with ExitStack() as stack:
        places = list(_places(limits))
        made: dict[str, str] = {}
        for parent, setting in places:
            if parent not in made:
                made[parent] = _make(parent, setting)
                stack.callback(_remove, made[parent])
        for parent, setting in places:
            _apply(made[parent], setting)
        procs = [os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for directory in made.values()]
        for fd in procs:
            stack.callback(os.close, fd)
        yield StepGroups(tuple(procs), tuple(made.values()))


def _places(limits: Limits) -> Iterator[tuple[str, Setting]]:
    """Return each setting with the directory below which its group is to be made."""
    found = hierarchies()
    for version in (1, 2):
        settings = limits.settings(version)
        for hierarchy in found:
            if hierarchy.version != version:
                continue
            mine = [setting for setting in settings if setting.controller in hierarchy.controllers]
            if mine:
                parent = hierarchy.directory if version == 1 else _dividable(hierarchy, mine)
                yield from ((parent, setting) for setting in mine)
    everywhere = {controller for hierarchy in found for controller in hierarchy.controllers}
    for setting in limits.settings(2):
        if setting.controller not in everywhere:
            raise HostError(
                f"`{setting.flag}` needs the cgroup controller `{setting.controller}`, which is not available here",
                hint=_HINT,
            )


def hierarchies(groups: str = "/proc/self/cgroup", mounts: str = "/proc/self/mountinfo") -> list[Hierarchy]:
    """Return the trees that are mounted and the groups of this process in them; both files as in proc(5)."""
    own: dict[frozenset[str], str] = {}
    for line in _read(groups).splitlines():
        _, names, path = line.split(":", 2)
        own[frozenset(filter(None, names.split(",")))] = path
    found = []
    for line in _read(mounts).splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        root, point = fields.split(" ")[3:5]
        if kind == "cgroup2":
            directory = _below(point, root, own.get(frozenset(), ""))
            if directory:
                found.append(Hierarchy(2, directory, frozenset(_controllers(directory))))
        elif kind == "cgroup":
            for controllers, path in own.items():
                directory = _below(point, root, path)
                if controllers and controllers <= set(options.split(",")) and directory:
                    found.append(Hierarchy(1, directory, controllers))
    return found


def dividable_controllers() -> list[str]:
    """Return which kinds of limits a group of ours could hold, sorted; nothing is changed to find out."""
    found: set[str] = set()
    for hierarchy in hierarchies():
        above = os.path.dirname(hierarchy.directory)
        if _is_ours(hierarchy.directory):
            found |= hierarchy.controllers
        elif hierarchy.version == 2 and _is_ours(above):
            found |= set(_read(f"{above}/cgroup.subtree_control").split())
    return sorted(found & _CONTROLLERS)


def _below(point: str, root: str, path: str) -> str:
    """Return where the group *path* is, when the group *root* is mounted at *point*; empty if it cannot be seen there."""
    if root != "/" and path != root and not path.startswith(f"{root}/"):
        return ""
    relative = path if root == "/" else path[len(root) :]
    directory = os.path.normpath(f"{point}/{relative}")
    return directory if path and ".." not in path.split("/") and os.path.isdir(directory) else ""


def _controllers(directory: str) -> list[str]:
    """Return what version 2 lets a group hand out: what it has got, or what its parent hands out already."""
    return _read(f"{directory}/cgroup.controllers").split()


def _dividable(hierarchy: Hierarchy, settings: Sequence[Setting]) -> str:
    """Return a directory of version 2 below which a group with the controllers of *settings* can be made."""
    wanted = {setting.controller for setting in settings}
    above = os.path.dirname(hierarchy.directory)
    # Moving a process takes the right to write to the common ancestor of both groups.
    if _is_ours(above) and wanted <= set(_read(f"{above}/cgroup.subtree_control").split()):
        return above
    if not _is_ours(hierarchy.directory):
        raise _not_delegated(settings[0])
    try:
        _enable(hierarchy.directory, wanted)
    except OSError as err:
        if err.errno != errno.EBUSY or not _step_aside(hierarchy.directory):
            raise _not_delegated(settings[0]) from err
        _enable(hierarchy.directory, wanted)
    return hierarchy.directory


def _is_ours(directory: str) -> bool:
    return all(os.access(path, os.W_OK) for path in (directory, f"{directory}/cgroup.procs"))


def _enable(directory: str, controllers: Iterable[str]) -> None:
    _write(f"{directory}/cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(controllers)))


def _step_aside(directory: str) -> bool:
    """Move this process and its children to a group of their own, if there are no others in *directory*; tell whether it worked."""
    present = [int(pid) for pid in _read(f"{directory}/cgroup.procs").split()]
    if not all(_is_family(pid) for pid in present):
        return False
    leaf = f"{directory}/{_LEAF}"
    os.makedirs(leaf, exist_ok=True)
    for pid in present:
        try:
            _write(f"{leaf}/cgroup.procs", str(pid))
        except ProcessLookupError:  # it has ended meanwhile
            pass
    return True


def _is_family(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        pid = int(fields[1]) if fields else 0
    return False


def _make(parent: str, setting: Setting) -> str:
    _collect(parent)
    directory = f"{parent}/{_PREFIX}{os.getpid()}-{next(_NUMBERS)}"
    try:
        os.mkdir(directory)
        # A set of processors starts empty in version 1, and an empty one takes no processes.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if setting.controller == "cpuset" and not _read(f"{directory}/{name}").strip():
                _write(f"{directory}/{name}", _read(f"{parent}/{name}").strip())
    except OSError as err:
        if err.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise _not_delegated(setting) from err
        raise HostError(f"cannot make a cgroup for `{setting.flag}`: {err.strerror}") from err
    return directory


def _collect(parent: str) -> None:
    """Remove the groups of builders that were killed."""
    for name in os.listdir(parent):
        pid = name.removeprefix(_PREFIX).partition("-")[0]
        if name.startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            try:
                os.rmdir(f"{parent}/{name}")
            except OSError:  # somebody else did, or not ours
                pass


def _apply(directory: str, setting: Setting) -> None:
    try:
        _write(f"{directory}/{setting.file}", setting.value)
    except FileNotFoundError as err:
        raise HostError(f"`{setting.flag}` is not possible here: this kernel has no `{setting.file}`") from err
    except OSError as err:
        if err.errno in (errno.EINVAL, errno.ERANGE, errno.ENOSPC):
            raise UsageError(f"the kernel refuses `{setting.flag}`: {err.strerror} (`{setting.value}`)") from err
        raise HostError(f"cannot set `{setting.flag}`: {err.strerror}") from err


def _remove(directory: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return  # the next builder collects it
            time.sleep(0.005)


def _not_delegated(setting: Setting) -> HostError:
    return HostError(
        f"`{setting.flag}` cannot be held: this user has no cgroup of its own with `{setting.controller}`", hint=_HINT
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())  # one write, whose error counts; a file object would report it too late
    finally:
        os.close(fd)
