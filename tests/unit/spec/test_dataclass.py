"""Our quick `dataclass` makes what the standard library's does."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

import img_core
from img_core.spec.dataclass import frozen_slotted


class Plain:
    """Words."""

    kind: ClassVar[str] = "class"
    a: int
    b: str = "b"
    c: dict[str, int] = dataclasses.field(default_factory=dict)
    hidden: int = dataclasses.field(default=0, repr=False, compare=False, metadata={"key": False})
    made: int = dataclasses.field(init=False, repr=False)
    constant: int = dataclasses.field(init=False, default=7)

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", self.a + 1)

    @property
    def twice(self) -> int:
        return 2 * self.a


def _copied(cls: type) -> type:
    """Return *cls* anew: the decorators change what they get."""
    kept = {name: copy.copy(value) for name, value in vars(cls).items() if name not in {"__dict__", "__weakref__"}}
    return type(cls)(cls.__name__, cls.__bases__, kept)


Quick: Any = frozen_slotted(_copied(Plain))
Standard: Any = dataclasses.dataclass(frozen=True, slots=True)(_copied(Plain))
BOTH = pytest.mark.parametrize("cls", [Quick, Standard], ids=["ours", "standard"])


def outcome(work: Callable[[], object]) -> object:
    try:
        return work()
    except Exception as err:  # compared with that of the other class
        return type(err), str(err)


def test_everything_that_can_be_seen_is_the_same() -> None:
    assert [(f.name, f.init, f.metadata) for f in dataclasses.fields(Quick)] == [
        (f.name, f.init, f.metadata) for f in dataclasses.fields(Standard)
    ]
    assert Quick.__match_args__ == Standard.__match_args__
    assert Quick.__slots__ == Standard.__slots__
    assert Quick.__doc__ == Standard.__doc__
    assert Quick.__qualname__ == Standard.__qualname__
    assert list(inspect.signature(Quick).parameters) == list(inspect.signature(Standard).parameters)
    assert (Quick.__dataclass_params__.frozen, Quick.__dataclass_params__.eq) == (True, True)


@pytest.mark.parametrize(
    "work",
    [
        lambda cls: repr(cls(1)),
        lambda cls: repr(cls(1, "x", {"y": 2}, hidden=3)),
        lambda cls: (cls(1) == cls(1, hidden=5), cls(1) == cls(2), cls(1) != cls(1), cls(1) == 1),
        lambda cls: cls(1).__eq__(1),
        lambda cls: hash(cls(1)),  # unhashable: there is a dict in it
        lambda cls: (cls(1).made, cls(1).constant, cls(1).twice, cls.kind),
        lambda cls: cls(1).c is cls(1).c,
        lambda cls: repr(dataclasses.replace(cls(1, c={"k": 1}), a=5)),
        lambda cls: dataclasses.replace(cls(1), a=5).made,
        lambda cls: dataclasses.asdict(cls(1)),
        lambda cls: copy.deepcopy(cls(1, c={"k": 1})).c,
        lambda cls: setattr(cls(1), "a", 2),
        lambda cls: delattr(cls(1), "a"),
        lambda cls: hasattr(cls(1), "__dict__"),
        lambda cls: cls(),
        lambda cls: cls(1, 2, 3, 4, 5),
        lambda cls: cls(1, wrong=2),
        lambda cls: cls(1, made=2),
    ],
)
def test_it_behaves_the_same(work: Callable[[Any], object]) -> None:
    assert outcome(lambda: work(Quick)) == outcome(lambda: work(Standard))


def test_a_class_without_docstring_gets_one_without_a_tokenizer() -> None:
    """The standard library asks `inspect.signature`, whose tokenizer takes longer to get ready than all our classes together."""
    program = (
        "import re, sys, tokenize\n"
        "from img_core.spec.dataclass import frozen_slotted\n"
        "tokenize._compile = None\n"
        "made = frozen_slotted(type('Point', (), {'__annotations__': {'x': 'int', 'y': 'int'}}))\n"
        "print(made.__doc__, made(1, 2))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "Point(x, y) Point(x=1, y=2)\n"


def test_equal_values_have_equal_hashes() -> None:
    class Point:
        x: int
        y: tuple[int, ...] = ()
        notes: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)

    made: Any = frozen_slotted(Point)
    assert hash(made(1, (2,))) == hash(made(1, (2,)))
    assert len({made(1), made(1), made(2)}) == 2
    assert made(1, notes={"a": "b"}) != made(1)


def test_identity_counts_without_eq() -> None:
    class Node:
        x: int

    made: Any = frozen_slotted(Node, eq=False)
    one = made(1)
    assert one == one
    assert one != made(1)
    assert len({made(1), made(1)}) == 2


@BOTH
def test_a_class_of_either_kind_can_be_built_on(cls: Any) -> None:
    class More(cls):  # type: ignore[misc]
        z: int = 0

    for made in (frozen_slotted(_copied(More)), dataclasses.dataclass(frozen=True, slots=True)(_copied(More))):
        value: Any = made(1, z=4)  # type: ignore[call-arg]
        assert (value.a, value.made, value.z) == (1, 2, 4)
        assert not hasattr(value, "__dict__")
        assert (value.kind, value.__slots__, value.__match_args__[-1]) == ("class", ("z",), "z")
        assert [field.name for field in dataclasses.fields(made)][-2:] == ["constant", "z"]


@pytest.mark.parametrize(
    "ask",
    [
        dataclasses.fields,
        dataclasses.is_dataclass,
        inspect.signature,
        lambda cls: cls.__match_args__,
        lambda cls: cls.__init__,
        lambda cls: cls(1),
        lambda cls: type("Heir", (cls,), {})(1),
    ],
)
def test_what_a_class_has_is_made_when_somebody_asks(ask: Callable[[Any], object]) -> None:
    """Not when the class is made: most commands use a third of the classes that they import."""
    calls = []

    def factory() -> dict[str, int]:
        calls.append(1)
        return {}

    class Point:
        x: int
        notes: dict[str, int] = dataclasses.field(default_factory=factory)

    made: Any = frozen_slotted(Point)
    before = vars(made)["__init__"]
    assert not inspect.isfunction(before)
    ask(made)
    assert inspect.isfunction(vars(made)["__init__"])
    assert repr(made(1)) == f"{made.__qualname__}(x=1, notes={{}})"
    assert calls


def test_a_base_is_finished_after_what_is_built_on_it_was_made() -> None:
    class Base:
        kind: ClassVar[str] = "base"
        x: int

    class Heir(frozen_slotted(Base)):  # type: ignore[misc]
        y: int = 2

    made: Any = frozen_slotted(Heir)
    assert made.__slots__ == ("y",)
    assert (made(1).x, made(1).y, made(1).kind) == (1, 2, "base")
    assert made.__bases__[0](5).x == 5


def test_threads_that_ask_at_once_get_the_same_class() -> None:
    class Point:
        x: int
        notes: dict[str, int] = dataclasses.field(default_factory=dict)

    for _ in range(20):
        made: Any = frozen_slotted(_copied(Point))
        start = threading.Barrier(8)
        found: list[object] = []

        def make(made: Any = made, start: threading.Barrier = start, found: list[object] = found) -> None:
            start.wait(60)
            found.append(repr(made(1)))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [repr(made(1))] * 8


def test_every_class_of_ours_has_the_fields_that_the_standard_library_finds() -> None:
    """Its slots are made before the standard library was asked."""
    for found in pkgutil.walk_packages(img_core.__path__, "img_core."):
        if not found.name.startswith(("img_core.testing", "img_core.__main__")):
            importlib.import_module(found.name)
    makers = [cls for cls in _classes(object) if "__dataclass_fields__" in vars(cls) and "__slots__" in vars(cls)]
    ours = [cls for cls in makers if cls.__module__.startswith("img_core.")]
    assert len(ours) > 100
    for cls in ours:
        kept = {name for base in cls.__mro__ for name in vars(base).get("__slots__", ())}
        assert {field.name for field in dataclasses.fields(cls)} <= kept, cls


def _classes(cls: type) -> Iterator[type]:
    heirs: list[type] = type.__subclasses__(cls)
    for heir in heirs:
        yield heir
        yield from _classes(heir)


def test_abstract_methods_and_methods_of_its_own_stay() -> None:
    class Base(ABC):
        @abstractmethod
        def size(self) -> int: ...

    class Own(Base):
        x: int

        def size(self) -> int:
            return self.x

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own)

    made: Any = frozen_slotted(Own)
    assert (made(3).size(), repr(made(3)), isinstance(made(3), Base)) == (3, "own", True)
    assert hash(made(3)) == hash(made(3))


def test_values_of_the_contracts_can_be_pickled_and_copied() -> None:
    from img_core.spec.values import Platform

    value = Platform("linux", "arm64", "v8")
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.copy(value) == value
