"""The flags of ``img build``: those of the original img, and of ``docker build``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import OnByDefault, OptionalValue
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._registry_flags import podman_registry_flags
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["all_flags", "refuse_unsupported", "warn_ignored"]

_LIST: dict[str, Any] = {"multiple": True}  # Any: click
_FLAG: dict[str, Any] = {"is_flag": True}
_HIDDEN: dict[str, Any] = {"hidden": True}


def _check_tags(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a bad name while the command line is read, in the words of the original."""
    from img_core.images.names import new_name

    for value in values:
        new_name(value, prefix=f'invalid argument "{value}" for "-t, --tag" flag: ')
    return values


_SUPPORTED: list[tuple[list[str], dict[str, Any]]] = [  # Any: click
    (["--allow"], {**_LIST, "help": "let steps ask for more: security.insecure or network.host"}),
    (["--add-host", "add_hosts"], {**_LIST, "help": "add an entry to /etc/hosts of every step (HOST=ADDRESS)"}),
    (["--build-arg", "build_args"], {**_LIST, "help": "set a build argument (KEY=VALUE, or KEY from the environment)"}),
    (
        ["--build-context", "contexts"],
        {**_LIST, "help": "another build context (NAME=DIRECTORY, NAME=docker-image://IMAGE)"},
    ),
    (
        ["--cache-from"],
        {**_LIST, "help": "look for results in a cache: NAME or type=registry|local[,ref=NAME][,src=DIR]"},
    ),
    (
        ["--cache-to"],
        {**_LIST, "help": "save results in a cache: type=registry|local|inline[,ref=NAME][,dest=DIR][,mode=max]"},
    ),
    (["--call"], {"default": "build", "help": "ask instead of building: check, outline or targets[,format=json]"}),
    (["--check"], {**_FLAG, "help": "the same as --call=check"}),
    (
        ["--context-subdir", "context_subdirectory"],
        {
            "default": "",
            "help": "let the build see only this directory of the context, e.g. of an archive or a repository",
        },
    ),
    (["--cpu-period"], {"default": "", "help": "period of the processor quota in microseconds"}),
    (["--cpu-quota"], {"default": "", "help": "processor time of a step per period, in microseconds"}),
    (["-c", "--cpu-shares"], {"default": "", "help": "relative weight of a step's use of the processors"}),
    (["--cpus"], {"default": "", "help": "how many processors a step may use, e.g. 1.5"}),
    (["--cpuset-cpus"], {"default": "", "help": "processors that steps may use, e.g. 0-2,4"}),
    (["--cpuset-mems"], {"default": "", "help": "memory nodes that steps may use, e.g. 0,1"}),
    (["--explain"], {**_FLAG, "help": "tell at the end where each step was found, or why it had to run"}),
    (["--executor"], {"default": "auto", "help": "what runs the steps: NAME[,OPTION=VALUE], see `img plugins info`"}),
    (
        ["-f", "--file", "file"],
        {"default": None, "help": "name of the Dockerfile (default PATH/Dockerfile), or - for stdin"},
    ),
    (
        ["--engine"],
        {"default": "", "metavar": "NAME[,KEY=VALUE]", "help": "let an engine do parts of the build on other machines"},
    ),
    (["--frontend"], {"default": "auto", "help": "what reads the build definition and plans the build"}),
    (["--iidfile"], {"default": "", "help": "write the image id to a file"}),
    (["--insecure-registry"], {**_FLAG, "help": "allow plain HTTP and unverified TLS for registries"}),
    (["--label", "labels"], {**_LIST, "help": "set metadata of the image (KEY=VALUE)"}),
    (["--load"], {**_FLAG, "help": "accepted: the result is in the local image store anyway"}),
    (
        ["--locked"],
        {
            "cls": OptionalValue,
            "metavar": "[=FILE]",
            "help": "take what the lock file says (see `img lock`), nothing else",
        },
    ),
    (
        ["--max-parallelism", "--jobs", "max_parallelism"],
        {"type": int, "default": 0, "help": "build at most so many steps at the same time"},
    ),
    (["-m", "--memory"], {"default": "", "help": "memory that a step may use, e.g. 512m"}),
    (
        ["--memory-swap"],
        {"default": "", "help": "memory and swap that a step may use together; -1: as much swap as there is"},
    ),
    (["--metadata-file"], {"default": "", "help": "write what the exporters tell as JSON to a file"}),
    (
        ["--network"],
        {"default": "default", "envvar": "IMG_NETWORK", "help": "network of the steps: default, none, host or private"},
    ),
    (["--no-cache"], {**_FLAG, "help": "do not use the cache"}),
    (["--no-cache-filter"], {**_LIST, "help": "do not use the cache for these stages"}),
    (["--no-console"], {**_FLAG, "help": "plain progress, also on a terminal"}),
    (["--offline"], {**_FLAG, "help": "open no connection: take images, files and repositories that are known here"}),
    (["--opt", "frontend_options"], {**_LIST, "help": "option of the frontend (KEY=VALUE)"}),
    (
        ["--on-error"],
        {
            "type": click.Choice(["fail", "shell"]),
            "default": "fail",
            "help": "what to do when a step fails: fail, or open a shell in what it left first",
        },
    ),
    (
        ["-o", "--output", "outputs"],
        {**_LIST, "help": "output: type=local|tar|docker|oci|image[,dest=PATH][,name=NAME]"},
    ),
    (["--platform", "platforms"], {**_LIST, "help": "platforms to build for, e.g. linux/arm64"}),
    (["--progress"], {"default": "", "help": PROGRESS_HELP}),
    (["--pull"], {**_FLAG, "help": "ask the registry for newer versions of base images"}),
    (["--push"], {**_FLAG, "help": "push the image to the registry of each of its names"}),
    (["-q", "--quiet"], {**_FLAG, "help": "show nothing but the image id"}),
    (["--secret", "secrets"], {**_LIST, "help": "secret for RUN --mount=type=secret: id=ID[,src=FILE|env=VARIABLE]"}),
    (["--shm-size"], {"default": "", "help": "size of /dev/shm of the steps, e.g. 64m"}),
    (["--ssh"], {**_LIST, "help": "ssh agent or keys for RUN --mount=type=ssh: ID[=SOCKET|KEY[,KEY]]"}),
    (["-t", "--tag", "tags"], {**_LIST, "callback": _check_tags, "help": "name of the image (NAME[:TAG])"}),
    (["--target"], {"default": "", "help": "stage to build"}),
    (["--ulimit", "ulimits"], {**_LIST, "help": "resource limit of the steps (NAME=SOFT[:HARD])"}),
]

