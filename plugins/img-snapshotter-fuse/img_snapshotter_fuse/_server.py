"""The process that serves mounts, one child process for each.

It is started once per builder and imports pyfuse3 once. A child lives as long as its mount: when the last descriptor of that is closed,
or the builder dies, the kernel tells it that the file system is gone.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final, NoReturn

from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LONGEST_REQUEST", "main"]

LONGEST_REQUEST: Final = 160_000


def main(_payload: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Serve the requests that come in at the socket fds[0] until it is closed."""
    import pyfuse3  # noqa: F401  # 150 ms, here and not in each child

    os.umask(0)
    # The last answers come too late when a file system goes: that is no news.
    logging.getLogger("pyfuse3").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the children
    _allow_many_files()
    gc.freeze()
    with socket.socket(fileno=fds[0]) as requests:
        while True:
            message, received, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 1, socket.MSG_CMSG_CLOEXEC)
            if not message:
                return 0
            _start(json.loads(message), received[0], requests)


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _start(request: dict[str, Any], device: int, requests: socket.socket) -> None:
    try:
        if os.fork() == 0:
            requests.close()
            _serve(request, device)
    finally:
        os.close(device)


def _serve(request: dict[str, Any], device: int) -> NoReturn:
    status = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _answer_requests(request, device)
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def _answer_requests(request: dict[str, Any], device: int) -> None:
    import pyfuse3

    from img_snapshotter_fuse._files import OpenFiles
    from img_snapshotter_fuse._loop import run
    from img_snapshotter_fuse._operations import OverlayOperations
    from img_snapshotter_fuse._relay import Relay
    from img_snapshotter_fuse._tree import Tree

    tree = Tree(request["lowers"], request["upper"], request["work"])
    files = OpenFiles(tree)
    relay = Relay(device, tree.nodes, files)
    # libfuse takes a device that is mounted already by this name.
    pyfuse3.init(OverlayOperations(tree, files), f"/dev/fd/{relay.end}", set())
    run(pyfuse3, relay)


if __name__ == "__main__":
    sys.exit(main({}, [int(sys.argv[1])]))
