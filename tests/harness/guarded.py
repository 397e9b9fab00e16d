"""The command, with a guard: ``guarded.py LOG ARGUMENT...`` notes in LOG what is loaded, started or looked up at the wrong moment.

That is while the executor `swap` has the tree of a step in the place of the root directory. The guard sees all that Python does, also in
the zygote and the processes that it starts, but for the program of the step itself.
"""

from __future__ import annotations

import os
import sys

__all__ = ["watch"]

_EVENTS = (
    "import",
    "ctypes.dlopen",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.system",
    "socket.getaddrinfo",
)


def watch(log: str) -> None:
    """Note such events in the file *log* from now on, a line each: process, event, first argument."""
    noting: list[str] = []

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _EVENTS or noting or not any(name.startswith(".img-aside-") for name in os.listdir("/")):
            return
        if event == "os.exec" and os.getsid(0) == os.getpid():  # the step
            return
        noting.append(event)
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {event} {arguments[0]}\n")
        noting.pop()

    sys.addaudithook(hear)


if __name__ == "__main__":
    watch(sys.argv.pop(1))
    from img_core.cli import main

    sys.exit(main())
