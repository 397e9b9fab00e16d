"""The frontends that may plan a build, and what they say about its files."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from img_core.api._definition import Names
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.plugins import Plugins
    from img_core.spec.frontend import Frontend

__all__ = ["Frontends"]


class Frontends:
    """The frontend that the user chose, or those of the configured order. What one calls its definitions decides which of them plans."""

    def __init__(self, drivers: Sequence[type[Frontend]]) -> None:
        self._drivers = tuple(drivers)

    @classmethod
    def load(cls, plugins: Plugins, chosen: str) -> Frontends:
        """Load the frontend *chosen* (``auto``: all of the configured order). Raises PluginError, UsageError if there is none."""
        names = plugins.candidates("frontend", [chosen])
        if not names:
            raise UsageError(
                "no frontend is configured", hint="`order` in `config.toml` lists none; name one with `--frontend`"
            )
        return cls([plugins.driver("frontend", name) for name in names])

    @property
    def first(self) -> type[Frontend]:
        """The one that plans where nothing else decides."""
        return self._drivers[0]

    @cached_property
    def names(self) -> Names:
        """What a build definition may be called, the best first."""
        return Names(dict.fromkeys(name for driver in self._drivers for name in driver.definition_names))

    def of(self, definition: str) -> type[Frontend]:
        """Return the frontend for a definition in a file called *definition*."""
        return next((driver for driver in self._drivers if definition in driver.definition_names), self.first)
