import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.spec.text import LINE_LIMIT, one_line, show


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("é ☃", "é ☃"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\udc80", "\\udc80"),
        ("\u202eevil", "\\u202eevil"),
        (b"\xffraw", "\\xffraw"),
        ("x" * 300, "x" * 200 + "…"),
        ("", ""),
    ],
)
def test_text_is_shown_on_one_safe_line(text: str | bytes, shown: str) -> None:
    assert show(text) == shown


@given(st.text() | st.binary(), st.integers(1, 50))
def test_whatever_comes_in_is_printable_and_short(text: str | bytes, limit: int) -> None:
    shown = show(text, limit=limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 1


@pytest.mark.parametrize(
    "text", ["a" * 5000, "\x1b" * 700, "\U0010ffff" * 5000, "ab" * 250_000, "https://u:p@h/" + "x" * 3000]
)
def test_a_long_line_keeps_both_ends(text: str) -> None:
    message = f"cannot read `{text}`: permission denied"
    shown = one_line(message)
    assert len(shown) == LINE_LIMIT
    assert shown.startswith("cannot read `")
    assert shown.endswith("`: permission denied")
    assert shown.count("…") == 1
    assert "u:p" not in shown


def test_a_line_that_fits_is_left_alone() -> None:
    assert one_line("a" * 1000) == "a" * 1000
    assert one_line("a\nb") == r"a\nb"
    assert one_line("abcdefghij", limit=7) == "abcd…ij"
