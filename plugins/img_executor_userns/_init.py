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
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any, Final, NoReturn

from img_core.linux import mounts, sandbox, syscalls
from img_lib_containers import program, seccomp
from img_lib_containers.owner_supervisor import deliver_listener, deliver_or_refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SAFE: Final = mounts.SAFE
_NOSUID_NOEXEC: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP_RUNNING: Final = 0x41
_TTY_GROUP: Final = "5"
_NODES_SIZE: Final = 65536  # bytes; nodes have none
# Read here, in the zygote: later there is only the image.
_FILTER: Final = seccomp.sandbox_program()
_OWNERS_FILTER: Final = seccomp.owners_program()
_SOCKETS_FILTER: Final = seccomp.sockets_program()
_HELD: Final = sandbox.held_capabilities()
_CAPABILITIES: Final = sandbox.DEFAULT_CAPABILITY_MASK & _HELD


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
    network, stdin, stdout, stderr, root, *others = fds
    groups, attached = others[: request["cgroups"]], others[request["cgroups"] :]
    os.umask(0o022)
    sandbox.enter_cgroups(groups)
    _isolate()
    if request["network"] == "private":
        syscalls.setns(network, syscalls.CLONE_NEWNET)
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
    _set_stdio(stdin, stdout, stderr)
    if request["terminal"]:
        program.take_terminal()
    return program.limits_of(request["ulimits"])


def _report(report: int, kind: str, message: str) -> int:
    os.write(report, json.dumps({"kind": kind, "message": message}).encode())
    return program.SETUP_FAILED


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
        (_dev(request), "/dev"),
        *((fd, f"/dev/{name}") for name, fd in _devices(request).items()),
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


def _dev(request: Mapping[str, Any]) -> int:
    # The devices are mounts of their own; real root could make others, those of the host's disks.
    attributes = syscalls.MOUNT_ATTR_NOSUID | (0 if request["insecure"] else syscalls.MOUNT_ATTR_NODEV)
    fd = mounts.tmpfs(size=65536 * 1024, mode=0o755, attributes=attributes)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(name, 0o755, dir_fd=fd)
    for name in sandbox.DEVICES:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=fd))
    for name, target in sandbox.DEVICE_LINKS:
        os.symlink(target, name, dir_fd=fd)
    return fd


def _devices(request: Mapping[str, Any]) -> dict[str, int]:
    """Return a mount of each device. Real root's are nodes of the step's own, for it could change mode and owner of the host's."""
    present = {name: f"/dev/{name}" for name in sandbox.DEVICES if os.path.exists(f"/dev/{name}")}
    if request["makes_devices"]:
        try:
            return _made_devices(list(present), request["staging"])
        except PermissionError:
            pass  # in a container without CAP_MKNOD, or within somebody's user namespace, where nobody makes any
    return {name: mounts.bind(path, attributes=_kept(path)) for name, path in present.items()}


def _kept(path: str) -> int:
    # A device on a read-only mount can be written to all the same.
    return syscalls.MOUNT_ATTR_RDONLY if os.stat(path).st_uid == os.geteuid() else 0


def _made_devices(names: Sequence[str], staging: str) -> dict[str, int]:
    nodes = mounts.tmpfs(size=_NODES_SIZE, attributes=syscalls.MOUNT_ATTR_NOSUID)
    try:
        for name in names:
            os.mknod(name, stat.S_IFCHR, os.stat(f"/dev/{name}").st_rdev, dir_fd=nodes)
            os.chmod(name, 0o666, dir_fd=nodes)  # noqa: S103  # as everybody has them
        # Before Linux 6.15 only what is attached can be bound elsewhere.
        syscalls.move_mount(nodes, staging)
        try:
            return {name: mounts.bind(f"{staging}/{name}") for name in names}
        finally:
            syscalls.umount2(staging, syscalls.MNT_DETACH)
    finally:
        os.close(nodes)


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


def _set_stdio(stdin: int, stdout: int, stderr: int) -> None:
    os.dup2(stdin, 0)
    # The received descriptors are above 2, because the zygote keeps those open.
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)


def _run_program(
    request: Mapping[str, Any], limits: Sequence[tuple[int, tuple[int, int]]], supervisor: int
) -> NoReturn:
    """From here on there is only stderr to say what went wrong."""
    try:
        # The supervisor's socket is all that stays; it is no directory, so it leads nowhere.
        os.dup2(supervisor, 3, inheritable=False)
        syscalls.close_range(4)
        program.enter_directory(request["cwd"], request["uid"], request["gid"])
        os.umask(request["umask"])
        for number, values in limits:
            resource.setrlimit(number, values)
        _drop_privileges(request)
        program.reset_signals()
        program.execute(request)
    except BaseException as err:
        program.fail(f"cannot start the program: {err}", program.SETUP_FAILED)


def _drop_privileges(request: Mapping[str, Any]) -> None:
    uid, gid = request["uid"], request["gid"]
    mask = -1 if request["insecure"] else _CAPABILITIES
    sandbox.forget_abstract_sockets()
    program.limit_capabilities(mask)
    if not request["single"]:
        program.give_stdio(uid)
        os.setgroups(request["groups"])
        os.setresgid(gid, gid, gid)
    if not request["insecure"] and _FILTER is not None:
        seccomp.install(_FILTER)  # takes SYS_ADMIN; what follows is allowed by it
    if request["single"]:
        # There is no other id to become; and what root holds is cut down to the bounding set when it executes the program.
        _hand_over_owners()
        program.become(request)
        return
    if request["insecure"]:
        program.become_privileged(uid, _HELD)
        return
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
