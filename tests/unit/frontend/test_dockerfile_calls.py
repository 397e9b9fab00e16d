"""``check``, ``outline`` and ``targets``: questions about a Dockerfile that build nothing."""

import pytest
from frontend_support import AMD64, DictResolver

from img_core.spec.errors import DockerfileError
from img_core.spec.frontend import PlanRequest
from img_frontend_dockerfile._frontend import DockerfileFrontend

TEXT = """\
# VERSION the version to build
ARG VERSION=1
# base has the tools
FROM b AS base
# lost comment

ARG DEBUG VERSION
# JOBS how many at once
# and more text
ARG JOBS=4
RUN --mount=type=secret,id=token --mount=type=ssh make
FROM b AS unused
ENV a b
FROM base AS Final
RUN --mount=type=secret,id=token,required --mount=type=cache,target=/c x
"""


def request(text: str = TEXT, **options: object) -> PlanRequest:
    return PlanRequest(text.encode(), "Dockerfile", (AMD64,), AMD64, **options)  # type: ignore[arg-type]


def test_check_looks_at_stages_that_nothing_needs() -> None:
    found = DockerfileFrontend().check(request(), DictResolver())
    assert [warning.rule for warning in found] == ["LegacyKeyValueFormat", "StageNameCasing"]


def test_check_with_a_target_needs_only_its_images() -> None:
    text = "FROM missing AS m\nFROM b AS ok"
    assert DockerfileFrontend().check(request(text, target="ok"), DictResolver()) == ()


def test_outline_names_arguments_secrets_and_sockets_of_the_target() -> None:
    found = DockerfileFrontend().outline(request(build_args={"VERSION": "2"}), DictResolver())
    assert found == {
        "name": "final",
        "args": [
            {"name": "VERSION", "description": "the version to build", "value": "2", "line": 2},
            {"name": "DEBUG", "line": 7},
            {"name": "JOBS", "description": "how many at once", "value": "4", "line": 10},
        ],
        "secrets": [{"name": "token", "required": True, "line": 11}],
        "ssh": [{"name": "default", "required": False, "line": 11}],
    }


def test_outline_names_only_the_global_arguments_that_the_target_uses() -> None:
    text = """\
ARG inherited=b
ARG other=x
ARG unused=$other
ARG base=${inherited:?}
ARG deep=1
FROM $base AS one
ARG deep
FROM b$unused AS two
# target does it
FROM one AS target
"""
    found = DockerfileFrontend().outline(request(text, target="target"), DictResolver())
    assert [item["name"] for item in found["args"]] == ["inherited", "base", "deep"]
    assert found["description"] == "does it"


def test_outline_has_arguments_where_their_values_are_from() -> None:
    text = """\
ARG kept=global
ARG open
FROM b
ARG TARGETARCH kept open
ARG given
ARG BUILDARCH=own
"""
    found = DockerfileFrontend().outline(request(text, build_args={"given": "yes"}), DictResolver())
    assert {item["name"]: (item.get("value"), item["line"]) for item in found["args"]} == {
        "given": ("yes", 5),
        "kept": ("global", 1),
        "open": (None, 4),
        "BUILDARCH": ("own", 6),
    }


def test_targets_are_listed_with_the_default_marked() -> None:
    found = DockerfileFrontend().targets(request())
    assert found == {
        "targets": [
            {"name": "base", "description": "has the tools", "base": "b", "line": 4},
            {"name": "unused", "base": "b", "line": 12},
            {"name": "final", "default": True, "base": "base", "line": 14},
        ]
    }


def test_unknown_target_is_refused() -> None:
    with pytest.raises(DockerfileError, match=r'target stage "x" could not be found'):
        DockerfileFrontend().targets(request(target="x"))


def test_check_asks_for_sources_of_local_contexts_and_a_build_does_not() -> None:
    text = (
        "FROM b\nCOPY gone a.txt /x/\nADD https://h/gone /x/\nRUN --mount=source=gone,target=/m x\n"
        "COPY --from=b /gone /x\nCOPY --from=dir gone /x/\n"
    )
    resolver = DictResolver(contexts={"dir": ("local", "dir")}, missing=frozenset({"/gone"}))
    found = DockerfileFrontend().check(request(text), resolver)
    assert [(item.rule, item.message, item.location.first_line) for item in found if item.location] == [
        ("CopyMissingFile", "/gone is not in context", 2),
        ("CopyMissingFile", "/gone is not in context", 4),
        ("CopyMissingFile", "/gone is not in dir", 6),
    ]
    assert not DockerfileFrontend().plan(request(text), resolver).warnings
