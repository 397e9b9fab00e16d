"""The wheel, installed alone: complete, and every plugin of it can go without taking others along."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging_support import ROOT, Environment

from img_core import __version__
from img_core.cli._commands import COMMANDS


def entry_points() -> dict[str, dict[str, str]]:
    points: dict[str, dict[str, str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    return points


def packages() -> list[str]:
    return sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name.startswith("img_"))


def plugin_packages() -> list[str]:
    return [name for name in packages() if not name.startswith("img_lib_")]


def test_the_wheel_has_the_core_and_every_plugin_package_at_its_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    information = {f"img_builder-{__version__}.{kind}" for kind in ("dist-info", "data")}
    assert tops == {"img_core", *information, *packages()}
    assert "img_core/py.typed" in names
    assert "img_core/images/schemas/manifest.json" in names
    assert any(name.endswith(".bpf") for name in names)
    code = [name for name in names if not name.endswith(".in")]  # what `img plugins new` writes is text until then
    assert not any("/tests/" in name or name.endswith(".pyc") for name in code)


def test_every_plugin_package_is_announced_and_every_announcement_has_a_package() -> None:
    announced = {value.split(".")[0] for points in entry_points().values() for value in points.values()}
    assert announced == set(plugin_packages())


def test_img_runs_from_the_wheel_alone(installed: Environment) -> None:
    assert installed.img("--version").stdout == f"img version {__version__}, build release\n"
    assert installed.img("version").returncode == 0
    statuses = installed.statuses()
    wanted = {f"{group_kind(group)}:{name}" for group, points in entry_points().items() for name in points}
    assert set(statuses) == wanted
    assert set(statuses.values()) == {"ok"}


def group_kind(group: str) -> str:
    from img_core.plugins import GROUPS

    return {value: kind for kind, value in GROUPS.items()}[group]


def test_manual_pages_and_completions_are_installed(installed: Environment) -> None:
    share = installed.path / "share"
    pages = {page.name for page in (share / "man/man1").iterdir()}
    assert pages >= {"img.1", *(f"img-{name}.1" for name in COMMANDS)}
    for shell, place in (("bash", "bash-completion/completions/img"), ("zsh", "zsh/site-functions/_img")):
        assert (share / place).read_text() == installed.img("completion", shell).stdout
    lint = shutil.which("mandoc")
    if lint is None:
        pytest.skip("this host lacks `mandoc`")
    found = [str(page) for page in (share / "man/man1").iterdir()]
    done = subprocess.run([lint, "-T", "lint", "-W", "error", *found], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_each_plugin_can_be_removed_and_the_others_go_on(installed: Environment) -> None:
    aside = installed.home / "aside"
    for package in plugin_packages():
        shutil.move(installed.site_packages / package, aside)
        statuses = installed.statuses()
        gone = {
            f"{group_kind(group)}:{name}"
            for group, points in entry_points().items()
            for name, value in points.items()
            if value.split(".")[0] == package
        }
        assert {name for name, status in statuses.items() if status != "ok"} == gone
        assert installed.img("ls").returncode == 0
        shutil.move(aside, installed.site_packages / package)


def test_a_removed_plugin_is_named_with_its_distribution(installed: Environment) -> None:
    shutil.rmtree(installed.site_packages / "img_exporter_tar")
    row = next(line for line in installed.img("plugins", "ls").stdout.splitlines() if "\ttar" in line)
    assert f"plugin exporter:tar of img-builder {__version__} cannot be imported" in row
    assert "No module named 'img_exporter_tar'" in row


def test_uninstalling_leaves_nothing(installed: Environment) -> None:
    installed.pip("uninstall", "--yes", "img-builder")
    assert [path.name for path in installed.site_packages.iterdir() if path.name.startswith("img_")] == []
    assert not (installed.path / "bin" / "img").exists()
