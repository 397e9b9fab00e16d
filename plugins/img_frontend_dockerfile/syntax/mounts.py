"""The value of ``RUN --mount=``: comma-separated ``key=value`` fields, and the declaration of every key."""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, Any

from img_core.forms.words import RecordError, parse_size, split_record, truth
from img_core.spec.dataclass import dataclass
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import did_you_mean, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MOUNT_OPTIONS", "TYPES", "MountOption", "MountSpec", "mount_source_stage", "parse_mount"]

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_PROBLEMS = {"bare": "quote within a field", "open": "quote is not closed", "after": "text after a closing quote"}

# Any, below: values of options, which `RunMount` has with their types.


def _text(_key: str, value: str) -> Any:
    return value


def _boolean(key: str, value: str) -> Any:
    found = truth(value)
    if found is not None:
        return found
    raise Fault(f"invalid value for {key}: {value}", hint="write `true` or `false`")


def _not(key: str, value: str) -> Any:
    return not _boolean(key, value)


def _mode(key: str, value: str) -> Any:
    return _number(key, value, 8)


def _id(key: str, value: str) -> Any:
    return _number(key, value, 10)


def _number(key: str, value: str, base: int) -> int:
    if not re.fullmatch(r"[0-7]{1,11}" if base == 8 else r"[0-9]{1,10}", value) or int(value, base) >= 2**32:
        raise Fault(f"invalid value {value} for {key}", hint=f"a number in base {base} is expected")
    return int(value, base)


def _size(_key: str, value: str) -> Any:
    size = parse_size(value)
    if size is None:
        raise Fault(f"invalid value for size: {value}", hint="write a number with an optional unit `k`, `m` or `g`")
    return size


def _sharing(_key: str, value: str) -> Any:
    return _one_of(_SHARING, value, "sharing value")


def _one_of(words: tuple[str, ...], value: str, what: str) -> str:
    if value.lower() not in words:
        raise Fault(f"unsupported {what} {quote(value)}{did_you_mean(value.lower(), words)}")
    return value.lower()


@dataclass(frozen=True, slots=True, eq=False)
class MountOption:
    """All that there is to know of one key. Whoever adds one adds it to `MOUNT_OPTIONS`, and nothing else here.

    It means something for mounts of the types in *defaults*, which say what it is there if it is not given. For others it is accepted,
    as in BuildKit, unless it is sure to be a mistake: a *strict* key is unknown there, of another one the value is read first, and then
    *refusal* is the message, with ``{key}`` and ``{type}``. *read* makes a value of the text, or raises `Fault`; a *bare* key is
    ``true``. *about* is its line in docs/reference/dockerfile.md.

    The value is the field *name* of `img_core.spec.graph.RunMount` (or *field*, if it is called otherwise there); for the keys that are
    *planned*, `img_frontend_dockerfile.planning.running` finds out what they are. One that is *carried* means something to the executor
    alone: its text, once *read* finds nothing wrong with it, is among `RunMount.options`.
    """

    about: str
    defaults: Mapping[str, Any]
    read: Callable[[str, str], Any] = _text
    strict: bool = False
    refusal: str = ""
    synonyms: tuple[str, ...] = ()
    bare: bool = False
    field: str = ""
    planned: bool = False
    carried: bool = False


#: By name, in the order in which suggestions are made.
MOUNT_OPTIONS: dict[str, MountOption] = {
    "type": MountOption("what is mounted", dict.fromkeys(TYPES, "bind"), planned=True),
    "from": MountOption(
        "stage, named context or image that is mounted (`bind`, where the build context is the default) or gives the first content "
        "(`cache`); without variables",
        {"bind": "", "cache": ""},
        planned=True,
    ),
    "source": MountOption(
        "path in `from`; of a secret another word for `id`",
        {"bind": "/", "cache": "/", "secret": ""},
        synonyms=("src",),
        planned=True,
    ),
    "target": MountOption(
        "where; a relative path begins at WORKDIR. Of a secret without `env` it is `/run/secrets/<id>` by default, of an agent "
        "`/run/buildkit/ssh_agent.<n>`",
        dict.fromkeys(TYPES, ""),
        synonyms=("dst", "destination"),
        planned=True,
    ),
    "readonly": MountOption(
        "whether the step may not write; what it writes into a `bind` mount is thrown away, a `tmpfs` is always writable",
        {"bind": True, "cache": False, "tmpfs": False},
        _boolean,
        synonyms=("ro",),
        bare=True,
    ),
    "readwrite": MountOption(
        "the opposite of `readonly`; of both the last one counts",
        {"bind": False, "cache": True, "tmpfs": True},
        _not,
        synonyms=("rw",),
        bare=True,
        field="readonly",
    ),
    "id": MountOption(
        "the name of the cache (default: the target), secret (default: the last part of the target) or agent",
        {"cache": "", "secret": "", "ssh": "default"},
        planned=True,
    ),
    "required": MountOption(
        "whether it is an error if there is none",
        {"secret": False, "ssh": False},
        _boolean,
        strict=True,
        bare=True,
    ),
    "size": MountOption(
        "the most that it may hold, with the unit `k`, `m` or `g`; 0 is no limit",
        {"tmpfs": 0},
        _size,
        strict=True,
    ),
    "mode": MountOption(
        "permissions in base 8",
        {"cache": 0o755, "secret": 0o400, "ssh": 0o600},
        _mode,
        refusal='{key} not allowed for "{type}" type mounts',
    ),
    "uid": MountOption(
        "owner",
        {"cache": 0, "secret": 0, "ssh": 0},
        _id,
        refusal='{key} not allowed for "{type}" type mounts',
    ),
    "gid": MountOption(
        "group",
        {"cache": 0, "secret": 0, "ssh": 0},
        _id,
        refusal='{key} not allowed for "{type}" type mounts',
    ),
    "sharing": MountOption(
        "what steps do that want a cache at the same time: use it together (`shared`), take another (`private`), wait (`locked`)",
        {"cache": "shared"},
        _sharing,
        refusal="invalid cache sharing set for {type} mount",
    ),
    "env": MountOption(
        "the variable that has the secret; without a `target` there is no file then", {"secret": ""}, planned=True
    ),
}


