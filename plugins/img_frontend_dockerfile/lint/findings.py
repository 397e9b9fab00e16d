"""Findings about a Dockerfile, each once, with place and source lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.spec.frontend import BuildWarning
from img_core.spec.graph import Location
from img_core.spec.text import show
from img_frontend_dockerfile.syntax.directives import parse_check_options
from img_frontend_dockerfile.syntax.source import LONGEST_MESSAGE, Fault

if TYPE_CHECKING:
    from img_frontend_dockerfile.syntax.directives import CheckOptions
    from img_frontend_dockerfile.syntax.parser import Node
    from img_frontend_dockerfile.syntax.source import DockerfileText, Span

__all__ = ["WarningList"]

_MOST = 1000  #: nobody reads more, and each has its excerpt
_EXPERIMENTAL = frozenset({"InvalidDefinitionDescription"})


class WarningList:
    """Collects warnings. Rules that ``# check=`` skips, for the file or one instruction, are dropped."""

    def __init__(self, source: DockerfileText, options: CheckOptions) -> None:
        self._source = source
        self._options = options
        self._found: dict[tuple[str, str, Span | None], BuildWarning] = {}

    def add(self, rule: str, message: str, node: Node | None = None, span: Span | None = None) -> None:
        """Record one finding about *node*, shown at *span* if that is a smaller part of it; *message* may quote strangers."""
        message = show(message, limit=LONGEST_MESSAGE)
        place = span or (node.span if node else None)
        if self.full or self._skipped(rule, node) or (rule, message, place) in self._found:
            return
        if len(self._found) == _MOST - 1:
            message, rule, place = f"only the first {_MOST - 1} findings are listed", "", None
        if place is None:
            warning = BuildWarning(message, rule)
        else:
            location = Location(self._source.name, place.first, place.last)
            warning = BuildWarning(message, rule, location, self._source.excerpt(place))
        self._found[rule, message, place] = warning

    @property
    def full(self) -> bool:
        """Whether nothing is recorded any more."""
        return len(self._found) == _MOST

    def result(self) -> tuple[BuildWarning, ...]:
        """Return the findings in file order, those without a place first."""
        return tuple(sorted(self._found.values(), key=lambda item: item.location.first_line if item.location else 0))

    def raise_if_asked(self) -> None:
        """Raise `DockerfileError` when the file says that findings are errors and there are some."""
        rules = sorted({warning.rule for warning in self._found.values() if warning.rule})
        if self._options.error and rules:
            located = [span for rule, _, span in self._found if rule and span is not None]
            fault = Fault(f"lint violation found for rules: {', '.join(rules)}")
            raise self._source.error(fault, *sorted(located, key=lambda span: span.first))

    def _skipped(self, rule: str, node: Node | None) -> bool:
        name = rule.lower()
        if rule in _EXPERIMENTAL:
            return not (self._options.experimental_all or name in self._options.experimental)
        if rule and (self._options.skip_all or name in self._options.skip):
            return True
        return node is not None and any(
            not skip.isdisjoint((name, "all")) for skip in map(_skipped_rules, node.comments)
        )


def _skipped_rules(comment: str) -> frozenset[str]:
    """Return the rules of a ``check=skip=… // reason`` comment directly above an instruction."""
    key, _, options = comment.partition("=")
    if key.strip().lower() != "check":
        return frozenset()
    try:
        return parse_check_options(options.split(" //")[0]).skip
    except Fault:
        return frozenset()  # an ordinary comment that happens to start so
