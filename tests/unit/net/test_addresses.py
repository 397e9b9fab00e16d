"""Which secret belongs to which origin, and what of an address is shown."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.net.addresses import same_origin, secret_names
from img_core.spec.text import redacted, show


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("https://h.example/f", ("https://h.example:443", "https://h.example", "h.example:443", "h.example")),
        ("https://h.example:8443/f", ("https://h.example:8443", "h.example:8443")),
        ("http://h.example/f", ("http://h.example:80", "http://h.example")),
        ("http://127.0.0.1:5000/f", ("http://127.0.0.1:5000",)),
        ("https://[::1]:8443/f", ("https://[::1]:8443", "[::1]:8443")),
        ("https://me:pw@H.example/", ("https://h.example:443", "https://h.example", "h.example:443", "h.example")),
        ("git://h.example/r.git", ()),
        ("https://h.example:x/", ()),
    ],
)
def test_names_of_secrets_for_an_origin(url: str, names: tuple[str, ...]) -> None:
    assert secret_names(url) == names


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://a.example/x", True),
        ("https://a.example:443/x", True),
        ("https://a.example:8443/x", False),
        ("http://a.example/x", False),
        ("https://b.example/x", False),
        ("git@a.example:x", False),
    ],
)
def test_same_origin_is_scheme_host_and_port(url: str, same: bool) -> None:
    assert same_origin(url, ("docker-image://x", "dir", "https://a.example/r.git#main")) is same


REDACTED = {
    "https://me:pw@h/f": "https://***@h/f",
    "ADD https://token@h/f /x": "ADD https://***@h/f /x",
    'ADD ["https://me:pw@h/f","/x"]': 'ADD ["https://***@h/f","/x"]',
    "http://me:p@w@h/f": "http://***@h/f",
    "https://me:pa/ss@h/f": "https://***@h/f",
    "https://me:pa?s#s@h/f": "https://***@h/f",
    "git+https://me:pw@h/r.git#x": "git+https://***@h/r.git#x",
    "git://me:pw@h/r.git": "git://***@h/r.git",
    "ssh://git@h/r.git": "ssh://git@h/r.git",
    "ssh://git:pw@h/r.git": "ssh://***@h/r.git",
    "git@h:r.git": "git@h:r.git",
    "https://a:1@x/,https://b:2@y/ and https://c:3@z": "https://***@x/,https://***@y/ and https://***@z",
    "https://h/a@b": "https://h/a@b",
    "https://h:80/a@b": "https://h:80/a@b",
    "https://[::1]:80/a@b": "https://[::1]:80/a@b",
    "https://h/x?to=http://me:pw@y": "https://h/x?to=http://***@y",
    "me@example.org wrote https://h/": "me@example.org wrote https://h/",
}


@pytest.mark.parametrize("text", REDACTED)
def test_user_and_password_are_stars(text: str) -> None:
    assert redacted(text) == REDACTED[text]
    assert show(text) == REDACTED[text]
    assert show(text.encode()) == REDACTED[text]


@given(st.text(alphabet="a:/@?#[]1 .", max_size=40))
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redacted(text)
    assert redacted(once).replace("***", "") == once.replace("***", "")


@pytest.mark.parametrize("piece", ["a://", "a://b:c", "a://b:c/", "://@", "@", ":", "a://b:c@d/", "/"])
def test_redacting_takes_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece)) + "@"
    started = time.process_time()
    redacted(text)
    assert time.process_time() - started < 1.0
