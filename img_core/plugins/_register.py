"""Checking what a plugin module implements, with pluggy, before any of it is used."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import pluggy

from img_core.config import ADAPTERS
from img_core.plugins._discovery import describe_failure, import_named, load_module
from img_core.plugins._kinds import CONTRACT_VERSIONS, contract
from img_core.spec import hooks
from img_core.spec.errors import PluginError
from img_core.spec.hooks import DRIVER_HOOKS, PROJECT
from img_core.spec.kinds import LISTENER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.plugins._discovery import Found

__all__ = ["check_driver", "driver_of", "hook_manager", "load_checked", "register_listener"]


def hook_manager() -> pluggy.PluginManager:
    """Return an empty manager that knows all our hooks."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hooks)
    return manager


def driver_of(found: Found, module: object) -> Any:  # Any: a class, or a click command
    """Ask *module* for its driver and check it. Raises PluginError that names the distribution.

    Each driver gets a hook manager of its own: nothing that one plugin registers can disturb another.
    """
    manager = hook_manager()
    implemented = _register(manager, found, module)
    wanted = DRIVER_HOOKS[found.kind]
    if implemented != {wanted}:
        raise _bad(found, f"must implement the hook `{wanted}` and nothing else, but implements {_listed(implemented)}")
    try:
        driver = getattr(manager.hook, wanted)()
    except KeyboardInterrupt:
        raise
    except BaseException as err:
        raise _bad(found, f"fails in `{wanted}`: {describe_failure(err)}") from err
    return check_driver(found, driver)


def check_driver(found: Found, driver: Any) -> Any:  # Any: as `driver_of` returns
    """Return *driver*, of a version before ours adapted to ours. Raises PluginError unless it is what a plugin of its kind has to give."""
    if found.kind == "command":
        _check_command(found, driver)
        return driver
    return _checked_class(found, driver)


def load_checked(found: Found) -> Any:  # Any: as `driver_of`; None for a listener
    """Import a plugin and check it; return its driver. Raises PluginError."""
    module = load_module(found)
    if found.kind != LISTENER:
        return driver_of(found, module)
    register_listener(hook_manager(), found, module)
    return None


def register_listener(manager: pluggy.PluginManager, found: Found, module: object, *, with_trace: bool = False) -> None:
    """Add a listener to *manager*, *with_trace* of each of its calls. Raises PluginError; *manager* is unchanged then."""
    checking = hook_manager()
    implemented = _register(checking, found, module)
    drivers = implemented & set(DRIVER_HOOKS.values())
    if drivers:
        raise _bad(found, f"is a listener but implements {_listed(drivers)}, which belongs into a group of its own")
    if not implemented:
        raise _bad(found, "implements no hook")
    manager.register(
        _Shielded(found, checking.get_hookcallers(module) or [], with_trace=with_trace), name=f"{LISTENER}:{found.name}"
    )


class _Shielded:
    """The hook implementations of a listener's module, shielded: its failures are told and go no further."""

    def __init__(self, found: Found, callers: Sequence[pluggy.HookCaller], *, with_trace: bool) -> None:
        from img_core.plugins._listeners import shielded  # drivers are none

        for caller in callers:
            for item in caller.get_hookimpls():
                wrapper = getattr(item, "wrapper", False) or item.hookwrapper
                function = item.function
                if with_trace:
                    from img_core.linux.timing import traced

                    what = f"plugin {found.kind}:{found.name}: {caller.name}"
                    function = traced(what, function, generator=wrapper)
                setattr(self, caller.name, shielded(str(found), caller.name, function, wrapper=wrapper))


def _register(manager: pluggy.PluginManager, found: Found, module: object) -> set[str]:
    """Register *module*; return the names of the hooks it implements."""
    try:
        manager.register(module, name=f"{found.kind}:{found.name}")
        manager.check_pending()
    except KeyboardInterrupt:
        raise
    except pluggy.PluginValidationError as err:
        raise _bad(found, f"does not fit the hooks of this img: {_validation_text(err)}") from err
    except BaseException as err:  # pluggy looks at every attribute of the module, which runs code of the plugin
        raise _bad(found, f"cannot be registered: {describe_failure(err)}") from err
    return {caller.name for caller in manager.get_hookcallers(module) or []}


def _validation_text(err: pluggy.PluginValidationError) -> str:
    """Return the telling lines of pluggy's text, without object addresses and paths of files."""
    lines = [line.strip() for line in str(err).splitlines()]
    telling = [
        line for line in lines if line and not line.startswith(("Plugin ", "function definition", "Argument(s)"))
    ]
    arguments = [line for line in lines if line.startswith("Argument(s)")]
    if arguments:
        return arguments[0].partition("are declared")[0].strip().lower() + " are unknown"
    hook = next((line for line in lines if "unknown hook" in line), "")
    return hook.partition("(")[0].strip() or hook or "; ".join(telling) or "validation failed"


def _checked_class(found: Found, driver: Any) -> Any:
    base = contract(found.kind)
    if not isinstance(driver, type) or not issubclass(driver, base):
        raise _bad(found, f"`{DRIVER_HOOKS[found.kind]}` must return a subclass of {base.__name__}, not {driver!r}")
    _check_api(found, driver.api)  # type: ignore[attr-defined]  # every contract has it
    driver = _adapted(found, driver)
    if inspect.isabstract(driver):
        missing = ", ".join(sorted(getattr(driver, "__abstractmethods__", ())))
        raise _bad(found, f"{driver.__name__} lacks {missing}")
    if not isinstance(getattr(driver, "name", None), str):
        raise _bad(found, f"{driver.__name__} has no `name`")
    return driver


def _check_api(found: Found, api: object) -> None:
    version = CONTRACT_VERSIONS[found.kind]
    match api:
        case (int(lowest), int(highest)) if lowest <= highest:
            if not lowest <= version <= highest + (found.kind in ADAPTERS):
                raise _bad(
                    found,
                    f"needs version {lowest} to {highest} of the {found.kind} contract, this img has {version}",
                    hint=f"install a version of {found.distribution} that fits, or upgrade img",
                )
        case _:
            raise _bad(found, f"`api` must be a pair of integers (lowest, highest), not {api!r}")


def _adapted(found: Found, driver: Any) -> Any:  # Any: as `driver_of` returns
    """Return *driver*, or what its kind's adapter makes of one for the version before ours; a warning names whose it is."""
    version = CONTRACT_VERSIONS[found.kind]
    if driver.api[1] >= version:
        return driver
    told = f"plugin {found} speaks version {driver.api[1]} of the {found.kind} contract; this img is the last that takes it"
    warnings.warn(told, FutureWarning, stacklevel=2)
    return import_named(ADAPTERS[found.kind])(driver)


def _check_command(found: Found, driver: object) -> None:
    if not isinstance(driver, contract("command")):
        raise _bad(found, f"`img_command` must return a click command, not {driver!r}")


def _listed(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


def _bad(found: Found, problem: str, *, hint: str | None = None) -> PluginError:
    return PluginError(
        f"plugin {found} {problem}",
        hint=hint
        or f"switch it off with `--no-plugin {found.kind}:{found.name}`, or tell the authors of {found.distribution}",
    )
