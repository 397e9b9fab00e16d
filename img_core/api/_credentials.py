"""Logging in to registries, and out: what the credential stores know, in the configured order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import CredentialsError, ImgError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.plugins import Plugins
    from img_core.spec.credentials import CredentialStore
    from img_core.spec.registry import Registry, RegistryContext
    from img_core.spec.values import Credentials

__all__ = ["Accounts", "LoggedOut", "open_registry"]


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """*known* tells whether any store had the server; *warnings* are about stores that could not forget it."""

    known: bool
    warnings: tuple[str, ...]


class Accounts:
    """Who we are to registries: the installed credential stores in the configured order. *notice* gets one-line messages."""

    def __init__(self, plugins: Plugins, environment: Mapping[str, str], notice: Callable[[str], None]) -> None:
        self._plugins = plugins
        self._environment = environment
        self._notice = notice

    def stores(self) -> Iterator[CredentialStore]:
        """Give the stores, first the one to ask first."""
        installed = self._plugins.names("credentials")
        for name in self._plugins.candidates("credentials", ["auto"]):
            if name in installed:
                yield self._plugins.make("credentials", name, self._environment)

    def find(self, server: str, repository: str = "") -> Credentials | None:
        """Ask the stores for *server*. One that cannot be read is told and passed over: most images are public."""
        for store in self.stores():
            try:
                found = store.get(server, repository)
            except CredentialsError as err:
                self._notice(err.message)
                continue
            if found is not None:
                return found
        return None

    def log_in(self, server: str, credentials: Credentials, *, insecure: Sequence[str] = ()) -> bool:
        """Check *credentials* with the registry *server*, then keep them; return whether the registry wanted to know them at all.

        Raises CredentialsError when it refuses them or no store takes them, RegistryError when it cannot be asked; nothing is kept then.
        """
        store = next((store for store in self.stores() if store.takes(server)), None)
        if store is None:
            off = "; ".join(self._plugins.switched_off("credentials"))
            raise CredentialsError(
                "no credential store takes new logins" + (f": {off}" if off else ""),
                hint="see `img plugins ls`, and `[order]` in config.toml",
            )
        asked = self._verify(server, credentials, insecure)
        store.store(server, credentials)
        return asked

    def _verify(self, server: str, credentials: Credentials, insecure: Sequence[str]) -> bool:
        from img_core.spec.registry import RegistryContext

        asked: list[str] = []

        def answer(name: str, _repository: str) -> Credentials:
            if name != server:  # a configuration file says so; the password was not given for that one
                raise CredentialsError(f"`{server}` is served by `{name}`: log in there, with `img login {name}`")
            asked.append(name)
            return credentials

        with open_registry(self._plugins, RegistryContext(self._environment, answer, frozenset(insecure))) as registry:
            registry.ping(server)
        return bool(asked)

    def log_out(self, server: str) -> LoggedOut:
        """Let every store forget *server*."""
        known, warnings = False, []
        for store in self.stores():
            try:
                known = store.erase(server) or known
            except ImgError as err:
                known = True
                warnings.append(err.message)
        return LoggedOut(known, tuple(warnings))

    def list(self) -> Mapping[str, str]:
        """Return server to user name (empty for an identity token) for all that the stores know, by server."""
        found: dict[str, str] = {}
        for store in self.stores():
            try:
                for server, username in store.list().items():
                    found.setdefault(server, username)
            except CredentialsError as err:
                self._notice(err.message)
        return dict(sorted(found.items()))


def open_registry(plugins: Plugins, context: RegistryContext) -> Registry:
    """Return a registry for one piece of work, of the first driver of the configured order that is installed and on.

    Raises PluginError that says who switched it off.
    """
    made: Registry = plugins.make("registry", plugins.claiming("registry", lambda _driver: True), context)
    return made
