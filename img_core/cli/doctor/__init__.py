"""``img doctor``: what this host offers, and the one command that would improve it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._format import render, table
from img_core.cli._output import echo, flush
from img_core.cli.doctor._finding import BAD, Finding
from img_core.spec.errors import ImgError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.api import Client

__all__ = ["command"]

_HOST_LACKS_SOMETHING = 7
_REPORT_VERSION = 1  # of the document that --json prints, see docs/reference/doctor.schema.json


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="print one JSON document")
@click.option(
    "--format", "template", default="", help="json (a line per finding), or a template such as {{.what}} {{.text}}"
)
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def command(context: click.Context, as_json: bool, template: str, arguments: tuple[str, ...]) -> None:
    """Check what this host offers and what would make builds better."""
    if arguments:
        raise UsageError("no arguments expected")
    if as_json and template:
        raise UsageError("`--json` and `--format` exclude each other")
    findings = list(examine(settings_of(context).client()))
    usable = all(finding.status != BAD for finding in findings)
    if as_json:
        _print_json(findings, usable=usable)
    elif template:
        for finding in findings:
            echo(render(template, asdict(finding)))
    else:
        _print_table(findings)
    if not usable:
        flush()
        raise SystemExit(_HOST_LACKS_SOMETHING)


def _print_json(findings: list[Finding], *, usable: bool) -> None:
    import json

    document = {"version": _REPORT_VERSION, "usable": usable, "findings": [asdict(finding) for finding in findings]}
    echo(json.dumps(document, indent=2))


def _print_table(findings: list[Finding]) -> None:
    echo(table([(finding.status, finding.what, finding.text) for finding in findings]))
    for finding in findings:
        if finding.hint:
            echo(f"hint: {finding.what}: {finding.hint}")


def examine(client: Client) -> Iterator[Finding]:
    """Look at everything that builds depend on; enters the user namespace."""
    config = client.config
    from img_core.cli.doctor import _drivers, _host, _ids, _listeners, _network

    yield _host.system()
    try:
        client.enter()
    except ImgError as err:
        yield Finding(BAD, "session", err.message, err.hint or "")
    else:
        with client:
            host = client.host
            yield from _ids.mapping(host)
            yield from _host.state_directory(host)
            inventory = client.plugins.inventory(host=host)
            # On an overlay nothing is gained by another way to merge layers.
            merging = _host.file_system(host.state_directory) != _host.OVERLAY
            yield from _drivers.drivers(config, inventory, install=merging)
            taken = _drivers.chosen(config, inventory, "snapshotter")
            yield _host.fuse(needed=merging and bool(_drivers.preferred(config, taken, "snapshotter")))
            yield _host.emulation(host)
            yield from _listeners.checks(client.plugins, host)
    yield _host.cgroups()
    yield _network.helpers(config.environment)
    yield _network.abstract_sockets(config.environment)
    yield _network.certificates()
