"""What can follow on a command line: found by what the word is a value of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

# click has no public way to learn what a word belongs to without completing it as well.
from click.shell_completion import CompletionItem, _resolve_context, _resolve_incomplete

from img_core.cli._base import settings_of
from img_core.cli._commands import ALIASES, COMMANDS, GROUPS, HELP
from img_core.spec.errors import ImgError
from img_core.spec.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from img_core.plugins import Plugins

__all__ = ["answers"]

_PLATFORMS = (
    "linux/386",
    "linux/amd64",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
)
_FORMATS = ("json", "table")


def answers(root: click.Command, args: list[str], incomplete: str) -> list[CompletionItem]:
    """Return what *incomplete*, after the words *args*, can become. What goes wrong on the way is no answer: nobody reads errors here."""
    try:
        context = _resolve_context(root, {}, "img", list(args))
        subject, typed = _resolve_incomplete(context, list(args), incomplete)
        joined = incomplete[: len(incomplete) - len(typed)]  # ``--flag=``
        return [
            CompletionItem(joined + text if kind in ("word", "open") else text, type=kind)
            for kind, text in _found(context, subject, typed)
        ]
    except (ImgError, click.ClickException, OSError):
        return []


def _found(context: click.Context, subject: click.Command | click.Parameter, typed: str) -> list[tuple[str, str]]:
    """Return kinds and texts; the kinds ``file`` and ``dir`` leave it to the shell."""
    if isinstance(subject, click.Parameter):
        return _values(context, subject, typed)
    if typed.startswith("-"):
        return _matching(_flags(subject, context), typed)
    if not isinstance(subject, click.Group):
        return []
    if context.parent is None:
        names: Iterable[str] = {*COMMANDS, *ALIASES, *GROUPS, HELP, *settings_of(context).plugins().names("command")}
    else:
        names = subject.list_commands(context)
    return _matching(names, typed)


def _flags(command: click.Command, context: click.Context) -> list[str]:
    options = [item for item in command.get_params(context) if isinstance(item, click.Option) and not item.hidden]
    return [name for option in options for name in option.opts if name.startswith("--")]


def _matching(names: Iterable[str], typed: str) -> list[tuple[str, str]]:
    """Return those of *names* that begin with *typed*; after one that ends with ``=``, ``,`` or ``:`` more has to follow."""
    return [("open" if name[-1:] in "=,:" else "word", name) for name in sorted(set(names)) if name.startswith(typed)]


def _values(context: click.Context, parameter: click.Parameter, typed: str) -> list[tuple[str, str]]:
    if isinstance(parameter.type, click.Choice):
        return _matching(map(str, parameter.type.choices), typed)
    command = context.command.name or ""
    place = parameter.name or ""
    if isinstance(parameter, click.Argument):
        place = f"{context.command_path.removeprefix('img ')} {place}"
    for table in (_FILES, _DIRECTORIES):
        if place in table:
            return [("file" if table is _FILES else "dir", typed)]
    if place in _WORDS:
        return _matching(_WORDS[place], typed)
    if place == "output":
        return [("dir" if command == "unpack" else "file", typed)]
    if kind := _DRIVERS.get(place):
        return _driver(context, kind, typed)
    if place == "secrets":
        return _secret(context, typed)
    if find := _FINDERS.get(place):
        return _matching(find(context, typed), typed)
    if isinstance(parameter, click.Argument) and place.endswith((" names", " name")):
        return _matching(_images(context), typed)
    return []


# ------------------------------------------------------------------------------------------------------------ what is here


def _images(context: click.Context, _typed: str = "") -> list[str]:
    """Return the names of all images, short as people write them, with ``:latest`` left out as well."""
    from img_core.images.reference import Reference

    names = [Reference.parse(image.name).familiar() for image in settings_of(context).client().images() if image.name]
    return [text for name in names for text in {name, name.removesuffix(":latest")}]


def _stages(context: click.Context, typed: str) -> list[str]:
    """Return the stages of the Dockerfile that the line names; only of a directory: nothing is fetched for this."""
    paths = context.params.get("paths") or (".",)
    if not os.path.isdir(paths[0]):
        return []
    from img_core.api import Client

    given = settings_of(context)
    # Not the client of commands: that one enters a user namespace in this process.
    client = Client(state=given.state or None, no_plugins=given.no_plugins, plugin_files=given.plugin_files)
    targets = client.targets(paths[0], dockerfile=context.params.get("file"))
    names = [str(target.get("name", "")) for target in targets.get("targets", ())]
    before = typed[: typed.rfind(",") + 1]  # ``--no-cache-filter a,b``
    return [before + name for name in names if name]


def _plugin_ids(context: click.Context, _typed: str) -> list[str]:
    plugins = settings_of(context).plugins()
    return [f"{kind}:{name}" for kind in KINDS for name in plugins.names(kind)]


def _archive_forms(context: click.Context, _typed: str) -> list[str]:
    """Return the words behind ``--format`` of ``img save`` and of ``img login --list``."""
    if context.command.name != "save":
        return ["json"]
    plugins = settings_of(context).plugins()
    return [name for name in plugins.names("exporter") if plugins.driver("exporter", name).saves]


def _driver(context: click.Context, kind: str, typed: str) -> list[tuple[str, str]]:
    """Return names of drivers of *kind*, or the options of the one that is named: ``type=tar,dest=`` and ``runc,runtime=``."""
    plugins = settings_of(context).plugins()
    lead = "type=" if kind in ("exporter", "cache") else ""
    name, comma, _ = typed.removeprefix(lead).partition(",")
    if not comma:
        names = [lead + each for each in plugins.names(kind)]
        return _matching(names if lead or kind == "engine" else [*names, "auto"], typed)
    return _options(typed, _properties(plugins, kind, name), f"{lead}{name},")


def _secret(context: click.Context, typed: str) -> list[tuple[str, str]]:
    """Return what of a secret can be next: its id, its type, an option of that type, or of any if none is named."""
    plugins = settings_of(context).plugins()
    names = plugins.names("secret")
    head, _, last = typed.rpartition(",")
    if last.startswith("type="):
        return _matching([f"{head}{',' if head else ''}type={name}" for name in names], typed)
    named = [word.removeprefix("type=") for word in head.split(",") if word.startswith("type=")]
    options = [option for name in named or names for option in _properties(plugins, "secret", name)]
    return _options(typed, ["id", "type", *options])


def _properties(plugins: Plugins, kind: str, name: str) -> list[str]:
    schema: Mapping[str, Mapping[str, object]] = plugins.driver(kind, name).schema or {}
    return list(schema.get("properties", {}))


def _options(typed: str, names: Iterable[str], lead: str = "") -> list[tuple[str, str]]:
    """Return which of the options *names* can be next in ``a=1,b=2``, what *typed* is behind *lead*."""
    head, comma, last = typed.removeprefix(lead).rpartition(",")
    given = {word.partition("=")[0] for word in head.split(",")}
    key, equals, _ = last.partition("=")
    if equals:
        return [("file", typed)] if key in ("dest", "src") else []
    return _matching([f"{lead}{head}{comma}{name}=" for name in names if name not in given], typed)


_FILES = {"file", "iidfile", "metadata_file", "trace", "path", "import arguments", "load arguments"}
_DIRECTORIES = {"state", "build paths"}
_WORDS: Mapping[str, tuple[str, ...]] = {
    "allow": ("network.host", "security.insecure"),
    "call": ("build", "check", "outline", "targets", "outline,format=json", "targets,format=json"),
    "completion shells": ("bash", "fish", "zsh"),
    "help words": tuple(COMMANDS),
    "kind": tuple(KINDS),
    "network": ("default", "host", "none", "private"),
    "platform": _PLATFORMS,
    "platforms": _PLATFORMS,
    "plugins new kind": tuple(KINDS),
    "specifiers": _PLATFORMS,
    "ssh": ("default",),
    "template": _FORMATS,
}
#: Values that begin with a driver's name, and the kind of driver.
_DRIVERS: Mapping[str, str] = {
    "backend": "snapshotter",
    "cache_from": "cache",
    "cache_to": "cache",
    "engine": "engine",
    "engines ls engines": "engine",
    "executor": "executor",
    "frontend": "frontend",
    "outputs": "exporter",
    "progress": "progress",
}
_FINDERS: Mapping[str, Callable[[click.Context, str], list[str]]] = {
    "no_cache_filter": _stages,
    "no_plugin": _plugin_ids,
    "form": _archive_forms,
    "plugins check name": _plugin_ids,
    "plugins disable names": _plugin_ids,
    "plugins enable names": _plugin_ids,
    "plugins info names": _plugin_ids,
    "tags": _images,
    "target": _stages,
}
