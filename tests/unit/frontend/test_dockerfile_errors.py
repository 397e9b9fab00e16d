"""Mistakes (docs/reference/dockerfile-cases.md) that parsing and planning can see."""

import pytest
from frontend_support import AMD64, DictResolver, failure, plan

from harness.dockerfile_mistakes import MISTAKES
from img_core.spec.errors import NotFoundError
from img_core.spec.frontend import PlanRequest
from img_core.spec.graph import Location
from img_frontend_dockerfile._frontend import DockerfileFrontend


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistake_is_named(text: str, message: str) -> None:
    assert failure(text).message == message


def test_unknown_target_is_named_with_a_suggestion() -> None:
    error = failure("FROM b AS build\nFROM b", target="biuld")
    assert error.message == 'target stage "biuld" could not be found (did you mean build?)'
    assert error.hint == "stages with a name: build"


def test_target_is_no_index() -> None:  # ST3
    assert failure("FROM b AS build", target="0").message == 'target stage "0" could not be found'


def test_invalid_epoch_is_named() -> None:
    assert failure("FROM b", args={"SOURCE_DATE_EPOCH": "abc"}).message == "invalid SOURCE_DATE_EPOCH: abc"


def test_error_carries_line_and_excerpt() -> None:
    error = failure("FROM busybox\nRUN x\nCOPY --chwon=1 \\\n  a b\nRUN y\nRUN z\nRUN 0")
    assert error.line == 3
    assert error.excerpt == (
        "Dockerfile:3\n"
        "--------------------\n"
        "   1 |     FROM busybox\n"
        "   2 |     RUN x\n"
        "   3 | >>> COPY --chwon=1 \\\n"
        "   4 | >>>   a b\n"
        "   5 |     RUN y\n"
        "   6 |     RUN z\n"
        "--------------------"
    )


def test_circle_shows_every_instruction_of_it() -> None:
    error = failure("FROM b AS a\nCOPY --from=b x /\nFROM b AS b\nCOPY --from=a x /")
    assert error.excerpt is not None
    assert [line for line in error.excerpt.split("\n") if ">>>" in line] == [
        "   2 | >>> COPY --from=b x /",
        "   4 | >>> COPY --from=a x /",
    ]


def test_missing_image_is_what_the_resolver_says() -> None:
    with pytest.raises(NotFoundError, match=r"image `docker\.io/library/nope:latest`: not found") as error:
        plan("FROM nope")
    assert "   1 | >>> FROM nope" in (error.value.excerpt or "")


def test_bad_trigger_is_shown_at_from() -> None:  # OB5
    images = {"docker.io/library/onb:latest": {"config": {"OnBuild": ["FOO x"]}}}
    error = failure("ARG X\nFROM onb", resolver=DictResolver(images))
    assert (error.message, error.line) == ("unknown instruction: FOO (did you mean FROM?)", 2)


@pytest.mark.parametrize(
    "reference", ["docker/dockerfile:1", "docker/dockerfile:1.4-labs", "docker.io/docker/dockerfile", "dockerfile.v0"]
)
def test_usual_syntax_lines_are_built_in(reference: str) -> None:
    assert plan(f"# syntax={reference}\nFROM b").images
    assert plan(f"#Syntax = {reference} x\nFROM b").images


@pytest.mark.parametrize(
    "text", ["# syntax=foo/bar:1\nFROM b", "#!/usr/bin/x\n//syntax=foo/bar:1\n{}", '{"syntax": "foo/bar:1"}']
)
def test_other_frontends_are_refused_with_a_hint(text: str) -> None:
    error = failure(text)
    assert error.message == "unknown frontend `foo/bar:1`"
    assert "remove `# syntax=`" in (error.hint or "")


def test_excerpt_of_a_step_is_found_by_location() -> None:
    request = PlanRequest(b"FROM b\nRUN x\n", "D", (AMD64,), AMD64)
    assert "   2 | >>> RUN x" in DockerfileFrontend().excerpt(request, Location("D", 2, 2))


@pytest.mark.parametrize(
    ("keyword", "suggested"),
    [("RUNN", "RUN"), ("runn", "run"), ("Runn", "run"), ("cpoy", "copy"), ("EXPOES", "EXPOSE")],
)
def test_suggested_instruction_is_in_the_case_of_what_was_written(keyword: str, suggested: str) -> None:
    text = f"dockerfile parse error on line 2: unknown instruction: {keyword} (did you mean {suggested}?)"
    assert failure(f"FROM b\n{keyword} x").message == text
