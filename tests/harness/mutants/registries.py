"""Registries with one thing wrong."""

# ruff: noqa: E501 - one mutant, one line
from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.directory_registry import DirectoryRegistry, Kept
from harness.mutants import Mutant, mutant
from img_core.images import oci
from img_core.spec.errors import ImgError
from img_core.spec.registry import Fetched, Uploaded
from img_core.spec.values import Descriptor
from img_core.testing.contracts.registry import RegistryContract

__all__ = ["REGISTRIES"]


class Directory(RegistryContract):
    @pytest.fixture
    def domain(self) -> str:
        return f"{uuid.uuid4()}.example"


def _cut(self: Any, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True) -> Iterator[bytes]:
    for chunk in DirectoryRegistry.fetch_blob(self, repository, descriptor, start=start, verify=verify):
        yield chunk[:-1]


def _from_the_start(
    self: Any, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
) -> Iterator[bytes]:
    return DirectoryRegistry.fetch_blob(self, repository, descriptor)


def _any_size(
    self: Any, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
) -> Iterator[bytes]:
    yield self._find(repository, descriptor.digest)[0][start:]


def _mixed_up(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    """One buffer for all threads."""
    self.buffer = b"".join(read(0))
    threading.Event().wait(0.005)
    self.kept[repository, descriptor.digest] = self.buffer, descriptor.media_type
    return Uploaded.SENT


def _error(kind: type[Exception]) -> Callable[..., Any]:
    def find(self: Any, repository: str, reference: str) -> Any:
        try:
            return self.kept[repository, reference]
        except KeyError:
            raise kind("nothing") from None

    return find


def registry(claim: str, **changes: Any) -> Mutant:
    return mutant(Directory, DirectoryRegistry, claim, **changes)


def _always_sends(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    self.kept[repository, descriptor.digest] = b"".join(read(0)), descriptor.media_type
    return Uploaded.SENT


def _keeps_a_part(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    """Take what came before an upload was stopped for all of it."""
    content = b""
    try:
        for chunk in read(0):
            content += chunk
    finally:
        self.kept[repository, descriptor.digest] = content, descriptor.media_type
    return Uploaded.SENT


def _empty_mount(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    if mount_from:
        self.kept[repository, descriptor.digest] = b"", descriptor.media_type
        return Uploaded.MOUNTED
    return DirectoryRegistry.upload(self, repository, descriptor, read)


def _own(self: Any, context: Any, options: Any = None) -> None:
    """Know nothing of what other processes did."""
    DirectoryRegistry.__init__(self, context, options)
    type(self).kept = _KEPT.setdefault(os.getpid(), Kept())


_KEPT: dict[int, Kept] = {}


def _in_one_piece(
    self: Any, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
) -> Iterator[bytes]:
    yield b"".join(DirectoryRegistry.fetch_blob(self, repository, descriptor, start=start))


def _sends_in_one_piece(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    content = b"".join(read(0))
    return DirectoryRegistry.upload(self, repository, descriptor, lambda _offset: [content], mount_from=mount_from)


def _writes_to_the_name(
    self: Any, repository: str, descriptor: Descriptor, read: Any, *, mount_from: str | None = None
) -> Uploaded:
    path = self.kept.path((repository, descriptor.digest))
    if path.exists():
        return Uploaded.EXISTED
    with path.open("wb", buffering=0) as file:
        for chunk in read(0):
            file.write(chunk)
    return Uploaded.SENT


def _closes_once(self: Any) -> None:
    if self.__dict__.get("closed"):
        raise RuntimeError("closed already")
    self.closed = True


REGISTRIES = {
    "drops the last byte": registry("test_it_serves_many or test_a_blob_of_a_neighbour", fetch_blob=_cut),
    "begins at the start again": registry("test_a_blob_is_given_from", fetch_blob=_from_the_start),
    "takes any size": registry("test_a_blob_of_another_size", fetch_blob=_any_size),
    "mixes up threads": registry("test_it_serves_many", upload=_mixed_up),
    "sends what is there": registry("test_a_blob_is_sent_once", upload=_always_sends),
    "keeps a part of what was canceled": registry("test_an_upload_that_is_canceled", upload=_keeps_a_part),
    "says that it mounted": registry("test_a_blob_of_a_neighbour", upload=_empty_mount),
    "has a key error": registry("test_what_is_not_there", _find=_error(KeyError)),
    "calls what is missing a failure": registry("test_what_is_not_there", _find=_error(ImgError)),
    "keeps tags only": registry("test_what_was_put", put_document=lambda self, r, ref, c, m: (self.kept.__setitem__((r, ref), (c, m)), oci.digest(c))[1]),
    "writes documents anew": registry("test_what_was_put", fetch_document=lambda self, r, ref: Fetched(json.dumps(json.loads(self._find(r, ref)[0]), indent=1).encode(), self._find(r, ref)[1], oci.digest(self._find(r, ref)[0]))),
    "answers with another digest": registry("test_what_was_put", resolve=lambda self, r, ref: oci.digest(b"other")),
    "is closed once": registry("test_ping_and_closing", close=_closes_once),
    "keeps what it has in its process": registry("test_two_processes", __init__=_own),
    "fetches blobs in one piece": registry("test_a_large_blob", fetch_blob=_in_one_piece),
    "sends blobs in one piece": registry("test_a_large_blob", upload=_sends_in_one_piece),
    "takes what was killed for a blob": registry("test_an_upload_that_was_killed", upload=_writes_to_the_name),
}  # fmt: skip
