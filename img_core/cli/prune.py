"""``img prune``: remove what neither an image nor a running command needs."""

from __future__ import annotations

import os
from dataclasses import replace

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._docker_filters import piece_filters, unused_seconds
from img_core.cli._format import binary_size
from img_core.cli._listing import Listing
from img_core.cli._output import echo, warn
from img_core.cli._usage import age, piece_flags, show_pieces, size
from img_core.spec.errors import UsageError

__all__ = ["command"]

_FAILED = "pruning failed: failed to parse filters"


@click.command("prune", cls=Command)
@piece_flags
@click.option("-a", "--all", "everything", is_flag=True, help="forget resolved references and file digests, too")
@click.option("--dry-run", is_flag=True, help="show what would be removed")
@click.option("--filter", "filters", multiple=True, help="remove only what matches, e.g. type==regular or until=24h")
@click.option("-f", "--force", is_flag=True, help="accepted: nothing is asked anyway")
@click.option("--keep-storage", default="", help="keep so much of what was used last, e.g. 10GiB")
@click.option("--until", default="", help="remove only what was not used for so long, e.g. 24h")
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def command(
    context: click.Context,
    everything: bool,
    dry_run: bool,
    filters: tuple[str, ...],
    force: bool,
    template: str,
    keep_storage: str,
    no_trunc: bool,
    quiet: bool,
    until: str,
    arguments: tuple[str, ...],
) -> None:
    """Prune and clean up the build cache."""
    if arguments:
        raise UsageError("no arguments expected")
    wanted = piece_filters(filters, _FAILED)
    seconds = max(unused_seconds(filters), age(until, "--until") if until else 0.0)
    keep = size(keep_storage, "--keep-storage") if keep_storage else 0
    from img_core.api.session import Session
    from img_core.store.collect import Policy, prune

    policy = Policy(unused_seconds=seconds, keep_bytes=keep, records=everything)
    settings = settings_of(context)
    config = settings.config()
    removed = []
    if os.path.exists(os.path.join(config.state_directory, "img.db")):
        # In the namespace: the files of a root file system belong to other ids.
        with Session(config, namespace=True, cleaning=True, notice=warn) as session:
            if filters:
                policy = replace(policy, matches=wanted(session.store))
            removed = prune(session.store, policy, dry_run=dry_run)
    listing = Listing(template, quiet)
    show_pieces(removed, listing, records=settings.debug, no_trunc=no_trunc)
    if listing.is_table:
        total = binary_size(sum(piece.size for piece in removed))
        echo(f"Reclaim{'able' if dry_run else 'ed'}:\t{total}")
        echo(f"Total:\t\t{total}")
