"""``img pull``: fetch an image from a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._format import binary_size
from img_core.cli._output import echo, flush, say
from img_core.cli.ls import content_size
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from img_core.spec.values import Platform

__all__ = ["command"]


@click.command("pull", cls=Command)
@click.option("--insecure-registry", is_flag=True, help="allow plain HTTP and unverified TLS")
@click.option("--platform", default="", help="fetch the image for another platform than this host's, e.g. linux/arm64")
@click.argument("names", nargs=-1, metavar="NAME[:TAG|@DIGEST]")
@click.pass_context
def command(context: click.Context, insecure_registry: bool, platform: str, names: tuple[str, ...]) -> None:
    """Pull an image or a repository from a registry."""
    if not names:
        raise UsageError("must pass an image or repository to pull")
    name = names[0]
    wanted = _checked(name, platform)
    from img_core.api._images import pull
    from img_core.api.session import Session

    config = settings_of(context).config()
    echo(f"Pulling {name}...")
    flush()
    # Blobs belong to us, whoever owns the files inside: no namespace is needed to fetch them.
    with Session(config, namespace=False, notice=lambda text: say(f"warning: {text}")) as session:
        descriptor = pull(session, name, platform=wanted, insecure=("*",) if insecure_registry else ())
        size = content_size(session.store, descriptor)
    echo(f"Pulled: {descriptor.digest}")
    echo(f"Size: {binary_size(size or descriptor.size)}")


def _checked(name: str, platform: str) -> Platform | None:
    """Refuse a bad name or platform before anything is opened."""
    from img_core.cli._images import normalized
    from img_core.kit import platforms

    normalized(name)
    return platforms.parse(platform) if platform else None
