"""``img plugins install``: with pip, into the environment that img itself runs in, or one line where that is forbidden."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command
from img_core.cli._output import echo, warn
from img_core.plugins import KINDS
from img_core.spec.errors import HostError, ImgError, UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PythonPlace", "command", "install_command", "requirement", "this_place"]

#: A name with a version, as pip takes it (PEP 508, without URLs and markers), or the file of a wheel.
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[a-z0-9,_-]+\])?(?:(?:==|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!,<>=~]+)?"
)
_MARK = "EXTERNALLY-MANAGED"  # PEP 668


@dataclass(frozen=True, slots=True)
class PythonPlace:
    """The environment of a Python: what decides how something is installed into it."""

    python: str
    prefix: str
    virtual: bool  #: an environment of its own (venv, pipx)
    managed: str = ""  #: the file with which a distribution says that it alone installs here
    writable: bool = True
    has_pip: bool = True
    pipx: str = ""  #: the name of the environment, if pipx made it and is there


def this_place() -> PythonPlace:
    """Look at the environment that img runs in."""
    mark = os.path.join(sysconfig.get_path("stdlib", sysconfig.get_default_scheme()), _MARK)
    virtual = sys.prefix != sys.base_prefix
    made_by_pipx = os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")) and shutil.which("pipx")
    library = sysconfig.get_path("purelib")
    in_user_site = __file__.startswith(site.getusersitepackages() + os.sep)
    return PythonPlace(
        sys.executable,
        sys.prefix,
        virtual,
        managed=mark if not virtual and os.path.exists(mark) else "",
        writable=os.access(library, os.W_OK) and not in_user_site,
        has_pip=find_spec("pip") is not None,
        pipx=os.path.basename(sys.prefix) if made_by_pipx else "",
    )


def install_command(place: PythonPlace, words: Sequence[str]) -> list[str]:
    """Return the command that installs *words* (options and requirements of pip) into *place*.

    Raises HostError, whose hint is the one line to type, where a distribution forbids it or there is no pip.
    """
    if place.pipx:
        options = [word for word in words if word.startswith("-")]
        given = [f"--pip-args={shlex.join(options)}"] if options else []
        return ["pipx", "inject", *given, place.pipx, *[word for word in words if not word.startswith("-")]]
    if place.managed:
        line = [place.python, "-m", "pip", "install", "--user", "--break-system-packages", *words]
        raise HostError(
            f"this Python belongs to the system's packages, and `{show(place.managed)}` forbids pip to add to it",
            hint=f"a package of the system, or at your own risk: `{shlex.join(line)}`",
        )
    if not place.has_pip:
        line = ["uv", "pip", "install", "--python", place.python, *words]
        raise HostError(
            f"there is no pip in `{show(place.prefix)}`",
            hint=f"`{place.python} -m ensurepip`, or `{shlex.join(line)}`",
        )
    user = [] if place.virtual or place.writable else ["--user"]
    return [place.python, "-m", "pip", "install", "--disable-pip-version-check", *user, *words]


def requirement(name: str) -> str:
    """Return what pip calls *name*: a distribution, ``kind:name`` for ``img-kind-name``, or the file of a wheel. Raises UsageError."""
    if name.endswith(".whl") and os.path.isfile(name):
        return os.path.abspath(name)
    kind, colon, word = name.partition(":")
    text = f"img-{kind}-{word}" if colon and kind in KINDS else name
    if not _REQUIREMENT.fullmatch(text):
        raise UsageError(
            f"`{show(name)}` is no name of a distribution", hint="e.g. `img-exporter-squashfs`, or `exporter:squashfs`"
        )
    return text


@click.command("install", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--find-links", default="", metavar="DIRECTORY", help="look for distributions there, too")
@click.option("--no-index", is_flag=True, help="ask no package index")
@click.option("--upgrade", is_flag=True, help="take the newest version, also if there is one")
def command(names: tuple[str, ...], find_links: str, no_index: bool, upgrade: bool) -> None:
    """Install plugins where img is installed: distributions, or KIND:NAME for img-KIND-NAME."""
    wanted = [requirement(name) for name in names]
    flags = [
        *([f"--find-links={find_links}"] if find_links else []),
        *(["--no-index"] if no_index else []),
        *(["--upgrade"] if upgrade else []),
    ]
    words = install_command(this_place(), [*flags, *wanted])
    before = _plugins()
    try:
        # What pip says is talk: standard output is for what was installed.
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=False)
    except OSError as err:
        raise HostError(f"cannot run `{words[0]}`: {(err.strerror or '').lower()}") from err
    if done.returncode != 0:
        raise ImgError(f"`{show(shlex.join(words))}` failed with status {done.returncode}")
    new = sorted(_plugins() - before)
    for line in new:
        echo(line)
    if not new:
        warn(f"no plugin came with {', '.join(show(name) for name in names)}; `img plugins ls` shows what is installed")


def _plugins() -> set[str]:
    """Return what is installed, as a fresh process sees it."""
    words = [
        sys.executable,
        "-m",
        "img_core",
        "plugins",
        "ls",
        "--format",
        "{{.kind}}:{{.name}} {{.distribution}} {{.version}}",
    ]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return set(done.stdout.splitlines())
