"""The file with compiled modules: never stale, whatever happens to sources, directories, the interpreter or the file itself."""

from __future__ import annotations

import json
import marshal
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import ROOT, environment

from img_core.cli import _bundle, _bundling

#: What a program looks like: it takes modules from the bundle, imports some and tells where they came from. What was written a moment ago
#: is not believed, so its clock is *ahead*.
PROGRAM = """
import json, os, sys, time
site, ahead, *names = sys.argv[1:]
now = time.time_ns
time.time_ns = lambda: now() + int(ahead) * 10**9
sys.path.insert(0, site)
sys.path.insert(0, site + "/first")
exec(os.environ.get("BEFORE", ""))
from img_core.cli import _bundle
_bundle._FEW = 0
_bundle.use()
import importlib
told = {}
for name in names:
    try:
        module = importlib.import_module(name)
    except ImportError as err:
        told[name] = [type(err).__name__, None]
    else:
        told[name] = [module.VALUE, type(module.__spec__.loader).__name__]
exec(os.environ.get("AFTER", ""))
print(json.dumps(told))
"""
NAMES = ["top", "pack", "pack.part", "pack.deep.leaf", "spread.inner"]
OURS = [
    "__init__",
    "cli/__init__",
    "cli/_bundle",
    "cli/_bundling",
    "cli/_compiled",
    "files/__init__",
    "files/fingerprint",
    "files/places",
]
BUNDLED, PLAIN = "BundledLoader", "SourceFileLoader"
FIRST = {"top": 1, "pack": 2, "pack.part": 3, "pack.deep.leaf": 4, "spread.inner": 5}


class Place:
    """A directory of modules, a home, and programs that use both."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "site"
        for name in OURS:
            self.file(f"img_core/{name}.py").write_bytes((ROOT / f"img_core/{name}.py").read_bytes())
        for name, path in zip(
            FIRST, ["top", "pack/__init__", "pack/part", "pack/deep/leaf", "spread/inner"], strict=True
        ):
            self.write(path, FIRST[name])
        self.write("pack/deep/__init__", 0)
        (self.site / "first").mkdir()
        (self.site / "pack/data.txt").write_text("data")

    def file(self, name: str) -> Path:
        path = self.site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, value: int, *, seconds: int = 100) -> None:
        """Write the module *name*, all of one size, *seconds* after some day."""
        path = self.file(f"{name}.py")
        path.write_text(f"VALUE = {value}\ndef function():\n    raise KeyError({value})\n")
        os.utime(path, (1_700_000_000 + seconds,) * 2)

    def run(self, *flags: str, ahead: int = 10, **variables: Any) -> dict[str, Any]:
        """Run the program with *variables*, which are texts; return what it told: of each module its value and its loader."""
        command = [sys.executable, "-I", "-S", *flags, "-c", PROGRAM, str(self.site), str(ahead), *NAMES]
        surroundings = {"HOME": str(self.root), "PATH": os.environ["PATH"], **variables}
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def bundle(self) -> Path:
        """Return the file that there is."""
        (found,) = (self.root / ".cache/img/modules").iterdir()
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def loaders(told: dict[str, Any]) -> dict[str, str]:
    return {name: loader for name, (_value, loader) in told.items()}


def values(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, (value, _loader) in told.items()}


ALL_PLAIN = dict.fromkeys(NAMES, PLAIN)
#: Packages without `__init__` may be spread over several directories: they stay with Python.
ALL_BUNDLED = {**dict.fromkeys(NAMES, BUNDLED), "spread.inner": PLAIN}


def test_modules_come_from_the_file_from_the_second_time_on(place: Place) -> None:
    assert loaders(place.run()) == ALL_PLAIN
    told = place.run()
    assert (loaders(told), values(told)) == (ALL_BUNDLED, FIRST)
    assert place.bundle().stat().st_mode & 0o777 == 0o600


def _touch(place: Place) -> None:
    os.utime(place.site / "top.py")


def _edit(place: Place) -> None:
    place.write("pack/part", 7, seconds=200)  # its size stays


def _set_back(place: Place) -> None:
    """Another file in its place, of the same size and time: Python's own compiled file cannot tell, but we leave it to Python."""
    path = place.site / "top.py"
    times = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(times, times))


def _upgrade(place: Place) -> None:
    shutil.rmtree(place.site / "pack")
    place.write("pack/__init__", 22, seconds=300)
    place.write("pack/part", 33, seconds=300)


def _remove(place: Place) -> None:
    (place.site / "pack/part.py").unlink()


def _shadow(place: Place) -> None:
    place.write("first/top", 11)


def _shadow_by_a_package(place: Place) -> None:
    place.write("pack/part/__init__", 34)


def _add(place: Place) -> None:
    place.write("other", 9)


