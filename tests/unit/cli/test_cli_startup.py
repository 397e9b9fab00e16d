"""Starting is cheap: what must not be imported, and how much processor time the first answer may take."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import environment

HEAVY = ["httpcore", "httpx", "jsonschema", "rich", "asyncio"]
#: Milliseconds of processor time above the bare interpreter. Machines in CI are busy and slower than the ones the
#: budgets were made on, so a test fails only beyond three times the budget: it catches a heavy import, not a slow day.
BUDGETS = {"--version": 40, "version": 60, "--help": 120}
GENEROSITY = 3
RUNS = 7


def modules_of(words: list[str], home: Path) -> set[str]:
    """Return the modules that ``img`` with *words* has imported when it ends."""
    code = (
        "import sys\n"
        "from img_core.cli import main\n"
        "try: main(sys.argv[2:])\n"
        "except SystemExit: pass\n"
        "open(sys.argv[1], 'w').write(' '.join(sys.modules))\n"
    )
    report = home / "modules"
    subprocess.run(
        [sys.executable, "-c", code, str(report), *words], env=environment(home), check=True, stdout=subprocess.DEVNULL
    )
    return set(report.read_text().split())


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["ls"], ["tag", "a", "b"], ["build", "--help"]])
def test_nothing_heavy_is_imported(words: list[str], tmp_path: Path) -> None:
    modules = modules_of(words, tmp_path)
    assert [name for name in HEAVY if name in modules] == []


@pytest.mark.parametrize("word", ["--version", "version"])
def test_the_version_needs_neither_click_nor_plugins(word: str, tmp_path: Path) -> None:
    modules = modules_of([word], tmp_path)
    dear = {"click", "pluggy", "stevedore", "importlib.metadata", "sqlite3", "subprocess", "locale"}
    dear |= {"typing", "re", "dataclasses", "inspect", "json", "selectors"}
    assert dear & modules == set()


def test_ls_looks_for_no_plugins(tmp_path: Path) -> None:
    modules = modules_of(["ls"], tmp_path)
    assert {"pluggy", "stevedore", "importlib.metadata", "img_core.plugins"} & modules == set()


def test_help_imports_no_plugin(tmp_path: Path) -> None:
    finding, knowing = (modules_of(["--help"], tmp_path) for _ in range(2))
    for modules in (finding, knowing):
        assert [name for name in modules if name.startswith("img_") and not name.startswith("img_core")] == []
    # The first command after something was installed looks for plugins with these; here that is the first one of this user.
    assert {"stevedore", "importlib.metadata"} <= finding
    assert {"stevedore", "importlib.metadata"} & knowing == set()


def processor_time(command: list[str], home: Path) -> float:
    """Return the median of the processor time of *command* in milliseconds."""
    times = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment(home), check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times) * 1000


@pytest.mark.parametrize("word", BUDGETS)
def test_the_first_answer_is_quick(word: str, tmp_path: Path) -> None:
    bare = processor_time([sys.executable, "-c", "pass"], tmp_path)
    ours = processor_time([sys.executable, "-m", "img_core", word], tmp_path)
    assert ours - bare < BUDGETS[word] * GENEROSITY
