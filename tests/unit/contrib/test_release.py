"""A release moves the fragments into the changelog; files of editors and hosts are well-formed."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml  # type: ignore[import-untyped]

from harness.repository import ROOT

HEAD = "# Changelog\n\nFragments of the next release are in `changelog.d/`.\n"


@pytest.fixture(scope="module")
def changelog() -> ModuleType:
    spec = importlib.util.spec_from_file_location("changelog", ROOT / "contrib/release/changelog.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "CHANGELOG.md").write_text(HEAD + "\n## 0.1.0 (2026-01-02)\n\n- Old.\n")
    (tmp_path / "changelog.d/b.md").write_text("Second\nline.\n")
    (tmp_path / "changelog.d/a.md").write_text("- First.\n- Third.\n")
    return tmp_path


def test_fragments_become_a_section_and_go(changelog: ModuleType, repository: Path) -> None:
    assert changelog.main(["0.2.0", "--date", "2026-02-03"], repository) is None
    text = (repository / "CHANGELOG.md").read_text()
    assert text == HEAD + (
        "\n## 0.2.0 (2026-02-03)\n\n- First.\n- Third.\n- Second\n  line.\n\n## 0.1.0 (2026-01-02)\n\n- Old.\n"
    )
    assert list((repository / "changelog.d").iterdir()) == []


@pytest.mark.parametrize(
    ("version", "fragment", "message"),
    [
        ("0.1.0", "Fine.", "has a section 0.1.0 already"),
        ("new", "Fine.", "is no version"),
        ("0.2.0", "", "c.md is empty"),
        ("0.2.0", "# Heading", "starts with a heading"),
        ("0.2.0", "half a sent", "does not end with a full stop"),
    ],
)
def test_what_cannot_be_released_changes_nothing(
    changelog: ModuleType, repository: Path, version: str, fragment: str, message: str
) -> None:
    (repository / "changelog.d/c.md").write_text(fragment)
    before = {path: path.read_text() for path in repository.rglob("*.md")}
    assert message in str(changelog.main([version], repository))
    assert {path: path.read_text() for path in repository.rglob("*.md")} == before


def test_no_fragments_no_release(changelog: ModuleType, repository: Path) -> None:
    for path in (repository / "changelog.d").iterdir():
        path.unlink()
    assert changelog.main(["0.2.0"], repository) == "there are no fragments in changelog.d"


def test_the_fragments_of_this_repository_are_well_formed(changelog: ModuleType) -> None:
    assert changelog.main(["--check"]) is None


def test_hooks_are_local_and_name_what_is_there() -> None:
    document = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in document["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in document["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    scripts = [word for hook in hooks for word in hook["entry"].split() if word.endswith(".py")]
    assert [word for word in scripts if not (ROOT / word).is_file()] == []


def test_the_container_to_work_in_has_what_the_tests_need() -> None:
    json.loads((ROOT / "contrib/devcontainer/devcontainer.json").read_text())
    listed = re.search(r'^PACKAGES="(.*?)"', (ROOT / ".ci/run").read_text(), re.MULTILINE | re.DOTALL)
    assert listed is not None
    installed = set((ROOT / "contrib/devcontainer/Containerfile").read_text().split())
    assert set(listed[1].split()) - installed == set()
