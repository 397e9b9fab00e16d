"""What callers of the Python API may write for the fields of a request, and what is refused before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from img_core.api._cache_places import parse_places, unique_places
from img_core.api._request import BuildRequest, CachePlace, Limits, Output, SecretSource, SshAgent
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BuildOptions", "request_of"]

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


def _refuse(name: str, value: object, expected: str) -> UsageError:
    return UsageError(f"`{name}` of build() must be {expected}, not {type(value).__name__}")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _refuse(name, value, "text")
    return value


def _path(name: str, value: object) -> str:
    if not isinstance(value, str | os.PathLike):
        raise _refuse(name, value, "text or a path")
    return _text(name, os.fspath(value))


def _optional_path(name: str, value: object) -> str | None:
    return None if value is None else _path(name, value)


def _locked(name: str, value: object) -> str | None:
    """Return the path of a lock file; True means that beside the definition, False none."""
    if isinstance(value, bool):
        return "" if value else None
    return _optional_path(name, value)


def _definition(name: str, value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return _text(name, value).encode("utf-8", "surrogateescape")


def _words(name: str, value: object) -> tuple[str, ...]:
    """Return several words; one alone may be given as it is."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise _refuse(name, value, "text, or several texts")
    return tuple(_text(name, item) for item in value)


def _list(name: str, value: object) -> tuple[str, ...]:
    """Return several words, which commas may join, as on the command line."""
    return tuple(part.strip() for word in _words(name, value) for part in word.split(",") if part.strip())


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _refuse(name, value, "True or False")
    return value


def _number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse(name, value, "a whole number")
    return value


def _map(of: Callable[[str, Any], Any]) -> Callable[[str, object], dict[str, Any]]:  # Any: values
    def read(name: str, value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _refuse(name, value, "a mapping")
        return {_text(name, key): of(f"{name}[{key!r}]", item) for key, item in value.items()}

    return read


def _argument(name: str, value: object) -> str | None:
    return None if value is None else _text(name, value)


def _pairs(name: str, value: object) -> tuple[tuple[str, str], ...]:
    items = value.items() if isinstance(value, Mapping) else value
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise _refuse(name, value, "a mapping, or pairs")
    return tuple((_text(name, host), _text(name, address)) for host, address in items)


def _tuple(name: str, value: object) -> tuple[Any, ...]:  # Any: checked where they are used
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _refuse(name, value, "a list of tuples")
    return tuple(value)


def _instance(kind: type) -> Callable[[str, object], Any]:
    def read(name: str, value: object) -> object:
        if not isinstance(value, kind):
            raise _refuse(name, value, f"a `{kind.__name__}`")
        return value

    return read


def _secret(name: str, value: object) -> SecretSource:
    if isinstance(value, bytes):
        return SecretSource(value=value)
    if not isinstance(value, SecretSource):
        raise _refuse(name, value, "bytes or a `SecretSource`")
    return value


def _outputs(name: str, value: object) -> tuple[Output, ...]:
    if isinstance(value, Output | Mapping):
        value = [value]
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _refuse(name, value, f"a mapping such as `{_OUTPUT}`, or several")
    return tuple(_choice(Output, name, item, _OUTPUT) for item in value)


_OUTPUT = "{'type': 'oci', 'dest': 'app.tar'}"
_CACHE = "{'type': 'local', 'dest': 'cache'}"
Chosen = TypeVar("Chosen", Output, CachePlace)


def _places(name: str, value: object) -> tuple[CachePlace, ...]:
    if isinstance(value, str | CachePlace | Mapping):
        value = [value]
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise _refuse(name, value, f"text, a mapping such as `{_CACHE}`, or several")
    found: list[CachePlace] = []
    for item in value:
        found += parse_places(item, name) if isinstance(item, str) else [_choice(CachePlace, name, item, _CACHE)]
    return unique_places(found)


def _choice(kind: type[Chosen], name: str, item: object, example: str) -> Chosen:
    """Return a driver's type and options, given as an object of *kind* or as a mapping. Raises UsageError."""
    if isinstance(item, Mapping):
        options = dict(item)
        if "type" not in options:
            raise UsageError(f"an item of `{name}` has no `type`", hint=f"e.g. `{example}`")
        item = kind(_text(f"{name}['type']", options.pop("type")), options)
    if not isinstance(item, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise _refuse(f"an item of {name}", item, f"{article} `{kind.__name__}` or a mapping")
    options = {key: os.fspath(each) if isinstance(each, os.PathLike) else each for key, each in item.options.items()}
    return kind(item.type, options)


#: The forms in which fields may be given, by their types as `BuildRequest` writes them.
_OF_TYPE: Mapping[str, Callable[[str, Any], Any]] = {  # Any: each is checked
    "str": _text,
    "str | None": _optional_path,
    "bytes | None": _definition,
    "bool": _boolean,
    "int": _number,
    "Limits": _instance(Limits),
    "tuple[str, ...]": _list,
    "tuple[tuple[str, str], ...]": _pairs,
    "tuple[tuple[str, int, int], ...]": _tuple,
    "tuple[Output, ...]": _outputs,
    "tuple[CachePlace, ...]": _places,
    "Mapping[str, str]": _map(_text),
    "Mapping[str, str | None]": _map(_argument),
    "Mapping[str, SecretSource]": _map(_secret),
    "Mapping[str, SshAgent]": _map(_instance(SshAgent)),
    "Mapping[str, Any]": _map(lambda _name, value: value),
}
#: Those of fields of which the type does not tell all.
_OF_FIELD: Mapping[str, Callable[[str, Any], Any]] = {
    "context": _path,
    "contexts": _map(_path),
    "tags": _words,
    "locked": _locked,
}
_FORMS = {item.name: _OF_FIELD.get(item.name) or _OF_TYPE[str(item.type)] for item in fields(BuildRequest)}
