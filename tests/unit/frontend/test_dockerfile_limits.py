"""What a hostile file may cost: patterns take linear time, variables and counts have limits, and memory stays small."""

import random
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from frontend_support import DictResolver, failure, plan
from hypothesis import given
from hypothesis import strategies as st

from harness.speed import processor_seconds
from img_core.spec.errors import DockerfileError
from img_frontend_dockerfile.syntax.expansion import expand_heredoc, expand_word
from img_frontend_dockerfile.syntax.patterns import Pattern
from img_frontend_dockerfile.syntax.source import Fault

LONG = 100_000
SECONDS = 0.2

# ---------------------------------------------------------------------------------------------------------- patterns


def seconds(work: Callable[[], object]) -> float:
    return processor_seconds(work, enough=SECONDS)


HOSTILE_PATTERNS = {
    "many-stars": "*a" * 50 + "b",
    "stars-all-the-way": "*a" * (LONG // 2),
    "stars-and-questions": "*a?" * (LONG // 3) + "b",
    "one-piece": "a" * (LONG // 2) + "b",
    "one-piece-behind": "*b" + "a" * (LONG // 2),
    "piece-that-nearly-fits": "*" + "a" * (LONG // 3) + "b" + "a" * (LONG // 3),
    "open-piece": "*" + "a?" * 120 + "b",
    "open-piece-behind": "*b" + "?a" * 120,
    "questions": "?" * 200 + "*b",
    "escapes": "\\*" * (LONG // 2),
    "only-stars": "*" * LONG,
    "brackets": "[a" * (LONG // 2),
}
VALUES = {
    "same": "a" * LONG,
    "pairs": "ab" * (LONG // 2),
    "slashes": "a/" * (LONG // 2),
    "short": "ab",
    "empty": "",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("pattern", HOSTILE_PATTERNS.values(), ids=HOSTILE_PATTERNS)
def test_patterns_take_linear_time(pattern: str, value: str) -> None:
    made = Pattern(pattern)
    for longest in (False, True):
        assert seconds(lambda longest=longest: made.without_prefix(value, longest=longest)) < SECONDS  # type: ignore[misc]
        assert seconds(lambda longest=longest: made.without_suffix(value, longest=longest)) < SECONDS  # type: ignore[misc]
        assert seconds(lambda longest=longest: made.replaced(value, "", everywhere=longest)) < SECONDS  # type: ignore[misc]
    assert seconds(lambda: Pattern(pattern)) < SECONDS


def test_long_piece_with_question_marks_is_refused() -> None:
    with pytest.raises(Fault, match=r'^failed to process "\$\{v#.*256 characters of a pattern around `\?`'):
        expand_word("${v#" + "a?" * 200 + "}", {"v": "x"})


@given(value=st.text("ab/", max_size=12), pattern=st.text("ab/*?", max_size=6), text=st.text("xy", max_size=2))
def test_replacing_agrees_with_regular_expressions(value: str, pattern: str, text: str) -> None:
    expression = re.compile(pattern.replace("*", ".*").replace("?", "."))
    matches = list(expression.finditer(value))
    kept = [m for before, m in zip([None, *matches], matches, strict=False) if not _touches(before, m)]
    for everywhere in (False, True):
        expected, done = "", 0
        for match in kept if everywhere else kept[:1]:
            expected += value[done : match.start()] + text
            done = match.end()
        assert Pattern(pattern).replaced(value, text, everywhere=everywhere) == expected + value[done:]


def _touches(before: "re.Match[str] | None", match: "re.Match[str]") -> bool:
    """Say whether *match* is empty and right behind another one, which does not count."""
    return before is not None and match.start() == match.end() == before.end()


@pytest.mark.parametrize("text", ["${v##", "${v//", "$v", "${v:-", "'", '"', "\\", "${v/a/", "}"])
def test_words_take_linear_time(text: str) -> None:
    for word in (text * (LONG // len(text)), text + "x" * LONG, "${v" + text[3:] + "}" * LONG):
        for expand in (expand_word, expand_heredoc):

            def work(expand: Callable[..., str] = expand, word: str = word) -> None:
                try:
                    expand(word, {"v": "ab"})
                except Fault:
                    pass

            assert seconds(work) < SECONDS


HOSTILE_LINES = {
    "directive": "# a=b" + " " * LONG + "x",
    "syntax": "# syntax=docker/dockerfile" + ":" * LONG,
    "syntax-with-slash": "# syntax=" + ":" * LONG + "/",
    "parentheses": "FROM b\nRUN << " + "((" * (LONG // 2),
    "heredoc-quotes": "FROM b\nRUN " + '<<"a ' * (LONG // 5),
    "digits": "FROM b\nRUN <<E " + "1" * LONG,
    "escapes": "FROM b\nRUN x " + "\\ " * (LONG // 2),
    "json": "FROM b\nRUN " + "[" * LONG,
    "names": "FROM b\nENV " + "a" * LONG + "=$" + "b" * LONG,
    "keyword": "F" * LONG,
    "flag": "FROM b\nRUN --" + "a" * LONG + " x",
    "chmod": "FROM b\nCOPY --chmod=" + "u+" * (LONG // 2) + "! a b",
    "duration": "FROM b\nHEALTHCHECK --interval=" + "1h" * (LONG // 2) + "! CMD x",
    "port": "FROM b\nEXPOSE " + "1" * LONG,
    "platform": "FROM --platform=" + "a/" * (LONG // 2) + " b",
    "reference": "FROM " + "a-" * (LONG // 2),
    "reference-dots": "FROM " + "a." * (LONG // 2) + "/" + "a__" * 1000,
    "stage-name": "FROM b AS " + "a" * LONG,
    "mount": "FROM b\nRUN --mount=" + '"' * LONG + " x",
    "url": "FROM b\nADD https://h/" + ".git" * (LONG // 4) + " /x",
    "address": "FROM b\nADD " + "a@" * (LONG // 2) + " /x",
    "signal": "FROM b\nSTOPSIGNAL " + "0" * LONG,
    "exclude": "FROM b\nCOPY --exclude=" + "**/" * (LONG // 3) + "x a b",
}


@pytest.mark.parametrize("text", HOSTILE_LINES.values(), ids=HOSTILE_LINES)
def test_lines_take_linear_time(text: str) -> None:
    def work() -> None:
        try:
            plan(text)
        except DockerfileError as error:
            assert len(error.message) < 1100

    assert seconds(work) < 3 * SECONDS  # the whole frontend walks over them several times


# ------------------------------------------------------------------------------------------------------------ limits

DOUBLING = "FROM b\nENV A0=" + "x" * 64 + "\n" + "".join(f"ENV A{i + 1}=$A{i}$A{i}\n" for i in range(40))


def test_doubling_a_variable_ends_at_the_limit_of_a_word() -> None:
    error = failure(DOUBLING)
    assert "variables give one word more than 4 MiB" in error.message
    assert error.hint == "does a variable contain itself several times?"
    assert error.line == 2 + 17


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("LABEL " + " ".join(f"l{i}=$V" for i in range(60)), id="labels"),
        pytest.param("".join(f"ENV a{i}=$V\n" for i in range(60)), id="variables"),
        pytest.param("EXPOSE " + "$V" * 60, id="words"),
        pytest.param("COPY <<E /x\n" + "$V" * 60 + "\nE", id="here-document"),
        pytest.param("".join(f"ENV a{i}=${{V//x/}}\n" for i in range(120)), id="values-that-are-read"),
        pytest.param("ENV a=${V//x/xxxxxxxxxx}", id="replacements"),
        pytest.param("RUN x\n" * 60, id="history-of-steps"),
        pytest.param("RUN echo $V\n" * 60, id="titles"),
        pytest.param("FROM s\n" * 60 + "RUN x\n" * 60, id="stages"),
    ],
)
def test_all_that_a_file_expands_to_has_a_limit(body: str) -> None:
    error = failure(f"FROM b AS s\nARG V\nENV Z=1\n{body}", args={"V": "x" * 1024 * 1024})
    assert re.search("the expanded file has more than 32 MiB|variables give one word more than 4 MiB", error.message)


def test_variables_handed_to_many_steps_count() -> None:
    lines = "".join(f"ENV a{i}=1\n" for i in range(3000)) + "RUN x\n" * 3000
    assert "the expanded file has more than 32 MiB" in failure(f"FROM b\n{lines}").message


def test_long_texts_without_variables_do_not_count() -> None:
    assert plan("FROM b\nCOPY <<E /x\n" + ("x" * 127 + "\n") * 64 * 1024 + "E").images


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM b\n" + "ENV a=1\n" * 50_000, "more than 50,000 instructions"),
        ("FROM b\n" * 5_002, "more than 5,000 stages"),
        ("FROM b\n" + "ONBUILD ENV a=1\n" * 1_001, "more than 1,000 ONBUILD triggers"),
    ],
    ids=["instructions", "stages", "triggers"],
)
def test_counts_have_limits(text: str, message: str) -> None:
    assert failure(text).message == message


def test_triggers_of_a_base_have_a_limit() -> None:
    base = {"docker.io/library/t:latest": {"config": {"OnBuild": ["ENV a=1"] * 1_001}}}
    error = failure("FROM t", resolver=DictResolver(base))
    assert error.message == "more than 1,000 ONBUILD triggers of the base"


def test_findings_have_a_limit() -> None:
    warnings = plan("FROM b\n" + "ENV a $x\n" * 2_000).warnings
    assert len(warnings) == 1_000
    assert warnings[0].message == "only the first 999 findings are listed"


# ------------------------------------------------------------------------------------------------------------ memory


def definitions(count: int, seed: int) -> "list[str]":
    """Return *count* files that pile up values in every way that there is."""
    generator = random.Random(seed)
    lines = (
        "ENV A{i}=$A{j}$A{j}$A{j}$A{j}",
        'ARG A{i}="${{A{j}}}${{A{j}:-$A{j}}}$A{i}"',
        "ENV A{i}=${{A{j}//?/$A{j}}}",
        "ENV A{i}=${{A{j}//a/aaaa}}$A{i}",
        "LABEL l{i}=$A{j} $A{j}=$A{i}",
        "RUN echo $A{i} $A{j}",
        "WORKDIR /$A{j}",
        "COPY <<E /$A{i}\n$A{j}$A{j}$A{j}\nE",
        "ENV A{i}=${{A{j}##*a*b*a*}}${{A{j}%a?*}}",
        "EXPOSE $A{j}",
        "FROM s AS s",
        "ONBUILD ENV A{i}=$A{j}$A{j}",
    )
    return [
        "ARG A0=a\nFROM b AS s\nENV A0=ab A1=a A2=b\n"
        + "\n".join(
            generator.choice(lines).format(i=generator.randrange(4), j=generator.randrange(4))
            for _ in range(generator.randrange(2, 10))
        )
        for _ in range(count)
    ]


def grow(count: int) -> None:
    """Plan *count* generated files; print by how many KiB the process grew at most."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for text in definitions(count, seed=1):
        try:
            plan(text)
        except DockerfileError:
            pass
    sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def test_ten_thousand_generated_files_take_less_than_64_mebibytes() -> None:
    here = Path(__file__)
    paths = [str(here.parent), str(here.parents[2])]
    code = f"import sys; sys.path[:0] = {paths!r}; from {here.stem} import grow; grow(10_000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 * 1024
