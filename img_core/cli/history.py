"""``img history``: how an image came to be, newest step first."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._format import binary_size, human_age
from img_core.cli._images import find_image, open_store
from img_core.cli._listing import Listing, listing_flags
from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.store.images import ImageContent

__all__ = ["command"]

_HEADER = ("LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT")
_WORDS_LIMIT = 45
_DIGEST_LENGTH = 12


@click.command("history", cls=Command)
@click.option("--platform", default="", help="choose one platform of an image that has several")
@listing_flags(
    example="{{.CreatedBy}} {{.Size}}", cut="do not cut commands and digests", quiet="show only the digests of layers"
)
@click.argument("names", nargs=-1, metavar="IMAGE")
@click.pass_context
def command(
    context: click.Context, template: str, no_trunc: bool, platform: str, quiet: bool, names: tuple[str, ...]
) -> None:
    """Show the history of an image."""
    from img_core.images import platforms

    if not names:
        raise UsageError("must pass an image to show the history of")
    refuse_more(context, names, 1, "one image")
    wanted = platforms.parse(platform) if platform else None
    with open_store(settings_of(context)) as store:
        image = find_image(store, names[0], doing=f"getting image {names[0]} from image store failed")
        records = list(reversed(_records(store.images.content(image.descriptor, wanted, names[0]))))
    Listing(template, quiet).show(
        lambda: records,
        keys=lambda: [record["Layer"] for record in records if record["Layer"]],
        rows=lambda: [_HEADER, *(_row(record, no_trunc=no_trunc) for record in records)],
    )


def _records(content: ImageContent) -> list[dict[str, Any]]:  # Any: JSON
    """Return one record per entry of the history, oldest first; layers that no entry speaks of come last."""
    layers = list(content.layers)
    records = []
    for entry in content.config.document.get("history") or ():
        layer = layers.pop(0) if layers and not entry.get("empty_layer") else None
        records.append(
            {
                "Layer": layer.digest if layer else "",
                "CreatedAt": str(entry.get("created") or ""),
                "CreatedBy": str(entry.get("created_by") or ""),
                "Size": layer.size if layer else 0,
                "Comment": str(entry.get("comment") or ""),
            }
        )
    for layer in layers:
        records.append({"Layer": layer.digest, "CreatedAt": "", "CreatedBy": "", "Size": layer.size, "Comment": ""})
    return records


def _row(record: dict[str, Any], *, no_trunc: bool) -> tuple[str, ...]:  # Any: JSON
    layer, words = record["Layer"] or "<none>", show(" ".join(record["CreatedBy"].split()), limit=10_000)
    if not no_trunc:
        layer = layer.removeprefix("sha256:")[:_DIGEST_LENGTH]
        words = words if len(words) <= _WORDS_LIMIT else words[: _WORDS_LIMIT - 1] + "…"
    return (layer, _age(record["CreatedAt"]), words, binary_size(record["Size"]), show(record["Comment"]))


def _age(text: str) -> str:
    """Return how long ago an RFC 3339 time was; ``N/A`` if it is none."""
    try:
        moment = datetime.datetime.fromisoformat(text)
        return human_age(time.time() - moment.timestamp())
    except (ValueError, OverflowError):
        return "N/A"
