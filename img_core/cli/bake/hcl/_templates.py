"""Texts with expressions in them."""

from __future__ import annotations

from typing import Any

from img_core.cli.bake.hcl._values import Expression, HclError, Names, SourceLine, as_text

__all__ = ["Parts", "joined"]


class Parts(list["str | Expression"]):
    """Plain pieces of a text, and expressions, in turns; a plain piece may be empty."""


def joined(parts: Parts, place: SourceLine) -> Expression:
    """Return the text of *parts*; an expression alone keeps the type of its value."""
    expressions = [part for part in parts if isinstance(part, Expression)]
    if len(expressions) == 1 and all(part == "" for part in parts if isinstance(part, str)):
        return expressions[0]

    def value(scope: Names) -> Any:  # Any: a value
        texts = list[str]()
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            try:
                texts.append(as_text(part.value(scope)))
            except ValueError as err:
                raise HclError(part.place, f"in a text: {err}") from None
        return "".join(texts)

    return Expression(place, value)
