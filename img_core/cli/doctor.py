"""``img doctor``: what this host offers, and the one command that would improve it."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._format import binary_size, render, table
from img_core.cli._output import echo, flush
from img_core.spec.errors import ImgError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.api.session import Session
    from img_core.config import Config

__all__ = ["Finding", "command"]

OK, WORSE, BAD = "ok", "worse", "bad"
_LITTLE_SPACE = 2 * 1024**3
_HOST_LACKS_SOMETHING = 7
_NEEDED = ("executor", "snapshotter")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: *status* is ``ok``, ``worse`` (it works, but could be better) or ``bad`` (builds fail)."""

    status: str
    what: str
    text: str
    hint: str = ""


@click.command("doctor", cls=Command)
@click.option("--format", "template", default="", help="json, or a template such as {{.what}} {{.text}}")
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def command(context: click.Context, template: str, arguments: tuple[str, ...]) -> None:
    """Check what this host offers and what would make builds better."""
    if arguments:
        raise UsageError("no arguments expected")
    findings = list(examine(settings_of(context).config()))
    if template:
        for finding in findings:
            echo(render(template, asdict(finding)))
    else:
        echo(table([(finding.status, finding.what, finding.text) for finding in findings]))
        for finding in findings:
            if finding.hint:
                echo(f"hint: {finding.what}: {finding.hint}")
    if any(finding.status == BAD for finding in findings):
        flush()
        raise SystemExit(_HOST_LACKS_SOMETHING)


def examine(config: Config) -> Iterator[Finding]:
    """Look at everything that builds depend on; enters the user namespace."""
    from img_core.api.session import Session

    yield Finding(OK, "host", f"Linux {os.uname().release} {os.uname().machine}, Python {platform.python_version()}")
    try:
        session = Session(config, namespace=True)
    except ImgError as err:
        yield Finding(BAD, "session", err.message, err.hint or "")
        return
    with session:
        yield _mapping(session)
        yield _space(session)
        yield from _drivers(session)
    yield _certificates()


def _mapping(session: Session) -> Finding:
    host = session.host
    if host.mapping == "single":
        user = os.environ.get("USER") or str(host.real_uid)
        return Finding(
            WORSE,
            "user ids",
            f"only one id is mapped, owners are recorded instead of set: {host.mapping_reason or 'as asked'}",
            _mapping_hint(user, host.mapping_reason),
        )
    return Finding(OK, "user ids", "real root" if host.mapping == "root" else "sub-ids are mapped")


def _mapping_hint(user: str, reason: str) -> str:
    if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        return "install newuidmap, e.g. `sudo apt-get install uidmap` or `sudo dnf install shadow-utils`"
    if "not permitted" in reason:
        # A setuid newuidmap is not the owner of our namespace, and in a container it lacks SYS_ADMIN to make up for it.
        return (
            "in a container (started without no-new-privileges) the tools need file capabilities, not a setuid bit: "
            f"`setcap cap_setuid+ep {shutil.which('newuidmap')}; setcap cap_setgid+ep {shutil.which('newgidmap')}`"
        )
    return f"`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`"


def _space(session: Session) -> Finding:
    usage = os.statvfs(session.store.state)
    free = usage.f_bavail * usage.f_frsize
    text = f"{session.store.state}, {binary_size(free)} free"
    if free < _LITTLE_SPACE:
        return Finding(WORSE, "state directory", text, "free some space, or choose another place with `-s DIR`")
    return Finding(OK, "state directory", text)


def _drivers(session: Session) -> Iterator[Finding]:
    """Ask every plugin; of the kinds that a build needs one must work."""
    inventory = session.plugins.inventory(host=session.host)
    for kind in _NEEDED:
        infos = [info for info in inventory if info.kind == kind]
        if not any(info.status == "ok" for info in infos):
            reasons = "; ".join(f"{info.name}: {info.reason}" for info in infos)
            yield Finding(BAD, kind, f"none works: {reasons or 'none is installed'}", "`img plugins ls`")
    for info in inventory:
        if info.status == "ok" and info.kind in _NEEDED:
            yield Finding(OK, f"{info.kind} {info.name}", "works")
        elif info.status != "ok":
            yield Finding(WORSE, f"{info.kind} {info.name}", f"{info.status} {info.reason}")


def _certificates() -> Finding:
    import ssl  # 20 ms

    paths = ssl.get_default_verify_paths()
    found = [path for path in (paths.cafile, paths.capath) if path and os.path.exists(path)]
    if not found:
        return Finding(
            WORSE,
            "certificates",
            f"no certificate authorities at {paths.openssl_cafile}: registries cannot be verified",
            "install the package `ca-certificates`",
        )
    return Finding(OK, "certificates", found[0])
