"""The same files as JSON: objects are blocks, and texts may hold ``${…}`` (HCL's JSON syntax specification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from img_core.cli.bake.hcl._operations import listed, mapped
from img_core.cli.bake.hcl._parser import read_template
from img_core.cli.bake.hcl._values import Block, Expression, HclError, SourceLine
from img_core.spec.text import show

__all__ = ["read_json"]

# Any, below: JSON.


def read_json(document: Any, file: str, kinds: Mapping[str, tuple[str, ...]]) -> Block:
    """Return *document* as a block; *kinds* are the names of its blocks, and of the blocks in each. Raises HclError."""
    place = SourceLine(file)
    if not isinstance(document, dict):
        raise HclError(place, "is not a JSON object")
    whole = Block("", (), place)
    for kind, content in document.items():
        if kind not in kinds:
            whole.attributes[kind] = _expression(content, place)
            continue
        for each in content if isinstance(content, list) else [content]:
            if not isinstance(each, dict) or not all(isinstance(item, dict) for item in each.values()):
                raise HclError(place, f"`{kind}` must be an object of objects")
            whole.blocks.extend(_block(kind, label, item, place, kinds[kind]) for label, item in each.items())
    return whole


def _block(kind: str, label: str, content: Mapping[str, Any], place: SourceLine, inner: tuple[str, ...]) -> Block:
    block = Block(kind, (label,), place)
    for name, item in content.items():
        if name not in inner:
            block.attributes[name] = _expression(item, place)
            continue
        for each in item if isinstance(item, list) else [item]:
            if not isinstance(each, dict):
                raise HclError(place, f"`{name}` of {kind} `{show(label)}` must be an object")
            own = {key: _expression(value, place) for key, value in each.items()}
            block.blocks.append(Block(name, (), place, own))
    return block


def _expression(value: Any, place: SourceLine) -> Expression:
    if isinstance(value, str):
        made = read_template(value, place)
        return Expression(place, made.value, value, value)
    if isinstance(value, list):
        return listed(place, [_expression(item, place) for item in value])
    if isinstance(value, dict):
        items = [(read_template(key, place), _expression(item, place)) for key, item in value.items()]
        return mapped(place, items)
    return Expression(place, lambda _scope: value)
