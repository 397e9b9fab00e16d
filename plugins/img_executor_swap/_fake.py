"""A step of who has no capabilities: the process that puts its tree into place is also its supervisor.

It is an ancestor of the step, which Yama asks of who looks into another process, and has nothing else to do meanwhile.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from img_core.spec.executor import OwnerRecord
from img_lib_containers import program, seccomp
from img_lib_containers.fake_root import FakeRecords, FakeRoot, deliver
from img_lib_containers.standing import StandingDirectories

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_executor_swap._place import RootPlace

__all__ = ["Supervision", "become_fake", "read_log"]

# Read here, in the zygote: later there is only the image.
_FILTERS: Final = {below: seccomp.fake_root_program(standing=below) for below in (False, True)}


class Supervision:
    """The supervisor of one step in *place*, with *sockets* (`mounted_sockets`); `theirs` is the socket for the step's `become_fake`."""

    def __init__(self, place: RootPlace, sockets: Sequence[Sequence[int]]) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._tree = place.tree
        self._standing = StandingDirectories(place.standing, place.absent) if place.below else None
        self._records = FakeRecords()
        self._records.add_mounted(sockets)

    def serve(self, pid: int) -> None:
        """Answer the calls of process *pid*, which has just been started, and of all below it, until it ends."""
        self.theirs.close()
        with self._ours:
            _, listeners, _, _ = socket.recv_fds(self._ours, 64, 1, socket.MSG_CMSG_CLOEXEC)
        if listeners:
            pidfd = os.pidfd_open(pid)
            FakeRoot(listeners[0], self._records, root=self._tree, standing=self._standing).run_until(pidfd)
            os.close(pidfd)

    def finish(self, log: int) -> None:
        """Write to *log* what `read_log` reads."""
        os.write(log, "\n".join(map(json.dumps, self._records.of_the_tree())).encode())


def become_fake(connection: socket.socket, request: Mapping[str, Any]) -> None:  # Any: JSON
    """In the step: be whom *request* names, for all who ask."""
    filters = _FILTERS[request["below"]]
    assert filters is not None
    deliver(connection, filters)
    program.become(request)


def read_log(log: int) -> tuple[OwnerRecord, ...]:
    """Return the owners that no attribute could carry."""
    lines = os.pread(log, os.fstat(log).st_size, 0).splitlines()
    return tuple(OwnerRecord(*json.loads(line)) for line in lines)
