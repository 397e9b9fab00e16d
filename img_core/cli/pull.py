"""``img pull``: fetch an image from a registry."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._format import binary_size
from img_core.cli._images import normalized
from img_core.cli._output import echo, flush, warn
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._registry_flags import podman_registry_flags
from img_core.cli._transfers import showing_transfers
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from img_core.spec.values import Platform

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
    from img_core.api._pull import pull
    from img_core.api.session import Session

    config = settings_of(context).config()
    echo(f"Pulling {name}...")
    flush()
    # Blobs belong to us, whoever owns the files inside: no namespace is needed to fetch them.
    with ExitStack() as opened:
        session = opened.enter_context(Session(config, namespace=False, notice=warn))
        flag = "none" if quiet else progress
        shown = showing_transfers("Pulling", f"pulling {normalized(name)}", flag, session.plugins, config.environment)
        status = opened.enter_context(shown)
        insecure = ("*",) if insecure_registry else ()
        descriptor = pull(session, name, wanted=wanted, all_platforms=all_platforms, insecure=insecure, status=status)
        size = session.store.images.content_size(session.store.images.get(normalized(name), name))
    echo(f"Pulled: {descriptor.digest}")
    echo(f"Size: {binary_size(size or descriptor.size)}")


def _checked(name: str, specifiers: tuple[str, ...]) -> list[Platform]:
    """Refuse a bad name or platform before anything is opened."""
    from img_core.images import platforms

    normalized(name)
    return [platforms.parse(part.strip()) for text in specifiers for part in text.split(",") if part.strip()]
