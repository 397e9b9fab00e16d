"""The completion scripts in real shells: a key is pressed, and the line grows."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.fixtures import NewState
from harness.host import need
from harness.img import write_context

pytestmark = pytest.mark.rootless

START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(img completion bash)"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit && compinit -u -D && source <(img completion zsh)"),
    "fish": (["fish", "--no-config", "-i"], "img completion fish | source"),
}


@pytest.fixture
def surroundings(new_state: NewState, tmp_path: Path) -> dict[str, str]:
    """Give the environment of a shell that finds ``img``, with an image and a context."""
    img = new_state("home/.local/share/img")
    img.run("tag", "busybox", "app:1.2.3").ok()
    write_context(tmp_path / "context", "FROM busybox AS compile\nFROM busybox AS final\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "img").write_text(f'#!/bin/sh\nexec {sys.executable} -m img_core "$@"\n')
    (programs / "img").chmod(0o755)
    given = img.environment()
    runtime = tmp_path / "runtime"  # where fish keeps a directory for its user: not in that of all tests
    runtime.mkdir(0o700)
    given |= {"TMPDIR": str(runtime), "XDG_RUNTIME_DIR": str(runtime)}
    return {**given, "PATH": f"{programs}:{given['PATH']}", "TERM": "xterm", "PS1": "> ", "PROMPT": "> "}


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, name: str, environment: dict[str, str], directory: Path) -> None:
        command, setup = START[name]
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(directory)
            os.execvpe(command[0], command, environment)
        self.output = ""
        self._type(f"{setup}; echo rea''dy\n")
        self.wait_for("ready")

    def _type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read until *text* was written."""
        end = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < end, f"`{text}` is not in {self.output!r}"
            if select.select([self._terminal], [], [], 0.2)[0]:
                self.output += os.read(self._terminal, 65536).decode(errors="replace")

    def completed(self, line: str, expected: str) -> None:
        """Type *line*, press tab, and insist that *expected* appears; then clear the line."""
        self.output = ""
        self._type(line + "\t")
        self.wait_for(expected)
        self._type("\x15")  # Ctrl-U

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


@pytest.mark.parametrize("name", START)
def test_a_tab_completes_the_line(name: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    need(name)
    shell = Shell(name, surroundings, tmp_path / "context")
    try:
        shell.completed("img doct", "doctor")
        shell.completed("img build --targ", "--target")
        shell.completed("img build --target comp", "compile")
        shell.completed("img inspect app:1", "app:1.2.3")
        shell.completed("img build -o type=oc", "type=oci")
        shell.completed("img build -o type=tar,de", "dest=")
        shell.completed("img build --executor user", "userns")
    finally:
        shell.close()


@pytest.mark.parametrize("name", START)
def test_the_script_is_right_for_its_shell(name: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    need(name)
    script = subprocess.run(["img", "completion", name], capture_output=True, env=surroundings, check=True).stdout
    (tmp_path / "script").write_bytes(script)
    check = [name, "--no-execute" if name == "fish" else "-n", str(tmp_path / "script")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
