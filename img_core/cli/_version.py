"""Which img this is, and which programs run its containers. Without click, and without the modules that start programs: 40 ms."""

from __future__ import annotations

import os
import select
import sys
import time

from img_core import __version__

__all__ = ["version_line", "version_page"]

_RUNTIMES = ("runc", "crun")
_SECONDS = 10.0  #: a runtime that does not answer is left out
_ENOUGH = 64 << 10


def version_line() -> str:
    """Return the line of ``img --version``, in the form of the original img."""
    return f"img version {__version__}, build {commit()}"


def version_page() -> str:
    """Return what ``img version`` shows."""
    asked = [(runtime, _ask(path)) for runtime in _RUNTIMES if (path := _which(runtime))]  # at the same time
    from img_core.images import _spellings

    name = sys.implementation.name
    rows = [
        ("version", __version__),
        ("git hash", commit()),
        ("python", f"{sys.version.split()[0]} ({'CPython' if name == 'cpython' else name})"),
        ("platform", "/".join(filter(None, _spellings.of_this_machine()))),
    ]
    blocks = [("img", rows)]
    blocks += [(runtime, found) for runtime, answer in asked if (found := _runtime_rows(runtime, _read(*answer)))]
    return "\n".join(
        f"{title}:\n" + "\n".join(f" {key:<11} : {value}" for key, value in rows) for title, rows in blocks
    )


def _which(program: str) -> str | None:
    paths = (os.path.join(place, program) for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if place)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def _ask(path: str) -> tuple[int, int]:
    """Start *path* with ``--version``; return its process id and a descriptor of what it prints. An id of 0: it cannot be started."""
    reading, writing = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    try:
        return os.posix_spawn(path, [path, "--version"], os.environ, file_actions=actions), reading
    except OSError:
        return 0, reading
    finally:
        os.close(writing)


def _read(pid: int, descriptor: int) -> str:
    """Return what a process prints until it closes its output, nothing if that takes too long."""
    end = time.monotonic() + _SECONDS
    text = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    try:
        while len(text) < _ENOUGH and poll.poll(max(0.0, end - time.monotonic()) * 1000):
            data = os.read(descriptor, 4096)
            if not data:
                return text.decode(errors="replace")
            text += data
        return ""
    finally:
        os.close(descriptor)
        if pid:
            os.kill(pid, 9)  # it has nothing more to say
            os.waitpid(pid, 0)


def _runtime_rows(runtime: str, text: str) -> list[tuple[str, str]]:
    """Return what a runtime said about itself; nothing if that is nothing."""
    pairs = [line.replace(" version ", ": ", 1).partition(":") for line in text.splitlines()]
    known = {name.strip(): value.strip() for name, colon, value in pairs if colon}
    if not known:
        return []
    return [("version", known.get(runtime, "")), *((name, known[name]) for name in ("commit", "spec") if name in known)]


def commit() -> str:
    """Return the abbreviated commit of the checkout we run from, or ``release`` for an installed img."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    head = _first_line(os.path.join(root, ".git", "HEAD"))
    if head.startswith("ref: "):
        head = _first_line(os.path.join(root, ".git", *head.removeprefix("ref: ").split("/")))
    return head[:12] or "release"


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""
