"""Parser directives: ``# syntax=``, ``# escape=`` and ``# check=`` in the first lines of a Dockerfile."""

from __future__ import annotations

import json
import re

from img_core.forms.words import truth
from img_core.spec.dataclass import dataclass
from img_frontend_dockerfile.syntax.source import DockerfileText, Fault, Span
from img_frontend_dockerfile.syntax.text import quote

__all__ = ["CheckOptions", "Directives", "detect_syntax", "parse_check_options", "parse_directives"]

_DIRECTIVE = re.compile(r"(?:#|(//))\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)")  # of a line without blanks around it
_KNOWN = frozenset({"syntax", "escape", "check"})


@dataclass(frozen=True, slots=True, eq=False)
class CheckOptions:
    """What ``# check=`` or the build argument of the same meaning asks of the lint rules."""

    skip: frozenset[str] = frozenset()  #: rule names in lower case
    skip_all: bool = False
    error: bool = False  #: findings fail the build
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Directives:
    """The directives of a file; *lines* is how many physical lines they take."""

    syntax: str | None = None
    escape: str = "\\"
    check: CheckOptions = CheckOptions()
    lines: int = 0


def parse_directives(source: DockerfileText) -> Directives:
    """Read the directive zone: it ends at the first line that is not a known ``# key=value``."""
    values: dict[str, str] = {}
    for number, line in enumerate(source.lines, start=1):
        match = _DIRECTIVE.match(line.strip())
        if match is None or match.group(1) or match.group(2).lower() not in _KNOWN:
            break
        key, span = match.group(2).lower(), Span(number, number)
        if key in values:
            raise source.error(Fault(f"only one {key} parser directive can be used"), span)
        values[key] = match.group(3)
        if key == "escape" and values[key] not in ("\\", "`"):
            raise source.error(Fault(f"invalid escape token '{values[key]}' does not match ` or \\"), span)
        if key == "check":
            _located_check(source, values[key], span)
    return Directives(
        syntax=detect_syntax(source.text),
        escape=values.get("escape", "\\"),
        check=parse_check_options(values.get("check", "")),
        lines=len(values),
    )


def _located_check(source: DockerfileText, text: str, span: Span) -> None:
    try:
        parse_check_options(text)
    except Fault as fault:
        raise source.error(fault, span) from None


def detect_syntax(text: str) -> str | None:
    """Return the frontend reference of ``# syntax=``, ``// syntax=`` or a JSON file's ``"syntax"`` key, if any."""
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    for line in text.split("\n"):
        match = _DIRECTIVE.match(line.strip())
        if match is None or match.group(2).lower() not in _KNOWN:
            break
        if match.group(2).lower() == "syntax":
            return match.group(3).split()[0]
    return _json_syntax(text) if text.lstrip().startswith("{") else None


def _json_syntax(text: str) -> str | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    syntax = document.get("syntax") if isinstance(document, dict) else None
    return syntax.split()[0] if isinstance(syntax, str) and syntax.strip() else None


def parse_check_options(text: str) -> CheckOptions:
    """Parse ``skip=<rules|all>;error=<bool>;experimental=<rules|all>``. Raises `Fault` for anything else."""
    found: dict[str, str] = {}
    for option in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = option.partition("=")
        key = key.strip().lower()
        if not equals or key not in ("skip", "error", "experimental"):
            raise Fault(
                f"failed to parse check options: invalid check option {quote(option)}",
                hint="known options are `skip=`, `error=` and `experimental=`, joined by `;`",
            )
        found[key] = value.strip()
    skip, experimental = (_rule_names(found.get(key, "")) for key in ("skip", "experimental"))
    error = found.get("error", "false").lower()
    if truth(error) is None:
        raise Fault(f"failed to parse check options: invalid boolean {quote(error)} for option `error`")
    return CheckOptions(
        skip=skip,
        skip_all="all" in skip,
        error=bool(truth(error)),
        experimental=experimental,
        experimental_all="all" in experimental,
    )


def _rule_names(text: str) -> frozenset[str]:
    return frozenset(name for part in text.split(",") if (name := part.strip().lower()))
