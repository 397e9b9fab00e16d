"""With a single mapped id: let a step change owners, and note what it wanted.

The kernel would refuse. A filter (``owners_*.bpf``) therefore stops every call of the chown family and hands it to a
supervisor, a process outside of the container. It finds the file as the calling process would, writes the wanted owner down
and lets the call return 0. Regular files and directories carry their owner in the attribute ``user.img.owner`` (see
`ownership`); of symlinks and special files the inode number is remembered until the step ends.

What a step names is hostile. The supervisor resolves a path with the root and the working directory of the calling process,
so it never leaves the container's tree, follows no magic links (``/proc/self/fd/…`` would be its own), and treats nothing but
what the kernel said about the caller as true.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from img_core.kit import linux, mounts, sandbox, seccomp
from img_core.kit.ownership import OWNER_ATTRIBUTE, parse_owner
from img_core.spec.executor import OwnerRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Spawner

__all__ = ["OwnerSupervisor", "deliver_listener", "supervise"]

_ENTRY: Final = "img_core.kit.owner_supervisor:supervise"
_LONGEST_PATH: Final = 4096
_KEEP: Final = 0xFFFFFFFF
_OWN_FILES: Final = (b"/proc/self/", b"/proc/thread-self/", b"/dev/fd/")
_LONGEST_CHAIN: Final = 8  # of symlinks


class OwnerSupervisor:
    """The builder's side, for one step. Use as a context manager around the run.

    *container_fd* goes to the container, which passes it to `deliver_listener` right before the user's program starts.
    """

    def __init__(self, spawner: Spawner, root_fd: int) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = os.memfd_create("img-owners")
        try:
            with ours:
                payload = {"device": os.fstat(root_fd).st_dev}
                self._process = spawner.spawn(_ENTRY, payload, fds=[ours.fileno(), self._log])
        except BaseException:
            self._theirs.close()
            os.close(self._log)
            raise

    @property
    def container_fd(self) -> int:
        """The descriptor that goes to the container."""
        return self._theirs.fileno()

    def finish(self) -> tuple[OwnerRecord, ...]:
        """Call when all processes of the step have ended; return the owners that no attribute could carry."""
        self._theirs.close()
        self._process.wait()
        lines = os.pread(self._log, os.fstat(self._log).st_size, 0).splitlines()
        return tuple(OwnerRecord(*json.loads(line)) for line in lines)

    def __enter__(self) -> OwnerSupervisor:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._theirs.close()
        self._process.kill()
        self._process.close()
        os.close(self._log)


def deliver_listener(connection: socket.socket, program: bytes) -> None:
    """In the container: start the filter and hand its listener to the supervisor. Needs SYS_ADMIN in the namespace."""
    listener = seccomp.install_listener(program)
    socket.send_fds(connection, [b"listener"], [listener])
    os.close(listener)


# --- the supervisor ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Call:
    """How a call of the chown family passes its arguments: positions, and the bits of an id."""

    kind: str  #: "path", "link" (does not follow), "descriptor" or "at"
    bits: int = 32


_I386_AND_ARM: Final = {
    16: _Call("link", 16),
    95: _Call("descriptor", 16),
    182: _Call("path", 16),
    198: _Call("link"),
    207: _Call("descriptor"),
    212: _Call("path"),
}
#: AUDIT_ARCH_… -> number -> call
_CALLS: Final[dict[int, dict[int, _Call]]] = {
    0xC000003E: {92: _Call("path"), 93: _Call("descriptor"), 94: _Call("link"), 260: _Call("at")},
    0xC00000B7: {55: _Call("descriptor"), 54: _Call("at")},
    0x40000003: {**_I386_AND_ARM, 298: _Call("at")},
    0x40000028: {**_I386_AND_ARM, 325: _Call("at")},
}


def supervise(payload: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Serve the calls of one container until its last process has ended, then write the records to the log."""
    connection_fd, log = fds
    proc = _open_proc()
    sandbox.forbid_imports()
    with socket.socket(fileno=connection_fd) as connection:
        message, listeners, _, _ = socket.recv_fds(connection, 64, 1, socket.MSG_CMSG_CLOEXEC)
    if not message:
        return 0  # the container failed before it started
    supervisor = _Supervisor(listeners[0], proc, payload["device"])
    supervisor.run()
    for (device, inode), (uid, gid) in supervisor.records.items():
        os.write(log, json.dumps([device, inode, uid, gid]).encode() + b"\n")
    return 0


