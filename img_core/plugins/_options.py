"""Options of drivers: the words after ``-o type=x`` become typed values, by the driver's JSON Schema."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from img_core.plugins._kinds import suggestion
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRUE_WORDS", "parse_boolean", "typed_options"]

#: What Go's strconv.ParseBool accepts; users of buildx write all of these.
TRUE_WORDS = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE_WORDS = frozenset({"0", "f", "F", "FALSE", "false", "False"})

#: Keywords that the simple checks below cover, or that only describe.
_SIMPLE_PROPERTY = {"type", "enum", "minimum", "maximum", "title", "description", "default", "examples", "deprecated"}
_SIMPLE_SCHEMA = {"$schema", "$id", "title", "description", "type", "required", "additionalProperties"}
_TABLES = {"properties", "patternProperties"}


def typed_options(schema: Mapping[str, Any] | None, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return *given* converted and checked by *schema*; *what* (``type=tar``) names the driver in messages.

    A missing *schema* means that the driver has no options. Unknown options are refused unless the schema allows them by
    ``additionalProperties`` or ``patternProperties``. Values that are not strings are taken as they are. Raises UsageError.
    """
    schema = schema or {}
    typed = {name: _convert(name, value, _schema_of(name, schema, what)) for name, value in given.items()}
    for name in schema.get("required", ()):
        if name not in typed:
            raise UsageError(f"option `{name}` is required for {what}")
    if not _is_simple(schema):
        _check_with_jsonschema(schema, typed, what)
    return typed


def _schema_of(name: str, schema: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Return the schema of one option. Raises UsageError if there is no such option."""
    properties = schema.get("properties", {})
    if name in properties:
        found: Mapping[str, Any] = properties[name]
        return found
    for pattern, found in schema.get("patternProperties", {}).items():
        if re.search(pattern, name):
            return found
    extra = schema.get("additionalProperties", False)
    if extra is False:
        raise UsageError(f"unknown option `{name}` for {what}", hint=suggestion(name, list(properties)))
    return extra if isinstance(extra, dict) else {}


def parse_boolean(name: str, text: str) -> bool:
    """Return the truth that *text* spells, in the spellings of Go. Raises UsageError naming *name*."""
    if text in TRUE_WORDS:
        return True
    if text in FALSE_WORDS:
        return False
    raise UsageError(f"non-bool value specified for {name}: `{text}`", hint="use `true` or `false`")


def _convert(name: str, value: Any, schema: Mapping[str, Any]) -> Any:  # Any: JSON
    if isinstance(value, str):
        value = _from_text(name, value, schema.get("type", "string"))
    if "enum" in schema and value not in schema["enum"]:
        known = [str(item) for item in schema["enum"]]
        raise UsageError(f"`{name}` cannot be `{value}`", hint=suggestion(str(value), known))
    if isinstance(value, int | float):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            raise UsageError(f"`{name}` must be {_range(low, high)}, not {value}")
    return value


def _from_text(name: str, text: str, kind: str | list[str]) -> Any:  # Any: JSON
    """Convert *text* to the first of the schema's types that can hold it."""
    kinds = [kind] if isinstance(kind, str) else kind
    if "boolean" in kinds and (len(kinds) == 1 or text in TRUE_WORDS | FALSE_WORDS):
        return parse_boolean(name, text)
    if "integer" in kinds:
        try:
            return int(text)
        except ValueError:
            if "string" not in kinds:
                raise UsageError(f"`{name}` must be a whole number, not `{text}`") from None
    if "number" in kinds:
        try:
            return float(text)
        except ValueError:
            if "string" not in kinds:
                raise UsageError(f"`{name}` must be a number, not `{text}`") from None
    if "array" in kinds:
        return [part for part in text.split(",") if part]
    return text


def _range(low: object, high: object) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def _is_simple(schema: Mapping[str, Any]) -> bool:
    """Tell whether the checks here say all that *schema* says."""
    inner = [item for table in _TABLES for item in schema.get(table, {}).values()]
    extra = schema.get("additionalProperties")
    return (
        set(schema) <= _SIMPLE_SCHEMA | _TABLES
        and not isinstance(extra, dict)
        and all(set(item) <= _SIMPLE_PROPERTY for item in inner)
    )


def _check_with_jsonschema(schema: Mapping[str, Any], options: Mapping[str, Any], what: str) -> None:
    from jsonschema import Draft202012Validator  # 75 ms; only for a schema that says more than types and enumerations
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(options))
    if error is not None:
        where = f"`{error.path[0]}`" if error.path else "options"
        raise UsageError(f"bad {where} for {what}: {error.message}")
