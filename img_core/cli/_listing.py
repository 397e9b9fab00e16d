"""What commands that list things share: their flags, and how records become text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from img_core.cli._format import render, table, table_of
from img_core.cli._output import echo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Listing", "listing_flags"]

Function = TypeVar("Function", bound="Callable[..., Any]")


def listing_flags(*, example: str, cut: str, quiet: str) -> Callable[[Function], Function]:
    """Give a command ``--format``, ``--no-trunc`` and ``-q``; see `Listing`. *example* is a template, *cut* and *quiet* are help texts."""

    def add(function: Function) -> Function:
        function = click.option("-q", "--quiet", is_flag=True, help=quiet)(function)
        function = click.option("--no-trunc", is_flag=True, help=cut)(function)
        help_text = f"json, or a template such as {example}"
        return click.option("--format", "template", default="", help=help_text)(function)

    return add


@dataclass(frozen=True, slots=True)
class Listing:
    """How the user wants records to be shown: through *template*, only their keys (*quiet*), or as a table."""

    template: str = ""
    quiet: bool = False

    @property
    def is_table(self) -> bool:
        """Whether nothing but the table was asked for."""
        return not self.template and not self.quiet

    def show(
        self,
        records: Callable[[], Sequence[Mapping[str, Any]]],  # Any: JSON
        *,
        keys: Callable[[], Iterable[str]],
        rows: Callable[[], Sequence[Sequence[str]]],
        layout: Callable[[Sequence[Sequence[str]]], str] = table,
    ) -> None:
        """Print what was asked for; only that is computed. Raises UsageError for a bad template.

        *rows* include the header; *layout* makes a table of them.
        """
        if self.template.startswith("table "):
            echo(table_of(self.template.removeprefix("table "), records()))
        elif self.template:
            for record in records():
                echo(render(self.template, record))
        elif self.quiet:
            for key in dict.fromkeys(keys()):
                echo(key)
        else:
            echo(layout(rows()))
