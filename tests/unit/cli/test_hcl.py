"""HashiCorp's configuration language: what expressions, functions and texts are worth, and what is refused, with its line."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.cli.bake.hcl import FUNCTIONS, Names, read_hcl
from img_core.spec.errors import ImgError

VARIABLES = {
    "a": 1, "text": "xyz", "yes": True, "none": None, "list": ["a", "b"], "object": {"k": {"in": [7]}, "x-y": 2},
    "objects": [{"n": 1}, {"n": 2}],
}  # fmt: skip


def value(text: str) -> Any:
    """Return what the expression *text* is worth."""
    block = read_hcl(f"value = {text}\n", "f.hcl")
    return block.attributes["value"].value(Names(VARIABLES.__getitem__, FUNCTIONS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Operators, by how they bind.
        ("1 + 2 * 3 - 4 / 2", 5),
        ("(1 + 2) * 3 % 5", 4),
        ("7 / 2", 3.5),
        ("-a + 3", 2),
        ("!yes || a == 1 && text != \"x\"", True),
        ("1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 4", False),
        ("1 == true", False),
        ("yes ? \"y\" : fails()", "y"),
        ("a == 2 ? \"y\" : a == 1 ? \"n\" : \"\"", "n"),
        ("none == null ? 1.5 : 2", 1.5),
        # Parts of values.
        ("object.k.in[0]", 7),
        ("object[\"x-y\"]", 2),
        ("object.k[\"in\"].0", 7),
        ("objects[*].n", [1, 2]),
        ("objects.*.n", [1, 2]),
        ("list[1 - 1]", "a"),
        # Lists and objects.
        ("[1, [text], ]", [1, ["xyz"]]),
        ("[\n  1, # one\n  2 // two\n  /* no */\n]", [1, 2]),
        ("{ a = 1, \"b\" : 2\n c = 3\n (text) = 4, \"${text}-1\" = 5 }", {"a": 1, "b": 2, "c": 3, "xyz": 4, "xyz-1": 5}),
        ("[for item in list : upper(item)]", ["A", "B"]),
        ("[for index, item in list : \"${index}${item}\" if item != \"a\"]", ["1b"]),
        ("{for key, item in object : key => a}", {"k": 1, "x-y": 1}),
        ("[for key in [for o in objects : o.n] : key + 1]", [2, 3]),
        # Texts.
        (r'"a\tb\n\"c\" \\ \u00e9\U0001F600"', 'a\tb\n"c" \\ é\U0001f600'),
        ('"$${text} %%{x} $5 100%"', "${text} %{x} $5 100%"),
        ('"${a}-${yes}-${text}"', "1-true-xyz"),
        ('"${a}"', 1),
        ('"${list}"', ["a", "b"]),
        ('"${"${text}"}!"', "xyz!"),
        ('"${ object["x-y"] } ${join(",", [for i in list: "<${i}>"])}"', "2 <a>,<b>"),
        ('"a  ${~ text ~}  b"', "axyzb"),
        ("<<EOT\n  one ${text}\ntwo\n  EOT", "  one xyz\ntwo\n"),
        ("<<-EOT\n    one\n      ${text}\n\n    two \\n\n  EOT", "one\n  xyz\n\ntwo \\n\n"),
    ],
)  # fmt: skip
def test_an_expression(text: str, expected: Any) -> None:
    found = value(text)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('add(1, "2")', 3), ("subtract(1, 2)", -1), ("multiply(2, 3)", 6), ("divide(6, 3)", 2), ("modulo(7, 4)", 3.0),
        ("absolute(-1)", 1), ("negate(1)", -1), ("ceil(1.2)", 2), ("floor(1.8)", 1), ("int(1.8)", 1),
        ("pow(2, 62)", 2**62), ("pow(2, -1)", 0.5), ("max(1, 3, 2)", 3),
        ("min([3, 1]...)", 1), ("pow(2, 3)", 8), ("signum(-4)", -1), ('parseint("ff", 16)', 255), ("log(8, 2)", 3.0),
        ("greaterthan(2, 1)", True), ("lessthanorequalto(2, 1)", False),
        ('and(true, "false")', False), ("or(false, yes)", True), ("not(yes)", False), ("equal(a, 1)", True),
        ('equal("1", 1)', False), ('notequal("", text)', True),
        ('join("-", list, ["c"])', "a-b-c"), ('split(",", "a,b")', ["a", "b"]), ('lower("Ab")', "ab"), ('upper("b")', "B"),
        ('replace("a/b/c", "/", "-")', "a-b-c"), ('regex_replace("v1.2.3", "^v(\\\\d+)\\\\.(\\\\d+).*", "$1-${2}")', "1-2"),
        ('regex_replace("aab", "(?P<x>a+)", "<$${x}>$$")', "<aa>$b"), ('regex("[a-y]+", text)', "xy"),
        ('regex("(x)(y)", text)', ["x", "y"]), ('regex("(?P<first>x)", text)', {"first": "x"}),
        ('regexall("[xz]", text)', ["x", "z"]), ('trim("--a--", "-")', "a"), ('trimprefix("v1", "v")', "1"),
        ('trimsuffix("a.git", ".git")', "a"), ('trimspace(" a ")', "a"), ('title("ab cd")', "Ab Cd"),
        ('substr("hello", 1, 3)', "ell"), ('substr("hello", -2, -1)', "lo"), ('strlen("é")', 1), ('byteslen("é")', 2),
        ('reverse("ab")', "ba"), ('indent(2, "a\\nb")', "a\n  b"), ('chomp("a\\n\\n")', "a"), ('sanitize("a/b.c")', "a_b_c"),
        ('format("%s:%d-%05.1f %q %t %v%%%3d|%-3s|%x", "a", 2, 3.14159, "q", true, [1], 7, "l", 255)',
         'a:2-003.1 "q" true [1]%  7|l  |ff'),
        ('formatlist("%s.%s", list, "x")', ["a.x", "b.x"]), ('base64encode("a")', "YQ=="), ('base64decode("YQ==")', "a"),
        ('md5("a")', "0cc175b9c0f1b6a831c399e269772661"), ('substr(sha256("a"), 0, 8)', "ca978112"), ('urlencode("a b/é")', "a+b%2F%C3%A9"),
        ('basename("/a/b")', "b"), ('dirname("/a/b")', "/a"),
        ('concat(list, ["c"], [])', ["a", "b", "c"]), ('contains(list, "a")', True), ('compact(["", "a", null])', ["a"]),
        ('coalesce("", null, "c")', "c"), ("coalescelist([], [1])", [1]), ("distinct([1, 1, true])", [1, True]),
        ("flatten([[1], [[2]], 3])", [1, 2, 3]), ("element(list, 3)", "b"), ('index(list, 1)', "b"), ('indexof(list, "b")', 1),
        ("hasindex(list, 2)", False), ("keys(object)", ["k", "x-y"]), ("length(list)", 2), ('lookup(object, "q", 5)', 5),
        ('merge({a = 1, b = 1}, {b = 2}, null)', {"a": 1, "b": 2}), ("range(3)", [0, 1, 2]), ("range(4, 0, -2)", [4, 2]),
        ("reverselist(list)", ["b", "a"]),
        ("slice(list, 1)", ["b"]), ('sort(["b", "a"])', ["a", "b"]), ("values({b = 1, a = 2})", [2, 1]),
        ('zipmap(list, [1, 2])', {"a": 1, "b": 2}), ("setproduct(list, [1])", [["a", 1], ["b", 1]]),
        ("chunklist([1, 2, 3], 2)", [[1, 2], [3]]),
        ("setunion([1], [2, 1])", [1, 2]), ('jsonencode({b = [1, null], a = "x"})', '{"a":"x","b":[1,null]}'),
        ('jsondecode("{\\"a\\": [1]}").a', [1]), ("try(nothing, object.q, 3)", 3), ("can(nothing)", False), ("can(a)", True),
        ('formatdate("EEE, D MMM YYYY H:mm aa, HH ZZZZ", "2024-02-05T15:04:09+01:00")', "Mon, 5 Feb 2024 3:04 pm, 03 +0100"),
        ('formatdate("YYYY-MM-DD\'T\'hh:mm:ssZ", "2024-02-05T15:04:09Z")', "2024-02-05T15:04:09Z"),
        ('timeadd("2024-02-28T23:59:59Z", "1h30m1s")', "2024-02-29T01:30:00Z"),
        ('timeadd("2024-01-01T00:00:00Z", "-1s")', "2023-12-31T23:59:59Z"),
    ],
)  # fmt: skip
def test_a_function(text: str, expected: Any) -> None:
    found = value(text)
    assert (found, type(found)) == (expected, type(expected))


def test_functions_of_time_and_chance() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value("timestamp()"))
    assert value('formatdate("YYYY", timestamp())').isdigit()
    assert value("uuidv4()") != value("uuidv4()")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('\nvalue = nothing', "f.hcl:2: there is no variable `nothing`"),
        ('value = [\n  1,\n  upper(sha3("x")),\n]', "f.hcl:3: there is no function `sha3`"),
        ('value = upper("a", "b")', "f.hcl:1: function `upper` is not called with 2 arguments"),
        ('value = join(",", 1)', "f.hcl:1: function `join`: a number is no list"),
        ('value = "${[1]}x"', "f.hcl:1: in a text: a list is no text"),
        ('value = object.q', "f.hcl:1: there is no `q` in the object"),
        ('value = list[2]', "f.hcl:1: a list of 2 has no element 2"),
        ('value = text.x', "f.hcl:1: text has no elements"),
        ('value = 1 + text', "f.hcl:1: `xyz` is no number"),
        ('value = 1 / 0', "f.hcl:1: division by zero"),
        ('value = text ? 1 : 2', "f.hcl:1: text is neither true nor false"),
        ('value = regex("(", text)', "f.hcl:1: function `regex`: the pattern: "),
        ('value = formatdate("QQ", "2024-01-01T00:00:00Z")', "`QQ` in the pattern means nothing"),
        ('value = formatdate("D", "today")', "`today` is no time"),
        ('value = format("%s %s", 1)', "there is no value for `%s`"),
        ('value = "a\nb"', "f.hcl:1: a text has no `\"` at its end"),
        ('value = "a', "f.hcl:1: a text has no `\"` at its end"),
        ('value = "%{ if yes }a%{ endif }"', "f.hcl:1: `%{` in texts is not supported"),
        (r'value = "\q"', r"f.hcl:1: `\q` in a text is not known"),
        ('value = <<EOT\na\n', "there is no line `EOT` that ends the text"),
        ('value = [1 2]', "f.hcl:1: expected `]`, not `2]`"),
        ('value = {a 1}', "f.hcl:1: expected `=`, not `1}`"),
        ('value = 1 2', "f.hcl:1: expected the end of the line, not `2`"),
        ('value =\n', "f.hcl:1: expected a value, not the end of the line"),
        ('value = 1\nvalue = 2', "f.hcl:2: `value` is given twice, first in line 1"),
        ('target "a" {\n  x = 1\n', "`target` of line 1 has no `}`"),
        ('target "${x}" {\n}\n', "the name of a block must be plain text"),
        ('= 1', "f.hcl:1: expected a name, not `= 1`"),
        (f"value = {'(' * 500}", "nested more than 40 times"),
        ("a {" * 5000, "f.hcl:1: this is nested more than 40 times"),
        (f"value = {'!' * 5000}true", "nested more than 40 times"),
        (f"\nvalue = {'9' * 5000}", "f.hcl:2: this number has more than 300 characters"),
        (f"value = {'9' * 300}.{'9' * 300}", "this number has more than 300 characters"),
        ("value = list.1e999", "f.hcl:1: cannot convert float infinity to integer"),
        (f"value = {'1 + ' * 20_000}1", "f.hcl:1: too many calls within each other"),
        ('value = format("%999999999d", 1)', "f.hcl:1: function `format`: `%999999999d` is too wide"),
        ('value = format("%.999999999f", 1)', "`%.999999999f` is too wide"),
        ("value = pow(10, 1000000000)", "f.hcl:1: function `pow`: math range error"),
        ("value = pow(-8, 0.5)", "f.hcl:1: function `pow`: math domain error"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_line(text: str, message: str) -> None:
    with pytest.raises(ImgError, match=re.escape(message)) as caught:
        read_hcl(text, "f.hcl").attributes["value"].value(Names(VARIABLES.__getitem__, FUNCTIONS))
    assert "\n" not in caught.value.message


def test_blocks_and_attributes() -> None:
    whole = read_hcl('\ufeffa = 1\ntarget "x" "y" { b = 2 }\nvariable V {\n  validation { c = 3 }\n}\n', "f.hcl")
    target, variable = whole.blocks
    assert list(whole.attributes) == ["a"]
    assert (target.kind, target.labels, list(target.attributes), target.place.line) == ("target", ("x", "y"), ["b"], 2)
    assert (variable.labels, variable.blocks[0].kind, variable.blocks[0].place.line) == (("V",), "validation", 4)


PIECES = st.sampled_from(
    ["a", "=", "{", "}", "[", "]", "(", ")", '"', "${", "<<E\n", "E\n", "\n", "1", ".", ",", ":", "?", "for ", " in ", "=>", "-",
     "!", "/*", "#", "%{", "\\", "...", "if ", "true", "upper(", "é", "\0"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        block = read_hcl(text, "f.hcl")
        for expression in block.attributes.values():
            expression.value(Names(VARIABLES.__getitem__, FUNCTIONS))
    except ImgError as err:
        assert "\n" not in err.message
