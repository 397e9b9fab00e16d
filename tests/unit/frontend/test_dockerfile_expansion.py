"""Cases EX of the Dockerfile specification."""

import re

import pytest
from frontend_support import actions, config, env, failure, run
from hypothesis import given
from hypothesis import strategies as st

from img_frontend_dockerfile.syntax.expansion import expand_for_display, expand_heredoc, expand_word, expand_words
from img_frontend_dockerfile.syntax.source import Fault

VARIABLES = {
    "x": "1",
    "E": "",
    "s": "foobarbaz",
    "p": "/a/b/c.tar.gz",
    "q": "/a/b",
    "d": "a.b.c",
    "abc": "abc",
    "foo": "F",
    "star": "a*b?c",
    "esc": "\\$",
    "h": "#",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param('a"b c"d', "ab cd", id="EX1-double"),
        pytest.param("'it''s'", "its", id="EX1-single"),
        pytest.param("a\\b", "ab", id="EX1-escape"),
        pytest.param('"a\\b"', "a\\b", id="EX1-escape-in-quotes"),
        pytest.param("'$x'", "$x", id="EX2-A"),
        pytest.param("\"'$x'\"", "'1'", id="EX2-B"),
        pytest.param('"\\$x"', "$x", id="EX2-C"),
        pytest.param("\\$x", "$x", id="EX2-D"),
        pytest.param("'\\$x'", "\\$x", id="EX2-E"),
        pytest.param('"${U:-a b}"', "a b", id="EX3-quoted"),
        pytest.param("${E:-d}", "d", id="EX4-colon-minus"),
        pytest.param("${E-d}", "", id="EX4-minus"),
        pytest.param("${U-d}", "d", id="EX4-minus-unset"),
        pytest.param("${E:+x}", "", id="EX4-colon-plus"),
        pytest.param("${E+x}", "x", id="EX4-plus"),
        pytest.param("${U+x}", "", id="EX4-plus-unset"),
        pytest.param("${s#f*b}", "arbaz", id="EX5-shortest-prefix"),
        pytest.param("${s##f*b}", "az", id="EX5-longest-prefix"),
        pytest.param("${s%b*}", "foobar", id="EX5-shortest-suffix"),
        pytest.param("${s%%b*}", "foo", id="EX5-longest-suffix"),
        pytest.param("${p##*/}", "c.tar.gz", id="EX6-base"),
        pytest.param("${p%%.*}", "/a/b/c", id="EX6-stem"),
        pytest.param("${p%%b*.*}", "/a/", id="longest-suffix-with-two-stars"),
        pytest.param("${p#*/**/}", "b/c.tar.gz", id="shortest-prefix-with-stars"),
        pytest.param("${star%\\*?*}", "a", id="escape-in-a-suffix"),
        pytest.param("${s%}", "foobarbaz", id="empty-pattern"),
        pytest.param("${s//b*/X}", "fooX", id="EX7"),
        pytest.param("${s/ba?/X}", "fooXbaz", id="first-match-only"),
        pytest.param("${s//ba?/X}", "fooXX", id="every-match"),
        pytest.param("${q//\\//_}", "_a_b", id="EX8"),
        pytest.param("${d//./-}", "a-b-c", id="EX9"),
        pytest.param("${abc//b/\\$1x}", "a$1xc", id="EX10-literal-replacement"),
        pytest.param("${abc/b/\\n}", "a\\nc", id="other-escapes-stay-in-the-replacement"),
        pytest.param("${p//\\//\\/}", "\\/a\\/b\\/c.tar.gz", id="escaped-slash-stays-in-the-replacement"),
        pytest.param("${abc/b/\\\\}", "a\\\\c", id="escaped-escape-stays-in-the-replacement"),
        pytest.param("${abc/b/$esc}", "a\\$c", id="escapes-of-a-value-are-text"),
        pytest.param("${abc/$E/X}", "Xabc", id="nothing-is-found-at-the-start"),
        pytest.param("${abc//$E/.}", ".a.b.c.", id="nothing-is-found-everywhere"),
        pytest.param("${abc/#a/X}", "abc", id="hash-is-no-anchor"),
        pytest.param("${star//\\*/X}", "aXb?c", id="escaped-star"),
        pytest.param("${star//\\?/X}", "a*bXc", id="escaped-question-mark"),
        pytest.param("${star//[a]/X}", "a*b?c", id="no-classes"),
        pytest.param("${E/*/X}", "X", id="star-matches-nothing"),
        pytest.param("${s//*/X}", "X", id="star-matches-everything-once"),
        pytest.param("${U///zz}", "zz", id="nothing-is-found-in-an-unset-name"),
        pytest.param("${U/*/zz}", "zz", id="star-finds-nothing-in-an-unset-name"),
        pytest.param("${U/x/zz}", "", id="other-patterns-do-not"),
        pytest.param("${s#f$h}", "foobarbaz", id="operator-inside-a-pattern-is-text"),
        pytest.param("${p#'#'*/}", "c.tar.gz", id="longest-by-a-quoted-operator"),
        pytest.param("${p#$h*/}", "c.tar.gz", id="longest-by-a-value"),
        pytest.param("${s#\\f\\o}", "obarbaz", id="other-escapes-of-a-pattern-mean-the-character"),
        pytest.param("$foo_bar", "", id="EX11-A"),
        pytest.param("${foo}_bar", "F_bar", id="EX11-B"),
        pytest.param("$1x", "x", id="EX11-C"),
        pytest.param("$", "$", id="EX11-D"),
        pytest.param("$(date)", "$(date)", id="EX11-E"),
        pytest.param("a$-b$@", "ab", id="special-names"),
        pytest.param('{"j":"k"}', "{j:k}", id="EX18"),
        pytest.param("${U:-${V:-$s}}", "foobarbaz", id="nested"),
        pytest.param("${s%${U:-az}}", "foobarb", id="nested-pattern"),
        pytest.param("${U:-'}'}", "}", id="quoted-brace"),
        pytest.param("a\\", "a", id="escape-at-the-end"),
    ],
)
def test_word_expands(word: str, expected: str) -> None:
    assert expand_word(word, VARIABLES) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        pytest.param("${X", "failed to process \"${X\": syntax error: missing '}'", id="open-brace"),
        pytest.param("${}", 'failed to process "${}": syntax error: bad substitution', id="empty-name"),
        pytest.param("${s^^}", 'failed to process "${s^^}": unsupported modifier (^) in substitution', id="caret"),
        pytest.param("${#s}", 'failed to process "${#s}": unsupported modifier (s) in substitution', id="length"),
        pytest.param("${s:1:2}", 'failed to process "${s:1:2}": unsupported modifier (:1) in substitution', id="slice"),
        pytest.param("${s:=w}", 'failed to process "${s:=w}": unsupported modifier (:=) in substitution', id="assign"),
        pytest.param("${V:?need-V}", 'failed to process "${V:?need-V}": V: need-V', id="required"),
        pytest.param("${V?}", 'failed to process "${V?}": V: is not allowed to be unset', id="required-set"),
        pytest.param("${E:?}", 'failed to process "${E:?}": E: is not allowed to be empty', id="required-filled"),
        pytest.param(
            '"abc',
            'failed to process "\\"abc": unexpected end of statement while looking for matching double-quote',
            id="double-quote",
        ),
        pytest.param(
            "'abc",
            'failed to process "\'abc": unexpected end of statement while looking for matching single-quote',
            id="single-quote",
        ),
    ],
)
def test_word_is_refused(word: str, message: str) -> None:
    with pytest.raises(Fault) as fault:
        expand_word(word, VARIABLES)
    assert fault.value.message == message


