"""What files of bake define, with all expressions evaluated: variables, functions, groups, targets with their matrices."""

from __future__ import annotations

import itertools
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from img_core.cli.bake.hcl import (
    FUNCTIONS,
    Block,
    Expression,
    HclError,
    Names,
    as_boolean,
    as_number,
    as_text,
    kind_of,
)
from img_core.forms.words import split_record, truth
from img_core.spec.text import show

__all__ = ["KINDS", "Definitions"]

# Any, below: values of expressions.

#: The blocks of a file, and the blocks within them.
KINDS: Mapping[str, tuple[str, ...]] = {"variable": ("validation",), "function": (), "target": (), "group": ()}
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_OF_VARIABLES = ("default", "type", "description", "sensitive")
_OF_FUNCTIONS = ("params", "variadic_params", "result")


class Definitions:
    """What the *files* say, of which later ones count more, with variables from *environment*."""

    def __init__(self, files: Sequence[Block], environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._constants: dict[str, Expression] = {}
        self._variables: dict[str, Block] = {}
        self._targets: list[Block] = []
        self._groups: list[Block] = []
        functions: dict[str, Callable[..., Any]] = {}
        self._scope = Names(self._value, ChainMap(functions, dict(FUNCTIONS)))
        self._values: dict[str, Any] = {}
        self._evaluating: set[str] = set()
        for file in files:
            self._constants |= file.attributes
            for block in file.blocks:
                name = _label(block)
                if block.kind == "variable":
                    self._variables[name] = _known(block, _OF_VARIABLES, KINDS["variable"])
                elif block.kind == "function":
                    functions[name] = self._function(_known(block, _OF_FUNCTIONS))
                else:
                    (self._targets if block.kind == "target" else self._groups).append(block)
        for name in self._variables:
            self._value(name)  # what is wrong with it is told, whoever uses it

    def groups(self) -> Iterator[tuple[str, Any]]:
        """Give each group and its targets."""
        for block in self._groups:
            _known(block, ("targets", "description"))
            listed = block.attributes.get("targets")
            yield _label(block), listed.value(self._scope) if listed else []

    def targets(self) -> Iterator[tuple[str, dict[str, dict[str, Any]], Mapping[str, Expression]]]:
        """Give for each target of the files its name, what it is by its name (or is made of it by its matrix), and its expressions."""
        for block in self._targets:
            if block.blocks:
                raise HclError(
                    block.blocks[0].place, f"target `{show(_label(block))}` has a block `{block.blocks[0].kind}`"
                )
            own = {key: item for key, item in block.attributes.items() if key not in ("matrix", "name")}
            made = {
                name: {key: item.value(scope) for key, item in own.items()} for name, scope in self._of_matrix(block)
            }
            yield _label(block), made, own

    def _of_matrix(self, block: Block) -> Iterator[tuple[str, Names]]:
        matrix, named = block.attributes.get("matrix"), block.attributes.get("name")
        if matrix is None:
            if named is not None:
                raise HclError(named.place, "`name` needs a `matrix`")
            yield _label(block), self._scope
            return
        axes = matrix.value(self._scope)
        if not isinstance(axes, Mapping):
            raise HclError(matrix.place, f"`matrix` must be an object, not {kind_of(axes)}")
        if wrong := next((key for key, axis in axes.items() if not isinstance(axis, list | tuple)), ""):
            raise HclError(matrix.place, f"`{show(wrong)}` of `matrix` must be a list")
        if named is None:
            raise HclError(
                matrix.place, f"target `{show(_label(block))}` has a `matrix` and no `name` for what it makes"
            )
        made = set[str]()
        for values in itertools.product(*axes.values()):
            scope = self._scope.within(dict(zip(axes, values, strict=True)))
            name = _checked_name(as_text(named.value(scope)), named)
            if name in made:
                raise HclError(named.place, f"two targets of the matrix are called `{name}`")
            made.add(name)
            yield name, scope

    # -------------------------------------------------------------------------------------------------------- variables

    def _value(self, name: str) -> Any:
        """Return the value of a variable or constant. Raises KeyError for what is none."""
        if name not in self._values:
            self._values[name] = self._once(name, lambda: self._evaluated(name))
        return self._values[name]

    def _once(self, what: str, work: Callable[[], Any]) -> Any:
        """Return what *work* does. Raises HclError if it is needed for itself."""
        if what in self._evaluating:
            found = self._variables.get(what) or self._constants.get(what) or self._targets[0]
            raise HclError(found.place, f"`{show(what)}` has itself in its value")
        self._evaluating.add(what)
        try:
            return work()
        finally:
            self._evaluating.discard(what)

    def _evaluated(self, name: str) -> Any:
        if name in self._variables:
            return self._validated(name, self._variables[name])
        if name in self._constants:
            return self._constants[name].value(self._scope)
        if name == "target":
            return _Lazy({_label(block) for block in self._targets}, self._parts)
        if name == "BAKE_CMD_CONTEXT":
            return "cwd://"
        if name == "BAKE_LOCAL_PLATFORM":
            from img_core.images.platforms import host_platform

            return str(host_platform())
        raise KeyError(name)

    def _validated(self, name: str, block: Block) -> Any:
        default = block.attributes.get("default")
        value = default.value(self._scope) if default else ""
        if name in self._environment:
            value = self._given(name, block, value)
        for rule in block.blocks:
            _known(rule, ("condition", "error_message"))
            condition, message = rule.attributes.get("condition"), rule.attributes.get("error_message")
            scope = self._scope.within({name: value})
            if condition is not None and condition.value(scope) is not True:
                told = as_text(message.value(scope)) if message else f"`{show(as_text(value))}` is not allowed"
                raise HclError(rule.place, f"variable `{show(name)}`: {show(told)}")
        return value

    def _given(self, name: str, block: Block, default: Any) -> Any:
        """Return what the environment says, as the type of the variable, or that of its *default*."""
        text, typed = self._environment[name], block.attributes.get("type")
        kind = typed.text if typed else ""
        inner = re.fullmatch(r"(?:list|set)\(\s*(string|number|bool|any)\s*\)", kind)
        try:
            if inner:
                return [_converted(item.strip(), inner.group(1), "") for item in split_record(text)] if text else []
            return _converted(text, kind, default)
        except ValueError as err:
            raise HclError(block.place, f"variable `{show(name)}` of the environment: {err}") from None

    def _parts(self, name: str) -> Any:
        """Return the attributes of a target, for ``target.NAME.KEY``: as the last one of this name has them, not what it inherits."""
        found = {
            key: item for block in self._targets if _label(block) == name for key, item in block.attributes.items()
        }
        return _Lazy(set(found), lambda key: self._once(f"target.{name}.{key}", lambda: found[key].value(self._scope)))

    # -------------------------------------------------------------------------------------------------------- functions

    def _function(self, block: Block) -> Callable[..., Any]:
        params, rest, result = (block.attributes.get(key) for key in _OF_FUNCTIONS)
        if result is None:
            raise HclError(block.place, f"function `{show(_label(block))}` has no `result`")
        names = [item.name for item in params.items] if params else []
        if not all(names) or (rest is not None and not rest.name):
            raise HclError(block.place, f"the parameters of function `{show(_label(block))}` must be names")

        def call(*values: Any) -> Any:
            if len(values) < len(names) or (len(values) > len(names) and rest is None):
                raise TypeError("wrong number of arguments")
            given = dict(zip(names, values, strict=False))
            if rest is not None:
                given[rest.name] = list(values[len(names) :])
            return result.value(self._scope.within(given))

        return call


class _Lazy(Mapping[str, Any]):
    """An object whose parts are evaluated when they are asked for."""

    def __init__(self, keys: set[str], part: Callable[[str], Any]) -> None:
        self._keys = keys
        self._part = part

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        return self._part(key)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._keys))

    def __len__(self) -> int:
        return len(self._keys)


