"""Drivers as people choose them, and their options as typed values by a JSON Schema: from the command line, variables, files, Python."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from img_core.forms.words import RecordError, key_values, truth
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError
from img_core.spec.text import show, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["AUTO", "Choice", "merged_options", "parse_choice", "parse_typed", "typed_options"]

#: Stands for the configured order of a kind of drivers.
AUTO = "auto"

#: Keywords that the simple checks below cover, or that only describe.
_SIMPLE_PROPERTY = {
    *("type", "enum", "minimum", "maximum"),
    *("title", "description", "default", "examples", "deprecated", "x-environment"),
}
_SIMPLE_SCHEMA = {"$schema", "$id", "title", "description", "type", "required", "additionalProperties"}
_TABLES = {"properties", "patternProperties"}

#: type of JSON Schema -> the classes of its values in Python, and how people call it
_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "text"),
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "array": ((list, tuple), "a list"),
    "object": (dict, "a table"),
    "null": (type(None), "nothing"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A driver by name, or ``auto``, with the *options* that go with the name."""

    name: str
    options: Mapping[str, Any]  # Any: text, or typed values of callers in Python


def parse_choice(kind: str, text: str) -> Choice:
    """Parse ``runc,runtime=crun``, as typed to choose a driver of *kind*. Raises UsageError."""
    (name, value), *fields = key_values(text) if text else [("", None)]
    if not name or value is not None:
        raise UsageError(f"`{text}` names no {kind}", hint="expected `NAME` or `NAME,key=value`")
    options = {}
    for key, value in fields:
        if value is None:
            raise UsageError(f"invalid option `{key}` of {kind} `{name}`", hint="expected `key=value`")
        options[key] = value
    if options and name == AUTO:
        raise UsageError(f"`{text}`: options need the name of the {kind}", hint=f"`img plugins ls --kind {kind}`")
    return Choice(name, options)


def parse_typed(text: str, name: str, *, bare: tuple[str, str]) -> list[Choice]:
    """Parse what stands after the flag or argument *name*, by the rules of docker's buildx. Raises UsageError.

    ``type=local,dest=cache`` is one choice. Without any ``=`` each field is one: of the driver and the option *bare*. Nothing is none.
    """
    if not text:
        return []
    try:
        pairs = key_values(text)
    except RecordError as err:
        raise UsageError(f"invalid value of `{name}`: `{show(text)}`: {err.message}", hint=err.hint) from None
    if all(value is None for _, value in pairs):
        return [Choice(bare[0], {bare[1]: field}) for field, _ in pairs if field]
    options: dict[str, str] = {}
    for key, value in pairs:
        if value is None:
            raise UsageError(f"invalid value of `{name}`: `{show(key)}`", hint="expected `key=value`")
        options[key] = value
    kind = options.pop("type", "")
    if not kind:
        hint = f"e.g. `type={bare[0]},{bare[1]}=user/app:cache`, or the image name alone"
        raise UsageError(f"`{name}` requires type=<type>: `{show(text)}`", hint=hint)
    return [Choice(kind, options)]


def typed_options(schema: Mapping[str, Any] | None, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return *given* converted and checked by *schema*; *what* (``type=tar``) names the driver in messages.

    A missing *schema* means that the driver has no options. Unknown options are refused unless the schema allows them by
    ``additionalProperties`` or ``patternProperties``. Raises UsageError.
    """
    return merged_options(schema, [("", given)], what)


def merged_options(
    schema: Mapping[str, Any] | None,
    places: Iterable[tuple[str, Mapping[str, Any]]],
    what: str,
    *,
    complete: bool = True,
) -> dict[str, Any]:
    """Do as `typed_options` with what several *places* say, the last of which wins; messages name the place, unless that is empty.

    Without *complete* each option is looked at for itself: some may be missing.
    """
    schema = schema or {}
    typed: dict[str, Any] = {}
    for place, given in places:
        try:
            typed.update({name: _convert(name, value, _schema_of(name, schema, what)) for name, value in given.items()})
        except UsageError as err:
            if not place:
                raise
            raise UsageError(f"{err.message}, in {place}", hint=err.hint) from None
    if not complete:
        return typed
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
        hint = suggestion(name, list(properties)) if properties else "it takes no options"
        raise UsageError(f"unknown option `{name}` for {what}", hint=hint)
    return extra if isinstance(extra, dict) else {}


def _boolean(name: str, text: str) -> bool:
    """Return the truth that *text* spells, in the spellings of Go. Raises UsageError naming *name*."""
    found = truth(text)
    if found is not None:
        return found
    raise UsageError(f"non-bool value specified for {name}: `{text}`", hint="use `true` or `false`")


def _convert(name: str, value: Any, schema: Mapping[str, Any]) -> Any:  # Any: JSON
    if isinstance(value, str):
        value = _from_text(name, value, schema.get("type", "string"))
    elif "type" in schema:
        _check_type(name, value, schema["type"])
    if "enum" in schema and value not in schema["enum"]:
        known = [str(item) for item in schema["enum"]]
        raise UsageError(f"`{name}` cannot be `{value}`", hint=suggestion(str(value), known))
    if isinstance(value, int | float):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            raise UsageError(f"`{name}` must be {_range(low, high)}, not {value}")
    return value


def _check_type(name: str, value: object, kind: str | list[str]) -> None:
    """Refuse a *value* of a configuration file or of Python that is of none of the schema's types. Raises UsageError."""
    kinds = [kind] if isinstance(kind, str) else kind
    if isinstance(value, bool):  # which is an int in Python
        kinds_that_fit = {"boolean"}
    else:
        kinds_that_fit = {word for word, (classes, _) in _TYPES.items() if isinstance(value, classes)}
    if not kinds_that_fit & set(kinds):
        raise UsageError(f"`{name}` must be {' or '.join(_TYPES[word][1] for word in kinds)}, not {value!r}")


def _from_text(name: str, text: str, kind: str | list[str]) -> Any:  # Any: JSON
    """Convert *text* to the first of the schema's types that can hold it."""
    kinds = [kind] if isinstance(kind, str) else kind
    if "boolean" in kinds and (len(kinds) == 1 or truth(text) is not None):
        return _boolean(name, text)
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
