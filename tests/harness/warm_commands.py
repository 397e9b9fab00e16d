"""Runs commands of img in forks of a process that has imported it already: two thirds of a small command's processor time are imports.

A fork is a process of its own with the arguments, environment, directory, descriptors and umask of its request, and ends as the command
does, unless it closes a descriptor twice (`closed_twice`). What Python decides when it starts it shares with its siblings, so a request
that changes such a thing is none for this: see `WarmCommands.takes`. Tests of the start itself run the real program.

What sets the stage for a command (`harness.engine`, `harness.outer`) is such a fork, too; the command itself is a process there.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from harness import closed_twice

__all__ = ["WarmCommands", "commands_in_forks", "import_all", "run"]

#: Beginnings of the names of variables that are read when an interpreter, the C library or a module of img starts.
_AT_START = (
    "PYTHON",
    "LD_",
    "LC_",
    "LANG",
    "MALLOC_",
    "GLIBC_",
    "TZ",
    "COVERAGE_",
    "OPENSSL_",
    "SSL_",
    "IMG_SYNC",
    "IMG_TRACE",
)
#: Ends of the names of modules that run a program when they are imported, or note what the process that starts steps may do.
_LATER = (".__main__", "._init", "._step")
_LARGEST = 1 << 20  #: bytes of a request
_IMG = "img_core.cli"
_HERE = Path(__file__).parent
#: Which commands are the ``main`` of which module.
_MODULES = {
    (sys.executable, "-m", "img_core"): _IMG,
    (sys.executable, str(_HERE / "engine.py")): "harness.engine",
    (sys.executable, str(_HERE / "outer.py")): "harness.outer",
}


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_AT_START)}


# --- this side: the test


class WarmCommands:
    """The process that forks, with what *environment* says at its start; use as a context manager."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._at_start = _at_start(environment)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join([str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", "from harness.warm_commands import serve; serve()", str(theirs.fileno())],
                env={**environment, "PYTHONPATH": path}, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._requests = ours

    def __enter__(self) -> WarmCommands:
        return self

    def __exit__(self, *_error: object) -> None:
        self._requests.close()
        self._server.wait(20)

    def takes(self, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Tell whether a command with *arguments* in *environment* starts as the others do, and does not tell what it imports."""
        tells_imports = any(word.startswith("--trace") for word in arguments)
        return not tells_imports and _at_start(environment) == self._at_start

    def run(
        self,
        arguments: Sequence[str],
        stdin: bytes | IO[bytes],
        environment: Mapping[str, str],
        cwd: Path | None,
        timeout: float,
        *,
        module: str = _IMG,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the ``main`` of *module*, which is ``img``'s, with *arguments* to its end.

        Raises:
            subprocess.TimeoutExpired: It did not end within *timeout* seconds; it was killed.
        """
        deadline = time.monotonic() + timeout
        answers, theirs = socket.socketpair()
        out, err = _Reader(), _Reader()
        feeder = _Feeder(stdin)
        with answers:
            request = {"arguments": list(arguments), "environment": dict(environment), "cwd": str(cwd or Path.cwd())}
            request["module"] = module
            descriptors = [theirs.fileno(), feeder.theirs, out.theirs, err.theirs]
            socket.send_fds(self._requests, [json.dumps({**request, "umask": _umask()}).encode()], descriptors)
            theirs.close()
            for end in (feeder, out, err):
                end.start()
            pid = array.array("i", _received(answers, 4))[0]
            try:
                for end in (out, err):
                    end.join(max(0.0, deadline - time.monotonic()))
                    if end.is_alive():
                        raise subprocess.TimeoutExpired(list(arguments), timeout)
                answers.settimeout(max(0.1, deadline - time.monotonic()))
                status = array.array("i", _received(answers, 4))[0]
            except (TimeoutError, subprocess.TimeoutExpired):
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout, out.data, err.data) from None
            feeder.join()
        return subprocess.CompletedProcess(list(arguments), os.waitstatus_to_exitcode(status), out.data, err.data)


#: The process that runs commands, while there is one.
_warm: list[WarmCommands] = []


