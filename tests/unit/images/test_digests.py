"""Digests and where content lies, for both algorithms; expected values are of `sha256sum` and `sha512sum`."""

from __future__ import annotations

import io

import pytest

from img_core.images.digests import Hasher, blob_path, digest_at, is_digest, of_file
from img_core.spec.errors import IntegrityError

SHA256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
SHA512 = (
    "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)


@pytest.mark.parametrize(("like", "digest"), [("", SHA256), (SHA256, SHA256), (SHA512, SHA512), ("sha512", SHA512)])
def test_content_gets_a_digest_by_the_algorithm_of_another_one(like: str, digest: str) -> None:
    hasher = Hasher(like)
    for part in (b"a", b"bc"):
        hasher.update(part)
    assert hasher.digest == digest == of_file(io.BytesIO(b"abc"), like)


@pytest.mark.parametrize("digest", [SHA256, SHA512])
def test_content_lies_below_the_name_of_its_algorithm(digest: str) -> None:
    path = blob_path(digest)
    assert path == "blobs/" + digest.replace(":", "/")
    assert digest_at(path) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        SHA256 + "0",
        SHA512.replace("sha512", "sha256"),
        SHA256.upper(),
        SHA256 + "\n",
        "sha384:" + "0" * 96,
        "sha256:../" + "0" * 61,
        "md5:" + "0" * 32,
    ],
)
def test_anything_else_has_no_place(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(IntegrityError, match="unsupported digest"):
        blob_path(text)
    assert digest_at("blobs/" + text.replace(":", "/")) is None


def test_an_algorithm_that_nobody_registered_is_named() -> None:
    with pytest.raises(IntegrityError, match="unsupported digest algorithm `sha384`") as caught:
        Hasher("sha384:" + "0" * 96)
    assert caught.value.hint is not None
