"""``img build``: from a Dockerfile to an image."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._exit import signals_to
from img_core.cli._output import echo, say
from img_core.cli.build._flags import all_flags, refuse_unsupported, warn_ignored
from img_core.spec.errors import UsageError
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from img_core.api import BuildRequest, BuildResult, CancelHandle, Client, Output, SshAgent
    from img_core.cli._explained import Explained
    from img_core.cli._progress import Display
    from img_core.cli._settings import Settings
    from img_core.cli.build._calls import Question
    from img_core.cli.build._repeatable import Repeatable

__all__ = ["agents", "command", "is_dry_run", "parsed", "perform"]

Made = TypeVar("Made")

if TYPE_CHECKING:
    #: What makes something of a request: it gets the client, what shows events, and what stops it.
    Use = Callable[[Client, BuildRequest, Display | Explained | None, CancelHandle], Made]

_NO_IMAGE = ("local", "tar")


@click.command("build", cls=Command)
@all_flags
@click.argument("paths", nargs=-1, metavar="PATH")
@click.pass_context
def command(context: click.Context, /, paths: tuple[str, ...], **flags: Any) -> None:  # Any: values of flags
    """Build an image from a Dockerfile."""
    from img_core.cli.build._outputs import output_name

    refuse_unsupported(flags)
    warnings = warn_ignored(flags)
    call = _parse_call(flags)
    refuse_more(context, paths, 1, "one PATH")
    path = _checked_path(paths, flags)
    outputs = _wanted_outputs(flags)
    shown = (flags["tags"] or ("",))[0] or output_name(outputs) or "image"
    request = _request(path, flags, outputs)
    if call is not None:
        from img_core.cli.build._calls import answer

        context.exit(perform(settings_of(context), request, flags, (), partial(answer, call))[0])
    if is_dry_run(flags["engine"]):
        for line in perform(settings_of(context), request, flags, (), _handed_out)[0]:
            echo(line)
        return
    _check_id_file(flags["iidfile"], outputs, request)
    first = [] if flags["quiet"] else [f"Building {shown}", "Setting up the rootfs... this may take a bit."]
    first += [f"warning: {warning}" for warning in warnings]
    use: Use[BuildResult] = _result
    if flags["on_error"] == "shell":
        from img_core.cli.build._on_error import build_with_shell

        use = build_with_shell()
    repeats: list[Repeatable] = []
    result, talkative = perform(settings_of(context), request, flags, first, partial(_noted, use, flags, repeats))
    _write_results(result, flags)
    nameless = not (flags["tags"] or outputs)
    printed = f"{_image_id(result)}\n" if flags["quiet"] or nameless else ""
    for repeat in repeats:
        repeat.answer(printed)
    if printed:
        echo(printed, end="")
    if talkative and not flags["quiet"]:
        say(f"Successfully built {_image_id(result) if nameless else shown}")
    for repeat in repeats if talkative or flags["quiet"] else ():
        repeat.keep(result)


def parsed(context: click.Context, words: list[str]) -> tuple[BuildRequest, dict[str, Any]]:  # Any: values of flags
    """Return the request that *words* mean as arguments of ``img build``, and the values of its flags. Raises UsageError."""
    with command.make_context("build", words, parent=context) as read:
        flags = dict(read.params)
    paths = flags.pop("paths")
    refuse_unsupported(flags)
    warn_ignored(flags)
    return _request(_checked_path(paths, flags), flags, _wanted_outputs(flags)), flags


def _wanted_outputs(flags: dict[str, Any]) -> list[Output]:  # Any: values of flags
    from img_core.cli.build._outputs import parse_outputs

    return parse_outputs(
        flags["outputs"],
        push=flags["push"],
        insecure=flags["insecure_registry"],
        docker=flags["manifest_format"] == "docker" and bool(flags["tags"] or not flags["outputs"]),
    )


def is_dry_run(engine: str) -> bool:
    """Tell whether the engine is only to be asked: ``NAME,dry-run``."""
    return "dry-run" in engine.split(",")[1:]


def _handed_out(
    client: Client, request: BuildRequest, _show: Display | Explained | None, handle: CancelHandle
) -> tuple[str, ...]:
    return client.handed_out(request, cancel=handle)


def _parse_call(flags: dict[str, Any]) -> Question | None:  # Any: values of flags
    if flags["call"] == "build" and not flags["check"]:
        return None
    from img_core.cli.build._calls import parse_call

    return parse_call(flags["call"], check=flags["check"])


def _checked_path(paths: tuple[str, ...], flags: dict[str, Any]) -> str:  # Any: values of flags
    """Return PATH. The order of the checks and their words are those of the original img."""
    if not paths:
        raise UsageError("must pass a path to build")
    path = paths[0]
    if not path:
        raise UsageError('please specify build context (e.g. "." for the current directory)')
    if path == "-" and flags["file"] == "-":
        raise UsageError("context and Dockerfile cannot both come from standard input")
    return path


def _request(path: str, flags: dict[str, Any], outputs: list[Output]) -> BuildRequest:  # Any: values of flags
    """Return the request that the flags describe, without what comes from standard input. Raises UsageError."""
    from img_core.api import BuildRequest, cache_places
    from img_core.cli._amounts import size
    from img_core.cli.build._secrets import parse_contexts, parse_secrets
    from img_core.cli.build._values import (
        parse_build_args,
        parse_frontend_options,
        parse_hosts,
        parse_labels,
        parse_limits,
        parse_ulimits,
        split_list,
    )
    from img_core.linux.network.choice import NetworkChoice

    NetworkChoice.parse(flags["network"])  # a mistake is told before anything is read
    environment = os.environ
    platforms = split_list(flags["platforms"]) or split_list([environment.get("DOCKER_DEFAULT_PLATFORM", "")])
    return BuildRequest(
        context=path,
        context_subdirectory=flags["context_subdirectory"],
        dockerfile=None if flags["file"] in (None, "", "-") or path == "-" else flags["file"],
        tags=flags["tags"],
        outputs=tuple(outputs),
        build_args=parse_build_args(flags["build_args"]),
        target=flags["target"],
        labels=parse_labels(flags["labels"]),
        platforms=platforms,
        no_cache=flags["no_cache"],
        no_cache_filter=split_list(flags["no_cache_filter"]),
        pull=flags["pull"],
        network=flags["network"],
        add_hosts=parse_hosts(flags["add_hosts"]),
        shm_size=size(flags["shm_size"], "--shm-size") if flags["shm_size"] else 0,
        ulimits=parse_ulimits(flags["ulimits"]),
        limits=parse_limits(flags),
        contexts=parse_contexts(flags["contexts"]),
        secrets=parse_secrets(flags["secrets"]),
        insecure_registries=("*",) if flags["insecure_registry"] else (),
        executor=flags["executor"],
        frontend=flags["frontend"],
        frontend_options=parse_frontend_options(flags["frontend_options"]),
        max_parallelism=flags["max_parallelism"],
        allow=split_list(flags["allow"]),
        cache_from=cache_places(flags["cache_from"], "--cache-from"),
        cache_to=cache_places(flags["cache_to"], "--cache-to"),
        locked=flags["locked"],
        engine=flags["engine"].replace(",dry-run", ",dry-run=true") if is_dry_run(flags["engine"]) else flags["engine"],
        offline=flags["offline"],
    )


def perform(
    settings: Settings,
    request: BuildRequest,
    flags: dict[str, Any],  # Any: their values
    first: Sequence[str],
    use: Use[Made],
) -> tuple[Made, bool]:
    """Set up what *flags* ask for; return what *use* makes of the request, and whether people read standard error.

    If they do, the lines *first* come before all others.
    """
    from img_core.cli import _progress

    with ExitStack() as opened:
        if flags["ssh"]:
            request = _changed(request, ssh=opened.enter_context(agents(flags["ssh"])))
        client = opened.enter_context(settings.client())
        request = client.located(request)  # a mistake is told before anything is made
        client.enter()  # while there is a single thread
        plugins = client.plugins
        settings.check_backend(plugins)
        request = _with_stdin(client, _changed(request, backend=settings.backend), flags["file"])
        wanted = "quiet" if flags["quiet"] else "plain" if flags["no_console"] else flags["progress"]
        progress = _progress.choose(wanted, client.config.environment, plugins)
        talkative = not _progress.is_machine_readable(progress, plugins)
        if talkative:
            for line in first:
                say(line)
        explained = opened.enter_context(_explaining()) if flags["explain"] else None
        display = opened.enter_context(_progress.showing(progress, plugins))
        if explained is not None:
            explained.show = display
        return _run(client, request, explained or display, use), talkative


@contextmanager
def _explaining() -> Iterator[Explained]:
    """Give what listens to a build; after the block, when all else was shown, tell what it heard."""
    from img_core.cli._explained import Explained

    explained = Explained()
    try:
        yield explained
    finally:
        for line in explained.lines():
            say(line)


def agents(texts: tuple[str, ...]) -> AbstractContextManager[dict[str, SshAgent]]:
    """Give the agents of ``--ssh``; those that were started for that end with the block."""
    from img_core.cli.build import _ssh_agent
    from img_core.cli.build._secrets import parse_ssh

    return _ssh_agent.agents(parse_ssh(texts, os.environ))


def _run(client: Client, request: BuildRequest, show: Display | Explained | None, use: Use[Made]) -> Made:
    from img_core.api import CancelHandle

    handle = CancelHandle()
    with signals_to(handle.cancel):
        return use(client, request, show, handle)


def _noted(
    use: Use[BuildResult],
    flags: dict[str, Any],  # Any: their values
    repeats: list[Repeatable],
    client: Client,
    request: BuildRequest,
    show: Display | Explained | None,
    handle: CancelHandle,
) -> BuildResult:
    """Do as *use*; *repeats* gets what can leave a note of a build that would say the same again."""
    from img_core.cli.build._repeatable import repeatable

    repeat = repeatable(client, request, flags)
    result = use(client, request, show, handle)
    if repeat is not None:
        repeat.ended()
        repeats.append(repeat)
    return result


def _result(
    client: Client, request: BuildRequest, show: Display | Explained | None, handle: CancelHandle
) -> BuildResult:
    return client.build(request, on_event=show, cancel=handle)


def _with_stdin(client: Client, request: BuildRequest, file: str | None) -> BuildRequest:
    """Fill in what comes from standard input."""
    if "-" not in (request.context, file):
        return request
    from img_core.cli.build import _stdin  # 15 ms

    if request.context == "-":
        context = _stdin.unpack_context(client.host.run_directory, file, client.definition_name(request))
        return _changed(request, context=context.directory, definition=context.definition)
    return _changed(request, definition=_stdin.read_definition())


def _changed(request: BuildRequest, **changes: Any) -> BuildRequest:  # Any: fields of the request
    from dataclasses import replace

    return replace(request, **changes)


def _check_id_file(path: str, outputs: list[Output], request: BuildRequest) -> None:
    """Refuse ``--iidfile`` when no image is made; remove an old file, so that a failed build leaves none."""
    if not path:
        return
    if outputs and not request.tags and all(output.type in _NO_IMAGE for output in outputs):
        raise UsageError("`--iidfile` needs an image, but the outputs are only files")
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as err:
        raise UsageError(f"cannot replace `{path}`: {why(err)}") from err


def _image_id(result: BuildResult) -> str:
    """Return what the other commands know the image by: the digest of its manifest or index, as `img ls` shows it."""
    return result.digest or result.config_digest


def _write_results(result: BuildResult, flags: dict[str, Any]) -> None:  # Any: values of flags
    from img_core.files.output import open_output

    texts = {
        flags["iidfile"]: _image_id(result),
        flags["metadata_file"]: json.dumps(dict(result.metadata), indent=2) + "\n",
    }
    for path, text in texts.items():
        if path:
            with open_output(path) as file:
                file.write(text.encode())
