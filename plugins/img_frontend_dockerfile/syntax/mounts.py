"""The value of ``RUN --mount=``: comma-separated ``key=value`` fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from img_core.forms.words import RecordError, parse_size, split_record, truth
from img_core.spec.dataclass import dataclass
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import did_you_mean, quote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MountSpec", "mount_source_stage", "parse_mount"]

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_SYNONYMS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_BOOLEANS = frozenset({"readonly", "readwrite", "required"})
_NUMBERS = {"mode": 8, "uid": 10, "gid": 10}
_WITH_OWNER = ("cache", "secret", "ssh")
_KEYS = ("type", "from", "source", "target", "readonly", "readwrite", "id", "sharing", "required", "size")
_ALL_KEYS = (*_KEYS, *_NUMBERS, "env", *_SYNONYMS)
_PROBLEMS = {"bare": "quote within a field", "open": "quote is not closed", "after": "text after a closing quote"}


@dataclass(frozen=True, slots=True)
class MountSpec:
    """One mount as written, defaults filled in where they depend on nothing else. *size* is in bytes."""

    type: str = "bind"
    target: str = ""
    source: str = ""
    source_stage: str = ""  #: ``from``
    readonly: bool = True
    id: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0
    required: bool = False
    env: str = ""


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
    """Parse the value of ``--mount``; *expand* is applied to all values but ``from``. Raises `Fault`.

    As in BuildKit, keys that mean nothing for the type (``id`` of a bind mount) are accepted, unless they are sure to be a mistake.
    """
    fields = [_field(part, expand) for part in _csv(text)]
    kind = next((value for key, value in reversed(fields) if key == "type"), "bind").lower()
    if kind not in _TYPES:
        raise Fault(f"unsupported mount type {quote(kind)}{did_you_mean(kind, _TYPES)}")
    values = dict(fields)
    for key in values:
        _check(key, kind)
    if kind == "secret":
        _check_secret(values)
    if "sharing" in values:
        _check_sharing(values["sharing"].lower(), kind)
    return _make(kind, values)


def _csv(text: str) -> list[str]:
    try:
        return split_record(text)
    except RecordError as err:
        raise Fault(f"invalid mount {quote(text)}: {_PROBLEMS[err.problem]}", hint=err.hint) from None


def _field(text: str, expand: Callable[[str], str]) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    key = key.strip().lower()
    name = _SYNONYMS.get(key, key)
    if not equals:
        if name in _BOOLEANS:
            return name, "true"
        raise Fault(f"invalid field '{text}' must be a key=value pair")
    if key not in _ALL_KEYS:
        raise Fault(f"unexpected key '{key}' in '{text}'{did_you_mean(key, _ALL_KEYS)}")
    return name, value if name == "from" else expand(value)


def _check(key: str, kind: str) -> None:
    if key in _NUMBERS and kind not in _WITH_OWNER:
        raise Fault(f"{key} not allowed for {quote(kind)} type mounts")
    if (key == "size" and kind != "tmpfs") or (key == "required" and kind not in ("secret", "ssh")):
        raise Fault(f"unexpected key '{key}' for mount type '{kind}'")
    if key == "source" and kind == "ssh":
        raise Fault("ssh does not support source")


def _check_secret(values: dict[str, str]) -> None:
    if values.get("from"):
        raise Fault("secret mount should not have a from")
    if not any(values.get(key) for key in ("id", "source", "target")):
        raise Fault("invalid secret mount. one of source, target required")
    if values.get("id") and values.get("source"):
        raise Fault("both source and id can't be set")


def _check_sharing(sharing: str, kind: str) -> None:
    if sharing not in _SHARING:
        raise Fault(f"unsupported sharing value {quote(sharing)}{did_you_mean(sharing, _SHARING)}")
    if kind != "cache":
        raise Fault(f"invalid cache sharing set for {kind} mount")


def _make(kind: str, values: dict[str, str]) -> MountSpec:
    readonly = kind == "bind"
    for key, value in values.items():
        if key in ("readonly", "readwrite"):
            readonly = _boolean(key, value) == (key == "readonly")
    numbers = {key: _number(key, values[key]) for key in _NUMBERS if key in values}
    return MountSpec(
        type=kind,
        target=values.get("target", ""),
        source=values.get("source", ""),
        source_stage=values.get("from", "") if kind != "tmpfs" else "",
        readonly=readonly,
        id=values.get("id", ""),
        sharing=values.get("sharing", "shared").lower(),
        mode=numbers.get("mode"),
        uid=numbers.get("uid", 0),
        gid=numbers.get("gid", 0),
        size=_size(values["size"]) if "size" in values else 0,
        required=_boolean("required", values.get("required", "false")),
        env=values.get("env", ""),
    )


def _boolean(key: str, value: str) -> bool:
    found = truth(value)
    if found is not None:
        return found
    raise Fault(f"invalid value for {key}: {value}", hint="write `true` or `false`")


def _number(key: str, value: str) -> int:
    base = _NUMBERS[key]
    if not re.fullmatch(r"[0-7]{1,11}" if base == 8 else r"[0-9]{1,10}", value) or int(value, base) >= 2**32:
        raise Fault(f"invalid value for {key}: {value}", hint=f"a number in base {base} is expected")
    return int(value, base)


def _size(value: str) -> int:
    size = parse_size(value)
    if size is None:
        raise Fault(f"invalid value for size: {value}", hint="write a number with an optional unit `k`, `m` or `g`")
    return size
