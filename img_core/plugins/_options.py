"""Where options of drivers come from, beside the command line: tables of configuration files, and variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import UsageError
from img_core.spec.text import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from img_core.config import Config

__all__ = ["environment_name", "option_places"]

_SEPARATORS = re.compile(r"[^A-Z0-9]+")


def environment_name(kind: str, *words: str) -> str:
    """Return the variable for an option: ``IMG_EXECUTOR_RUNC_RUNTIME`` for *words* ``runc`` and ``runtime``."""
    return "_".join(["IMG", *(_SEPARATORS.sub("_", word.upper()) for word in (kind, *words))])


def option_places(
    kind: str, name: str, schema: Mapping[str, Any] | None, config: Config, others: Iterable[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give what files and variables say about the driver *name*, as ``(where, options)``, the place that wins last.

    *others* are the names of all drivers of that kind: their variables may begin with the same words. Raises UsageError for a variable
    that would mean an option of this driver but does not.
    """
    for table in config.tables:
        if (table.kind, table.name) == (kind, name):
            yield str(table), table.options
    known = {}
    for option, described in (schema or {}).get("properties", {}).items():
        known[environment_name(kind, name, option)] = option
        variables = (described.get("x-environment", ""), environment_name(kind, name, option))
        for variable in variables:
            if value := config.environment.get(variable):
                yield variable, {option: value}
    _check_variables(kind, name, config.environment, known, others)


def _check_variables(
    kind: str, name: str, environment: Mapping[str, str], known: Iterable[str], others: Iterable[str]
) -> None:
    """Refuse a variable that begins like those of the driver *name* and is none of them, nor one of a driver with a longer name."""
    prefix = environment_name(kind, name, "")
    strange = [variable for variable in environment if variable.startswith(prefix) and variable not in known]
    if not strange:
        return
    longer = tuple(other for other in (environment_name(kind, each, "") for each in others) if len(other) > len(prefix))
    for variable in strange:
        if not variable.startswith(longer) and environment[variable]:
            raise UsageError(f"unknown option of {kind} `{name}`: {variable}", hint=suggestion(variable, list(known)))
