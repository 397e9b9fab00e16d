"""``img history``: how an image came to be, newest step first."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._format import binary_size, human_age
from img_core.cli._images import find_image
from img_core.cli._listing import Listing, listing_flags
from img_core.cli._output import echo
from img_core.spec.errors import NotFoundError, UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.api import Client, HistoryEntry, StoredImage

__all__ = ["command"]

_HEADER = ("LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT")
_WORDS_LIMIT = 45
_DIGEST_LENGTH = 12


@click.command("history", cls=Command)
@click.option("--explain", is_flag=True, help="tell of the build that gave it where each step was found, or why it ran")
@click.option("--platform", default="", help="choose one platform of an image that has several")
@listing_flags(
    example="{{.CreatedBy}} {{.Size}}", cut="do not cut commands and digests", quiet="show only the digests of layers"
)
@click.argument("names", nargs=-1, metavar="IMAGE")
@click.pass_context
def command(
    context: click.Context,
    template: str,
    no_trunc: bool,
    explain: bool,
    platform: str,
    quiet: bool,
    names: tuple[str, ...],
) -> None:
    """Show the history of an image."""
    from img_core.images import platforms

    if not names:
        raise UsageError("must pass an image to show the history of")
    refuse_more(context, names, 1, "one image")
    if platform:
        platforms.parse(platform)  # a mistake is told before anything is opened
    client = settings_of(context).client()
    image = find_image(client, names[0], doing=f"getting image {names[0]} from image store failed")
    if explain:
        _explain(client, image)
        return
    records = _records(client.history(names[0], platform=platform))
    Listing(template, quiet).show(
        lambda: records,
        keys=lambda: [record["Layer"] for record in records if record["Layer"]],
        rows=lambda: [_HEADER, *(_row(record, no_trunc=no_trunc) for record in records)],
    )


def _explain(client: Client, image: StoredImage) -> None:
    """Tell of the last build that gave *image* what it did with its steps."""
    from img_core.cli._explained import Explained

    build = next((build for build in client.builds() if build.digest == image.digest), None)
    if build is None:
        raise NotFoundError(
            f"no build that gave {show(image.name)} has a log here", hint="`img builds ls` lists those that have one"
        )
    explained = Explained()
    for event in client.logs(build.id):
        explained(event)
    for line in explained.lines():
        echo(line)


def _records(history: Sequence[HistoryEntry]) -> list[dict[str, Any]]:  # Any: JSON
    """Return one record per step, newest first."""
    return [
        {
            "Layer": entry.layer,
            "CreatedAt": entry.created,
            "CreatedBy": entry.created_by,
            "Size": entry.size,
            "Comment": entry.comment,
        }
        for entry in reversed(history)
    ]


def _row(record: dict[str, Any], *, no_trunc: bool) -> tuple[str, ...]:  # Any: JSON
    layer, words = record["Layer"] or "<none>", show(" ".join(record["CreatedBy"].split()), limit=10_000)
    if not no_trunc:
        layer = layer.rpartition(":")[2][:_DIGEST_LENGTH]
        words = words if len(words) <= _WORDS_LIMIT else words[: _WORDS_LIMIT - 1] + "…"
    return (layer, _age(record["CreatedAt"]), words, binary_size(record["Size"]), show(record["Comment"]))


def _age(text: str) -> str:
    """Return how long ago an RFC 3339 time was; ``N/A`` if it is none."""
    try:
        moment = datetime.datetime.fromisoformat(text)
        return human_age(time.time() - moment.timestamp())
    except (ValueError, OverflowError):
        return "N/A"
