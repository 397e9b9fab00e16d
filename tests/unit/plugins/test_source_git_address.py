"""Addresses of git trees: forms, refusals, and what never gets through to the program."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.spec import UsageError
from img_source_git._address import Address, parse_address

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://h/r.git", Address("https://h/r.git")),
        ("https://h/r.git#main", Address("https://h/r.git", "main")),
        ("https://h/r.git#main:sub/dir", Address("https://h/r.git", "main", "sub/dir")),
        ("https://h/r.git#:sub", Address("https://h/r.git", "", "sub")),
        ("https://h/r.git#main:/a/../b/", Address("https://h/r.git", "main", "b")),
        ("https://h/r.git#main:../../etc", Address("https://h/r.git", "main", "etc")),
        ("git@h:o/r.git#v1", Address("git@h:o/r.git", "v1")),
        ("git@h:/o/r.git", Address("git@h:/o/r.git")),
        ("ssh://git@h:22/r", Address("ssh://git@h:22/r")),
        ("git+ssh://git@h/r", Address("ssh://git@h/r")),
        ("github.com/o/r", Address("https://github.com/o/r")),
        ("https://h/r.git?tag=v1", Address("https://h/r.git", "refs/tags/v1")),
        ("https://h/r.git?branch=b&subdir=s", Address("https://h/r.git", "refs/heads/b", "s")),
        ("https://h/r.git?tag=refs/tags/v1#refs/tags/v1", Address("https://h/r.git", "refs/tags/v1")),
        ("https://h/r.git?branch=refs/heads/b", Address("https://h/r.git", "refs/heads/b")),
        ("https://h/r.git?keep-git-dir&submodules=", Address("https://h/r.git", keep_git_directory=True)),
        ("https://h/r.git?keep-git-dir=true", Address("https://h/r.git", keep_git_directory=True)),
        ("https://h/r.git?submodules=0&mtime=commit", Address("https://h/r.git", submodules=False, commit_times=True)),
        (f"https://h/r.git?commit={COMMIT}", Address("https://h/r.git", COMMIT, checksum=COMMIT)),
        ("https://h/r.git?ref=v1&checksum=0123abc", Address("https://h/r.git", "v1", checksum="0123abc")),
    ],
)
def test_form(text: str, wanted: Address) -> None:
    assert parse_address(text, {}) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://h/r.git?foo=1", 'unexpected query "foo"'),
        ("https://h/r.git?ref=a&ref=a", 'query "ref" has multiple values'),
        ("https://h/r.git?subdir=", 'query "subdir" has no value'),
        ("https://h/r.git?ref=a&tag=b", "only one of ref, tag and branch"),
        ("https://h/r.git?ref=a#b", "ref conflicts"),
        ("https://h/r.git?subdir=a#b:c", "subdir conflicts"),
        ("https://h/r.git?fetch-by-commit=x", "fetch-by-commit"),
        ("https://h/r.git?checksum=xyz", "invalid commit id"),
        ("https://h/r.git?commit=0123abc&checksum=4567abc", "conflicting values"),
        ("https://h/r.git?submodules=maybe", "invalid value `maybe` of submodules"),
        ("https://h/r.git?mtime=now", "invalid value `now` of mtime"),
        ("https://h/r.git#--upload-pack=x", "not the name of a branch"),
        ("https://h/r.git#a..b", "not the name of a branch"),
        ("https://h/r.git?ref=a:refs/heads/b", "not the name of a branch"),
        ("https://h/r.git?ref=*", "not the name of a branch"),
        ("https://h/r.git#main:.git", "invalid sub-directory"),
        ("file:///etc", "not the address"),
        ("ext::sh -c x", "not the address"),
        ("/some/path", "not the address"),
        ("-oProxyCommand=x:y", "not the address"),
        ("ssh://-oProxyCommand=x/y", "not the address"),
        ("git@-oX:r", "not the address"),
        ("git@h:-x", "not the address"),
        ("https://h/a b.git", "not the address"),
    ],
)
def test_refusal(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        parse_address(text, {})


def test_checksum_of_the_instruction_must_agree_with_that_of_the_address() -> None:
    assert parse_address("https://h/r.git?checksum=0123", {"checksum": "0123abc"}).checksum == "0123abc"
    with pytest.raises(UsageError, match="expected checksum to match 0123, got 9999"):
        parse_address("https://h/r.git?checksum=0123", {"checksum": "9999"})


def test_password_is_neither_shown_nor_in_the_repr() -> None:
    address = parse_address("https://me:hunter2@h/r.git#main", {})
    assert "hunter2" not in f"{address} {address!r} {address.shown} {address.public_remote}"


@given(st.text(max_size=60), st.sampled_from(["", "https://h/r.git", "git@h:r", "ssh://h/r"]))
def test_any_text_gives_an_address_or_one_line(text: str, prefix: str) -> None:
    try:
        address = parse_address(prefix + text, {})
    except UsageError as err:
        assert "\n" not in err.message
        return
    assert not address.remote.startswith("-")
    assert not any(name.startswith("-") or ":" in name or "*" in name for name in address.candidates())
    assert ".." not in address.subdir.split("/")
    assert not address.subdir.startswith("/")
