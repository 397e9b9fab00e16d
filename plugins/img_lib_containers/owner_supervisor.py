"""With a single mapped id: let a step change owners, and note what it wanted.

The kernel would refuse. A filter (``owners_*.bpf``) therefore stops every call of the chown family and hands it to a
supervisor, a process outside of the container. It finds the file as the calling process would, writes the wanted owner down
and lets the call return 0. Regular files and directories carry their owner in the attribute ``user.img.owner`` (see
`ownership`); of symlinks and special files the inode number is remembered until the step ends.

A step sees 0:0 wherever it looks, and some programs pass that on: ``sed -i``, ``useradd`` and editors write a new file, give it
the owner they saw (fchown), and rename it over the old one. So the rename family comes by here, too: what its own process gave to
0:0 takes over the noted owner of the file that it replaces. What is renamed without that, like any new file, is root's.

What a step names is hostile, see `owner_calls`.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Final

from img_core.files.ownership import OWNER_ATTRIBUTE, parse_owner
from img_core.linux import sandbox, syscalls
from img_core.spec.executor import OwnerRecord
from img_lib_containers import seccomp
from img_lib_containers.owner_calls import CALLS, RENAMES, Caller, OwnerCall, Refusal, Rename, open_proc
from img_lib_containers.socket_calls import is_socket_call, serve_socket

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Spawner

__all__ = ["OwnerSupervisor", "deliver_listener", "deliver_or_refuse", "supervise"]

_ENTRY: Final = "img_lib_containers.owner_supervisor:supervise"
_KEEP: Final = 0xFFFFFFFF
_MOST_REMEMBERED: Final = 65536  # files of root that a rename may still concern


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
    """In the container: start the filter and hand its listener to the supervisor. Needs SYS_ADMIN in the namespace.

    An outer container may have a listener of its own, and the kernel allows one: OSError (EBUSY).
    """
    listener = seccomp.install_listener(program)
    socket.send_fds(connection, [b"listener"], [listener])
    os.close(listener)


def deliver_or_refuse(connection: socket.socket, program: bytes) -> None:
    """Like `deliver_listener` for `seccomp.sockets_program`; where there is a listener already, what none can look at is refused."""
    try:
        deliver_listener(connection, program)
    except OSError as err:
        if err.errno != errno.EBUSY:
            raise
        seccomp.install(seccomp.refusing(program))


# --- the supervisor ---------------------------------------------------------------------------------------------------


def supervise(payload: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Serve the calls of one container until its last process has ended, then write the records to the log."""
    connection_fd, log = fds
    proc = open_proc()
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


