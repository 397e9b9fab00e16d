"""How people write values, in every place alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.forms.words import RecordError, edits, key_values, parse_size, split_record, truth
from img_core.spec.text import escaped, show, show_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("1", "t", "T", "TRUE", "true", "True")),
        *((text, False) for text in ("0", "f", "F", "FALSE", "false", "False")),
        *((text, None) for text in ("", "yes", "on", "2", " true", "tru")),
    ],
)
def test_truth(text: str, expected: bool | None) -> None:
    assert truth(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("512", 512), ("1k", 1024), ("1.5KiB", 1536), ("2 MB", 2 << 20), ("1g", 1 << 30), ("3TiB", 3 << 40),
        (" 1m ", 1 << 20), ("0.3p", 3 * (1 << 50) // 10), ("999999999999999", 999999999999999), ("", None), ("-1", None), ("1x", None),
        ("1.", None), (".5m", None), ("1e3", None), ("\u0661", None), ("1" * 400, None),
    ],
)  # fmt: skip
def test_sizes_are_exact(text: str, expected: int | None) -> None:
    assert parse_size(text) == expected


def test_a_record_is_split_as_go_does() -> None:
    assert split_record('a,"b,""c""",,') == ["a", 'b,"c"', "", ""]
    assert key_values("Type=x,plain") == [("type", "x"), ("plain", None)]


@pytest.mark.parametrize(("text", "problem"), [('a"b', "bare"), ('"a', "open"), ('"a"b', "after")])
def test_a_malformed_record_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(RecordError) as caught:
        split_record(text)
    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("word", "other", "count"),
    [("", "", 0), ("a", "", 1), ("FRMO", "FROM", 1), ("kitten", "sitting", 3), ("ab", "ba", 1), ("abc", "xyz", 3)],
)
def test_edits(word: str, other: str, count: int) -> None:
    assert edits(word, other) == edits(other, word) == count


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.integers(1, 4))
def test_a_limit_of_edits_only_cuts_the_answer(word: str, other: str, limit: int) -> None:
    assert edits(word, other, limit) == min(edits(word, other), limit)


def test_names_and_texts_are_shown_with_the_same_escapes() -> None:
    name = b"a\xff\x1b\\\n"
    assert show_path(name) == r"a\xff\x1b\\" + r"\n"
    assert show(name) == r"a\xff\x1b" + "\\" + r"\n"
    assert escaped("a\tb\u200b", keep="\t") == "a\tb" + r"\u200b"
