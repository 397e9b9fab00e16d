"""Finding, switching off, loading and checking plugins.

**Drivers** are loaded by kind and name when a command needs one; **listeners** all at once, by commands that build. A plugin that is
switched off is never imported. Whatever a plugin does wrong while it is loaded becomes a `PluginError` that names its distribution.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from img_core.forms.options import AUTO, Choice, merged_options, parse_choice
from img_core.forms.words import truth
from img_core.plugins._discovery import Found, blamed, discover, is_own, load_module
from img_core.plugins._files import is_file, named_files, plugins_in, strays
from img_core.plugins._kinds import ALWAYS_WITH_OPTIONS, CONTRACT_VERSIONS, parse_plugin_id
from img_core.plugins._making import construct, probe, probe_once
from img_core.plugins._options import environment_name, option_places
from img_core.plugins._programs import PROGRAM_KINDS, find_program, is_program, programs
from img_core.plugins._toggles import DISABLED_VARIABLE, Toggle, Toggles
from img_core.spec._lazy import names_from
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import HostError, ImgError, PluginError, Unsupported, UsageError
from img_core.spec.kinds import GROUPS, KINDS, LISTENER
from img_core.spec.text import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pluggy import HookRelay, PluginManager

    from img_core.config import Config, DriverTable
    from img_core.plugins._listeners import ListenerFailure, notify
    from img_core.plugins._telling import Telling
    from img_core.spec.host import Host

__all__ = [
    "AUTO",
    "CONTRACT_VERSIONS",
    "DISABLED_VARIABLE",
    "GROUPS",
    "KINDS",
    "LISTENER",
    "PROGRAM_KINDS",
    "Choice",
    "Found",
    "ListenerFailure",
    "PluginInfo",
    "Plugins",
    "Telling",
    "Toggle",
    "Toggles",
    "UnknownPlugin",
    "blamed",
    "environment_name",
    "notify",
    "parse_choice",
    "parse_plugin_id",
]

__getattr__ = names_from(__name__, {"_listeners": ("ListenerFailure", "notify"), "_telling": ("Telling",)})


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


class Plugins:
    """The plugins that one command may use. *trace* gets a line about every choice that `select` makes."""

    def __init__(self, config: Config, trace: Callable[[str], None] = lambda _text: None) -> None:
        self._config = config
        self._trace = trace
        self._loaded: dict[tuple[str, str], Any] = {}  # Any: a driver class or a click command
        #: The drivers that were made, by kind and name, and whether each is one of those that img is shipped with.
        self.made: dict[tuple[str, str], bool] = {}
        self._tables_are_right = False

    @cached_property
    def _toggles(self) -> Toggles:
        return Toggles(self._config)

    @cached_property
    def _found(self) -> dict[tuple[str, str], list[Found]]:
        return discover(self._config.environment, self._files)

    @cached_property
    def _files(self) -> list[tuple[str, str, str]]:
        """The plugins that are one file: those that the user named, and those of his directory."""
        if self._config.plugin_files and self._config.files_forbidden_by:
            raise PluginError(f"plugins of single files are switched off by {self._config.files_forbidden_by}")
        rows = named_files(self._config.plugin_files)
        return rows + [row for row in plugins_in(self._config.plugin_directory) if row not in rows]

    def strays(self) -> list[str]:
        """Return the files in the user's directory of plugins whose names do not say what they are."""
        return strays(self._config.plugin_directory)

    def _claims(self, kind: str, name: str) -> list[Found]:
        """Return the plugins of that name: those that are installed or files, and if there are none, the program of that name."""
        installed = self._found.get((kind, name), [])
        path = None if installed else find_program(kind, name, self._config.environment)
        return [Found(kind, name, path, path, "")] if path else installed

    def has(self, kind: str, name: str) -> bool:
        """Tell whether there is a plugin of that name that is switched on, be it a program. Imports and runs none."""
        return any(self._toggle_of(found).enabled for found in self._claims(kind, name))

    def installed(self) -> list[Found]:
        """Return all plugins, also twice or switched off, and programs, for which the directories of PATH are read. Imports none."""
        found = [found for claims in self._found.values() for found in claims]
        rows = programs(self._config.environment)
        return found + [
            Found(kind, name, path, path, "") for kind, name, path in rows if (kind, name) not in self._found
        ]

    def names(self, kind: str) -> list[str]:
        """Return the sorted names of a kind that are installed, or are programs which the order names, and not switched off.

        Imports and runs no plugin.
        """
        installed = {name for of, name in self._found if of == kind}
        return sorted(name for name in installed.union(self._config.order.get(kind, ())) if self.has(kind, name))

    def switched_off(self, kind: str) -> list[str]:
        """Return a sentence for each installed driver of a kind that is switched off: which it is and by what. Imports no plugin."""
        toggles = {name: self._toggles.of(kind, name) for of, name in sorted(self._found) if of == kind}
        return [
            f"{kind} `{name}` is switched off by {toggle.by}" for name, toggle in toggles.items() if not toggle.enabled
        ]

    def _toggle_of(self, found: Found) -> Toggle:
        """Return whether this very plugin is switched on: the file of a name may be off where an installed one of that name is on."""
        config = self._config
        forbidden = config.executables_forbidden_by if is_program(found.module) else config.files_forbidden_by
        if is_file(found.module) and forbidden:
            return Toggle(enabled=False, by=forbidden, locked=True)
        return self._toggles.of(found.kind, found.name)

    def toggle(self, kind: str, name: str) -> Toggle:
        """Return whether a plugin is switched on, and who decided that."""
        return self._toggles.of(kind, name)

    def driver(self, kind: str, name: str) -> Any:  # Any: the class that the kind's contract says
        """Load one driver. Raises PluginError if it is missing, switched off, broken, or claimed by two distributions."""
        key = (kind, name)
        if key not in self._loaded:
            found = self.usable(kind, name)
            with self._timed(kind, name, "loaded in"):
                module = load_module(found)
                from img_core.plugins._register import driver_of  # pluggy: 20 ms

                self._loaded[key] = driver_of(found, module)
        return self._loaded[key]

    def make(self, kind: str, choice: str | Choice, *subject: Any, host: Host | None = None) -> Any:
        """Return a driver, ready to be used: loaded, with *host* probed there, and made from *subject* and its options.

        *choice* is what somebody typed (``runc,runtime=crun``, ``auto``); *subject* is what constructors of its kind take. This is how
        every part of img comes to a driver. Any: as `driver` says. Raises as `select` does, UsageError for options.
        """
        self._check_tables()
        chosen = parse_choice(kind, choice) if isinstance(choice, str) else choice
        driver, options = self._chosen(kind, [chosen.name], host, chosen.options)
        self.made[kind, driver.name] = self._is_own(kind, driver)
        with self._timed(kind, driver.name, "made in"):
            return construct(kind, driver, subject, options)

    def _is_own(self, kind: str, driver: Any) -> bool:  # Any: as `driver`
        names = (name for (of, name), loaded in self._loaded.items() if of == kind and loaded is driver)
        return all(is_own(self.usable(kind, name).distribution) for name in names)

    def check(self, kind: str, choice: str | Choice) -> None:
        """Raise what `make` would raise for the name and the options of *choice*, without making or probing anything."""
        self._check_tables()
        chosen = parse_choice(kind, choice) if isinstance(choice, str) else choice
        if chosen.name != AUTO:
            self.options(kind, chosen.name, chosen.options)

    def select(self, kind: str, names: Sequence[str], host: Host) -> Any:  # Any: as `driver`
        """Return the first driver of *names* that works on *host*; ``auto`` among them stands for the configured order.

        A single name fails with its own error; several with one HostError that lists every candidate with its reason.
        """
        return self._chosen(kind, names, host, {})[0]

    def _chosen(
        self, kind: str, names: Sequence[str], host: Host | None, given: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Do as `select`; return the options that the driver gets, too."""
        candidates = self.candidates(kind, names)
        if len(candidates) == 1 and AUTO not in names:
            return self._working(kind, candidates[0], host, given)
        reasons = []
        for name in candidates:
            try:
                found = self._working(kind, name, host, given)
            except UsageError:  # a wrong option is no reason to take another driver
                raise
            except ImgError as err:
                reasons.append(f"{name}: {err.message}")
                self._trace(f"{kind} `{name}` is not used: {err.message}")
            else:
                self._trace(f"{kind} `{name}` is used")
                return found
        raise HostError(
            f"no {kind} works here: {'; '.join(reasons) or 'none is configured'}",
            hint="`img doctor` shows what the host lacks",
        )

    def _working(self, kind: str, name: str, host: Host | None, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return a driver whose probe passes on *host*, and its options."""
        driver, options = self.driver(kind, name), self.options(kind, name, given)
        if host is not None:
            with self._timed(kind, name, "probed in"):
                probe_once(driver, host, options)
        return driver, options

    def candidates(self, kind: str, names: Sequence[str]) -> list[str]:
        """Return *names* with ``auto`` replaced by the configured order, each name once."""
        order = self._config.order.get(kind, ())
        return [*dict.fromkeys(each for name in names for each in (order if name == AUTO else (name,)))]

    def claiming(self, kind: str, claims: Callable[[Any], bool]) -> str:  # Any: as `driver`
        """Return the name of the first driver of the configured order that *claims* what there is to do.

        If there is none, it is the first that is switched off, for its error, or else the first of all, unless another one that is
        installed claims it: then PluginError says so. Raises HostError without order.
        """
        order = self.candidates(kind, [AUTO])
        if not order:
            raise HostError(f"no {kind} is configured", hint=f"see `{kind}` in `[order]` of config.toml")
        usable = self.names(kind)
        found = next((name for name in order if name in usable and claims(self.driver(kind, name))), None)
        off = next((name for name in order if not self.toggle(kind, name).enabled), order[0])
        for name in usable if found is None and off in usable else ():
            if name not in order and self._is_claimed(kind, name, claims):
                raise PluginError(f'{kind} `{name}` is for this, if config.toml has `[order] {kind} = [..., "{name}"]`')
        return found or off

    def _is_claimed(self, kind: str, name: str, claims: Callable[[Any], bool]) -> bool:  # Any: as `driver`
        with suppress(PluginError):  # it is broken, and nobody named it
            return claims(self.driver(kind, name))
        return False

    def listeners(self) -> HookRelay:
        """Load all listeners and return the hooks to call them by.

        A broken listener is an error, not a warning: it may be the one that enforces a policy. Switching it off is a decision.
        """
        return self._listening.hook

    @cached_property
    def _listening(self) -> PluginManager:
        from img_core.plugins._register import hook_manager, register_listener

        manager = hook_manager()
        for name in self._listener_names():
            found = self.usable(LISTENER, name)
            with self._timed(LISTENER, name, "loaded in"):
                register_listener(manager, found, load_module(found), with_trace=self._is_traced)
        return manager

    def _listener_names(self) -> list[str]:
        """Return the listeners that are switched on, and those that the order names and that are nowhere: who needs them is told so."""
        wanted = self.candidates(LISTENER, [AUTO])
        missing = [name for name in wanted if self.toggle(LISTENER, name).enabled and not self._claims(LISTENER, name)]
        return [*self.names(LISTENER), *missing]

    def _timed(self, kind: str, name: str, what: str) -> AbstractContextManager[None]:
        """Return what writes how long its ``with`` block took, if the user wants to see that."""
        if not self._is_traced:
            return nullcontext()
        from img_core.linux.timing import timed

        return timed(f"plugin {kind}:{name}: {what}")

    @cached_property
    def _is_traced(self) -> bool:
        """Whether the user wants to see the calls of plugins."""
        return bool(truth(self._config.environment.get("IMG_TRACE_PLUGINS", "")))

    def options(self, kind: str, name: str, given: Mapping[str, Any], *, complete: bool = True) -> dict[str, Any]:
        """Return the options of a driver, converted and checked by its schema; raises UsageError.

        They come from tables of the configuration, from variables and, winning over both, from what was *given* (text, as typed).
        Unless they have to be *complete*, those that the schema requires may be missing. Any: JSON.
        """
        schema = self.driver(kind, name).schema
        places = [*option_places(kind, name, schema, self._config, self._known(kind)), ("", given)]
        return merged_options(schema, places, _spoken(kind, name), complete=complete)

    def _check_tables(self) -> None:
        """Refuse a table of the configuration for a driver or with an option that does not exist. Raises UsageError."""
        if self._tables_are_right:
            return
        for table in self._config.tables:
            self._check_table(table)
        self._tables_are_right = True

    def _known(self, kind: str) -> set[str]:
        """Return the names of all drivers of a kind: those that are installed, and those that may be, for ``auto`` would try them."""
        return {name for of, name in self._found if of == kind} | {*self._config.order.get(kind, ())}

    def _check_table(self, table: DriverTable) -> None:
        known = self._known(table.kind)
        if table.name not in known and not self._claims(table.kind, table.name):
            hint = suggestion(table.name, sorted(known))
            raise UsageError(f"no {table.kind} is named `{table.name}`, in {table}", hint=hint)
        try:
            schema = self.driver(table.kind, table.name).schema
        except PluginError:  # it is switched off, broken, or not installed: whoever wants it is told
            return
        places = [(str(table), table.options)]
        merged_options(schema, places, _spoken(table.kind, table.name), complete=False)

    def inventory(self, *, host: Host | None = None, check: bool = True) -> list[PluginInfo]:
        """Describe every installed plugin, sorted by kind and name.

        With *check* each one that is not switched off is loaded; with *host* it is asked whether it works there, too.
        """
        order = {kind: number for number, kind in enumerate(KINDS)}
        found = sorted(self.installed(), key=lambda item: (order[item.kind], item.name))
        return [self._describe(item, host=host, check=check) for item in found]

    def _describe(self, found: Found, *, host: Host | None, check: bool) -> PluginInfo:
        status, reason, hint = self._status(found, host=host, check=check)
        return PluginInfo(found.kind, found.name, status, reason, found.distribution, found.version, found.module, hint)

    def _status(self, found: Found, *, host: Host | None, check: bool) -> tuple[str, str, str]:
        toggle = self._toggle_of(found)
        if not toggle.enabled:
            return "disabled", f"by {toggle.by}", ""
        if not check:
            return "ok", "", ""
        if is_own(found.distribution):
            return self._checked(found, host)
        from img_core.linux.apart import in_child

        return in_child(lambda: self._checked(found, host)) or (
            "broken",
            f"plugin {found} ends the process that loads it",
            f"reinstall {found.distribution}, or do without: `--no-plugin {found.kind}:{found.name}`",
        )

    def _checked(self, found: Found, host: Host | None) -> tuple[str, str, str]:
        """Load a plugin, ask it whether it works on *host* if there is one, and say what came of it."""
        try:
            if found.kind == LISTENER:
                from img_core.plugins._register import load_checked

                load_checked(self.usable(LISTENER, found.name))
            else:
                driver = self.driver(found.kind, found.name)
                if found.kind != "command":
                    options = self.options(found.kind, found.name, {}, complete=False)
                    if host is not None:
                        probe(driver, host, options)
        except Unsupported as err:
            return "unsupported", err.message, err.hint or ""
        except ImgError as err:
            return "broken", err.message, err.hint or ""
        return "ok", "", ""

    def usable(self, kind: str, name: str) -> Found:
        """Return the one installed plugin of that name that is switched on. Raises PluginError, UsageError for a kind that is none."""
        if kind not in GROUPS:
            raise UsageError(f"unknown kind of plugin `{kind}`", hint=suggestion(kind, KINDS))
        toggle = self._toggles.of(kind, name)
        if not toggle.enabled:
            raise PluginError(
                f"{kind} `{name}` is switched off by {toggle.by}", hint="`img plugins ls` shows what is available"
            )
        every = self._claims(kind, name)
        claims = [found for found in every if self._toggle_of(found).enabled]
        if every and not claims:
            raise PluginError(f"{kind} `{name}` is switched off by {self._toggle_of(every[0]).by}")
        if not claims:
            raise UnknownPlugin(f"no {kind} is named `{name}`", hint=suggestion(name, self.names(kind)))
        if len(claims) > 1:
            owners = " and ".join(f"{found.distribution} {found.version}".rstrip() for found in claims)
            raise PluginError(f"{kind} `{name}` is claimed by {owners}", hint="uninstall or remove all but one of them")
        return claims[0]


def _spoken(kind: str, name: str) -> str:
    """Return how messages call a driver."""
    return f"type={name}" if kind in ALWAYS_WITH_OPTIONS else f"{kind} `{name}`"
