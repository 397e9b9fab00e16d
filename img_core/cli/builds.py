"""``img builds``: what was built in this state directory, and how that went."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import CommandGroup, settings_of
from img_core.cli._docker_filters import split_filters
from img_core.cli._filters import parse_filters
from img_core.cli._format import narrow_table, short_age, short_duration
from img_core.cli._listing import Listing, listing_flags
from img_core.cli.logs import command as logs_command
from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from img_core.api import RecordedBuild

__all__ = ["command"]

_HEADER = ("BUILD", "STARTED", "DURATION", "RESULT", "CACHED", "TAGS", "CONTEXT")
_FIELDS = ("id", "result", "context", "definition", "target", "tag")
_LIMIT = 40


@click.group("builds", cls=CommandGroup)
def command() -> None:
    """List recent builds and show their logs."""


command.add_command(logs_command)


@command.command("ls")
@click.option(
    "-f", "--filter", "filters", multiple=True, help="filter output, e.g. result=failed, tag=app:1 or context~=app"
)
@click.option("-n", "--last", "limit", type=click.IntRange(min=0), default=0, help="show only so many of the newest")
@listing_flags(example="{{.ID}} {{.Result}}", cut="do not cut tags and contexts", quiet="show only ids")
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def list_builds(
    context: click.Context,
    filters: tuple[str, ...],
    limit: int,
    template: str,
    no_trunc: bool,
    quiet: bool,
    arguments: tuple[str, ...],
) -> None:
    """List recent builds, newest first."""
    if arguments:
        raise UsageError("no arguments expected", hint="`img logs BUILD` shows the log of one")
    passes = _filter(filters)
    found = settings_of(context).client().builds(limit=0 if filters else limit)
    builds = [build for build in found if passes(build)][: limit or None]
    Listing(template, quiet).show(
        lambda: [_record(build) for build in builds],
        keys=lambda: [build.id for build in builds],
        rows=lambda: [_HEADER, *(_row(build, cut=not no_trunc) for build in builds)],
        layout=narrow_table,
    )


def _filter(texts: Sequence[str]) -> Callable[[RecordedBuild], bool]:
    """Return what tells whether a build passes *texts*, in docker's form (all have to hold) or containerd's. Raises UsageError."""
    chosen, others = split_filters(texts, _FIELDS)
    wanted = parse_filters(others, "listing builds")

    def passes(build: RecordedBuild) -> bool:
        return all(one.value in _values(build, one.key) for one in chosen) and any(
            wanted(partial(_field, build, tag)) for tag in build.tags or ("",)
        )

    return passes


def _values(build: RecordedBuild, key: str) -> tuple[str, ...]:
    return build.tags if key == "tag" else (getattr(build, key),)


def _field(build: RecordedBuild, tag: str, path: tuple[str, ...]) -> str | None:
    """Return what a filter compares; *tag* is the one of several that is looked at now."""
    if len(path) != 1 or path[0] not in _FIELDS:
        return None
    return (tag if path[0] == "tag" else getattr(build, path[0])) or None


def _row(build: RecordedBuild, *, cut: bool) -> tuple[str, ...]:
    place = build.context
    if cut and len(place) > _LIMIT:
        place = "…" + place[1 - _LIMIT :]
    options = ((" -f ", build.definition), (" --target ", build.target))
    place += "".join(f"{option}{value}" for option, value in options if value)
    tags = ", ".join(build.tags)
    return (
        build.id,
        short_age(time.time() - build.started),
        short_duration(build.seconds),
        build.result,
        f"{build.cached_steps}/{build.steps}",
        show(tags, limit=_LIMIT if cut else 10_000),
        show(place, limit=10_000),
    )


def _record(build: RecordedBuild) -> dict[str, Any]:  # Any: JSON
    return {
        "ID": build.id,
        "StartedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(build.started)),
        "Duration": round(build.seconds, 3),
        "Result": build.result,
        "Context": build.context,
        "Definition": build.definition,
        "Target": build.target,
        "Tags": list(build.tags),
        "Steps": build.steps,
        "CachedSteps": build.cached_steps,
        "Error": build.error,
        "Digest": build.digest,
    }
