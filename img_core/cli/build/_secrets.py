"""``--secret``, ``--ssh`` and ``--build-context``: what steps may use without having it in their layers."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from img_core.api import SecretSource
from img_core.forms.words import split_record
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError
from img_core.spec.text import show, why

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SshGrant", "parse_contexts", "parse_secrets", "parse_ssh"]

_PREFIX = "could not parse secrets: "


def parse_secrets(texts: Iterable[str]) -> dict[str, SecretSource]:
    """Parse ``id=ID[,src=FILE][,env=VARIABLE][,type=TYPE]``; of equal ids the last one counts. Raises UsageError.

    What else may stand there is up to the provider of that type, or to the one that claims it where there is no type.
    """
    return dict(map(_secret, texts))


def _secret(text: str) -> tuple[str, SecretSource]:
    fields = _fields(text)
    name, kind = fields.pop("id", ""), fields.pop("type", "")
    if not name:
        raise UsageError(f"{_PREFIX}secret missing ID", hint="e.g. `--secret id=token,src=token.txt`")
    if kind == "file" and fields.get("env"):
        kind = ""  # for docker a variable counts more
    return name, SecretSource(type=kind, options={key: value for key, value in fields.items() if value})


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for field in split_record(text):
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(f"{_PREFIX}invalid field '{field}' must be a key=value pair")
        fields[{"source": "src"}.get(key.lower(), key.lower())] = value
    return fields


@dataclass(frozen=True, slots=True)
class SshGrant:
    """What an id of ``--ssh`` stands for: the *socket* of a running agent, or private *keys* for an agent of our own."""

    socket: str = ""
    keys: tuple[str, ...] = ()


def parse_ssh(texts: Iterable[str], environment: Mapping[str, str]) -> dict[str, SshGrant]:
    """Parse ``ID[=SOCKET|KEY[,KEY]]``. Raises UsageError."""
    grants: dict[str, SshGrant] = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name or "default"
        if name in grants:
            raise UsageError(f"invalid duplicate ID {name}", hint="give each `--ssh` its own id")
        grants[name] = _grant(value.split(",") if value else [], environment)
    return grants


def _grant(paths: list[str], environment: Mapping[str, str]) -> SshGrant:
    if not paths:
        socket = environment.get("SSH_AUTH_SOCK", "")
        if not socket:
            raise UsageError("invalid empty ssh agent socket, make sure SSH_AUTH_SOCK is set")
        paths = [socket]
    sockets = [path for path in paths if _is_socket(path)]
    if sockets and len(paths) > 1:
        raise UsageError("only single socket allowed", hint="name one socket, or any number of private keys")
    absolute = tuple(os.path.abspath(path) for path in paths)
    return SshGrant(socket=absolute[0]) if sockets else SshGrant(keys=absolute)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as err:
        raise UsageError(f"failed to stat {show(path)}: {why(err)}") from err


def parse_contexts(texts: Iterable[str]) -> dict[str, str]:
    """Parse ``NAME=VALUE`` of ``--build-context``. Raises UsageError."""
    contexts: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise UsageError(
                f"invalid context value {show(text)}", hint="expected `NAME=VALUE`, e.g. `base=docker-image://alpine`"
            )
        contexts[name] = value
    return contexts
