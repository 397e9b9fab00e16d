"""What the kernel, the file systems and the programs of the host offer."""

from __future__ import annotations

import errno
import os
import platform
from typing import TYPE_CHECKING, Final

from img_core.cli._format import binary_size
from img_core.cli.doctor._finding import BAD, NOTE, OK, WORSE, Finding, Status
from img_core.linux import binfmt, syscalls
from img_core.linux.cgroups import groups
from img_core.spec.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.host import Host

__all__ = ["OVERLAY", "cgroups", "emulation", "file_system", "fuse", "state_directory", "system"]

#: the file system of a container's root
OVERLAY: Final = "overlay"

_LITTLE_SPACE: Final = 2 * 1024**3
_FUSE: Final = "/dev/fuse"


def system() -> Finding:
    """Name the kernel, and what it lacks of what img can make use of."""
    text = f"Linux {os.uname().release} {os.uname().machine}, Python {platform.python_version()}"
    try:
        syscalls.mount_setattr(-1, set_attributes=0)
    except OSError as err:
        if err.errno == errno.ENOSYS:
            text += "; without mount_setattr (5.12) every mount of a step takes a few more system calls"
            return Finding(NOTE, "kernel", text)
    return Finding(OK, "kernel", text)


# --- the state directory ----------------------------------------------------------------------------------------------


def file_system(path: str) -> str:
    """Return the type of the file system that *path* lies on, or an empty string."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:  # see proc_pid_mountinfo(5)
            if line.split(" ", 3)[2] == number:
                return line.partition(" - ")[2].split(" ", 1)[0]
    return ""


def state_directory(host: Host) -> Iterator[Finding]:
    """Look at the space, and whether the file system keeps the owners of files and can carry overlays."""
    what = "state directory"
    usage = os.statvfs(host.state_directory)
    free = usage.f_bavail * usage.f_frsize
    kind = file_system(host.state_directory)
    text = f"{host.state_directory}, {kind or 'an unknown file system'}, {binary_size(free)} free"
    other = "choose another place with `-s DIR`"
    if free < _LITTLE_SPACE and usage.f_blocks:  # some file systems do not tell
        yield Finding(WORSE, what, text, f"free some space, or {other}")
    elif kind == OVERLAY:
        text += ": no overlay can lie on another one, so layers are copied"
        yield Finding(WORSE, what, text, f"in a container give it a volume, or {other}")
    elif usage.f_flag & os.ST_NOEXEC:
        yield Finding(NOTE, what, f"{text}, mounted `noexec`: steps run programs from there only by overlayfs", other)
    else:
        yield Finding(OK, what, text)
    failure = _owner_failure(host)
    if failure:
        # Network file systems: the server knows nothing of our ids, and often nothing of attributes.
        status: Status = WORSE if host.mapping == "single" else BAD
        yield Finding(status, "owners", failure, other)


def _owner_failure(host: Host) -> str:
    """Try what images need of the file system; return what went wrong, or an empty string."""
    from img_core.files.ownership import Owners

    path = os.path.join(host.run_directory, "owner-probe")
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        Owners(host.mapping).set_fd(fd, 1, 1)
    except HostError as err:
        return f"files cannot be given to other ids: {err.message.rpartition(': ')[2]}"
    except OSError as err:
        return f"files cannot be given to other ids: {os.strerror(err.errno or 0).lower()}"
    finally:
        os.close(fd)
        os.unlink(path)
    return ""


# --- devices, other architectures, limits -----------------------------------------------------------------------------


def fuse(*, needed: bool) -> Finding:
    """Tell whether the device can be opened; *needed*: it would make up for an overlayfs that does not work."""
    try:
        os.close(os.open(_FUSE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        text = f"there is no `{_FUSE}`"
        hint = f"`sudo modprobe fuse`; a container is started with `--device {_FUSE}`"
    except OSError as err:
        text = f"`{_FUSE}` cannot be opened: {(err.strerror or '').lower()}"
        hint = f"`sudo chmod 666 {_FUSE}`, as distributions do by a udev rule"
    else:
        return Finding(OK, "fuse", f"`{_FUSE}` can be opened")
    if needed:
        return Finding(WORSE, "fuse", f"{text}: layers are copied instead of merged", hint)
    return Finding(NOTE, "fuse", f"{text}; only fuse-overlayfs needs it")


def emulation(host: Host) -> Finding:
    """Tell which other platforms can run their steps here."""
    what = "other platforms"
    found = binfmt.emulated_platforms(host.mapping, host.environment)
    if found:
        return Finding(OK, what, ", ".join(found))
    return Finding(NOTE, what, "no emulator: RUN works for this machine's platform only", _emulator_hint(host))


def _emulator_hint(host: Host) -> str:
    if host.mapping != "root" and not binfmt.can_make_list():
        # Before Linux 6.7 there is only the host's list; the package registers its programs there.
        return "on the host itself: `sudo apt-get install qemu-user-static`"
    return "`sudo apt-get install qemu-user-static`"


def cgroups() -> Finding:
    """Tell whether limits for steps could be set: that takes a control group that belongs to us."""
    what = "cgroups"
    if not groups.hierarchies():
        return Finding(NOTE, what, "none are mounted: steps cannot be limited in memory or processor time")
    controllers = groups.dividable_controllers()
    if controllers:
        return Finding(OK, what, f"our own group can be divided: {', '.join(controllers)}")
    hint = "`systemd-run --user --scope -p Delegate=yes img build …`"
    return Finding(
        NOTE, what, "our own group belongs to somebody else: steps cannot be limited in memory or processor time", hint
    )
