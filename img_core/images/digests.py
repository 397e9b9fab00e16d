"""Digests: ``<algorithm>:<lower-case hex digits>`` of content, and where content of that digest lies.

The algorithms are those that the OCI image-spec registers (descriptor.md, "Registered algorithms"); ``sha256`` is what we make
ourselves. Others, such as ``sha384`` and ``blake3``, are refused by name: what cannot be verified is not taken.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol

from img_core.spec.errors import IntegrityError
from img_core.spec.text import show
from img_core.spec.values import ChainId, Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.spec.values import DiffId

__all__ = [
    "ALGORITHMS",
    "CANONICAL",
    "UNSUPPORTED",
    "Hasher",
    "blob_path",
    "chain_id",
    "chain_ids",
    "digest_at",
    "is_digest",
    "of_file",
    "verified",
]

#: Algorithms, the one that we use first, and how many hexadecimal digits they give.
ALGORITHMS: Final = {"sha256": 64, "sha512": 128}
CANONICAL: Final = "sha256"
#: A hint about any other algorithm.
UNSUPPORTED: Final = "digests are sha256 or sha512, the algorithms that the OCI specification registers"
_DIGITS = frozenset("0123456789abcdef")


class Hasher:
    """Computes a digest of what passes, by the algorithm of the digest *like*, else by sha256. Raises IntegrityError for others."""

    def __init__(self, like: str = "") -> None:
        algorithm = like.partition(":")[0] or CANONICAL
        if algorithm not in ALGORITHMS:
            raise IntegrityError(f"unsupported digest algorithm `{show(algorithm, limit=40)}`", hint=UNSUPPORTED)
        self._hash = hashlib.new(algorithm)
        self.update = self._hash.update  #: takes the next bytes

    @property
    def digest(self) -> Digest:
        """The digest of what passed so far."""
        return Digest(f"{self._hash.name}:{self._hash.hexdigest()}")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def of_file(file: _Readable, like: str = "") -> Digest:
    """Return the digest of the rest of *file* by the algorithm of *like*; see `Hasher`."""
    hasher = Hasher(like)
    while data := file.read(1 << 20):
        hasher.update(data)
    return hasher.digest


def verified(file: _Readable, digest: Digest) -> Iterator[bytes]:
    """Give the rest of *file*, in pieces of at most 1 MiB. Raises IntegrityError at the end if it is not what *digest* says."""
    hasher = Hasher(digest)
    while data := file.read(1 << 20):
        hasher.update(data)
        yield data
    if hasher.digest != digest:
        raise IntegrityError(f"blob {digest} is damaged on disk")


def chain_id(below: Iterable[ChainId], diff_id: DiffId) -> ChainId:
    """Return the chain id of the layer *diff_id* on the stack *below* (none or one chain id); OCI image-spec, config.md."""
    for chain in below:
        return ChainId(f"{CANONICAL}:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}")
    return ChainId(diff_id)


def chain_ids(diff_ids: Iterable[DiffId]) -> list[ChainId]:
    """Return the chain id of each layer on those before it."""
    chains: list[ChainId] = []
    for diff_id in diff_ids:
        chains.append(chain_id(chains[-1:], diff_id))
    return chains


def is_digest(text: str) -> bool:
    """Tell whether *text* is a digest that can be verified, in lower-case and of the right length."""
    algorithm, _, encoded = text.partition(":")
    return ALGORITHMS.get(algorithm) == len(encoded) and set(encoded) <= _DIGITS


def blob_path(digest: str) -> str:
    """Return ``blobs/<algorithm>/<hex>``, where image layouts and the store keep *digest* (OCI image-spec, image-layout.md).

    Raises IntegrityError for anything but a digest that can be verified.
    """
    algorithm, _, encoded = digest.partition(":")
    if not is_digest(digest):
        raise IntegrityError(f"unsupported digest `{show(digest)}`", hint=UNSUPPORTED)
    return f"blobs/{algorithm}/{encoded}"


def digest_at(path: str) -> Digest | None:
    """Return the digest whose `blob_path` is *path*; None if it is none."""
    room, _, rest = path.partition("/")
    digest = rest.replace("/", ":", 1)
    return Digest(digest) if room == "blobs" and is_digest(digest) else None
