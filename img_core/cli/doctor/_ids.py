"""Which user and group ids a build may use, and how to get more."""

from __future__ import annotations

import os
import pwd
import shutil
from typing import TYPE_CHECKING, Final

from img_core.cli.doctor._finding import NOTE, OK, WORSE, Finding
from img_core.linux.sandbox import ALL_CAPABILITIES, held_capabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.spec.host import Host

__all__ = ["free_range", "mapping", "taken_ranges"]

_TABLES: Final = ("/etc/subuid", "/etc/subgid")
_USUAL_COUNT: Final = 65536  # what useradd(8) gives
_NEEDED_COUNT: Final = 65535  # with `nobody`, who is 65534
_FIRST: Final = 100_000  # SUB_UID_MIN of login.defs(5)
_LAST: Final = 600_100_000  # SUB_UID_MAX


def mapping(host: Host) -> Iterator[Finding]:
    """Tell how ids are mapped, and what one id alone means."""
    what = "user ids"
    if host.mapping == "root":
        yield Finding(OK, what, "real root")
        return
    if host.mapping == "container":
        yield from _container(host)
        return
    if host.mapping == "fake":
        text = f"no namespace and no capabilities ({host.mapping_reason}): owners are recorded, and steps only believe that they are root"
        hint = "in Kubernetes `hostUsers: false` and root with the capabilities that it has by default needs no belief, and is faster"
        yield Finding(WORSE, what, text, hint)
        return
    user = os.environ.get("USER") or _name_of(host.real_uid)
    if host.mapping == "single":
        text = f"only one id is mapped, owners are recorded instead of set: {host.mapping_reason or 'as asked'}"
        yield Finding(WORSE, what, text, _hint(user, host.mapping_reason))
        if len(os.getgroups()) > 1:
            text = "your supplementary groups stay with the steps: with one id the kernel forbids to drop them"
            yield Finding(WORSE, "groups", text)
        return
    count = _mapped("uid")
    if count < _NEEDED_COUNT:
        text = f"{count} ids are mapped, images may use up to {_NEEDED_COUNT}"
        yield Finding(WORSE, what, text, _range_hint(user))
    else:
        yield Finding(OK, what, f"{count} ids are mapped")


def _container(host: Host) -> Iterator[Finding]:
    text = f"root of a container that can make no namespace ({host.mapping_reason}): {_mapped('uid')} ids, no mounts"
    hint = "to merge layers, not copy them: start the container with contrib/seccomp/builder.json as its profile (AppArmor unconfined)"
    yield Finding(NOTE, "user ids", text, hint)
    if not held_capabilities() >> ALL_CAPABILITIES.index("SYS_CHROOT") & 1:
        text = "root may not chroot here, so a step sees the files of this container, and can change those of img"
        yield Finding(WORSE, "isolation", text, "give the container the capability SYS_CHROOT")


def _mapped(kind: str) -> int:
    with open(f"/proc/self/{kind}_map", encoding="ascii") as table:
        return sum(int(line.split()[2]) for line in table)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _hint(user: str, reason: str) -> str:
    """Return what would give the user more ids, by *reason* why there is only one."""
    if "IMG_IDMAP" in reason:
        return "unset `IMG_IDMAP`"
    tools = {name: shutil.which(name) for name in ("newuidmap", "newgidmap")}
    if not all(tools.values()):
        return "install newuidmap, e.g. `sudo apt-get install uidmap` or `sudo dnf install shadow-utils`"
    if "gives no ids" in reason:
        return _range_hint(user)
    if _no_new_privileges():
        return (
            "this process was started with no-new-privileges, so newuidmap has no effect: in Kubernetes "
            "`allowPrivilegeEscalation: true`, in Docker no `--security-opt no-new-privileges`"
        )
    if "not permitted" in reason:
        # A setuid newuidmap is not the owner of our namespace, and in a container it lacks SYS_ADMIN to make up for it.
        return (
            "in a container the tools need file capabilities, not a setuid bit: "
            f"`setcap cap_setuid+ep {tools['newuidmap']}; setcap cap_setgid+ep {tools['newgidmap']}` as root when its image is made"
        )
    return _range_hint(user)


def _no_new_privileges() -> bool:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        return any(line.split() == ["NoNewPrivs:", "1"] for line in status)


def _range_hint(user: str) -> str:
    """Return the command that gives *user* a range that is nobody's yet, the same one in both tables."""
    first = free_range(taken for path in _TABLES for taken in taken_ranges(path))
    last = first + _USUAL_COUNT - 1
    if _is_local(user):
        return f"`sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}`"
    # usermod knows only users of /etc/passwd, not those of a directory service
    return f"`echo {user}:{first}:{_USUAL_COUNT} | sudo tee -a /etc/subuid /etc/subgid`"


def _is_local(user: str) -> bool:
    try:
        with open("/etc/passwd", encoding="utf-8", errors="replace") as users:
            return any(line.partition(":")[0] == user for line in users)
    except OSError:
        return False


def taken_ranges(path: str) -> list[tuple[int, int]]:
    """Return every ``(start, count)`` in *path*, see subuid(5), whomever it belongs to."""
    try:
        with open(path, encoding="utf-8", errors="replace") as table:
            rows = [line.strip().split(":") for line in table]
    except OSError:
        return []
    return [(int(row[1]), int(row[2])) for row in rows if len(row) == 3 and row[1].isdecimal() and row[2].isdecimal()]


def free_range(taken: Iterable[tuple[int, int]]) -> int:
    """Return the first id of the lowest range of the usual size that overlaps none of the *taken* ``(start, count)``."""
    first = _FIRST
    for start, count in sorted(taken):
        if start + count <= first:
            continue
        if start - first >= _USUAL_COUNT:
            break
        first = start + count
    return min(first, _LAST)
