"""Users and groups as an image's files give them (docs/reference/dockerfile-cases.md, CP8 to CP10, WU7 to WU12)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.files import passwd
from img_core.files.passwd import RunUser, resolve_owner, resolve_run_user
from img_core.spec.errors import ImgError, NotFoundError

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment:x:9:9::/:
broken line
negative:x:-1:5::/:
huge:x:99999999999:5::/:
nolast:x:4294967295:5::/:
app:x:1000:1001:App:/home/app:/bin/sh
twin:x:1000:1:second name:/other:/bin/sh
short:x:7:8:::
ids:x:9:10
noids:x:9
"""
GROUP = """root:x:0:
g2:x:99:
app:x:1001:app
extra:x:50:app,other
also:x:40:app
nomembers:x:60
"""


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_lines_that_make_no_sense_are_passed_over(image: int) -> None:
    assert [user.name for user in passwd.read_users(image)] == ["root", "app", "twin", "short", "ids"]
    assert [group.gid for group in passwd.read_groups(image)] == [0, 99, 1001, 50, 40, 60]


def test_an_image_without_files_has_no_users(empty: int) -> None:
    assert passwd.read_users(empty) == passwd.read_users(None) == ()
    assert passwd.read_groups(empty) == ()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", (0, 0)),
        ("5", (5, 5)),
        ("5:6", (5, 6)),
        ("app", (1000, 1001)),
        ("app:g2", (1000, 99)),
        (":g2", (0, 99)),
        ("app:", (1000, 0)),
        (":", (0, 0)),
        ("1000", (1000, 1000)),
    ],
)
def test_owner_texts(image: int, text: str, ids: tuple[int, int]) -> None:
    assert resolve_owner(image, text) == ids


def test_numbers_need_no_files(empty: int) -> None:
    assert resolve_owner(empty, "12:34") == resolve_owner(None, "12:34") == (12, 34)


def test_an_unknown_user_is_named_with_a_near_one(image: int) -> None:
    with pytest.raises(
        NotFoundError, match=r"^unable to find user appp: no matching entries in passwd file$"
    ) as caught:
        resolve_owner(image, "appp")
    assert caught.value.hint == "did you mean `app`?"


def test_an_unknown_group_is_named(empty: int) -> None:
    with pytest.raises(
        NotFoundError, match=r"^unable to find group nosuch: no matching entries in group file$"
    ) as caught:
        resolve_owner(empty, "0:nosuch")
    assert caught.value.hint == "numeric ids need no `/etc/group`"


@pytest.mark.parametrize("text", ["4294967295", "99999999999", "0:4294967295"])
def test_ids_that_no_file_can_have_are_refused(empty: int, text: str) -> None:
    with pytest.raises(ImgError, match="id out of range"):
        resolve_owner(empty, text)


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", RunUser(0, 0, (0,), "/root")),
        ("app", RunUser(1000, 1001, (1001, 40, 50), "/home/app")),
        ("1000", RunUser(1000, 1001, (1001, 40, 50), "/home/app")),
        ("1234", RunUser(1234, 0, (0,), "/")),
        ("app:g2", RunUser(1000, 99, (99,), "/home/app")),
        ("1234:5", RunUser(1234, 5, (5,), "/")),
        (":5", RunUser(0, 5, (5,), "/root")),
    ],
)
def test_who_a_step_runs_as(image: int, text: str, user: RunUser) -> None:
    assert resolve_run_user(image, text) == user


def test_a_step_without_files_runs_as_root_at_home_nowhere(empty: int) -> None:
    assert resolve_run_user(empty, "") == RunUser(0, 0, (0,), "/")


def test_a_link_out_of_the_image_is_not_followed(tmp_path: Path, empty: int) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/etc/passwd")
    assert passwd.read_users(empty) == ()


def test_a_fifo_does_not_make_us_wait(tmp_path: Path, empty: int) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    with pytest.raises(ImgError, match="not a regular file: `etc/passwd`"):
        resolve_owner(empty, "app")


def test_a_huge_file_is_refused(tmp_path: Path, empty: int) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("")
    os.truncate(tmp_path / "etc/group", 1 << 30)
    with pytest.raises(ImgError, match="larger than"):
        passwd.read_groups(empty)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_passwd_file(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        os.mkdir(directory + "/etc")
        Path(directory, "etc/passwd").write_bytes(content)
        fd = os.open(directory, os.O_PATH)
        try:
            for user in passwd.read_users(fd):
                assert 0 <= user.uid < 2**32 - 1
        finally:
            os.close(fd)
