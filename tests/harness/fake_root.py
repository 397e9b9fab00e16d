"""A command under the supervision of `img_lib_containers.fake_root`, in a directory of this machine: ``DIRECTORY UID GID COMMAND…``.

Says on descriptor 3, if it is open, which owners were noted of inodes, as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress

from img_core.linux import children, syscalls
from img_lib_containers import program, seccomp
from img_lib_containers.fake_root import FakeRecords, FakeRoot, deliver

__all__ = ["main"]


def main(directory: str, uid: str, gid: str, *command: str) -> int:
    """Run *command* and return its exit status."""
    filters = seccomp.fake_root_program()
    assert filters is not None
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        os.chdir(directory)
        deliver(theirs, filters)
        program.become({"uid": int(uid), "gid": int(gid), "groups": []})
        os.execvp(command[0], command)
    theirs.close()
    _, listeners, _, _ = socket.recv_fds(ours, 64, 1)
    fake = FakeRoot(listeners[0], FakeRecords())
    fake.run_until(os.pidfd_open(pid))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    children.end()
    with suppress(OSError):
        os.write(3, json.dumps([[*key, *owner] for key, owner in fake.records.inodes.items()]).encode())
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
