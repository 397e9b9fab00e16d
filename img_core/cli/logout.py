"""``img logout``: forget the credentials of a registry."""

from __future__ import annotations

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._output import echo, say

__all__ = ["command"]

_HUB, _HUB_SHOWN = "docker.io", "https://index.docker.io/v1/"
_EPILOG = "If no server is specified, the default (https://index.docker.io/v1/) is used."


@click.command("logout", cls=Command, epilog=_EPILOG)
@click.argument("servers", nargs=-1, metavar="[SERVER]")
@click.pass_context
def command(context: click.Context, servers: tuple[str, ...]) -> None:
    """Log out from a Docker registry."""
    from img_core.api import server_name

    refuse_more(context, servers, 1, "zero or one arguments")
    server = server_name(servers[0] if servers else "")
    shown = _HUB_SHOWN if server == _HUB else server
    done = settings_of(context).client().logout(server)
    if not done.known:
        echo(f"Not logged in to {shown}")
        return
    echo(f"Removing login credentials for {shown}")
    for warning in done.warnings:
        say(f"WARNING: could not erase credentials: {warning}")
    echo("Logout succeeded.")
