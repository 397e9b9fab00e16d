"""``img ls``: the images of the state directory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._docker_filters import image_filters
from img_core.cli._format import binary_size, human_age, narrow_table, short_age, table
from img_core.cli._listing import Listing, listing_flags
from img_core.images.reference import Reference

if TYPE_CHECKING:
    from img_core.api import StoredImage

__all__ = ["command"]

_DIGEST_LENGTH = 12  # digits, as docker shows them
_NONE = "<none>"  # docker's word for what an image lacks
_HEADER = ("NAME", "SIZE", "CREATED AT", "UPDATED AT", "DIGEST")


@click.command("ls", cls=Command)
@click.option(
    "-f", "--filter", "filters", multiple=True, help="filter output, e.g. reference=app:*, label=a=b, or name~=alpine"
)
@listing_flags(example="{{.Name}} {{.Size}}", cut="show whole names and digests", quiet="show only digests")
@click.argument("arguments", nargs=-1, metavar="[REPOSITORY[:TAG]]")
@click.pass_context
def command(
    context: click.Context,
    filters: tuple[str, ...],
    template: str,
    no_trunc: bool,
    quiet: bool,
    arguments: tuple[str, ...],
) -> None:
    """List images and digests."""
    refuse_more(context, arguments, 1, "no or one repository")
    texts = [*filters, *(f"reference={text}" for text in arguments)]
    wanted = image_filters(texts, "listing images")
    images = wanted(settings_of(context).client())
    Listing(template, quiet).show(
        lambda: [_record(image) for image in images],
        keys=lambda: [image.digest for image in images],
        rows=lambda: [_HEADER, *(_row(image, short=not no_trunc) for image in images)],
        layout=table if no_trunc else narrow_table,
    )


def _row(image: StoredImage, *, short: bool) -> tuple[str, ...]:
    """Return the cells of *image*; *short* ones leave room for a name of 24 characters in a line of 80."""
    now, age = time.time(), short_age if short else human_age
    shown = "?" if image.size is None else binary_size(image.size)
    name, digest = _shown_name(image, short=short), image.digest
    if short:
        digest = digest.partition(":")[2][:_DIGEST_LENGTH]
    return (name, shown, age(now - image.created), age(now - image.updated), digest)


def _shown_name(image: StoredImage, *, short: bool = False) -> str:
    if image.is_untagged:
        return _NONE
    return Reference.parse(image.name).familiar() if short else image.name


def _record(image: StoredImage) -> dict[str, Any]:  # Any: JSON
    named = None if image.is_untagged else Reference.parse(image.name)
    return {
        "Name": _shown_name(image),
        "Repository": named.familiar_name if named else _NONE,
        "Tag": (named and named.tag) or _NONE,
        "ID": image.digest,
        "Size": image.size,
        "CreatedAt": _timestamp(image.created),
        "UpdatedAt": _timestamp(image.updated),
        "Digest": image.digest,
        "MediaType": image.media_type,
    }


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
