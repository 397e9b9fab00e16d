"""Build arguments: where a name gets its value from, and the arguments that nobody has to declare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from img_frontend_dockerfile.syntax.expansion import expand_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.values import Platform
    from img_frontend_dockerfile.syntax.budget import Budget
    from img_frontend_dockerfile.syntax.instructions import Arg

__all__ = ["BUILDER_ARGUMENTS", "HIDDEN_ARGUMENTS", "GlobalScope", "platform_arguments", "proxy_environment"]

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
#: Never part of the environment, even when declared.
HIDDEN_ARGUMENTS = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
#: Arguments that speak to the builder; they need no declaration.
BUILDER_ARGUMENTS = (
    frozenset(_PROXIES)
    | frozenset(name.lower() for name in _PROXIES)
    | HIDDEN_ARGUMENTS
    | {
        "BUILDKIT_BUILD_NAME",
        "BUILDKIT_CACHE_MOUNT_NS",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "BUILDKIT_DOCKERFILE_CHECK",
        "BUILDKIT_INLINE_CACHE",
        "BUILDKIT_MULTI_PLATFORM",
        "BUILDKIT_SANDBOX_HOSTNAME",
        "BUILDKIT_SYNTAX",
        "SOURCE_DATE_EPOCH",
    }
)


def platform_arguments(target: Platform, build: Platform, stage: str) -> dict[str, str]:
    """Return the predefined arguments of the global scope. *stage* is the name of the target, empty if it has none."""
    values = {"TARGETSTAGE": stage or "default"}
    for prefix, platform in (("TARGET", target), ("BUILD", build)):
        values |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
            f"{prefix}OSVERSION": platform.os_version,
        }
    return values


def proxy_environment(build_arguments: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the proxy settings among *build_arguments* in both letter cases, as RUN steps see them; lower case wins."""
    found = []
    for name in _PROXIES:
        value = build_arguments.get(name.lower(), build_arguments.get(name, ""))
        found += [(name, value), (name.lower(), value)] if value else []
    return tuple(found)


@dataclass(slots=True)
class GlobalScope:
    """The arguments before the first FROM. *values* are what FROM lines and stages can see."""

    build_arguments: Mapping[str, str]
    values: dict[str, str]
    budget: Budget
    declared: set[str] = field(default_factory=set)

    def declare(self, instruction: Arg, escape: str) -> None:
        """Evaluate one ARG. Raises `Fault`. A name is taken as written: neither variables nor quotes mean anything in it."""
        for name, default in instruction.pairs:
            self.declared.add(name)
            if name in self.build_arguments:
                self.values[name] = self.build_arguments[name]
            elif default is not None:
                self.values[name] = expand_word(default, self.values, escape=escape, budget=self.budget)
