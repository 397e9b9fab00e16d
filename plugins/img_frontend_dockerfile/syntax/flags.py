"""Flags of instructions: ``--name=value`` words, and the declaration of every flag."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_frontend_dockerfile.syntax.mounts import mount_source_stage
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import did_you_mean, quote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FLAGS", "Flag", "Flags", "parse_flags"]


def _anything(_value: str) -> object:
    return None


def _one_of(*values: str, refusal: str) -> Callable[[str], object]:
    """Return a check for one of *values*; *refusal* is the message for another one, which stands for ``{}`` in quotes."""

    def check(value: str) -> None:
        if value not in values:
            raise Fault(refusal.format(quote(value)), at_parse=True)

    return check


def _no_device(_value: str) -> object:
    raise Fault(
        "device feature is only supported in Dockerfile frontend 1.14.0-labs or later",
        hint="img has no CDI devices yet; remove `--device`",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Flag:
    """All that there is to know of one flag. Whoever adds one adds it to `FLAGS`, and reads it where the instruction is planned.

    *instructions* are those that have it. *kind* is ``text``, ``list`` (only such a flag may be repeated) or ``boolean``. *check* raises
    `Fault` for a value that cannot be. *about* is its line in docs/reference/dockerfile.md. A flag of RUN that is *carried* means something
    to the executor alone: nobody has to read it, its text is among `RunOp.options`.
    """

    name: str
    instructions: tuple[str, ...]
    about: str
    kind: str = "text"
    check: Callable[[str], object] = _anything
    carried: bool = False


#: Durations and numbers of HEALTHCHECK are read with the instruction, after its words: other builders name that fault first, too.
FLAGS = (
    Flag("platform", ("FROM",), "the platform of the image, `os[/architecture[/variant]]`"),
    Flag(
        "network",
        ("RUN",),
        "`default` (what the build says), `none` or `host`",
        check=_one_of("default", "none", "host", refusal="invalid network mode {}"),
    ),
    Flag(
        "security",
        ("RUN",),
        "`sandbox` (default) or `insecure`",
        check=_one_of("sandbox", "insecure", refusal="security {} is not valid"),
    ),
    Flag("device", ("RUN",), "not supported", kind="list", check=_no_device),
    # What can be wrong with the rest of a mount shows when the step is planned.
    Flag("mount", ("RUN",), "see [below](#run---mount)", kind="list", check=mount_source_stage),
    Flag("from", ("COPY",), "stage name in any letter case, stage index, named context, or image that is copied from"),
    Flag("chown", ("COPY", "ADD"), "owner and group, names or numbers"),
    Flag(
        "chmod",
        ("COPY", "ADD"),
        "octal, or symbolic as in setmode(3), without a mask: `=` takes set-id bits away from what it names, the sticky bit only with `t`",
    ),
    Flag("link", ("COPY", "ADD"), "make a layer that does not depend on what is below it", kind="boolean"),
    Flag("exclude", ("COPY", "ADD"), "a pattern of what is not copied", kind="list"),
    Flag(
        "parents",
        ("COPY",),
        "keep the directories above what is copied, from `/./` on if a source has it",
        kind="boolean",
    ),
    Flag("checksum", ("ADD",), "the digest that a URL must have, the commit of a git repository"),
    Flag("keep-git-dir", ("ADD",), "keep the directory `.git` of a repository", kind="boolean"),
    Flag("unpack", ("ADD",), "unpack archives: local ones by default, those of URLs only if asked", kind="boolean"),
    Flag("interval", ("HEALTHCHECK",), "the time between two checks"),
    Flag("timeout", ("HEALTHCHECK",), "the longest time that a check may take"),
    Flag("start-period", ("HEALTHCHECK",), "the time at first in which failures do not count"),
    Flag("start-interval", ("HEALTHCHECK",), "the time between two checks in that period"),
    Flag("retries", ("HEALTHCHECK",), "failures in a row that make a container unhealthy"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Flags:
    """The flags that were given."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return the value of a text flag, None if it was not given."""
        return self.values[name][0] if name in self.values else None

    def list(self, name: str) -> tuple[str, ...]:
        """Return the values of a repeatable flag in order."""
        return tuple(self.values.get(name, ()))

    def carried(self) -> tuple[tuple[str, str], ...]:
        """Return names and values of the flags that are for the executor, in the order of their declarations."""
        return tuple((flag.name, text) for flag in FLAGS if flag.carried for text in self.list(flag.name))

    def boolean(self, name: str) -> bool | None:
        """Return the value of a boolean flag, None if it was not given."""
        return self.values[name][0] == "true" if name in self.values else None


def parse_flags(instruction: str, words: tuple[str, ...]) -> Flags:
    """Check *words* against what *instruction* knows. Raises `Fault` for unknown, repeated and malformed flags, and for wrong values."""
    flags = Flags()
    if not words:
        return flags
    known = {flag.name: flag for flag in FLAGS if instruction in flag.instructions}
    for word in words:
        name, equals, value = word[2:].partition("=")
        if name not in known:
            raise Fault(f"unknown flag: --{name}{did_you_mean(name, sorted(known))}", at_parse=True)
        kind = known[name].kind
        if name in flags.values and kind != "list":
            raise Fault(f"duplicate flag specified: --{name}", at_parse=True)
        if kind == "boolean":
            value = _boolean(name, value, given=bool(equals))
        elif not equals:
            raise Fault(f"missing a value on flag: --{name}", at_parse=True)
        flags.values.setdefault(name, []).append(value)
    for flag in known.values():
        for value in flags.values.get(flag.name, ()):
            flag.check(value)
    return flags


def _boolean(name: str, value: str, *, given: bool) -> str:
    if not given:
        return "true"
    if not value:
        raise Fault(f"missing a value on flag: --{name}", at_parse=True)
    if value.lower() not in ("true", "false"):
        raise Fault(f"expecting boolean value for flag --{name}, not: {value}", at_parse=True)
    return value.lower()
