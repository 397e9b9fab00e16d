"""Which suite tests which kind of plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import Unsupported, UsageError
from img_core.spec.text import suggestion
from img_core.testing.contracts.driver import DriverContract, ModuleContract

if TYPE_CHECKING:
    from img_core.plugins import Found

__all__ = ["SUITES", "check_samples", "suite_of", "suites_for"]

#: kind -> where its suite is, below `img_core.testing.contracts`
SUITES = {
    "frontend": "frontend:FrontendContract",
    "source": "source:TreeSourceContract",
    "registry": "registry:RegistryContract",
    "executor": "executor:ExecutorContract",
    "snapshotter": "snapshotter:SnapshotterContract",
    "exporter": "exporter:ExporterContract",
    "importer": "importer:ImporterContract",
    "secret": "secret:SecretProviderContract",
    "cache": "cache:CacheContract",
    "engine": "engine:EngineContract",
    "credentials": "credentials:CredentialStoreContract",
    "progress": "progress:ProgressContract",
    "command": "command:CommandContract",
    "listener": "listener:ListenerContract",
}


def suite_of(kind: str) -> Any:  # Any: a class of `img_core.testing.contracts`
    """Return the suite of a kind. Raises Unsupported if there is none."""
    if kind not in SUITES:
        raise Unsupported(f"there is no contract suite for a {kind}")
    module, _, name = SUITES[kind].partition(":")
    return getattr(import_module(f"img_core.testing.contracts.{module}"), name)


def _suite_for(kind: str, driver: Any) -> Any:  # Any: a class of `img_core.testing.contracts`, and a driver
    """Return the suite of a kind that fits *driver*: sources of images promise other things than those of trees."""
    suite = suite_of(kind)
    if kind == "source" and driver.makes_image:
        from img_core.testing.contracts.source import ImageSourceContract

        return ImageSourceContract
    return suite


def check_samples(kind: str, samples: Iterable[str]) -> None:
    """Raise UsageError for the name of a sample that the suite of a kind does not want, Unsupported for a kind without suite."""
    wanted: Mapping[str, str] = getattr(suite_of(kind), "samples", {})
    for name in samples:
        if name not in wanted:
            hint = suggestion(name, sorted(wanted)) if wanted else "it wants none"
            raise UsageError(f"the suite of a {kind} wants no sample `{name}`", hint=hint)


def suites_for(
    found: Found, driver: Any, options: Mapping[str, Any], samples: Mapping[str, str]
) -> dict[str, type]:  # Any: a driver, and JSON
    """Return the suites of a plugin by name, made for its *driver* (none for a listener) with *options*, ready to be collected.

    Raises Unsupported for a kind without suite.
    """
    suite = _suite_for(found.kind, driver)
    module = {"kind": found.kind, "module": found.module}
    if issubclass(suite, ModuleContract):
        return {"TestContract": type("TestContract", (suite,), module)}
    if issubclass(suite, DriverContract):
        about = {suite.holder: driver, "options": dict(options), "given_samples": dict(samples)}
    else:
        about = {"word": found.name, "command": driver}
    return {
        "TestModule": type("TestModule", (ModuleContract,), module),
        "TestContract": type("TestContract", (suite,), about),
    }
