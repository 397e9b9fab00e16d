"""Arguments of a function that people call from Python, in any form that is clear, as values of one form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Arguments"]


class _Choice(Protocol):
    """A driver by its *type*, with *options*; made of these two."""

    @property
    def type(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...  # Any: text, or JSON

    def __init__(self, type: str, options: Mapping[str, Any]) -> None: ...  # noqa: A002  # what people call it


Chosen = TypeVar("Chosen", bound=_Choice)


class Arguments:
    """Reads the arguments of *function* (``build()``, for messages). Methods take the name of an argument and what was given for it, and
    raise UsageError for what they cannot read."""

    def __init__(self, function: str) -> None:
        self._function = function

    def refused(self, name: str, value: object, expected: str) -> UsageError:
        """Return what says that *name* must be what is *expected*."""
        return UsageError(f"`{name}` of {self._function} must be {expected}, not {type(value).__name__}")

    def text(self, name: str, value: object) -> str:
        """Return a text."""
        if not isinstance(value, str):
            raise self.refused(name, value, "text")
        return value

    def path(self, name: str, value: object) -> str:
        """Return a path, as text."""
        if not isinstance(value, str | os.PathLike):
            raise self.refused(name, value, "text or a path")
        return self.text(name, os.fspath(value))

    def optional_path(self, name: str, value: object) -> str | None:
        """Return a path, or None."""
        return None if value is None else self.path(name, value)

    def optional_text(self, name: str, value: object) -> str | None:
        """Return a text, or None."""
        return None if value is None else self.text(name, value)

    def words(self, name: str, value: object) -> tuple[str, ...]:
        """Return several words; one alone may be given as it is."""
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
            raise self.refused(name, value, "text, or several texts")
        return tuple(self.text(name, item) for item in value)

    def listed(self, name: str, value: object) -> tuple[str, ...]:
        """Return several words, which commas may join, as on the command line."""
        return tuple(part.strip() for word in self.words(name, value) for part in word.split(",") if part.strip())

    def boolean(self, name: str, value: object) -> bool:
        """Return a truth; numbers are none."""
        if not isinstance(value, bool):
            raise self.refused(name, value, "True or False")
        return value

    def number(self, name: str, value: object) -> int:
        """Return a whole number."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refused(name, value, "a whole number")
        return value

    def mapping(self, of: Callable[[str, Any], Any]) -> Callable[[str, object], dict[str, Any]]:  # Any: values
        """Return what reads a mapping of texts to what *of* reads."""

        def read(name: str, value: object) -> dict[str, Any]:
            if not isinstance(value, Mapping):
                raise self.refused(name, value, "a mapping")
            return {self.text(name, key): of(f"{name}[{key!r}]", item) for key, item in value.items()}

        return read

    def pairs(self, name: str, value: object) -> tuple[tuple[str, str], ...]:
        """Return pairs of texts, of a mapping for example."""
        items = value.items() if isinstance(value, Mapping) else value
        if isinstance(items, str | bytes) or not isinstance(items, Iterable):
            raise self.refused(name, value, "a mapping, or pairs")
        return tuple((self.text(name, host), self.text(name, address)) for host, address in items)

    def several(self, name: str, value: object) -> tuple[Any, ...]:  # Any: checked where they are used
        """Return whatever there is in a list."""
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise self.refused(name, value, "a list of tuples")
        return tuple(value)

    def instance(self, kind: type) -> Callable[[str, object], Any]:
        """Return what takes an object of *kind*, and nothing else."""

        def read(name: str, value: object) -> object:
            if not isinstance(value, kind):
                raise self.refused(name, value, f"a `{kind.__name__}`")
            return value

        return read

    def choices(
        self, kind: type[Chosen], example: str, *, words: Callable[[str, str], Iterable[Chosen]] | None = None
    ) -> Callable[[str, object], tuple[Chosen, ...]]:
        """Return what reads one or several choices of drivers: objects of *kind*, or mappings such as *example*, with the key ``type``.

        Text is for *words*, if there are any, which get the name of the argument, too.
        """

        def read(name: str, value: object) -> tuple[Chosen, ...]:
            if isinstance(value, kind | Mapping) or (words is not None and isinstance(value, str)):
                value = [value]
            if isinstance(value, str | bytes) or not isinstance(value, Iterable):
                text = "text, " if words is not None else ""
                raise self.refused(name, value, f"{text}a mapping such as `{example}`, or several")
            found: list[Chosen] = []
            for item in value:
                if words is not None and isinstance(item, str):
                    found += words(item, name)
                else:
                    found.append(self._choice(kind, name, item, example))
            return tuple(found)

        return read

    def _choice(self, kind: type[Chosen], name: str, item: object, example: str) -> Chosen:
        if isinstance(item, Mapping):
            options = dict(item)
            if "type" not in options:
                raise UsageError(f"an item of `{name}` has no `type`", hint=f"e.g. `{example}`")
            item = kind(self.text(f"{name}['type']", options.pop("type")), options)
        if not isinstance(item, kind):
            article = "an" if kind.__name__[0] in "AEIOU" else "a"
            raise self.refused(f"an item of {name}", item, f"{article} `{kind.__name__}` or a mapping")
        given = item.options.items()
        return kind(item.type, {key: os.fspath(each) if isinstance(each, os.PathLike) else each for key, each in given})