@contextlib.contextmanager
def commands_in_forks(environment: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile let there be a process that has imported commands, with what *environment* says at its start; see `run`."""
    with WarmCommands(environment) as warm:
        _warm.append(warm)
        yield
        _warm.remove(warm)


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: bytes | IO[bytes] = b"",
    cwd: Path | None = None,
    timeout: float,
) -> subprocess.CompletedProcess[bytes]:
    """Run *command* to its end: in a fork, if there is what forks and it makes no difference, else as a process.

    Raises:
        subprocess.TimeoutExpired: It did not end within *timeout* seconds; it was killed.
    """
    for start, module in _MODULES.items():
        arguments = command[len(start) :]
        if _warm and tuple(command[: len(start)]) == start and _warm[-1].takes(arguments, environment):
            return _warm[-1].run(arguments, stdin, environment, cwd, timeout, module=module)
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    return subprocess.run(command, capture_output=True, env=environment, cwd=cwd, timeout=timeout, check=False, **given)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _received(answers: socket.socket, size: int) -> bytes:
    data = answers.recv(size, socket.MSG_WAITALL)
    assert len(data) == size, "the process that forks commands ended"
    return data


class _Reader(threading.Thread):
    """Reads what a command writes into a pipe."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ours, self.theirs = os.pipe()
        self.data = b""

    def start(self) -> None:
        os.close(self.theirs)
        super().start()

    def run(self) -> None:
        with os.fdopen(self._ours, "rb") as file:
            self.data = file.read()


class _Feeder(threading.Thread):
    """Gives a command its standard input: a pipe with some bytes, or an open file."""

    def __init__(self, given: bytes | IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._given = given
        self.theirs, self._ours = os.pipe() if isinstance(given, bytes) else (os.dup(given.fileno()), -1)

    def start(self) -> None:
        os.close(self.theirs)
        super().start()

    def run(self) -> None:
        if isinstance(self._given, bytes):
            try:
                with os.fdopen(self._ours, "wb") as file:
                    file.write(self._given)
            except BrokenPipeError:
                pass  # the command did not want all


# --- that side: the process that forks, and its forks


def serve() -> None:
    """Fork for each request until nobody can send one."""
    import selectors

    import_all()
    for module in _MODULES.values():
        importlib.import_module(module)
    requests = socket.socket(fileno=int(sys.argv[1]))
    watched = selectors.DefaultSelector()
    watched.register(requests, selectors.EVENT_READ)
    waiting: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for key, _events in watched.select():
            if key.fileobj is requests:
                data, descriptors, _flags, _address = socket.recv_fds(requests, _LARGEST, 8)
                if not data:
                    return
                answers = socket.socket(fileno=descriptors[0])
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(data), descriptors[1:])
                for descriptor in descriptors[1:]:
                    os.close(descriptor)
                end = os.pidfd_open(pid)
                waiting[end] = (pid, answers)
                watched.register(end, selectors.EVENT_READ)
                answers.sendall(array.array("i", [pid]).tobytes())
            else:
                pid, answers = waiting.pop(key.fd)
                _pid, status = os.waitpid(pid, 0)
                watched.unregister(key.fd)
                os.close(key.fd)
                with answers:
                    answers.sendall(array.array("i", [status]).tobytes())


def import_all() -> None:
    """Import what commands import: the core and the plugins of its distribution; their dataclasses are complete then."""
    import dataclasses
    import pkgutil
    from importlib import metadata

    points = metadata.distribution("img-builder").entry_points
    packages = {point.module.partition(".")[0] for point in points if point.group.startswith("img.")}
    for package in ("img_core", *sorted(packages)):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.startswith("img_core.testing") and not module.name.endswith(_LATER):
                importlib.import_module(module.name)
    for name in ("click", "httpx", "ssl", "sqlite3", "jsonschema", "pluggy", "stevedore", "encodings.ascii"):
        importlib.import_module(name)
    with contextlib.suppress(ImportError):  # there is none for every processor
        importlib.import_module("isal.isal_zlib")
    ours = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("img_")]
    for value in [value for names in ours for value in names.values() if isinstance(value, type)]:
        dataclasses.is_dataclass(value)  # asks for its fields, which is when it is made (`img_core.spec.dataclass`)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Be the command of *request*."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    sys.argv = [sys.argv[0], *request["arguments"]]
    closed_twice.watch()
    sys.path[:2] = [request["cwd"]]  # as for ``python -m``, and without the directory of the tests
    try:
        if request["module"] == _IMG:
            from img_core.cli import main

            main(isolated=False)
        sys.exit(importlib.import_module(request["module"]).main())
    except SystemExit as end:
        if isinstance(end.code, str):
            os.write(2, f"{end.code}\n".encode())
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
