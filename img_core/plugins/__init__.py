"""Finding, switching off, loading and checking plugins.

**Drivers** are loaded by kind and name when a command needs one; **listeners** all at once, by commands that build. A plugin that is
switched off is never imported. Whatever a plugin does wrong while it is loaded becomes a `PluginError` that names its distribution.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from img_core.plugins._blame import blamed
from img_core.plugins._discovery import Found, describe_failure, discover, is_own, load_module
from img_core.plugins._kinds import CONTRACT_VERSION, GROUPS, KINDS, LISTENER, parse_plugin_id, suggestion
from img_core.plugins._options import parse_boolean, typed_options
from img_core.plugins._toggles import DISABLED_VARIABLE, Toggle, Toggles
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import HostError, ImgError, PluginError, Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pluggy import HookRelay, PluginManager

    from img_core.config import Config
    from img_core.spec.host import Host

__all__ = [
    "AUTO",
    "CONTRACT_VERSION",
    "DISABLED_VARIABLE",
    "GROUPS",
    "KINDS",
    "LISTENER",
    "Found",
    "ListenerFailure",
    "PluginInfo",
    "Plugins",
    "Toggle",
    "Toggles",
    "UnknownPlugin",
    "blamed",
    "notify",
    "parse_boolean",
    "parse_plugin_id",
    "typed_options",
]

#: Stands for the configured order of a kind.
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What is known about one plugin.

    *status* is ``ok``, ``disabled``, ``unsupported`` or ``broken``; *reason* says by what or why, *hint* what would help.
    """

    kind: str
    name: str
    status: str
    reason: str
    distribution: str
    version: str
    module: str
    hint: str = ""


class UnknownPlugin(PluginError):
    """No installed distribution has a plugin of that name: somebody mistyped it, or has to install one."""

    exit_code = 2


class ListenerFailure(PluginError):
    """The *listener* (``listener:name``) raised when it was told something."""

    def __init__(self, listener: str, hook: str, err: Exception) -> None:
        blame = blamed(err)
        text = blame.message if blame else f"{listener} failed: {describe_failure(err)}"
        super().__init__(f"{text} (in `{hook}`)", hint=f"do without: `--no-plugin {listener}`")
        self.listener = listener


