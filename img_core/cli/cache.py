"""``img cache``: what a cache that many machines share holds (``img build --cache-to``), and how it is cut down."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import CommandGroup, settings_of
from img_core.cli._format import binary_size, narrow_table, short_age, short_duration
from img_core.cli._listing import Listing, listing_flags
from img_core.cli._output import echo, say
from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from img_core.api import CacheContents, CachedStep

__all__ = ["command"]

_HEADER = ("STEP", "PLATFORM", "CREATED", "USED", "TOOK", "SIZE")
_CUT = 60
_DAY = 86400
#: Ages that `img cache du` counts apart, in days.
_AGES = (1, 7, 30)


@click.group("cache", cls=CommandGroup)
def command() -> None:
    """Look at a cache that builds on many machines share, and cut it down.

    PLACE is an image name, a directory, or what stands after --cache-from of img build.
    """


def _place(function: Callable[..., None]) -> Callable[..., None]:
    function = click.argument("places", nargs=-1, metavar="PLACE")(function)
    return click.option("--insecure-registry", is_flag=True, help="allow plain HTTP and unverified TLS")(function)


@command.command("ls")
@listing_flags(example="{{.Size}} {{.Step}}", cut="do not cut steps", quiet="show only keys")
@_place
@click.pass_context
def list_steps(
    context: click.Context,
    template: str,
    no_trunc: bool,
    quiet: bool,
    insecure_registry: bool,
    places: tuple[str, ...],
) -> None:
    """List the steps whose results a cache has, those used last first."""
    found = settings_of(context).client().cache_contents(_one(places), insecure=insecure_registry)
    _warn(found.warnings)
    Listing(template, quiet).show(
        lambda: [_record(step) for step in found.steps],
        keys=lambda: [step.key for step in found.steps],
        rows=lambda: [_HEADER, *(_row(step, cut=not no_trunc) for step in found.steps)],
        layout=narrow_table,
    )


@command.command("du")
@click.option("--format", "template", default="", help="json, or a template such as {{.Size}}")
@_place
@click.pass_context
def show_usage(context: click.Context, template: str, insecure_registry: bool, places: tuple[str, ...]) -> None:
    """Show how much a cache holds, by age."""
    found = settings_of(context).client().cache_contents(_one(places), insecure=insecure_registry)
    _warn(found.warnings)
    record = {"Steps": len(found.steps), "Layers": found.layers, "Size": found.size, "Ages": _ages(found.steps)}
    Listing(template).show(lambda: [record], keys=list, rows=lambda: _usage(found), layout=narrow_table)


@command.command("prune")
@click.option("--max-age", default="", help="forget what was not used for so long, e.g. 14d")
@click.option("--max-size", default="", help="keep at most so many bytes of layers, those used last, e.g. 2g")
@click.option("--dry-run", is_flag=True, help="only show what would go")
@_place
@click.pass_context
def prune(
    context: click.Context,
    max_age: str,
    max_size: str,
    dry_run: bool,
    insecure_registry: bool,
    places: tuple[str, ...],
) -> None:
    """Remove from a cache what was not used for long, or what is too much.

    A registry frees the space of layers that nothing names when it collects its garbage.
    """
    from img_core.cli._amounts import duration, size

    place = _one(places)
    if not (max_age or max_size):
        raise UsageError("nothing says what is too old or too much", hint="add `--max-age` or `--max-size`")
    removed, kept = (
        settings_of(context)
        .client()
        .prune_cache(
            place,
            max_age=duration(max_age, "--max-age") if max_age else None,
            max_size=size(max_size, "--max-size") if max_size else None,
            dry_run=dry_run,
            insecure=insecure_registry,
        )
    )
    _warn(kept.warnings)
    if removed.steps:
        echo(narrow_table([_HEADER, *(_row(step, cut=True) for step in removed.steps)]))
    echo(f"{'Would remove' if dry_run else 'Removed'}: {_amount(removed)}")
    echo(f"Kept: {_amount(kept)}")


def _one(places: Sequence[str]) -> str:
    if len(places) != 1 or not places[0]:
        raise UsageError("expected one PLACE", hint="an image name such as `user/app:cache`, or a directory")
    return places[0]


def _warn(warnings: Iterable[str]) -> None:
    for text in warnings:
        say(f"warning: {text}")


def _amount(contents: CacheContents) -> str:
    return f"{len(contents.steps)} steps, {binary_size(contents.size)}"


def _row(step: CachedStep, *, cut: bool) -> tuple[str, ...]:
    now = time.time()
    return (
        show(step.description or step.key, limit=_CUT if cut else 10_000),
        step.platform or "any",
        short_age(now - step.created),
        short_age(now - step.used),
        short_duration(step.seconds),
        "-" if step.size is None else binary_size(step.size),
    )


def _record(step: CachedStep) -> dict[str, Any]:  # Any: JSON
    return {
        "Key": step.key,
        "Step": step.description,
        "Platform": step.platform,
        "CreatedAt": _time(step.created),
        "LastUsedAt": _time(step.used),
        "Duration": round(step.seconds, 3),
        "Size": step.size,
    }


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _ages(steps: Iterable[CachedStep]) -> dict[str, int]:
    """Return how many steps were last used within a day, a week, a month, and before."""
    now, counts = time.time(), {**{f"{days}d": 0 for days in _AGES}, "older": 0}
    for step in steps:
        counts[next((f"{days}d" for days in _AGES if now - step.used < days * _DAY), "older")] += 1
    return counts


def _usage(found: CacheContents) -> list[tuple[str, ...]]:
    titles = {"1d": "used today", "7d": "used this week", "30d": "used this month", "older": "not used for a month"}
    rows = [("steps", str(len(found.steps))), ("layers", str(found.layers)), ("size", binary_size(found.size))]
    return [*rows, *((titles[age], str(count)) for age, count in _ages(found.steps).items() if count)]
