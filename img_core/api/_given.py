"""What callers of the Python API may write for the fields of a request, and what is refused before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from img_core.api._cache_places import parse_places, unique_places
from img_core.api._request import BuildRequest, CachePlace, Limits, Output, SecretSource, SshAgent
from img_core.forms.arguments import Arguments

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BuildOptions", "QuestionOptions", "request_of"]

_ARGUMENTS = Arguments("build()")

Words = str | Iterable[str]
StrPath = str | os.PathLike[str]
#: Caches: a driver's type and options each, or what stands after the flag (``user/app:cache``, ``type=local,dest=cache``).
Places = str | CachePlace | Mapping[str, Any] | Iterable[str | CachePlace | Mapping[str, Any]]


class BuildOptions(TypedDict, total=False):
    """The fields of `BuildRequest` beside those that `img_core.api.build` names; see there what they mean."""

    context_subdirectory: str
    dockerfile: StrPath | None
    definition: str | bytes | None
    target: str
    labels: Mapping[str, str]
    platforms: Words
    no_cache: bool
    no_cache_filter: Words
    pull: bool
    network: str
    add_hosts: Mapping[str, str] | Iterable[tuple[str, str]]
    shm_size: int
    ulimits: Iterable[tuple[str, int, int]]
    limits: Limits
    contexts: Mapping[str, StrPath]
    secrets: Mapping[str, SecretSource | bytes]
    ssh: Mapping[str, SshAgent]
    insecure_registries: Words
    backend: str
    executor: str
    frontend: str
    frontend_options: Mapping[str, Any]
    max_parallelism: int
    allow: Words
    cache_from: Places
    cache_to: Places
    locked: StrPath | bool | None
    engine: str
    offline: bool


class QuestionOptions(BuildOptions, total=False):
    """What is given with a question about a build, which has no outputs."""

    build_args: Mapping[str, str | None] | None


def request_of(
    context: StrPath | BuildRequest = ".",
    **given: Any,  # Any: fields of the request, in any form that is allowed
) -> BuildRequest:
    """Return the request that *given* describes; beside a whole one as *context* what is empty counts as not given.

    Raises UsageError that names the argument; TypeError for one that does not exist.
    """
    if unknown := sorted(set(given) - set(_FORMS)):
        raise TypeError(f"build() got an unexpected keyword argument {unknown[0]!r}")
    if isinstance(context, BuildRequest):
        return replace(context, **{name: _FORMS[name](name, value) for name, value in given.items() if value})
    given["context"] = context
    return BuildRequest(**{name: _FORMS[name](name, value) for name, value in given.items()})


def _locked(name: str, value: object) -> str | None:
    """Return the path of a lock file; True means that beside the definition, False none."""
    if isinstance(value, bool):
        return "" if value else None
    return _ARGUMENTS.optional_path(name, value)


def _definition(name: str, value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return _ARGUMENTS.text(name, value).encode("utf-8", "surrogateescape")


def _secret(name: str, value: object) -> SecretSource:
    if isinstance(value, bytes):
        return SecretSource(value=value)
    if not isinstance(value, SecretSource):
        raise _ARGUMENTS.refused(name, value, "bytes or a `SecretSource`")
    return value


_outputs = _ARGUMENTS.choices(Output, "{'type': 'oci', 'dest': 'app.tar'}")
_caches = _ARGUMENTS.choices(CachePlace, "{'type': 'local', 'dest': 'cache'}", words=parse_places)


def _places(name: str, value: object) -> tuple[CachePlace, ...]:
    return unique_places(_caches(name, value))


#: The forms in which fields may be given, by their types as `BuildRequest` writes them.
_OF_TYPE: Mapping[str, Callable[[str, Any], Any]] = {  # Any: each is checked
    "str": _ARGUMENTS.text,
    "str | None": _ARGUMENTS.optional_path,
    "bytes | None": _definition,
    "bool": _ARGUMENTS.boolean,
    "int": _ARGUMENTS.number,
    "Limits": _ARGUMENTS.instance(Limits),
    "tuple[str, ...]": _ARGUMENTS.listed,
    "tuple[tuple[str, str], ...]": _ARGUMENTS.pairs,
    "tuple[tuple[str, int, int], ...]": _ARGUMENTS.several,
    "tuple[Output, ...]": _outputs,
    "tuple[CachePlace, ...]": _places,
    "Mapping[str, str]": _ARGUMENTS.mapping(_ARGUMENTS.text),
    "Mapping[str, str | None]": _ARGUMENTS.mapping(_ARGUMENTS.optional_text),
    "Mapping[str, SecretSource]": _ARGUMENTS.mapping(_secret),
    "Mapping[str, SshAgent]": _ARGUMENTS.mapping(_ARGUMENTS.instance(SshAgent)),
    "Mapping[str, Any]": _ARGUMENTS.mapping(lambda _name, value: value),
}
#: Those of fields of which the type does not tell all.
_OF_FIELD: Mapping[str, Callable[[str, Any], Any]] = {
    "context": _ARGUMENTS.path,
    "contexts": _ARGUMENTS.mapping(_ARGUMENTS.path),
    "tags": _ARGUMENTS.words,
    "locked": _locked,
}
_FORMS = {item.name: _OF_FIELD.get(item.name) or _OF_TYPE[str(item.type)] for item in fields(BuildRequest)}
