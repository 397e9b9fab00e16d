"""Good drivers with one thing wrong each: the contract suite of their kind has to notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Mutant", "mutant"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A test of *suite* that *claim* selects (as ``pytest -k``) has to fail for *driver*, and pass for *good*."""

    suite: type
    driver: Any  # Any: a driver of whatever kind, or the name of a listener's module
    good: Any
    claim: str

    def under(self, driver: Any) -> type:
        """Return the suite for a driver."""
        return type("TestMutant", (self.suite,), {getattr(self.suite, "holder", "module"): driver})


def mutant(suite: type, good: Any, claim: str, **changes: Any) -> Mutant:
    """Return a subclass of *good* with other attributes or methods as a mutant."""
    return Mutant(suite, type("Mutant", (good,), {"__doc__": "A mutant.", **changes}), good, claim)
