"""Sources with one thing wrong."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.mutants import Mutant, mutant
from img_core.files import fs
from img_core.images import oci
from img_core.spec.errors import Canceled, ImgError, NotFoundError
from img_core.spec.graph import SourceOp
from img_core.spec.source import PinnedTree, TreeSource
from img_core.testing.contracts.source import TreeSourceContract
from img_core.testing.processes import LARGE

__all__ = ["SOURCES"]


class Words(TreeSource):
    """A tree with one file per word of the reference, and one link."""

    name = "words"

    def pin(self, op: SourceOp, platform: Any) -> PinnedTree:
        if not op.reference:
            raise NotFoundError("no words")
        return PinnedTree(f"{self.name}:{oci.digest(op.reference.encode())}", details={"words": op.reference.split()})

    def fetch(self, pinned: PinnedTree, directory: str) -> None:
        for number, word in enumerate(pinned.details["words"]):
            self.context.check()
            fs.replace_file(os.path.join(directory, str(number)), word.encode(), 0o644)
            if word == "large":
                os.truncate(os.path.join(directory, str(number)), LARGE)
        os.symlink("0", os.path.join(directory, "link"))


class WordSuite(TreeSourceContract):
    @pytest.fixture
    def op(self) -> SourceOp:
        return SourceOp("words", "a few words")

    @pytest.fixture
    def other_op(self) -> SourceOp:
        return SourceOp("words", "and others")

    @pytest.fixture
    def large_op(self) -> SourceOp:
        return SourceOp("words", "something large")

    @pytest.fixture
    def missing_op(self) -> SourceOp:
        return SourceOp("words", "")


def _identity(make: Callable[[Any, SourceOp], str]) -> Callable[..., PinnedTree]:
    return lambda self, op, platform: PinnedTree(make(self, op), details=Words.pin(self, op, platform).details)


def _shared(self: Any, pinned: PinnedTree, directory: str) -> None:
    """One place for the work of all threads."""
    type(self).place = directory
    threading.Event().wait(0.01)
    Words.fetch(self, pinned, type(self).place)


def _open_files(self: Any, pinned: PinnedTree, directory: str) -> None:
    os.mkdir(path := os.path.join(self.context.host.run_directory, os.urandom(4).hex()))
    os.chmod(path, 0o777)
    Words.fetch(self, pinned, directory)


def _modified(self: Any, pinned: PinnedTree) -> int | None:
    return 7 if self.__dict__.get("fetched") else None


def _remembers(self: Any, pinned: PinnedTree, directory: str) -> None:
    self.fetched = True
    Words.fetch(self, pinned, directory)


def _half(self: Any, pinned: PinnedTree, directory: str) -> None:
    Words.fetch(self, pinned, directory)
    mark = Path(self.context.host.run_directory, "once")
    if mark.exists():
        os.unlink(os.path.join(directory, "1"))
    mark.touch(0o600)


def _raises(error: Exception) -> Callable[..., PinnedTree]:
    def pin(self: Any, op: SourceOp, platform: Any) -> PinnedTree:
        if not op.reference:
            raise error
        return Words.pin(self, op, platform)

    return pin


def _fifo(self: Any, pinned: PinnedTree, directory: str) -> None:
    Words.fetch(self, pinned, directory)
    os.mkfifo(os.path.join(directory, "fifo"))


def _close(self: Any) -> None:
    del self.context


def _stops_quietly(self: Any, pinned: PinnedTree, directory: str) -> None:
    with contextlib.suppress(Canceled):
        Words.fetch(self, pinned, directory)


def _calls_it_a_failure(self: Any, pinned: PinnedTree, directory: str) -> None:
    try:
        Words.fetch(self, pinned, directory)
    except Canceled:
        raise ImgError("it failed") from None


def _never_looks(self: Any, pinned: PinnedTree, directory: str) -> None:
    """Wait for somebody who does not come."""
    try:
        Words.fetch(self, pinned, directory)
    except Canceled:
        threading.Event().wait(20)
        raise


def _takes_a_part(self: Any, pinned: PinnedTree, directory: str) -> None:
    """Keep words in a file of the state, which is there before it is whole."""
    kept = Path(self.context.host.state_directory, "words")
    with contextlib.suppress(FileExistsError), fs.disk_errors(str(kept)), kept.open("x") as file:
        for word in pinned.details["words"]:  # whoever comes second, however soon, takes what is there
            file.write(word + " ")
            file.flush()
            threading.Event().wait(0.05)
    Words.fetch(self, replace(pinned, details={"words": kept.read_text().split()}), directory)


def _forgets_what_it_cannot_write(self: Any, pinned: PinnedTree, directory: str) -> None:
    with contextlib.suppress(ImgError):
        Words.fetch(self, pinned, directory)


def _has_it_all(self: Any, pinned: PinnedTree, directory: str) -> None:
    Words.fetch(self, pinned, directory)
    for path in Path(directory).iterdir():
        path.write_bytes(path.read_bytes())


def source(claim: str, **changes: Any) -> Mutant:
    return mutant(WordSuite, Words, claim, **changes)


SOURCES = {
    "has no scheme in its identities": source("test_identity_begins", pin=_identity(lambda self, op: oci.digest(op.reference.encode()))),
    "has a new identity each time": source("test_the_same_content", pin=_identity(lambda self, op: f"words:{uuid.uuid4()}")),
    "has one identity per object": source("test_the_same_content", pin=_identity(lambda self, op: f"words:{id(self)}")),
    "has one identity for all": source("test_other_content", pin=_identity(lambda self, op: "words:1")),
    "brings a pipe": source("test_fetching_fills", fetch=_fifo),
    "brings nothing": source("test_fetching_fills", fetch=lambda self, pinned, directory: None),
    "brings less the second time": source("test_what_was_pinned", fetch=_half),
    "mixes up threads": source("test_pin_and_fetch", fetch=_shared),
    "leaves its work open to others": source("test_the_run_directory", fetch=_open_files),
    "knows a time only afterwards": source("test_the_time_of_a_tree", fetch=_remembers, modified=_modified),
    "speaks in many lines": source("test_what_does_not_exist", pin=_raises(NotFoundError("no\nwords"))),
    "has a bug": source("test_what_does_not_exist", pin=_raises(KeyError("words"))),
    "is closed once": source("test_close_may", close=_close),
    "stops in the middle and is silent": source("test_canceling_ends", fetch=_stops_quietly),
    "calls a cancellation a failure": source("test_canceling_ends", fetch=_calls_it_a_failure),
    "does not look whether it is canceled": source("test_canceling_ends", fetch=_never_looks),
    "takes what another build has not finished": source("test_two_builds", fetch=_takes_a_part),
    "takes what a killed build has left": source("test_a_build_that_was_killed", fetch=_takes_a_part),
    "takes what a full disk has left": source("test_what_does_not_fit", fetch=_takes_a_part),
    "does not tell that the disk is full": source("test_what_does_not_fit", fetch=_forgets_what_it_cannot_write),
    "has all of it in memory": source("test_what_is_large", fetch=_has_it_all),
}  # fmt: skip