class _Supervisor:
    def __init__(self, listener: int, proc: int | None, device: int) -> None:
        self.records: dict[tuple[int, int], tuple[int, int]] = {}
        self._listener = listener
        self._proc = proc
        self._device = device
        self._given_to_root: dict[tuple[int, int], int] = {}  # device and inode -> process, oldest first

    def run(self) -> None:
        """Answer calls until the filter has no user left."""
        for notification in seccomp.notifications(self._listener):
            self._serve(notification)

    def _serve(self, notification: seccomp.Notification) -> None:
        if is_socket_call(notification):
            serve_socket(self._listener, notification, self._proc)
            return
        rename = RENAMES.get(notification.architecture, {}).get(notification.number)
        if rename is not None:
            self._follow_rename(rename, notification)
            seccomp.proceed(self._listener, notification)
            return
        error = 0
        try:
            self._handle(notification)
        except Refusal as refusal:
            error = refusal.number
        except OSError as err:
            # A file that is not there must be reported; that we may not mark one of the host's files is no concern of the step.
            error = err.errno if err.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO) else 0
        seccomp.answer(self._listener, notification, error=error)

    def _handle(self, notification: seccomp.Notification) -> None:
        call = CALLS.get(notification.architecture, {}).get(notification.number)
        if call is None or self._proc is None:
            return
        opened: list[int] = []
        try:
            fd, uid, gid = self._open_target(call, notification, opened)
            if seccomp.still_waiting(self._listener, notification):
                uid, gid = _id(uid, call.bits), _id(gid, call.bits)
                if call.kind == "descriptor" and uid == gid == 0:
                    self._remember(fd, notification.pid)
                self._record(fd, uid, gid)
        finally:
            for fd in opened:
                os.close(fd)

    def _open_target(
        self, call: OwnerCall, notification: seccomp.Notification, opened: list[int]
    ) -> tuple[int, int, int]:
        """Return a path descriptor of the file and the wanted ids; every descriptor is added to *opened*."""
        caller, arguments = Caller(self._proc or 0, notification.pid, opened), notification.arguments
        if call.kind == "descriptor":
            return caller.descriptor(arguments[0]), arguments[1], arguments[2]
        if call.kind == "at":
            directory, pointer, uid, gid, flags = arguments[:5]
            path = caller.read_path(pointer)
            if not path and flags & syscalls.AT_EMPTY_PATH:
                return caller.directory(directory), uid, gid
            follow = not flags & syscalls.AT_SYMLINK_NOFOLLOW
            return caller.resolve(directory, path, follow=follow), uid, gid
        path = caller.read_path(arguments[0])
        follow = call.kind == "path"
        return caller.resolve(syscalls.AT_FDCWD & 0xFFFFFFFF, path, follow=follow), arguments[1], arguments[2]

    def _follow_rename(self, call: Rename, notification: seccomp.Notification) -> None:
        """Hand the owner on that is noted for the file which is about to be replaced. What fails is the kernel's to report."""
        if self._proc is None or not self._given_to_root or (call.flags >= 0 and notification.arguments[call.flags]):
            return
        opened: list[int] = []
        try:
            caller = Caller(self._proc, notification.pid, opened)
            replacing, replaced = (
                caller.resolve(
                    notification.arguments[directory] if directory >= 0 else syscalls.AT_FDCWD & 0xFFFFFFFF,
                    caller.read_path(notification.arguments[path]),
                    follow=False,
                )
                for directory, path in ((call.old_directory, call.old), (call.new_directory, call.new))
            )
            self._hand_on(replaced, replacing, notification)
        except (Refusal, OSError):
            pass
        finally:
            for fd in opened:
                os.close(fd)

    def _hand_on(self, replaced: int, replacing: int, notification: seccomp.Notification) -> None:
        """Give the file *replacing* the noted owner of *replaced*, if this process gave it to the owner that it saw there."""
        assert self._proc is not None
        if self._given_to_root.pop(_key(replacing), -1) != notification.pid:
            return
        os.chdir(self._proc)
        owner = _noted(f"self/fd/{replaced}")
        if owner is None or _noted(f"self/fd/{replacing}") is not None:
            return
        if seccomp.still_waiting(self._listener, notification):
            _mark(f"self/fd/{replacing}", *owner)

    def _remember(self, fd: int, pid: int) -> None:
        """Note that process *pid* gave the open file to root, which it was already."""
        assert self._proc is not None
        os.chdir(self._proc)
        if _noted(f"self/fd/{fd}") is None:
            self._given_to_root[_key(fd)] = pid
            if len(self._given_to_root) > _MOST_REMEMBERED:
                del self._given_to_root[next(iter(self._given_to_root))]

    def _record(self, fd: int, uid: int, gid: int) -> None:
        """Note the owner of the file behind the path descriptor *fd*; ``_KEEP`` keeps that part of the noted one."""
        assert self._proc is not None
        status = os.fstat(fd)
        os.chdir(self._proc)
        name = f"self/fd/{fd}"  # a magic link: what is opened by path only can be changed through it
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            try:
                _mark(name, uid, gid)
            except OSError as err:
                # Elsewhere, e.g. in /dev/shm, owners do not matter; of the image they must not get lost without a word.
                if err.errno == errno.ENOTSUP and status.st_dev == self._device:
                    raise Refusal(errno.ENOTSUP) from err
                raise
            _clear_privileges(name, status)
        elif status.st_dev == self._device:
            os.chown(name, 0, 0)  # no change, but an overlay copies the file up, so that it becomes part of the layer
            key = status.st_dev, status.st_ino
            self.records[key] = _merged(self.records.get(key), uid, gid)


def _key(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _id(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return _KEEP if value == (1 << bits) - 1 else value


def _merged(noted: tuple[int, int] | None, uid: int, gid: int) -> tuple[int, int]:
    old_uid, old_gid = noted or (0, 0)
    return (old_uid if uid == _KEEP else uid, old_gid if gid == _KEEP else gid)


def _noted(name: str) -> tuple[int, int] | None:
    try:
        return parse_owner(os.getxattr(name, OWNER_ATTRIBUTE))
    except OSError:
        return None


def _mark(name: str, uid: int, gid: int) -> None:
    """Write the attribute of a regular file or directory, or remove it for 0:0; file systems without attributes are fine."""
    noted = _noted(name)
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