class Plugins:
    """The plugins that one command may use. *trace* gets a line about every choice that `select` makes."""

    def __init__(self, config: Config, trace: Callable[[str], None] = lambda _text: None) -> None:
        self._config = config
        self._trace = trace
        self._loaded: dict[tuple[str, str], Any] = {}  # Any: a driver class or a click command

    @cached_property
    def _toggles(self) -> Toggles:
        return Toggles(self._config)

    @cached_property
    def _found(self) -> dict[tuple[str, str], list[Found]]:
        return discover(self._config.environment)

    def names(self, kind: str) -> list[str]:
        """Return the sorted names of a kind that are installed and not switched off. Imports no plugin."""
        return sorted(name for k, name in self._found if k == kind and self._toggles.of(kind, name).enabled)

    def toggle(self, kind: str, name: str) -> Toggle:
        """Return whether a plugin is switched on, and who decided that."""
        return self._toggles.of(kind, name)

    def driver(self, kind: str, name: str) -> Any:  # Any: the class that the kind's contract says
        """Load one driver. Raises PluginError if it is missing, switched off, broken, or claimed by two distributions."""
        key = (kind, name)
        if key not in self._loaded:
            found = self._usable(kind, name)
            module = load_module(found)
            from img_core.plugins._register import driver_of  # pluggy: 20 ms

            self._loaded[key] = driver_of(found, module)
        return self._loaded[key]

    def select(self, kind: str, names: Sequence[str], host: Host) -> Any:  # Any: as `driver`
        """Return the first driver of *names* that works on *host*; ``auto`` among them stands for the configured order.

        A single name fails with its own error; several with one HostError that lists every candidate with its reason.
        """
        candidates = self.candidates(kind, names)
        if len(candidates) == 1 and AUTO not in names:
            driver = self.driver(kind, candidates[0])
            _probe_once(driver, host)
            return driver
        reasons = []
        for name in candidates:
            try:
                driver = self.driver(kind, name)
                _probe_once(driver, host)
            except ImgError as err:
                reasons.append(f"{name}: {err.message}")
                self._trace(f"{kind} `{name}` is not used: {err.message}")
            else:
                self._trace(f"{kind} `{name}` is used")
                return driver
        raise HostError(
            f"no {kind} works here: {'; '.join(reasons) or 'none is configured'}",
            hint="`img doctor` shows what the host lacks",
        )

    def candidates(self, kind: str, names: Sequence[str]) -> list[str]:
        """Return *names* with ``auto`` replaced by the configured order, each name once."""
        expanded: list[str] = []
        for name in names:
            expanded += self._config.order.get(kind, ()) if name == AUTO else (name,)
        return list(dict.fromkeys(expanded))

    def listeners(self) -> HookRelay:
        """Load all listeners and return the hooks to call them by.

        A broken listener is an error, not a warning: it may be the one that enforces a policy. Switching it off is a decision.
        """
        return self._listening.hook

    @cached_property
    def _listening(self) -> PluginManager:
        from img_core.plugins._register import hook_manager, register_listener

        manager = hook_manager()
        for name in self.names(LISTENER):
            found = self._usable(LISTENER, name)
            register_listener(manager, found, load_module(found))
        return manager

    def options(self, kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
        """Convert and check the options of a driver (all strings, as typed) by its schema. Raises UsageError."""
        driver = self.driver(kind, name)
        return typed_options(driver.schema, given, f"type={name}")

    def inventory(self, *, host: Host | None = None, check: bool = True) -> list[PluginInfo]:
        """Describe every installed plugin, sorted by kind and name.

        With *check* each one that is not switched off is loaded; with *host* it is asked whether it works there, too.
        """
        order = {kind: number for number, kind in enumerate(KINDS)}
        keys = sorted(self._found, key=lambda key: (order[key[0]], key[1]))
        return [self._describe(found, host=host, check=check) for key in keys for found in self._found[key]]

    def _describe(self, found: Found, *, host: Host | None, check: bool) -> PluginInfo:
        status, reason, hint = self._status(found, host=host, check=check)
        return PluginInfo(found.kind, found.name, status, reason, found.distribution, found.version, found.module, hint)

    def _status(self, found: Found, *, host: Host | None, check: bool) -> tuple[str, str, str]:
        toggle = self._toggles.of(found.kind, found.name)
        if not toggle.enabled:
            return "disabled", f"by {toggle.by}", ""
        if not check:
            return "ok", "", ""
        if is_own(found.distribution):
            return self._checked(found, host)
        from img_core.plugins._apart import in_child

        return in_child(lambda: self._checked(found, host)) or (
            "broken",
            f"plugin {found} ends the process that loads it",
            f"reinstall {found.distribution}, or do without: `--no-plugin {found.kind}:{found.name}`",
        )

    def _checked(self, found: Found, host: Host | None) -> tuple[str, str, str]:
        """Load a plugin, ask it whether it works on *host* if there is one, and say what came of it."""
        try:
            if found.kind == LISTENER:
                self._check_listener(found)
            else:
                driver = self.driver(found.kind, found.name)
                if host is not None:
                    _probe(driver, host)
        except Unsupported as err:
            return "unsupported", err.message, err.hint or ""
        except ImgError as err:
            return "broken", err.message, err.hint or ""
        return "ok", "", ""

    def _check_listener(self, found: Found) -> None:
        from img_core.plugins._register import hook_manager, register_listener

        register_listener(hook_manager(), found, load_module(self._usable(LISTENER, found.name)))

    def _usable(self, kind: str, name: str) -> Found:
        """Return the one installed plugin of that name that is switched on."""
        if kind not in GROUPS:
            raise UsageError(f"unknown kind of plugin `{kind}`", hint=suggestion(kind, KINDS))
        toggle = self._toggles.of(kind, name)
        if not toggle.enabled:
            raise PluginError(
                f"{kind} `{name}` is switched off by {toggle.by}", hint="`img plugins ls` shows what is available"
            )
        claims = self._found.get((kind, name), [])
        if not claims:
            raise UnknownPlugin(f"no {kind} is named `{name}`", hint=suggestion(name, self.names(kind)))
        if len(claims) > 1:
            owners = " and ".join(f"{found.distribution} {found.version}" for found in claims)
            raise PluginError(f"{kind} `{name}` is claimed by {owners}", hint="uninstall all but one of them")
        return claims[0]


def _probe_once(driver: Any, host: Host) -> None:  # Any: a driver class
    """Run the driver's probe as `_probe` does, unless it says that what was found lasts, and it passed here before."""
    if not getattr(driver, "probe_lasts", False):
        _probe(driver, host)
        return
    from img_core.plugins._trials import Trial

    trial = Trial(host.state_directory, f"{driver.name} {host.mapping}")
    if not trial.worked_before():
        _probe(driver, host)
        trial.worked()


def _probe(driver: Any, host: Host) -> None:  # Any: a driver class
    """Run the driver's probe, if its kind has one. Raises Unsupported, or PluginError when the probe itself is broken."""
    probe = getattr(driver, "probe", None)
    if probe is None:
        return
    try:
        probe(host)
    except (ImgError, KeyboardInterrupt):
        raise
    except BaseException as err:
        raise PluginError(
            f"the probe of {driver.__module__}.{driver.__qualname__} failed: {describe_failure(err)}"
        ) from err


def notify(relay: HookRelay, hook: str, /, **values: object) -> list[ListenerFailure]:
    """Call an observing hook (`img_event`, `img_step_finished`) of every listener; return the failures instead of raising them.

    One listener's failure does not keep the others from being called.
    """
    failures = []
    for implementation in _in_call_order(getattr(relay, hook).get_hookimpls()):
        arguments = {name: values[name] for name in implementation.argnames}
        try:
            implementation.function(**arguments)
        except Exception as err:
            failures.append(ListenerFailure(implementation.plugin_name, hook, err))
    return failures


def _in_call_order(implementations: Sequence[Any]) -> list[Any]:  # Any: pluggy's HookImpl
    return [item for item in reversed(implementations) if not item.wrapper and not item.hookwrapper]
