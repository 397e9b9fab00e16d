"""A transfer that was cut goes on where it stopped, in whichever process comes next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from img_core.files import faults
from img_core.images import oci
from img_core.spec.errors import ImgError, IntegrityError
from img_core.spec.values import Descriptor
from img_core.store import Store


class Cut(Exception):
    """The connection broke."""


CONTENT = os.urandom(3 << 20)


WANTED = Descriptor("x", oci.digest(CONTENT), len(CONTENT))


def cut_after(count: int) -> Callable[[int], Iterator[bytes]]:
    """Fetch *count* bytes and break."""

    def fetch(start: int) -> Iterator[bytes]:
        for position in range(start, count, 1 << 16):
            yield CONTENT[position : min(position + (1 << 16), count)]
        raise Cut

    return fetch


def partial_files(state: Path) -> list[str]:
    return os.listdir(state / "ingest")


def test_a_cut_transfer_goes_on_in_the_next_process(tmp_path: Path) -> None:
    for count in (1_500_000, 2_500_000):
        with Store(str(tmp_path)) as store, pytest.raises(Cut):
            list(store.blobs.resume(WANTED, cut_after(count)))
    asked: list[int] = []

    def rest(start: int) -> list[bytes]:
        asked.append(start)
        return [CONTENT[start:]]

    with Store(str(tmp_path)) as store:
        assert not store.blobs.has(WANTED.digest)
        assert b"".join(store.blobs.resume(WANTED, rest)) == CONTENT, "who reads along misses nothing"
        assert store.blobs.has(WANTED.digest)
    assert asked == [2_500_000]
    assert partial_files(tmp_path) == []


def test_a_transfer_that_nobody_reads_on_is_kept(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        for position, _chunk in enumerate(store.blobs.resume(WANTED, lambda _start: iter([CONTENT[:2_000_000]] * 2))):
            assert position == 0
            break
    assert len(partial_files(tmp_path)) == 1


@pytest.mark.parametrize("count", [0, 1000, (1 << 20) - 1])
def test_little_is_not_worth_keeping(count: int, tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store, pytest.raises(Cut):
        list(store.blobs.resume(WANTED, cut_after(count)))
    assert partial_files(tmp_path) == []


@pytest.mark.parametrize("rest", [CONTENT[2_000_000:-1], CONTENT[2_000_000:] + b"x", bytes(len(CONTENT) - 2_000_000)])
def test_a_wrong_end_takes_the_beginning_with_it(rest: bytes, tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        with pytest.raises(Cut):
            list(store.blobs.resume(WANTED, cut_after(2_000_000)))
        with pytest.raises(IntegrityError):
            list(store.blobs.resume(WANTED, lambda _start: [rest]))
        assert partial_files(tmp_path) == []
        list(store.blobs.resume(WANTED, lambda start: [CONTENT[start:]]))
        assert store.blobs.has(WANTED.digest)


def test_more_than_there_can_be_is_fetched_anew(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        (tmp_path / "ingest").mkdir()
        (tmp_path / "ingest" / WANTED.digest.removeprefix("sha256:")).write_bytes(CONTENT + b"x")
        list(store.blobs.resume(WANTED, lambda start: [CONTENT[start:]]))
        assert store.blobs.has(WANTED.digest)


def test_a_full_disk_keeps_nothing_of_a_transfer(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        faults.install(fail_at=25)
        try:
            with pytest.raises(ImgError, match="no space left"):
                list(store.blobs.resume(WANTED, cut_after(3 << 20)))
        finally:
            faults.uninstall()
        assert partial_files(tmp_path) == []


def test_two_transfers_of_one_blob_do_not_meet(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store, Store(str(tmp_path)) as other:
        first = store.blobs.resume(WANTED, lambda start: [CONTENT[start:2_000_000], CONTENT[2_000_000:]])
        next(first)
        assert b"".join(other.blobs.resume(WANTED, lambda start: [CONTENT[start:]])) == CONTENT
        list(first)
        assert store.blobs.has(WANTED.digest)
        assert partial_files(tmp_path) == []
