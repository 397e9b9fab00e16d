"""Which addresses are git repositories, and which are files of the web."""

import pytest

from img_core.net.git_urls import is_git


@pytest.mark.parametrize(
    ("address", "git"),
    [
        ("https://h/foo.git", True),
        ("https://h/foo.git#release/1.2", True),
        ("https://u:p@h/foo.git?tag=v1", True),
        ("git://h/foo", True),
        ("ssh://git@h:22/foo", True),
        ("git@h:foo/bar", True),
        ("https://h/", False),
        ("https://h/foo", False),
        ("https://h/foo.git/", False),
        ("https://h/foo.git.bar", False),
        ("http://h/foo.git:#branch", False),
        ("https://h/x?y=foo.git", False),
        ("h/foo.git", False),
        ("./.git", False),
        (".git", False),
    ],
)
def test_address(address: str, git: bool) -> None:
    assert is_git(address) is git
