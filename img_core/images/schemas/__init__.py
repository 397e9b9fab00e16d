"""JSON schemas of image documents; used to explain what is wrong with a bad one."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SCHEMAS", "first_fault", "load_schema"]

SCHEMAS = ("config", "index", "manifest")
_TEXT_LIMIT = 160


def load_schema(name: str) -> dict[str, Any]:  # Any: JSON
    """Return the schema *name* (one of `SCHEMAS`)."""
    schema: dict[str, Any] = json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
    return schema


def first_fault(document: Mapping[str, Any], schema: str) -> str | None:  # Any: JSON
    """Return the first fault of *document* as ``place: what``, on one short line; None if it is valid."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(load_schema(schema))
    for error in validator.iter_errors(document):
        place = ".".join(map(str, error.absolute_path)) or "document"
        return f"{show(place, limit=_TEXT_LIMIT)}: {show(error.message, limit=_TEXT_LIMIT)}"
    return None
