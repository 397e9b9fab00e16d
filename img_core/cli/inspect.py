"""``img inspect``: the configuration of an image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image, open_store
from img_core.cli._output import echo
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from img_core.spec.values import Platform
    from img_core.store import Store

__all__ = ["command"]


@click.command("inspect", cls=Command)
@click.option("--platform", default="", help="choose one platform of an image that has several")
@click.argument("names", nargs=-1, metavar="NAME[:TAG]...")
@click.pass_context
def command(context: click.Context, platform: str, names: tuple[str, ...]) -> None:
    """Show the configuration of an image as JSON; of several as one array."""
    from img_core.images import platforms

    if not names:
        raise UsageError("must pass an image to inspect")
    wanted = platforms.parse(platform) if platform else None
    with open_store(settings_of(context)) as store:
        documents = [_document(store, name, wanted) for name in names]
    shown = documents[0] if len(documents) == 1 else documents
    echo(json.dumps(shown, indent="\t", ensure_ascii=False))


def _document(store: Store, name: str, platform: Platform | None) -> Any:  # Any: JSON
    image = find_image(store, name, doing=f"getting image {name} from image store failed")
    content = store.images.content(image.descriptor, platform, name)
    return json.loads(store.read(content.config_descriptor.digest))
