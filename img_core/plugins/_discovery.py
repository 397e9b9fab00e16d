"""Finding plugins: live entry points of installed distributions, loaded by stevedore.

stevedore's own listing goes through a cache on disk that loses which distribution an entry point belongs to and notices changes late
(its key has a resolution of minutes), so our manager is given live entry points of `importlib.metadata` instead.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from img_core.plugins._kinds import GROUPS, KINDS
from img_core.spec.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import Distribution, EntryPoint, EntryPoints

__all__ = ["OWN_DISTRIBUTION", "Found", "describe_failure", "discover", "load_module"]

#: The distribution of the plugins that are shipped with the core.
OWN_DISTRIBUTION = "img-builder"


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin as its distribution announces it; nothing is imported. *entry_point* knows the module."""

    kind: str
    name: str
    entry_point: EntryPoint

    @property
    def distribution(self) -> str:
        """Name of the distribution that ships it."""
        # An EntryPoint made by hand has no distribution; those from metadata always do.
        return self.entry_point.dist.name if self.entry_point.dist is not None else "unknown"

    @property
    def version(self) -> str:
        """Version of that distribution."""
        return self.entry_point.dist.version if self.entry_point.dist is not None else "unknown"

    @property
    def module(self) -> str:
        """Name of the module that is imported to load it."""
        return self.entry_point.value

    def __str__(self) -> str:
        return f"{self.kind}:{self.name} of {self.distribution} {self.version}"


def discover() -> dict[tuple[str, str], list[Found]]:
    """Return all installed plugins by kind and name; more than one entry means that distributions quarrel about a name."""
    from importlib.metadata import entry_points  # 35 ms; `img ls` and `img --version` do without

    installed = entry_points()
    points = [(kind, point) for kind in KINDS for point in installed.select(group=GROUPS[kind])]
    if not any(_owner(point) == OWN_DISTRIBUTION for _, point in points):
        checkout = _checkout_entry_points()
        points += [(kind, point) for kind in KINDS for point in checkout.select(group=GROUPS[kind])]
    found: dict[tuple[str, str], list[Found]] = {}
    for kind, point in points:
        found.setdefault((kind, point.name), []).append(Found(kind, point.name, point))
    return found


def _owner(point: EntryPoint) -> str:
    return point.dist.name.lower().replace("_", "-") if point.dist is not None else ""


def load_module(found: Found) -> object:
    """Import what *found* names. Raises PluginError for anything that goes wrong in there, SystemExit included."""
    from stevedore.named import NamedExtensionManager  # 15 ms; only when a plugin is loaded

    class LiveManager(NamedExtensionManager[Any]):  # Any: the class of the plugin is not known yet
        """Loads the one entry point it is given."""

        def list_entry_points(self) -> list[EntryPoint]:
            return [found.entry_point]

        def _load_one_plugin(self, *args: Any) -> Any:
            # stevedore lets SystemExit and AssertionError of a plugin end the program
            try:
                return super()._load_one_plugin(*args)
            except KeyboardInterrupt:
                raise
            except BaseException as err:
                raise PluginError(
                    f"plugin {found} cannot be imported: {describe_failure(err)}",
                    hint=f"reinstall {found.distribution}, or do without: `--no-plugin {found.kind}:{found.name}`",
                ) from err

    def pass_on(_manager: object, _entry_point: object, err: BaseException) -> None:
        raise err

    manager = LiveManager(
        GROUPS[found.kind], [found.name], on_load_failure_callback=pass_on, on_missing_entrypoints_callback=None
    )
    loaded: object = manager[found.name].plugin
    return loaded


def describe_failure(err: BaseException) -> str:
    """Return one line about *err* for people: its text, and its type where the text alone says little."""
    text = " ".join(str(err).split())
    if isinstance(err, PluginError | ImportError) and text:
        return text
    return f"{type(err).__name__}: {text}" if text else type(err).__name__


def _checkout_entry_points() -> EntryPoints:
    """Return the entry points of the source tree we run from, so that an uninstalled checkout works (e.g. in a distribution's build)."""
    from importlib.metadata import EntryPoints

    from img_core.config import read_toml

    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    project = read_toml(os.path.join(root, "pyproject.toml")).get("project", {})
    if project.get("name") != OWN_DISTRIBUTION:
        return EntryPoints()
    directory = os.path.join(root, "plugins")
    if directory not in sys.path and os.path.isdir(directory):
        sys.path.append(directory)
    return _checkout_distribution(root, project.get("entry-points", {})).entry_points


def _checkout_distribution(root: str, groups: Mapping[str, Mapping[str, str]]) -> Distribution:
    """Return a distribution object for the source tree at *root*, with the metadata that an installation would have."""
    from importlib.metadata import Distribution

    import img_core

    sections = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in groups.items()
    )
    documents = {
        "METADATA": f"Metadata-Version: 2.1\nName: {OWN_DISTRIBUTION}\nVersion: {img_core.__version__}\n",
        "entry_points.txt": "".join(sections),
    }

    class Checkout(Distribution):
        def read_text(self, filename: str) -> str | None:
            return documents.get(filename)

        def locate_file(self, path: Any) -> Any:  # Any: the signature differs between Python versions
            return os.path.join(root, path)

    return Checkout()
