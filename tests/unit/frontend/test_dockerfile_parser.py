"""Cases PA of the Dockerfile specification, and positions."""

import json

import pytest
from frontend_support import actions, config, env, failure, history, plan, run
from hypothesis import given
from hypothesis import strategies as st

from img_core.spec.errors import DockerfileError
from img_frontend_dockerfile.syntax.parser import parse_document
from img_frontend_dockerfile.syntax.source import DockerfileText, excerpt


def shell(text: str) -> str:
    """Return the text that the shell of the last RUN gets."""
    args = run(text).args
    assert args[:2] == ("/bin/sh", "-c")
    return args[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("RUN echo hello \\\n# c\n  # d\nworld", "echo hello world", id="PA1"),
        pytest.param("RUN echo hello \\\n\n   \nworld", "echo hello world", id="PA2"),
        pytest.param("RUN echo a \\ \t\n  b", "echo a   b", id="PA3"),
        pytest.param("RUN echo c \\\\", "echo c \\\\", id="PA4"),
        pytest.param("RUN echo a \\", "echo a", id="PA5"),
        pytest.param("RUN [ -f /etc/passwd ] && echo yes", "[ -f /etc/passwd ] && echo yes", id="PA22"),
        pytest.param("RUN\techo tab", "echo tab", id="PA23"),
        pytest.param('RUN ["echo","c:\\w"]', '["echo","c:\\w"]', id="PA19"),
        pytest.param("RUN", "", id="empty-run"),
        pytest.param("run echo  $x 'a  b'", "echo  $x 'a  b'", id="shell-text-is-kept"),
        pytest.param("  \t RUN x", "x", id="leading-blanks"),
    ],
)
def test_logical_line(text: str, expected: str) -> None:
    assert shell(f"FROM b\n{text}\n") == expected


def test_blanks_at_the_start_of_a_continuation_line_are_kept() -> None:  # PA6
    assert env('FROM b\nENV V="a\\\n    b"')["V"] == "a    b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            "LABEL a=1 # note",
            'Syntax error - can\'t find = in "#". Must be of the form: name=value',
            id="PA7",
        ),
        pytest.param("EXPOSE 80 # web", "invalid containerPort: #", id="PA9"),
        pytest.param(
            'CMD ["a",1]', "when using JSON array syntax, arrays must be comprised of strings only", id="PA20"
        ),
        pytest.param("CMD --foo bar", "dockerfile parse error on line 2: unknown flag: --foo", id="PA25"),
        pytest.param("ARG A = b", "dockerfile parse error on line 2: ARG names can not be blank", id="PA29"),
    ],
)
def test_line_is_refused(line: str, message: str) -> None:
    assert failure(f"FROM b\n{line}").message == message


def test_hash_inside_a_word_is_text() -> None:  # PA8
    assert env("FROM b\nENV X=a#b")["X"] == "a#b"


def test_carriage_returns_end_lines_and_stay_in_copied_bodies() -> None:  # PA10
    text = "# syntax=docker/dockerfile:1\r\nFROM b\r\nENV A=1 \\\r\n  B=2\r\nCOPY <<EOF /f\r\none\r\ntwo\r\nEOF\r\n"
    assert env(text) == {"PATH": "/bin", "A": "1", "B": "2"}
    assert actions(text)[0].content == b"one\r\ntwo\r\n"


def test_byte_order_mark_is_dropped() -> None:  # PA11
    assert plan(b"\xef\xbb\xbfFROM b").images


@pytest.mark.parametrize(
    ("head", "joined"),
    [
        pytest.param("#   Escape = `\n", True, id="PA12"),
        pytest.param("# hello\n# escape=`\n", False, id="PA13"),
        pytest.param("\n# escape=`\n", False, id="PA14"),
        pytest.param("# foo=bar\n# escape=`\n", False, id="PA15"),
        pytest.param("# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\n", True, id="all-directives"),
    ],
)
def test_escape_directive_counts_only_in_the_directive_zone(head: str, joined: bool) -> None:
    lines = shell(f"{head}FROM b\nRUN echo a `\n# b\n") if joined else shell(f"{head}FROM b\nRUN echo a `\n#b\n")
    assert lines == ("echo a" if joined else "echo a `")


