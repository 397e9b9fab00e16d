"""What rules make of the sources of a build."""

from __future__ import annotations

from typing import cast

import pytest

from img_core.solver.wanted import WantedSources
from img_core.spec.errors import PluginError, UsageError
from img_core.spec.graph import SourceOp

A, B, C = (SourceOp("docker-image", f"h.example/{name}:1") for name in "abc")


def test_each_change_is_shown_to_all_rules_and_each_source_is_decided_once() -> None:
    asked: list[SourceOp] = []

    def first(op: SourceOp) -> SourceOp | None:
        asked.append(op)
        return {B: C}.get(op)

    wanted = WantedSources([first, lambda op: {A: B}.get(op)])
    assert [wanted(A), wanted(A)] == [C, C]
    assert asked == [A, B, C]


def test_what_stays_and_contexts_are_left_alone() -> None:
    def refuse(op: SourceOp) -> SourceOp:
        raise AssertionError

    context = SourceOp("local", "context")
    assert WantedSources([refuse])(context) is context
    assert WantedSources([lambda op: op])(A) is A
    assert WantedSources()(A) is A


def test_rules_that_never_agree_and_answers_that_are_none_end_in_one_line() -> None:
    with pytest.raises(UsageError, match="again and again"):
        WantedSources([lambda op: B if op == A else A])(A)
    with pytest.raises(PluginError, match="`'text'`"):
        WantedSources([lambda _op: cast("SourceOp", "text")])(A)  # what a plugin may do


@pytest.mark.parametrize(
    ("op", "identifier"),
    [
        (SourceOp("docker-image", "docker.io/library/a:1"), "docker-image://docker.io/library/a:1"),
        (SourceOp("https", "https://h.example/f"), "https://h.example/f"),
        (SourceOp("https", "http://h.example/f"), "http://h.example/f"),
        (SourceOp("git", "https://h.example/r.git#main"), "git://h.example/r.git#main"),
        (SourceOp("git", "git@h.example:r.git"), "git://git@h.example:r.git"),
        (SourceOp("oci-layout", "/layout:1"), "oci-layout:///layout:1"),
    ],
)
def test_identifiers_are_buildkits(op: SourceOp, identifier: str) -> None:
    assert op.identifier == identifier
