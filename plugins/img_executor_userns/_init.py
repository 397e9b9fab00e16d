"""The container's side: from a fresh process in new namespaces to the user's program.

Runs in a child of the zygote. Everything it needs is imported by the zygote beforehand: once the root file system is the
image's, an import would load code from the image (`sandbox.forbid_imports`). The order of the steps matters for safety:

1. build all file systems as detached mounts, while the host's /proc, /sys and /dev are still visible;
2. make the image the root; only then attach the mounts, so that symlinks of the image resolve inside of it;
3. close every descriptor *before* entering the working directory, which the image may have pointed at ``/proc/self/fd/N``;
4. give up privileges; then only system calls that the filter allows.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.linux import mounts, sandbox, syscalls
from img_lib_containers import seccomp
from img_lib_containers.containers import APT_CONFIG, APT_CONFIG_PATH
from img_lib_containers.owner_supervisor import deliver_listener, deliver_or_refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SETUP_FAILED: Final = 125
CANNOT_EXECUTE: Final = 126
NOT_FOUND: Final = 127

_SAFE: Final = mounts.SAFE
_NOSUID_NOEXEC: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP_RUNNING: Final = 0x41
_TTY_GROUP: Final = "5"
# Read here, in the zygote: later there is only the image.
_FILTER: Final = seccomp.sandbox_program()
_OWNERS_FILTER: Final = seccomp.owners_program()
_SOCKETS_FILTER: Final = seccomp.sockets_program()
_CAPABILITIES: Final = sandbox.DEFAULT_CAPABILITY_MASK & sandbox.held_capabilities()
_PT_INTERP: Final = 3
_LONGEST_PATH: Final = 4096
_OUR_INTERPRETER: Final = os.stat("/proc/self/exe")


class _StepFailure(Exception):
    """The image or the Dockerfile is at fault, not the host."""


def main(request: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Become the process that *request* describes; returns only when the set-up failed, after reporting why."""
    report, supervisor, *others = fds
    try:
        limits = _set_up(request, others)
    except _StepFailure as err:
        return _report(report, "step", str(err))
    except OSError as err:
        where = f" (`{os.fsdecode(err.filename)}`)" if isinstance(err.filename, (str, bytes)) else ""
        return _report(report, "host", f"cannot set up the container: {err.strerror}{where}")
    return _run_program(request, limits, supervisor)


def _set_up(request: Mapping[str, Any], fds: Sequence[int]) -> list[tuple[int, tuple[int, int]]]:
    network, stdout, stderr, root, *others = fds
    groups, attached = others[: request["cgroups"]], others[request["cgroups"] :]
    os.umask(0o022)
    sandbox.enter_cgroups(groups)
    _isolate()
    if request["network"] == "private":
        syscalls.setns(network, syscalls.CLONE_NEWNET)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # now: a mount of the step may cover it
    # The step's own mount at the same place replaces ours, as in OCI runtimes; it does not lie on top.
    system = [(fd, target) for fd, target in _system_mounts(request) if target not in request["targets"]]
    sandbox.forbid_imports()
    _enter_root(root, request["staging"])
    _attach_system(system)
    if not request["insecure"]:
        _hide_paths()
    _attach_all(request["targets"], attached)
    syscalls.sethostname(os.fsencode(request["hostname"]))
    if request["network"] == "none":
        _bring_up_loopback()
    _set_stdio(null, stdout, stderr)
    return _limits(request["ulimits"])


def _report(report: int, kind: str, message: str) -> int:
    os.write(report, json.dumps({"kind": kind, "message": message}).encode())
    return SETUP_FAILED


# --- 1. file systems --------------------------------------------------------------------------------------------------


def _isolate() -> None:
    os.setsid()  # no terminal of the builder, no signals from it
    try:
        syscalls.keyctl_join_session_keyring()
    except OSError:
        pass  # no keyrings in this kernel, or hidden by an outer container: then there is nothing to protect


