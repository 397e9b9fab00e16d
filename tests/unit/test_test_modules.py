"""Test modules that one session collects have names of their own: pytest finds modules beside a test by their names alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "rooms", [("unit", "contracts"), ("integration",), ("compare",), ("packaging",), ("bench", "soak")]
)
def test_no_two_modules_of_a_session_have_one_name(rooms: tuple[str, ...]) -> None:
    names = Counter(path.name for room in rooms for path in (TESTS / room).rglob("*.py"))
    assert [name for name, count in names.items() if count > 1 and name not in ("__init__.py", "conftest.py")] == []
