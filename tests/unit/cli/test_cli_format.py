"""Tables, sizes, ages and filters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.cli._filters import parse_filters
from img_core.cli._format import binary_size, human_age, narrow_table, short_age, table
from img_core.spec import UsageError


def test_sizes_have_four_digits_and_binary_units() -> None:
    assert [binary_size(size) for size in (0, 799, 1024, 1_090_000, 3 * 1024**3, 1023.94)] == [
        "0B", "799B", "1KiB", "1.04MiB", "3GiB", "1024B",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second ago"), (0.9, "Less than a second ago"), (1, "1 second ago"), (59, "59 seconds ago"),
        (60, "About a minute ago"), (119, "About a minute ago"), (120, "2 minutes ago"), (3599, "59 minutes ago"),
        (3600, "About an hour ago"), (2 * 3600, "2 hours ago"), (47 * 3600, "47 hours ago"), (48 * 3600, "2 days ago"),
        (15 * 86400, "2 weeks ago"), (70 * 86400, "2 months ago"), (800 * 86400, "2 years ago"),
    ],
)  # fmt: skip
def test_ages_are_dockers(seconds: float, text: str) -> None:
    assert human_age(seconds) == text


def test_short_ages_have_14_characters_at_most() -> None:
    seconds = [*range(200), *range(0, 50 * 86400, 1799), *range(0, 40 * 365 * 86400, 86399)]
    assert max(len(short_age(value)) for value in seconds) == 14
    assert [short_age(value) for value in (0, 70, 3700)] == ["just now", "1 minute ago", "1 hour ago"]


def test_columns_of_a_narrow_table_are_two_blanks_apart() -> None:
    assert narrow_table([("A", "B", "C"), ("12345", "x", "y")]) == "A      B  C\n12345  x  y"


def test_columns_are_separated_by_tabs_to_the_next_stop() -> None:
    assert table([("A", "B", "C"), ("12345678", "x", "y")]) == "A\t\tB\tC\n12345678\tx\ty"


FIELDS = {("name",): "docker.io/library/alpine:3", ("labels", "a.b"): "x, y"}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], True), (["name"], True), (["nope"], False), (["name==docker.io/library/alpine:3"], True),
        (["name!=x"], True), (["nope!=x"], True), (["name~=alp"], True), (["name~=/alp[a-z]+/"], True),
        (["name~=|^docker|"], True), (['labels."a.b"=="x, y"'], True), (["name~=alp,nope"], False),
        (["nope", "name"], True), (["nope~=x"], False), (["labels.a.b==a b"], False), (["name!=a b"], True),
    ],
)  # fmt: skip
def test_filters(filters: list[str], expected: bool) -> None:
    assert parse_filters(filters, "x")(FIELDS.get) is expected


@pytest.mark.parametrize("text", ["", ",", "name=", "name==", "name=1", "name~=[", "==x", "name~=/[/"])
def test_bad_filters_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="parse error"):
        parse_filters([text], "x")


@given(st.text())
def test_any_filter_is_understood_or_refused(text: str) -> None:
    try:
        parse_filters([text], "x")(FIELDS.get)
    except UsageError:
        pass
