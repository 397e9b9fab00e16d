"""``img plugins check``: run the contract suite of a plugin, as its author's tests do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._format import render
from img_core.cli._output import echo
from img_core.cli._suggest import no_such_plugin
from img_core.plugins import LISTENER, Choice, parse_choice
from img_core.spec.errors import HostError, ImgError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.plugins import Found, Plugins
    from img_core.testing.running import Outcome

__all__ = ["command"]

#: Kinds of which each use says all options: their suites take them from samples.
_OPTIONS_IN_SAMPLES = ("secret", "cache")


class ContractBroken(ImgError):
    """A plugin does not keep its contract; every broken promise was shown."""


@click.command("check", cls=Command)
@click.argument("name", metavar="[KIND:]NAME[,OPTION=VALUE]")
@click.option(
    "--sample",
    "samples",
    multiple=True,
    help="what the suite has to know of its kind, NAME=VALUE: it names what it misses",
)
@click.option("-k", "select", default="", help="only tests whose names match this expression, as pytest takes it")
@click.option("--format", "template", default="", help="json, or a template such as {{.claim}}: {{.status}}")
@click.pass_context
def command(context: click.Context, name: str, samples: tuple[str, ...], select: str, template: str) -> None:
    """Run the contract suite of a plugin."""
    try:
        from img_core.testing.running import run_suites
        from img_core.testing.suites import check_samples
    except ImportError as err:
        hint = "`pip install 'img-builder[testing]'`"
        raise HostError(f"the contract suites cannot be run: {err}", hint=hint) from err
    plugins = settings_of(context).plugins()
    found, choice = _chosen(plugins, name)
    given = _pairs(samples)
    check_samples(found.kind, given)
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for outcome in run_suites(lambda: _suites(plugins, found, choice, given), select=select):
        counts[outcome.status] += 1
        _show(outcome, template)
    if not sum(counts.values()):
        raise UsageError(f"no test matches `-k {select}`")
    summary = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    if counts["failed"]:
        raise ContractBroken(f"{found.kind}:{found.name} does not keep its contract: {summary}")
    if not template:
        echo(f"{found.kind}:{found.name} keeps its contract: {summary}")


def _chosen(plugins: Plugins, text: str) -> tuple[Found, Choice]:
    """Return the one plugin that *text* means, and the options for it. Raises NotFoundError, UsageError, PluginError."""
    word, comma, options = text.partition(",")
    kind, _, name = word.rpartition(":")
    installed = plugins.installed()
    matching = [found for found in installed if found.name == name and kind in ("", found.kind)]
    kinds = sorted({found.kind for found in matching})
    if not matching:
        raise no_such_plugin(word, installed)
    if len(kinds) > 1:
        raise UsageError(f"`{word}` may be any of {', '.join(f'`{kind}:{name}`' for kind in kinds)}")
    return plugins.usable(kinds[0], name), parse_choice(kinds[0], name + comma + options)


def _suites(plugins: Plugins, found: Found, choice: Choice, samples: Mapping[str, str]) -> Mapping[str, type]:
    """Return the suites; called where the plugin may do harm to nobody."""
    from img_core.testing.suites import suites_for

    if found.kind in (LISTENER, "command"):
        driver = plugins.driver(found.kind, found.name) if found.kind != LISTENER else None
        return suites_for(found, driver, {}, samples)
    driver = plugins.driver(found.kind, found.name)
    if found.kind in _OPTIONS_IN_SAMPLES and not choice.options:
        return suites_for(found, driver, {}, samples)
    options = plugins.options(found.kind, found.name, {**_destination(found, driver), **choice.options})
    options = {name: value for name, value in options.items() if name != "dest" or found.kind != "exporter"}
    return suites_for(found, driver, options, samples)


def _destination(found: Found, driver: Any) -> dict[str, str]:  # Any: a driver
    """Return the option that the suite of exporters gives itself."""
    return {"dest": "-"} if found.kind == "exporter" and "dest" in (driver.schema or {}).get("properties", {}) else {}


def _pairs(samples: Sequence[str]) -> dict[str, str]:
    given = {}
    for text in samples:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"`--sample {text}` must be NAME=VALUE")
        given[name] = value
    return given


def _show(outcome: Outcome, template: str) -> None:
    if template:
        echo(render(template, asdict(outcome)))
        return
    echo(f"{outcome.status:8}{outcome.claim}" + (f": {outcome.reason}" if outcome.reason else ""))
    if outcome.status == "failed" and outcome.details:
        echo("".join(f"        {line}\n" for line in outcome.details.splitlines()[-20:]).rstrip("\n"))
