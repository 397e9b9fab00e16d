"""What the user, the administrator and the distribution configured: directories, defaults and the places of plugin toggles.

Reading is lazy where it costs: a machine without configuration files pays for a few ``stat`` calls. The core names no plugin in code
other than here, and here only as words of a default order (``auto``).
"""

from __future__ import annotations

import os
from dataclasses import field
from typing import TYPE_CHECKING, Any

from img_core.files.places import base_directory
from img_core.forms.toml import read_toml
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError
from img_core.spec.kinds import KINDS, WITHOUT_OPTIONS
from img_core.spec.text import show, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ADAPTERS",
    "DEFAULT_ARCHIVE",
    "DEFAULT_CACHE",
    "DEFAULT_CACHE_OPTION",
    "DEFAULT_EXPORTER",
    "DEFAULT_ORDER",
    "DIRECTORY_CACHE",
    "DIRECTORY_CACHE_OPTIONS",
    "EXTRAS",
    "PROGRAM_DRIVERS",
    "Config",
    "DriverTable",
    "ToggleDirectory",
    "default_state_directory",
]

#: What ``auto`` tries for each kind, best first. ``/etc/img/config.toml`` and the user's ``config.toml`` replace single lines.
DEFAULT_ORDER: Mapping[str, tuple[str, ...]] = {
    "frontend": ("dockerfile",),
    "registry": ("oci",),
    "importer": ("archive", "layout"),
    "executor": ("userns", "runc-embedded", "runc", "chroot", "swap"),
    "snapshotter": ("overlayfs", "fuse-overlayfs", "moving", "native"),
    "listener": (),
    "credentials": ("containers", "dockerconfig", "keyring"),
    "secret": ("env", "file"),
    "progress": ("tty", "plain"),
}

#: The exporter of an image that got no ``-o``, and the one whose form a saved archive has.
DEFAULT_EXPORTER = "image"
DEFAULT_ARCHIVE = "docker"

#: The cache that a mere image name means (``--cache-from user/app:cache``), and the option that takes the name.
DEFAULT_CACHE, DEFAULT_CACHE_OPTION = "registry", "ref"

#: The cache that a directory means (``img cache ls DIR``), and the options that take it: to look in, and to write to.
DIRECTORY_CACHE, DIRECTORY_CACHE_OPTIONS = "local", ("src", "dest")

#: The module that makes drivers of programs on PATH, see `img_core.plugins._programs`.
PROGRAM_DRIVERS = "img_lib_programs.drivers"

#: kind -> what makes a driver class for the version before ours of its contract into one for ours
ADAPTERS = {"engine": "img_lib_engines.version_1:adapted"}

#: What the cache may take: a size, a share of its file system, or ``all``; `img_core.store.automatic` keeps to it after builds.
DEFAULT_BUDGET = "10%"

#: Which extra of the distribution brings a plugin of that order which is not built in, by kind and name.
EXTRAS: Mapping[tuple[str, str], str] = {("snapshotter", "fuse-overlayfs"): "fuse"}

#: The tables of a ``config.toml`` that are no options of drivers.
_OWN_TABLES = ("order", "collect", "images", "plugins")

DISTRO_DIRECTORY = "/usr/lib/img"
ADMIN_DIRECTORY = "/etc/img"


@dataclass(frozen=True, slots=True)
class ToggleDirectory:
    """A ``plugins.d`` directory; only one that *may_lock* can fix a choice against later places."""

    path: str
    may_lock: bool = False


