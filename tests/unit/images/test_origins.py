"""The bytes of a blob come from any of the repositories that are known to have it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from img_core.images.origins import from_origins
from img_core.spec.errors import CredentialsError, ImgError, NotFoundError, RegistryError
from img_core.spec.values import Digest

CONTENT = b"0123456789"
DIGEST = Digest("sha256:" + "0" * 64)


def fetched(failures: dict[str, ImgError], start: int = 0) -> tuple[bytes, list[tuple[str, int]]]:
    """Fetch from a/one and b/two, of which those in *failures* fail after three bytes; return the bytes and what was asked."""
    asked = []

    def read(origin: str, position: int) -> Iterator[bytes]:
        asked.append((origin, position))
        if origin in failures:
            yield CONTENT[position : position + 3]
            raise failures[origin]
        yield CONTENT[position:]

    return b"".join(from_origins("app:1", DIGEST, ["a/one", "b/two"], read, start)), asked


def test_the_first_repository_gives_the_rest_of_the_blob() -> None:
    assert fetched({}, start=4) == (CONTENT[4:], [("a/one", 4)])


@pytest.mark.parametrize("error", [NotFoundError("gone"), RegistryError("down"), CredentialsError("who?")], ids=repr)
def test_the_next_repository_goes_on_where_one_fails(error: ImgError) -> None:
    assert fetched({"a/one": error}) == (CONTENT, [("a/one", 0), ("b/two", 3)])


@pytest.mark.parametrize(
    ("first", "kind", "hint"),
    [
        (NotFoundError("gone"), RegistryError, "store-allow-incomplete=false"),
        (RegistryError("down"), RegistryError, "store-allow-incomplete=false"),
        (CredentialsError("who?", hint="log in"), CredentialsError, "log in"),
    ],
)
def test_when_all_fail_the_first_reason_is_told(first: ImgError, kind: type[ImgError], hint: str) -> None:
    with pytest.raises(kind) as caught:
        fetched({"a/one": first, "b/two": RegistryError("second")})
    assert caught.value.message == f"layer {DIGEST} of app:1 was left in a/one: {first.message}"
    assert hint in (caught.value.hint or "")
