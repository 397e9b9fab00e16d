"""From kaniko's flags to one ``img build``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from img_core.images.reference import Reference
from img_core.spec.errors import UsageError
from img_core.spec.text import show
from img_kaniko.context import context_of, git_words

if TYPE_CHECKING:
    from img_kaniko.flags import Given

__all__ = ["Build", "build_of"]

_LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal", "panic")
_QUIET: Final = ("error", "fatal", "panic")
_MODES: Final = ("full", "redo", "time")
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:h|m|s|ms|us|µs|ns))+")
_CACHE_DIRECTORY: Final = "/cache"
_LAYOUTS: Final = (
    "IMG_SOURCE_DOCKER_IMAGE_LAYOUTS"  #: of the source of images, see `img plugins info source:docker-image`
)
_TWO_WEEKS: Final = "336h"


@dataclass(frozen=True, slots=True)
class Build:
    """What to run: the *arguments* of ``img``, more *environment*, and the file that is its standard *input* (None: ours).

    *destinations* are the names that are pushed, as kaniko writes them into its files.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    input: str | None = None
    destinations: tuple[str, ...] = ()


def build_of(given: Given, environment: Mapping[str, str]) -> Build:
    """Return what *given* asks for. Raises UsageError in kaniko's words where kaniko refuses."""
    destinations = given.list("destination")
    if not destinations and not given.switch("no-push"):
        raise UsageError("you must provide --destination, or use --no-push")
    for name in ("image-name-with-digest-file", "image-name-tag-with-digest-file"):
        if given.text(name) and not destinations:
            raise UsageError(f"you must provide --destination if setting `--{name}`")
    context = context_of(
        given.text("context"), given.text("context-sub-path"), git_words(given.list("git")), environment
    )
    arguments = [
        *_global_flags(given),
        "build",
        *_dockerfile(given.text("dockerfile"), context.directory),
        *_options(given, environment),
        *_cache(given, destinations),
        *_outputs(given, destinations),
        *context.flags,
        "--",
        context.path,
    ]
    epoch = {"SOURCE_DATE_EPOCH": "0"} if given.switch("reproducible") else {}
    kept = {_LAYOUTS: directory} if (directory := _kept_bases(given)) else {}
    return Build(
        tuple(arguments), {**context.environment, **epoch, **kept}, context.input, tuple(map(_full_name, destinations))
    )


def _kept_bases(given: Given) -> str:
    """Return the directory with base images: what ``--cache-dir`` says, else kaniko's default if something of use is there."""
    directory = given.text("cache-dir")
    if directory and not os.path.isdir(directory):
        given.notes.append(f"`--cache-dir` names `{show(directory)}`, which is no directory: base images are pulled")
        return ""
    if directory or os.path.isdir(f"{_CACHE_DIRECTORY}/blobs"):
        directory = directory or _CACHE_DIRECTORY
        if any(name.startswith("sha256:") for name in os.listdir(directory)):
            given.notes.append(
                "what kaniko's warmer wrote cannot be read; see docs/how-to/from-kaniko.md for another one"
            )
    return directory


def _global_flags(given: Given) -> list[str]:
    level = given.text("verbosity", "info")
    if level not in _LEVELS:
        raise UsageError(f"unknown level of `--verbosity`: `{show(level)}`", hint="known: " + ", ".join(_LEVELS))
    return ["--debug"] if level in ("trace", "debug") else []


def _dockerfile(path: str, directory: str | None) -> list[str]:
    """Return where the Dockerfile is: at *path* if there is such a file or it is on the web, else in the context."""
    if not path:
        return []
    if path.startswith(("http://", "https://")) or os.path.exists(path):
        return ["--file", path]
    return ["--file", os.path.join(directory, path) if directory is not None else path]


def _options(given: Given, environment: Mapping[str, str]) -> list[str]:
    mode = given.text("snapshot-mode", "full")
    if mode not in _MODES:
        raise UsageError(f"{show(mode)} is not a valid snapshot mode", hint="known: " + ", ".join(_MODES))
    options = ["--progress", "quiet" if given.text("verbosity") in _QUIET else "plain"]
    options += [f"--build-arg={argument}" for argument in given.list("build-arg")]
    options += [f"--label={label}" for label in given.list("label")]
    if target := given.text("target"):
        options += ["--target", target]
    if platform := given.text("custom-platform"):
        options += ["--platform", platform]
    if given.switch("insecure-pull", "skip-tls-verify-pull"):
        options.append("--insecure-registry")
    if not given.switch("cache"):
        options.append("--no-cache")
    return options


def _cache(given: Given, destinations: list[str]) -> list[str]:
    """Return the cache in a repository: that of ``--cache-repo``, else ``cache`` below the first destination."""
    if not given.switch("cache"):
        return []
    age = given.text("cache-ttl", _TWO_WEEKS)
    if not _DURATION.fullmatch(age):
        raise UsageError(f"`--cache-ttl` is a duration such as `336h`, not `{show(age)}`")
    repository = given.text("cache-repo")
    if not repository:
        if not destinations:
            raise UsageError("`--cache` needs to know where", hint="name a repository with `--cache-repo`")
        repository = Reference.parse(destinations[0]).name + "/cache"
    scheme, separator, path = repository.partition("oci:")
    if separator and not scheme:
        place, source = f"type=local,dest={path}", f"type=local,src={path}"
    else:
        place = source = f"type=registry,ref={repository}"
        if given.switch("insecure", "skip-tls-verify"):
            place = source = f"{place},registry.insecure=true"
    found = ["--cache-from", source]
    if not given.switch("no-push-cache"):
        found += ["--cache-to", f"{place},mode=max,max-age={age}"]
    return found


def _outputs(given: Given, destinations: list[str]) -> list[str]:
    """Return the exporters: a push unless ``--no-push``, and the files that were asked for."""
    outputs = [f"--tag={name}" for name in destinations]
    shared = ",rewrite-timestamp=true" if given.switch("reproducible") else ""
    kept = f"type=image{shared}"
    if not given.switch("no-push"):
        insecure = given.switch("insecure", "skip-tls-verify")
        kept += ",push=true" + (",registry.insecure=true" if insecure else "")
    outputs += ["--output", kept]
    if path := given.text("tar-path"):
        outputs += ["--output", f"type=docker,dest={path}{shared}"]
    if path := given.text("oci-layout-path"):
        outputs += ["--output", f"type=oci,dest={path},tar=false{shared}"]
    return outputs


def _full_name(destination: str) -> str:
    """Return *destination* with its host and tag; what kaniko's files call Docker Hub is ``index.docker.io``."""
    reference = Reference.parse(destination)
    host = "index.docker.io" if reference.domain == "docker.io" else reference.domain
    return f"{host}/{reference.path}:{reference.tag or 'latest'}"
