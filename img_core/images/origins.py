"""Bytes of blobs that are not kept here, from the repositories that are known to have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.spec.errors import CredentialsError, ImgError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from img_core.spec.values import Digest

__all__ = ["from_origins"]

#: What to do when a layer cannot be fetched from where it was left.
_HINT = "images that need no registry are made by `img pull`, or `img build -o type=image,name=NAME,store-allow-incomplete=false`"


def from_origins(
    name: str, digest: Digest, origins: Sequence[str], read: Callable[[str, int], Iterator[bytes]], start: int
) -> Iterator[bytes]:
    """Give the blob *digest* of the image *name* from byte *start* on; where one of *origins* fails, the next goes on.

    *read* gives the bytes from a repository (``domain/path``), from a byte on. The caller verifies them. When no repository is left,
    RegistryError (CredentialsError, if that was it) says why the first one failed.
    """
    failures: list[ImgError] = []
    for origin in origins:
        try:
            for chunk in read(origin, start):
                start += len(chunk)
                yield chunk
            return
        except (NotFoundError, RegistryError, CredentialsError) as err:
            failures.append(err)
    kind = CredentialsError if isinstance(failures[0], CredentialsError) else RegistryError
    raise kind(
        f"layer {digest} of {name} was left in {origins[0]}: {failures[0].message}",
        hint=failures[0].hint or _HINT,
    ) from failures[0]
