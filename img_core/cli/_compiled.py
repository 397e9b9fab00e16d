"""What Python compiles from text whenever a command starts: regular expressions, and the functions of data classes and named tuples.

The thirty and the sixty of a push take 3 and 4 ms, so the bundle keeps what came of them. An expression becomes a list of numbers and then
an object; a function becomes code and then a function: the first step depends on the text and the interpreter alone, and is left out here.
Only texts of modules are kept, for nobody's secret can be in them: expressions that stand at the level of a module, and names of fields.
"""

from __future__ import annotations

import _sre  # type: ignore[import-not-found]  # no stubs; `re` makes its objects with it
import re
import sys
from importlib import import_module
from types import CodeType

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from typing import Any

    #: Whether it is for bytes, whose text has the same hash; the text, and the flags.
    ExpressionKey = tuple[bool, str | bytes, int]
    #: What `_sre.compile` makes the object of: text, flags, numbers, how many groups, their numbers by name, their names.
    Expression = tuple[str | bytes, int, list[int], int, dict[str, int], tuple[str | None, ...]]
    #: ``exec`` or ``eval``, and the text.
    FunctionKey = tuple[str, str]
    #: What is kept.
    Known = tuple[dict[ExpressionKey, Expression], dict[FunctionKey, CodeType]]

__all__ = ["COMPILERS", "Compiled"]

#: The files that make the numbers of an expression; what makes code is in the interpreter.
COMPILERS = tuple(f"{directory}/{name}.py" for directory in re.__path__ for name in ("_compiler", "_parser"))

_MOST = 500  #: of each kind that are kept
_WRITERS = ("collections", "dataclasses", "img_core.spec.dataclass")  #: modules that write functions as text
_CALLER = 3  #: frames between who compiles an expression and `Compiled.expression`: `re` has two
_NOT_KEPT = re.DEBUG | re.LOCALE  #: flags of expressions that do more, or depend on more


class Compiled:
    """What is known, and what was not and had to be compiled."""

    def __init__(self) -> None:
        self.expressions: dict[ExpressionKey, Expression] = {}
        self.functions: dict[FunctionKey, CodeType] = {}
        self._missed: dict[ExpressionKey, None] = {}
        self._compiler: Any = getattr(re, "_compiler", None)  # Any: a module of `re`
        self._usual: Any = getattr(self._compiler, "compile", None)  # Any: its function

    def use(self) -> None:
        """Compile no expression again from now on that is known."""
        if self._usual is not None:
            self._compiler.compile = self.expression

    def expression(self, text: object, flags: int = 0) -> object:
        """Return the object for the expression *text*; stands in for the function of `re` that makes it."""
        if type(text) is not str and type(text) is not bytes:
            return self._usual(text, flags)
        key = (type(text) is bytes, text, flags)
        if (known := self.expressions.get(key)) is not None:
            return _sre.compile(*known)
        made = self._usual(text, flags)
        if sys._getframe(_CALLER).f_code.co_name == "<module>":  # noqa: SLF001  # documented
            self._missed[key] = None
        return made

    def use_for_functions(self) -> None:
        """Compile no function again from now on that is known. Imports what makes data classes and named tuples."""
        for name in _WRITERS:
            vars(import_module(name)).update(exec=self._exec, eval=self._eval)

    def _exec(self, text: str, names: Any, *more: Any, **named: Any) -> None:  # Any: as the built-in function
        exec(self._code("exec", text), names, *more, **named)  # noqa: S102  # text of the standard library, or ours

    def _eval(self, text: str, names: Any, *more: Any, **named: Any) -> Any:  # Any: as the built-in function
        return eval(self._code("eval", text), names, *more, **named)  # noqa: S307  # as above

    def _code(self, mode: str, text: str) -> CodeType:
        if (mode, text) not in self.functions:
            # Without what this module has from `__future__`.
            self.functions[mode, text] = compile(text, "<string>", mode, dont_inherit=True)
        return self.functions[mode, text]

    def known(self) -> Known:
        """Return what a later command shall know."""
        found = {key: self._parts(*key[1:]) for key in self._missed if not key[2] & _NOT_KEPT}
        expressions = {**self.expressions, **{key: parts for key, parts in found.items() if parts is not None}}
        return dict(list(expressions.items())[:_MOST]), dict(list(self.functions.items())[:_MOST])

    def _parts(self, text: str | bytes, flags: int) -> Expression | None:
        """Return what the object of an expression is made of; None if it is not made as it is described here."""
        maker, names = _Overheard(), vars(self._compiler)
        usual, names["_sre"] = names["_sre"], maker
        try:
            made = self._usual(text, flags)
            ((given, all_flags, numbers, *groups),) = maker.calls
            parts = (given, int(all_flags), [int(number) for number in numbers], *groups)  # they know their names
            return parts if _sre.compile(*parts) == made else None
        except (TypeError, ValueError):
            return None
        finally:
            names["_sre"] = usual


class _Overheard:
    """`_sre`, with what it was asked to make objects of."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []  # Any: see `Expression`

    def compile(self, *parts: Any) -> Any:  # Any: as above; an object of `re`
        """Make an object."""
        self.calls.append(parts)
        return _sre.compile(*parts)

    def __getattr__(self, name: str) -> object:
        return getattr(_sre, name)
