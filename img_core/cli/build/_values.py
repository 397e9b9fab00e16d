"""Values of single flags of ``img build``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from img_core.cli._amounts import size
from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from img_core.linux.cgroups import Limits

__all__ = [
    "parse_build_args",
    "parse_hosts",
    "parse_labels",
    "parse_limits",
    "parse_ulimits",
    "split_list",
]

#: What a step can reach its builder by; the address depends on the step's network.
_GATEWAY = "host-gateway"


def parse_build_args(texts: Iterable[str]) -> dict[str, str | None]:
    """Parse ``K=V``; the value of ``K`` alone is None, which means "from the environment"."""
    parsed: dict[str, str | None] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key:
            raise UsageError(
                f"invalid build-arg value {text}", hint="expected `KEY=VALUE`, or `KEY` for the environment's"
            )
        parsed[key] = value if equals else None
    return parsed


def parse_frontend_options(texts: Iterable[str]) -> dict[str, str]:
    """Parse ``K=V`` of ``--opt``."""
    parsed: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"invalid value of `--opt`: `{show(text)}`", hint="expected `KEY=VALUE`")
        parsed[key] = value
    return parsed


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Parse ``K=V``; ``K`` alone means an empty value."""
    parsed: dict[str, str] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key.strip():
            raise UsageError(f"invalid label value {text}", hint="expected `KEY=VALUE`")
        parsed[key] = value
    return parsed


def split_list(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the items of flags that may be repeated or joined by commas."""
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def parse_hosts(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Parse ``--add-host``: ``host=ip``, ``host:ip``, IPv6 with or without brackets, several addresses joined by commas."""
    return tuple(pair for text in texts for pair in _host_entries(text))


def _host_entries(text: str) -> list[tuple[str, str]]:
    separator = "=" if "=" in text else ":"
    name, found, addresses = text.partition(separator)
    if not (found and name and addresses):
        raise UsageError(f"invalid value `{text}` for --add-host", hint="expected `HOST=ADDRESS`")
    return [(name, _address(part, text)) for part in addresses.split(",")]


def _address(text: str, shown: str) -> str:
    import ipaddress

    if text == _GATEWAY:
        return text
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise UsageError(f"invalid IP address `{text}` in --add-host `{shown}`") from None


def parse_limits(flags: Mapping[str, Any]) -> Limits:  # Any: values of flags
    """Collect what limits a step's use of the machine. Raises UsageError."""
    from img_core.linux.cgroups import Limits

    swap, cpus, period = flags["memory_swap"], flags["cpus"], _number(flags, "cpu_period")
    quota = _number(flags, "cpu_quota")
    if cpus:
        if quota:
            raise UsageError("`--cpus` and `--cpu-quota` exclude each other")
        period = period or 100_000
        quota = round(_positive(cpus) * period)
    limits = Limits(
        memory=size(flags["memory"], "--memory") if flags["memory"] else 0,
        memory_swap=-1 if swap == "-1" else size(swap, "--memory-swap") if swap else 0,
        cpu_period=period,
        cpu_quota=quota,
        cpu_shares=_number(flags, "cpu_shares"),
        cpuset_cpus=flags["cpuset_cpus"],
        cpuset_mems=flags["cpuset_mems"],
    )
    limits.check()
    return limits


def _number(flags: Mapping[str, Any], name: str) -> int:  # Any: values of flags
    text = flags[name]
    if text and not text.isdecimal():
        raise UsageError(f"invalid value `{text}` for --{name.replace('_', '-')}", hint="expected a whole number")
    return int(text or 0)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise UsageError(f"invalid value `{text}` for --cpus", hint="e.g. `1.5`")
    return value


def parse_ulimits(texts: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
    """Parse ``nofile=1024:2048``; without a hard limit it equals the soft one, ``-1`` and ``unlimited`` mean no limit."""
    return tuple(_ulimit(text) for text in texts)


def _ulimit(text: str) -> tuple[str, int, int]:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        values = [-1 if limit == "unlimited" else int(limit) for limit in (soft, hard or soft)]
    except ValueError:
        raise UsageError(
            f"invalid ulimit `{text}`", hint="expected `NAME=SOFT[:HARD]`, e.g. `nofile=1024:2048`"
        ) from None
    if not name or (values[1] >= 0 and not 0 <= values[0] <= values[1]):
        raise UsageError(f"invalid ulimit `{text}`: the soft limit must not be above the hard limit")
    return name, values[0], values[1]
