"""``img fsck``: check what is stored, and repair what can be repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._listing import Listing, listing_flags
from img_core.cli._output import echo
from img_core.spec.errors import StateError, UsageError

if TYPE_CHECKING:
    from img_core.api import Problem, StateReport

__all__ = ["command"]

_HEADER = ("KIND", "STATE", "ID", "DESCRIPTION")


@click.command("fsck", cls=Command)
@listing_flags(example="{{.Kind}} {{.ID}}", cut="accepted: nothing is cut anyway", quiet="show only ids")
@click.option("--read-data", is_flag=True, help="read all layers, too, and compare them with their digests")
@click.option("--repair", is_flag=True, help="take away what is damaged, so that it is fetched or made again")
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def command(
    context: click.Context,
    template: str,
    no_trunc: bool,
    quiet: bool,
    read_data: bool,
    repair: bool,
    arguments: tuple[str, ...],
) -> None:
    """Check stored images, layers and cached steps, and repair what can be repaired."""
    if arguments:
        raise UsageError("no arguments expected")
    report = settings_of(context).client().fsck(repair=repair, read_data=read_data)
    listing = Listing(template, quiet)
    _show(report, listing)
    if report.left:
        raise StateError(
            f"{report.left} of {len(report.problems)} problems are left"
            if repair
            else f"{report.left} problems were found",
            hint="build or pull the images again" if repair else "repair what can be with `img fsck --repair`",
        )


def _show(report: StateReport, listing: Listing) -> None:
    if report.problems or not listing.is_table:
        listing.show(
            lambda: [_record(problem) for problem in report.problems],
            keys=lambda: [problem.id for problem in report.problems],
            rows=lambda: [_HEADER, *map(_row, report.problems)],
        )
    if listing.is_table:
        counts = [(report.checked.get(kind, 0), kind) for kind in ("image", "blob", "layer", "snapshot")]
        echo("Checked:\t" + ", ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts))
        echo(f"Problems:\t{len(report.problems)}")


def _row(problem: Problem) -> tuple[str, ...]:
    state = "repaired" if problem.repaired else "harmless" if problem.harmless else "damaged"
    return (problem.kind, state, problem.id, problem.description)


def _record(problem: Problem) -> dict[str, Any]:  # Any: JSON
    return {
        "Kind": problem.kind,
        "ID": problem.id,
        "Repaired": problem.repaired,
        "Harmless": problem.harmless,
        "Description": problem.description,
    }
