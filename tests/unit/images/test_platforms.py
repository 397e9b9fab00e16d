import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.images.platforms import (
    InvalidPlatform,
    choose,
    host_platform,
    matching_order,
    normalize,
    parse,
    parse_list,
)
from img_core.spec.values import Platform

SPELLINGS = [
    ("linux/amd64", "linux/amd64"),
    ("linux/x86_64", "linux/amd64"),
    ("linux/x86-64", "linux/amd64"),
    ("linux/amd64/v1", "linux/amd64"),
    ("linux/amd64/v2", "linux/amd64/v2"),
    ("linux/AMD64/V3", "linux/amd64/v3"),
    ("linux/i386", "linux/386"),
    ("linux/386", "linux/386"),
    ("linux/arm", "linux/arm/v7"),
    ("linux/arm/7", "linux/arm/v7"),
    ("linux/arm/v7", "linux/arm/v7"),
    ("linux/arm/v6", "linux/arm/v6"),
    ("linux/armhf", "linux/arm/v7"),
    ("linux/armel", "linux/arm/v6"),
    ("linux/arm64", "linux/arm64"),
    ("linux/arm64/v8", "linux/arm64"),
    ("linux/arm64/8", "linux/arm64"),
    ("linux/arm64/v9", "linux/arm64/v9"),
    ("linux/aarch64", "linux/arm64"),
    ("linux/aarch64/v8", "linux/arm64"),
    ("linux/ppc64le", "linux/ppc64le"),
    ("linux/riscv64", "linux/riscv64"),
    ("linux/s390x", "linux/s390x"),
    ("Linux/amd64", "linux/amd64"),
    ("macos/arm64", "darwin/arm64"),
    ("windows(10.0.17763)/amd64", "windows/amd64"),
    ("unheard-of/thing", "unheard-of/thing"),
]


@pytest.mark.parametrize(("text", "normal"), SPELLINGS)
def test_every_spelling_means_one_platform(text: str, normal: str) -> None:
    assert str(parse(text)) == normal
    assert parse(str(parse(text))) == parse(normal)


def test_one_word_is_an_operating_system_or_an_architecture() -> None:
    host = host_platform()
    assert parse("linux") == parse("local") == host
    assert parse("arm64") == Platform(host.os, "arm64")
    assert parse("aarch64") == Platform(host.os, "arm64")
    assert parse("arm") == Platform(host.os, "arm", "v7")
    assert parse("windows(10.0.1)").os_version == "10.0.1"


def test_host_platform_names_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = {
        "x86_64": "linux/amd64",
        "aarch64": "linux/arm64",
        "armv7l": "linux/arm/v7",
        "armv6l": "linux/arm/v6",
        "i686": "linux/386",
        "ppc64le": "linux/ppc64le",
        "loongarch64": "linux/loong64",
        "mips64": "linux/mips64le",
    }
    monkeypatch.setattr(sys, "byteorder", "little")
    for machine, expected in machines.items():
        uname = os.uname_result(("Linux", "node", "6.1", "#1", machine))
        monkeypatch.setattr(os, "uname", lambda uname=uname: uname)
        assert str(host_platform()) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        (
            "foo/bar/x/y/z",
            '"y/z" is an invalid component of "foo/bar/x/y/z": '
            'platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument',
        ),
        ("nonsense", '"nonsense": unknown operating system or architecture: invalid argument'),
        ("linux/*", '"linux/*": wildcards not yet supported: invalid argument'),
    ],
)
def test_bad_platform_is_refused_in_containerds_words(text: str, message: str) -> None:
    with pytest.raises(InvalidPlatform) as caught:
        parse(text, prefix=f"failed to parse platform {text}: ")
    assert caught.value.message == f"failed to parse platform {text}: {message}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text", ["", "/", "linux/", "/amd64", "linux//v7", "linux/am d64", "linux/\n", "l\x1binux/amd64"]
)
def test_holes_and_control_characters_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidPlatform) as caught:
        parse(text)
    assert caught.value.message.isprintable()


def test_list_drops_repetitions() -> None:
    assert parse_list("linux/amd64, linux/aarch64,linux/x86_64") == [parse("linux/amd64"), parse("linux/arm64")]


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm64", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v7", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v5", ["linux/arm/v5"]),
        ("linux/s390x", ["linux/s390x"]),
    ],
)
def test_order_goes_from_best_to_still_running(wanted: str, order: list[str]) -> None:
    assert [str(platform) for platform in matching_order(parse(wanted))] == order


def test_best_offer_wins_whatever_its_position() -> None:
    offered = [None, parse("linux/386"), Platform("unknown", "unknown"), parse("linux/amd64"), parse("linux/amd64")]
    assert choose(parse("linux/amd64"), offered) == 3
    assert choose(parse("linux/amd64/v3"), offered) == 3
    assert choose(parse("linux/s390x"), offered) is None
    assert choose(parse("linux/arm64"), [Platform("linux", "arm", "v5"), Platform("linux", "arm", "v7")]) == 1
    assert choose(parse("linux/arm64"), [Platform("linux", "arm64", "v8")]) == 0
    assert choose(parse("linux/amd64"), []) is None


def test_os_version_must_agree_when_both_name_one() -> None:
    offered = [Platform("windows", "amd64", "", "10.0.1"), Platform("windows", "amd64", "", "10.0.2")]
    assert choose(parse("windows(10.0.2)/amd64"), offered) == 1
    assert choose(parse("windows/amd64"), offered) == 0


_words = st.sampled_from(
    ["linux", "Darwin", "arm", "ARM64", "aarch64", "amd64", "v8", "v7", "7", "8", "v1", "x", "i386"]
)


@given(st.lists(_words, min_size=2, max_size=3))
def test_normalising_twice_changes_nothing(parts: list[str]) -> None:
    once = parse("/".join(parts))
    assert normalize(once) == once
    assert parse(str(once)) == once
