"""What is not compiled again: it is the same as what Python makes, and only texts of modules are kept."""

from __future__ import annotations

import json
import marshal
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import ROOT

from img_core.cli._compiled import Compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPRESSIONS: list[tuple[str | bytes, int]] = [
    ("[a-z]+", 0),
    (b"[a-z]+", 0),  # has the hash of the one above
    ("[a-z]+", re.IGNORECASE),
    (r"(?P<host>\w+)(?::(?P<port>\d{1,5}))?(x)*", re.VERBOSE | re.ASCII),
    (r"(?P<host>\w+)(?::(?P<port>\d{1,5}))?(x)*", 0),
    (r"(?i)ſ|[^\udc80-\udcff]|(?<=a)b(?!c)|(a)(?(1)b|c)", 0),
    (rb"(?s:.)*?\x00|\r?\n", re.MULTILINE),
    ("", 0),
]


@pytest.fixture
def compiled() -> Iterator[Compiled]:
    """What a command has that knows nothing."""
    compiler = vars(re)["_compiler"]
    usual = compiler.compile
    found = Compiled()
    found.use()
    re.purge()
    yield found
    compiler.compile = usual
    re.purge()


def at_module_level(text: str | bytes, flags: int) -> re.Pattern[Any]:
    """Compile an expression as a module does."""
    names: dict[str, Any] = {"re": re, "text": text, "flags": flags}
    exec(compile("made = re.compile(text, flags)", "module.py", "exec").replace(co_name="<module>"), names)
    made: re.Pattern[Any] = names["made"]
    return made


def later(earlier: Compiled) -> Compiled:
    """Return what the next command has."""
    found = Compiled()
    found.expressions, found.functions = marshal.loads(marshal.dumps(earlier.known()))
    return found


@pytest.mark.parametrize(("text", "flags"), EXPRESSIONS)
def test_an_expression_that_is_known_is_the_same(text: str | bytes, flags: int, compiled: Compiled) -> None:
    usual = at_module_level(text, flags)
    for other, others_flags in EXPRESSIONS:
        at_module_level(other, others_flags)
    following = later(compiled)
    assert len(following.expressions) == len(EXPRESSIONS)
    following._usual = None  # nothing is compiled
    made = following.expression(text, int(flags))
    assert isinstance(made, re.Pattern)
    assert made == usual
    assert (made.pattern, made.flags, made.groups, made.groupindex) == (
        usual.pattern, usual.flags, usual.groups, usual.groupindex
    )  # fmt: skip
    probe = "Ab c:80xx\n" if isinstance(text, str) else b"Ab c:80xx\n"
    assert [found.groups() for found in made.finditer(probe)] == [found.groups() for found in usual.finditer(probe)]


def test_an_expression_of_a_function_is_not_kept(compiled: Compiled) -> None:
    """It may be made of a secret."""
    assert re.compile("hunter2")
    assert compiled.known() == ({}, {})


@pytest.mark.parametrize(("text", "flags"), [("a", re.DEBUG), (b"a", re.LOCALE)], ids=["debug", "locale"])
def test_what_does_more_is_not_kept(text: str | bytes, flags: int, compiled: Compiled) -> None:
    at_module_level(text, flags)
    assert compiled.known() == ({}, {})


def test_a_mistake_is_told_as_usual(compiled: Compiled) -> None:
    with pytest.raises(re.error):
        at_module_level("(", 0)
    assert compiled.known() == ({}, {})
    with pytest.raises(TypeError):
        re.compile(5)  # type: ignore[call-overload]


def test_an_interpreter_that_makes_them_otherwise_keeps_none(
    compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_module_level("a+", 0)
    monkeypatch.setattr(compiled, "_usual", lambda _text, _flags: object())
    assert compiled.known() == ({}, {})


#: Makes data classes and named tuples, and tells what they do and which texts were compiled for that.
_CLASSES = """
import builtins, json, marshal, os, sys
sys.path[:] = json.loads(sys.argv[1])
from img_core.cli import _compiled
count = 0
def counting(*given, **named):
    global count
    count += 1
    return compile(*given, **named)
_compiled.compile = counting
compiled = _compiled.Compiled()
if os.path.exists(sys.argv[2]):
    with open(sys.argv[2], "rb") as file:
        compiled.expressions, compiled.functions = marshal.load(file)
compiled.use_for_functions()
import collections, dataclasses, typing
from img_core.spec.dataclass import dataclass as ours

@dataclasses.dataclass(order=True)
class Usual:
    number: int
    names: list[str] = dataclasses.field(default_factory=list)

@ours(frozen=True, slots=True)
class Ours:
    number: int
    names: tuple[str, ...] = ()

class Tuple(typing.NamedTuple):
    one: int
    other: str = "x"

hints = {"number": int, "names": list[str], "return": None}
told = [
    repr(Usual(1, ["a"])), Usual(1) < Usual(2), Usual(1) == Usual(1), Usual.__init__.__annotations__ == hints,
    repr(Ours(3)), Ours(3) == Ours(3), hash(Ours(3)) == hash(Ours(3)),
    Tuple(1), Tuple.__new__.__defaults__, collections.namedtuple("Pair", "a b")(1, 2),
]
print(json.dumps([told, count]))
with open(sys.argv[2], "wb") as file:
    marshal.dump(compiled.known(), file)
"""


def test_functions_that_are_known_are_not_compiled_again(tmp_path: Path) -> None:
    def run() -> list[Any]:
        command = [sys.executable, "-I", "-c", _CLASSES, json.dumps([str(ROOT), *sys.path]), str(tmp_path / "known")]
        told: list[Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return told

    (told, count), (told_again, count_again) = run(), run()
    assert told == told_again == [
        "Usual(number=1, names=['a'])", True, True, True, "Ours(number=3, names=())", True, True, [1, "x"], ["x"], [1, 2]
    ]  # fmt: skip
    assert (count > 5, count_again) == (True, 0)
