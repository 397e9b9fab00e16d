"""Signatures of cache documents: Ed25519 (RFC 8032) over the canonical bytes of the body.

A signature says that whoever holds the key wrote these records, or read them from a document that was signed by a key that it trusts. The
layers are covered, too: records name them by digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import HostError, UsageError
from img_core.spec.text import show_path, why
from img_lib_cache.document import signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["SigningKey", "TrustedKeys"]

#: Stands before what is signed, so that a signature for another purpose is none for this one.
_CONTEXT = b"img cache, format 1\n"
_FILE_LIMIT = 1 << 20
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class SigningKey:
    """The private key in the file *path*: PEM (PKCS #8) or OpenSSH's form, without a passphrase."""

    def __init__(self, path: str) -> None:
        self._key = _private_key(path, _read(path, "sign"))
        self.trusted = TrustedKeys.of(self._key.public_key())  #: what its own signatures are checked with

    def sign(self, value: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
        """Return the encoded body *value* with a signature in it."""
        signature = base64.b64encode(self._key.sign(_CONTEXT + signed_bytes(value))).decode()
        return {**value, "sig": {"key": _key_id(self._key.public_key()), "ed25519": signature}}


class TrustedKeys:
    """Public keys, by their ids."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = dict(keys)

    @classmethod
    def read(cls, path: str) -> TrustedKeys:
        """Read the file *path*: public keys in PEM blocks or as lines of OpenSSH (``ssh-ed25519 AAAA… comment``). Raises UsageError."""
        keys = _public_keys(path, _read(path, "trust"))
        if not keys:
            raise UsageError(
                f"`{show_path(path)}` has no Ed25519 public key", hint="e.g. the `.pub` file of ssh-keygen"
            )
        return cls(keys)

    @classmethod
    def of(cls, key: Ed25519PublicKey) -> TrustedKeys:
        """Return one key."""
        return cls({_key_id(key): key})

    def __or__(self, other: TrustedKeys) -> TrustedKeys:
        """Return the keys of both."""
        return TrustedKeys({**self._keys, **other._keys})

    def vouch_for(self, value: Mapping[str, Any]) -> bool:  # Any: JSON
        """Tell whether one of the keys signed the encoded body *value*."""
        from cryptography.exceptions import InvalidSignature

        given = value.get("sig")
        given = given if isinstance(given, dict) else {}
        key_id, text = given.get("key"), given.get("ed25519")
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None or not isinstance(text, str):
            return False
        try:
            key.verify(base64.b64decode(text, validate=True), _CONTEXT + signed_bytes(value))
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def _read(path: str, option: str) -> bytes:
    try:
        import cryptography  # noqa: F401 - an optional dependency: told before anything else
    except ImportError:
        raise HostError(
            f"the cache option `{option}` needs the Python package `cryptography`",
            hint="install it with `pip install img-builder[signing]`",
        ) from None
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_LIMIT)
    except OSError as err:
        raise UsageError(f"cannot read the key `{show_path(path)}`: {why(err)}") from err


def _private_key(path: str, content: bytes) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        key = load(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a passphrase
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"`{show_path(path)}` is no Ed25519 private key without a passphrase",
            hint="make one with `ssh-keygen -t ed25519 -N '' -f KEY`",
        )
    return key


def _public_keys(path: str, content: bytes) -> dict[str, Ed25519PublicKey]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    lines = [line.strip() for line in content.splitlines()]
    found: dict[str, Ed25519PublicKey] = {}
    for load, texts in (
        (load_pem_public_key, _PEM.findall(content)),
        (load_ssh_public_key, [line for line in lines if line.startswith(b"ssh-ed25519 ")]),
    ):
        for text in texts:
            try:
                key = load(text)
            except (ValueError, UnsupportedAlgorithm):
                raise UsageError(f"`{show_path(path)}` has a public key that cannot be read") from None
            if isinstance(key, Ed25519PublicKey):
                found[_key_id(key)] = key
    return found


def _key_id(key: Ed25519PublicKey) -> str:
    """Return a short name of *key*, by which it is found; it proves nothing."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