def _open_proc() -> int | None:
    """Return a /proc in which our own number is ours, so that the kernel's numbers of the callers are theirs; or None."""
    try:
        proc = mounts.create("proc")
    except OSError:  # not in a pid namespace of our own, or masked
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        matches = os.readlink("self", dir_fd=proc) == str(os.getpid())
    except OSError:
        matches = False
    return proc if matches else None


class _Refusal(Exception):
    """The call fails with *number*, as the kernel would have it."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class _Supervisor:
    def __init__(self, listener: int, proc: int | None, device: int) -> None:
        self.records: dict[tuple[int, int], tuple[int, int]] = {}
        self._listener = listener
        self._proc = proc
        self._device = device

    def run(self) -> None:
        """Answer calls until the filter has no user left."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            events = poll.poll()[0][1]
            if events & select.POLLIN:
                self._serve()
            elif events:  # POLLHUP: the last process is gone
                return

    def _serve(self) -> None:
        notification = seccomp.receive(self._listener)
        if notification is None:
            return
        error = 0
        try:
            self._handle(notification)
        except _Refusal as refusal:
            error = refusal.number
        except OSError as err:
            # A file that is not there must be reported; that we may not mark one of the host's files is no concern of the step.
            error = err.errno if err.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO) else 0
        seccomp.answer(self._listener, notification, error=error)

    def _handle(self, notification: seccomp.Notification) -> None:
        call = _CALLS.get(notification.architecture, {}).get(notification.number)
        if call is None or self._proc is None:
            return
        opened: list[int] = []
        try:
            fd, uid, gid = self._open_target(call, notification, opened)
            if seccomp.still_waiting(self._listener, notification):
                self._record(fd, _id(uid, call.bits), _id(gid, call.bits))
        finally:
            for fd in opened:
                os.close(fd)

    def _open_target(self, call: _Call, notification: seccomp.Notification, opened: list[int]) -> tuple[int, int, int]:
        """Return a path descriptor of the file and the wanted ids; every descriptor is added to *opened*."""
        caller, arguments = _Caller(self._proc or 0, notification.pid, opened), notification.arguments
        if call.kind == "descriptor":
            return caller.descriptor(arguments[0]), arguments[1], arguments[2]
        if call.kind == "at":
            directory, pointer, uid, gid, flags = arguments[:5]
            path = caller.read_path(pointer)
            if not path and flags & linux.AT_EMPTY_PATH:
                return caller.directory(directory), uid, gid
            follow = not flags & linux.AT_SYMLINK_NOFOLLOW
            return caller.resolve(directory, path, follow=follow), uid, gid
        path = caller.read_path(arguments[0])
        follow = call.kind == "path"
        return caller.resolve(linux.AT_FDCWD & 0xFFFFFFFF, path, follow=follow), arguments[1], arguments[2]

    def _record(self, fd: int, uid: int, gid: int) -> None:
        """Note the owner of the file behind the path descriptor *fd*; ``_KEEP`` keeps that part of the noted one."""
        assert self._proc is not None
        status = os.fstat(fd)
        os.chdir(self._proc)
        name = f"self/fd/{fd}"  # a magic link: what is opened by path only can be changed through it
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            _mark(name, uid, gid)
            _clear_privileges(name, status)
        elif status.st_dev == self._device:
            os.chown(name, 0, 0)  # no change, but an overlay copies the file up, so that it becomes part of the layer
            key = status.st_dev, status.st_ino
            self.records[key] = _merged(self.records.get(key), uid, gid)


