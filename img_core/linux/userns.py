"""Enter a user namespace in which this process may own files of many ids and mount file systems.

The process enters by itself, without a proxy parent and without a re-exec: a short-lived helper that stays outside runs
``newuidmap`` and ``newgidmap`` on it. When they are missing or refuse, the same process maps its single id instead.
The ladder, best first (`Identity.mode`):

* ``root``: uid 0 of the host; nothing is mapped, only the mount namespace is ours.
* ``full``: uid 0 plus ranges of subordinate ids.
* ``single``: uid 0 alone; every other owner can only be recorded, not set.
* ``container``: no namespace can be made, but we are root of a container that engines start by default: owners can be set, nothing can
  be mounted, and steps are kept apart from us by what a container's root can do (chroot, filters of system calls), or can at least run.
* ``fake``: no namespace can be made and we may change no owner, but the root directory of the container is ours to write: owners are
  recorded, and an executor makes steps believe that they are root.

``IMG_IDMAP=full|single|container|fake`` forces a rung (``full``: an error instead of the fallback).
"""

from __future__ import annotations

import errno
import os
import pwd
from typing import Final, Literal

from img_core.linux import syscalls
from img_core.linux._id_maps import (
    CannotMapError,
    IdRange,
    MapPlan,
    RealIdentity,
    has_capability,
    identity_plan,
    map_target,
    read_all,
    read_map,
    read_text,
    sub_id_plan,
    sub_id_ranges,
    write_once,
)
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import HostError, UsageError

__all__ = ["IdRange", "Identity", "IdmapMode", "current", "enter", "sub_id_ranges"]

IdmapMode = Literal["full", "single", "root", "container", "fake"]

# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP: what a build takes where nothing can be mounted.
_CONTAINER_CAPABILITIES: Final = (0, 1, 3, 4, 5, 6, 7, 8)
#: where one who has no capabilities must be able to exchange names: the root directory, or one that an image made for him has below it
_EXCHANGEABLE: Final = ("/", "/usr")

