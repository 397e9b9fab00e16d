"""Options by a schema: texts become what it says, and what is wrong is named."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from img_core.forms.options import typed_options
from img_core.spec import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Install = Callable[..., None]


@pytest.mark.parametrize(
    ("schema", "given", "message"),
    [
        ({"properties": {"push": {"type": "boolean"}}}, {"push": "maybe"}, "non-bool value specified for push"),
        ({"properties": {"level": {"type": "integer"}}}, {"level": "high"}, "`level` must be a whole number"),
        ({"properties": {"level": {"type": "integer", "maximum": 9}}}, {"level": "10"}, "`level` must be at most 9"),
        ({"properties": {"c": {"enum": ["gzip", "zstd"]}}}, {"c": "gzib"}, "`c` cannot be `gzib`"),
        ({"properties": {"dest": {}}, "required": ["dest"]}, {}, "option `dest` is required for x"),
        ({"properties": {"a": {"pattern": "^[0-9]+$"}}}, {"a": "b"}, "bad `a` for x"),
        (None, {"a": "b"}, "unknown option `a`"),
    ],
)
def test_bad_options_are_named(schema: dict[str, object] | None, given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        typed_options(schema, given, "x")
    assert message in caught.value.message


def test_simple_schemas_do_not_need_jsonschema() -> None:
    import subprocess

    code = (
        "import sys; from img_core.forms.options import typed_options; "
        "typed_options({'properties': {'a': {'type': 'integer', 'minimum': 1}}}, {'a': '3'}, 'x'); "
        "sys.exit('jsonschema' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_patterns_of_names_are_understood() -> None:
    schema = {"patternProperties": {"^annotation": {"type": "string"}}, "additionalProperties": False}
    assert typed_options(schema, {"annotation.a": "b"}, "x") == {"annotation.a": "b"}
    with pytest.raises(UsageError, match="unknown option `anno`"):
        typed_options(schema, {"anno": "b"}, "x")


def test_a_schema_may_allow_any_option() -> None:
    assert typed_options({"additionalProperties": True}, {"annotation.a": "b"}, "x") == {"annotation.a": "b"}
