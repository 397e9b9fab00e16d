"""Options that all cache backends share, in the words of BuildKit's and our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from img_core.forms.words import parse_size, truth
from img_core.images.oci import LEVELS
from img_core.spec.errors import UsageError
from img_core.spec.exporter import LayerForm

__all__ = ["EXPORT", "IMPORT", "duration", "layer_form", "mounts", "only_for", "schema", "size"]

MOUNTS: Mapping[str, Any] = {  # Any: JSON Schema
    "type": "string",
    "description": "cache mounts that are saved (none by default) or restored (all by default): true, false, or ids: `npm;pip`",
}

#: Options of an export.
EXPORT: Mapping[str, Mapping[str, Any]] = {  # Any: JSON Schema
    "mode": {
        "type": "string",
        "enum": ["min", "max"],
        "description": "whose layers are saved: those of the results only (min, the default), or of all steps",
    },
    "compression": {
        "type": "string",
        "enum": [*LEVELS, "uncompressed"],
        "description": "how layers are packed that this build makes; gzip by default",
    },
    "compression-level": {"type": "integer", "description": "level of the compression"},
    "force-compression": {"type": "boolean", "description": "pack layers anew that have another form"},
    "image-manifest": {"type": "boolean", "description": "accepted: a cache is always an image manifest"},
    "oci-mediatypes": {"type": "boolean", "description": "accepted: a cache always has OCI's media types"},
    "ignore-error": {"type": "boolean", "description": "a cache that cannot be saved is only a warning"},
    "max-age": {"type": "string", "description": "forget what nobody used for so long, e.g. 14d"},
    "max-size": {"type": "string", "description": "keep at most so many bytes of layers, those used last, e.g. 2g"},
    "cache-mounts": MOUNTS,
    "sign": {"type": "string", "description": "file with an Ed25519 private key to sign with"},
}

#: Options of an import; an export takes them, too: they decide what it keeps.
IMPORT: Mapping[str, Mapping[str, Any]] = {  # Any: JSON Schema
    "trust": {"type": "string", "description": "file with Ed25519 public keys: only what one of them signed is used"},
}

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?[smhdw])+")


def schema(own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:  # Any: JSON Schema
    """Return the schema of a backend with the options *own* and all of those here."""
    return {"type": "object", "properties": {**own, **EXPORT, **IMPORT}, "additionalProperties": False}


def only_for(export: bool, options: Iterable[str], own: Mapping[str, bool]) -> None:
    """Raise UsageError if one of *options* has no meaning here; *own* tells of a backend's own which are for an export."""
    meant = {**dict.fromkeys(EXPORT, True), **own}
    del meant["cache-mounts"]
    for name in options:
        if meant.get(name, export) != export:
            flag = "--cache-to" if meant[name] else "--cache-from"
            raise UsageError(f"the cache option `{name}` is one of `{flag}`")


def layer_form(options: Mapping[str, Any]) -> LayerForm:  # Any: JSON
    """Return how layers are to be packed. Raises UsageError."""
    codec, level = options.get("compression", "gzip"), options.get("compression-level")
    if level is not None and codec in LEVELS:
        low, high = LEVELS[codec]
        if not low <= level <= high:
            raise UsageError(f"`compression-level` of {codec} must be {low} to {high}, not {level}")
    return LayerForm(codec, None if codec == "uncompressed" else level)


def mounts(options: Mapping[str, Any], *, default: bool) -> Callable[[str], bool]:  # Any: JSON
    """Return a function that tells whether a cache mount's id is among those that the option ``cache-mounts`` names."""
    text = options.get("cache-mounts")
    wanted = default if text is None else truth(text)
    if wanted is not None:
        return lambda _mount_id: wanted
    ids = {item.strip() for item in re.split("[;,]", str(text))}
    return ids.__contains__


def duration(options: Mapping[str, Any], name: str) -> float | None:  # Any: JSON
    """Return the seconds of the option *name*, None if it is not given. Raises UsageError."""
    text = options.get(name)
    if text is None:
        return None
    if not _DURATION.fullmatch(text.strip()):
        raise UsageError(f"`{text}` for `{name}` is not a duration", hint="e.g. `24h`, `90m` or `7d`")
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([smhdw])", text))


def size(options: Mapping[str, Any], name: str) -> int | None:  # Any: JSON
    """Return the bytes of the option *name*, None if it is not given. Raises UsageError."""
    text = options.get(name)
    if text is None:
        return None
    found = parse_size(text)
    if found is None:
        raise UsageError(f"`{text}` for `{name}` is not a size", hint="e.g. `512MiB` or `2g`")
    return found
