"""The supervisor that `owner_supervisor` starts for a step: a process of its own, which alone loads what knows the answers."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from img_core.linux import sandbox
from img_lib_containers.answering import Answering
from img_lib_containers.owner_calls import open_proc
from img_lib_containers.owner_records import OwnerRecords

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["supervise"]


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
    records.add_mounted(payload["sockets"])
    Answering(listeners[0], proc, records).run()
    for record in records.of_the_tree():
        os.write(log, json.dumps(record).encode() + b"\n")
    return 0