#: What changes: what to do, the modules that do not come from the file then (all: a directory changed), and what they are now.
CHANGES: dict[str, tuple[Callable[[Place], None], set[str], dict[str, Any]]] = {
    "nothing": (lambda _place: None, set(), {}),
    "source touched": (_touch, {"top"}, {}),
    "edit of the same size": (_edit, {"pack.part"}, {"pack.part": 7}),
    "same size and time": (_set_back, {"top"}, {}),
    "upgraded": (_upgrade, set(NAMES), {"pack": 22, "pack.part": 33, "pack.deep.leaf": "ModuleNotFoundError"}),
    "removed": (_remove, set(NAMES), {"pack.part": "ModuleNotFoundError"}),
    "shadowed by an earlier directory": (_shadow, set(NAMES), {"top": 11}),
    "shadowed by a package": (_shadow_by_a_package, set(NAMES), {"pack.part": 34}),
    "another one installed": (_add, set(NAMES), {}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_is_seen_at_once(case: str, place: Place) -> None:
    change, not_from_it, now = CHANGES[case]
    place.run()
    change(place)
    told = place.run()
    assert values(told) == {**FIRST, **now}
    expected = {name: PLAIN if name in not_from_it else ALL_BUNDLED[name] for name in NAMES}
    assert loaders(told) == {name: None if isinstance(values(told)[name], str) else expected[name] for name in NAMES}
    again = place.run()
    assert values(again) == values(told)
    assert {name for name, loader in loaders(again).items() if loader == PLAIN} == {"spread.inner"}, "it was made again"


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _other_index(content: bytes) -> bytes:
    """Put something else in the place of the index, which a lost write could do, too."""
    size = int.from_bytes(content[len(_bundle.HEAD) + _bundle.SIZES :][: _bundle.SIZES], "little")
    made_for, *_ = marshal.loads(content[-size:])
    return content[:-size] + marshal.dumps((made_for, 1, 2)).ljust(size, b"\0")


#: What may happen to the file. Where its code is damaged only, modules still are of it, but from their own files.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _content: b"",
    "cut": _cut,
    "another version": lambda content: content.replace(b"modules 2", b"modules 0", 1),
    "index cut": lambda content: content[:-20] + bytes(20),
    "index lost": _other_index,
    "code lost in a crash": lambda content: content[:40] + bytes(len(content) // 4) + content[40 + len(content) // 4 :],
    "no bundle at all": lambda _content: b"\xff" * 5000,
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_file_is_no_harm(case: str, place: Place) -> None:
    place.run()
    place.bundle().write_bytes(DAMAGES[case](place.bundle().read_bytes()))
    assert values(place.run()) == FIRST
    assert values(place.run()) == FIRST


def _by_others(file: Path) -> None:
    file.chmod(0o620)


def _a_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def _a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def _where_others_write(file: Path) -> None:
    file.parent.chmod(0o770)


@pytest.mark.parametrize("make", [_by_others, _a_link, _a_pipe, _where_others_write])
def test_a_file_that_others_may_have_made_is_not_read(make: Callable[[Path], None], place: Place) -> None:
    place.run()
    assert loaders(place.run("-B")) == ALL_BUNDLED
    make(place.bundle())
    assert loaders(place.run("-B")) == ALL_PLAIN


def test_a_file_of_another_user_is_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.run()
    monkeypatch.setattr(_bundle, "identity", lambda: "")  # ours is another one
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    bundle = _bundle.Bundle(str(place.bundle()))
    bundle.load()
    assert bundle.rows == {}


@pytest.mark.parametrize(
    ("flags", "variables"),
    [
        ([], {"BEFORE": "sys.version = 'another interpreter'"}),
        (["-O"], {}),
        ([], {"BEFORE": "sys.path.append('/elsewhere')"}),
        (
            [],
            {
                "BEFORE": "sys.path_hooks.insert(0, lambda path: 1 / 0 if 0 else None or (_ for _ in ()).throw(ImportError))"
            },
        ),
        ([], {"IMG_NO_BUNDLE": "1"}),
    ],
    ids=["version", "optimized", "search path", "import hooks", "switched off"],
)
def test_other_circumstances_do_not_use_it(flags: list[str], variables: dict[str, Any], place: Place) -> None:
    place.run()
    told = place.run(*flags, **variables)
    assert (loaders(told), values(told)) == (ALL_PLAIN, FIRST)
    assert loaders(place.run()) == ALL_BUNDLED, "they take no turns"


def test_a_file_of_another_interpreter_in_its_place_is_not_used(place: Place) -> None:
    place.run()
    ours = place.bundle()
    content = ours.read_bytes()
    place.run(BEFORE="sys.version = 'another interpreter'")
    (other,) = set(ours.parent.iterdir()) - {ours}
    other.write_bytes(content)
    assert loaders(place.run("-B", BEFORE="sys.version = 'another interpreter'")) == ALL_PLAIN


def test_a_search_path_that_changes_later_counts(place: Place) -> None:
    place.write("later/top", 12)
    place.run()
    told = place.run(AFTER=_LATER)
    assert (told["top"], told["again"]) == ([1, BUNDLED], 12)


_LATER = "sys.path.insert(0, site + '/later'); del sys.modules['top']; import top; told['again'] = top.VALUE"


@pytest.mark.parametrize(
    ("flags", "ahead"), [(["-B"], 10), ([], 0)], ids=["Python is to write none", "all was written just now"]
)
def test_no_file_is_written(flags: list[str], ahead: int, place: Place) -> None:
    place.run("-B") if flags else None
    place.run(*flags, ahead=ahead)
    assert not list(place.root.glob(".cache/img/modules/*"))


def test_a_home_that_cannot_be_written_is_no_error(place: Place) -> None:
    (place.root / ".cache").write_text("")
    for _ in range(2):
        told = place.run()
        assert (loaders(told), values(told)) == (ALL_PLAIN, FIRST)


def test_where_nothing_can_be_written_no_module_is_packed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bundling, "_content", lambda *_: pytest.fail("it was packed"))
    bundle = _bundle.Bundle(str(place.root / "modules/x.bin"))
    (place.root / "modules").mkdir(mode=0o700)
    monkeypatch.setattr(os, "access", lambda _path, wanted: wanted != os.W_OK)  # root may always
    _bundling.write(bundle, ["json"])
    (place.root / "modules").chmod(0o777)
    monkeypatch.undo()
    monkeypatch.setattr(_bundling, "_content", lambda *_: pytest.fail("it was packed"))
    _bundling.write(bundle, ["json"])


def test_modules_are_what_they_are_otherwise(place: Place) -> None:
    look = (
        "import inspect, traceback, importlib.resources, pack, pack.part\n"
        "try: pack.part.function()\n"
        "except KeyError: told['trace'] = traceback.format_exc()\n"
        "for module in pack, pack.part:\n"
        "    spec = module.__spec__\n"
        "    told[module.__name__ + ' spec'] = [module.__file__, module.__cached__, module.__package__, spec.origin, spec.cached,\n"
        "        spec.parent, spec.has_location, spec.submodule_search_locations, list(getattr(module, '__path__', ()))]\n"
        "told['source'] = inspect.getsource(pack.part.function)\n"
        "told['code'] = pack.part.__loader__.get_code('pack.part').co_filename\n"
        "told['data'] = importlib.resources.files(pack).joinpath('data.txt').read_text()\n"
        "told['reloaded'] = importlib.reload(pack.part).VALUE\n"
    )
    plain, bundled = place.run(AFTER=look), place.run(AFTER=look)
    assert (plain["pack.part"][1], bundled["pack.part"][1]) == (PLAIN, BUNDLED)
    assert {name: told for name, told in plain.items() if name not in NAMES} == {
        name: told for name, told in bundled.items() if name not in NAMES
    }
    assert plain["trace"].count("raise KeyError(3)") == 1
    assert plain["data"] == "data"


def test_the_program_makes_one_and_the_module_none(tmp_path: Path) -> None:
    for start, made in (("main(isolated=False)", 0), ("main()", 1)):
        ahead = "import sys, time; now = time.time_ns; time.time_ns = lambda: now() + 10**10; sys.argv[1:] = ['ls']"
        code = f"{ahead}; from img_core.cli import main; {start}"
        subprocess.run(
            [sys.executable, "-c", code], env=environment(tmp_path), check=True, capture_output=True, timeout=60
        )
        assert len(list(tmp_path.glob(".cache/img/modules/*.bin"))) == made


#: Runs a command later than all files were made, and tells how many expressions and functions it had to compile.
_COUNTING = """
import atexit, sys, time
now = time.time_ns
time.time_ns = lambda: now() + 10**10
sys.argv[1:] = ["ls"]
from img_core.cli import _bundle, main
use = _bundle.use
def counting():
    compiled = use()
    known = len(compiled.functions)
    atexit.register(lambda: print(len(compiled._missed), len(compiled.functions) - known, flush=True))
    return compiled
_bundle.use = counting
main()
"""


def test_what_was_compiled_from_text_is_not_compiled_again(tmp_path: Path) -> None:
    def run() -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", _COUNTING], env=environment(tmp_path), check=True, capture_output=True, timeout=60
        )
        return [int(number) for number in done.stdout.splitlines()[-1].split()]

    first, second = run(), run()
    assert min(first) > 5
    assert second == [0, 0]
