"""``img image prune``: remove images without a name, as docker does; the build cache stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._docker_filters import image_filters, split_filters
from img_core.cli._format import binary_size
from img_core.cli._output import echo
from img_core.cli._pruning import confirm
from img_core.images.reference import Reference
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.api import StoredImage

__all__ = ["command"]

_DOING = "pruning images"


@click.command("prune", cls=Command)
@click.option("-a", "--all", "everything", is_flag=True, help="remove all images, also those with names")
@click.option("--filter", "filters", multiple=True, help="remove only what matches, e.g. until=24h or label=a=b")
@click.option("-f", "--force", is_flag=True, help="do not ask")
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def command(
    context: click.Context, everything: bool, filters: tuple[str, ...], force: bool, arguments: tuple[str, ...]
) -> None:
    """Remove images without a name; names and the build cache stay."""
    if arguments:
        raise UsageError("no arguments expected")
    dangling = [one.truth for one in split_filters(filters, ("dangling",))[0]]
    everything = everything or False in dangling  # what docker means by `dangling=false`
    texts = [text for text in filters if not text.startswith("dangling=")]
    wanted = image_filters(texts, _DOING)
    if not force:
        confirm("this removes all images" if everything else "this removes all images without a name")
    client = settings_of(context).client()
    images = [image for image in wanted(client) if everything or image.is_untagged]
    size = client.prune_images([image.name for image in images])
    _show(images)
    echo(f"Total reclaimed space: {binary_size(size)}")


def _show(images: Sequence[StoredImage]) -> None:
    """Print the removed images as docker does: their names, then the ids that nothing has any more."""
    if not images:
        return
    echo("Deleted Images:")
    for image in images:
        if not image.is_untagged:
            echo(f"untagged: {Reference.parse(image.name).familiar()}")
    for digest in dict.fromkeys(image.digest for image in images):
        echo(f"deleted: {digest}")
    echo("")
