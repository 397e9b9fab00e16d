"""Tasks as jobs of ``srun`` (srun(1)), which passes standard input and output on; ``sinfo`` tells which nodes there are."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from img_core.images.platforms import host_platform
from img_core.linux.line_process import LineProcess
from img_core.spec import EngineHandle, EngineTask, EngineWorker, Host, ImgError, Unsupported
from img_core.spec.text import why
from img_lib_engines.sharing import TaskEngine, task_schema

__all__ = ["SlurmEngine"]

_SECONDS = 60.0  #: that ``sinfo`` and ``scancel`` may take
#: States of a node, as sinfo(1) writes them, that can take a task now or soon.
_USABLE = ("idle", "mix", "alloc", "comp")
#: Tells on which node a task runs before it begins, and makes a status of the signal that ended it: after SIGKILL and SIGTERM srun drops
#: what is still on its way (``task_exit_signal`` in Slurm's src/api/step_launch.c). What signals the job signals the task, too.
_ANNOUNCED = 'printf \'{"img-node":"%s"}\\n\' "$SLURMD_NODENAME"; trap : TERM INT HUP; "$@"; exit $?'
#: Makes a root of our user namespace the user again, whom Slurm knows: see `_as_user`.
_NESTED = """\
import ctypes, os, sys
uid, gid = sys.argv[1:3]
if ctypes.CDLL(None).unshare(0x10000000) == 0:
    for name, text in (("setgroups", "deny"), ("gid_map", f"{gid} 0 1"), ("uid_map", f"{uid} 0 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as err:
    sys.exit(f"{sys.argv[3]}: {err.strerror.lower()}")
"""


class _Handle(EngineHandle):
    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self.worker = ""
        self.name = name
        self.canceled = False
        self.process: LineProcess | None = None
        self._tell = tell

    def hear(self, line: str) -> None:
        """Take a line; the first one tells the node."""
        if not self.worker and line.startswith('{"img-node":'):
            self.worker = str(json.loads(line)["img-node"])
        else:
            self._tell(line)

    def wait(self) -> None:
        """See `EngineHandle.wait`."""
        assert self.process is not None
        status = self.process.wait()
        if status and not self.canceled:
            told = self.process.complaint.removeprefix("srun: error: ")
            raise ImgError(
                f"the job on {self.worker or 'some node'} ended with status {status}" + (f": {told}" if told else "")
            )


class SlurmEngine(TaskEngine):
    """Lets the nodes of a Slurm cluster do tasks, through srun."""

    name: ClassVar[str] = "slurm"
    schema: ClassVar[Mapping[str, Any] | None] = task_schema(  # Any: JSON
        partition={"type": "string", "description": "partition of the jobs"},
        account={"type": "string", "description": "account of the jobs"},
        time={"type": "string", "description": "limit of time of a job, e.g. 30 or 1:00:00"},
        cpus={"type": "integer", "minimum": 1, "description": "processors that a task gets (1)"},
        options={"type": "string", "description": "more options for srun, words as in a shell"},
    )

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(host, options)
        self._handles: set[_Handle] = set()

    @classmethod
    def probe(cls, host: Host, options: Mapping[str, Any] | None = None) -> None:
        """See whether Slurm's programs are here. Raises Unsupported."""
        for program in ("srun", "sinfo", "scancel"):
            if shutil.which(program, path=host.environment.get("PATH")) is None:
                raise Unsupported(
                    f"there is no program `{program}`", hint="install Slurm's client programs (package slurm-client)"
                )

    def capacity(self) -> tuple[EngineWorker, ...]:
        """See `Engine.capacity`."""
        words = ["sinfo", "--noheader", "--Node", "--responding", "--format=%N|%c|%f|%t"]
        if "partition" in self.options:
            words.append(f"--partition={self.options['partition']}")
        rows = [line.strip().split("|") for line in self._asked(words).splitlines() if line.count("|") == 3]
        share = int(self.options.get("cpus", 1))
        return tuple(
            {
                node: EngineWorker(node, _platforms(features), max(1, int(cpus) // share))
                for node, cpus, features, state in rows
                if state.rstrip("*~#!%$@^-+").startswith(_USABLE)
            }.values()
        )

    def submit(self, task: EngineTask, tell: Callable[[str], None]) -> EngineHandle:
        """See `Engine.submit`."""
        fitting = [
            worker.name
            for worker in self.capacity()
            if (not task.platform or task.platform in worker.platforms)
            and (not task.workers or worker.name in task.workers)
            and worker.name not in task.avoid
        ]
        if not fitting:
            raise ImgError(f"no node of Slurm can do the task for {task.platform or 'any platform'} now")
        handle = _Handle(f"img-{task.id}", tell)
        try:
            handle.process = LineProcess(
                self._as_user(self._srun(handle.name, fitting)),
                task.document,
                handle.hear,
                environment=self.host.environment,
            )
        except OSError as err:
            raise ImgError(f"`srun` cannot be started: {why(err)}") from err
        self._handles.add(handle)
        return handle

    def _srun(self, name: str, nodes: list[str]) -> list[str]:
        given = [
            f"--{option}={self.options[option]}"
            for option in ("partition", "account", "time")
            if option in self.options
        ]
        every = {worker.name for worker in self.capacity()}
        # --nodelist asks for all of its nodes at once: of several, those that may not are excluded instead.
        chosen = f"--nodelist={nodes[0]}" if len(nodes) == 1 else f"--exclude={','.join(sorted(every - set(nodes)))}"
        return [
            "srun", "--nodes=1", "--ntasks=1", f"--cpus-per-task={self.options.get('cpus', 1)}", f"--job-name={name}", "--quiet",
            "--unbuffered", "--kill-on-bad-exit=1", *([] if chosen == "--exclude=" else [chosen]), *given,
            *shlex.split(str(self.options.get("options", ""))), "sh", "-c", _ANNOUNCED, "sh", *self.command(),
        ]  # fmt: skip

    def _asked(self, words: list[str]) -> str:
        try:
            done = subprocess.run(
                self._as_user(words), capture_output=True, text=True, env=dict(self.host.environment), timeout=_SECONDS,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as err:
            raise ImgError(f"`{words[0]}` does not answer: {err}") from err
        if done.returncode:
            told = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise ImgError(f"Slurm does not answer: {told.removeprefix(f'{words[0]}: error: ')}")
        return done.stdout

    def _as_user(self, words: list[str]) -> list[str]:
        """Return a command that does *words* as the user whom Slurm knows, out of our user namespace."""
        if self.host.mapping not in ("full", "single"):
            return words
        return [sys.executable, "-I", "-c", _NESTED, str(self.host.real_uid), str(self.host.real_gid), *words]

    def cancel(self, handle: EngineHandle) -> None:
        """See `Engine.cancel`."""
        assert isinstance(handle, _Handle)
        handle.canceled = True
        if handle.process is not None and handle in self._handles:
            with suppress(ImgError):
                self._asked(["scancel", "--quiet", f"--name={handle.name}"])
            handle.process.stop()

    def close(self) -> None:
        """See `Engine.close`."""
        for handle in list(self._handles):
            if handle.process is not None and handle.process.is_running:
                self.cancel(handle)
                handle.process.wait()
        self._handles.clear()


def _platforms(features: str) -> tuple[str, ...]:
    """Return the platforms among the features of a node: ``linux-arm64``, ``linux-arm-v7``."""
    found = [name.replace("-", "/") for name in features.split(",") if name.startswith("linux-")]
    return tuple(found) or (str(host_platform()),)
