"""Configuration: where things are, and in which order drivers are tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from img_core.config import DEFAULT_ORDER, Config, default_state_directory
from img_core.spec import UsageError


def load(tmp_path: Path, **files: str) -> Config:
    """Load a configuration whose places are below *tmp_path*; *files* are the texts of ``config.toml`` by place."""
    for place, text in files.items():
        directory = tmp_path / place if place != "user" else tmp_path / "user" / "img"
        directory.mkdir(parents=True)
        (directory / "config.toml").write_text(text)
    return Config.load(
        environment={"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "user")},
        distro_directory=str(tmp_path / "distro"),
        admin_directory=str(tmp_path / "admin"),
    )


def test_without_files_everything_is_the_default(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.order == DEFAULT_ORDER
    assert config.state_directory == str(tmp_path / ".local/share/img")


def test_the_user_replaces_single_lines_of_the_order(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        distro='[order]\nexecutor = ["a"]\nsnapshotter = ["a"]\nprogress = ["a"]',
        admin='[order]\nexecutor = ["b"]\nsnapshotter = ["b"]',
        user='[order]\nexecutor = ["c", "d"]',
    )
    assert [config.order[kind] for kind in ("executor", "snapshotter", "progress")] == [("c", "d"), ("b",), ("a",)]
    assert config.order["frontend"] == DEFAULT_ORDER["frontend"]


def test_the_last_one_says_what_the_cache_may_take(tmp_path: Path) -> None:
    assert load(tmp_path).keep_storage == "10%"
    distro, admin = '[collect]\nkeep-storage = "all"', '[collect]\nkeep-storage = "20GB"\n[order]\nexecutor = ["b"]'
    config = load(tmp_path, distro=distro, admin=admin, user='[order]\nexecutor = ["c"]')
    assert (config.keep_storage, config.order["executor"]) == ("20GB", ("c",))


def test_the_last_one_says_how_long_a_tag_is_trusted(tmp_path: Path) -> None:
    assert load(tmp_path).trust_tags == 0
    config = load(tmp_path, distro="[images]\ntrust-tags = 300", admin="[images]\ntrust-tags = 0.5", user="[images]")
    assert config.trust_tags == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "=",
        "[odrer]",
        "order = 1",
        '[order]\nexecutor = "runc"',
        "[order]\nexecutor = [1]",
        '[order]\nexecutors = ["runc"]',
        '[order]\nexporter = ["tar"]',  # there is no `auto` of these
        "collect = 1",
        '[collect]\nkeep = "1GB"',
        '[collect]\nkeep-storage = "much"',
        "[collect]\nkeep-storage = []",
        "images = 1",
        "[images]\ntrust = 1",
        '[images]\ntrust-tags = "5m"',
        "[images]\ntrust-tags = -1",
        "[images]\ntrust-tags = true",
        "[images]\ntrust-tags = inf",
    ],
)
def test_a_bad_file_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"user/img/config\.toml"):
        load(tmp_path, user=text)


def test_an_unreadable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "user" / "img" / "config.toml").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot read configuration file .*user/img/config\.toml: Is a directory"):
        load(tmp_path)


def test_a_relative_state_is_relative_to_where_we_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Config.load(state="s", environment={"HOME": "/h"}).state_directory == str(tmp_path / "s")


def test_without_home_the_password_database_decides() -> None:
    import os
    import pwd

    assert default_state_directory({}) == f"{pwd.getpwuid(os.getuid()).pw_dir}/.local/share/img"
