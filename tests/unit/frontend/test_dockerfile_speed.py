"""A large Dockerfile is planned quickly, and every shape of large does it in linear time."""

import time
from collections.abc import Callable

from frontend_support import plan, vertices

from harness.speed import processor_seconds


def many_stages(stages: int, lines: int) -> str:
    text = ["ARG BASE=b"]
    for number in range(stages):
        text.append(f"FROM {'$BASE' if number % 3 == 0 else f's{number - 1}'} AS s{number}")
        for line in range(lines):
            kind = line % 5
            if kind == 0:
                text.append(f"ENV A{line}=${{A{line - 5}:-x}}/{number}")
            elif kind == 1:
                text.append(f"RUN --mount=type=cache,target=/c echo {number} \\\n  $A0 && make")
            elif kind == 2:
                text.append(f"COPY --chown=1:2 f{line} dir/ /dest{number}/")
            elif kind == 3 and number:
                text.append(f"COPY --from=s{number - 1} /a /b")
            else:
                text.append(f"LABEL l{line}=v")
    return "\n".join(text)


def measured(text: str) -> float:
    start = time.process_time()
    result = plan(text)
    elapsed = time.process_time() - start
    assert result.images[0].root is not None
    return elapsed


def test_two_thousand_lines_in_two_hundred_stages_are_planned_in_a_third_of_a_second(
    record_property: Callable[[str, object], None],
) -> None:
    text = many_stages(200, 9)
    assert text.count("\n") > 2000
    elapsed = processor_seconds(lambda: plan(text), enough=0.3)
    record_property("seconds", f"{elapsed:.3f}")
    assert elapsed < 0.3, f"{elapsed:.3f} s; on a quiet machine it takes 0.11 s"


def test_long_chains_need_no_recursion() -> None:
    text = "FROM b AS s0\n" + "\n".join(f"FROM s{i} AS s{i + 1}\nRUN {i}" for i in range(1500))
    assert measured(text) < 3
    assert plan("FROM b\n" + "RUN x\n" * 3000).images[0].root is not None


def test_only_what_is_reachable_is_planned() -> None:
    root = plan(many_stages(30, 9), target="s0").images[0].root
    assert {vertex.name.split()[0] for vertex in vertices(root) if vertex.location} == {"[s0"}
