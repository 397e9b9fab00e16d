"""The guard of the commands under test sees a descriptor that is closed twice, also where nobody looks at the error."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from harness import closed_twice
from img_core.testing.processes import fork, status_of


@pytest.mark.parametrize("times", [1, 2])
def test_closing_twice_ends_the_process_and_says_where(times: int) -> None:
    reader, writer = os.pipe()

    def work() -> None:
        os.dup2(writer, 2)
        closed_twice.watch()
        for _ in range(times):
            with suppress(OSError):
                os.close(reader)

    child = fork(work)
    os.close(writer)
    with open(reader, encoding="utf-8") as said:
        text = said.read()
    assert status_of(child) == (closed_twice.STATUS if times == 2 else 0)
    assert ("os.close(reader)" in text) == (times == 2)
