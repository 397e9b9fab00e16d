"""The work of ``img push`` and ``img pull``, once it is known what they were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.cli._images import looking_for, normalized
from img_core.cli._output import echo, flush
from img_core.cli._transfers import showing_transfers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.cli._settings import Settings

__all__ = ["pull", "push"]


def push(
    settings: Settings,
    name: str,
    destination: str = "",
    *,
    platform: str = "",
    insecure: bool = False,
    progress: str = "",
) -> None:
    """Push the image *name*, as *destination* if there is one; a bad name or platform is refused before anything is opened."""
    from img_core.api import refuse_id
    from img_core.images import platforms

    shown = destination or name
    if not destination:
        refuse_id(name)
    normalized(shown)
    if platform:
        platforms.parse(platform)
    client = settings.client()
    echo(f"Pushing {shown}...")
    flush()
    with (
        looking_for(client, name, doing=f'getting image "{name}" failed'),
        showing_transfers("Pushing", progress, client, settings) as show,
    ):
        client.push(name, destination=shown, platform=platform, insecure=insecure, on_event=show)
    echo(f"Successfully pushed {shown}")


def pull(
    settings: Settings,
    name: str,
    *,
    platforms: Sequence[str] = (),
    all_platforms: bool = False,
    insecure: bool = False,
    progress: str = "",
) -> None:
    """Pull the image *name*; a bad name or platform is refused before anything is opened."""
    from img_core.cli._format import binary_size

    wanted = _checked(name, platforms)
    client = settings.client()
    echo(f"Pulling {name}...")
    flush()
    with showing_transfers("Pulling", progress, client, settings) as show:
        image = client.pull(name, platforms=wanted, all_platforms=all_platforms, insecure=insecure, on_event=show)
    echo(f"Pulled: {image.digest}")
    echo(f"Size: {binary_size(image.size or 0)}")


def _checked(name: str, specifiers: Sequence[str]) -> list[str]:
    from img_core.images import platforms

    normalized(name)
    return [str(platforms.parse(part.strip())) for text in specifiers for part in text.split(",") if part.strip()]
