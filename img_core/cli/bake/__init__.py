"""``img bake``: the targets of a file, built together."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._output import echo, say
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.api import BuildRequest, BuildResult
    from img_core.cli.bake._file import Target

__all__ = ["command"]

#: Attributes of a target and the flags of ``img build`` that they are; maps, lists and texts.
_MAPS = {"args": "--build-arg", "labels": "--label", "contexts": "--build-context", "extra-hosts": "--add-host"}
_LISTS = {
    "tags": "--tag", "platforms": "--platform", "cache-from": "--cache-from", "cache-to": "--cache-to", "secret": "--secret",
    "ssh": "--ssh", "output": "--output", "no-cache-filter": "--no-cache-filter", "ulimits": "--ulimit", "entitlements": "--allow",
}  # fmt: skip
_TEXTS = {"target": "--target", "network": "--network", "shm-size": "--shm-size"}
#: Flags of ``img bake`` that are meant for each of its builds.
_PASSED = (
    "engine", "executor", "explain", "insecure_registry", "max_parallelism", "metadata_file", "no_cache", "offline", "progress",
    "pull", "push",
)  # fmt: skip


@click.command("bake", cls=Command)
@click.option(
    "--engine", default="", metavar="NAME[,KEY=VALUE]", help="let an engine do parts of the builds on other machines"
)
@click.option("--executor", default="auto", help="what runs the steps, as for `img build`")
@click.option("--explain", is_flag=True, help="tell at the end where each step was found, or why it had to run")
@click.option(
    "-f", "--file", "files", multiple=True, help="file with the targets (default docker-bake.json and docker-bake.hcl)"
)
@click.option("--insecure-registry", is_flag=True, help="allow plain HTTP and unverified TLS for registries")
@click.option("--load", is_flag=True, help="accepted: the results are in the local image store anyway")
@click.option("--max-parallelism", type=int, default=0, help="build at most so many steps at the same time")
@click.option("--metadata-file", default="", help="write what the exporters tell of each target as JSON to a file")
@click.option("--no-cache", is_flag=True, help="do not use the cache")
@click.option(
    "--offline", is_flag=True, help="open no connection: take images, files and repositories that are known here"
)
@click.option("--print", "shown", is_flag=True, help="print the targets as JSON; build nothing")
@click.option("--progress", default="", help=PROGRESS_HELP)
@click.option("--pull", is_flag=True, help="ask the registry for newer versions of base images")
@click.option("--push", is_flag=True, help="push the images to the registries of their names")
@click.option(
    "--set", "changes", multiple=True, help="change targets (PATTERN.KEY=VALUE, e.g. '*.platform=linux/arm64')"
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.pass_context
def command(
    context: click.Context, /, files: tuple[str, ...], targets: tuple[str, ...], **flags: Any
) -> None:  # Any: flags
    """Build several images together, as docker-bake.hcl lists them: what they share is done once."""
    from img_core.cli.bake._file import BakeFile, printed

    file = BakeFile(files, os.environ)
    chosen, asked = file.chosen(targets, flags["changes"]), file.asked(targets)
    if flags["shown"]:
        document = {"group": {"default": {"targets": asked}}, "target": printed(chosen)}
        echo(json.dumps(document, indent=2))
        return
    _build(context, chosen, asked, flags)


def _arguments(name: str, target: Target, flags: Mapping[str, Any]) -> list[str]:
    """Return the arguments with which ``img build`` does what *target* says. Raises UsageError."""
    path = _local(target.get("context", "."))
    if path == "-":
        raise UsageError(
            f"the context of target `{show(name)}` cannot come from standard input", hint="name a directory"
        )
    words = [
        f"{flag}={key}={_local(value)}"
        for kind, flag in _MAPS.items()
        for key, value in target.get(kind, {}).items()
        if not (kind == "contexts" and value.startswith("target:"))
    ]
    words += [f"{flag}={value}" for kind, flag in _LISTS.items() for value in target.get(kind, [])]
    words += [f"{flag}={target[kind]}" for kind, flag in _TEXTS.items() if target.get(kind)]
    words += [f"--{kind}" for kind in ("no-cache", "pull") if target.get(kind)]
    for kind in _PASSED:
        flag, value = f"--{kind.replace('_', '-')}", flags[kind]
        words += [flag] if value is True else [f"{flag}={value}"] if value else []
    definition = _local(target.get("dockerfile", ""))
    if definition and "dockerfile-inline" not in target:
        words.append(f"--file={definition if '://' in path else os.path.join(path, definition)}")
    return [*words, "--", path]


def _local(value: str) -> str:
    return value.removeprefix("cwd://")


def _build(
    context: click.Context, targets: Mapping[str, Target], asked: Sequence[str], flags: Mapping[str, Any]
) -> None:
    """Build those *asked* for of *targets*, and before them what they read, or print what would be handed out."""
    from img_core.cli.bake._file import linked_to
    from img_core.cli.bake._rounds import Rounds
    from img_core.cli.build import is_dry_run, perform

    with ExitStack() as opened:
        requests: dict[str, BuildRequest] = {}
        for name, target in targets.items():
            is_kept = name in asked and target.get("output") != ["type=cacheonly"]
            own = target if is_kept else {key: target[key] for key in target if key not in ("tags", "output")}
            flagged = flags if is_kept else {**flags, "push": False}
            requests[name], values = _request(context, _arguments(name, own, flagged), own, opened)
        shared = {**values, "ssh": ()}
        rounds = Rounds(requests, {name: linked_to(target) for name, target in targets.items()}, asked)
        first, settings = next(iter(requests.values())), settings_of(context)
        if is_dry_run(shared["engine"]):
            for line in perform(settings, first, shared, (), rounds.handed_out)[0]:
                echo(line)
            return
        names = ", ".join(asked)
        results, talkative = perform(settings, first, shared, [f"Building {names}"], rounds.built)
    _write(flags["metadata_file"], results)
    if talkative:
        say(f"Successfully built {names}")


def _request(
    context: click.Context, words: list[str], target: Target, opened: ExitStack
) -> tuple[BuildRequest, dict[str, Any]]:  # Any: values of flags
    """Return the request of ``img build`` for *words*, and the values of its flags; its agents of ssh end with *opened*."""
    from img_core.cli.build import agents, parsed

    request, values = parsed(context, words)
    if values["ssh"]:
        request = replace(request, ssh=opened.enter_context(agents(values["ssh"])))
    if (text := target.get("dockerfile-inline")) is not None:
        request = replace(request, definition=text.encode())
    return request, values


def _write(path: str, results: Mapping[str, BuildResult]) -> None:
    from img_core.files.output import open_output

    if path:
        document = {name: dict(result.metadata) for name, result in results.items()}
        with open_output(path) as file:
            file.write((json.dumps(document, indent=2) + "\n").encode())
