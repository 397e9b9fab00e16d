"""What the global flags said: ``--backend``, ``--debug``, ``--state`` and ``--no-plugin``."""

from __future__ import annotations

import os
import stat
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from img_core.cli import _exit
from img_core.cli._output import warn
from img_core.spec.errors import UsageError
from img_core.spec.text import show, why

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.api import Client
    from img_core.config import Config
    from img_core.plugins import Plugins

__all__ = ["AUTO_BACKEND", "Settings"]

AUTO_BACKEND = "auto"


@dataclass(slots=True)
class Settings:
    """The values of the global flags. A flag after the command wins over the one before it; ``--plugin`` and ``--no-plugin`` add up.

    *auth_file* stands for the variable of that name that podman reads, see containers-auth.json(5).
    """

    backend: str = AUTO_BACKEND
    state: str | None = None
    no_plugins: list[str] = field(default_factory=list)
    plugin_files: list[str] = field(default_factory=list)
    auth_file: str = ""
    _plugins: Plugins | None = None

    def enable_debug(self) -> None:
        """Show tracebacks from now on."""
        _exit.enable_debug()

    @property
    def debug(self) -> bool:
        """Whether ``--debug`` was given."""
        return _exit.is_debug()

    def config(self) -> Config:
        """Return the configuration with these flags applied. Raises UsageError."""
        from img_core.config import Config

        config = Config.load(
            state=self._state(),
            no_plugins=self.no_plugins,
            plugin_files=self.plugin_files,
            environment=self._environment(),
        )
        _check_state(config.state_directory)
        return config

    def client(self) -> Client:
        """Return the client that does the work of this command, in this process. Raises UsageError."""
        from img_core.api import Client
        from img_core.cli._output import say, warn

        client = Client(
            state=self._state(),
            no_plugins=self.no_plugins,
            plugin_files=self.plugin_files,
            environment=self._environment(),
            notice=warn,
            trace=lambda text: say(f"debug: {text}") if self.debug else None,
            in_process=True,
        )
        _check_state(client.config.state_directory)
        return client

    def _state(self) -> str | None:
        if self.state == "":
            raise UsageError("`--state` is empty", hint="name a directory, or leave it out for the default")
        return self.state

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, **({"REGISTRY_AUTH_FILE": self.auth_file} if self.auth_file else {})}

    def plugins(self) -> Plugins:
        """Return the plugins of this command; one object, so that each is found and loaded once."""
        if self._plugins is None:
            from img_core.plugins import Plugins

            warnings.showwarning = _telling_of_plugins(warnings.showwarning)
            self._plugins = Plugins(self.config())
        return self._plugins

    def check_backend(self, plugins: Plugins) -> None:
        """Refuse a backend that is not installed, in the words of the original img, and options that it has not.

        Raises UsageError, PluginError that says who switched it off.
        """
        from img_core.plugins import UnknownPlugin, parse_choice

        name = parse_choice("snapshotter", self.backend).name
        if name == AUTO_BACKEND:
            return
        try:
            plugins.usable("snapshotter", name)
        except UnknownPlugin:
            known = [AUTO_BACKEND, *plugins.names("snapshotter")]
            raise UsageError(
                f"{name} is not a valid snapshots backend", hint="known: " + ", ".join(f"`{each}`" for each in known)
            ) from None
        plugins.check("snapshotter", self.backend)


def _check_state(path: str) -> None:
    """Refuse a state directory that cannot be one; a missing one is fine. Raises UsageError."""
    try:
        usable = stat.S_ISDIR(os.stat(path).st_mode) and os.access(path, os.R_OK | os.X_OK)
        reason = "it is not a directory, or cannot be read"
    except FileNotFoundError:
        return
    except OSError as err:  # a part of the path is a file, or closed to us
        usable, reason = False, why(err)
    if not usable:
        raise UsageError(
            f"state directory `{show(path)}` cannot be used: {reason}", hint="choose another one with `-s DIR`"
        )


def _telling_of_plugins(usual: Callable[..., None]) -> Callable[..., None]:
    """Return a `warnings.showwarning` that says in a line which plugin has to change, and leaves the rest to *usual*."""

    def show_it(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
        if category is FutureWarning and str(message).startswith("plugin "):
            warn(str(message))
        else:
            usual(message, category, *where, **more)

    return show_it
