"""Errors that people can act on.

::

    ImgError                    1   anything else that went wrong
    ├── UsageError              2   the command line or an option is wrong
    ├── DockerfileError         3   the Dockerfile (or an ignore file) is wrong
    ├── StepError               4   a build step ended with a non-zero status
    ├── CredentialsError        5   a registry refused our identity, or a credential store failed
    ├── RegistryError           6   a registry or another remote source failed
    ├── HostError               7   the host lacks something
    │   └── Unsupported         7   raised by ``probe``: this driver cannot work here
    ├── NotFoundError           1   a named thing does not exist
    ├── StateError              1   the state directory is damaged, busy or of another version
    ├── IntegrityError          1   content does not match its digest or declared size
    ├── ArchiveError            1   an archive is damaged or tries something it must not
    ├── PluginError             1   a plugin is broken, missing or switched off
    └── Canceled              130   the user or a signal stopped the work (143 for SIGTERM)

A message is one line without a full stop; it names the thing and the cause. A hint says what to do next.
"""

from __future__ import annotations

__all__ = [
    "ArchiveError",
    "Canceled",
    "CredentialsError",
    "DockerfileError",
    "HostError",
    "ImgError",
    "IntegrityError",
    "NotFoundError",
    "PluginError",
    "RegistryError",
    "StateError",
    "StepError",
    "Unsupported",
    "UsageError",
]


#: The most characters of a message: it may quote what strangers wrote.
MESSAGE_LIMIT = 3000


def _bounded(message: str) -> str:
    """Return *message*, cut in the middle if it is too long: it begins with the thing and ends with the reason."""
    if len(message) <= MESSAGE_LIMIT:
        return message
    tail = MESSAGE_LIMIT // 3
    return f"{message[: MESSAGE_LIMIT - tail - 1]}…{message[-tail:]}"


class ImgError(Exception):
    """A failure that is shown to people as ``Error: <message>`` and an optional ``hint: …`` line."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, excerpt: str | None = None) -> None:
        message = _bounded(message)
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.excerpt = excerpt  #: the block of a build definition that it is about, shown above the message


class UsageError(ImgError):
    """The command line, an option or a configuration value is wrong."""

    exit_code = 2


class DockerfileError(ImgError):
    """The Dockerfile cannot be used."""

    exit_code = 3

    def __init__(
        self, message: str, *, hint: str | None = None, line: int | None = None, excerpt: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, excerpt=excerpt)
        self.line = line  #: first line of the instruction, counted from 1


class StepError(ImgError):
    """A build step failed; *status* is its exit status (128 + n for signal n), if it ran at all."""

    exit_code = 4

    def __init__(
        self, message: str, *, hint: str | None = None, status: int | None = None, excerpt: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, excerpt=excerpt)
        self.status = status


class CredentialsError(ImgError):
    """A registry refused our identity, or a credential store failed."""

    exit_code = 5


class RegistryError(ImgError):
    """A registry or another remote source failed; *status* is the HTTP status, if there was one."""

    exit_code = 6

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class HostError(ImgError):
    """The host lacks something that the work needs."""

    exit_code = 7


class Unsupported(HostError):
    """Raised by ``probe``: the driver cannot work on this host, for the reason in the message."""


class NotFoundError(ImgError):
    """A named image, file, stage or plugin does not exist."""


class StateError(ImgError):
    """The state directory is damaged, in use in a way we cannot share, or of another version."""


class IntegrityError(ImgError):
    """Content does not match the digest or size that was promised for it."""


class ArchiveError(ImgError):
    """An archive is damaged, too large, or tries something it must not."""


class PluginError(ImgError):
    """A plugin is broken, missing or switched off."""


class Canceled(ImgError):
    """The work was stopped by signal *signum*."""

    def __init__(self, message: str = "canceled", *, signum: int = 2) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum
