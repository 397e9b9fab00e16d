"""The core names no plugin: what it needs to know of one is a fact on the driver's class, and defaults are words in `config.py`."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from img_core.spec.kinds import CONTRACTS, KINDS

ROOT = Path(__file__).resolve().parents[2]

#: Words of the core that are names of drivers, too, by file, each with what it means there.
OTHER_MEANINGS = {
    "api/_planned.py": {"dockerfile"},  # a field of a request
    "api/_secrets.py": {"env"},  # a word of `--secret`, whoever understands it
    "api/_transfers.py": {"archive"},  # what progress is shown of
    "linux/sandbox.py": {"tty"},  # the device
    "net/addresses.py": {"https"},  # of addresses
    "net/_library.py": {"https"},
    "net/hosts.py": {"https"},
    "net/redirects.py": {"https"},
    "net/transport.py": {"https"},
    "spec/source_op.py": {"docker-image", "local"},  # schemes of the graph, whichever plugin serves them
    "plugins/_toggles.py": {"runc-embedded"},  # a variable of the original img switches that one off
    "images/platforms.py": {"local"},  # `--platform local`
    "archives/tar/extraction.py": {"plain"},  # how an archive is unpacked
    "archives/contexts.py": {"plain"},
    "archives/directories.py": {"plain"},
    "archives/unpacking.py": {"plain"},
    "cli/_commands.py": {"image"},  # the command `img image`
    "store/fsck.py": {"image"},  # what a finding is about
    "cli/fsck.py": {"image"},
    "archives/tar/member.py": {"file"},  # what a member is
    "cli/completion/answers.py": {"file"},  # what shells complete
    "cli/build/_calls.py": {"file"},  # a key of the answer to `--check`
    "cli/lock.py": {"file"},  # the flag `--file`
}
#: Flags of the command line, which are the words of docker and of the original img: they have to choose a driver of that name.
FLAGS = {
    "cli/_progress.py": {"tty"},  # `--progress tty` is an error where there is no terminal
    "cli/bake/__init__.py": {"dockerfile"},  # what docker calls it in the files of bake
    "cli/bake/_file.py": {"dockerfile"},
    "cli/build/__init__.py": {
        "quiet",
        "plain",
        "image",
        "local",
        "tar",
        "docker",
        "file",
    },  # `-q`, `--no-console`, `--iidfile`, `--format`, `--file`
    "cli/build/_flags.py": {"oci", "docker", "file"},  # `--format`, `--file`
    "cli/build/_outputs.py": {"image", "local", "tar"},  # `-o PATH`, `-o -`, `--push`
    "cli/build/_secrets.py": {"env", "file"},  # `--secret type=file,env=…`, which docker takes for a variable
    "cli/logs.py": {"plain"},  # the form of logs
    "cli/_version.py": {"runc"},  # the runtimes whose versions it shows
}
#: The words of one frontend where they are no knowledge of it: help pages and hints for people who come from other tools.
FRONTEND_WORDS = {
    "cli/_progress.py": {"BUILDKIT_PROGRESS"},  # a variable that people have set for docker
    "cli/_suggest.py": {"Dockerfile", "dockerignore"},
    "cli/": {"Dockerfile"},
}


def _modules() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "img_core").rglob("*.py")):
        name = path.relative_to(ROOT / "img_core").as_posix()
        if not name.startswith("testing/") and name != "config.py":
            yield name, path.read_text()


def _drivers() -> set[str]:
    """Return the names of our drivers, also of those that are distributions of their own, but none that is the word for a kind."""
    found: set[str] = set()
    for path in [ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")]:
        groups = tomllib.loads(path.read_text())["project"].get("entry-points", {})
        for group, entries in groups.items():
            if group.startswith("img."):
                found |= set(entries)
    return found - set(KINDS)


def _words(text: str) -> Iterator[str]:
    """Give the string constants of a module that are neither docstrings nor in its list of names."""
    for node in ast.walk(_Silent().visit(ast.parse(text))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _code(text: str) -> str:
    """Return a module without docstrings, comments, and the name of the error."""
    return re.sub(r"\bDockerfileError\b", "", ast.unparse(_Silent().visit(ast.parse(text))))


class _Silent(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return ast.Pass() if ast.unparse(node.targets[0]) == "__all__" else self.generic_visit(node)


def test_no_driver_is_named() -> None:
    drivers = _drivers()
    assert {"userns", "overlayfs", "docker-image", "dockerfile", "fuse-overlayfs"} <= drivers
    named = {name: drivers & set(_words(text)) for name, text in _modules()}
    expected = {name: OTHER_MEANINGS.get(name, set()) | FLAGS.get(name, set()) for name in {*OTHER_MEANINGS, *FLAGS}}
    assert {name: words for name, words in named.items() if words} == expected


def test_no_words_of_a_frontend_are_known() -> None:
    found = {}
    for name, text in _modules():
        allowed = next((words for start, words in FRONTEND_WORDS.items() if name.startswith(start)), set())
        words = set(re.findall(r"\w*(?:Dockerfile|Containerfile|dockerignore|BUILDKIT_)\w*", _code(text)))
        if words - allowed:
            found[name] = words - allowed
    assert found == {}


def test_no_driver_is_in_the_core() -> None:
    """By what its classes are made from, directly or by way of each other."""
    made_from = {
        (name, node.name): {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
        for name, text in _modules()
        if not name.startswith("spec/")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    }
    drivers = {contract.rpartition(":")[2] for kind, contract in CONTRACTS.items() if kind != "command"}
    drivers |= {"TreeSource", "ImageSource"}  # the forms of sources, see img_core.spec.source
    found: set[tuple[str, str]] = set()
    while more := {place for place, bases in made_from.items() if bases & drivers} - found:
        found |= more
        drivers |= {name for _, name in more}
    # It is nobody's choice: it tells what `--offline` keeps from being asked.
    assert found == {("images/offline.py", "OfflineRegistry")}
