"""A history has one entry with a layer for each layer, and times that go on."""

from __future__ import annotations

from typing import Any

import pytest

from img_core.images.history import even_history, layered_history, rfc3339, timed_history

LAYER: dict[str, Any] = {"created_by": "a"}
EMPTY: dict[str, Any] = {"created_by": "e", "empty_layer": True}
ADDED: dict[str, Any] = {"created": "t", "comment": "not in the history of the base"}


@pytest.mark.parametrize(
    ("entries", "layers", "expected"),
    [
        pytest.param([LAYER, EMPTY], 1, [LAYER, EMPTY], id="even"),
        pytest.param([], 2, [ADDED, ADDED], id="none"),
        pytest.param([LAYER, EMPTY, LAYER], 1, [LAYER, EMPTY, {**LAYER, "empty_layer": True}], id="too-many"),
        pytest.param([EMPTY], 1, [EMPTY, ADDED], id="too-few"),
        pytest.param([], 0, [], id="no-layers"),
    ],
)
def test_a_history_is_made_even(entries: list[dict[str, Any]], layers: int, expected: list[dict[str, Any]]) -> None:
    before = [dict(entry) for entry in entries]
    assert even_history(entries, layers, "t") == expected
    assert entries == before


@pytest.mark.parametrize(
    ("made", "times"),
    [
        ([None], ["0"]),
        ([None, "2"], ["2", "2"]),
        (["1", None, None, "3", None], ["1", "3", "3", "3", "3"]),
        (["1", None], ["1", "1"]),
    ],
)
def test_a_step_without_a_layer_has_the_time_of_the_next_one(made: list[str | None], times: list[str]) -> None:
    timed = timed_history([({"created_by": "x"}, moment) for moment in made], "0")
    assert [entry["created"] for entry in timed] == times
    assert [entry.get("empty_layer", False) for entry in timed] == [moment is None for moment in made]


def test_a_time_is_short_and_exact() -> None:
    assert (rfc3339(0), rfc3339(1.5)) == ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01.5Z")


@pytest.mark.parametrize(
    ("entries", "layers", "expected"),
    [
        pytest.param("", "", [], id="nothing"),
        pytest.param("ab", "12", [("a", "1"), ("b", "2")], id="each"),
        pytest.param("a-b", "12", [("a", "1"), ("-", None), ("b", "2")], id="one-without"),
        pytest.param("a", "12", [("a", "1"), ("", "2")], id="more-layers"),
        pytest.param("ab", "1", [("a", "1"), ("b", None)], id="fewer-layers"),
        pytest.param("-", "1", [("-", None), ("", "1")], id="nobody-speaks-of-it"),
    ],
)
def test_each_entry_is_given_with_the_layer_that_it_made(
    entries: str, layers: str, expected: list[tuple[str, str | None]]
) -> None:
    documents: list[dict[str, Any]] = [{"created_by": word, "empty_layer": word == "-"} for word in entries]
    found = layered_history(documents, layers)
    assert [(entry.get("created_by", ""), layer) for entry, layer in found] == expected
