"""The cache keeps to its budget: what was used longest ago goes, in small bites, and not at every build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_collect import add_image, add_snapshot, opened

from img_core.forms.words import budget_bytes
from img_core.store import Store, automatic
from img_core.store.automatic import collect_excess
from img_core.store.collect import survey
from img_core.store.database import SNAPSHOT

EACH = 100_000  # bytes of a snapshot


@pytest.fixture
def cache(tmp_path: Path) -> list[str]:
    """Give the ids of five snapshots of a state directory, used longest ago first, that nothing needs."""
    with opened(tmp_path) as store:
        made = [add_snapshot(store, size=EACH).id for _ in range(5)]
        with store.database.transaction() as cursor:
            for age, identifier in enumerate(reversed(made)):
                cursor.execute("UPDATE snapshot SET used = used - ? WHERE id = ?", (3600 * age + 3600, identifier))
    return made


def left(store: Store) -> list[str]:
    return [piece.id for piece in sorted(survey(store), key=lambda piece: piece.used) if piece.kind == SNAPSHOT]


def forget_the_last_look(state: Path) -> None:
    (state / "collected").unlink()


def test_what_was_used_longest_ago_goes_until_a_tenth_of_the_budget_is_free(tmp_path: Path, cache: list[str]) -> None:
    with opened(tmp_path) as store:
        assert collect_excess(store, "480kB", seconds=60) > 0
        assert left(store) == cache[1:]
        forget_the_last_look(tmp_path)
        assert collect_excess(store, "480kB", seconds=60) == 0
        forget_the_last_look(tmp_path)
        collect_excess(store, "330kB", seconds=60)
        assert left(store) == cache[3:]


def test_a_cache_within_its_budget_is_left_alone_and_not_looked_at_again_soon(tmp_path: Path, cache: list[str]) -> None:
    with opened(tmp_path) as store:
        assert collect_excess(store, "1MB", seconds=60) == 0
        assert collect_excess(store, "1kB", seconds=60) == 0, "not yet"
        assert left(store) == cache
        os.utime(tmp_path / "collected", (1, 1))
        assert collect_excess(store, "1kB", seconds=60) > 0


def test_what_is_used_or_named_stays_and_does_not_count(tmp_path: Path, cache: list[str]) -> None:
    with opened(tmp_path) as other, opened(tmp_path) as store:
        layer = add_image(store, "docker.io/library/kept:latest", os.urandom(3 * EACH))
        assert other.snapshots.get(cache[0]) is not None
        assert store.snapshots.get(cache[1]) is not None
        collect_excess(store, "210kB", seconds=60)
        assert set(left(store)) == {*cache[:2], cache[4]}
        assert store.blobs.has(layer.digest)


def test_when_the_time_is_over_the_next_build_goes_on(
    tmp_path: Path, cache: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automatic, "_BITE", 1)
    with opened(tmp_path) as store:
        survey(store)  # sizes are known from now on
        for rest in (cache[1:], cache[2:], cache[3:]):
            collect_excess(store, "1kB", seconds=0)
            assert left(store) == rest


def test_a_share_of_a_small_disk_is_two_gigabytes(
    tmp_path: Path, cache: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        assert collect_excess(store, "0%", seconds=60) == 0
        forget_the_last_look(tmp_path)
        monkeypatch.setattr(automatic, "_LEAST_SHARE", 310_000)
        assert collect_excess(store, "0%", seconds=60) > 0
        assert left(store) == cache[3:]


def test_nothing_is_removed_without_a_limit(tmp_path: Path, cache: list[str]) -> None:
    with opened(tmp_path) as store:
        assert collect_excess(store, "all", seconds=60) == 0
        assert left(store) == cache


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10%", 100), ("100%", 1000), ("0%", 0), ("20GB", 20 << 30), ("512 mb", 512 << 20), ("7", 7), ("all", None)],
)
def test_a_budget_is_a_size_or_a_share(text: str, expected: int | None) -> None:
    assert budget_bytes(text, 1000) == expected


@pytest.mark.parametrize("text", ["", "%", "101%", "-1%", "ten", "1.5%", "10 GB left", "ALL"])
def test_anything_else_is_no_budget(text: str) -> None:
    with pytest.raises(ValueError, match="neither a size nor a share"):
        budget_bytes(text, 1000)
