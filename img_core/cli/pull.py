"""``img pull``: fetch an image from a registry."""

from __future__ import annotations

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._format import binary_size
from img_core.cli._images import normalized
from img_core.cli._output import echo, flush
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._registry_flags import podman_registry_flags
from img_core.cli._transfers import showing_transfers
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("pull", cls=Command)
@click.option("-a", "--all-platforms", is_flag=True, help="fetch all platforms of an image that has several")
@click.option("--insecure-registry", is_flag=True, help="allow plain HTTP and unverified TLS")
@click.option("--platform", "specifiers", multiple=True, help="fetch the image for these platforms, e.g. linux/arm64")
@click.option("--progress", default="", help=PROGRESS_HELP)
@click.option("-q", "--quiet", is_flag=True, help="show no progress")
@podman_registry_flags()
@click.argument("names", nargs=-1, metavar="NAME[:TAG|@DIGEST]")
@click.pass_context
def command(
    context: click.Context,
    all_platforms: bool,
    insecure_registry: bool,
    specifiers: tuple[str, ...],
    progress: str,
    quiet: bool,
    names: tuple[str, ...],
) -> None:
    """Pull an image or a repository from a registry."""
    if not names:
        raise UsageError("must pass an image or repository to pull")
    if all_platforms and specifiers:
        raise UsageError("`--all-platforms` and `--platform` exclude each other")
    refuse_more(context, names, 1, "one image")
    name = names[0]
    wanted = _checked(name, specifiers)
    settings = settings_of(context)
    client = settings.client()
    echo(f"Pulling {name}...")
    flush()
    with showing_transfers("Pulling", "none" if quiet else progress, client, settings) as show:
        image = client.pull(
            name, platforms=wanted, all_platforms=all_platforms, insecure=insecure_registry, on_event=show
        )
    echo(f"Pulled: {image.digest}")
    echo(f"Size: {binary_size(image.size or 0)}")


def _checked(name: str, specifiers: tuple[str, ...]) -> list[str]:
    """Return the platforms; refuse a bad one or a bad name before anything is opened."""
    from img_core.images import platforms

    normalized(name)
    return [str(platforms.parse(part.strip())) for text in specifiers for part in text.split(",") if part.strip()]
