"""What listeners answer: something that their hook cannot take is told with the name of who said it."""

from __future__ import annotations

from typing import Any

from img_core.spec.errors import PluginError

__all__ = ["checked_answer"]


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
    from img_core.forms.strict_json import canonical_json
    from img_core.spec.exporter import Attestation

    if not isinstance(answer, list | tuple):
        return f"a list of Attestation or None, not {type(answer).__name__}"
    for item in answer:
        if not isinstance(item, Attestation):
            return f"a list of Attestation or None, not one with {type(item).__name__}"
        if not isinstance(item.predicate_type, str) or ":" not in item.predicate_type:
            return f"attestations whose type is a URI, not {item.predicate_type!r:.80}"
        try:
            canonical_json({**item.predicate, "": item.predicate_type})
        except (TypeError, ValueError, RecursionError) as err:
            return f"attestations that are JSON ({item.predicate_type}: {err})"
    return ""


def _no_findings(answer: object) -> str:
    from typing import get_args

    from img_core.spec.host import Finding, FindingStatus

    if not isinstance(answer, list | tuple):
        return f"a list of Finding or None, not {type(answer).__name__}"
    for item in answer:
        if not isinstance(item, Finding):
            return f"a list of Finding or None, not one with {type(item).__name__}"
        if item.status not in get_args(FindingStatus):
            return f"findings whose status is {', '.join(get_args(FindingStatus))}, not {item.status!r:.80}"
        if not all(isinstance(text, str) for text in (item.what, item.text, item.hint)):
            return "findings that are texts"
    return ""


_PROBLEMS = {
    "img_source_wanted": _no_source,
    "img_run_planned": _no_addition,
    "img_image_built": _no_attestations,
    "img_doctor": _no_findings,
}
