"""What is imported when it is first used: names of a package (PEP 562), and modules that a library imports and hardly ever uses."""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["Later", "names_from", "standing_in"]


def names_from(package: str, homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """Return a ``__getattr__`` for *package*; *homes* maps its modules, or others by their whole names, to the names that live there."""
    home_of = {name: home for home, names in homes.items() for name in names}

    def getter(name: str) -> object:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(home if "." in home else f"{package}.{home}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return getter


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
