"""What holds in all rooms of the house: one name for one thing, and no module that says next to nothing."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from harness.repository import ROOT

#: Distributions of their own (``plugins/img-…``) have names of their own; the contracts of the test kit are named after what they test.
MODULES = [
    path
    for folder in (ROOT / "img_core", *sorted(ROOT.glob("plugins/img_*")))
    for path in sorted(folder.rglob("*.py"))
    if "testing" not in path.relative_to(ROOT).parts
]
#: Two public interfaces each have their own, and users of one do not meet the other: what a frontend plans, and what an image has.
TWICE = {"HistoryEntry"}
#: Short modules, and why they are modules.
SHORT = {
    "img_core/linux/boot.py": "knows nothing of user namespaces, zygote or mounts, beside which it would be imported",
    "img_core/spec/toml.py": "what it had is in the library of forms; plugins written for 0.1.0 still find it here",
    "img_core/spec/words.py": "what it had is in the library of forms; plugins written for 0.1.0 still find it here",
    "plugins/img_exporter_docker/_docker.py": "imported only when the exporter is used; plugin.py names it",
    "plugins/img_exporter_oci/_oci.py": "imported only when the exporter is used; plugin.py names it",
}


def public_classes(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    listed: set[str] = set()
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List() as value):
                listed = set(ast.literal_eval(value))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name in listed]


def test_no_two_public_classes_have_one_name() -> None:
    homes = defaultdict(list)
    for path in MODULES:
        for name in public_classes(path):
            homes[name].append(str(path.relative_to(ROOT)))
    assert len(homes) > 200
    assert {name: places for name, places in homes.items() if len(places) > 1 and name not in TWICE} == {}


def test_a_short_module_has_a_reason() -> None:
    entry_points = set(re.findall(r'^\w[\w-]* = "([\w.]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    short = []
    for path in MODULES:
        relative = str(path.relative_to(ROOT))
        module = relative.removeprefix("plugins/").removesuffix(".py").replace("/", ".")
        is_command = path.parent.name == "cli" and not path.name.startswith("_")
        if path.name in ("__init__.py", "__main__.py") or module in entry_points or is_command:
            continue
        if len(path.read_text().splitlines()) < 15 and relative not in SHORT:
            short.append(relative)
    assert short == []
    assert [relative for relative in SHORT if not (ROOT / relative).is_file()] == []


@pytest.mark.parametrize(
    ("pattern", "home"),
    [
        pytest.param(r'["\']1["\'], ["\'](?:t|true)["\']', "img_core/forms/words.py", id="truth"),
        pytest.param(r"\[kmgt?p?\]", "img_core/forms/words.py", id="sizes"),
        pytest.param(r"\b(?:import csv|from csv)\b|\bbare \" in non-quoted", "img_core/forms/words.py", id="records"),
        pytest.param(r"\bimport tomllib\b", "img_core/forms/toml.py", id="configuration-files"),
        pytest.param(r"rwxXst", "img_core/files/modes.py", id="modes"),
        pytest.param(r'encode\("unicode_escape"', "img_core/spec/text.py", id="escapes"),
        pytest.param(r"\(err\.strerror or str\(err\)\)\.lower", "img_core/spec/text.py", id="reasons"),
    ],
)
def test_a_small_rule_is_written_once(pattern: str, home: str) -> None:
    found = [str(path.relative_to(ROOT)) for path in MODULES if re.search(pattern, path.read_text())]
    assert found == [home]


def test_where_one_more_of_a_kind_goes_is_one_place_that_exists() -> None:
    _, _, table = (ROOT / "CONTRIBUTING.md").read_text().partition("| One more |")
    rows = [line.split("|")[1:4] for line in table.partition("\n\n")[0].splitlines()[2:]]
    assert len(rows) >= 10
    for name, place, more in rows:
        homes = [path for path in re.findall(r"`([\w./]+)`", place) if "/" in path]
        assert len(homes) == 1, name
        others = [path for path in re.findall(r"`([\w./]+)`", more) if "/" in path]
        assert [path for path in homes + others if not (ROOT / path).exists()] == []


def test_the_files_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:img_core|plugins|contrib|docs|tests)/[\w./]+)`", text))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
