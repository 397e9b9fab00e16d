"""A laptop and two machines that ssh reaches, as the how-to says: here two servers of ssh on this machine, each with a home of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.host import need
from harness.img import remove_as_mapped_root, write_context
from harness.ports import free_ports
from img_core.testing.processes import eventually

pytestmark = [pytest.mark.rootless, pytest.mark.registry]

PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/several-machines.md"
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/key
AuthorizedKeysFile {directory}/key.pub
StrictModes no
UsePAM no
PidFile none
ForceCommand cd {home} && env HOME={home} XDG_DATA_HOME={home}/share TMPDIR={home} bash -c "$SSH_ORIGINAL_COMMAND"
"""
CLIENT = """\
Host {name}
  HostName 127.0.0.1
  Port {port}
  IdentityFile {directory}/key
  UserKnownHostsFile {directory}/known
  StrictHostKeyChecking no
  LogLevel ERROR
"""


class Machines:
    """Servers of ssh, and what the commands of the page start; each *port* of the page is another one here for every machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key")], check=True)
        self.scheduler, *ports = free_ports(9)
        self._of = {"big": ports[:4], "arm": ports[4:]}  # its ssh, the scheduler there, its worker there and here
        for name, (port, *_) in self._of.items():
            home = directory / name
            (home / "img").mkdir(parents=True)
            (home / "img/bin").symlink_to(Path(sys.executable).parent)
            (directory / f"{name}.conf").write_text(SERVER.format(port=port, directory=directory, home=home))
            with (directory / "config").open("a") as config:
                config.write(CLIENT.format(name=name, port=port, directory=directory))
            self.start("sshd", "-D", "-e", "-f", str(directory / f"{name}.conf"))

    def start(self, program: str, *words: str) -> None:
        """Start a program of this machine, whose output goes into ``log``."""
        found = subprocess.run(["which", program], env=self.environment, capture_output=True, text=True, check=True)
        with (self.directory / "log").open("ab") as log:
            command = [found.stdout.strip(), *words]
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
            )

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        return {**os.environ, "PATH": path, "TMPDIR": str(self.directory)}

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def ssh(self, name: str, *words: str) -> None:
        """Start ``ssh`` to a machine as the page does, but in the foreground."""
        there, listening, here = map(str, self._of[name][1:])
        text = "\0".join(words)
        for old, new in (
            ("-R\0008786", f"-R\0{there}"),
            (":127.0.0.1:8786", f":127.0.0.1:{self.scheduler}"),
            ("127.0.0.1:8786", f"127.0.0.1:{there}"),
        ):
            text = text.replace(old, new)
        number = {"big": "9001", "arm": "9002"}[name]
        text = text.replace(f"-L\0{number}:127.0.0.1:{number}", f"-L\0{here}:127.0.0.1:{listening}")
        text = text.replace(
            f"--listen-address tcp://127.0.0.1:{number}", f"--listen-address tcp://127.0.0.1:{listening}"
        )
        text = text.replace(f"--contact-address tcp://127.0.0.1:{number}", f"--contact-address tcp://127.0.0.1:{here}")
        assert number not in text, text
        self.start("ssh", "-F", str(self.directory / "config"), *text.split("\0"))

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    need("sshd", "ssh", "ssh-keygen")
    (tmp_path / "machines").mkdir()
    made = Machines(tmp_path / "machines")
    yield made
    made.close()
    for name in ("big", "arm"):
        remove_as_mapped_root(tmp_path / f"machines/{name}/share")


def test_the_commands_of_the_page_lead_to_an_image(
    machines: Machines, new_state: Any, registry: Any, tmp_path: Path
) -> None:
    page = PAGE.read_text()
    commands = re.findall(r"^\$ ssh (.*)$", page, re.MULTILINE)
    starting = [re.fullmatch(r"-f (-R \S+) (\w+) '(.*)'", line) for line in commands]
    workers = [match.groups() for match in starting if match]
    assert [name for _, name, _ in workers] == ["big", "arm"]
    forwards = re.findall(r"ssh -f -N (-L \S+) (\w+)", page)
    assert [name for _, name in forwards] == ["big", "arm"]
    command = re.search(r'command=(img/bin/img worker -)"', page)
    assert command is not None

    machines.start("dask", "scheduler", "--host", "127.0.0.1", "--port", str(machines.scheduler), "--no-dashboard")
    eventually(
        lambda: "Scheduler at" in machines.log and machines.log.count("Server listening") == 2, lambda: machines.log
    )
    for way, name, started in workers:
        machines.ssh(name, *way.split(), name, f"{started} --no-dashboard")
    for way, name in forwards:
        machines.ssh(name, "-N", *way.split(), name)
    eventually(lambda: machines.log.count("Registered to") == 2, lambda: machines.log)

    alone, laptop = new_state("alone"), new_state("laptop")
    base = f"{registry.address}/busybox"
    for img in (alone, laptop):
        img.run("tag", "busybox", base).ok()
        img.run("push", base).ok()
    text = (
        f"FROM {base} AS one\nRUN echo 1 > /1; touch -r /bin/busybox /1\n"
        f"FROM {base} AS two\nCOPY f /\nRUN cp /f /2; touch -r /bin/busybox /2\n"
        "FROM scratch\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n"
    )
    context = write_context(tmp_path / "context", text, {"f": "2"})
    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--explain")
    alone.build(context, *epoch).ok()
    engine = f"dask,address=tcp://127.0.0.1:{machines.scheduler},cache={registry.address}/me/app:cache,home=0,command={command[1]}"
    done = laptop.build(context, "--engine", engine, *epoch).ok()
    assert laptop.digest("built") == alone.digest("built")
    assert done.stderr.count(": on ") == 3, f"{done}\n{machines.log}"
    assert any((machines.directory / name / "share/img/img.db").exists() for name in ("big", "arm"))
