"""``img plugins``: what is installed, where it comes from, and whether it can be used."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Group, settings_of
from img_core.cli._format import render, table
from img_core.cli._output import echo
from img_core.plugins import KINDS, LISTENER, PluginInfo
from img_core.spec.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.plugins import Plugins

__all__ = ["command"]


@click.group("plugins", cls=Group)
def command() -> None:
    """List plugins and tell what they offer."""


@command.command("ls")
@click.option("--kind", type=click.Choice(KINDS), help="only this kind: " + ", ".join(KINDS))
@click.option("--format", "template", default="", help="json, or a template such as {{.kind}}:{{.name}}")
@click.pass_context
def list_plugins(context: click.Context, kind: str | None, template: str) -> None:
    """List all plugins with their state and origin."""
    infos = [info for info in settings_of(context).plugins().inventory() if kind in (None, info.kind)]
    if template:
        for info in infos:
            echo(render(template, asdict(info)))
        return
    header = ("KIND", "NAME", "STATUS", "DISTRIBUTION", "VERSION", "REASON")
    rows = [(info.kind, info.name, info.status, info.distribution, info.version, info.reason) for info in infos]
    echo(table([header, *rows]))


@command.command("info")
@click.argument("names", nargs=-1, required=True, metavar="[KIND:]NAME...")
@click.pass_context
def show_plugins(context: click.Context, names: tuple[str, ...]) -> None:
    """Show everything about plugins, with the options they take."""
    plugins = settings_of(context).plugins()
    inventory = plugins.inventory()
    chosen = [info for name in names for info in _matching(inventory, name)]
    echo("\n\n".join(_describe(plugins, info) for info in chosen))


def _matching(inventory: Sequence[PluginInfo], name: str) -> list[PluginInfo]:
    found = [info for info in inventory if name in (info.name, f"{info.kind}:{info.name}")]
    if not found:
        raise NotFoundError(f'plugin "{name}": not found', hint="`img plugins ls` shows what is installed")
    return found


def _describe(plugins: Plugins, info: PluginInfo) -> str:
    lines = [
        f"{info.kind}:{info.name}",
        f"  status        {info.status}" + (f": {info.reason}" if info.reason else ""),
        f"  distribution  {info.distribution} {info.version}",
        f"  module        {info.module}",
    ]
    if info.status in {"ok", "unsupported"} and info.kind not in {LISTENER, "command"}:
        lines += _describe_driver(plugins.driver(info.kind, info.name))
    return "\n".join(lines)


def _describe_driver(driver: Any) -> list[str]:  # Any: a driver class
    lines = [f"  contract      {driver.api[0]} to {driver.api[1]}"]
    summary = (driver.__doc__ or "").strip().partition("\n")[0]
    if summary:
        lines.append(f"  about         {summary}")
    properties: Mapping[str, Any] = (driver.schema or {}).get("properties", {})
    if properties:
        required = set(driver.schema.get("required", ()))
        lines += [
            "  options",
            *(_option_row(name, schema, name in required) for name, schema in sorted(properties.items())),
        ]
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
