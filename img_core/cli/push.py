"""``img push``: send an image to a registry."""

from __future__ import annotations

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._push_pull import push
from img_core.cli._registry_flags import podman_registry_flags
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("push", cls=Command)
@click.option("-a", "--all-platforms", is_flag=True, help="push all platforms of an image that has several (default)")
@click.option("--insecure-registry", is_flag=True, help="allow plain HTTP and unverified TLS")
@click.option("--platform", default="", help="push only the image for this platform, e.g. linux/arm64")
@click.option("--progress", default="", help=PROGRESS_HELP)
@click.option("-q", "--quiet", is_flag=True, help="show no progress")
@podman_registry_flags()
@click.argument("names", nargs=-1, metavar="NAME[:TAG] [DESTINATION]")
@click.pass_context
def command(
    context: click.Context,
    all_platforms: bool,
    insecure_registry: bool,
    platform: str,
    progress: str,
    quiet: bool,
    names: tuple[str, ...],
) -> None:
    """Push an image or a repository to a registry."""
    if not names:
        raise UsageError("must pass an image or repository to push")
    if all_platforms and platform:
        raise UsageError("`--all-platforms` and `--platform` exclude each other")
    refuse_more(context, names, 2, "one image and perhaps a destination")
    push(
        settings_of(context),
        *names,
        platform=platform,
        insecure=insecure_registry,
        progress="none" if quiet else progress,
    )
