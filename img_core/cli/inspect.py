"""``img inspect``: the configuration of an image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import looking_for
from img_core.cli._output import echo
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from img_core.api import Client

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
    if platform:
        platforms.parse(platform)  # a mistake is told before anything is opened
    client = settings_of(context).client()
    documents = [_document(client, name, platform) for name in names]
    shown = documents[0] if len(documents) == 1 else documents
    echo(json.dumps(shown, indent="\t", ensure_ascii=False))


def _document(client: Client, name: str, platform: str) -> Mapping[str, Any]:  # Any: JSON
    with looking_for(client, name, doing=f"getting image {name} from image store failed"):
        return client.inspect(name, platform=platform).config