def test_escape_directive_changes_word_escapes() -> None:  # PA16
    assert env("# escape=`\nFROM b\nENV X=a` b Y=c\\d") == {"PATH": "/bin", "X": "a b", "Y": "c\\d"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("CMD ['a','b']", ["/bin/sh", "-c", "['a','b']"], id="PA17"),
        pytest.param('CMD ["a"] # c', ["/bin/sh", "-c", '["a"] # c'], id="PA18"),
        pytest.param('CMD ["a",\\\n # c\n "b"]', ["a", "b"], id="PA21"),
        pytest.param('CMD  [ "a" , "\\u0062" ] ', ["a", "b"], id="blanks-and-escapes"),
        pytest.param('CMD ["a",]', ["/bin/sh", "-c", '["a",]'], id="trailing-comma"),
        pytest.param("CMD [NaN]", ["/bin/sh", "-c", "[NaN]"], id="no-extensions-of-json"),
        pytest.param("CMD " + "[" * 100_000, ["/bin/sh", "-c", "[" * 100_000], id="deep-nesting"),
    ],
)
def test_json_form(line: str, expected: list[str]) -> None:
    assert config(f"FROM b\n{line}")["Cmd"] == expected


def test_double_dash_ends_the_flags() -> None:  # PA24
    assert actions("FROM b\nCOPY -- a.txt /ok")[0].sources == ("/a.txt",)


def test_flags_after_cmd_belong_to_the_health_check() -> None:  # PA26
    assert config("FROM b\nHEALTHCHECK CMD --interval=3s x")["Healthcheck"] == {
        "Test": ["CMD-SHELL", "--interval=3s x"]
    }


def test_copy_removes_quotes_but_splits_at_escaped_blanks() -> None:  # PA27
    assert actions("FROM b\nCOPY \"a.txt\" 'b.txt' /q/")[0].sources == ("/a.txt", "/b.txt")
    assert failure("FROM b\nCOPY a\\ 'b.txt /q/").message.startswith("failed to process")
    assert actions("FROM b\nCOPY a\\ b.txt /q/")[0].sources == ("/a", "/b.txt")


def test_user_and_workdir_take_the_whole_line() -> None:  # PA28
    result = config("FROM b\nUSER a b\nWORKDIR /a b")
    assert (result["User"], result["WorkingDir"]) == ("a b", "/a b")


def test_env_with_a_lone_equals_sign_is_the_old_form() -> None:  # PA29
    assert env("FROM b\nENV A = b")["A"] == "= b"


def test_keywords_ignore_letter_case() -> None:  # PA30
    assert history("from b As x\nrun true") == ["RUN /bin/sh -c true # buildkit"]


def test_lines_longer_than_other_builders_allow_are_accepted() -> None:
    assert shell("FROM b\nRUN echo " + "x" * 100_000) == "echo " + "x" * 100_000


def test_latin1_comment_does_not_stop_the_build() -> None:
    assert plan(b"# caf\xe9\nFROM b").images


def test_nul_byte_is_refused_with_its_line() -> None:
    error = failure(b"FROM b\nRUN a\0b")
    assert (error.message, error.line) == ("NUL byte in the Dockerfile", 2)


def test_every_instruction_knows_its_lines() -> None:
    text = "# c\n\nFROM b\nRUN a \\\n  # c\n  b\n\nCOPY <<E /x\n1\n2\nE\nCMD x"
    nodes = parse_document(DockerfileText("Dockerfile", text)).nodes
    assert [(n.name, n.span.first, n.span.last) for n in nodes] == [
        ("FROM", 3, 3),
        ("RUN", 4, 6),
        ("COPY", 8, 11),
        ("CMD", 12, 12),
    ]


@pytest.mark.parametrize(
    ("marker", "name", "expand"),
    [
        ("<<E", "E", True),
        ("<<  E", "E", True),
        ("3<<E", "E", True),
        ("<<-E", "E", True),
        ("<<E'x'", "Ex", False),
        ('<<"a b"', "a b", False),
        ("<<E\\'x", "E'x", True),
        ("<<$E", "$E", True),
        ("<<a.b-c", "a.b-c", True),
    ],
)
def test_word_of_a_here_document(marker: str, name: str, expand: bool) -> None:
    (node,) = parse_document(DockerfileText("D", f"COPY {marker} /x\nbody\n{name}\n")).nodes
    assert [(found.name, found.expand, found.content) for found in node.heredocs] == [(name, expand, "body\n")]


def test_excerpt_marks_the_lines_and_shows_two_around() -> None:
    assert excerpt("Dockerfile", "FROM busybox\nRUN exit 3\n", 2, 2) == (
        "Dockerfile:2\n"
        "--------------------\n"
        "   1 |     FROM busybox\n"
        "   2 | >>> RUN exit 3\n"
        "   3 |     \n"
        "--------------------"
    )
    lines = excerpt("D", "1\n2\n3\n4\n5\n6\n7", 4, 5).split("\n")
    assert [line[5:] for line in lines[2:-1]] == ["|     2", "|     3", "| >>> 4", "| >>> 5", "|     6", "|     7"]


