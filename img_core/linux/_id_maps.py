"""Which ids a user may map, and mapping them: the helpers newuidmap(1) and newgidmap(1), or the map files of a process."""

from __future__ import annotations

import os

from img_core.linux import syscalls
from img_core.spec.dataclass import dataclass

__all__ = [
    "CannotMapError",
    "IdRange",
    "MapPlan",
    "RealIdentity",
    "has_capability",
    "identity_plan",
    "map_target",
    "read_all",
    "read_map",
    "read_text",
    "sub_id_plan",
    "sub_id_ranges",
    "write_once",
]


@dataclass(frozen=True, slots=True)
class IdRange:
    """*count* ids from *inside* on are those from *outside* on in the parent namespace."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class RealIdentity:
    uid: int
    gid: int
    groups: tuple[int, ...]
    user: str
    home: str


def read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # pathlib would cost 6 ms at every start
        return file.read()


def has_capability(number: int) -> bool:
    for line in read_text("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


class CannotMapError(Exception):
    """No full mapping can be tried; the message says why."""


@dataclass(frozen=True, slots=True)
class MapPlan:
    """How the helper maps: by the setuid tools (paths given), or by writing the map files itself."""

    uid_ranges: tuple[IdRange, ...]
    gid_ranges: tuple[IdRange, ...]
    newuidmap: str | None = None
    newgidmap: str | None = None


def identity_plan() -> MapPlan:
    """Map every id to itself: we are root in a container that lacks SYS_ADMIN, but may set ids."""
    if not (has_capability(syscalls.CAP_SETUID) and has_capability(syscalls.CAP_SETGID)):
        raise CannotMapError("root lacks the capabilities SETUID and SETGID in this container")
    uids, gids = (tuple(IdRange(r.inside, r.inside, r.count) for r in read_map(kind)) for kind in ("uid", "gid"))
    return MapPlan(uids, gids)


def sub_id_plan(real: RealIdentity) -> MapPlan:
    tools = {name: _find_tool(name) for name in ("newuidmap", "newgidmap")}
    missing = [name for name, path in tools.items() if path is None]
    if missing:
        raise CannotMapError(f"`{missing[0]}` is not on PATH (package `uidmap` or `shadow-utils`)")
    ranges = {}
    for kind, own_id in (("uid", real.uid), ("gid", real.gid)):
        sub_ranges = sub_id_ranges(f"/etc/sub{kind}", user=real.user, uid=real.uid)
        sub_ranges = sub_ranges or _directory_ranges(kind, real.user)
        if not sub_ranges:
            raise CannotMapError(f"`/etc/sub{kind}` gives no ids to `{real.user}`")
        ranges[kind] = _lay_out(own_id, sub_ranges)
    return MapPlan(ranges["uid"], ranges["gid"], tools["newuidmap"], tools["newgidmap"])


def sub_id_ranges(path: str, *, user: str, uid: int) -> list[tuple[int, int]]:
    """Return all ``(start, count)`` ranges that *path* (see subuid(5)) gives to a user, by name and by uid."""
    try:
        lines = read_text(path).splitlines()
    except OSError:
        return []
    ranges = []
    for line in lines:
        owner, _, rest = line.strip().partition(":")
        start, _, count = rest.partition(":")
        if owner in (user, str(uid)) and start.isdecimal() and count.isdecimal() and int(count) > 0:
            ranges.append((int(start), int(count)))
    return list(dict.fromkeys(ranges))


def _directory_ranges(kind: str, user: str) -> list[tuple[int, int]]:
    """Ask getsubids(1) for ranges that a directory service gives (``subid:`` in nsswitch.conf); often it is not installed."""
    tool = _find_tool("getsubids")
    if tool is None:
        return []
    output_read, output_write = os.pipe()
    command = [tool, *(["-g"] if kind == "gid" else []), user]
    try:
        actions = [(os.POSIX_SPAWN_DUP2, output_write, 1), (os.POSIX_SPAWN_CLOSE, 2)]
        pid = os.posix_spawn(tool, command, os.environ, file_actions=actions)
    except OSError:  # as good as not installed: an image without the loader of its programs, say
        os.close(output_read)
        return []
    finally:
        os.close(output_write)
    text = read_all(output_read).decode(errors="replace")
    os.close(output_read)
    os.waitpid(pid, 0)
    words = [line.split() for line in text.splitlines()]  # `0: user start count`
    return [(int(w[2]), int(w[3])) for w in words if len(w) == 4 and w[2].isdecimal() and w[3].isdecimal()]


def _lay_out(own_id: int, sub_ranges: list[tuple[int, int]]) -> tuple[IdRange, ...]:
    """Put our own id at 0 and the ranges one after the other from 1 on, as other rootless builders do."""
    laid_out = [IdRange(0, own_id, 1)]
    position = 1
    for start, count in sub_ranges:
        laid_out.append(IdRange(position, start, count))
        position += count
    return tuple(laid_out)


def _find_tool(name: str) -> str | None:
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = f"{directory or '.'}/{name}"
        if os.access(candidate, os.X_OK):
            return candidate
    return None


def map_target(target: int, plan: MapPlan) -> str:
    if plan.newuidmap is None or plan.newgidmap is None:
        return _write_maps(target, plan)
    return _run_map_tools(target, (plan.newgidmap, plan.gid_ranges), (plan.newuidmap, plan.uid_ranges))


def _write_maps(target: int, plan: MapPlan) -> str:
    for kind, ranges in (("gid", plan.gid_ranges), ("uid", plan.uid_ranges)):
        text = "".join(f"{r.inside} {r.outside} {r.count}\n" for r in ranges)
        try:
            write_once(f"/proc/{target}/{kind}_map", text)
        except OSError as err:
            return f"the kernel refused the {kind} map: {err.strerror}"
    return ""


def _run_map_tools(target: int, *tools: tuple[str, tuple[IdRange, ...]]) -> str:
    """Run both tools at the same time; return the first complaint."""
    running, complaints = [], []
    for path, ranges in tools:
        numbers = [str(number) for r in ranges for number in (r.inside, r.outside, r.count)]
        output_read, output_write = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, output_write, 1), (os.POSIX_SPAWN_DUP2, output_write, 2)]
        try:
            pid = os.posix_spawn(path, [path, str(target), *numbers], os.environ, file_actions=actions)
        except OSError as err:
            complaints.append(f"`{path}` cannot be run: {err.strerror}")
            os.close(output_read)
        else:
            running.append((path, pid, output_read))
        finally:
            os.close(output_write)
    for path, pid, output_read in running:
        output = read_all(output_read).decode(errors="replace").strip()
        _, status = os.waitpid(pid, 0)
        if status != 0:
            words = output.splitlines()[-1] if output else f"exit status {os.waitstatus_to_exitcode(status)}"
            complaints.append(f"`{path}` failed: {words}")
    return complaints[0] if complaints else ""


def read_all(fd: int) -> bytes:
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def write_once(path: str, text: str) -> None:
    # Map files take one write(2); and the error must not surface in a destructor.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read_map(kind: str) -> tuple[IdRange, ...]:
    lines = read_text(f"/proc/self/{kind}_map").splitlines()
    return tuple(IdRange(*map(int, line.split())) for line in lines)
