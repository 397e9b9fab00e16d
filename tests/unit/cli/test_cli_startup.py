"""Starting is cheap: what must not be imported, and how much processor time the first answer may take."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import environment, img

from img_core.testing.images import make_image, write_layout

HEAVY = ["httpcore", "httpx", "jsonschema", "rich", "asyncio"]
#: Milliseconds of processor time above the bare interpreter. Machines in CI are busy and slower than the ones the
#: budgets were made on, so a test fails only beyond three times the budget: it catches a heavy import, not a slow day.
BUDGETS = {"--version": 40, "version": 60, "--help": 120}
GENEROSITY = 3
RUNS = 7


def modules_of(words: list[str], home: Path, **changes: str) -> set[str]:
    """Return the modules that ``img`` with *words* has imported when it ends; *changes* are environment variables."""
    code = (
        "import sys\n"
        "from img_core.cli import main\n"
        "try: main(sys.argv[2:])\n"
        "except SystemExit: pass\n"
        "open(sys.argv[1], 'w').write(' '.join(sys.modules))\n"
    )
    report = home / "modules"
    subprocess.run(
        [sys.executable, "-c", code, str(report), *words],
        env=environment(home, **changes),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
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


#: What a transfer has no use for, though a library below it would bring it along.
_NOT_FOR_TRANSFERS = {
    "httpx", "email", "http.client", "http.cookiejar", "urllib.request", "trio", "anyio", "certifi", "h2", "asyncio", "rich", "jsonschema",
    "stevedore", "importlib.metadata", "concurrent.futures", "subprocess", "ctypes", "encodings.idna", "stringprep",
    "linecache", "tokenize", "ast", "dis", "gettext", "locale", "ipaddress",
    "logging", "uuid", "platform", "httpcore._async", "img_core.solver.solver", "img_core.archives.tar.reader",
}  # fmt: skip
_CLOSED = "127.0.0.1:1"  #: nobody listens there, so that a transfer ends when everything it needs is imported


@pytest.mark.parametrize(
    ("words", "ours", "not_for_it"),
    [
        (["pull", f"{_CLOSED}/app:1"], 140, {"click", "img_core.spec.graph"}),
        (["push", "app", f"{_CLOSED}/app:1"], 135, {"click", "img_core.spec.graph", "img_core.spec.source"}),
        (["login", "-u", "joe", "-p", "pw", _CLOSED], 110, {"sqlite3", "img_core.store"}),
    ],
    ids=["pull", "push", "login"],
)
def test_a_transfer_imports_little(words: list[str], ours: int, not_for_it: set[str], tmp_path: Path) -> None:
    """The number bounds our own modules, which cost a quarter of a millisecond each."""
    if words[0] == "push":
        write_layout(tmp_path / "layout", {"1": make_image([{"f": b"x"}])})
        subprocess.run(["tar", "-C", str(tmp_path / "layout"), "-cf", str(tmp_path / "layout.tar"), "."], check=True)
        assert img(tmp_path, "load", "-i", "layout.tar", "-t", "app").returncode == 0
    modules_of(words, tmp_path)  # by now the index of plugins is there
    modules = modules_of(words, tmp_path)
    assert "httpcore" in modules, "it came as far as to send a request"
    assert (_NOT_FOR_TRANSFERS | not_for_it) & modules == set()
    assert len([name for name in modules if name.startswith("img_")]) <= ours


def test_fifty_more_plugins_are_not_imported_and_need_no_metadata(tmp_path: Path) -> None:
    for number in range(50):
        info = tmp_path / f"site/demo{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: demo{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[img.exporters]\ndemo{number} = demo{number}\n")
        (tmp_path / f"site/demo{number}.py").write_text("raise SystemExit('imported')\n")
    path = os.pathsep.join([environment(tmp_path)["PYTHONPATH"], str(tmp_path / "site")])
    words = ["pull", f"{_CLOSED}/app:1"]
    alone, finding, knowing = (
        modules_of(words, tmp_path),
        modules_of(words, tmp_path, PYTHONPATH=path),
        modules_of(words, tmp_path, PYTHONPATH=path),
    )
    assert "importlib.metadata" in finding
    assert {name for name in knowing if name.startswith("demo")} == set()
    assert knowing <= modules_of(words, tmp_path) <= alone


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
