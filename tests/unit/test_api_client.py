"""The client of the Python API as its page says it is, and as a type checker sees it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import img_core.api
from img_core.api import AsyncClient, Client

ROOT = Path(img_core.api.__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/reference/python-api.md"]
#: What only a client in this process has.
IN_PROCESS = {
    "archive_exporter",
    "close",
    "config",
    "debug",
    "definition_name",
    "enter",
    "expect_work",
    "host",
    "located",
    "plugins",
}


def methods(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory in which mypy keeps what it has read of img."""
    return tmp_path_factory.mktemp("mypy")


def mypy(program: str, directory: Path, cache: Path) -> list[str]:
    """Return the lines with errors that ``mypy --strict`` finds in *program*, as numbers, and its whole output if there is a failure."""
    path = directory / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), str(path)],
        capture_output=True, text=True, cwd=directory, env={"MYPYPATH": f"{ROOT}:{ROOT / 'plugins'}"}, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [f"{line.split(':')[1]}:{line}" for line in done.stdout.splitlines() if ": error: " in line]


def test_every_name_of_the_interface_is_there() -> None:
    assert [name for name in img_core.api.__all__ if not hasattr(img_core.api, name)] == []
    homes = {name for names in img_core.api._HOMES.values() for name in names.split()}
    assert homes | {"build"} == set(img_core.api.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        img_core.api.nothing  # noqa: B018


def test_the_form_for_event_loops_has_every_method() -> None:
    assert methods(AsyncClient) == methods(Client) - IN_PROCESS


def test_the_page_names_every_method_and_no_other() -> None:
    page = PAGES[1].read_text()
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(\w+)\(", table)) == methods(Client) - IN_PROCESS


def test_arguments_that_the_page_names_exist() -> None:
    table = [line for line in PAGES[1].read_text().splitlines() if line.startswith("| `")]
    for name, words in re.findall(r"`(\w+)\(([^)`]*)\)`", "\n".join(table)):
        known = {*inspect.signature(getattr(Client, name)).parameters, "…", ""}
        assert {word.strip(" *").partition("=")[0] for word in words.split(",")} <= known, name


def inherited(name: str) -> object:
    """Return a method of the client as the class has it that defines it."""
    return next(vars(kind)[name] for kind in Client.__mro__[1:] if name in vars(kind))


def test_every_long_call_can_be_stopped_and_every_method_is_annotated() -> None:
    long = set()
    for name in sorted(methods(Client) - IN_PROCESS):
        function = getattr(Client, name)
        parameters = inspect.signature(function).parameters
        assert all(each.annotation is not each.empty for key, each in parameters.items() if key != "self"), name
        assert (function.__doc__ or "").strip(), name
        if hasattr(inherited(name), "__wrapped__"):  # it is done in a process of its own
            long.add(name)
        if name in long or name in ("build", "check", "outline", "targets"):
            assert "cancel" in parameters, name
    assert {"pull", "push", "login", "save", "load", "import_rootfs", "unpack", "usage", "fsck", "prune"} <= long


def test_the_programs_of_the_pages_are_right(tmp_path: Path, cache: Path) -> None:
    programs = [text for page in PAGES for text in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    assert len(programs) >= 4
    for number, program in enumerate(programs):
        typed = re.sub(r"async def main\(\):", "async def main() -> None:", program)
        directory = tmp_path / str(number)
        directory.mkdir()
        assert mypy(typed, directory, cache) == [], program


WRONG = [
    "client.build('.', tag='a')",
    "client.build('.', no_cache='yes')",
    "client.build_many(['.'], tags='a')",
    "client.build_many(['.'], no_cache='yes')",
    "client.build_many('.')[0].nothing",
    "client.check('.', platforms=1)",
    "client.pull('a', platform='linux/amd64')",
    "client.push('a', insecure='yes')",
    "client.save('a', 'x.tar', format=1)",
    "client.prune(images='some')",
    "client.prune(matching=lambda piece: piece.nothing)",
    "client.login('h', user='a')",
    "client.images()[0].digest = ''",
    "len(client.usage()[0])",
    "await later.build('.', tag='a')",
    "await later.pull('a', platform='linux/amd64')",
    "(await later.inspect('a')).nothing",
    "(await later.build('.')).nothing",
]
RIGHT = """\
from img_core.api import AsyncClient, CancelHandle, Client, build

client, later, handle = Client(state="x", no_plugins="executor:runc"), AsyncClient(), CancelHandle()

async def main() -> None:
    build(".", tags="a", cancel=handle)
    client.build(".", tags=["a"], platforms="linux/amd64", definition="FROM scratch", no_cache=True, cancel=handle)
    client.prune(images="all", matching=lambda piece: piece.size > 1000)
    text: str = (await later.build(".", tags="a", no_cache=True, on_event=print, cancel=handle)).digest
    text = client.build_many([{"context": ".", "tags": "a"}, "b"], engine="dask", on_event=print, cancel=handle)[0].digest
    text = (await later.build_many(["a", "b"], no_cache=True))[1].build
    text = (await later.images(labels=True))[0].labels[text]
    text = (await later.inspect("a", platform="linux/arm64")).history[0].created_by
"""


def test_a_strict_type_checker_finds_wrong_arguments(tmp_path: Path, cache: Path) -> None:
    first = RIGHT.count("\n") + 1
    program = RIGHT + "".join(f"    {line}\n" for line in WRONG)
    found = [int(error.partition(":")[0]) for error in mypy(program, tmp_path, cache)]
    assert sorted(set(found)) == list(range(first, first + len(WRONG))), found
