"""In the step's process, once its root file system is in place: limits, working directory, privileges, and the user's program.

Everything it needs is imported before the root changes. `execute` finds the program as execvp(3) would; what goes wrong from here on can
only be said on standard error, with the exit statuses of a shell (126, 127) or 125 where it is our own fault.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
import struct
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.linux import sandbox, syscalls
from img_lib_containers.containers import APT_CONFIG, APT_CONFIG_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CANNOT_EXECUTE",
    "NOT_FOUND",
    "SETUP_FAILED",
    "become",
    "become_privileged",
    "enter_directory",
    "execute",
    "fail",
    "give_stdio",
    "limit_capabilities",
    "limits_of",
    "reset_signals",
    "take_terminal",
]

SETUP_FAILED: Final = 125
CANNOT_EXECUTE: Final = 126
NOT_FOUND: Final = 127
_PT_INTERP: Final = 3
_LONGEST_PATH: Final = 4096
_OUR_INTERPRETER: Final = os.stat("/proc/self/exe")


def limits_of(wanted: Sequence[tuple[str, int, int]]) -> list[tuple[int, tuple[int, int]]]:
    """Return the arguments of setrlimit(2) for *wanted*, see `Process.ulimits`."""
    return [(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard)) for name, soft, hard in wanted]


def fail(message: str, status: int) -> NoReturn:
    """Say why there is no program, and end."""
    try:
        os.write(2, f"{message}\n".encode(errors="surrogateescape"))
    finally:
        os._exit(status)


def enter_directory(path: str, uid: int, gid: int) -> None:
    """Make *path* the working directory; what is missing of it is made for the user. Close all other descriptors before."""
    try:
        try:
            os.chdir(path)
        except FileNotFoundError:
            _make_working_directory(path, uid, gid)
            os.chdir(path)
        inside = os.getcwd().startswith("/")
    except OSError as err:
        fail(f"cannot enter the working directory `{path}`: {err.strerror}", CANNOT_EXECUTE)
    if not inside:  # "(unreachable)…": a directory outside of the root
        fail(f"the working directory `{path}` is outside of the container", CANNOT_EXECUTE)


def _make_working_directory(path: str, uid: int, gid: int) -> None:
    """Make what is missing of *path*, owned by the user, as other builders do."""
    current = ""
    for name in path.split("/"):
        current += name
        if name and not os.path.lexists(current):
            os.mkdir(current, 0o755)
            _try_chown(current, uid, gid)
        current += "/"


def _try_chown(path: str, uid: int, gid: int) -> None:
    try:
        os.chown(path, uid, gid)
    except OSError as err:
        if err.errno not in (errno.EINVAL, errno.EPERM):
            raise
        # The id is not mapped, or nobody may give files away: the wanted owner is recorded instead.
        os.setxattr(path, OWNER_ATTRIBUTE, b"%d:%d" % (uid, gid))


def give_stdio(uid: int) -> None:
    """Let another user open /dev/stdout and /dev/stderr, which are pipes of ours, or a terminal."""
    for fd in (1, 2):
        if uid and stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, -1)
        elif uid and os.isatty(fd):
            with suppress(OSError):  # its group may be one that is not mapped; then it cannot be opened by name
                os.fchown(fd, uid, -1)


def take_terminal() -> None:
    """Make standard input the controlling terminal of this session, which has none."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def limit_capabilities(mask: int) -> None:
    """Bound what any program may ever gain; root gets exactly this set when it executes one."""
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(64):
        if mask >> number & 1:
            continue
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
        except OSError as err:
            if err.errno == errno.EINVAL:  # beyond the last capability of this kernel
                return
            raise


def become_privileged(uid: int, capabilities: int) -> None:
    """Become *uid* and give *capabilities*, a mask of what we have, to the program that is executed and to those that it executes."""
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    syscalls.capset(capabilities, capabilities, capabilities)
    for number in range(capabilities.bit_length()):
        if capabilities >> number & 1:
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)


