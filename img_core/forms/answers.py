"""What listeners answer: something that their hook cannot take is told with the name of who said it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, get_args

from img_core.spec.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.spec.exporter import Attestation
    from img_core.spec.host import Finding

__all__ = ["checked_answer"]

_Item = TypeVar("_Item")


def checked_answer(listener: str, hook: str, answer: Any) -> Any:  # Any: what the hook says
    """Return *answer*, what the implementation of *hook* by *listener* returned. Raises PluginError if it is not what the hook takes."""
    problem = _PROBLEMS[hook](answer) if answer is not None and hook in _PROBLEMS else ""
    if problem:
        name = listener.partition(" ")[0]
        raise PluginError(
            f"plugin {listener} must return {problem} from `{hook}`", hint=f"do without: `--no-plugin {name}`"
        )
    return answer


def _no_source(answer: object) -> str:
    from img_core.spec.graph import SourceOp

    return "" if isinstance(answer, SourceOp) else f"a SourceOp or None, not {type(answer).__name__}"


def _no_addition(answer: object) -> str:
    from img_core.spec.graph import RunAddition

    return "" if isinstance(answer, RunAddition) else f"a RunAddition or None, not {type(answer).__name__}"


def _no_attestations(answer: object) -> str:
    from img_core.spec.exporter import Attestation

    return _no_list(answer, Attestation, _no_attestation)


def _no_attestation(item: Attestation) -> str:
    from img_core.forms.strict_json import canonical_json

    if not isinstance(item.predicate_type, str) or ":" not in item.predicate_type:
        return f"attestations whose type is a URI, not {item.predicate_type!r:.80}"
    try:
        canonical_json({**item.predicate, "": item.predicate_type})
    except (TypeError, ValueError, RecursionError) as err:
        return f"attestations that are JSON ({item.predicate_type}: {err})"
    return ""


def _no_findings(answer: object) -> str:
    from img_core.spec.host import Finding

    return _no_list(answer, Finding, _no_finding)


def _no_finding(item: Finding) -> str:
    from img_core.spec.host import FindingStatus

    if item.status not in get_args(FindingStatus):
        return f"findings whose status is {', '.join(get_args(FindingStatus))}, not {item.status!r:.80}"
    if not all(isinstance(text, str) for text in (item.what, item.text, item.hint)):
        return "findings that are texts"
    return ""


def _no_list(answer: object, kind: type[_Item], problem: Callable[[_Item], str]) -> str:
    """Return what *answer* should have been if it is no list of *kind*, or what is the *problem* with one of these."""
    if not isinstance(answer, list | tuple):
        return f"a list of {kind.__name__} or None, not {type(answer).__name__}"
    for item in answer:
        if not isinstance(item, kind):
            return f"a list of {kind.__name__} or None, not one with {type(item).__name__}"
        if found := problem(item):
            return found
    return ""


_PROBLEMS = {
    "img_source_wanted": _no_source,
    "img_run_planned": _no_addition,
    "img_image_built": _no_attestations,
    "img_doctor": _no_findings,
}
