"""100,000 byte strings, from noise to nearly right Dockerfiles: each gives a plan or a one-line error, never anything else."""

from __future__ import annotations

import random

import pytest
from frontend_support import AMD64, ARM64, DictResolver, plan

from harness.dockerfile_noise import mutated, noise, soup
from img_core.spec.errors import DockerfileError, ImgError, NotFoundError
from img_core.spec.frontend import PlanRequest
from img_frontend_dockerfile._frontend import DockerfileFrontend

#: How many byte strings each seed makes; all seeds together 100,000.
COUNT = 25_000
SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_byte_string_is_planned_or_refused_in_one_line(seed: int) -> None:
    source = random.Random(seed)
    resolver = DictResolver()
    planned = 0
    for number in range(COUNT):
        content = source.choice((noise, soup, soup, mutated, mutated))(source)
        try:
            result = plan(content, resolver=resolver, args={"OTHER": "x y"})
            planned += 1
            assert all(warning.message.isprintable() for warning in result.warnings), content
        except (DockerfileError, NotFoundError) as error:
            check(error, content)
        except Exception as err:
            raise AssertionError(f"seed {seed}, number {number}: {content!r}") from err
    assert COUNT // 50 < planned < COUNT // 2, "the mixture has plans and errors"


def check(error: ImgError, content: bytes) -> None:
    """Insist on one printable line, a hint that is one too, and an excerpt that shows a line of *content*."""
    assert error.message, content
    assert error.message.isprintable(), (error.message, content)
    assert not error.hint or error.hint.isprintable(), (error.hint, content)
    assert ">>> " in (error.excerpt or "") or "target stage" in error.message, (error.message, content)


def test_other_questions_about_noise_are_answered_or_refused_in_one_line() -> None:
    source, resolver, frontend = random.Random(99), DictResolver(), DockerfileFrontend()
    for _ in range(3000):
        content = source.choice((noise, soup, mutated, mutated))(source)
        request = PlanRequest(content, "Dockerfile", (AMD64, ARM64), AMD64, {"OTHER": "x y"})
        for ask in (frontend.check, frontend.outline):
            try:
                ask(request, resolver)
            except (DockerfileError, NotFoundError) as error:
                check(error, content)
        for call in (frontend.targets, frontend.wanted):
            try:
                call(request)
            except DockerfileError as error:
                check(error, content)


def test_triggers_of_a_strange_base_are_planned_or_refused_in_one_line() -> None:
    source = random.Random(101)
    for _ in range(3000):
        content = source.choice((noise, soup, mutated))(source)
        triggers = [line.decode("utf-8", "surrogateescape") for line in content.split(b"\nFROM ")]
        base = {
            "config": {
                "OnBuild": triggers,
                "Env": [triggers[0]],
                "WorkingDir": triggers[-1][:50],
                "User": triggers[0][:9],
            }
        }
        try:
            plan("FROM base\nRUN x\nWORKDIR y\n", resolver=DictResolver({"docker.io/library/base:latest": base}))
        except (DockerfileError, NotFoundError) as error:
            check(error, content)
