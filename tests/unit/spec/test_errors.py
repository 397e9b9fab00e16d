"""Errors that quote what strangers wrote."""

from __future__ import annotations

import pytest

from img_core.images import platforms
from img_core.images.reference import Reference
from img_core.spec.errors import MESSAGE_LIMIT, ImgError


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda text: platforms.parse(text), id="platform"),
        pytest.param(lambda text: platforms.parse("linux(" + text), id="platform-version"),
        pytest.param(lambda text: Reference.parse(text + "//"), id="reference"),
        pytest.param(lambda text: _raise(f"`{text}` is unknown"), id="any"),
    ],
)
def test_a_message_is_never_endless(call: object) -> None:
    assert callable(call)
    with pytest.raises(ImgError) as caught:
        call("A\x00" * 50_000)
    assert len(caught.value.message) <= MESSAGE_LIMIT
    assert str(caught.value) == caught.value.message


def test_a_cut_message_keeps_its_begin_and_its_reason() -> None:
    with pytest.raises(ImgError) as caught:
        _raise("file `" + "x" * 9000 + "` is not there")
    assert caught.value.message.startswith("file `xxx")
    assert caught.value.message.endswith("xxx` is not there")


def _raise(message: str) -> None:
    raise ImgError(message)
