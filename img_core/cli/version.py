"""``img version``: versions of img and of what runs the containers, in the form of the original."""

from __future__ import annotations

import platform
import shutil
import subprocess

import click

from img_core import __version__
from img_core.cli._base import Command
from img_core.cli._output import echo
from img_core.cli._version import commit
from img_core.spec.errors import UsageError

__all__ = ["command"]

_RUNTIMES = ("runc", "crun")


@click.command("version", cls=Command)
@click.argument("arguments", nargs=-1, metavar="")
def command(arguments: tuple[str, ...]) -> None:
    """Show the version information."""
    if arguments:
        raise UsageError("no arguments expected")
    from img_core.images.platforms import host_platform

    echo("img:")
    _rows(
        ("version", __version__),
        ("git hash", commit()),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("platform", str(host_platform())),
    )
    for runtime in _RUNTIMES:
        lines = _runtime_version(runtime)
        if lines:
            echo(f"{runtime}:")
            _rows(*lines)


def _rows(*rows: tuple[str, str]) -> None:
    for name, value in rows:
        echo(f" {name:<11} : {value}")


def _runtime_version(runtime: str) -> list[tuple[str, str]]:
    """Ask a container runtime on PATH for its version; empty if there is none."""
    path = shutil.which(runtime)
    if path is None:
        return []
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    pairs = [line.replace(" version ", ": ", 1).partition(":") for line in done.stdout.splitlines()]
    known = {name.strip(): value.strip() for name, colon, value in pairs if colon}
    return [("version", known.get(runtime, "")), *((name, known[name]) for name in ("commit", "spec") if name in known)]