def test_unquoted_default_with_a_blank_is_a_parse_error() -> None:  # EX3
    error = failure("FROM b\nENV A=${U:-a b}")
    assert error.message == 'Syntax error - can\'t find = in "b}". Must be of the form: name=value'


def test_values_are_read_as_before_the_instruction() -> None:  # EX12
    result = env("FROM b\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc")
    assert (result["def"], result["ghi"]) == ("hello", "bye")


def test_keys_expand() -> None:  # EX13
    assert env("FROM b\nENV K=NAME\nENV $K=v")["NAME"] == "v"
    assert config("FROM b\nENV K=NAME\nLABEL $K.x=v")["Labels"] == {"NAME.x": "v"}


def test_values_are_not_parsed_again() -> None:  # EX14
    result = env("FROM b\nENV Q='\"a' R=b\\ c\nENV S=$Q T=$R")
    assert (result["S"], result["T"]) == ('"a', "b c")


def test_build_arguments_are_literal() -> None:  # EX15
    assert env("FROM b\nARG V\nENV X=$V", args={"V": '$HOME "q"'})["X"] == '$HOME "q"'


def test_a_variable_stays_one_word() -> None:  # EX16
    assert actions('FROM b\nENV F="a.txt b.txt"\nCOPY $F /x/')[0].sources == ("/a.txt b.txt",)


