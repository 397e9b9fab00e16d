"""Help pages in the layout of the original img."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["help_page", "usage_block"]

Row = tuple[str, str]


def help_page(title: str, short: str, usage: str, blocks: Sequence[tuple[str, Sequence[Row]]], end: str = "") -> str:
    """Return ``TITLE -  SHORT``, the usage line, and those blocks of rows that are not empty."""
    parts = [f"{title} -  {short}", f"Usage: {usage}"]
    parts += [f"{heading}:\n\n{_table(rows)}" for heading, rows in blocks if rows]
    return "\n\n".join([*parts, end] if end else parts)


def usage_block(parameters: Iterable[click.Parameter]) -> list[Row]:
    """Return the rows of a block of flags: ``-f, --file string`` and what it does, by name."""
    options = [option for option in parameters if isinstance(option, click.Option) and not option.hidden]
    return [(_names(option), _text(option)) for option in sorted(options, key=_long_name)]


def _names(option: click.Option) -> str:
    long = _long_name(option)
    short = next((name for name in option.opts if not name.startswith("--") and name != long), "")
    indent = "" if long[:2] != "--" else "    "
    return (f"{short}, " if short else indent) + long + _value_word(option)


def _long_name(option: click.Option) -> str:
    return next((name for name in option.opts if name.startswith("--")), option.opts[0])


def _value_word(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if option.multiple:
        return " list"
    if (option.metavar or "").startswith("[="):  # a flag that may have a value
        return str(option.metavar)
    return " int" if option.type.name == "integer" else " string"


def _text(option: click.Option) -> str:
    default = option.show_default if isinstance(option.show_default, str) else option.default
    text = option.help or ""
    return f'{text} (default "{default}")' if isinstance(default, str) and default else text


def _table(rows: Sequence[Row]) -> str:
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}  {right}".rstrip() for left, right in rows)