@dataclass(frozen=True, slots=True)
class DriverTable:
    """A table ``[executor.runc]`` of the file *path*: options of the driver *name* of a *kind*; `img_core.plugins` checks them."""

    kind: str
    name: str
    path: str
    options: Mapping[str, Any]  # Any: TOML

    def __str__(self) -> str:
        return f"`[{self.kind}.{self.name}]` of {self.path}"


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one command.

    *order* is the configured order per kind for ``auto``. *no_plugins* are the values of ``--no-plugin`` (``kind:name``).
    *toggle_directories* are read in order; later ones win unless an earlier one is locked. *keep_storage* is what the cache may take.
    For *trust_tags* seconds after a registry said what a tag means builds do not ask it again. *tables* are options of drivers, those
    of the distribution first and those of the user last. *plugin_files* are plugins of single files that the user named;
    *files_forbidden_by* is the file, if any, whose line ``files = false`` forbids those, *executables_forbidden_by* the one that forbids
    plugins that are programs on PATH.
    """

    state_directory: str
    config_directory: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    order: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_ORDER))
    toggle_directories: tuple[ToggleDirectory, ...] = ()
    no_plugins: tuple[str, ...] = ()
    keep_storage: str = DEFAULT_BUDGET
    trust_tags: float = 0.0
    tables: tuple[DriverTable, ...] = ()
    plugin_files: tuple[str, ...] = ()
    files_forbidden_by: str = ""
    executables_forbidden_by: str = ""

    @property
    def plugin_directory(self) -> str:
        """Where plugins of single files lie that are always loaded."""
        return os.path.join(self.config_directory, "plugins")

    @classmethod
    def load(
        cls,
        *,
        state: str | None = None,
        no_plugins: Sequence[str] = (),
        plugin_files: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        distro_directory: str = DISTRO_DIRECTORY,
        admin_directory: str = ADMIN_DIRECTORY,
    ) -> Config:
        """Collect the configuration of this process. Raises UsageError for a file that cannot be understood.

        *state* is the value of ``--state``; *environment* defaults to the process's own. The other two exist for tests and packagers.
        """
        variables = dict(os.environ) if environment is None else dict(environment)
        config_directory = os.path.join(base_directory(variables, "XDG_CONFIG_HOME", ".config"), "img")
        order, keep_storage, trust_tags = dict(DEFAULT_ORDER), DEFAULT_BUDGET, 0.0
        forbidden_by: dict[str, str] = {}
        tables: list[DriverTable] = []
        for directory in (distro_directory, admin_directory, config_directory):
            path = os.path.join(directory, "config.toml")
            document = read_toml(path)
            tables += _driver_tables(document, path)
            order.update(_configured_order(document, path))
            keep_storage = _configured_budget(document, path) or keep_storage
            trust_tags = _configured_trust(document, path, trust_tags)
            forbidden_by = {**dict.fromkeys(_forbidden(document, path), path), **forbidden_by}
        return cls(
            state_directory=os.path.abspath(state) if state else default_state_directory(variables),
            config_directory=config_directory,
            environment=variables,
            order=order,
            toggle_directories=(
                ToggleDirectory(os.path.join(distro_directory, "plugins.d")),
                ToggleDirectory(os.path.join(admin_directory, "plugins.d"), may_lock=True),
                ToggleDirectory(os.path.join(config_directory, "plugins.d")),
            ),
            no_plugins=tuple(no_plugins),
            keep_storage=keep_storage,
            trust_tags=trust_tags,
            tables=tuple(tables),
            plugin_files=tuple(plugin_files),
            files_forbidden_by=forbidden_by.get("files", ""),
            executables_forbidden_by=forbidden_by.get("executables", ""),
        )


def default_state_directory(environment: Mapping[str, str]) -> str:
    """Return where the state lives without ``--state``: ``$XDG_DATA_HOME/img``, normally ``~/.local/share/img``.

    Of a ``:``-separated XDG_DATA_HOME the first part counts, as in the original img.
    """
    first = {**environment, "XDG_DATA_HOME": environment.get("XDG_DATA_HOME", "").split(":")[0]}
    return os.path.join(base_directory(first, "XDG_DATA_HOME", ".local/share"), "img")


def _driver_tables(document: Mapping[str, Any], path: str) -> list[DriverTable]:  # Any: TOML
    """Return the tables with options of drivers. Raises UsageError for a table that means nothing."""
    kinds = [kind for kind in KINDS if kind not in WITHOUT_OPTIONS]
    found = []
    for key in sorted(set(document) - set(_OWN_TABLES)):
        if key not in kinds:
            hint = suggestion(key, [*_OWN_TABLES, *kinds])
            raise UsageError(f"unknown table `[{show(key)}]` in {path}", hint=hint)
        tables = document[key]
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise UsageError(f"`{key}` in {path} must hold a table for each driver", hint=f"e.g. `[{key}.NAME]`")
        found += [DriverTable(key, name, path, table) for name, table in sorted(tables.items())]
    return found


def _configured_order(document: Mapping[str, Any], path: str) -> dict[str, tuple[str, ...]]:  # Any: TOML
    """Return the table ``[order]``: ``executor = ["runc", "userns"]``."""
    table = document.get("order", {})
    if not isinstance(table, dict) or not all(_is_names(value) for value in table.values()):
        raise UsageError(f"`order` in {path} must map kinds of plugins to lists of names")
    if unknown := sorted(set(table) - set(DEFAULT_ORDER)):
        known = ", ".join(f"`{kind}`" for kind in sorted(DEFAULT_ORDER))
        raise UsageError(f"unknown kind `{unknown[0]}` in `[order]` of {path}", hint=f"there is an order of {known}")
    return {kind: tuple(names) for kind, names in table.items()}


def _configured_budget(document: Mapping[str, Any], path: str) -> str:  # Any: TOML
    """Return ``keep-storage`` of the table ``[collect]``, empty if it is not there."""
    table = document.get("collect", {})
    if not isinstance(table, dict) or not table.keys() <= {"keep-storage"}:
        raise UsageError(f"`collect` in {path} must be a table with the key `keep-storage`")
    budget = table.get("keep-storage")
    if budget is None:
        return ""
    from img_core.forms.words import budget_bytes

    try:
        budget_bytes(str(budget), 0)
    except ValueError as err:
        raise UsageError(f"`keep-storage` in {path}: {err}", hint="e.g. `20GiB`, `10%` or `all`") from None
    return str(budget)


def _configured_trust(document: Mapping[str, Any], path: str, otherwise: float) -> float:  # Any: TOML
    """Return ``trust-tags`` of the table ``[images]``, in seconds."""
    table = document.get("images", {})
    if not isinstance(table, dict) or not table.keys() <= {"trust-tags"}:
        raise UsageError(f"`images` in {path} must be a table with the key `trust-tags`")
    seconds = table.get("trust-tags", otherwise)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise UsageError(f"`trust-tags` in {path} is not a number of seconds", hint="e.g. `300`; 0 asks in each build")
    return float(seconds)


def _forbidden(document: Mapping[str, Any], path: str) -> list[str]:  # Any: TOML
    """Return the keys of the table ``[plugins]`` that are false; nobody after the one who says so can say otherwise."""
    table, keys = document.get("plugins", {}), {"files", "executables"}
    if (
        not isinstance(table, dict)
        or not table.keys() <= keys
        or not all(isinstance(item, bool) for item in table.values())
    ):
        raise UsageError(
            f"`plugins` in {path} must be a table with the keys `files` and `executables`, which are true or false"
        )
    return [key for key, allowed in table.items() if not allowed]


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
