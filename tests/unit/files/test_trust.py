"""Whose state directory is believed."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

import pytest

from img_core.files import trust
from img_core.spec.errors import StateError

US = os.geteuid()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory


@pytest.mark.parametrize(
    ("mode", "trusted"), [(0o700, True), (0o755, True), (0o555, True), (0o702, False), (0o777, False), (0o1777, False)]
)
def test_others_may_not_write(state: Path, mode: int, trusted: bool) -> None:
    state.chmod(mode)
    try:
        trust.check_trusted(str(state), {})
    except StateError as err:
        assert not trusted
        assert err.message == f"others may write to state directory `{state}`"
        assert f"`chmod go-w {state}`" in (err.hint or "")
    else:
        assert trusted


@pytest.mark.parametrize(
    ("group", "members", "trusted"),
    [("me", [], True), ("me", ["me"], True), ("me", ["me", "you"], False), ("staff", [], False), ("", [], False)],
)
def test_a_group_may_write_if_it_is_the_users_own(
    state: Path, monkeypatch: pytest.MonkeyPatch, group: str, members: list[str], trusted: bool
) -> None:
    user = pwd.struct_passwd(("me", "x", US, state.stat().st_gid, "", "/", "/bin/sh"))
    groups = {state.stat().st_gid: grp.struct_group((group, "x", state.stat().st_gid, members))} if group else {}
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: user)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: groups[gid])
    state.chmod(0o770)
    if trusted:
        trust.check_trusted(str(state), {})
    else:
        with pytest.raises(StateError, match="others may write"):
            trust.check_trusted(str(state), {})


@pytest.mark.parametrize(
    ("owner", "we", "sudo_uid", "host", "trusted"),
    [
        (1000, 1000, "", True, True),
        (0, 1000, "", True, True),
        (0, 0, "", True, True),
        (1001, 1000, "", True, False),
        (1001, 1000, "1001", True, False),
        (1001, 1000, "", False, False),
        (1000, 0, "", True, False),
        (1000, 0, "1000", True, True),
        (1000, 0, "1001", True, False),
        (1000, 0, "", False, True),
        (65534, 0, "", False, False),
        (65534, 1000, "", True, False),
    ],
)
def test_no_other_user_owns_it(
    state: Path, monkeypatch: pytest.MonkeyPatch, owner: int, we: int, sudo_uid: str, host: bool, trusted: bool
) -> None:
    found = os.stat_result((stat.S_IFDIR | 0o755, 1, 1, 2, owner, owner, 0, 0, 0, 0))
    monkeypatch.setattr(os, "geteuid", lambda: we)
    monkeypatch.setattr(trust, "_maps_all_ids", lambda: host)
    monkeypatch.setattr(os, "stat", lambda _path: found)
    environment = {"SUDO_UID": sudo_uid} if sudo_uid else {}
    if trusted:
        trust.check_trusted(str(state), environment)
    else:
        with pytest.raises(StateError, match="belongs to another user"):
            trust.check_trusted(str(state), environment)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    trust.check_trusted(str(tmp_path / "not-yet"), {})
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "file": "is not a directory",
        "pipe": "is not a directory",
        "link": "is a link that leads nowhere",
        "loop": "too many levels",
        "file/below": "not a directory",
    }.items():
        with pytest.raises(StateError, match=words):
            trust.check_trusted(str(tmp_path / name), {})
