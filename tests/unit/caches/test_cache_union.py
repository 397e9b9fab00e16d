"""Records of several writers become one set."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from cache_records import layer, record, records
from hypothesis import given, settings
from hypothesis import strategies as st

from img_core.spec.cache import CACHE_MOUNT, CacheRecord
from img_lib_cache.union import is_news, pruned, size_of, united

A = record("a", layer("1"), created=100.0, last=100.0)


@given(records, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_no_step_is_lost_and_order_does_not_matter(items: list[CacheRecord], chance: random.Random) -> None:
    shuffled = list(items)
    chance.shuffle(shuffled)
    assert {(item.key, item.definition) for item in united(items)} == {(item.key, item.definition) for item in items}
    assert [item.identity for item in united(shuffled)] == [item.identity for item in united(items)]
    assert united(united(items)) == united(items)


def test_the_newest_of_two_results_stays() -> None:
    newer = replace(A, identity="other", created=200.0, last=50.0, layers=(layer("2"),))
    assert united([newer, A]) == united([A, newer]) == [replace(newer, last=100.0)]


def test_layers_of_an_equal_result_are_not_lost_to_a_newer_record_without() -> None:
    newer = replace(A, created=200.0, layers=None)
    assert united([A, newer])[0].layers == A.layers


def test_layers_of_another_result_are_never_taken() -> None:
    newer = replace(A, identity="other", created=200.0, layers=None)
    assert united([A, newer])[0].layers is None


def test_digests_of_parts_are_put_together() -> None:
    one, two = replace(A, trees=(("a", "1"),)), replace(A, trees=(("b", "2"),))
    assert united([one, two])[0].trees == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize(
    ("new", "there", "expected"),
    [
        (A, None, True),
        (A, A, False),
        (replace(A, created=500.0, last=500.0), A, False),
        (replace(A, layers=None), A, False),
        (A, replace(A, layers=None), True),
        (replace(A, trees=(("a", "b"),)), A, True),
        (A, replace(A, trees=(("a", "b"),)), False),
        (replace(A, identity="x", created=99.0), A, False),
        (replace(A, identity="x", created=101.0), A, True),
    ],
)
def test_news(new: CacheRecord, there: CacheRecord | None, expected: bool) -> None:
    assert is_news(new, there) is expected


def test_what_was_not_used_for_long_goes() -> None:
    old, used = record("old", created=0.0, last=0.0), record("used", created=0.0, last=90.0)
    assert pruned([old, used], now=100.0, max_age=50.0) == [used]


def test_what_was_used_last_stays_within_the_size() -> None:
    items = [
        record(str(number), layer("shared", size=50), layer(str(number), size=100), last=number) for number in range(5)
    ]
    kept = pruned(items, now=0.0, max_size=260)
    assert kept == items[3:]
    assert size_of(kept) == 250


def test_a_record_without_layers_needs_no_room() -> None:
    assert len(pruned([replace(A, layers=None)], now=0.0, max_size=0)) == 1


def test_cache_mounts_go_before_steps_that_were_used_at_the_same_time() -> None:
    step, mount = (record(name, layer(name, size=100), last=5.0) for name in ("z", "a"))
    mount = replace(mount, definition=CACHE_MOUNT)
    assert pruned([mount, step], now=5.0, max_size=size_of([step])) == [step]
