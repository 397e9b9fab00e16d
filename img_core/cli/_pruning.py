"""What the commands that prune the build cache share; they differ in what else goes, and in what they ask first."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Callable, Iterator

    from img_core.store.collect import Policy
    from img_core.store.images import Image
    from img_core.store.usage import Piece

__all__ = ["Scope", "confirm", "prune_command"]

_FAILED = "pruning failed: failed to parse filters"


def _no_image(_image: Image, _everything: bool) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Scope:
    """What a command removes beside cache that nobody needs.

    *images* tells whether an image goes, without and with ``--all``. *spares_shared*: without ``--all`` what images share stays, and so do
    documents, as BuildKit spares its internal records. *warning* is what is asked before, unless ``-f`` is given; empty: nothing.
    """

    images: Callable[[Image, bool], bool] = _no_image
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
    from img_core.api.session import Session
    from img_core.store.collect import prune

    settings = settings_of(context)
    config = settings.config()
    removed: list[Piece] = []
    if os.path.exists(os.path.join(config.state_directory, "img.db")):
        # In the namespace: the files of a root file system belong to other ids.
        with Session(config, namespace=True, cleaning=True, notice=warn) as session:
            passes = wanted(session.store) if filters else None
            for policy in _policies(scope, everything, passes, seconds, keep):
                removed += prune(session.store, policy, dry_run=dry_run)
    listing = Listing(template, quiet)
    show_pieces(removed, listing, records=settings.debug, no_trunc=no_trunc)
    if listing.is_table:
        total = binary_size(sum(piece.size for piece in removed))
        echo(f"Reclaim{'able' if dry_run else 'ed'}:\t{total}")
        echo(f"Total:\t\t{total}")


def _policies(
    scope: Scope, everything: bool, passes: Callable[[Piece], bool] | None, seconds: float, keep: int
) -> Iterator[Policy]:
    """Give what is to be removed, one after the other."""
    from img_core.store.collect import Policy

    def goes(image: Image) -> bool:
        return scope.images(image, everything)

    spare = scope.spares_shared and not everything
    if spare and (passes is None or seconds):
        latest = time.time() - seconds
        yield Policy(images=lambda image: goes(image) and image.created <= latest, only_images=True)
    policy = Policy(unused_seconds=seconds, keep_bytes=keep, records=everything, images=_keep_all if spare else goes)
    matches = _matching(passes, spare=spare)
    yield policy if matches is None else replace(policy, matches=matches)


def _keep_all(_image: Image) -> bool:
    return False


def _matching(wanted: Callable[[Piece], bool] | None, *, spare: bool) -> Callable[[Piece], bool] | None:
    """Return what a piece has to pass, None for all of them; with *spare* what images share and documents stay."""
    if not spare:
        return wanted
    from img_core.store.usage import ABANDONED, SOURCE

    def goes(piece: Piece) -> bool:
        kept = piece.shared or piece.document or piece.kind == SOURCE
        return (not kept or piece.kind == ABANDONED) and (wanted is None or wanted(piece))

    return goes


def confirm(warning: str) -> None:
    """Ask on standard error whether to go on after *warning*, if there is one. Raises ImgError unless the answer is yes."""
    if not warning:
        return
    warn(warning)
    say("Are you sure you want to continue? [y/N] ")
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ImgError(
            "nothing was removed: this was not confirmed", hint="answer `y`, or use `-f`, which does not ask"
        )
