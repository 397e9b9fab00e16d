"""Files of bake, in HCL or JSON: which targets there are, what they inherit, and what ``--set`` changes."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from img_core.cli._input import standard_input
from img_core.cli.bake._definitions import KINDS, Definitions
from img_core.cli.bake.hcl import HclError, as_text, read_hcl, read_json
from img_core.files.rootlock import given_up
from img_core.spec.errors import NotFoundError, UsageError
from img_core.spec.text import show, why

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from img_core.cli.bake.hcl import Block, Expression

__all__ = ["BakeFile", "Target", "linked_to", "printed"]

#: Looked for where none is named; what the later ones say counts more.
_USUAL = ("docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl")
_COMPOSE = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_PRINTED = "`docker buildx bake --print > docker-bake.json` writes what is meant as JSON"
_LINK = "target:"

#: Attributes of a target by how they are put together: maps key by key, these lists one behind the other; of all else the last counts.
_MAPS = ("args", "labels", "contexts", "extra-hosts")
_ADDED = ("cache-from", "secret", "ssh", "no-cache-filter", "ulimits", "entitlements", "inherits")
_LISTS = (*_ADDED, "cache-to", "output", "platforms", "tags")
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
        self._environment = environment
        self._targets: dict[str, Target] = {}
        self._groups: dict[str, list[str]] = {}
        found = Definitions([_read(path.removeprefix("cwd://")) for path in paths or _usual()], environment)
        for label, made, expressions in found.targets():
            for name, values in made.items():
                target = _checked(values, expressions, name)
                self._targets[name] = _merged([self._targets.get(name, {}), target])
            if list(made) != [label]:
                self._groups[label] = list(made)
        for name, listed in found.groups():
            self._groups[name] = _words(listed, f"group `{show(name)}`")

    def asked(self, names: Sequence[str]) -> list[str]:
        """Return the targets *names* and those of groups (none: ``default``)."""
        return list(dict.fromkeys(self._expanded(names or ["default"], ())))

    def chosen(self, names: Sequence[str], changes: Iterable[str] = ()) -> dict[str, Target]:
        """Return the targets that are `asked` for, and behind them those that they read as contexts, by their names.

        Each has all that it inherits and *changes* (``--set``).
        """
        changed = dict[str, list[_Change]]()
        for change in map(self._change, changes):
            hit = [name for name in self._targets if fnmatch.fnmatchcase(name, change.pattern)]
            if not hit:
                raise UsageError(
                    f"`--set {show(change.text)}` means no target", hint=f"there are {_listed(self._targets)}"
                )
            for name in hit:
                changed.setdefault(name, []).append(change)
        found = {name: self._whole(name, (), changed) for name in self.asked(names)}
        for name in list(found):
            self._link(name, found, changed, ())
        return found

    def _link(
        self, name: str, found: dict[str, Target], changed: Mapping[str, Sequence[_Change]], above: tuple[str, ...]
    ) -> None:
        """Add to *found* the targets that *name* reads. What they may do, it may."""
        if name in above:
            raise UsageError(f"target `{show(name)}` has itself as a context")
        for other in linked_to(found[name]).values():
            if other not in found:
                if other not in self._targets:
                    raise NotFoundError(
                        f"there is no target `{show(other)}`, which is a context of `{show(name)}`",
                        hint=f"there are {_listed(self._targets)}",
                    )
                found[other] = {**self._whole(other, (), changed), "output": ["type=cacheonly"]}
            self._link(other, found, changed, (*above, name))
            own, read = (found[each].get("platforms", []) for each in (name, other))
            if len(own) > 1 and len(read) > 1 and not set(own) <= set(read):
                raise UsageError(
                    f"target `{show(name)}` is for {_listed(own)}, its context `{show(other)}` for {_listed(read)}"
                )
            if allowed := found[other].get("entitlements"):
                found[name] = _merged([found[name], {"entitlements": allowed}])

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

    def _whole(self, name: str, below: tuple[str, ...], changed: Mapping[str, Sequence[_Change]]) -> Target:
        if name in below:
            raise UsageError(f"target `{show(name)}` inherits itself")
        if name not in self._targets:
            raise NotFoundError(
                f"there is no target `{show(name)}`, which `{show(below[-1])}` inherits",
                hint=f"there are {_listed(self._targets)}",
            )
        own = self._targets[name]
        parents = [self._whole(parent, (*below, name), changed) for parent in own.get("inherits", [])]
        whole = _merged([*parents, own])
        whole.pop("inherits", None)
        lists = dict[str, list[str]]()
        for change in changed.get(name, ()):
            _set(whole, lists, change)
        if not all(whole.get("contexts", {"": "x"}).values()):
            whole["contexts"] = {key: value for key, value in whole["contexts"].items() if value}
        if whole.get("network") == "host":
            whole = _merged([whole, {"entitlements": ["network.host"]}])
        return whole

    def _change(self, text: str) -> _Change:
        """Parse ``PATTERN.KEY=VALUE`` or ``PATTERN.KEY+=VALUE``; ``PATTERN.args.NAME`` takes the value of the environment."""
        path, equals, value = text.partition("=")
        added = bool(equals) and path.endswith("+")
        pattern, dot, key = path.removesuffix("+" if added else "").partition(".")
        if not equals and key.startswith("args.") and pattern:
            return _Change(text, pattern, key, self._environment.get(key.removeprefix("args.")), False)
        if not (equals and dot and pattern and key):
            raise UsageError(f"invalid value of `--set`: `{show(text)}`", hint="e.g. `--set '*.platform=linux/arm64'`")
        return _Change(text, pattern, key, value, added)


@dataclass(frozen=True, slots=True)
class _Change:
    """One ``--set``, as it was typed and taken apart; no *value*: nothing is changed. *added*: beside what the file says."""

    text: str
    pattern: str
    key: str
    value: str | None
    added: bool


def linked_to(target: Target) -> dict[str, str]:
    """Return the contexts of a target that are other targets, with their names."""
    contexts: Mapping[str, str] = target.get("contexts", {})
    return {key: value.removeprefix(_LINK) for key, value in contexts.items() if value.startswith(_LINK)}


def printed(value: Any) -> Any:
    """Return *value* so that, read from a file, it means the same: nothing in its texts is an expression."""
    if isinstance(value, dict):
        return {printed(key): printed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printed(item) for item in value]
    return value.replace("${", "$${").replace("%{", "%%{") if isinstance(value, str) else value


def _usual() -> list[str]:
    found = [path for path in _USUAL if os.path.exists(path)]
    if found:
        return found
    compose = next(filter(os.path.exists, _COMPOSE), None)
    hint = f"files of compose are not read: {_PRINTED}" if compose else "name one with `-f`"
    raise NotFoundError("there is no `docker-bake.hcl` or `docker-bake.json` here", hint=hint)


def _read(path: str) -> Block:
    shown = show(path)
    try:
        if path == "-":
            with given_up():
                text = standard_input().read().decode()
        else:
            with open(path, "rb") as file:
                text = file.read().decode()
    except OSError as err:
        raise NotFoundError(f"cannot read `{shown}`: {why(err)}") from err
    except UnicodeDecodeError:
        raise UsageError(f"`{shown}` is no text in UTF-8") from None
    if path.endswith((".yaml", ".yml")):
        raise UsageError(f"`{shown}` is YAML, which is not supported", hint=_PRINTED)
    if not path.endswith(".json") and not (text.lstrip().startswith("{") and not path.endswith(".hcl")):
        return read_hcl(text, path)
    try:
        return read_json(json.loads(text), path, KINDS)
    except RecursionError:
        raise UsageError(f"`{shown}` is nested too deeply") from None
    except ValueError as err:
        raise UsageError(f"`{shown}` is not JSON: {err}") from err


def _checked(values: Mapping[str, Any], expressions: Mapping[str, Expression], name: str) -> Target:
    where = f"target `{show(name)}`"
    kept = {key: value for key, value in values.items() if value is not None}
    for key, value in kept.items():
        if key not in _KNOWN:
            raise HclError(expressions[key].place, f"{where} has `{show(key)}`, which is not supported")
        try:
            kept[key] = _typed(key, value, where)
        except UsageError as err:
            raise HclError(expressions[key].place, err.message) from None
    return kept


def _typed(key: str, value: Any, where: str) -> Any:
    """Return the value of an attribute as it is kept. Raises UsageError."""
    if key in _LISTS:
        return _words(value, f"`{key}` of {where}")
    if key in _MAPS:
        if not isinstance(value, Mapping):
            raise UsageError(f"`{key}` of {where} must be an object")
        return {str(each): _text(item, f"`{key}` of {where}") for each, item in value.items() if item is not None}
    if key in _FLAGS and not isinstance(value, bool):
        raise UsageError(f"`{key}` of {where} must be true or false")
    if key in _TEXTS and not isinstance(value, str):
        raise UsageError(f"`{key}` of {where} must be text")
    return value


def _words(value: Any, where: str) -> list[str]:
    """Return a list of texts, those that are not empty; an object in it is what flags write as ``key=value,…``."""
    if not isinstance(value, list):
        raise UsageError(f"{where} must be a list")
    words = [_pairs(item, where) if isinstance(item, Mapping) else _text(item, where) for item in value]
    return list(filter(None, words))


def _pairs(value: Mapping[str, Any], where: str) -> str:
    """Return an object as one line of CSV, as flags take it."""
    fields = [f"{key}={_text(part, where)}" for key, part in value.items() if part is not None]
    return ",".join('"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text for text in fields)


def _text(value: Any, where: str) -> str:
    try:
        return as_text(value)
    except ValueError:
        raise UsageError(f"{where} must have texts") from None


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


def _set(target: Target, lists: dict[str, list[str]], change: _Change) -> None:
    """Change *target*; *lists* has those that were changed before, of which the first change replaced what the file says."""
    value = change.value
    if value is None:
        return
    name, dot, item = change.key.partition(".")
    name = _SET_NAMES.get(name, name)
    if name in _MAPS and item:
        target[name] = {**target.get(name, {}), item: value}
    elif name in _LISTS and not dot and name != "inherits":
        start: list[str] = target.get(name, []) if change.added or name == "entitlements" else []
        lists[name] = [*lists.get(name, start), value]
        target[name] = lists[name]
    elif name in _FLAGS and not dot and value in ("true", "false"):
        target[name] = value == "true"
    elif name in _TEXTS and not dot:
        target[name] = value
    else:
        raise UsageError(
            f"`--set {show(change.text)}` cannot be done", hint=f"known: {_listed(sorted(_KNOWN - {'inherits'}))}"
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{show(name)}`" for name in names) or "none"
