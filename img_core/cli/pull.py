"""``img pull``: fetch an image from a registry."""

from __future__ import annotations

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._push_pull import pull
from img_core.cli._registry_flags import podman_registry_flags
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
    pull(
        settings_of(context),
        names[0],
        platforms=specifiers,
        all_platforms=all_platforms,
        insecure=insecure_registry,
        progress="none" if quiet else progress,
    )