def test_expose_splits_values_into_words() -> None:  # EX17
    assert config('FROM b\nARG P="80 81"\nEXPOSE $P')["ExposedPorts"] == {"80/tcp": {}, "81/tcp": {}}
    assert expand_words("$P'a b'\" \"", {"P": "1 2"}) == ["1", "2a b "]


def test_old_form_takes_the_rest_of_the_line() -> None:  # EX19
    assert env("FROM b\nENV ONE TWO= THREE=x")["ONE"] == "TWO= THREE=x"
    assert env('FROM b\nENV ONE  "a  b"  c ')["ONE"] == "a  b  c"


def test_exec_form_is_not_expanded() -> None:  # EX20
    assert run('FROM b\nENV A=1\nRUN ["echo","$A"]').args == ("echo", "$A")


def test_tilde_means_nothing() -> None:  # EX21
    assert config("FROM b\nWORKDIR ~/x")["WorkingDir"] == "/~/x"


def test_home_is_no_builder_variable() -> None:  # EX22
    assert run("FROM b\nRUN --mount=type=cache,target=$HOME/.cache x").mounts[0].target == "/.cache"


@pytest.mark.parametrize("source", ["$UNSET", '""'])
def test_empty_source_is_refused_instead_of_copying_everything(source: str) -> None:  # EX23
    error = failure(f"FROM b\nCOPY {source} /xx/")
    assert error.message == f"COPY source {source} is empty"
    assert error.hint == "an empty source would copy everything; write `.` if you want that"


def test_heredoc_body_keeps_quotes_and_loses_backslashes() -> None:
    assert expand_heredoc("$V \\$V \"q\" '$V' \\\\ \\n", {"V": "vv"}) == "vv $V \"q\" 'vv' \\ n"


def test_names_that_were_not_set_are_reported_unless_a_default_was_given() -> None:
    unset: set[str] = set()
    expand_word("$a ${b} ${c:-x} ${d+x} ${e%x} $1 $@ $x", {"x": ""}, unset=unset)
    assert unset == {"a", "b", "e", "1"}


def test_display_keeps_what_is_not_known() -> None:
    text = "a '$x' \"$x\" ${U} ${U:-$x} \\$x"
    assert expand_for_display(text, {"x": "1"}) == "a '$x' \"1\" ${U} ${U:-$x} \\$x"
    assert expand_for_display("$x it's", {"x": "1"}) == "$x it's"
    assert expand_for_display("${x", {}) == "${x"


def test_long_values_are_stripped_in_linear_time() -> None:
    value = "a/" * 50_000
    assert expand_word("${v##*/}|${v%%b*}|${v#*/}", {"v": value}) == f"|{value}|{value[2:]}"


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(Fault, match="nested more than 100 levels"):
        expand_word("${a:-" * 5000 + "}" * 5000, {})


_PIECES = st.sampled_from([*"$${{}}:-+?#%/*'\"\\ ab1_", "${a", "${s//", "}"])


@given(
    word=st.lists(_PIECES, max_size=25).map("".join),
    variables=st.dictionaries(st.sampled_from("abs"), st.text("ab*/", max_size=8)),
)
def test_expansion_gives_text_or_a_fault(word: str, variables: dict[str, str]) -> None:
    for expand in (expand_word, expand_words, expand_heredoc, expand_for_display):
        try:
            expand(word, variables)
        except Fault as fault:
            assert fault.message.startswith("failed to process ")
            assert expand is not expand_for_display


@given(value=st.text("ab/", max_size=10), pattern=st.text("ab/*?", max_size=5))
def test_stripping_agrees_with_its_definition(value: str, pattern: str) -> None:
    expression = re.compile(pattern.replace("*", ".*").replace("?", "."))
    cuts = range(len(value) + 1)
    prefixes = [cut for cut in cuts if expression.fullmatch(value[:cut])] or [0]
    suffixes = [cut for cut in cuts if expression.fullmatch(value[cut:])] or [len(value)]
    forms = [f"${{v{operator}'{pattern}'}}" for operator in ("#", "##", "%", "%%")]
    assert [expand_word(form, {"v": value}) for form in forms] == [
        value[min(prefixes) :],
        value[max(prefixes) :],
        value[: max(suffixes)],
        value[: min(suffixes)],
    ]


@given(text=st.text())
def test_quoted_text_expands_to_itself(text: str) -> None:
    quoted = "'" + text.replace("'", "'\"'\"'") + "'"
    assert expand_word(quoted, {}) == text
