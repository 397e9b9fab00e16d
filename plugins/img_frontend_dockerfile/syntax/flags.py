"""Flags of instructions: ``--name=value`` words checked against what the instruction knows."""

from __future__ import annotations

from dataclasses import field

from img_core.spec.dataclass import dataclass
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import did_you_mean

__all__ = ["FlagTypes", "Flags", "parse_flags"]


@dataclass(frozen=True, slots=True, eq=False)
class FlagTypes:
    """The flags that an instruction knows; only *lists* may be repeated."""

    texts: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    booleans: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All known names."""
        return self.texts | self.lists | self.booleans


@dataclass(frozen=True, slots=True, eq=False)
class Flags:
    """The flags that were given."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return the value of a text flag, None if it was not given."""
        return self.values[name][0] if name in self.values else None

    def list(self, name: str) -> tuple[str, ...]:
        """Return the values of a repeatable flag in order."""
        return tuple(self.values.get(name, ()))

    def boolean(self, name: str) -> bool | None:
        """Return the value of a boolean flag, None if it was not given."""
        return self.values[name][0] == "true" if name in self.values else None


def parse_flags(words: tuple[str, ...], types: FlagTypes) -> Flags:
    """Check *words* against *types*. Raises `Fault` for unknown, repeated and malformed flags."""
    flags = Flags()
    for word in words:
        name, equals, value = word[2:].partition("=")
        if name not in types.names:
            raise Fault(f"unknown flag: --{name}{did_you_mean(name, sorted(types.names))}", at_parse=True)
        if name in flags.values and name not in types.lists:
            raise Fault(f"duplicate flag specified: --{name}", at_parse=True)
        if name in types.booleans:
            value = _boolean(name, value, given=bool(equals))
        elif not equals:
            raise Fault(f"missing a value on flag: --{name}", at_parse=True)
        flags.values.setdefault(name, []).append(value)
    return flags


def _boolean(name: str, value: str, *, given: bool) -> str:
    if not given:
        return "true"
    if not value:
        raise Fault(f"missing a value on flag: --{name}", at_parse=True)
    if value.lower() not in ("true", "false"):
        raise Fault(f"expecting boolean value for flag --{name}, not: {value}", at_parse=True)
    return value.lower()
