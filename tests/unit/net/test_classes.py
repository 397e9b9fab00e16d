"""Classes of the HTTP library that are finished later are the same then."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import pytest

from img_core.net._library import _finished_later


def make(*, later: bool) -> tuple[Any, Any]:
    """Return two classes as h11 has them, one built on the other."""
    decorator: Any = dataclasses.dataclass
    if later:
        with _finished_later():
            decorator = sys.modules["dataclasses"].dataclass

    class Base:
        __slots__ = ("headers", "status")
        headers: list[str]
        status: int

        def __init__(self, *, status: int, headers: list[str] | None = None) -> None:
            object.__setattr__(self, "headers", headers or [])
            object.__setattr__(self, "status", status)

        __hash__ = None  # type: ignore[assignment]

    base = decorator(init=False, frozen=True)(Base)

    class Heir(base):  # type: ignore[misc, valid-type]
        __hash__ = None  # type: ignore[assignment]

    return base, decorator(init=False, frozen=True)(Heir)


@pytest.mark.parametrize("which", [0, 1], ids=["base", "heir"])
@pytest.mark.parametrize(
    "work",
    [
        lambda cls: repr(cls(status=1)),
        lambda cls: (cls(status=1) == cls(status=1), cls(status=1) == cls(status=2), cls(status=1) != cls(status=1)),
        lambda cls: (cls(status=1) == 1, cls(status=1).__eq__(1), cls(status=1) in [int, cls(status=1)]),
        lambda cls: setattr(cls(status=1), "status", 2),
        lambda cls: delattr(cls(status=1), "status"),
        lambda cls: hash(cls(status=1)),
        lambda cls: [field.name for field in dataclasses.fields(cls)],
        lambda cls: (dataclasses.asdict(cls(status=1)), cls.__match_args__, cls.__dataclass_params__.frozen),
        lambda cls: dataclasses.replace(cls(status=1), status=3).status,
    ],
)
def test_it_behaves_as_the_standard_librarys(work: Callable[[Any], object], which: int) -> None:
    def outcome(cls: Any) -> object:
        try:
            return work(cls)
        except (TypeError, dataclasses.FrozenInstanceError) as err:
            return type(err)

    assert outcome(make(later=True)[which]) == outcome(make(later=False)[which])


def test_nobody_finishes_what_is_only_used() -> None:
    cls, heir = make(later=True)
    for one in (cls(status=1), heir(status=1)):
        assert (one.status, one == 1, one in [int, str], isinstance(one, cls)) == (1, False, False, True)
    assert all(type(vars(one)["__repr__"]).__name__ == "_Attribute" for one in (cls, heir))
    assert repr(cls(status=1)) == repr(cls(status=1))
    assert type(vars(cls)["__repr__"]).__name__ == "function"


def test_other_forms_are_left_alone() -> None:
    with _finished_later():
        stand_in = sys.modules["dataclasses"]
        assert stand_in.fields is dataclasses.fields

        class Bare:
            x: int

        @stand_in.dataclass(init=False, frozen=True)
        class Hashed:
            x: int = 1

    assert sys.modules["dataclasses"] is dataclasses
    assert repr(stand_in.dataclass(Bare)(1)).endswith("Bare(x=1)")
    assert type(vars(Hashed)["__repr__"]).__name__ == "function"
    assert hash(Hashed()) == hash(Hashed())
