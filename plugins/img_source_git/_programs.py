"""Other people's programs (git, ssh), run as the user who called us and not as the root of our namespace.

ssh reads ``~/.ssh`` of the user that it finds itself to be, and refuses files of others: a nested user namespace that maps
``<uid> 0 1`` gives back the real id (measured: under 1 ms).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from img_core.linux import syscalls
from img_core.spec.errors import Canceled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Host, Spawned

__all__ = ["Finished", "Programs"]

_KEPT = 1 << 20  # bytes of output; the rest is read and dropped
_UMASK = 0o022
_MARKS = (b"fatal:", b"error:", b"ERROR:")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended, and the first mebibyte of what it wrote."""

    status: int
    output: bytes
    errors: bytes

    @property
    def complaint(self) -> bytes:
        """The line of its standard error that says most: the first one that is marked as an error, else the last one."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()] or [b"no message"]
        first = next((number for number, line in enumerate(lines) if line.startswith(_MARKS)), len(lines) - 1)
        return b" ".join(lines[first : first + 2]) if lines[first].endswith(b":") else lines[first]


class Programs:
    """Runs programs for one source; `close` ends those that run. Safe to use from several threads.

    *cancel_fd*, if not -1, becomes readable when they must end (`SourceContext.cancel_fd`).
    """

    def __init__(self, host: Host, cancel_fd: int = -1) -> None:
        self._host = host
        self._cancel_fd = cancel_fd
        self._running: set[Spawned] = set()
        self._closed = False
        self._guard = threading.Lock()

    def run(self, command: Sequence[str], *, environment: Mapping[str, str], directory: str) -> Finished:
        """Run *command* in *directory* with exactly *environment*, no terminal and no input; wait for its end.

        It is killed when we end. Raises Canceled after `close`, HostError if it cannot be started; a program that does not exist
        ends with status 127.
        """
        if self._host.spawner is None:
            done = subprocess.run(
                list(command), capture_output=True, stdin=subprocess.DEVNULL, env=dict(environment), cwd=directory,
                umask=_UMASK, start_new_session=True, check=False,
            )  # fmt: skip
            return Finished(done.returncode, done.stdout[:_KEPT], done.stderr[:_KEPT])
        return self._spawn(command, dict(environment), directory)

    def close(self) -> None:
        """End all programs; threads that wait for one get Canceled."""
        with self._guard:
            self._closed = True
            for process in self._running:
                process.kill()

    def _spawn(self, command: Sequence[str], environment: dict[str, str], directory: str) -> Finished:
        assert self._host.spawner is not None
        nested = self._host.mapping in ("full", "single")
        payload: dict[str, Any] = {"command": list(command), "environment": environment, "directory": directory}  # JSON
        payload["identity"] = [self._host.real_uid, self._host.real_gid] if nested else None
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        try:
            with self._guard:
                if self._closed:
                    raise Canceled
                process = self._host.spawner.spawn(
                    "img_source_git._programs:become", payload, fds=[pipe[1] for pipe in pipes]
                )
                self._running.add(process)
            try:
                for pipe in pipes:
                    os.close(pipe[1])
                collected = _collect(process.pidfd, self._cancel_fd, pipes[0][0], pipes[1][0])
                if collected is None:
                    process.kill()
                status = process.wait()
            finally:
                with self._guard:
                    self._running.discard(process)
                    process.close()
        finally:
            for pipe in pipes:
                os.close(pipe[0])
        if self._closed or collected is None:
            raise Canceled
        return Finished(status, *collected)


def become(payload: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Turn a process of the zygote into the program. Returns only if that fails."""
    os.setsid()  # without a terminal nothing can ask questions
    for source, target in zip(fds, (1, 2), strict=True):
        os.dup2(source, target)
    if payload["identity"]:
        _become_user(*payload["identity"])
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # the new namespace made the kernel forget it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.umask(_UMASK)
    os.chdir(payload["directory"])
    command = payload["command"]
    try:
        os.execvpe(command[0], command, payload["environment"])  # noqa: S606
    except OSError as err:
        os.write(2, f"{command[0]}: {os.strerror(err.errno or 0).lower()}\n".encode())
    return 127


def _become_user(uid: int, gid: int) -> None:
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError:
        return  # the host allows no further namespace: better as "root" than not at all
    for name, text in (("setgroups", "deny"), ("gid_map", f"{gid} 0 1"), ("uid_map", f"{uid} 0 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _collect(pidfd: int, cancel_fd: int, output: int, errors: int) -> tuple[bytes, bytes] | None:
    """Read two streams until the process ended: what it leaves behind may keep them open for ever. None if canceled first."""
    kept = {stream: bytearray() for stream in (output, errors)}
    poll = select.poll()
    for descriptor in (pidfd, cancel_fd, *kept):
        if descriptor >= 0:
            poll.register(descriptor, select.POLLIN)
    ended = False
    while not ended:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if cancel_fd in ready:
            return None
        ended = pidfd in ready
        for stream in ready & kept.keys():
            if not _read_available(stream, kept[stream]):
                poll.unregister(stream)
    for stream, content in kept.items():
        os.set_blocking(stream, False)
        while _read_available(stream, content):
            pass
    return bytes(kept[output]), bytes(kept[errors])


def _read_available(stream: int, kept: bytearray) -> bool:
    try:
        data = os.read(stream, 65536)
    except BlockingIOError:
        return False
    kept += data[: _KEPT - len(kept)]
    return bool(data)
