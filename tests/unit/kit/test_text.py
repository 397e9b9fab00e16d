import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.kit.text import show


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
