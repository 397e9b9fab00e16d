"""Every case of docs/reference/dockerfile-cases.md is in the id of a test of a real build, and code names no case that is not there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache

from harness.repository import ROOT, files

PAGE = (ROOT / "docs/reference/dockerfile-cases.md").read_text()
LANGUAGE, _, MISTAKES = PAGE.partition("## Mistakes\n")
GROUPS = ("PA", "EX", "SC", "CP", "AD", "IG", "WU", "MT", "HD", "OB", "ST", "CA", "CF")
#: Mistakes whose tests have names of their own: a part of the test's id. That of any other is the name of a parameter.
ERROR_TESTS = {
    "image-missing": "test_image_or_digest_that_the_registry_lacks_is_named",
    "url-down": "test_a_server_that_is_down_is_named",
    "url-404": "test_a_missing_file_is_a_status",
    "checksum-wrong": "test_a_wrong_checksum_is_refused_with_both",
    "git-ref": "test_a_missing_ref",
    "git-checksum": "test_ad17_",
    "git-query": "test_ad18_",
    "secret-file": "could not parse secrets: failed to stat /nope",
    "stdin-twice": "test_standard_input_cannot_be_context_and_dockerfile",
    "context-argument": "test_mistake_on_the_command_line_is_a_usage_error[arguments0-path]",
    "context-missing": "test_missing_context_is_named",
    "output-type": "test_mistake_on_the_command_line_is_a_usage_error[arguments3-nonsense]",
    "line-too-long": "test_lines_longer_than_other_builders_allow_are_accepted",
}


@cache
def collected() -> str:
    """Return the ids of all tests that may hold cases, one a line; nothing is run."""
    where = ("tests/unit/frontend", "tests/unit/cli", "tests/integration")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *where],
        capture_output=True, text=True, cwd=ROOT, check=False, env={**os.environ, "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def names(text: str) -> list[str]:
    """Return the names of the cases in *text*, a part of the page."""
    return re.findall(r"^- \*\*(\S+)\*\* \S", text, re.MULTILINE)


def test_the_page_numbers_its_cases() -> None:
    cases = names(LANGUAGE)
    assert len(cases) == 256
    counts = {group: sum(case.startswith(group) for case in cases) for group in GROUPS}
    assert cases == [f"{group}{number}" for group in GROUPS for number in range(1, counts[group] + 1)]
    assert len(names(MISTAKES)) == len(set(names(MISTAKES))) == 136


def test_every_case_is_a_test_of_a_real_build() -> None:
    real = "\n".join(line for line in collected().splitlines() if line.startswith("tests/integration/"))
    named = {
        found.upper()
        for found in re.findall(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{1,2}(?![0-9A-Za-z])", real.replace("_", " "))
    }
    assert [case for case in names(LANGUAGE) if case not in named] == []


def test_every_mistake_is_a_test() -> None:
    ids = collected()
    assert set(names(MISTAKES)) >= set(ERROR_TESTS)
    parts = {**{name: f"[{name}]" for name in names(MISTAKES)}, **ERROR_TESTS}
    assert [name for name, part in parts.items() if part not in ids] == []


def test_code_names_no_case_that_is_not_on_the_page() -> None:
    case = re.compile(rf"(?<![\w.-])(?:{'|'.join(GROUPS)})[1-9][0-9]?(?![\w.])")
    named = {found: str(path) for path in files("*.py") for found in case.findall(path.read_text())}
    assert len(named) > 200
    assert {found: path for found, path in named.items() if found not in names(LANGUAGE)} == {}
