"""The real command line, run as a user would: a new process, a state directory, an environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from harness.host import AS_ROOT, tool_path
from harness.situations import Surrounding
from harness.started import Started
from harness.warm_commands import run

__all__ = [
    "COMMAND",
    "Finished",
    "Img",
    "copy_as_mapped_root",
    "environment",
    "give_to_us",
    "own_as_mapped_root",
    "remove_as_mapped_root",
    "write_context",
]

COMMAND = (sys.executable, "-m", "img_core")
_TIMEOUT = 300.0

#: What may steer img or send its traffic elsewhere.
_UNWANTED = ("IMG_", "XDG_", "DOCKER_", "SSL_", "BUILDAH_", "CONTAINERS_", "SOURCE_DATE_EPOCH")


@dataclass(frozen=True, slots=True)
class Finished:
    """How one command ended. *stdout* is bytes: it may be an archive."""

    arguments: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode()

    @property
    def error(self) -> str:
        """The one line that says what went wrong."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, f"not one error line but {len(lines)}:\n{self}"
        return lines[0].removeprefix("Error: ")

    def ok(self) -> Finished:
        """Insist on success."""
        assert self.returncode == 0, str(self)
        assert "Traceback" not in self.stderr, str(self)
        return self

    def refused(self, code: int, *words: str) -> Finished:
        """Insist on exit status *code*, on one error line with all *words*, on nothing after it but a hint, and on no traceback."""
        assert self.returncode == code, f"status {self.returncode}, not {code}\n{self}"
        assert "Traceback" not in self.stderr, str(self)
        error = self.error
        for word in words:
            assert word in error, f"`{word}` is not in the error\n{self}"
        after = self.stderr[self.stderr.index("Error: ") :].splitlines()[1:]
        assert len(after) <= 1, str(self)
        assert all(line.startswith("hint: ") for line in after), str(self)
        return self

    def __str__(self) -> str:
        """Show all of it, for the report of a failed test."""
        shown = self.stdout[-2000:].decode(errors="backslashreplace")
        return f"$ img {' '.join(self.arguments)}\nstatus {self.returncode}\n--- stdout\n{shown}\n--- stderr\n{self.stderr[-6000:]}"


def environment(home: Path, **changes: str) -> dict[str, str]:
    """Return our environment without what steers builders, with *home* as HOME and *changes*."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_UNWANTED) and not name.lower().endswith("_proxy")
    }
    python_path = [os.path.abspath(path) for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
    kept.update(HOME=str(home), PATH=tool_path(), LC_ALL="C.UTF-8", PYTHONPATH=os.pathsep.join(python_path))
    return {**kept, **changes}


@dataclass(frozen=True, slots=True)
class Img:
    """The command with one *state* directory. *changes* are added to the environment, *flags* stand before every command.

    It runs on this host as it is, or in a *situation*; *program* is how it is called there.
    """

    state: Path
    home: Path
    changes: tuple[tuple[str, str], ...] = ()
    flags: tuple[str, ...] = ()
    situation: Surrounding | None = None
    program: tuple[str, ...] = COMMAND

    def with_environment(self, **changes: str) -> Img:
        """Return the same with more variables."""
        return replace(self, changes=(*self.changes, *changes.items()))

    def with_flags(self, *flags: str) -> Img:
        """Return the same with more global flags."""
        return replace(self, flags=(*self.flags, *flags))

    def on(self, situation: Surrounding) -> Img:
        """Return the same on another host."""
        return replace(self, situation=situation)

    def environment(self) -> dict[str, str]:
        """Return the environment of a command."""
        return environment(self.home, **dict(self.changes))

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the whole command line."""
        command = [*self.program, "-s", str(self.state), *self.flags, *map(str, arguments)]
        return self.situation.wrap(*command) if self.situation else command

    def run(
        self, *arguments: str | Path, stdin: bytes | IO[bytes] = b"", cwd: Path | None = None, timeout: float = _TIMEOUT
    ) -> Finished:
        """Run a command to its end."""
        shown = tuple(map(str, arguments))
        done = run(self.command(*arguments), self.environment(), stdin=stdin, cwd=cwd, timeout=timeout)
        return Finished(shown, done.returncode, done.stdout, done.stderr.decode(errors="backslashreplace"))

    def build(self, context: Path, *arguments: str | Path, tag: str = "built", timeout: float = _TIMEOUT) -> Finished:
        """Run ``img build`` of *context* and name the result *tag*."""
        return self.run("build", *(("-t", tag) if tag else ()), *arguments, context, timeout=timeout)

    def start(self, *arguments: str | Path, log: Path | None = None) -> Started:
        """Start a command; its standard error goes to the file *log*."""
        return Started(self.command(*arguments), self.environment(), log)

    def names(self) -> list[str]:
        """Return the names that ``img ls`` knows, in full."""
        return list(self._digests())

    def digest(self, name: str) -> str:
        """Return the digest that ``img ls`` knows for *name*."""
        digests = self._digests()
        assert full_name(name) in digests, f"{name} is not listed: {list(digests)}"
        return digests[full_name(name)]

    def _digests(self) -> dict[str, str]:
        """Return the digests of all images that have names, by their full names."""
        lines = self.run("ls", "--format", "{{.Name}}\t{{.Digest}}").ok().text.splitlines()
        rows = dict(line.split("\t") for line in lines)
        return {name: digest for name, digest in rows.items() if name != "<none>"}

    def export(self, name: str, dest: Path) -> Path:
        """Save the image *name* as an OCI archive."""
        self.run("save", "--format", "oci", "-o", dest, name).ok()
        return dest


def full_name(name: str) -> str:
    """Return *name* as listed."""
    name = name if "/" in name else f"docker.io/library/{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def remove_as_mapped_root(directory: Path) -> None:
    """Remove *directory* with files of ids that are ours only inside a user namespace."""
    _as_mapped_root("rm", "-rf", "--", directory)


def give_to_us(directory: Path) -> None:
    """Make us the owner of all in *directory*, also of what users of containers left there."""
    if AS_ROOT or shutil.which("newuidmap", path=tool_path()):  # without it there are no other ids
        _as_mapped_root("chown", "-hR", "0:0", "--", directory)


def copy_as_mapped_root(source: Path, dest: Path) -> None:
    """Copy the directory *source* with all owners, links and whiteouts to the new directory *dest*."""
    _as_mapped_root("cp", "-a", "--", source, dest)


def own_as_mapped_root(path: Path, owner: int) -> None:
    """Give *path* to *owner*, a user id of the namespace."""
    _as_mapped_root("chown", f"{owner}:{owner}", "--", path)


def _as_mapped_root(*command: str | Path) -> None:
    enter = [] if AS_ROOT else ["unshare", "--user", "--map-root-user", "--map-auto"]
    subprocess.run([*enter, *command], check=True, env={"PATH": tool_path()})


def write_context(directory: Path, dockerfile: str, files: dict[str, bytes | str] | None = None) -> Path:
    """Write a build context with *dockerfile* and *files* (path to content) and return it."""
    for name, content in {"Dockerfile": dockerfile, **(files or {})}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory
