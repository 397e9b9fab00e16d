"""``--check`` and ``--call``: questions about a Dockerfile, answered on standard output as ``docker buildx build`` does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from img_core.cli._output import echo
from img_core.forms.words import key_values, truth
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from img_core.api import BuildRequest, CancelHandle, Client
    from img_core.spec.frontend import BuildWarning

__all__ = ["Question", "answer", "parse_call"]

_ALIASES = {"lint": "check"}
_CALLS = {
    "build": "build the target",
    "check": "check the Dockerfile for mistakes and bad habits",
    "outline": "list the build arguments, secrets and ssh sockets that the target takes",
    "targets": "list the stages that can be built",
    "subrequests.describe": "list these calls",
}
_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class Question:
    """One question. With *ignore_status* findings do not fail the command."""

    name: str
    format: str = "text"
    ignore_status: bool = False


def parse_call(text: str, *, check: bool) -> Question | None:
    """Parse ``NAME[,format=text|json][,ignorestatus=true]``; None means "build". Raises UsageError."""
    fields = key_values(text) if text else [("build", None)]
    name = fields[0][0] if fields[0][1] is None else ""
    name = _ALIASES.get(name, name)
    if check:
        if name not in ("build", "check"):
            raise UsageError(f"`--check` and `--call={name}` cannot be used together")
        name = "check"
    if name not in _CALLS:
        raise UsageError(f"unknown call `{name or text}`", hint=f"known: {', '.join(f'`{call}`' for call in _CALLS)}")
    options = {key: value or "" for key, value in fields[1:]}
    unknown = options.keys() - {"format", "ignorestatus"}
    if unknown:
        raise UsageError(f"unknown option `{min(unknown)}` of `--call`", hint="known: `format`, `ignorestatus`")
    if options.get("format", "text") not in _FORMATS:
        raise UsageError(f"unknown format `{options['format']}` of `--call`", hint="known: `text`, `json`")
    if name == "build":
        return None
    return Question(name, options.get("format", "text"), bool(truth(options.get("ignorestatus", ""))))


def answer(call: Question, client: Client, request: BuildRequest, _show_event: object, handle: CancelHandle) -> int:
    """Print the answer and return the exit status."""
    if call.name == "check":
        return _show_findings(client.check(request, cancel=handle), call)
    if call.name == "outline":
        _show(client.outline(request, cancel=handle), call, _outline_lines)
    elif call.name == "targets":
        _show(client.targets(request, cancel=handle), call, _target_lines)
    else:
        requests = [{"name": name, "description": text} for name, text in _CALLS.items()]
        _show({"requests": requests}, call, lambda found: _table(("NAME", "DESCRIPTION"), _rows(found["requests"])))
    return 0


def _show(found: Mapping[str, Any], call: Question, lines: Any) -> None:  # Any: JSON; a function from it to lines
    echo(json.dumps(found, indent=2) if call.format == "json" else "\n".join(lines(found)))


# ------------------------------------------------------------------------------------------------------------- check


def _show_findings(findings: Sequence[BuildWarning], call: Question) -> int:
    if call.format == "json":
        echo(json.dumps({"warnings": [_finding(found) for found in findings]}, indent=2))
    elif not findings:
        echo("Check complete, no warnings found.")
    else:
        count = "1 warning has been found!" if len(findings) == 1 else f"{len(findings)} warnings have been found!"
        echo(f"Check complete, {count}")
        for found in findings:
            title = f"WARNING: {found.rule}" if found.rule else "WARNING"
            echo(f"\n{title}\n{found.message}" + (f"\n{found.excerpt.rstrip()}" if found.excerpt else ""))
    return 1 if findings and not call.ignore_status else 0


def _finding(found: BuildWarning) -> dict[str, Any]:  # Any: JSON
    document: dict[str, Any] = {"ruleName": found.rule, "detail": found.message}
    if found.location is not None:
        start, end = {"line": found.location.first_line}, {"line": found.location.last_line}
        document["location"] = {"file": found.location.file, "ranges": [{"start": start, "end": end}]}
    return document


# ------------------------------------------------------------------------------------------------- outline, targets


def _outline_lines(found: Mapping[str, Any]) -> list[str]:  # Any: JSON
    lines = [f"TARGET:      {found.get('name') or 'default'}"]
    if found.get("description"):
        lines.append(f"DESCRIPTION: {found['description']}")
    if found.get("args"):
        rows = [(item["name"], item.get("value", ""), item.get("description", "")) for item in found["args"]]
        lines += ["", *_table(("BUILD ARG", "VALUE", "DESCRIPTION"), rows)]
    for key, title in (("secrets", "SECRET"), ("ssh", "SSH")):
        if found.get(key):
            rows = [(item["name"], "true" if item.get("required") else "false", "") for item in found[key]]
            lines += ["", *_table((title, "REQUIRED"), rows)]
    return lines


def _target_lines(found: Mapping[str, Any]) -> list[str]:  # Any: JSON
    rows = [
        (_target_name(item), item.get("description", ""))
        for item in found["targets"]
        if item["name"] or "default" in item
    ]
    return _table(("TARGET", "DESCRIPTION"), rows)


def _target_name(item: Mapping[str, Any]) -> str:  # Any: JSON
    name = str(item["name"]) or "(no name)"
    return f"{name} (default)" if item.get("default") else name


def _rows(items: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:  # Any: JSON
    return [(str(item["name"]), str(item["description"])) for item in items]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return aligned columns."""
    table = [titles, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in table]
