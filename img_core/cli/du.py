"""``img du``: what takes the space of the state directory."""

from __future__ import annotations

import time

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._docker_filters import piece_filters, unused_seconds
from img_core.cli._format import binary_size
from img_core.cli._listing import Listing
from img_core.cli._output import echo
from img_core.cli._usage import piece_flags, show_pieces
from img_core.spec.errors import UsageError

__all__ = ["command"]

_FAILED = "getting disk usage failed: failed to parse diskusage filters"


@click.command("du", cls=Command)
@click.option("-f", "--filter", "filters", multiple=True, help="filter output, e.g. type==exec.cachemount or inuse")
@piece_flags
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def command(
    context: click.Context,
    filters: tuple[str, ...],
    template: str,
    no_trunc: bool,
    quiet: bool,
    arguments: tuple[str, ...],
) -> None:
    """Show image disk usage."""
    if arguments:
        raise UsageError("no arguments expected")
    wanted = piece_filters(filters, _FAILED)
    unused = unused_seconds(filters)
    oldest = time.time() - unused if unused else float("inf")
    settings = settings_of(context)
    client = settings.client()
    passes = wanted(client)
    pieces = [piece for piece in client.usage() if piece.used <= oldest and passes(piece)]
    listing = Listing(template, quiet)
    show_pieces(pieces, listing, records=settings.debug, no_trunc=no_trunc)
    if listing.is_table and not filters:
        reclaimable = sum(piece.size for piece in pieces if not piece.in_use)
        echo(f"Reclaimable:\t{binary_size(reclaimable)}")
        echo(f"Total:\t\t{binary_size(sum(piece.size for piece in pieces))}")
