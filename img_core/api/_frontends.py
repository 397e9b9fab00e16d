"""The frontends that may plan a build, and what they say about its files."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from img_core.api._definition import DefinitionNames
from img_core.plugins import AUTO, Choice, parse_choice
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.plugins import Plugins
    from img_core.spec.frontend import Frontend, PlanRequest

__all__ = ["Frontends"]


class Frontends:
    """The frontend that the user chose, or those of the configured order. What one calls its definitions decides which of them plans."""

    def __init__(self, plugins: Plugins, chosen: str, options: Mapping[str, Any]) -> None:  # Any: JSON
        """Load the frontend *chosen* (``auto``: all of the configured order; ``NAME,key=value``), which gets the *options*, too.

        Raises PluginError, UsageError if there is none.
        """
        self._plugins = plugins
        choice = parse_choice("frontend", chosen)
        self._chosen = chosen = choice.name
        self._options = {**choice.options, **options}
        self._drivers: dict[str, type[Frontend]] = {
            name: plugins.driver("frontend", name) for name in plugins.candidates("frontend", [chosen])
        }
        if not self._drivers:
            hint = "`order` in `config.toml` lists none; name one with `--frontend`"
            raise UsageError("no frontend is configured", hint=hint)

    @property
    def first(self) -> type[Frontend]:
        """The one that plans where nothing else decides."""
        return next(iter(self._drivers.values()))

    @cached_property
    def names(self) -> DefinitionNames:
        """What a build definition may be called, the best first."""
        return DefinitionNames(
            dict.fromkeys(name for driver in self._drivers.values() for name in driver.definition_names)
        )

    def of(self, definition: str) -> type[Frontend]:
        """Return the frontend for a definition in a file called *definition*."""
        return self._drivers[self._name_of(definition)]

    def make(self, planned: PlanRequest) -> Frontend:
        """Return what plans *planned*: if the user chose none, also one that the definition itself asks for."""
        name = self._name_of(planned.filename)
        if self._chosen == AUTO:
            wanted = self._plugins.make("frontend", name).wanted(planned)
            name = wanted if wanted in self._plugins.names("frontend") else name
        made: Frontend = self._plugins.make("frontend", Choice(name, self._options))
        return made

    def _name_of(self, definition: str) -> str:
        """Return the name of the frontend for a definition in a file called *definition*."""
        file = os.path.basename(definition)
        mine = (name for name, driver in self._drivers.items() if file in driver.definition_names)
        return next(mine, next(iter(self._drivers)))
