"""What every executor gives to, and keeps from, a step: capabilities, devices, hidden and read-only paths.

The lists follow what container engines agree on, so that an image builds alike everywhere.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ALL_CAPABILITIES",
    "DEFAULT_CAPABILITIES",
    "DEFAULT_CAPABILITY_MASK",
    "DEFAULT_PATH",
    "DEVICES",
    "DEVICE_LINKS",
    "MASKED_PATHS",
    "READONLY_PATHS",
    "enter_cgroups",
    "forbid_imports",
    "forget_abstract_sockets",
    "held_capabilities",
    "hides_abstract_sockets",
    "keep_apart",
]

_ALL: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
_DEFAULT: Final = (
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE "
    "SETFCAP"
)

#: every capability by its number, see capabilities(7)
ALL_CAPABILITIES: Final = tuple(_ALL.split())

#: what a step may at most hold
DEFAULT_CAPABILITIES: Final = tuple(_DEFAULT.split())

DEFAULT_CAPABILITY_MASK: Final = sum(1 << ALL_CAPABILITIES.index(name) for name in DEFAULT_CAPABILITIES)

#: device nodes in /dev, bound from the host
DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")

#: name in /dev and where the link points
DEVICE_LINKS: Final = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    *[("core", "/proc/kcore")] * os.path.exists("/proc/kcore"),  # which not every kernel has
)

#: hidden: an empty directory or /dev/null is mounted over them, where they exist
MASKED_PATHS: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)

READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

#: where programs are looked up when the environment has no PATH
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def held_capabilities() -> int:
    """Return the mask of what this process itself may use; real root in a container often lacks some."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def enter_cgroups(procs_fds: Sequence[int]) -> None:
    """Move this process into control groups; a new namespace makes them the root of what it sees."""
    for fd in procs_fds:
        os.write(fd, b"0")
        os.close(fd)
    if procs_fds:
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)


#: the version of Landlock's interface that has scopes (Linux 6.12)
_LANDLOCK_SCOPES: Final = 6


def hides_abstract_sockets() -> bool:
    """Tell whether `forget_abstract_sockets` works in this kernel."""
    try:
        return syscalls.landlock_version() >= _LANDLOCK_SCOPES
    except OSError:  # an older kernel, switched off at boot, or hidden by a container
        return False


def forget_abstract_sockets() -> None:
    """Make abstract unix sockets of others unreachable for this process and all it starts; needs SYS_ADMIN.

    They belong to a network namespace, not to a file system: on the host's network a step would talk to the user's session
    bus, with the user's own uid. Does nothing in a kernel that cannot (`hides_abstract_sockets`).
    """
    _restrict(syscalls.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET)


def keep_apart() -> None:
    """Like `forget_abstract_sockets`, and no process of others can be signalled or traced any more; needs SYS_ADMIN or no_new_privs.

    For where no pid namespace does that.
    """
    _restrict(syscalls.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | syscalls.LANDLOCK_SCOPE_SIGNAL)


def _restrict(scopes: int) -> None:
    if not hides_abstract_sockets():
        return
    ruleset = syscalls.landlock_create_ruleset(scoped=scopes)
    try:
        syscalls.landlock_restrict_self(ruleset)
    finally:
        os.close(ruleset)


def forbid_imports() -> None:
    """Make any further import fail, in a process whose root is about to become the image's.

    It would load code from the image and run it with our privileges.
    """
    sys.path.clear()
    sys.path_hooks.clear()
    sys.meta_path.clear()
    sys.path_importer_cache.clear()
