"""``--secret id=token,src=token.txt``."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from img_core.spec.errors import UsageError
from img_core.spec.secret import SECRET_LIMIT, SecretProvider
from img_core.spec.text import show, why

__all__ = ["FileSecret"]


class FileSecret(SecretProvider):
    """The content of a file."""

    name = "file"
    schema = {  # noqa: RUF012 - the contract declares it as a class variable
        "type": "object",
        "additionalProperties": False,
        "properties": {"src": {"type": "string", "description": "path of the file; without it the name of the secret"}},
    }

    @classmethod
    def claims(cls, secret: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
        """Take everything that does not name a variable."""
        return not options.get("env")

    @classmethod
    def complete(cls, secret: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Name the file by its whole path."""
        return {**options, "src": os.path.abspath(options.get("src") or secret)}

    @property
    def _path(self) -> str:
        path: str = self.options["src"]
        return path

    def check(self) -> None:
        """Look at the file. Raises UsageError if it is not there or too large."""
        try:
            size = os.stat(self._path).st_size
        except OSError as err:
            raise _unreadable(self._path, err) from err
        if size > SECRET_LIMIT:
            raise UsageError(f"secret file `{show(self._path)}` too big. max size 500KiB")

    def get(self) -> bytes:
        """Read the file. Raises UsageError."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            raise _unreadable(self._path, err) from err
        with open(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) and self._path != os.devnull:
                raise UsageError(f"secret file `{show(self._path)}` is not a regular file")
            return file.read(SECRET_LIMIT + 1)


def _unreadable(path: str, err: OSError) -> UsageError:
    return UsageError(f"failed to stat {show(path)}: {why(err)}")
