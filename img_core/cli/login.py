"""``img login``: check credentials with a registry and keep them."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._format import table
from img_core.cli._input import standard_input, typed_line
from img_core.cli._output import echo, flush, say
from img_core.cli._registry_flags import podman_registry_flags
from img_core.files.rootlock import given_up
from img_core.spec.errors import CredentialsError, ImgError, UsageError

if TYPE_CHECKING:
    from img_core.api import Client
    from img_core.spec.values import Credentials

__all__ = ["command"]

_HUB_WELCOME = (
    "Login with your Docker ID to push and pull images from Docker Hub. If you don't have a Docker ID, "
    "head over to https://hub.docker.com to create one."
)
_HUB = "docker.io"
_SECRET_LIMIT = 1024 * 1024
_TOKEN_USER = "<token>"  # noqa: S105  # Docker's way to say that the password is an identity token
_EPILOG = "If no server is specified, the default (https://index.docker.io/v1/) is used."


@click.command("login", cls=Command, epilog=_EPILOG)
@click.option("--format", "form", default="", help="with --list: json")
@click.option("--insecure-registry", is_flag=True, help="allow plain HTTP and unverified TLS")
@click.option("-l", "--list", "listing", is_flag=True, help="list where you are logged in, and as whom")
@click.option("-p", "--password", default="", help="password")
@click.option("--password-stdin", is_flag=True, help="take the password from stdin")
@click.option("-u", "--username", default="", help="username")
@podman_registry_flags(reads=False)
@click.argument("servers", nargs=-1, metavar="[SERVER]")
@click.pass_context
def command(
    context: click.Context,
    form: str,
    insecure_registry: bool,
    listing: bool,
    password: str,
    password_stdin: bool,
    username: str,
    servers: tuple[str, ...],
) -> None:
    """Log in to a Docker registry."""
    from img_core.api import server_name

    refuse_more(context, servers, 1, "zero or one arguments")
    client = settings_of(context).client()
    if listing:
        _list(client, form)
        return
    server = server_name(servers[0] if servers else "")
    if password:
        say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
        if password_stdin:
            raise UsageError("--password and --password-stdin are mutually exclusive")
    if password_stdin:
        if not username:
            raise UsageError("must provide --username with --password-stdin")
        password = _read_secret()
    credentials = _ask(client, server, username, password)
    try:
        asked = client.login(
            server,
            username=credentials.username,
            password=credentials.password,
            identity_token=credentials.identity_token,
            insecure=insecure_registry,
        )
    except CredentialsError as err:
        if err.hint and "img login" in err.hint:  # that is what they are doing
            err.hint = "check the user name and the password"
        raise
    if not asked:
        say(f"warning: `{server}` did not ask who you are, so the password was kept unchecked")
    echo("Login succeeded.")


def _list(client: Client, form: str) -> None:
    found = client.logins()
    if form == "json":
        echo(json.dumps([{"Server": server, "Username": username} for server, username in found.items()]))
    elif form:
        raise UsageError(f"unknown format `{form}`", hint="known: `json`")
    else:
        echo(table([("SERVER", "USERNAME"), *((server, name or _TOKEN_USER) for server, name in found.items())]))


def _read_secret() -> str:
    """Read the password from standard input; one line end is not part of it. Raises UsageError."""
    stream = standard_input()
    with given_up():
        data = stream.read(_SECRET_LIMIT)
    try:
        text = data.decode()
    except UnicodeDecodeError as err:
        raise UsageError("the password on standard input is not UTF-8") from err
    return text.removesuffix("\n").removesuffix("\r")


def _ask(client: Client, server: str, username: str, password: str) -> Credentials:
    """Ask for what is missing; only a terminal is asked. Raises UsageError."""
    from img_core.spec.values import Credentials

    if not username or not password:
        if sys.stdin is None or not sys.stdin.isatty():
            if not username and not password and (known := client.credentials(server)):
                return known  # e.g. of a credential helper: scripts log in with what is there, as docker does
            raise UsageError(
                "cannot perform an interactive login from a non TTY device",
                hint="give `-u NAME --password-stdin`",
            )
        if not username:
            username = _ask_username(client, server)
        if not password:
            password = _ask_secret()
    if not username:
        raise UsageError("username cannot be empty")
    if not password:
        raise UsageError("password is required")
    return Credentials(identity_token=password) if username == _TOKEN_USER else Credentials(username, password)


def _ask_username(client: Client, server: str) -> str:
    if server == _HUB:
        echo(_HUB_WELCOME)
    known = client.credentials(server)
    default = known.username if known else ""
    echo(f"Username ({default}): " if default else "Username: ", end="")
    flush()
    return typed_line().strip() or default


def _ask_secret() -> str:
    """Read a line without showing it; whatever happens, the terminal shows what is typed again afterwards."""
    import termios

    descriptor = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(descriptor)
    except termios.error as err:
        raise UsageError("the terminal went away") from err
    silent = list(before)
    silent[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)  # before the prompt: it drops what was typed so far
        echo("Password: ", end="")
        flush()
        return typed_line()
    except termios.error as err:  # it is no error of the system's for Python
        raise UsageError("the terminal went away") from err
    finally:
        with suppress(termios.error, ImgError):  # what ended the wait is told
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
            echo("")
            flush()