def become(request: Mapping[str, Any]) -> None:  # Any: JSON
    """Take the ``uid``, ``gid`` and ``groups`` of *request*; for the supervisor of `owner_supervisor` we are root until then."""
    uid, gid, groups = request["uid"], request["gid"], request["groups"]
    if groups:
        os.setgroups(groups)
    if uid or gid:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def reset_signals() -> None:
    """Give every signal its default action, and block none."""
    # Ignored signals stay ignored in a new program; Python and the zygote ignore these.
    for number in (*range(1, 32), *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def execute(request: Mapping[str, Any]) -> NoReturn:  # Any: JSON
    """Become the program of *request*: ``args``, ``env`` (pairs), and ``single`` for a single mapped id."""
    arguments, environment = request["args"], dict(request["env"])
    if request["single"]:
        _pacify_apt(environment)
    name = arguments[0]
    worst: OSError | None = None
    for candidate in _candidates(name, environment.get("PATH") or sandbox.DEFAULT_PATH):
        if _is_our_interpreter(candidate):
            fail(f"exec `{name}`: leads out of the container", CANNOT_EXECUTE)
        try:
            os.execve(candidate, arguments, environment)  # noqa: S606
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = err
            elif os.path.exists(candidate):
                fail(f"exec `{candidate}`: its interpreter or loader is not in the image", NOT_FOUND)
    if worst is not None:
        fail(f"exec `{name}`: {worst.strerror}", CANNOT_EXECUTE)
    fail(f"exec `{name}`: no such program{'' if '/' in name else ' on PATH'}", NOT_FOUND)


def _pacify_apt(environment: dict[str, str]) -> None:
    """Tell apt not to change its user."""
    if "APT_CONFIG" in environment or not os.path.isdir("/etc/apt"):
        return
    with open(APT_CONFIG_PATH, "wb") as config:
        config.write(APT_CONFIG)
    environment["APT_CONFIG"] = APT_CONFIG_PATH


def _candidates(name: str, search_path: str) -> list[str]:
    if "/" in name:
        return [name]
    return [f"{directory or '.'}/{name}" for directory in search_path.split(":")]


def _is_our_interpreter(path: str, depth: int = 5) -> bool:
    """Tell whether executing *path* would load ``/proc/self/exe``, which is still the host's Python.

    With it the image would hold a handle on a file of the host that the user may be allowed to write (CVE-2019-5736). The kernel also
    loads what a script names in its first line, and what a program names as its loader.
    """
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) == (_OUR_INTERPRETER.st_dev, _OUR_INTERPRETER.st_ino):
            return True
        if not stat.S_ISREG(status.st_mode) or depth == 0:
            return False
        with open(path, "rb", buffering=0) as program:
            next_one = _interpreter(program)
    except (OSError, struct.error):
        return False
    return bool(next_one) and _is_our_interpreter(os.fsdecode(next_one), depth - 1)


def _interpreter(program: BinaryIO) -> bytes:
    """Return the path that a script or an ELF program (see elf(5)) wants to be loaded by, or nothing."""
    start = program.read(256)
    if start.startswith(b"#!"):
        words = start[2:].partition(b"\n")[0].split()
        return words[0] if words else b""
    if not start.startswith(b"\x7fELF"):
        return b""
    order, wide = "<" if start[5] == 1 else ">", start[4] == 2
    (table,) = struct.unpack_from(f"{order}Q" if wide else f"{order}I", start, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", start, 54 if wide else 42)
    for number in range(count):
        program.seek(table + number * size)
        header = program.read(56 if wide else 32)
        kind, offset, length = _segment(header, order, wide=wide)
        if kind == _PT_INTERP:
            program.seek(offset)
            return program.read(min(length, _LONGEST_PATH)).partition(b"\0")[0]
    return b""


def _segment(header: bytes, order: str, *, wide: bool) -> tuple[int, int, int]:
    """Return type, offset and length in the file of a segment (``Elf64_Phdr``, ``Elf32_Phdr``)."""
    if wide:
        kind, _flags, offset, _address, _physical, length = struct.unpack_from(f"{order}IIQQQQ", header)
    else:
        kind, offset, _address, _physical, length = struct.unpack_from(f"{order}IIIII", header)
    return kind, offset, length
