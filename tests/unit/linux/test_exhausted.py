"""Limits of the process are told as what they are."""

from __future__ import annotations

import errno

import pytest

from img_core.linux.exhausted import exhaustion


@pytest.mark.parametrize(
    ("err", "code", "words", "hint"),
    [
        (OSError(errno.EMFILE, "x", "/a"), 7, "too many open files", "`ulimit -n 1024`"),
        (OSError(errno.ENFILE, "x"), 7, "too many open files on this machine", "file-max"),
        (BlockingIOError(errno.EAGAIN, "x"), 7, "no further process", "`ulimit -u`"),
        (OSError(errno.ENOMEM, "x"), 7, "not enough memory", "`ulimit -v`"),
        (MemoryError(), 7, "not enough memory", "`ulimit -v`"),
        (RuntimeError("can't start new thread"), 7, "no further thread", "`ulimit -u`"),
        (OSError(errno.EFBIG, "x", "/a/file"), 7, "too large: `/a/file`", "`ulimit -f`"),
        (OSError(errno.ENAMETOOLONG, "x", "d" * 5000), 1, "file name too long: `ddd", "4095 bytes"),
        (OSError(errno.ENAMETOOLONG, "x", b"\xff" * 5000), 1, "file name too long: `", "4095 bytes"),
    ],
)
def test_a_limit_is_one_line_with_a_way_out(err: BaseException, code: int, words: str, hint: str) -> None:
    told = exhaustion(err)
    assert told is not None
    assert told.exit_code == code
    assert words in told.message
    assert hint in (told.hint or "")
    assert len(told.message) < 1000


@pytest.mark.parametrize("err", [OSError(errno.ENOENT, "x"), RuntimeError("other"), ValueError(), KeyError("a")])
def test_anything_else_is_not_taken_for_one(err: BaseException) -> None:
    assert exhaustion(err) is None
