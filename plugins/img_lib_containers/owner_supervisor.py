"""With a single mapped id: let a step be whoever it wants and give files to anybody, and note what it wanted.

The kernel would refuse. A filter (``owners_*.bpf``) therefore stops the calls that ask or change who a process is, who owns a file, and
those that make files, and hands them to a supervisor, a process outside of the container. What it knows, it answers: the ids of a process
(`identities`), the noted owner of a file, a file made by somebody else than root (`owner_records`). Everything else the kernel does itself.
So programs see the owners that the image will have, and find out that they are root, or are not.

What is not there: permissions. All processes of a step are the same user for the kernel, and may read and write what any of them may.

What a step names is hostile, see `owner_calls`.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from img_core.linux import sandbox
from img_core.spec.executor import OwnerRecord
from img_lib_containers import owner_answers, seccomp
from img_lib_containers.identities import ROOT, Identities, ProcessIds, changed, with_groups, with_keeping
from img_lib_containers.owner_answers import Asked
from img_lib_containers.owner_calls import Caller, Refusal, Viewpoint, open_proc
from img_lib_containers.owner_records import OwnerRecords
from img_lib_containers.socket_calls import is_socket_call, serve_socket
from img_lib_containers.supervised_calls import CALLS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.executor import Process
    from img_core.spec.host import Spawner
    from img_lib_containers.supervised_calls import SupervisedCall

__all__ = ["OwnerSupervisor", "deliver_listener", "deliver_or_refuse", "supervise"]

_ENTRY: Final = "img_lib_containers.owner_supervisor:supervise"
#: errors of marking a file that the step has to hear of; that we may not mark one of the host's is no concern of it
_OF_THE_DISK: Final = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)
_MOST_GROUPS: Final = 65536
_LETTERS: Final = {16: "H", 32: "I"}  # of struct
_NOBODY: Final = 65534


class OwnerSupervisor:
    """The builder's side, for one step. Use as a context manager around the run.

    *container_fd* goes to the container, which passes it to `deliver_listener` right before the user's program starts.
    """

    def __init__(self, spawner: Spawner, root_fd: int, process: Process) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = os.memfd_create("img-owners")
        try:
            with ours:
                payload = {"device": os.fstat(root_fd).st_dev, "others": bool(process.uid or process.gid)}
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
        """SupervisedCall when all processes of the step have ended; return the owners that no attribute could carry."""
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
    listener = seccomp.install_listener(program, patient=True)
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
    os.umask(0)
    records = OwnerRecords(payload["device"], root_is_noted=payload["others"])
    supervisor = _Supervisor(listeners[0], proc, records)
    supervisor.run()
    for (device, inode), (uid, gid) in records.inodes.items():
        os.write(log, json.dumps([device, inode, uid, gid]).encode() + b"\n")
    return 0


class _Supervisor:
    def __init__(self, listener: int, proc: int | None, records: OwnerRecords) -> None:
        seccomp.stay_on_one_processor(listener)
        self._listener = listener
        self._proc = proc
        self._view = Viewpoint(proc) if proc is not None else None
        self._records = records
        self._identities = Identities()

    def run(self) -> None:
        """Answer calls until the filter has no user left."""
        for notification in seccomp.notifications(self._listener):
            if is_socket_call(notification):
                serve_socket(self._listener, notification, self._proc)
                continue
            call = CALLS.get(notification.architecture, {}).get(notification.number)
            try:
                answered = call is not None and self._serve(call, notification)
            except Refusal as refusal:
                seccomp.answer(self._listener, notification, error=refusal.number)
            except OSError as err:
                error = err.errno if err.errno in _OF_THE_DISK else 0
                seccomp.answer(self._listener, notification, error=error or 0)
            else:
                if not answered:
                    seccomp.proceed(self._listener, notification)

    def _serve(self, call: SupervisedCall, notification: seccomp.Notification) -> bool:
        """Answer a call, or return False for one that the kernel is to do. Raises OSError, `Refusal`."""
        if self._view is None:
            return self._pretend(call, notification)
        with Caller(self._view, notification.pid) as caller:
            if call.kind == "identity":
                value = self._identify(call, caller, notification.arguments)
                seccomp.answer(self._listener, notification, value=value)
                return True
            asked = Asked(caller, call, notification)
            if call.kind in ("stat", "stat64", "statx"):
                return owner_answers.show(asked, self._listener, notification, self._records)
            identity = self._identity(notification.pid)
            if call.kind == "owner":
                owner_answers.give_away(asked, self._listener, notification, self._records, identity)
                seccomp.answer(self._listener, notification)
                return True
            if call.kind == "keep":
                keeps = bool(notification.arguments[call.value])
                self._identities.give(notification.pid, with_keeping(identity, keeps=keeps))
                return False
            if call.kind == "program":
                self._execute(asked, notification.pid, identity)
                return False
            return owner_answers.make(asked, self._listener, notification, self._records, identity)

    def _pretend(self, call: SupervisedCall, notification: seccomp.Notification) -> bool:
        """Without a view of the caller: whatever changes an owner or an id succeeds."""
        if call.kind != "owner" and not call.name.startswith("set"):
            return False
        seccomp.answer(self._listener, notification)
        return True

    def _identity(self, pid: int) -> ProcessIds:
        try:
            return self._identities.of(pid)
        except OSError:
            return ROOT

    def _execute(self, asked: Asked, pid: int, identity: ProcessIds) -> None:
        with suppress(OSError, Refusal):
            becomes = owner_answers.identity_of_program(asked, self._records, identity)
            if becomes != identity:
                self._identities.give(pid, becomes)

    def _identify(self, call: SupervisedCall, caller: Caller, arguments: Sequence[int]) -> int:
        """Do a call about ids of the caller; return its result."""
        identity = self._identity(caller.pid)
        ids = identity.uids if call.name.endswith("uid") else identity.gids
        if call.name in ("getuid", "getgid"):
            return _shown(ids[0], call)
        if call.name in ("geteuid", "getegid", "setfsuid", "setfsgid"):
            return _shown(ids[1], call)
        if call.name in ("getresuid", "getresgid"):
            for pointer, number in zip(arguments, ids, strict=False):
                caller.write_memory(pointer, _packed([number], call))
            return 0
        if call.name == "getgroups":
            return self._tell_groups(call, caller, arguments, identity)
        if call.name == "setgroups":
            becomes = with_groups(identity, self._read_groups(call, caller, arguments))
        else:
            becomes = changed(identity, call.name, tuple(arguments), call.bits)
        self._identities.give(caller.pid, becomes)
        return 0

    @staticmethod
    def _tell_groups(call: SupervisedCall, caller: Caller, arguments: Sequence[int], identity: ProcessIds) -> int:
        room, pointer = arguments[0] & 0xFFFFFFFF, arguments[1]
        if room & 0x80000000 or (room and room < len(identity.groups)):
            raise Refusal(errno.EINVAL)
        if room and identity.groups:
            caller.write_memory(pointer, _packed(identity.groups, call))
        return len(identity.groups)

    @staticmethod
    def _read_groups(call: SupervisedCall, caller: Caller, arguments: Sequence[int]) -> tuple[int, ...]:
        count = arguments[0] & 0xFFFFFFFF
        if count > _MOST_GROUPS:
            raise Refusal(errno.EINVAL)
        size = call.bits // 8
        content = caller.read_memory(arguments[1], count * size) if count else b""
        return struct.unpack(f"={count}{_LETTERS[call.bits]}", content)


def _shown(number: int, call: SupervisedCall) -> int:
    """Return an id as the call has it: one that does not fit is that of nobody, see credentials(7)."""
    return number if number < 1 << call.bits else _NOBODY


def _packed(numbers: Sequence[int], call: SupervisedCall) -> bytes:
    return struct.pack(f"={len(numbers)}{_LETTERS[call.bits]}", *(_shown(number, call) for number in numbers))
