"""Credential helper programs: ``docker-credential-<name> get|store|erase|list``, JSON on stdin and stdout.

An answer that we do not understand is an error and never "ask the next one": a password meant for one server must not be
replaced by another (CVE-2021-41092). Protocol: the README of docker-credential-helpers.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import CredentialsError
from img_core.spec.text import show
from img_core.spec.values import Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Helper"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SECONDS = 30  # a helper that waits for a dialog nobody sees must not hang the build
_TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks an identity token
_NOT_FOUND = "credentials not found in native keychain"


class Helper:
    """One helper program, *name* without the prefix ``docker-credential-``; *origin* is the file that names it."""

    def __init__(self, name: str, environment: Mapping[str, str], origin: str) -> None:
        if not _NAME.fullmatch(name):
            raise CredentialsError(f"`{show(name)}` in `{origin}` is not the name of a credential helper")
        self._program = f"docker-credential-{name}"
        self._environment = environment
        self._origin = origin

    def get(self, key: str) -> Credentials | None:
        """Return what the helper has for *key*, or None."""
        status, output = self._run("get", key)
        if status != 0:
            if output.strip() == _NOT_FOUND:
                return None
            raise self._failed("get", status, output)
        answer = self._json(output)
        username, secret = answer.get("Username"), answer.get("Secret")
        if not isinstance(username, str) or not isinstance(secret, str):
            raise CredentialsError(f"the credential helper `{self._program}` gave no user name or no secret")
        if username == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(username, secret)

    def store(self, key: str, credentials: Credentials) -> None:
        """Give *credentials* to the helper."""
        username, secret = credentials.username, credentials.password
        if credentials.identity_token:
            username, secret = _TOKEN_USER, credentials.identity_token
        document = {"ServerURL": key, "Username": username, "Secret": secret}
        status, output = self._run("store", json.dumps(document))
        if status != 0:
            raise self._failed("store", status, output)

    def erase(self, key: str) -> None:
        """Make the helper forget *key*; it is no error if it never knew it."""
        status, output = self._run("erase", key)
        if status != 0 and output.strip() != _NOT_FOUND:
            raise self._failed("erase", status, output)

    def list(self) -> dict[str, str]:
        """Return key to user name for all the helper has."""
        status, output = self._run("list", "")
        if status != 0:
            raise self._failed("list", status, output)
        answer = self._json(output)
        return {key: username for key, username in answer.items() if isinstance(username, str)}

    def _run(self, verb: str, text: str) -> tuple[int, str]:
        import shutil  # this and the next two: 10 ms, and few people have a helper
        import subprocess

        from img_core.linux.dialogue import as_the_user

        program = shutil.which(self._program, path=self._environment.get("PATH"))
        if program is None:
            raise CredentialsError(
                f"the credential helper `{self._program}` named in `{self._origin}` is not on PATH",
                hint="install it, or remove its name from that file",
            )
        try:
            done = subprocess.run(
                [*as_the_user(), program, verb],
                input=text.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # helpers print secrets there when they debug
                env=dict(self._environment),
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CredentialsError(
                f"the credential helper `{self._program}` gave no answer in {_SECONDS} seconds"
            ) from None
        except OSError as error:
            raise CredentialsError(f"the credential helper `{program}` cannot run: {error.strerror}") from error
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def _failed(self, verb: str, status: int, output: str) -> CredentialsError:
        said = f": {show(output.strip())}" if output.strip() else ""
        return CredentialsError(f"the credential helper `{self._program} {verb}` failed with status {status}{said}")

    def _json(self, output: str) -> dict[str, Any]:  # Any: JSON
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise CredentialsError(f"the credential helper `{self._program}` gave no valid answer")
        return answer
