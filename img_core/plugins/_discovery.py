"""Finding and importing plugins: stevedore's managers find them, an index remembers what was found, and one function imports any of them.

stevedore's own listing goes through a cache on disk that loses which distribution an entry point belongs to and notices changes late
(its key has a resolution of minutes), so our manager is given live entry points of `importlib.metadata` instead. Both take too long for
each command (30 ms, docs/explanation/performance.md): they are loaded when something was installed or removed, which the index notices.
Importing needs neither, and is the same whether a plugin was found just now or comes from the index.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from img_core.config import PROGRAM_DRIVERS
from img_core.plugins import _index
from img_core.plugins._files import import_file, is_file, module_name
from img_core.plugins._programs import is_program
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, PluginError
from img_core.spec.kinds import GROUPS, KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from importlib.metadata import EntryPoint, EntryPoints
    from types import TracebackType

    from img_core.plugins._files import Row

__all__ = [
    "OWN_DISTRIBUTION",
    "Found",
    "blamed",
    "describe_failure",
    "discover",
    "import_named",
    "is_own",
    "load_module",
]

#: The distribution of the plugins that are shipped with the core.
OWN_DISTRIBUTION = "img-builder"


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin as its *distribution* announces it; nothing is imported. *module* is what loading it imports."""

    kind: str
    name: str
    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name} of {self.distribution} {self.version}".rstrip()


def discover(environment: Mapping[str, str], files: Iterable[Row] = ()) -> dict[tuple[str, str], list[Found]]:
    """Return all installed plugins, and those of *files*, by kind and name; more than one entry means that there is a quarrel about a name.

    *environment* tells where the user's cache directory is.
    """
    current = _index.fingerprint()
    rows = _index.load(environment, current)
    if rows is None:
        listed, installed = _list_entry_points()
        if installed:  # an uninstalled checkout changes in other ways
            _index.save(
                environment,
                current,
                [(found.kind, found.name, found.module, found.distribution, found.version) for found in listed],
            )
    else:
        listed = [Found(*row) for row in rows]
    listed += [Found(kind, name, path, path, "") for kind, name, path in files]
    plugins: dict[tuple[str, str], list[Found]] = {}
    for found in listed:
        plugins.setdefault((found.kind, found.name), []).append(found)
    return plugins


def _list_entry_points() -> tuple[list[Found], bool]:
    """Return all plugins, and whether ours are installed; if not, they are those of the checkout that we run from."""
    from importlib.metadata import entry_points  # 25 ms; only when something was installed or removed

    listed = _of_our_groups(entry_points().select)
    if any(is_own(found.distribution) for found in listed):
        return listed, True
    return listed + _of_our_groups(_checkout_entry_points().select), False


def _of_our_groups(select: Callable[..., Iterable[EntryPoint]]) -> list[Found]:
    """Return the plugins among the entry points of which *select* gives some, each group as a manager of stevedore's lists it."""
    from stevedore.named import NamedExtensionManager  # 5 ms, as above

    class Finder(NamedExtensionManager):  # type: ignore[type-arg]  # of nothing: no name is asked for; 4.0 has no parameters
        """Lists the entry points of a group as they are now."""

        def list_entry_points(self) -> list[EntryPoint]:
            return list(select(group=self.namespace))

    return [_found(kind, point) for kind in KINDS for point in Finder(GROUPS[kind], []).list_entry_points()]


def _found(kind: str, point: EntryPoint) -> Found:
    # An EntryPoint made by hand has no distribution; those from metadata always do.
    distribution, version = (point.dist.name, point.dist.version) if point.dist is not None else ("unknown", "unknown")
    return Found(kind, point.name, point.value, distribution, version)


def is_own(distribution: str) -> bool:
    """Tell whether *distribution* is the one that the core is in."""
    return distribution.lower().replace("_", "-") == OWN_DISTRIBUTION


_others: dict[str, Found] = {}  #: top-level package of a plugin that is not ours -> what it was loaded as first


def load_module(found: Found) -> object:
    """Import what *found* names. Raises PluginError for anything that goes wrong in there, SystemExit included."""
    if not is_own(found.distribution):
        module = module_name(found.module) if is_file(found.module) else found.module
        _others.setdefault(module.partition(":")[0].partition(".")[0].strip(), found)
    try:
        if is_program(found.module):
            return import_named(PROGRAM_DRIVERS).program_module(found.kind, found.name, found.module, str(found))
        return import_file(found.module) if is_file(found.module) else import_named(found.module)
    except (KeyboardInterrupt, ImgError):
        raise
    except BaseException as err:  # SystemExit and AssertionError of a plugin must not end the program
        raise PluginError(
            f"plugin {found} cannot be imported: {describe_failure(err)}",
            hint=_mending(found),
        ) from err


def _mending(found: Found) -> str:
    """Return what can be done about a plugin that cannot be imported."""
    remedy = f"mend {found.module}" if is_file(found.module) else f"reinstall {found.distribution}"
    return f"{remedy}, or do without: `--no-plugin {found.kind}:{found.name}`"


def import_named(value: str) -> Any:  # Any: whatever is called so
    """Import what an entry point's *value* names: ``module`` or ``module:attribute``, perhaps with extras in brackets, which say nothing
    here (packaging.python.org, entry points specification).
    """
    from importlib import import_module

    name, _, attribute = value.partition("[")[0].partition(":")
    loaded: Any = import_module(name.strip())
    for part in attribute.strip().split(".") if attribute.strip() else ():
        loaded = getattr(loaded, part)
    return loaded


def describe_failure(err: BaseException) -> str:
    """Return one line about *err* for people: its text, and its type where the text alone says little."""
    text = " ".join(str(err).split())
    if isinstance(err, PluginError | ImportError) and text:
        return text
    return f"{type(err).__name__}: {text}" if text else type(err).__name__


def blamed(err: BaseException) -> PluginError | None:
    """Return an error that names the plugin of another distribution in which *err* was raised; None if it was none of them.

    The innermost one counts: a plugin that is called by another one, and code that it called itself, ours included.
    """
    for name in _modules(err.__traceback__):
        found = _others.get(name.partition(".")[0])
        if found is not None:
            return PluginError(
                f"plugin {found} failed: {describe_failure(err)}",
                hint=f"do without: `--no-plugin {found.kind}:{found.name}`, or tell the authors of {found.distribution}",
            )
    return None


def _modules(trace: TracebackType | None) -> Iterator[str]:
    """Give the names of the modules whose code was running, the innermost first."""
    frames = []
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames):
        yield str(frame.f_globals.get("__name__", ""))


def _checkout_entry_points() -> EntryPoints:
    """Return the entry points of the source tree we run from, so that an uninstalled checkout works (e.g. in a distribution's build)."""
    import img_core
    from img_core.forms.checkout import entry_points_of

    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    found = entry_points_of(root, OWN_DISTRIBUTION, img_core.__version__)
    directory = os.path.join(root, "plugins")
    if found and directory not in sys.path and os.path.isdir(directory):
        sys.path.append(directory)
    return found
