"""Modules that a library imports and hardly ever uses: they are imported when somebody does use them."""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["Later", "standing_in"]


class Later(ModuleType):
    """Stands for a module in those that import it while it is in `sys.modules`; the real one is imported with its first use.

    *known* are attributes that it has itself, for good. With *placeholders* a name that is asked for while others are being imported (for a
    base of a class, or to be passed on) is an empty class, and is among `asked`.
    """

    def __init__(self, name: str, known: Mapping[str, object] | None = None, *, placeholders: bool = False) -> None:
        super().__init__(name)
        self.__dict__.update(known or {})
        self._placeholders = placeholders
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what the import system asks
            raise AttributeError(name)
        if self._placeholders:
            self.asked.append(name)
            return type(name, (), {})
        from importlib import import_module

        self._step_aside()  # for who wants a name of it at once
        return getattr(import_module(self.__name__), name)

    def _finish(self) -> None:
        self._placeholders = False
        self._step_aside()

    def _step_aside(self) -> None:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


class standing_in:  # noqa: N801 - reads as a statement, and `contextlib` may not be imported yet
    """Lets *modules* stand in for those of their names, unless they are imported already, for what the block imports."""

    def __init__(self, modules: Iterable[Later]) -> None:
        self._modules = [module for module in modules if module.__name__ not in sys.modules]

    def __enter__(self) -> Self:
        sys.modules.update({module.__name__: module for module in self._modules})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for module in self._modules:
            module._finish()  # noqa: SLF001  # of this module
