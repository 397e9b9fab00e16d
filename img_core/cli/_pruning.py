"""What the commands that prune the build cache share; they differ in what else goes, and in what they ask first."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from img_core.cli._amounts import age, size
from img_core.cli._base import Command, settings_of
from img_core.cli._docker_filters import piece_filters, unused_seconds
from img_core.cli._format import binary_size
from img_core.cli._listing import Listing
from img_core.cli._output import echo, say, warn
from img_core.cli._usage import piece_flags, show_pieces
from img_core.spec.errors import ImgError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Scope", "confirm", "prune_command"]

_FAILED = "pruning failed: failed to parse filters"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a command removes beside cache that nobody needs.

    *images* go, and with ``--all`` all of them if *all_images*. *spares_shared*: without ``--all`` what images share stays, and so do
    documents, as BuildKit spares its internal records. *warning* is what is asked before, unless ``-f`` is given; empty: nothing.
    """

    images: Literal["none", "untagged"] = "none"
    all_images: bool = False
    spares_shared: bool = False
    warning: Callable[[bool], str] = lambda _everything: ""


def prune_command(name: str, help_text: str, scope: Scope) -> click.Command:
    """Return the command that prunes within *scope*."""

    @click.command(name, cls=Command, help=help_text)
    @piece_flags
    @click.option("-a", "--all", "everything", is_flag=True, help=_all_help(scope))
    @click.option("--dry-run", is_flag=True, help="show what would be removed")
    @click.option(
        "--filter", "filters", multiple=True, help="remove only what matches, e.g. type==regular or until=24h"
    )
    @click.option("-f", "--force", is_flag=True, help=_force_help(scope))
    @click.option("--keep-storage", default="", help="keep so much of what was used last, e.g. 10GiB")
    @click.option("--until", default="", help="remove only what was not used for so long, e.g. 24h")
    @click.argument("arguments", nargs=-1, metavar="")
    @click.pass_context
    def command(context: click.Context, /, **flags: Any) -> None:  # Any: values of flags
        _run(context, scope, **flags)

    return command


def _all_help(scope: Scope) -> str:
    more = "remove what images share, and " if scope.spares_shared else ""
    return f"{more}forget resolved references and file digests, too"


def _force_help(scope: Scope) -> str:
    return "do not ask" if scope.warning(False) else "accepted: nothing is asked anyway"


def _run(
    context: click.Context,
    scope: Scope,
    *,
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
    if arguments:
        raise UsageError("no arguments expected")
    wanted = piece_filters(filters, _FAILED)
    seconds = max(unused_seconds(filters), age(until, "--until") if until else 0.0)
    keep = size(keep_storage, "--keep-storage") if keep_storage else 0
    if not (force or dry_run):
        confirm(scope.warning(everything))
    settings = settings_of(context)
    client = settings.client()
    removed = client.prune(
        images="all" if everything and scope.all_images else scope.images,
        cache="unshared" if scope.spares_shared and not everything else "all",
        records=everything,
        unused_seconds=seconds,
        keep_bytes=keep,
        dry_run=dry_run,
        matching=wanted(client) if filters else None,
    )
    listing = Listing(template, quiet)
    show_pieces(removed, listing, records=settings.debug, no_trunc=no_trunc)
    if listing.is_table:
        total = binary_size(sum(piece.size for piece in removed))
        echo(f"Reclaim{'able' if dry_run else 'ed'}:\t{total}")
        echo(f"Total:\t\t{total}")


def confirm(warning: str) -> None:
    """Ask on standard error whether to go on after *warning*, if there is one. Raises ImgError unless the answer is yes."""
    if not warning:
        return
    from img_core.cli._input import typed_line

    warn(warning)
    say("Are you sure you want to continue? [y/N] ")
    answer = ""
    with suppress(UsageError):  # nobody can answer
        answer = typed_line()
    if answer.strip().lower() not in ("y", "yes"):
        raise ImgError(
            "nothing was removed: this was not confirmed", hint="answer `y`, or use `-f`, which does not ask"
        )