_WHOLE_ID_SPACE: Final = 4294967295


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are: the real identity, read before the entry, and what the namespace maps."""

    mode: IdmapMode
    uid: int  #: real user id, outside of the namespace
    gid: int
    groups: tuple[int, ...]  #: supplementary groups, outside
    user: str  #: login name, or the uid as text when it has none
    home: str
    uid_ranges: tuple[IdRange, ...]
    gid_ranges: tuple[IdRange, ...]
    entered: bool  #: a new user namespace was made
    fallback_reason: str | None = None  #: why ``single`` instead of ``full``


def enter() -> Identity:
    """Enter the best namespace this host allows; call once, before the first thread.

    Mounts made afterwards are invisible to the host; unmounts of the host still reach us.
    Raises `HostError` when threads run (a library caller uses a subprocess) or the host forbids namespaces.
    """
    wanted = _forced_mode()
    _require_kernel()
    real = _real_identity()
    _require_single_thread()
    fake = False
    try:
        reason, entered = _make_namespaces(real, wanted)
    except _NoNamespaceError as err:
        if wanted in ("full", "single"):
            raise
        lacked = _lacked_in_container()
        fake = (
            bool(lacked or wanted == "fake")
            and wanted != "container"
            and any(os.access(path, os.W_OK) for path in _EXCHANGEABLE)
        )
        if lacked and not fake:
            hint = f"{err.hint}; {lacked}" if "container" in (err.hint or "") else err.hint
            raise HostError(err.message, hint=hint) from err
        reason, entered = err.message, False
        # Without a pid namespace of theirs nothing else keeps steps from our memory, see ptrace(2).
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    uid_ranges, gid_ranges = read_map("uid"), read_map("gid")
    identity = Identity(
        mode=_mode_of(uid_ranges, gid_ranges) if entered or reason is None else "fake" if fake else "container",
        uid_ranges=uid_ranges,
        gid_ranges=gid_ranges,
        entered=entered,
        fallback_reason=reason,
        uid=real.uid,
        gid=real.gid,
        groups=real.groups,
        user=real.user,
        home=real.home,
    )
    _entered.append(identity)
    return identity


_entered: list[Identity] = []  # a process enters once, and it is the whole process that does


def current() -> Identity | None:
    """Return what `enter` gave this process; None if it was not called in it."""
    return _entered[-1] if _entered else None


def _real_identity() -> RealIdentity:
    uid = os.getuid()
    try:
        entry = pwd.getpwuid(uid)
        user, home = entry.pw_name, entry.pw_dir
    except KeyError:  # common in containers: `docker run --user 2000`
        user, home = str(uid), "/"
    return RealIdentity(uid, os.getgid(), tuple(os.getgroups()), user, os.environ.get("HOME") or home)


def _forced_mode() -> str | None:
    wanted = os.environ.get("IMG_IDMAP") or None
    if wanted not in (None, "full", "single", "container", "fake"):
        raise UsageError(f"`IMG_IDMAP` must be `full`, `single`, `container` or `fake`, not `{wanted}`")
    return wanted


def _lacked_in_container() -> str:
    """Return what this process would need to go on without a namespace; empty if it has it."""
    if os.geteuid() != 0:
        return (
            "in a container, root needs no namespace: that of a pod with `hostUsers: false` is nobody on the node;"
            " nor does another user with an image of img in `/.img` alone, if `/` has the mode 0777 (CRI-O), or with one whose"
            " directories are his (target `restricted` in contrib/container)"
        )
    if all(map(has_capability, _CONTAINER_CAPABILITIES)):
        return ""
    from img_core.linux.sandbox import ALL_CAPABILITIES  # on the way to an error only

    lacked = ", ".join(ALL_CAPABILITIES[number] for number in _CONTAINER_CAPABILITIES if not has_capability(number))
    return f"in a container root needs no namespace if it has also the capabilities {lacked}"


def _require_kernel() -> None:
    """Refuse a kernel without the calls that everything is built on, before half of the work is done.

    Asking for them, not for a version: distributions add calls to old kernels, and containers hide them in new ones.
    """
    try:
        os.close(syscalls.pidfd_open(os.getpid()))
        os.close(syscalls.openat2(syscalls.AT_FDCWD, "/", os.O_PATH))
        syscalls.close_range(0xFFFFFFFF)  # there is no such descriptor
    except OSError as err:
        if err.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        raise HostError(
            f"this kernel (Linux {os.uname().release}) is too old, or a container hides its newer calls: {err.strerror}",
            hint="img needs Linux 5.10 or newer; in a container also a seccomp profile that knows its calls",
        ) from err


def _require_single_thread() -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise HostError(
            f"cannot enter a user namespace: this process runs {threads} threads",
            hint="enter before the first thread starts, or run the build in a subprocess",
        )


# --- entering ---------------------------------------------------------------------------------------------------------


class _NoNamespaceError(HostError):
    """No namespace can be made here; this process is what it was."""


def _make_namespaces(real: RealIdentity, wanted: str | None) -> tuple[str | None, bool]:
    """Make what this process may make; return the reason of a fallback to a single id (or None), and whether ids are mapped now."""
    if wanted in ("container", "fake"):
        raise _NoNamespaceError(f"`IMG_IDMAP={wanted}` asks for none", hint="this takes the root of a container")
    if wanted != "single" and os.geteuid() == 0 and has_capability(syscalls.CAP_SYS_ADMIN):
        _unshare(syscalls.CLONE_NEWNS)
        reason, entered = None, False
    else:
        reason, entered = _enter_user_namespace(real, wanted), True
    _make_mounts_slave()
    return reason, entered


def _enter_user_namespace(real: RealIdentity, wanted: str | None) -> str | None:
    """Unshare and get mapped; return the reason of a fallback to a single id, or None."""
    if wanted == "single":
        _unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        _map_single_id(real)
        return "`IMG_IDMAP=single` asks for it"
    try:
        plan = identity_plan() if real.uid == 0 else sub_id_plan(real)
    except CannotMapError as err:
        if wanted == "full":
            raise HostError(f"cannot map subordinate ids: {err}") from err
        _unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        _map_single_id(real)
        return str(err)
    reason = _unshare_with_helper(plan)
    if reason is None:
        return None
    if wanted == "full":
        raise HostError(f"cannot map subordinate ids: {reason}")
    _map_single_id(real)
    return reason


def _unshare(flags: int) -> None:
    try:
        syscalls.unshare(flags)
    except OSError as err:
        raise _explain_unshare(err, flags) from err


def _explain_unshare(err: OSError, flags: int) -> _NoNamespaceError:
    what = "a user namespace" if flags & syscalls.CLONE_NEWUSER else "a mount namespace"
    if err.errno == errno.EINVAL:
        return _NoNamespaceError(f"cannot create {what}: the process has threads", hint="run the build in a subprocess")
    if err.errno in (errno.ENOSPC, errno.EUSERS):
        return _NoNamespaceError(
            f"cannot create {what}: the limit on namespaces is reached",
            hint="an administrator can raise it: sysctl -w user.max_user_namespaces=15000",
        )
    if err.errno == errno.EPERM:
        return _NoNamespaceError(f"cannot create {what}: not permitted on this host", hint=_eperm_hint())
    if err.errno == errno.ENOSYS:
        return _NoNamespaceError(
            f"cannot create {what}: the kernel lacks it, or a container's seccomp profile hides it",
            hint="in a container, allow it: --security-opt seccomp=unconfined (or a profile that permits unshare)",
        )
    return _NoNamespaceError(f"cannot create {what}: {err.strerror}")


def _eperm_hint() -> str:
    for name, wanted in (
        ("kernel/unprivileged_userns_clone", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "0"),
    ):
        try:
            value = read_text(f"/proc/sys/{name}").strip()
        except OSError:
            continue
        if value != wanted:
            return f"an administrator can allow it: sysctl -w {name.replace('/', '.')}={wanted}"
    return "a container's seccomp profile or a security module forbids it; try --security-opt seccomp=unconfined"


def _unshare_with_helper(plan: MapPlan) -> str | None:
    """Unshare while a forked helper, which stays outside, maps us; return why it could not, or None."""
    us = os.getpid()
    gate_read, gate_write = os.pipe()
    report_read, report_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(gate_write)
        _helper_main(us, plan, gate_read, report_write)
    os.close(gate_read)
    os.close(report_write)
    try:
        _unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        os.write(gate_write, b"!")
        return read_all(report_read).decode(errors="replace") or None
    finally:
        os.close(gate_write)  # without the byte the helper just ends
        os.close(report_read)
        os.waitpid(helper, 0)


def _helper_main(target: int, plan: MapPlan, gate: int, report: int) -> None:
    """Map process *target* once the gate opens, write what went wrong to *report*, and end."""
    try:
        if os.read(gate, 1):
            os.write(report, map_target(target, plan).encode())
    except BaseException as err:  # the forked copy must never return into the caller's code
        os.write(report, (str(err) or type(err).__name__).encode())
    finally:
        os._exit(0)


def _map_single_id(real: RealIdentity) -> None:
    """Map our own ids to 0 from inside; a map that a helper has written already stays."""
    try:
        if not read_map("gid"):
            # The kernel lets an unprivileged process write gid_map only after it gave up setgroups(2).
            write_once("/proc/self/setgroups", "deny")
            write_once("/proc/self/gid_map", f"0 {real.gid} 1")
        if not read_map("uid"):
            write_once("/proc/self/uid_map", f"0 {real.uid} 1")
    except OSError as err:
        raise HostError(f"cannot map our own id in the user namespace: {err.strerror}", hint=_eperm_hint()) from err


# --- after the entry --------------------------------------------------------------------------------------------------


def _make_mounts_slave() -> None:
    try:
        # Slave, not private: unmounts of the host still reach us, nothing of ours reaches the host.
        syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    except OSError as err:
        raise HostError(
            f"the user namespace has no right to mount: {err.strerror}",
            hint="AppArmor may restrict it: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ) from err


def _mode_of(uid_ranges: tuple[IdRange, ...], gid_ranges: tuple[IdRange, ...]) -> IdmapMode:
    counts = [sum(r.count for r in ranges) for ranges in (uid_ranges, gid_ranges)]
    if min(counts) == 1:
        return "single"
    host_wide = all(r == (IdRange(0, 0, _WHOLE_ID_SPACE),) for r in (uid_ranges, gid_ranges))
    return "root" if host_wide else "full"
