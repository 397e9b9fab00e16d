"""An ssh agent of our own for ``--ssh ID=KEY``: steps get its socket and never see the key."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from img_core.api import SshAgent
from img_core.spec.errors import HostError, UsageError
from img_core.spec.text import show, why

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from img_core.cli.build._secrets import SshGrant

__all__ = ["agents"]

_KEY_LIMIT = 100 * 1024
_PATIENCE = 5.0  #: seconds


@contextmanager
def agents(grants: Mapping[str, SshGrant]) -> Iterator[dict[str, SshAgent]]:
    """Give the agent of each id; those that we start end with the block, and with us if we are killed.

    To be entered before the user namespace: an agent talks to processes of its own user only. Raises UsageError, HostError.
    """
    with tempfile.TemporaryDirectory(prefix="img-ssh-") as directory:
        running: list[_Agent] = []
        try:
            found = {}
            for number, (name, grant) in enumerate(grants.items()):
                socket = grant.socket
                if not socket:
                    socket = os.path.join(directory, str(number))
                    running.append(_Agent(socket))
                    for key in grant.keys:
                        _add(socket, key)
                found[name] = SshAgent(socket)
            yield found
        finally:
            for agent in running:
                agent.stop()


class _Agent:
    """A running ssh-agent. Raises HostError if it does not start.

    It lives as long as the command it was given, a `cat`, and that as long as the other end of its standard input: even kill -9 of us
    ends it, within the ten seconds after which it looks. (PR_SET_PDEATHSIG would be forgotten: ssh-agent is setgid on many systems.)
    """

    def __init__(self, socket: str) -> None:
        program = shutil.which("ssh-agent")
        if program is None:
            raise HostError(
                "ssh keys need the program `ssh-agent`",
                hint="install openssh-client, or pass the socket of a running agent",
            )
        self._command = subprocess.Popen(
            [program, "-a", socket, "sh", "-c", "echo $SSH_AGENT_PID; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._command.stdout is not None
        said = self._command.stdout.readline().strip()  # the socket exists before the command starts
        if not said.isdigit():
            _, errors = self._command.communicate()
            raise HostError(f"ssh-agent does not start: {show(errors.strip() or said)}")
        self._process = os.pidfd_open(int(said))

    def stop(self) -> None:
        """End the agent; it has our keys until it is gone."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGTERM)
        self._command.communicate()  # closes its standard input
        select.select([self._process], [], [], _PATIENCE)  # no child of ours, so there is nothing to wait for but this
        os.close(self._process)


def _add(socket: str, path: str) -> None:
    """Give the agent a private key. From standard input, so that ssh-add does not insist on the file's mode."""
    done = subprocess.run(
        ["ssh-add", "-q", "-"],
        input=_read(path),
        capture_output=True,
        env={**os.environ, "SSH_AUTH_SOCK": socket, "SSH_ASKPASS_REQUIRE": "never"},
        start_new_session=True,  # without a terminal it cannot ask for a passphrase
        check=False,
    )
    if done.returncode != 0:
        said = show(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else b"refused")
        raise UsageError(
            f"cannot use `{show(path)}` as ssh key: {said}", hint="it must be a private key without a passphrase"
        )


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_KEY_LIMIT + 1)
    except OSError as err:
        raise UsageError(f"cannot read ssh key `{show(path)}`: {why(err)}") from err
    if len(data) > _KEY_LIMIT:
        raise UsageError(f"`{show(path)}` is too large for an ssh key")
    return data