def test_comments_directly_above_are_kept_with_the_instruction() -> None:
    nodes = parse_document(DockerfileText("D", "# lost\n\n# one\n# two\nFROM b")).nodes
    assert nodes[0].comments == ("one", "two")


_LINES = st.sampled_from(
    ["FROM b", "RUN a", "RUN a \\", "# c", "", "  ", "COPY <<E /x", "E", "ENV A=1 \\", "b", "FROM b AS x", "\\", "`"]
)


@given(lines=st.lists(_LINES, max_size=12))
def test_positions_cover_every_instruction_once_and_in_order(lines: list[str]) -> None:
    try:
        nodes = parse_document(DockerfileText("D", "\n".join(lines))).nodes
    except DockerfileError:
        return
    covered = [number for node in nodes for number in range(node.span.first, node.span.last + 1)]
    assert covered == sorted(set(covered))
    for node in nodes:
        assert lines[node.span.first - 1].strip().startswith((node.keyword, "\\"))
    missing = set(range(1, len(lines) + 1)) - set(covered)
    assert all(not lines[number - 1].strip("\\ ") or lines[number - 1].startswith("#") for number in missing)


_WORDS = st.text("ab=$'\"{}[],.-/#\\", min_size=1, max_size=5).filter(lambda w: not w.endswith("\\") and w[0] != "#")
_BREAKS = st.sampled_from([" ", " \\\n", " \\ \t\n", " \\\n# c\n", " \\\n  # \\\n", " \\\n\n"])


@given(
    instructions=st.lists(
        st.tuples(st.sampled_from(["RUN", "cmd", "Label"]), st.lists(st.tuples(_WORDS, _BREAKS), max_size=5), st.integers(0, 2)),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_what_was_written_over_several_lines_reads_as_on_one(
    instructions: list[tuple[str, list[tuple[str, str]], int]],
) -> None:
    text, expected = "", []
    for keyword, words, gap in instructions:
        first = text.count("\n") + 1
        body = "".join(gap + word for word, gap in [*words, ("x", " ")])
        text += keyword + body
        expected.append((keyword, [word for word, _ in words] + ["x"], first, text.count("\n") + 1))
        text += "\n" * (1 + gap)
    nodes = parse_document(DockerfileText("D", text)).nodes
    assert [(node.keyword, node.original.split()[1:], node.span.first, node.span.last) for node in nodes] == expected


_KEYWORDS = """FROM RUN COPY ADD ENV ARG LABEL HEALTHCHECK ONBUILD EXPOSE CMD SHELL VOLUME USER WORKDIR STOPSIGNAL
    MAINTAINER ENTRYPOINT"""
_OTHERS = """b a=1 $a ${a ${a:- } ' " \\ <<E <<-'E' E [ ["a"] --mount=type= bind cache, target=/x --from= 0 --chown= --chmod=
    9 80/ - AS x / . * https://h/x.git?"""
_PIECES = st.sampled_from(
    [*_KEYWORDS.split(), *_OTHERS.split(), "\n", "\n", "\n", "\n", " ", " ", "# escape=`", "\ufeff", "\r\n"]
)


@given(
    text=st.one_of(st.text(), st.lists(_PIECES, max_size=30).map("".join), st.lists(_PIECES, max_size=30).map(" ".join))
)
def test_any_text_is_planned_or_refused_as_a_dockerfile(text: str) -> None:
    try:
        plan("FROM b AS x\n" + text)
        plan(text)
    except DockerfileError as error:
        assert error.message
        assert "\n" not in error.message or "\n" in text
    except Exception as error:
        assert "not found" in str(error), text


@given(content=st.binary(max_size=200))
def test_any_bytes_are_planned_or_refused_as_a_dockerfile(content: bytes) -> None:
    try:
        plan(b"FROM b\n" + content)
    except DockerfileError as error:
        assert error.excerpt


def test_json_words_survive_a_round_trip_of_lone_surrogates() -> None:
    assert config('FROM b\nCMD ["\\ud800x"]')["Cmd"] == ["\ufffdx"]
    assert json.dumps(config('FROM b\nCMD ["\\ud83d\\ude00"]')["Cmd"], ensure_ascii=False) == '["😀"]'