def _system_mounts(request: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return the detached file systems that every container has, with their targets, in the order to attach them."""
    return [
        (_proc(), "/proc"),
        (_sys(request), "/sys"),
        (_dev(), "/dev"),
        *((mounts.bind(f"/dev/{name}"), f"/dev/{name}") for name in sandbox.DEVICES if os.path.exists(f"/dev/{name}")),
        (_devpts(), "/dev/pts"),
        (mounts.tmpfs(size=request["shm_size"], mode=0o1777, attributes=_SAFE), "/dev/shm"),  # noqa: S108
        (mounts.create("mqueue", attributes=_SAFE), "/dev/mqueue"),
    ]


def _proc() -> int:
    try:
        return mounts.create("proc", attributes=_SAFE)
    except OSError as err:
        if err.errno != errno.EPERM:
            raise
        # In a container with a masked /proc the kernel refuses a fresh one. The outer one shows the processes outside,
        # but they can be neither signalled nor inspected from our pid namespace.
        return mounts.bind("/proc", attributes=_SAFE)


def _sys(request: Mapping[str, Any]) -> int:
    attributes = _SAFE if request["insecure"] else _SAFE | syscalls.MOUNT_ATTR_RDONLY
    if request["network"] != "host":
        try:
            return mounts.create("sysfs", attributes=attributes)
        except OSError as err:
            if err.errno != errno.EPERM:  # masked, like /proc
                raise
    return mounts.bind("/sys", attributes=attributes)


def _dev() -> int:
    fd = mounts.tmpfs(size=65536 * 1024, mode=0o755, attributes=_NOSUID_NOEXEC)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(name, 0o755, dir_fd=fd)
    for name in sandbox.DEVICES:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=fd))
    for name, target in sandbox.DEVICE_LINKS:
        os.symlink(target, name, dir_fd=fd)
    return fd


def _devpts() -> int:
    options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")]
    try:
        return mounts.create("devpts", [*options, ("gid", _TTY_GROUP)], attributes=_NOSUID_NOEXEC)
    except OSError as err:
        if err.errno != errno.EINVAL:  # the group is not mapped here
            raise
        return mounts.create("devpts", options, attributes=_NOSUID_NOEXEC)


# --- 2. the root ------------------------------------------------------------------------------------------------------


def _enter_root(root: int, staging: str) -> None:
    syscalls.move_mount(root, staging)
    os.chdir(staging)
    # With both the same, the old root ends up on top of the new one, from where it is taken away.
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _attach_system(system: Sequence[tuple[int, str]]) -> None:
    for fd, target in system:
        syscalls.move_mount(fd, target)


def _hide_paths() -> None:
    for path in sandbox.MASKED_PATHS:
        try:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except OSError:
            continue
        attributes = _SAFE | syscalls.MOUNT_ATTR_RDONLY
        cover = mounts.tmpfs(attributes=attributes) if is_directory else mounts.bind("/dev/null")
        syscalls.move_mount(cover, path)
    for path in sandbox.READONLY_PATHS:
        try:
            covered = mounts.bind(path, attributes=syscalls.MOUNT_ATTR_RDONLY)
        except FileNotFoundError:
            continue
        syscalls.move_mount(covered, path)


def _attach_all(targets: Sequence[str], attached: Sequence[int]) -> None:
    for target, fd in zip(targets, attached, strict=True):
        try:
            syscalls.move_mount(fd, target)
        except FileNotFoundError:  # inside another mount
            try:
                _make_target(target, directory=stat.S_ISDIR(os.fstat(fd).st_mode))
            except OSError as err:
                raise _StepFailure(f"cannot make the mount point `{target}`: {err.strerror}") from err
            syscalls.move_mount(fd, target)
        except NotADirectoryError as err:
            raise _StepFailure(f"cannot mount at `{target}`: one is a directory, the other a file") from err


def _make_target(target: str, *, directory: bool) -> None:
    if directory:
        os.makedirs(target, 0o755, exist_ok=True)
        return
    os.makedirs(target.rpartition("/")[0] or "/", 0o755, exist_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP_RUNNING))


# --- 3. and 4. the program --------------------------------------------------------------------------------------------


def _set_stdio(null: int, stdout: int, stderr: int) -> None:
    os.dup2(null, 0)
    # The received descriptors are above 2, because the zygote keeps those open.
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)


def _limits(wanted: Sequence[tuple[str, int, int]]) -> list[tuple[int, tuple[int, int]]]:
    return [(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard)) for name, soft, hard in wanted]


def _run_program(
    request: Mapping[str, Any], limits: Sequence[tuple[int, tuple[int, int]]], supervisor: int
) -> NoReturn:
    """From here on there is only stderr to say what went wrong."""
    try:
        # The supervisor's socket is all that stays; it is no directory, so it leads nowhere.
        os.dup2(supervisor, 3, inheritable=False)
        syscalls.close_range(4)
        _enter_directory(request["cwd"], request["uid"], request["gid"])
        os.umask(request["umask"])
        for number, values in limits:
            resource.setrlimit(number, values)
        _drop_privileges(request)
        _reset_signals()
        _execute(request)
    except BaseException as err:
        _exit(f"cannot start the program: {err}", SETUP_FAILED)


def _exit(message: str, status: int) -> NoReturn:
    try:
        os.write(2, f"{message}\n".encode(errors="surrogateescape"))
    finally:
        os._exit(status)


def _enter_directory(path: str, uid: int, gid: int) -> None:
    try:
        try:
            os.chdir(path)
        except FileNotFoundError:
            _make_working_directory(path, uid, gid)
            os.chdir(path)
        inside = os.getcwd().startswith("/")
    except OSError as err:
        _exit(f"cannot enter the working directory `{path}`: {err.strerror}", CANNOT_EXECUTE)
    if not inside:  # "(unreachable)…": a directory outside of the root
        _exit(f"the working directory `{path}` is outside of the container", CANNOT_EXECUTE)


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
        if err.errno != errno.EINVAL:
            raise
        # The id is not mapped: with a single one the wanted owner is recorded instead.
        os.setxattr(path, OWNER_ATTRIBUTE, b"%d:%d" % (uid, gid))


def _drop_privileges(request: Mapping[str, Any]) -> None:
    uid, gid = request["uid"], request["gid"]
    mask = -1 if request["insecure"] else _CAPABILITIES
    sandbox.forget_abstract_sockets()
    _limit_capabilities(mask)
    if not request["single"]:
        _give_stdio(uid)
        os.setgroups(request["groups"])
        os.setresgid(gid, gid, gid)
    if not request["insecure"] and _FILTER is not None:
        seccomp.install(_FILTER)  # takes SYS_ADMIN; what follows is allowed by it
    if request["single"]:
        # There is no other id to become; and what root holds is cut down to the bounding set when it executes the program.
        _hand_over_owners()
        return
    if not request["insecure"]:
        _hand_over_sockets()
        syscalls.capset(mask, mask, 0)
    os.setresuid(uid, uid, uid)  # for another user this empties the sets


def _hand_over_owners() -> None:
    if _OWNERS_FILTER is not None:
        with socket.socket(fileno=3) as connection:
            deliver_listener(connection, _OWNERS_FILTER)


def _hand_over_sockets() -> None:
    if _SOCKETS_FILTER is not None:
        with socket.socket(fileno=3) as connection:
            deliver_or_refuse(connection, _SOCKETS_FILTER)


def _give_stdio(uid: int) -> None:
    """Let another user open /dev/stdout and /dev/stderr, which are pipes of ours."""
    for fd in (1, 2):
        if uid and stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, -1)


def _limit_capabilities(mask: int) -> None:
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


def _reset_signals() -> None:
    # Ignored signals stay ignored in a new program; Python and the zygote ignore these.
    for number in (*range(1, 32), *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _execute(request: Mapping[str, Any]) -> NoReturn:
    arguments, environment = request["args"], dict(request["env"])
    if request["single"]:
        _pacify_apt(environment)
    name = arguments[0]
    worst: OSError | None = None
    for candidate in _candidates(name, environment.get("PATH") or sandbox.DEFAULT_PATH):
        if _is_our_interpreter(candidate):
            _exit(f"exec `{name}`: leads out of the container", CANNOT_EXECUTE)
        try:
            os.execve(candidate, arguments, environment)  # noqa: S606
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = err
            elif os.path.exists(candidate):
                _exit(f"exec `{candidate}`: its interpreter or loader is not in the image", NOT_FOUND)
    if worst is not None:
        _exit(f"exec `{name}`: {worst.strerror}", CANNOT_EXECUTE)
    _exit(f"exec `{name}`: no such program{'' if '/' in name else ' on PATH'}", NOT_FOUND)


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