@dataclass(frozen=True, slots=True)
class MountSpec:
    """One mount as written. *given* are texts of what was given and is `MountOption.planned`, *fields* those of `RunMount` that are not."""

    type: str
    given: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return what was given as *name*, nothing if it was not."""
        return self.given.get(name, "")


def mount_source_stage(text: str) -> str:
    """Return what ``from`` says in the value of ``--mount``, the only thing to know before expansion. Raises `Fault`."""
    found = ""
    for part in _csv(text):
        key, _, value = part.partition("=")
        if key.strip().lower() == "from":
            if "$" in value:
                raise Fault("'from' doesn't support variable expansion, define alias stage instead", at_parse=True)
            found = value
    return found


def parse_mount(text: str, expand: Callable[[str], str]) -> MountSpec:
    """Parse the value of ``--mount``; *expand* is applied to all values but ``from``. Raises `Fault`."""
    given = [_field(part, expand) for part in _csv(text)]
    kind = ["bind", *(_one_of(TYPES, value, "mount type") for key, value in given if key == "type")][-1]
    read = [(key, _read(key, value, kind)) for key, value in given]
    values = dict(given)
    if kind in _RULES:
        _RULES[kind](values)
    for key, option in MOUNT_OPTIONS.items():
        if key in values and option.refusal and kind not in option.defaults:
            raise Fault(option.refusal.format(key=key, type=kind))
    fields = {key: option.defaults[kind] for key, option in MOUNT_OPTIONS.items() if _is_field(option, kind)}
    for key, value in read:
        option = MOUNT_OPTIONS[key]
        if kind in option.defaults and not (option.planned or option.carried):
            fields[option.field or key] = value
    carried = {key for key in values if MOUNT_OPTIONS[key].carried and kind in MOUNT_OPTIONS[key].defaults}
    if carried:
        fields["options"] = tuple((key, values[key]) for key in sorted(carried))
    return MountSpec(kind, {key: value for key, value in values.items() if MOUNT_OPTIONS[key].planned}, fields)


def _read(key: str, value: str, kind: str) -> Any:
    option = MOUNT_OPTIONS[key]
    if option.strict and kind not in option.defaults:
        raise Fault(f"unexpected key '{key}' for mount type '{kind}'")
    return option.read(key, value)


def _is_field(option: MountOption, kind: str) -> bool:
    return not (option.planned or option.carried or option.field) and kind in option.defaults


def _csv(text: str) -> list[str]:
    try:
        return split_record(text)
    except RecordError as err:
        raise Fault(f"invalid mount {quote(text)}: {_PROBLEMS[err.problem]}", hint=err.hint) from None


def _field(text: str, expand: Callable[[str], str]) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    key = key.strip().lower()
    name = next((name for name, option in MOUNT_OPTIONS.items() if key in option.synonyms), key)
    if not equals:
        if name in MOUNT_OPTIONS and MOUNT_OPTIONS[name].bare:
            return name, "true"
        raise Fault(f"invalid field '{text}' must be a key=value pair")
    if name not in MOUNT_OPTIONS:
        known = (*MOUNT_OPTIONS, *(word for option in MOUNT_OPTIONS.values() for word in option.synonyms))
        raise Fault(f"unexpected key '{key}' in '{text}'{did_you_mean(key, known)}")
    return name, value if name == "from" else expand(value)


def _check_secret(values: dict[str, str]) -> None:
    if values.get("from"):
        raise Fault("secret mount should not have a from")
    if "sharing" in values:
        raise Fault("secret mount should not define sharing")
    if not any(values.get(key) for key in ("id", "source", "target")):
        raise Fault("invalid secret mount. one of source, target required")
    if values.get("id") and values.get("source"):
        raise Fault("both source and id can't be set")


def _check_ssh(values: dict[str, str]) -> None:
    if "source" in values:
        raise Fault("ssh does not support source")


#: What keys of one mount have to do with each other.
_RULES = {"secret": _check_secret, "ssh": _check_ssh}
