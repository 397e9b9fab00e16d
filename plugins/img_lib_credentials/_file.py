"""Credential files as Docker invented them and others took over: JSON with ``auths``, ``credHelpers`` and ``credsStore``."""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

from img_core.files import fs
from img_core.files.refusals import refusals
from img_core.images import oci
from img_core.spec.errors import CredentialsError, ImgError
from img_core.spec.values import Credentials
from img_lib_credentials._helper import Helper
from img_lib_credentials._keys import hub_url_key, keys_of, server_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["AuthFile", "load_object"]

_SAYING = ("auths", "credHelpers", "credsStore")  # keys of a file that says something about credentials


class AuthFile:
    """The credential file at *path*; None: there is no place for one.

    For each server exactly one place is asked: its ``credHelpers`` entry, else ``credsStore``, else ``auths``. Everything else
    in the file is kept as it is. *key_of* gives the key that a server's entry is written under. *older* is asked for a document where
    there is no file. *default_helper* names the helper to use while the file says nothing about credentials; it is written down with
    the first login.
    """

    def __init__(
        self,
        path: str | None,
        environment: Mapping[str, str],
        *,
        key_of: Callable[[str], str] = hub_url_key,
        older: Callable[[], dict[str, Any] | None] = lambda: None,  # Any: JSON
        default_helper: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._path = path
        self._environment = environment
        self._key_of = key_of
        self._older = older
        self._default_helper = default_helper
        self._unasked = False  # the helper is not of the user's choice

    def get(self, server: str, repository: str = "") -> Credentials | None:
        """Return the credentials for *server*; a namespace entry (``host/team``) wins for repositories in it."""
        document = self._read()
        helper = self._helper(document, server)
        if helper is not None:
            return self._ask(helper, self._key_of(server))
        auths = self._auths(document)
        for key in keys_of(auths, server, repository):
            credentials = self._decode(key, auths[key])
            if credentials is not None:
                return credentials
        return None

    def store(self, server: str, credentials: Credentials) -> None:
        """Keep *credentials*; in the file only if no helper is configured for *server*."""
        if ":" in credentials.username:
            raise CredentialsError("a user name cannot contain a colon")
        key = self._key_of(server)
        with self._locked():
            document = self._read()
            helper = self._helper(document, server)
            if helper is not None:
                helper.store(key, credentials)
            auths = dict(self._auths(document))
            for old in keys_of(auths, server):
                del auths[old]
            auths[key] = (
                {} if helper is not None else _encode(credentials)
            )  # empty: "the helper has it", as Docker does
            self._write({**document, "auths": auths})

    def erase(self, server: str) -> bool:
        """Forget *server* under every spelling."""
        if self._path is None or not self._read():
            return False
        with self._locked():
            document = self._read()
            auths = dict(self._auths(document))
            keys = keys_of(auths, server)
            helper = self._helper(document, server)
            if helper is not None:
                key = self._key_of(server)
                known = bool(keys) or self._ask(helper, key) is not None
                if known:
                    helper.erase(key)
            else:
                known = bool(keys)
            for key in keys:
                del auths[key]
            if keys:
                self._write({**document, "auths": auths})
            return known

    def list(self) -> Mapping[str, str]:
        """Return server to user name; identity tokens have an empty one."""
        document = self._read()
        found: dict[str, str] = {}
        for key, entry in self._auths(document).items():
            credentials = self._decode(key, entry)
            if credentials is not None:
                found[server_of(key)] = credentials.username
        for name in self._helper_names(document):
            helper = Helper(name, self._environment, fs.show(self._path or ""))
            with contextlib.suppress(CredentialsError) if self._unasked else contextlib.nullcontext():
                found |= {server_of(key): username for key, username in helper.list().items()}
        return found

    def _ask(self, helper: Helper, key: str) -> Credentials | None:
        """Return what *helper* has; one that nobody chose and that does not work here, say without a desktop, has nothing."""
        try:
            return helper.get(key)
        except CredentialsError:
            if self._unasked:
                return None
            raise

    # --- the file ---------------------------------------------------------------------------------------------------

    def _read(self) -> dict[str, Any]:  # Any: JSON
        """Return the whole document; empty if there is no file. Raises `CredentialsError` if it cannot be understood."""
        if self._path is None:
            return {}
        document = load_object(self._path)
        if document is None:
            document = self._older()
        document = document or {}
        name = None if any(document.get(key) for key in _SAYING) else self._default_helper()
        self._unasked = name is not None
        return {**document, "credsStore": name} if name else document

    def _write(self, document: Mapping[str, Any]) -> None:  # Any: JSON
        path = os.path.realpath(self._path or "")  # a link into a directory of dot files stays a link
        text = json.dumps(document, indent="\t", ensure_ascii=False) + "\n"
        with refusals(path, partial(_unwritten, path)):
            fs.replace_file(path, text.encode(), 0o600, sync=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Make the directory if needed and keep other writers out while the file is read and replaced."""
        if self._path is None:
            raise CredentialsError("cannot keep credentials: there is no directory for them, because `HOME` is not set")
        directory = os.path.dirname(os.path.realpath(self._path))
        with refusals(directory, partial(_unwritten, directory)):
            _make_private(directory)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    # --- its parts ----------------------------------------------------------------------------------------------------

    def _auths(self, document: Mapping[str, Any]) -> Mapping[str, Any]:  # Any: JSON
        auths = document.get("auths") or {}
        if not isinstance(auths, dict):
            raise self._broken("`auths` is not an object")
        return auths

    def _helpers(self, document: Mapping[str, Any]) -> Mapping[str, Any]:  # Any: JSON
        helpers = document.get("credHelpers") or {}
        if not isinstance(helpers, dict) or not all(isinstance(name, str) for name in helpers.values()):
            raise self._broken("`credHelpers` is not an object of texts")
        if not isinstance(document.get("credsStore") or "", str):
            raise self._broken("`credsStore` is not a text")
        return helpers

    def _helper(self, document: Mapping[str, Any], server: str) -> Helper | None:  # Any: JSON
        helpers = self._helpers(document)
        keys = keys_of(helpers, server)
        name = helpers[keys[0]] if keys else document.get("credsStore")
        return Helper(name, self._environment, fs.show(self._path or "")) if name else None

    def _helper_names(self, document: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
        return tuple(sorted({name for name in (document.get("credsStore"), *self._helpers(document).values()) if name}))

    def _decode(self, key: str, entry: Any) -> Credentials | None:  # Any: JSON
        """Read one entry of ``auths``; None for one without content."""
        if not isinstance(entry, dict):
            raise self._broken(f"the entry of `{fs.show(key)}` is not an object")
        username, password = entry.get("username") or "", entry.get("password") or ""
        token, bearer = entry.get("identitytoken") or "", entry.get("registrytoken") or ""
        if entry.get("auth"):
            username, password = self._decode_pair(key, entry["auth"])
        if not all(isinstance(text, str) for text in (username, password, token, bearer)):
            raise self._broken(f"the entry of `{fs.show(key)}` holds something else than texts")
        return Credentials(username, password, token, bearer) if username or token or bearer else None

    def _decode_pair(self, key: str, text: Any) -> tuple[str, str]:  # Any: JSON
        try:
            pair = base64.b64decode(text, validate=True).decode()
        except (TypeError, ValueError, binascii.Error):
            pair = ""
        username, colon, password = pair.partition(":")
        if not colon:
            raise self._broken(f"the `auth` of `{fs.show(key)}` is not the Base64 form of `user:password`")
        return username, password.rstrip("\x00")  # old versions of Docker padded it

    def _broken(self, what: str) -> CredentialsError:
        return CredentialsError(
            f"`{fs.show(self._path or '')}`: {what}", hint="repair or remove the file, then log in again"
        )


def load_object(path: str) -> dict[str, Any] | None:  # Any: JSON
    """Return the JSON object in the file *path*, None if there is no such file. Raises CredentialsError."""
    shown = fs.show(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CredentialsError(f"`{shown}` is not a regular file")
            content = file.read(oci.DOCUMENT_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CredentialsError(f"cannot read `{shown}`: {error.strerror}") from error
    if not content.strip():
        return {}
    try:
        document = oci.load_json(content, name=f"`{shown}`")
    except ImgError as error:
        raise CredentialsError(error.message, hint="repair or remove the file, then log in again") from None
    if not isinstance(document, dict):
        raise CredentialsError(f"`{shown}` is not a JSON object", hint="repair or remove the file, then log in again")
    return document


def _encode(credentials: Credentials) -> dict[str, str]:
    pair = f"{credentials.username}:{credentials.password}".encode()
    entry = {"auth": base64.b64encode(pair).decode("ascii")}
    if credentials.identity_token:
        entry["identitytoken"] = credentials.identity_token
    if credentials.registry_token:
        entry["registrytoken"] = credentials.registry_token
    return entry


def _unwritten(path: str, reason: str) -> CredentialsError:
    return CredentialsError(
        f"cannot write `{fs.show(path)}`: {reason}",
        hint="`DOCKER_CONFIG` and `REGISTRY_AUTH_FILE` name other places",
    )


def _make_private(directory: str) -> None:
    """Make *directory* and its missing parents for the user only, as the XDG specification has it."""
    missing = []
    while directory and not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
