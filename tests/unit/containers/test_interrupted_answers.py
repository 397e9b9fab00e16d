"""A signal that comes while a supervisor answers a call: it answers again."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from img_lib_containers import seccomp

_RAW = (7, 1, 0, 0, 0, 0, *[0] * 6)
_CALL = seccomp.Notification.of(_RAW)

ROWS: dict[str, Callable[[], object]] = {
    "proceed": lambda: seccomp.proceed(3, _CALL),
    "answer": lambda: seccomp.answer(3, _CALL),
    "still_waiting": lambda: seccomp.still_waiting(3, _CALL),
    "waits": lambda: seccomp.Channel(3).waits(),
}


@pytest.mark.parametrize("call", ROWS)
def test_an_answer_that_is_interrupted_is_given_again(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    asked = 0

    def ioctl(*_arguments: object) -> int:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise InterruptedError(errno.EINTR, "interrupted")
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    ROWS[call]()
    assert asked == 3