#: Understood by docker build, but nothing in here can do it yet: refused, so that nobody believes it happened.
_LATER: list[tuple[list[str], dict[str, Any]]] = [  # Any: click
    (["--annotation"], _LIST),
    (["--attest"], _LIST),
    (["--policy"], _LIST),
    (["--provenance"], {}),
    (["--resource"], _LIST),
    (["--sbom"], {}),
]
_OFF_WORDS = ("", "0", "f", "false", "False", "FALSE", "F")

#: On in podman and buildah if nobody says otherwise, as it is here; what the other choice would be there.
_ALWAYS_ON = {
    "--layers": "`--no-cache` runs all steps again; `-o type=tar` has no layers",
    "--skip-unused-stages": "what the target does not need is never built",
}

#: Accepted for the sake of old scripts.
_IGNORED: list[tuple[list[str], dict[str, Any]]] = [  # Any: click
    (["--builder"], {}),
    (["--cgroup-parent"], {}),
    (["--compress"], _FLAG),
    (["--force-rm"], _FLAG),
    (["--rm"], {**_FLAG}),
    (["--isolation"], {}),
    (["--security-opt"], _LIST),
    (["--squash"], _FLAG),
]
_WARN = ("cgroup_parent", "isolation", "security_opt", "squash")


def all_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give a click command all flags of ``build``."""
    for names, attributes in _SUPPORTED:
        function = click.option(*names, **attributes)(function)
    for names, attributes in _LATER + _IGNORED:
        function = click.option(*names, **attributes, **_HIDDEN)(function)
    for name, hint in _ALWAYS_ON.items():
        function = click.option(name, cls=OnByDefault, hint=hint)(function)
    forms = click.Choice(["oci", "docker"])
    function = click.option("--format", "manifest_format", type=forms, default="oci", **_HIDDEN)(function)
    return podman_registry_flags()(function)


def refuse_unsupported(given: dict[str, Any]) -> None:  # Any: values of flags
    """Take the flags that cannot be honoured yet out of *given*. Raises UsageError if one was used."""
    for names, _ in _LATER:
        value = given.pop(_variable(names))
        if value and not (isinstance(value, str) and value in _OFF_WORDS) and not _is_off(value):
            raise UsageError(f"`{names[-1]}` is not yet supported")


def warn_ignored(given: dict[str, Any]) -> list[str]:  # Any: values of flags
    """Take the flags that mean nothing here out of *given*; return a warning for each that might be missed."""
    values = {_variable(names): given.pop(_variable(names)) for names, _ in _IGNORED}
    return [f"`--{name.replace('_', '-')}` is ignored" for name in _WARN if values[name]]


def _is_off(value: object) -> bool:
    """Tell whether all attestations are switched off: ``--attest type=sbom,disabled=true``."""
    if not isinstance(value, tuple):
        return False
    return all("disabled=true" in text for text in value)


def _variable(names: list[str]) -> str:
    return names[-1].lstrip("-").replace("-", "_")
