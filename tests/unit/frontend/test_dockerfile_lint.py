"""Lint rules: each rule on one example, with its text and line; and how they are skipped."""

import pytest
from frontend_support import DictResolver, plan, rules


@pytest.mark.parametrize(
    ("text", "rule", "message", "line"),
    [
        ("FROM b AS Foo", "StageNameCasing", "Stage name 'Foo' should be lowercase", 1),
        ("FROM b as x", "FromAsCasing", "'as' and 'FROM' keywords' casing do not match", 1),
        ("FROM b\nRUN a \\\n\n  b", "NoEmptyContinuation", "Empty continuation line", 3),
        (
            "FROM b\nRUN a\nrun b",
            "ConsistentInstructionCasing",
            "Command 'run' should match the case of the command majority (uppercase)",
            3,
        ),
        (
            "from b\nRun a",
            "ConsistentInstructionCasing",
            "Command 'Run' should match the case of the command majority (lowercase)",
            2,
        ),
        (
            "FROM b AS x\nFROM b AS x",
            "DuplicateStageName",
            'Duplicate stage name "x", stage names should be unique',
            2,
        ),
        (
            "FROM b AS context",
            "ReservedStageName",
            'Stage name should not use the same name as reserved stage "context"',
            1,
        ),
        (
            "FROM b\nENTRYPOINT x",
            "JSONArgsRecommended",
            "JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
            2,
        ),
        (
            "FROM b\nMAINTAINER x",
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label",
            2,
        ),
        ("FROM b$A", "UndefinedArgInFrom", "FROM argument 'A' is not declared", 1),
        (
            "ARG VERSION=\nFROM b$VERSOIN",
            "UndefinedArgInFrom",
            "FROM argument 'VERSOIN' is not declared (did you mean VERSION?)",
            2,
        ),
        (
            "FROM b\nWORKDIR a",
            "WorkdirRelativePath",
            'Relative workdir "a" can have unexpected results if the base image changes',
            2,
        ),
        ("FROM b\nCOPY x$foo /x$foo", "UndefinedVar", "Usage of undefined variable '$foo'", 2),
        (
            "FROM b\nENV PATH=$PAHT:/x",
            "UndefinedVar",
            "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
            2,
        ),
        (
            'from b\ncmd ["a"]\ncmd ["b"]',
            "MultipleInstructionsDisallowed",
            "Multiple cmd instructions should not be used in the same stage because only the last one will be used",
            2,
        ),
        (
            "from b\nentrypoint a",
            "JSONArgsRecommended",
            "JSON arguments recommended for entrypoint to prevent unintended behavior related to OS signals",
            2,
        ),
        (
            "from b\nenv a b",
            "LegacyKeyValueFormat",
            '"env key=value" should be used instead of legacy "env key value" format',
            2,
        ),
        ("from b As c", "FromAsCasing", "'As' and 'from' keywords' casing do not match", 1),
        ("FROM b As c", "FromAsCasing", "'As' and 'FROM' keywords' casing do not match", 1),
        (
            "From b AS c\nRUN x",
            "ConsistentInstructionCasing",
            "Command 'From' should match the case of the command majority (uppercase)",
            1,
        ),
        (
            'FROM b\nCMD ["a"]\nCMD ["b"]',
            "MultipleInstructionsDisallowed",
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            2,
        ),
        (
            "FROM b\nENV a b",
            "LegacyKeyValueFormat",
            '"ENV key=value" should be used instead of legacy "ENV key value" format',
            2,
        ),
        (
            "FROM --platform=$TARGETPLATFORM b",
            "RedundantTargetPlatform",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            1,
        ),
        (
            "FROM b\nARG GITHUB_TOKEN",
            "SecretsUsedInArgOrEnv",
            'Do not use ARG or ENV instructions for sensitive data (ARG "GITHUB_TOKEN")',
            2,
        ),
        (
            "ARG TAG\nFROM b:$TAG",
            "InvalidDefaultArgInFrom",
            "Default value for ARG b:$TAG results in empty or invalid base image name",
            2,
        ),
        (
            "FROM --platform=linux/amd64 b",
            "FromPlatformFlagConstDisallowed",
            'FROM --platform flag should not use constant value "linux/amd64"',
            1,
        ),
        (
            "FROM b\nEXPOSE 80/TcP",
            "ExposeProtoCasing",
            "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
            2,
        ),
        (
            "FROM b\nEXPOSE 1.2.3.4:80:80",
            "ExposeInvalidFormat",
            "EXPOSE instruction should not define an IP address or host-port mapping, found '1.2.3.4:80:80'",
            2,
        ),
        (
            "# check=experimental=all\nFROM b\n# something else\nARG X",
            "InvalidDefinitionDescription",
            "Comment for ARG should follow the format: `# X <description>`",
            4,
        ),
    ],
)
def test_rule(text: str, rule: str, message: str, line: int) -> None:
    (warning,) = plan(text, args={"TAG": "latest"} if "$TAG" in text else None).warnings
    assert (warning.rule, warning.message) == (rule, message)
    assert warning.location is not None
    assert warning.location.first_line == line
    assert f"{line:4d} | >>>" in warning.excerpt


