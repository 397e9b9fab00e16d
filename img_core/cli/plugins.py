"""``img plugins``: what is installed, where it comes from, and whether it can be used."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import CommandGroup, settings_of
from img_core.cli._commands import is_taken
from img_core.cli._format import render, table
from img_core.cli._output import echo, warn
from img_core.cli._suggest import no_such_plugin
from img_core.cli.plugin_check import command as check_plugin
from img_core.cli.plugin_install import command as install_plugin
from img_core.cli.plugin_new import command as new_plugin
from img_core.plugins import KINDS, LISTENER, PluginInfo, Plugins, environment_name, parse_plugin_id
from img_core.spec.errors import PluginError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.cli._settings import Settings

__all__ = ["command"]


@click.group("plugins", cls=CommandGroup)
def command() -> None:
    """List plugins and tell what they offer."""


@command.command("ls")
@click.option("--kind", type=click.Choice(KINDS), help="only this kind: " + ", ".join(KINDS))
@click.option("--probe", is_flag=True, help="ask each one, too, whether it works on this host")
@click.option("--format", "template", default="", help="json, or a template such as {{.kind}}:{{.name}}")
@click.pass_context
def list_plugins(context: click.Context, kind: str | None, probe: bool, template: str) -> None:
    """List all plugins with their state and origin."""
    settings = settings_of(context)
    inventory = [_reached(info) for info in (_probed(settings) if probe else settings.plugins().inventory())]
    infos = [info for info in inventory if kind in (None, info.kind)]
    if template:
        for info in infos:
            echo(render(template, asdict(info)))
        return
    for path in settings.plugins().strays():
        warn(f"`{show(path)}` is no plugin: its name must be `KIND-NAME.py`, e.g. `exporter-list.py`")
    header = ("KIND", "NAME", "STATUS", "DISTRIBUTION", "VERSION", "REASON")
    rows = [(info.kind, info.name, info.status, info.distribution, info.version, info.reason) for info in infos]
    echo(table([header, *rows]))


def _reached(info: PluginInfo) -> PluginInfo:
    """Return *info*, or that it is of no use if it is a command that nobody can call."""
    if info.kind != "command" or info.status != "ok" or not is_taken(info.name):
        return info
    return replace(info, status="unsupported", reason=f"`img {info.name}` means something else already")


def _probed(settings: Settings) -> Sequence[PluginInfo]:
    """Ask every plugin from where a build would: inside of the user namespace, which a mere listing does without."""
    with settings.client() as client:
        return client.plugins.inventory(host=client.host)


@command.command("info")
@click.argument("names", nargs=-1, required=True, metavar="[KIND:]NAME...")
@click.pass_context
def show_plugins(context: click.Context, names: tuple[str, ...]) -> None:
    """Show everything about plugins, with the options they take."""
    plugins = settings_of(context).plugins()
    inventory = [_reached(info) for info in plugins.inventory()]
    chosen = [info for name in names for info in _matching(inventory, name)]
    echo("\n\n".join(_describe(plugins, info) for info in chosen))


command.add_command(check_plugin)
command.add_command(install_plugin)
command.add_command(new_plugin)


@command.command("disable")
@click.argument("names", nargs=-1, required=True, metavar="KIND:NAME...")
@click.pass_context
def disable_plugins(context: click.Context, names: tuple[str, ...]) -> None:
    """Switch plugins off for this user; they are not even imported then."""
    _switch(context, names, enabled=False)


@command.command("enable")
@click.argument("names", nargs=-1, required=True, metavar="KIND:NAME...")
@click.pass_context
def enable_plugins(context: click.Context, names: tuple[str, ...]) -> None:
    """Switch plugins on for this user, unless the administrator locked them."""
    _switch(context, names, enabled=True)


def _switch(context: click.Context, names: Sequence[str], *, enabled: bool) -> None:
    from img_core.cli._toggle_file import switch

    settings = settings_of(context)
    for name in names:
        kind, word = parse_plugin_id(name, "the command line")
        inventory = _installed(settings.plugins())
        if word != "*" and not any((info.kind, info.name) == (kind, word) for info in inventory):
            raise no_such_plugin(name, inventory)
        switch(settings.config(), f"{kind}:{word}", enabled=enabled)
        toggle = Plugins(settings.config()).toggle(kind, word)
        if toggle.enabled is not enabled:
            raise PluginError(f"{name} stays {'on' if toggle.enabled else 'off'}: {toggle.by} decides")
        echo(f"{'Enabled' if enabled else 'Disabled'} {name}")


def _installed(plugins: Plugins) -> Sequence[PluginInfo]:
    return plugins.inventory(check=False)


def _matching(inventory: Sequence[PluginInfo], name: str) -> list[PluginInfo]:
    found = [info for info in inventory if name in (info.name, f"{info.kind}:{info.name}")]
    if not found:
        raise no_such_plugin(name, inventory)
    return found


def _describe(plugins: Plugins, info: PluginInfo) -> str:
    lines = [
        f"{info.kind}:{info.name}",
        f"  status        {info.status}" + (f": {info.reason}" if info.reason else ""),
        f"  distribution  {info.distribution} {info.version}",
        f"  module        {info.module}",
    ]
    if info.status in {"ok", "unsupported"} and info.kind not in {LISTENER, "command"}:
        lines += _describe_driver(info, plugins.driver(info.kind, info.name))
    return "\n".join(lines)


def _describe_driver(info: PluginInfo, driver: Any) -> list[str]:  # Any: a driver class
    lines = [f"  contract      {driver.api[0]} to {driver.api[1]}"]
    summary = (driver.__doc__ or "").strip().partition("\n")[0]
    if summary:
        lines.append(f"  about         {summary}")
    properties: Mapping[str, Any] = (driver.schema or {}).get("properties", {})
    if properties:
        required = set(driver.schema.get("required", ()))
        lines.append("  options")
        for name, schema in sorted(properties.items()):
            lines.append(_option_row(name, schema, name in required))
            variables = [environment_name(info.kind, info.name, name), schema.get("x-environment", "")]
            lines.append(f"      variable {' or '.join(filter(None, variables))}")
    return lines


def _option_row(name: str, schema: Mapping[str, Any], required: bool) -> str:  # Any: JSON
    words = schema.get("type", "string")
    kind = (
        "|".join(map(str, schema["enum"])) if "enum" in schema else words if isinstance(words, str) else "|".join(words)
    )
    marks = [f"default {json.dumps(schema['default'])}"] if "default" in schema else []
    marks += ["required"] if required else []
    text = schema.get("description", "") + (f" ({', '.join(marks)})" if marks else "")
    return f"    {name}={kind}  {text}".rstrip()
