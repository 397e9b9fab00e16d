"""How much a process grew, in the test kit."""

from __future__ import annotations

from img_core.testing.processes import memory_growth

BLOCK = 32 << 10  #: bytes; few enough for malloc(3) to keep what was freed
MUCH = 32 << 20


def take() -> list[bytes]:
    return [bytes([number % 256]) * BLOCK for number in range(MUCH // BLOCK)]


def test_what_the_caller_has_freed_hides_no_growth() -> None:
    blocks = take()
    last = bytes(BLOCK)  # behind them, so that the heap cannot shrink
    del blocks
    assert memory_growth(take) > MUCH * 3 // 4
    assert memory_growth(lambda: None) < MUCH // 4
    assert last