@pytest.mark.parametrize(
    "text",
    [
        "FROM b AS x\nRUN a",
        "from b as x\nrun a",
        'FROM b\nSHELL ["/x"]\nCMD a',
        'FROM b AS p\nSHELL ["/x"]\nFROM p\nENTRYPOINT a',
        "FROM b\nWORKDIR /a\nWORKDIR b",
        "FROM b\nENV PUBLIC_KEY=1 KEY_FILE=2 KEYBOARD=3 MONKEY=4",
        "FROM b\nCOPY ${foo:-x} /${bar+y}",
        "FROM --platform=$BUILDPLATFORM b",
        "FROM --platform=linux/amd64 b AS build-amd64",
        "FROM --platform=arm64 scratch AS linux",
        "FROM --platform=x86_64 b AS for-amd64",
        "ARG T=latest\nFROM b:$T",
        "FROM b\nARG X\nENV Y=1$X",
        "# a comment\nFROM b AS x",
        "arg X\narg Y\narg Z\nFROM b",  # what stands before the first stage has its own case
        "ARG API_KEY=1\nFROM b",
        "ARG X=$UNKNOWN\nFROM b",
        "FROM b\nEXPOSE $UNKNOWN",
        'FROM b\nENV a b\nARG GITHUB_TOKEN\nCMD ["a"]\nCMD ["b"]\nFROM b',  # nothing needs the first stage
    ],
)
def test_good_style_is_quiet(text: str) -> None:
    assert rules(text) == []


@pytest.mark.parametrize(
    ("head", "above", "expected"),
    [
        ("", "", ["LegacyKeyValueFormat", "MaintainerDeprecated"]),
        ("# check=skip=all\n", "", []),
        ("# check=skip=legacykeyvalueformat,X\n", "", ["MaintainerDeprecated"]),
        ("# check=skip=X;error=false\n", "", ["LegacyKeyValueFormat", "MaintainerDeprecated"]),
        ("", "# check=skip=LegacyKeyValueFormat\n", ["MaintainerDeprecated"]),
        ("", "# check=skip=LegacyKeyValueFormat // it is old\n", ["MaintainerDeprecated"]),
        ("", "# check=skip=all\n", ["MaintainerDeprecated"]),
        ("", "# check=skip=Legacy\n# skip=LegacyKeyValueFormat\n", ["LegacyKeyValueFormat", "MaintainerDeprecated"]),
    ],
)
def test_rules_are_skipped(head: str, above: str, expected: list[str]) -> None:
    assert rules(f"{head}FROM b\n{above}ENV a b\nMAINTAINER x") == expected


def test_build_argument_replaces_the_check_directive() -> None:
    text = "# check=skip=all\nFROM b\nENV a b"
    assert rules(text, args={"BUILDKIT_DOCKERFILE_CHECK": "skip=none"}) == ["LegacyKeyValueFormat"]


def test_same_finding_on_two_platforms_is_reported_once() -> None:
    from frontend_support import AMD64, ARM64

    assert rules("FROM b\nENV X=$U", platforms=(AMD64, ARM64)) == ["UndefinedVar"]


def test_copy_of_an_ignored_file() -> None:
    resolver = DictResolver(ignore="*.txt\nbuild\n")
    found = plan("FROM b\nCOPY a.txt b /x/\nADD ./build/out /x/\nCOPY --from=b c.txt /x/", resolver=resolver).warnings
    assert [(warning.rule, warning.message, warning.location.first_line) for warning in found if warning.location] == [
        ("CopyIgnoredFile", 'Attempting to Copy file "a.txt" that is excluded by .dockerignore', 2),
        ("CopyIgnoredFile", 'Attempting to Add file "build/out" that is excluded by .dockerignore', 3),
    ]


@pytest.mark.parametrize(
    ("ignore", "told"), [("*", True), ("**", True), (".*", False), ("*.txt", False), ("*\n!a", False)]
)
def test_copy_of_a_context_of_which_nothing_is_left(ignore: str, told: bool) -> None:
    found = plan("FROM b\nCOPY . .", resolver=DictResolver(ignore=ignore)).warnings
    message = 'Attempting to Copy file "." that is excluded by .dockerignore'
    assert [warning.message for warning in found] == ([message] if told else [])


def test_comment_of_several_arguments() -> None:
    text = "# check=experimental=all\nFROM b\n# c what\nARG a b"
    (warning,) = plan(text).warnings
    assert warning.message == "Comment for ARG should follow the format: `# <arg_key> <description>`"


@pytest.mark.parametrize("ignore", ["*.txt\n!b.txt", "!", "[", ""])
def test_ignore_file_that_may_bring_things_back_or_is_bad_gives_no_finding(ignore: str) -> None:
    assert not plan("FROM b\nCOPY a.txt /x/", resolver=DictResolver(ignore=ignore)).warnings
