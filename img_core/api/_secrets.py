"""Where the secrets of a build are: which provider has each, asked before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.api._request import SecretSource
from img_core.plugins import Choice, UnknownPlugin
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.plugins import Plugins
    from img_core.spec.secret import SecretProvider

__all__ = ["SecretPlaces"]

_PREFIX = "could not parse secrets: "  # the words of docker


class SecretPlaces:
    """Finds the providers of secrets, for a user with this *environment*."""

    def __init__(self, plugins: Plugins, environment: Mapping[str, str]) -> None:
        self._plugins = plugins
        self._environment = environment

    def located(self, sources: Mapping[str, SecretSource]) -> dict[str, SecretSource]:
        """Return *sources* with provider and complete options; each is looked at and none is read.

        Raises UsageError for what cannot be had, PluginError that says who switched off what would be needed.
        """
        return {name: self.locate(name, source) for name, source in sources.items()}

    def locate(self, name: str, source: SecretSource) -> SecretSource:
        """Do as `located` with the secret *name*."""
        if source.value is not None:
            return source
        given = {"src": source.path, "env": source.variable}
        options = {**source.options, **{key: text for key, text in given.items() if text}}
        try:
            found = self._complete(name, source.type or self._claiming(name, options), options)
            self._provider(found).check()
        except UsageError as err:
            raise UsageError(f"{_PREFIX}{err.message}", hint=err.hint) from err
        return found

    def readers(self, sources: Mapping[str, SecretSource]) -> dict[str, Callable[[], bytes]]:
        """Return a function for each secret that reads it."""
        return {name: self._reader(name, source) for name, source in sources.items()}

    def _reader(self, name: str, source: SecretSource) -> Callable[[], bytes]:
        value = source.value
        return self._provider(self.locate(name, source)).get if value is None else lambda: value

    def _claiming(self, name: str, options: Mapping[str, Any]) -> str:
        return self._plugins.claiming("secret", lambda driver: driver.claims(name, options, self._environment))

    def _complete(self, name: str, kind: str, options: Mapping[str, Any]) -> SecretSource:
        try:
            driver: type[SecretProvider] = self._plugins.driver("secret", kind)
        except UnknownPlugin:
            known = ", ".join(f"`{each}`" for each in self._plugins.names("secret"))
            raise UsageError(f'unsupported secret type "{kind}"', hint=f"known: {known}") from None
        return SecretSource(type=kind, options=driver.complete(name, options))

    def _provider(self, source: SecretSource) -> SecretProvider:
        made: SecretProvider = self._plugins.make("secret", Choice(source.type, source.options), self._environment)
        return made