@dataclass(frozen=True, slots=True)
class _Caller:
    """The process (or thread) that waits for us, as seen in */proc* (a descriptor)."""

    proc: int
    pid: int
    opened: list[int]

    def descriptor(self, number: int) -> int:
        """Return the file behind one of its descriptors."""
        if number & 0x80000000:
            raise _Refusal(errno.EBADF)
        return self._open(f"fd/{number & 0x7FFFFFFF}", errno.EBADF)

    def directory(self, number: int) -> int:
        """Like `descriptor`, but AT_FDCWD is its working directory."""
        if number & 0xFFFFFFFF == linux.AT_FDCWD & 0xFFFFFFFF:
            return self._open("cwd", errno.ENOENT)
        return self.descriptor(number)

    def read_path(self, pointer: int) -> bytes:
        """Read a string from its memory."""
        memory = self._open("mem", errno.EFAULT, os.O_RDONLY)
        text = b""
        while len(text) < _LONGEST_PATH:
            # Up to the next page border: the page after the string may not exist.
            size = min(4096 - (pointer + len(text)) % 4096, _LONGEST_PATH - len(text))
            try:
                chunk = os.pread(memory, size, pointer + len(text))
            except OSError:
                chunk = b""
            if not chunk:
                raise _Refusal(errno.EFAULT)
            head, end, _ = chunk.partition(b"\0")
            text += head
            if end:
                return text
        raise _Refusal(errno.ENAMETOOLONG)

    def resolve(self, directory: int, path: bytes, *, follow: bool) -> int:
        """Open *path* as the caller would: its root, its working directory or *directory*, its mounts."""
        if not path:
            raise _Refusal(errno.ENOENT)
        root = self._open("root", errno.ENOENT)
        base = root if path.startswith(b"/") else self.directory(directory)
        os.chdir(root)
        os.chroot(".")
        try:
            flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
            fd = linux.openat2(base, path, flags, resolve=linux.RESOLVE_NO_MAGICLINKS)
        except OSError as err:
            # ELOOP: most likely a magic link.
            harmless = err.errno == errno.ELOOP or (err.errno == errno.ENOENT and _means_own_files(path, base))
            raise _Refusal(0 if harmless else err.errno or errno.EIO) from err
        self.opened.append(fd)
        return fd

    def _open(self, name: str, error: int, flags: int = os.O_PATH) -> int:
        try:
            fd = os.open(f"{self.pid}/{name}", flags | os.O_CLOEXEC, dir_fd=self.proc)
        except OSError as err:
            raise _Refusal(error) from err
        self.opened.append(fd)
        return fd


def _means_own_files(path: bytes, base: int) -> bool:
    """Tell whether *path* ends in the caller's own descriptors, as /dev/stdout does; no layer has such files.

    We do not find them: in the container's /proc we are nobody.
    """
    for _ in range(_LONGEST_CHAIN):
        if path.startswith(_OWN_FILES):
            return True
        try:
            target = os.readlink(path, dir_fd=base)
        except OSError:
            return False
        path = target if target.startswith(b"/") else path[: path.rfind(b"/") + 1] + target
    return False


def _id(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return _KEEP if value == (1 << bits) - 1 else value


def _merged(noted: tuple[int, int] | None, uid: int, gid: int) -> tuple[int, int]:
    old_uid, old_gid = noted or (0, 0)
    return (old_uid if uid == _KEEP else uid, old_gid if gid == _KEEP else gid)


def _mark(name: str, uid: int, gid: int) -> None:
    """Write the attribute of a regular file or directory, or remove it for 0:0; file systems without attributes are fine."""
    try:
        noted = parse_owner(os.getxattr(name, OWNER_ATTRIBUTE))
    except OSError:
        noted = None
    owner = _merged(noted, uid, gid)
    if owner == (noted or (0, 0)):
        os.chown(name, 0, 0)  # like the real one: a new change time, and errors of a read-only mount
    elif owner == (0, 0):
        os.removexattr(name, OWNER_ATTRIBUTE)
    else:
        os.setxattr(name, OWNER_ATTRIBUTE, b"%d:%d" % owner)


def _clear_privileges(name: str, status: os.stat_result) -> None:
    """Take set-id bits and file capabilities from a program that changes hands, as the kernel does."""
    if not stat.S_ISREG(status.st_mode):
        return
    mode = stat.S_IMODE(status.st_mode)
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP:
        kept &= ~stat.S_ISGID
    if kept != mode:
        os.chmod(name, kept)
    try:
        os.removexattr(name, "security.capability")
    except OSError:
        pass  # it had none
