"""Other people's programs that work for a plugin: without terminal, with an environment of their own, and ended when we end.

`Programs.run` waits for one; `Programs.start` gives one that is fed and waited for by its caller::

    with programs.start(["mksquashfs", "-", path, "-tar"], environment=environment, directory="/", feeds=True) as running:
        write_tree(tree, running)
        running.wait(tick).check()

With *as_user* a program runs as the user who called us and not as the root of our namespace. ssh reads ``~/.ssh`` of the user that it finds
itself to be, and refuses files of others: a nested user namespace that maps ``<uid> 0 1`` gives back the real id (measured: under 1 ms).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from img_core.linux import syscalls
from img_core.spec.errors import Canceled, HostError, ImgError
from img_core.spec.text import one_line, show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.spec.host import Host

__all__ = ["Finished", "Programs", "Running"]

_KEPT = 1 << 20  # bytes of output; the rest is read and dropped
_UMASK = 0o022
_MARKS = (b"fatal:", b"error:", b"ERROR:", b"FATAL", b"E:")
_NOT_FOUND = 127
_SIGNALED = 128
_NO_FILES = 1 << 20  # descriptors
_BUFFER = 256 << 10
#: seconds between two calls of whoever may want to stop
_TICK = 0.2


@dataclass(frozen=True, slots=True)
class Finished:
    """How the program *name* ended (128 + n: by signal n), and the first mebibyte of what it wrote."""

    name: str
    status: int
    output: bytes
    errors: bytes

    @property
    def complaint(self) -> bytes:
        """The line of its standard error that says most: the first one that is marked as an error, else the last one."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()] or [b"no message"]
        first = next((number for number, line in enumerate(lines) if line.startswith(_MARKS)), len(lines) - 1)
        return b" ".join(lines[first : first + 2]) if lines[first].endswith(b":") else lines[first]

    def check(self) -> None:
        """Raise ImgError with what the program complained about, unless it ended well; HostError if there is none."""
        name = show(self.name)
        if self.status == _NOT_FOUND and not self.output:
            raise HostError(f"cannot run `{name}`: {one_line(self.complaint.decode(errors='replace'))}")
        if self.status > _SIGNALED:
            number = self.status - _SIGNALED
            raise ImgError(f"`{name}` was ended by signal {number}: {(signal.strsignal(number) or '').lower()}")
        if self.status:
            raise ImgError(f"`{name}` failed: {one_line(self.complaint.decode(errors='replace'))}")


class _Process(Protocol):
    """What there is to do with a process, whoever started it."""

    @property
    def pidfd(self) -> int: ...

    def wait(self) -> int: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...


