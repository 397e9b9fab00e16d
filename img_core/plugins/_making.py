"""Making drivers: the constructor and the probe of a class, with options for those that take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.plugins._discovery import describe_failure
from img_core.plugins._kinds import ALWAYS_WITH_OPTIONS
from img_core.spec.errors import ImgError, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.spec.host import Host

__all__ = ["construct", "probe", "probe_once"]


def construct(kind: str, driver: Any, subject: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Return an object of the class *driver*, made from *subject* (what its kind's contract says) and *options*.

    A driver without schema is made without options; one with a schema gets them as the keyword ``options``. Any: as the contract says.
    """
    if kind in ALWAYS_WITH_OPTIONS:
        return driver(*subject, options)
    if driver.schema is not None and _takes_options(driver.__init__):
        return driver(*subject, options=options)
    if options:  # it declares options, but was written before they were handed out
        raise PluginError(f"{kind} `{driver.name}` takes no options: its constructor has no argument `options`")
    return driver(*subject)


def probe_once(driver: Any, host: Host, options: Mapping[str, Any]) -> None:  # Any: a driver class
    """Run the driver's probe as `probe` does, unless it says that what was found lasts, and it passed here before."""
    if not getattr(driver, "probe_lasts", False):
        probe(driver, host, options)
        return
    from img_core.files.trials import Trial

    trial = Trial(host.state_directory, f"{driver.name} {host.mapping}{_digest(options)}")
    if not trial.worked_before():
        probe(driver, host, options)
        trial.worked()


def probe(driver: Any, host: Host, options: Mapping[str, Any]) -> None:  # Any: a driver class
    """Run the driver's probe, if its kind has one. Raises Unsupported, or PluginError when the probe itself is broken."""
    asked = getattr(driver, "probe", None)
    if asked is None:
        return
    try:
        asked(host, **({"options": options} if options and _takes_options(asked) else {}))
    except (ImgError, KeyboardInterrupt):
        raise
    except BaseException as err:
        raise PluginError(
            f"the probe of {driver.__module__}.{driver.__qualname__} failed: {describe_failure(err)}"
        ) from err


def _takes_options(function: Callable[..., Any]) -> bool:
    """Tell whether *function* can be called with the keyword ``options``."""
    import inspect  # pluggy has it loaded

    parameters = inspect.signature(function).parameters
    return "options" in parameters or any(item.kind is item.VAR_KEYWORD for item in parameters.values())


def _digest(options: Mapping[str, Any]) -> str:
    """Return a word that tells *options* from others, empty for none."""
    if not options:
        return ""
    import hashlib

    return " " + hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()[:16]
