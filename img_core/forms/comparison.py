"""Why a step ran: the first thing that is not as it was when the most similar step was recorded, by its name.

A record keeps hashes of what went into its key by name, salted with that key, so that nobody who sees the record can tell whether two
steps share a value.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["KnownStep", "Named", "first_difference", "hashed"]

#: name → text, in the order in which people want to hear of them
Named: TypeAlias = "list[tuple[str, str]]"
#: a recorded step: key, description, and its inputs by name, as hashes
KnownStep: TypeAlias = "tuple[str, str, Sequence[tuple[str, str]]]"

_NEVER = "nothing like it was built before"


def hashed(key: str, inputs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return *inputs* as the record of *key* keeps them."""
    return tuple((name, _hash(key, name, text)) for name, text in inputs)


def _hash(key: str, name: str, text: str) -> str:
    return hashlib.sha256(f"{key}\0{name}\0{text}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def first_difference(description: str, inputs: Named, known: Iterable[KnownStep]) -> str:
    """Return the name of the first of *inputs* that the most similar of the *known* steps does not have, or has otherwise.

    Similar is what is called alike or shares half of the inputs; the most similar has the fewest others.
    """
    best: tuple[tuple[int, bool, bool], str] | None = None
    names = {name for name, _ in inputs}
    for key, called, recorded in known:  # the newest first
        before = dict(recorded)
        differing = [name for name, text in inputs if before.get(name) != _hash(key, name, text)]
        alike = _text(called) == _text(description)
        if not recorded or (not alike and 2 * len(differing) > len(inputs)):
            continue
        gone = [name for name in before if name not in names]
        # All files together differ as well where one of them is gone.
        first = next(iter([*(gone if differing and differing[0].startswith("files ") else ()), *differing, *gone]), "")
        differing += gone
        # Of two with as many differences the one at the same place of a build is nearer: what is built on comes last.
        rank = (-len(differing), bool(inputs) and inputs[-1][0] not in differing, alike)
        if best is None or rank > best[0]:
            best = rank, first
    if best is None:
        return _NEVER
    return best[1] or "its result is gone"


def _text(description: str) -> str:
    """Return an instruction without the number of its step and the name of its stage."""
    return description.partition("] ")[2] or description