class _Child:
    """A process of ours, for hosts without a zygote; the leader of a session."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], directory: str, fds: Sequence[int]) -> None:
        self._process = subprocess.Popen(
            list(command), stdin=fds[0], stdout=fds[1], stderr=fds[2], env=environment, cwd=directory, umask=_UMASK,
            start_new_session=True, preexec_fn=_die_with_us,
        )  # fmt: skip
        self.pidfd = syscalls.pidfd_open(self._process.pid)

    def wait(self) -> int:
        status = self._process.wait()
        return status if status >= 0 else _SIGNALED - status

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        os.close(self.pidfd)


def _die_with_us() -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


class Programs:
    """Runs programs for one driver; `close` ends those that run. Safe to use from several threads.

    *cancel_fd*, if not -1, becomes readable when they must end (`SourceContext.cancel_fd`). Without *as_user* they are what we are: root
    of the namespace, if we are in one. *together*: all that a program started ends with it (a pid namespace, where the host has a zygote).
    """

    def __init__(self, host: Host, cancel_fd: int = -1, *, as_user: bool = False, together: bool = False) -> None:
        self._host = host
        self._cancel_fd = cancel_fd
        self._as_user = as_user
        self._flags = syscalls.CLONE_NEWPID if together and host.mapping != "none" else 0
        self._running: set[Running] = set()
        self._closed = False
        self._guard = threading.Lock()

    def run(self, command: Sequence[str], *, environment: Mapping[str, str], directory: str) -> Finished:
        """Run *command* in *directory* with exactly *environment*, no terminal and no input; wait for its end.

        It is killed when we end. Raises Canceled after `close`, HostError if it cannot be started; a program that does not exist
        ends with status 127.
        """
        with self.start(command, environment=environment, directory=directory) as running:
            return running.wait()

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: str,
        feeds: bool = False,
        output: int = -1,
    ) -> Running:
        """Start *command* like `run`. With *feeds* its standard input is what `Running.write` gets.

        *output*: a descriptor to which its standard output goes; else that is kept for `Finished`.
        """
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (source, feed), (kept, target), (errors, complaints) = pipes
        mine = [kept, errors, *([feed] if feeds else [])]
        try:
            with self._guard:
                if self._closed:
                    raise Canceled
                process = self._spawn(
                    command, dict(environment), directory,
                    [source if feeds else null, target if output < 0 else output, complaints],
                )  # fmt: skip
                running = Running(
                    os.path.basename(command[0]),
                    process,
                    self._cancel_fd,
                    feed if feeds else -1,
                    kept,
                    errors,
                    self._running.discard,
                )
                self._running.add(running)
            mine.clear()
        finally:
            for descriptor in (null, source, target, complaints, *mine, *(() if feeds else (feed,))):
                os.close(descriptor)
        return running

    def close(self) -> None:
        """End all programs; threads that wait for one get Canceled."""
        with self._guard:
            self._closed = True
            running = list(self._running)
        for program in running:
            program.cancel()

    def _spawn(
        self, command: Sequence[str], environment: dict[str, str], directory: str, fds: Sequence[int]
    ) -> _Process:
        if self._host.spawner is None:
            try:
                return _Child(command, environment, directory, fds)
            except OSError as err:
                # What a shell says, and `become`.
                os.write(fds[2], _not_started(command, err))
                return _Child(["/bin/sh", "-c", f"exit {_NOT_FOUND}"], environment, "/", fds)
        nested = self._as_user and self._host.mapping in ("full", "single")
        payload: dict[str, Any] = {"command": list(command), "environment": environment, "directory": directory}  # JSON
        payload["identity"] = [self._host.real_uid, self._host.real_gid] if nested else None
        return self._host.spawner.spawn("img_core.linux.programs:become", payload, fds=fds, flags=self._flags)


class Running:
    """A program at work. Leaving its ``with`` block ends it, if it did not end by itself."""

    def __init__(
        self,
        name: str,
        process: _Process,
        cancel_fd: int,
        feed: int,
        output: int,
        errors: int,
        forget: Callable[[Running], None],
    ) -> None:
        self._name = name
        self._process = process
        self._feed = feed
        self._buffer = bytearray()
        self._forget = forget
        self._finished: Finished | None = None
        self._canceled = False
        self._collector = threading.Thread(target=self._collect, args=(cancel_fd, output, errors), daemon=True)
        self._collector.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process_kill()
        self._close_feed()
        self._collector.join()

    def write(self, data: bytes, /) -> None:
        """Give *data* to its standard input. Raises ImgError with its last words if it ended before it was fed."""
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        view, self._buffer = memoryview(self._buffer), bytearray()
        try:
            while view:
                view = view[os.write(self._feed, view) :]
        except BrokenPipeError:
            finished = self._wait(lambda: None)
            finished.check()
            raise ImgError(f"`{show(finished.name)}` stopped reading before the end of its input") from None

    def wait(self, tick: Callable[[], None] = lambda: None) -> Finished:
        """Close its input and wait for its end; *tick* is called meanwhile, several times a second, and may raise to stop.

        Raises Canceled after `cancel`, and what `write` raises.
        """
        if self._buffer:
            self._flush()
        return self._wait(tick)

    def _wait(self, tick: Callable[[], None]) -> Finished:
        self._close_feed()
        self._collector.join(_TICK)
        while self._collector.is_alive():
            tick()
            self._collector.join(_TICK)
        if self._canceled or self._finished is None:
            raise Canceled
        return self._finished

    def cancel(self) -> None:
        """End it; who waits gets Canceled."""
        self._canceled = True
        self._process_kill()

    def _process_kill(self) -> None:
        if self._collector.is_alive():
            self._process.kill()

    def _close_feed(self) -> None:
        feed, self._feed = self._feed, -1
        if feed >= 0:
            os.close(feed)

    def _collect(self, cancel_fd: int, output: int, errors: int) -> None:
        try:
            collected = _collect(self._process.pidfd, cancel_fd, output, errors)
            if collected is None:
                self._process.kill()
            status = self._process.wait()
            if collected is not None:
                self._finished = Finished(self._name, status, *collected)
        finally:
            self._forget(self)
            self._process.close()
            os.close(output)
            os.close(errors)


def become(payload: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Turn a process of the zygote into the program. Returns only if that fails."""
    os.setsid()  # without a terminal nothing can ask questions
    for source, target in zip(fds, (0, 1, 2), strict=True):
        os.dup2(source, target)
    if payload["identity"]:
        _become_user(*payload["identity"])
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # the new namespace made the kernel forget it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, _NO_FILES)  # what the caller of img left open is none of its business
    os.umask(_UMASK)
    os.chdir(payload["directory"])
    command = payload["command"]
    try:
        os.execvpe(command[0], command, payload["environment"])  # noqa: S606
    except OSError as err:
        os.write(2, _not_started(command, err))
    return _NOT_FOUND


def _not_started(command: Sequence[str], err: OSError) -> bytes:
    return f"{command[0]}: {os.strerror(err.errno or 0).lower()}\n".encode()


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
