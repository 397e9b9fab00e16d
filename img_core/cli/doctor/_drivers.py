"""Which plugins work here, and which one of each kind `auto` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from img_core.cli.doctor._finding import BAD, NOTE, OK, WORSE, Finding, Status
from img_core.config import EXTRAS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from img_core.config import Config
    from img_core.plugins import PluginInfo

__all__ = ["chosen", "drivers", "preferred"]

_NEEDED: Final = ("executor", "snapshotter")
#: kinds of which all that work are used
_ALL_USED: Final = ("credentials",)


def chosen(config: Config, inventory: Sequence[PluginInfo], kind: str) -> str:
    """Return the name that ``auto`` stands for, or an empty string when none works."""
    working = {info.name for info in inventory if info.kind == kind and info.status == "ok"}
    return next((name for name in config.order.get(kind, ()) if name in working), "")


def drivers(config: Config, inventory: Sequence[PluginInfo], *, install: bool = True) -> Iterator[Finding]:
    """Report on every plugin that is chosen by what works, and on any other one that does not work.

    With *install* also on those that would be worth to be installed.
    """
    for kind in _NEEDED:
        if install:
            yield from _worth_installing(config, inventory, kind)
        yield from _needed(config, [info for info in inventory if info.kind == kind], kind)
    for kind in _ALL_USED:
        names = [info.name for info in inventory if info.kind == kind and info.status == "ok"]
        yield Finding(OK if names else NOTE, kind, ", ".join(names) or "no store works: only public images")
    for info in inventory:
        if info.kind not in _NEEDED and info.status != "ok":
            status: Status = WORSE if info.status == "broken" else NOTE
            yield Finding(status, f"{info.kind} {info.name}", f"{info.status}: {info.reason}", info.hint)


def _worth_installing(config: Config, inventory: Sequence[PluginInfo], kind: str) -> Iterator[Finding]:
    installed = {info.name for info in inventory if info.kind == kind}
    for name in preferred(config, chosen(config, inventory, kind), kind):
        extra = EXTRAS.get((kind, name))
        if extra and name not in installed:
            yield Finding(WORSE, f"{kind} {name}", "not installed", f"`pip install 'img-builder[{extra}]'`")


def preferred(config: Config, taken: str, kind: str) -> list[str]:
    """Return what ``auto`` tries before the one that is *taken*; everything when that is none."""
    order = [*config.order.get(kind, ())]
    return order[: order.index(taken)] if taken else order


def _needed(config: Config, infos: Sequence[PluginInfo], kind: str) -> Iterator[Finding]:
    taken = chosen(config, infos, kind)
    order = [*config.order.get(kind, ())]
    better = preferred(config, taken, kind)
    if not any(info.status == "ok" for info in infos):
        reasons = "; ".join(f"{info.name}: {info.reason}" for info in infos)
        yield Finding(BAD, kind, f"none works: {reasons or 'none is installed'}", "`img plugins ls`")
    elif not taken:
        yield Finding(BAD, kind, f"`auto` finds none: the configured order is {', '.join(order) or 'empty'}")
    for info in sorted(infos, key=lambda info: order.index(info.name) if info.name in order else len(order)):
        yield _driver(info, taken=taken, missed=info.name in better)


def _driver(info: PluginInfo, *, taken: str, missed: bool) -> Finding:
    """Judge one plugin; *missed* says that ``auto`` would have preferred it to the one that is *taken*."""
    what = f"{info.kind} {info.name}"
    if info.status == "ok":
        return Finding(OK, what, "works, and is what `auto` takes" if info.name == taken else "works")
    status: Status = WORSE if info.status == "broken" or (missed and info.status == "unsupported") else NOTE
    return Finding(status, what, f"{info.status}: {info.reason}", info.hint if status == WORSE else "")