def _converted(text: str, kind: str, default: Any) -> Any:
    """Return *text* as the type *kind*, or without one as that of *default*. Raises ValueError."""
    if kind == "bool" or (not kind and isinstance(default, bool)):
        spelled = truth(text)
        return as_boolean(text) if spelled is None else spelled
    if kind == "number" or (not kind and isinstance(default, int | float)):
        return as_number(text)
    if kind in ("string", "any") or (not kind and (default is None or isinstance(default, str))):
        return text
    raise ValueError(f"it is to be {show(kind) or kind_of(default)}, which a text cannot say")


def _known(block: Block, attributes: Sequence[str], blocks: Sequence[str] = ()) -> Block:
    """Return *block*. Raises HclError if it has something else in it."""
    for name, item in block.attributes.items():
        if name not in attributes:
            raise HclError(item.place, f"a {block.kind} has no `{show(name)}`")
    for inner in block.blocks:
        if inner.kind not in blocks:
            raise HclError(inner.place, f"a {block.kind} has no block `{show(inner.kind)}`")
    return block


def _label(block: Block) -> str:
    if block.kind not in KINDS:
        raise HclError(block.place, f"`{show(block.kind)}` is not supported")
    if len(block.labels) != 1:
        raise HclError(block.place, f"a {block.kind} needs one name")
    name = block.labels[0]
    return _checked_name(name, block) if block.kind in ("target", "group") else name


def _checked_name(name: str, where: Block | Expression) -> str:
    if not _NAME.fullmatch(name):
        raise HclError(
            where.place, f"`{show(name)}` is no name of a target: only letters, digits, `_` and `-` may be in it"
        )
    return name
