"""Files of bake, as JSON: which targets there are, what they inherit, and what ``--set`` changes.

What is written in HCL, or is more than ``${NAME}`` in JSON, is not read: ``docker buildx bake --print`` writes it as JSON.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import NotFoundError, UsageError
from img_core.spec.text import show, why

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["BakeFile", "Target"]

#: Looked for where none is named; what the second one says counts more.
_USUAL = ("docker-bake.json", "docker-bake.override.json")
_PRINTED = "`docker buildx bake --print > docker-bake.json` writes what is meant as JSON"
_VARIABLE = re.compile(r"\$(\$?)\{([^}]*)\}")

#: Attributes of a target by how they are put together: maps key by key, these lists one behind the other; of all else the last counts.
_MAPS = ("args", "labels", "contexts", "extra-hosts")
_ADDED = ("cache-from", "secret", "ssh", "no-cache-filter", "ulimits", "entitlements")
_LISTS = (*_ADDED, "cache-to", "output", "platforms", "tags", "inherits")
_TEXTS = ("context", "dockerfile", "dockerfile-inline", "target", "network", "shm-size", "description")
_FLAGS = ("no-cache", "pull")
_KNOWN = {*_MAPS, *_LISTS, *_TEXTS, *_FLAGS}
#: What ``--set`` calls some of them.
_SET_NAMES = {"platform": "platforms", "secrets": "secret"}

Target = dict[str, Any]  # Any: JSON: what bake calls the attributes of a target


class BakeFile:
    """The targets and groups of the files at *paths* (none: the usual ones), variables from *environment*.

    Raises UsageError, NotFoundError.
    """

    def __init__(self, paths: Sequence[str], environment: Mapping[str, str]) -> None:
        self._targets: dict[str, Target] = {}
        self._groups: dict[str, list[str]] = {}
        documents = [(path, _document(path)) for path in paths or _usual()]
        defaults = {
            name: item.get("default")
            for path, document in documents
            for name, item in _objects(document, "variable", path).items()
        }
        values = {name: environment.get(name, "" if text is None else text) for name, text in defaults.items()}
        for path, document in documents:
            for name, item in _objects(document, "target", path).items():
                target = _checked(_filled(item, values, f"target `{show(name)}`"), name)
                self._targets[name] = _merged([self._targets.get(name, {}), target])
            for name, item in _objects(document, "group", path).items():
                self._groups[name] = _words(item.get("targets", []), f"group `{show(name)}`")

    def chosen(self, names: Sequence[str], changes: Iterable[str] = ()) -> dict[str, Target]:
        """Return the targets *names* and those of groups, by their names, with all that they inherit and *changes* (``--set``)."""
        found = {name: self._whole(name, ()) for name in self._expanded(names or ["default"], ())}
        changed: dict[str, Target] = {name: {} for name in found}
        for change in changes:
            pattern, key, value = _change(change)
            hit = [name for name in found if fnmatch.fnmatchcase(name, pattern)]
            if not hit:
                raise UsageError(f"`--set {show(change)}` means no target", hint=f"there are {_listed(found)}")
            for name in hit:
                _set(found[name], changed[name], key, value, change)
        return found

    def _expanded(self, names: Iterable[str], within: tuple[str, ...]) -> Iterator[str]:
        for name in dict.fromkeys(names):
            if name in within:
                raise UsageError(f"group `{show(name)}` contains itself")
            if name in self._groups:
                yield from self._expanded(self._groups[name], (*within, name))
            elif name in self._targets:
                yield name
            else:
                known = [*self._groups, *self._targets]
                raise NotFoundError(f"there is no target `{show(name)}`", hint=f"there are {_listed(known)}")

    def _whole(self, name: str, below: tuple[str, ...]) -> Target:
        if name in below:
            raise UsageError(f"target `{show(name)}` inherits itself")
        if name not in self._targets:
            raise NotFoundError(
                f"there is no target `{show(name)}`, which `{show(below[-1])}` inherits",
                hint=f"there are {_listed(self._targets)}",
            )
        own = self._targets[name]
        parents = [self._whole(parent, (*below, name)) for parent in own.get("inherits", [])]
        whole = _merged([*parents, own])
        whole.pop("inherits", None)
        return whole


def _usual() -> list[str]:
    found = [path for path in _USUAL if os.path.exists(path)]
    if found:
        return found
    hint = _PRINTED if os.path.exists("docker-bake.hcl") else "name one with `-f`"
    raise NotFoundError(f"there is no `{_USUAL[0]}` here", hint=hint)


def _document(path: str) -> dict[str, Any]:
    shown = show(path)
    try:
        with open(path, "rb") as file:
            document = json.load(file)
    except OSError as err:
        raise NotFoundError(f"cannot read `{shown}`: {why(err)}") from err
    except ValueError as err:
        hint = _PRINTED if path.endswith(".hcl") else None
        raise UsageError(f"`{shown}` is not JSON: {err}", hint=hint) from err
    if not isinstance(document, dict):
        raise UsageError(f"`{shown}` is not a JSON object")
    unknown = document.keys() - {"target", "group", "variable"}
    if unknown:
        raise UsageError(f"`{shown}` has `{show(min(unknown))}`, which is not supported", hint=_PRINTED)
    return document


def _objects(document: Mapping[str, Any], kind: str, path: str) -> dict[str, dict[str, Any]]:
    found = document.get(kind, {})
    if not isinstance(found, dict) or not all(isinstance(item, dict) for item in found.values()):
        raise UsageError(f"`{kind}` of `{show(path)}` must be an object of objects")
    return found


def _filled(value: Any, values: Mapping[str, Any], where: str) -> Any:
    """Return *value* with the values of variables in its texts."""
    if isinstance(value, dict):
        return {name: _filled(item, values, where) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values, where) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return "${" + name + "}"
        if name not in values:
            raise UsageError(f"{where} has `{show(match.group())}`, which is no variable of the file", hint=_PRINTED)
        return str(values[name])

    return _VARIABLE.sub(fill, value)


def _checked(target: dict[str, Any], name: str) -> Target:
    where = f"target `{show(name)}`"
    kept = {key: value for key, value in target.items() if value is not None}
    for key, value in kept.items():
        if key not in _KNOWN:
            raise UsageError(f"{where} has `{show(key)}`, which is not supported", hint=_PRINTED)
        if key in _LISTS:
            kept[key] = _words(value, f"`{key}` of {where}")
        elif key in _MAPS and not isinstance(value, dict):
            raise UsageError(f"`{key}` of {where} must be an object")
        elif key in _FLAGS and not isinstance(value, bool):
            raise UsageError(f"`{key}` of {where} must be true or false")
        elif key in _TEXTS and not isinstance(value, str):
            raise UsageError(f"`{key}` of {where} must be text")
        if key in _MAPS:
            kept[key] = {
                str(each): _text(item, f"`{key}` of {where}") for each, item in value.items() if item is not None
            }
    return kept


def _words(value: Any, where: str) -> list[str]:
    """Return a list of texts; an object in it is what flags write as ``key=value,…``."""
    if not isinstance(value, list):
        raise UsageError(f"{where} must be a list")
    return [
        ",".join(f"{key}={_text(part, where)}" for key, part in item.items()) if isinstance(item, dict) else _text(item, where)
        for item in value
    ]  # fmt: skip


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise UsageError(f"{where} must have texts")
    return str(value)


def _merged(targets: Sequence[Target]) -> Target:
    """Return one target of several, of which the later ones count more."""
    whole: Target = {}
    for target in targets:
        for key, value in target.items():
            if key in _MAPS:
                whole[key] = {**whole.get(key, {}), **value}
            elif key in _ADDED:
                whole[key] = list(dict.fromkeys([*whole.get(key, []), *value]))
            else:
                whole[key] = value
    return whole


def _change(text: str) -> tuple[str, str, str]:
    """Parse ``PATTERN.KEY=VALUE``."""
    path, equals, value = text.partition("=")
    pattern, dot, key = path.partition(".")
    if not (equals and dot and pattern and key):
        raise UsageError(f"invalid value of `--set`: `{show(text)}`", hint="e.g. `--set '*.platform=linux/arm64'`")
    return pattern, key, value


def _set(target: Target, changed: Target, key: str, value: str, change: str) -> None:
    """Change *target*; *changed* has the lists that were changed before, of which the first change replaced what the file says."""
    name, dot, item = key.partition(".")
    name = _SET_NAMES.get(name, name)
    if name in _MAPS and item:
        target[name] = {**target.get(name, {}), item: value}
    elif name in _LISTS and not dot and name != "inherits":
        changed[name] = [*changed.get(name, []), value]
        target[name] = changed[name]
    elif name in _FLAGS and not dot and value in ("true", "false"):
        target[name] = value == "true"
    elif name in _TEXTS and not dot:
        target[name] = value
    else:
        raise UsageError(
            f"`--set {show(change)}` cannot be done", hint=f"known: {_listed(sorted(_KNOWN - {'inherits'}))}"
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{show(name)}`" for name in names) or "none"
