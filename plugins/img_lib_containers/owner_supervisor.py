"""With a single mapped id: let a step be whoever it wants and give files to anybody, and note what it wanted.

The kernel would refuse. A filter (``owners_*.bpf``) therefore stops the calls that ask or change who a process is, who owns a file, and
those that make files, and hands them to a supervisor (`owner_service`), a process outside of the container. What it knows, it answers: the
ids of a process (`identities`), the noted owner of a file, a file made by somebody else than root (`owner_records`). Everything else the
kernel does itself. So programs see the owners that the image will have, and find out that they are root, or are not.

What is not there: permissions. All processes of a step are the same user for the kernel, and may read and write what any of them may.

What a step names is hostile, see `owner_calls`.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from typing import TYPE_CHECKING, Final

from img_core.spec.executor import OwnerRecord
from img_lib_containers import seccomp
from img_lib_containers.containers import mounted_sockets

if TYPE_CHECKING:
    from img_core.spec.executor import Process
    from img_core.spec.host import Spawner

__all__ = ["OwnerSupervisor", "deliver_listener", "deliver_or_refuse"]

_ENTRY: Final = "img_lib_containers.owner_service:supervise"


class OwnerSupervisor:
    """The builder's side, for one step. Use as a context manager around the run.

    *container_fd* goes to the container, which passes it to `deliver_listener` right before the user's program starts.
    """

    def __init__(self, spawner: Spawner, root_fd: int, process: Process) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = os.memfd_create("img-owners")
        try:
            with ours:
                payload = {
                    "device": os.fstat(root_fd).st_dev,
                    "others": bool(process.uid or process.gid),
                    "sockets": mounted_sockets(process.mounts),
                }
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
