"""What a registry sends in headers is read in linear time."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from harness.speed import processor_seconds
from img_core.images.platforms import InvalidPlatform, parse
from img_core.images.reference import InvalidReference, Reference
from img_core.net.git_urls import is_git
from img_core.net.retry import Failure, retry_after_seconds
from img_core.net.transport import Response
from img_registry_oci._auth import parse_challenges
from img_registry_oci._listing import next_page

LONG = 100_000
SECONDS = 0.2


def seconds(work: Callable[[], object]) -> float:
    return processor_seconds(work, enough=SECONDS)


def link(value: str) -> str:
    return next_page(cast("Response", SimpleNamespace(header=lambda _: value, url="https://h/v2/a/tags/list")))


PARTS = [
    "<",
    "<a>;",
    "<a>; ",
    "<a>;rel",
    '<a>;x="',
    "a",
    "a=",
    'a="',
    '\\"',
    ",",
    ", ",
    "Bearer ",
    'a="\\',
    "1",
    " ",
    "/",
    "-",
    ".",
    "a.",
    "a__",
    ":",
]


@pytest.mark.parametrize("part", PARTS)
def test_headers_take_linear_time(part: str) -> None:
    value = part * (LONG // len(part))
    assert seconds(lambda: link(value)) < SECONDS
    assert seconds(lambda: retry_after_seconds(value)) < SECONDS
    assert seconds(lambda: parse_challenges([value])) < 2 * SECONDS  # a Python loop over the characters


@pytest.mark.parametrize("part", PARTS)
def test_references_take_linear_time(part: str) -> None:
    value = part * (LONG // len(part))

    def work() -> None:
        is_git(value)
        for read, error in ((Reference.parse, InvalidReference), (parse, InvalidPlatform)):
            try:
                read(value)
            except error:
                pass

    assert seconds(work) < SECONDS


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ('</v2/b>; rel="next"', "https://h/v2/b"),
        ('</v2/b>; title="x"; rel=next', "https://h/v2/b"),
        ('</v2/a>; rel="prev", </v2/b>; rel="next"', "https://h/v2/b"),
        ('</v2/a>; rel="prev"', ""),
    ],
)
def test_next_page_is_found(value: str, target: str) -> None:
    assert link(value) == target


@pytest.mark.parametrize("value", ["<//a[[[>; rel=next", "<https://[h>; rel=next", "<//other/v2>; rel=next"])
def test_a_next_page_that_is_no_address_of_ours_is_refused(value: str) -> None:
    with pytest.raises(Failure, match="next page"):
        link(value)
