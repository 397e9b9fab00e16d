"""A process in which an executor can be tried: it enters the user namespace, which a test process must not do.

`Laboratory` is the test's side; the other side (`main`) reads one JSON request per line from stdin and answers with one line.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import resource
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img_core.plugins._files import import_file, is_file, module_name
from img_core.testing.processes import resident

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from img_core.spec.executor import Executor, Process

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
_PATIENCE = 10.0  #: seconds until output must have ended after its process

# Any in this module: values that travel as JSON.


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave: *error* is ``Type: message`` when the executor raised."""

    code: int
    canceled: bool
    output: bytes
    errors: bytes
    seconds: float
    error: str
    owners: Sequence[tuple[int, int, int, int]]
    grown: int  #: bytes by which the laboratory's process grew at most, beyond what it ever had before

    @property
    def text(self) -> str:
        """The standard output as text without white space around it."""
        return self.output.decode(errors="replace").strip()


def place_of(executor: type[Executor]) -> str:
    """Return where another process finds a class: ``module:Class``; ``/path:Class`` for a plugin of one file."""
    module = executor.__module__
    path = getattr(sys.modules.get(module), "__file__", None) or ""
    return f"{path if module == module_name(path) else module}:{executor.__qualname__}"


@dataclass(slots=True)
class Laboratory:
    """Handle of a laboratory process. *executor* is what `place_of` says of a class; *mapping* ``full`` or ``single``."""

    executor: str
    mapping: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()  #: a command that executes the laboratory in special surroundings
    identity: Mapping[str, Any] = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        environment = {**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if self.mapping == "single":
            environment["IMG_IDMAP"] = "single"
        command = [*self.prefix, sys.executable, "-m", __name__, self.executor, json.dumps(dict(self.options))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.identity = self._answer()

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Send one request and return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"operation": operation, **arguments}).encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def run(
        self,
        *args: str,
        mounts: Sequence[Mapping[str, Any]] = (),
        cancel: str = "",
        stdin: str | None = None,
        typed: Sequence[tuple[str, str]] | None = None,
        drop: bool = False,
        room: int | None = None,
        **process: Any,
    ) -> Outcome:
        """Run *args* with an environment of only PATH; *cancel*: cancel when this text appears on stdout.

        *stdin* is what it reads. With *typed* it has a terminal of 33 lines and 99 columns, on which one text after the other is waited for
        and answered: pairs of what appears and what is typed then. All that the terminal shows is the output. With *drop* output is
        read and forgotten, with *room* nobody outside of the step can write a file of more than so many bytes, as on a full disk.
        """
        process.setdefault("env", [["PATH", "/bin"]])
        answer = self.ask(
            "run", process={"args": args, **process}, mounts=mounts, cancel=cancel, stdin=stdin, typed=typed, drop=drop,
            room=room,
        )  # fmt: skip
        answer["output"] = base64.b64decode(answer["output"])
        answer["errors"] = base64.b64decode(answer["errors"])
        return Outcome(**answer)

    def shell(self, script: str, **arguments: Any) -> Outcome:
        """Run *script* with the shell of the test image."""
        return self.run("sh", "-c", script, **arguments)

    def close(self) -> None:
        """End the laboratory and remove its files."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._reap()

    def kill(self) -> None:
        """Kill the laboratory the hard way."""
        self.process.kill()
        self._reap()
        shutil.rmtree(self.identity["scratch"], ignore_errors=True)

    def _reap(self) -> None:
        with self.process:  # closes the pipes too
            self.process.wait(timeout=30)

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the laboratory ended with status {self.process.wait(timeout=30)}")
        return json.loads(line)


# --- the other side ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Root:
    """A plain directory as root file system."""

    path: str
    fd: int

    def close(self) -> None:
        os.close(self.fd)


class _Server:
    def __init__(self, executor: Executor, scratch: str) -> None:
        self._executor = executor
        self._scratch = scratch
        self._root = self._make_root()

    def _make_root(self) -> _Root:
        path = tempfile.mkdtemp(dir=self._scratch, prefix="root-")
        Path(path).chmod(0o755)
        binaries = Path(path, "bin")
        binaries.mkdir()
        shutil.copy(BUSYBOX, binaries / "busybox")
        applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, check=True).stdout.decode().split()
        for applet in applets:
            if applet != "busybox":
                (binaries / applet).symlink_to("busybox")
        return _Root(path, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def handle(self, request: dict[str, Any]) -> Any:
        operation = request.pop("operation")
        return getattr(self, f"do_{operation}")(**request)

    def do_reset(self) -> str:
        """Start over with a fresh root file system; return its path."""
        self._root.close()
        shutil.rmtree(self._root.path)
        self._root = self._make_root()
        return self._root.path

    def do_write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file into the root; *path* is relative."""
        target = Path(self._root.path, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def do_symlink(self, path: str, target: str) -> None:
        Path(self._root.path, path).symlink_to(target)

    def do_list(self) -> list[str]:
        """Return what is in the root besides /bin, sorted."""
        found = []
        for directory, directories, files in os.walk(self._root.path):
            found += [os.path.relpath(f"{directory}/{name}", self._root.path) for name in (*directories, *files)]
        return sorted(name for name in found if name != "bin" and not name.startswith("bin/"))

    def do_stat(self, path: str) -> dict[str, Any]:
        """Return ids, mode, inode and the recorded owner of an entry of the root."""
        full = f"{self._root.path}/{path}"
        status = os.lstat(full)
        try:
            recorded = os.getxattr(full, "user.img.owner", follow_symlinks=False).decode()
        except OSError:
            recorded = ""
        return {
            "uid": status.st_uid,
            "gid": status.st_gid,
            "mode": stat.S_IMODE(status.st_mode),
            "mtime": status.st_mtime_ns,
            "key": [status.st_dev, status.st_ino],
            "recorded": recorded,
        }

    def do_working_files(self) -> list[str]:
        """Return what is in the run directory."""
        return sorted(os.listdir(self._executor.host.run_directory))

    def do_descriptors(self) -> list[int]:
        """Return the descriptors open here; equal before and after a run."""
        return sorted(int(name) for name in os.listdir("/proc/self/fd"))

    def do_background(self, process: dict[str, Any]) -> None:
        """Run without waiting; the output is lost."""
        threading.Thread(target=self.do_run, args=(process, [], ""), daemon=True).start()

    def do_run(
        self,
        process: dict[str, Any],
        mounts: list[dict[str, Any]],
        cancel: str,
        stdin: str | None = None,
        typed: Sequence[tuple[str, str]] | None = None,
        drop: bool = False,
        room: int | None = None,
    ) -> dict[str, Any]:
        from img_core.spec.executor import StepIO

        with ExitStack() as stack:
            output = _Typist(typed) if typed is not None else _Sink() if drop else _Collector()
            errors = _Collector()
            cancel_read, cancel_write = os.pipe()
            stack.callback(os.close, cancel_read)
            stack.callback(os.close, cancel_write)
            if cancel:
                output.when_seen(cancel.encode(), lambda: os.write(cancel_write, b"!"))
            started, had = time.monotonic(), resident("VmHWM")
            answer: dict[str, Any] = {"code": -1, "canceled": False, "error": "", "owners": []}
            process |= self._places(process, stack)
            try:
                made = _process(process, mounts, stack)
                if typed is None:
                    io = StepIO(output.write_fd, errors.write_fd, cancel_read, _given(stdin, stack))
                else:
                    io = StepIO(output.write_fd, output.write_fd, cancel_read, output.write_fd, terminal=True)
                with _room(room):
                    status = self._executor.run(made, self._root, io)
                answer |= {"code": status.code, "canceled": status.canceled}
                answer["owners"] = [(o.device, o.inode, o.uid, o.gid) for o in status.owners]
            except Exception as err:
                answer["error"] = f"{type(err).__name__}: {err}"
            answer["seconds"] = time.monotonic() - started
            answer["grown"] = resident("VmHWM") - had
            for name, collector in (("output", output), ("errors", errors)):
                answer[name] = base64.b64encode(collector.finish()).decode()
            return answer

    def _places(self, process: dict[str, Any], stack: ExitStack) -> dict[str, Any]:
        """Return the descriptors that a process in a private network, or in a control group, gets; the group is a plain file *group*."""
        from img_core.linux.network.private import new_namespace

        found: dict[str, Any] = {}
        if process.get("network") == "private":
            spawner = self._executor.host.spawner
            assert spawner is not None
            found["network_fd"] = new_namespace(spawner)
            stack.callback(os.close, found["network_fd"])
        group = process.pop("group", "")
        if group:
            fd = os.open(group, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            found["cgroup_fds"] = (fd,)
        return found


@contextmanager
def _room(limit: int | None) -> Iterator[None]:
    """Let this process, and those that it starts, write no file of more than *limit* bytes for a while."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def _given(text: str | None, stack: ExitStack) -> int:
    """Return a descriptor from which *text* can be read, -1 for None."""
    if text is None:
        return -1
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    os.write(writer, text.encode())
    os.close(writer)
    return reader


class _Collector:
    """Reads a pipe to its end in a thread."""

    def __init__(self) -> None:
        self._read_fd, self.write_fd = self._ends()
        self._chunks: list[bytes] = []
        self._trigger: tuple[bytes, Any] | None = None
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _ends(self) -> tuple[int, int]:
        return os.pipe()

    def when_seen(self, text: bytes, action: Any) -> None:
        self._trigger = (text, action)

    def _read(self) -> bytes:
        return os.read(self._read_fd, 65536)

    def _collect(self) -> None:
        while chunk := self._read():
            self._chunks.append(chunk)
            self._seen()
            if self._trigger is not None and self._trigger[0] in b"".join(self._chunks):
                self._trigger[1]()
                self._trigger = None

    def _seen(self) -> None:
        pass

    def finish(self) -> bytes:
        os.close(self.write_fd)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            raise RuntimeError("the executor has returned, but somebody holds the output of its process open")
        os.close(self._read_fd)
        return b"".join(self._chunks)


class _Sink(_Collector):
    """Reads to the end and keeps nothing."""

    def _read(self) -> bytes:
        chunk = super()._read()
        self._chunks.clear()
        return chunk


class _Typist(_Collector):
    """Has the other end of a terminal, and types when something appears."""

    def __init__(self, typed: Sequence[tuple[str, str]]) -> None:
        self._typed = [(seen.encode(), keys.encode()) for seen, keys in typed]
        self._looked_at = 0
        super().__init__()

    def _ends(self) -> tuple[int, int]:
        master, slave = os.openpty()
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        return master, slave

    def _read(self) -> bytes:
        try:
            return super()._read()
        except OSError:  # EIO: nobody has the other end any more
            return b""

    def _seen(self) -> None:
        text = b"".join(self._chunks)
        while self._typed and (place := text.find(self._typed[0][0], self._looked_at)) >= 0:
            seen, keys = self._typed.pop(0)
            self._looked_at = place + len(seen)
            os.write(self._read_fd, keys)


def _process(process: dict[str, Any], mounts: list[dict[str, Any]], stack: ExitStack) -> Process:
    from img_core.spec.executor import Mount, Process

    opened = []
    for mount in mounts:
        source = mount.pop("source", None)
        if source is not None:
            mount["source_fd"] = os.open(source, os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, mount["source_fd"])
        opened.append(Mount(**mount))
    for name in ("args", "groups"):
        process[name] = tuple(process.get(name, ()))
    for name in ("env", "ulimits"):
        process[name] = tuple(tuple(item) for item in process.get(name, ()))
    return Process(**process, mounts=tuple(opened))


def main(executor_name: str, options: str) -> None:
    """Serve requests until stdin ends."""
    from img_core.linux import userns
    from img_core.linux.zygote import Zygote
    from img_core.spec.host import Host

    os.umask(0o022)
    identity = userns.enter()
    spawner = Zygote.start()
    module, _, name = executor_name.rpartition(":")
    executor_class = getattr(import_file(module) if is_file(module) else import_module(module), name)
    with tempfile.TemporaryDirectory(prefix="img-lab-") as scratch:
        run_directory = f"{scratch}/run"
        Path(run_directory).mkdir()
        host = Host(
            mapping=identity.mode,
            state_directory=scratch,
            run_directory=run_directory,
            spawner=spawner,
            environment=dict(os.environ),
        )
        executor_class.probe(host)
        server = _Server(executor_class(host, json.loads(options)), scratch)
        _answer({"mode": identity.mode, "reason": identity.fallback_reason, "scratch": scratch, "run": run_directory})
        for line in sys.stdin.buffer:
            _answer(server.handle(json.loads(line)))
    spawner.close()


def _answer(value: Any) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
