"""The real sshd on loopback, as the user who runs the tests, and a user's own ssh with configuration and keys to reach it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.host import need, tool_path
from img_core.testing.registry import free_port

__all__ = ["SshServer", "ssh_server"]

_CONNECT = """
import os, socket, sys, threading
open(proxied, "w").close()
server = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def pump(get, put):
    while data := get(65536):
        put(data)
threading.Thread(target=pump, args=(lambda count: os.read(0, count), server.sendall), daemon=True).start()
pump(server.recv, lambda data: os.write(1, data))
"""


@dataclass(frozen=True, slots=True)
class SshServer:
    """A running server. *accepted* is a key that it lets in, *other* one that it does not; *programs* is to be first on ``PATH``.

    The ``ssh`` in there is the real one, of a user whose configuration has the alias ``alias`` for the server, the accepted key as
    ``IdentityFile``, and a ``ProxyCommand`` that leaves the file *proxied* behind.
    """

    port: int
    directory: Path
    programs: Path
    accepted: Path
    other: Path
    proxied: Path

    @property
    def url(self) -> str:
        """The server as it is named in addresses, without a slash at the end."""
        return f"ssh://{_user()}@127.0.0.1:{self.port}"

    def logins(self) -> int:
        """Return how often somebody got in."""
        return (self.directory / "log").read_text().count("Accepted publickey")

    def calls(self) -> list[str]:
        """Return the arguments of all calls of ``ssh``."""
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []


@contextmanager
def ssh_server(directory: Path) -> Iterator[SshServer]:
    """Run a server for a block; its files are in *directory*, which is made."""
    need("ssh", "sshd")
    program = shutil.which("sshd", path=tool_path())  # insists on being called by its whole path
    directory.mkdir()
    for name in ("host", "accepted", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    port = free_port()
    options = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": directory / "host", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": directory / "accepted.pub", "StrictModes": "no", "PasswordAuthentication": "no",
    }  # fmt: skip
    (directory / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    with (directory / "log").open("w") as log:
        server = subprocess.Popen(
            [str(program), "-D", "-e", "-f", str(directory / "sshd_config")],
            stdin=subprocess.DEVNULL, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(port, server, directory / "log")
        yield _client(directory, port)
    finally:
        server.terminate()
        server.wait(60)


def _client(directory: Path, port: int) -> SshServer:
    """Make the user's own ssh."""
    made = SshServer(
        port,
        directory,
        directory / "bin",
        directory / "accepted",
        directory / "other",
        directory / "proxied",
    )
    host = (directory / "host.pub").read_text()
    (directory / "known").write_text(f"[127.0.0.1]:{port} {host}alias {host}")
    (directory / "config").write_text(
        f"Host alias\n  HostName 127.0.0.1\n  Port {port}\n  User {_user()}\n  HostKeyAlias alias\n"
        f"Host *\n  IdentityFile {made.accepted}\n  ProxyCommand {made.programs / 'connect'} %h %p\n"
    )
    made.programs.mkdir()
    # The real one reads the files of the account that runs it, which are not ours to change.
    known = f"-o UserKnownHostsFile={directory / 'known'} -o GlobalKnownHostsFile=/dev/null"
    (made.programs / "ssh").write_text(
        f'#!/bin/sh\necho "$@" >> {directory / "calls"}\ncase " $* " in *" -F "*) own= ;; *) own="-F {directory / "config"}" ;; esac\n'
        f'exec {shutil.which("ssh", path=tool_path())} {known} $own "$@"\n'
    )
    (made.programs / "connect").write_text(f"#!{sys.executable}\nproxied = {str(made.proxied)!r}\n{_CONNECT}")
    for name in ("ssh", "connect"):
        (made.programs / name).chmod(0o755)
    return made


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise AssertionError(log.read_text()) from None
            time.sleep(0.01)
        else:
            return
