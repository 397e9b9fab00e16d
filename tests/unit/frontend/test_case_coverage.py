"""Every verified case of the Dockerfile notes (sections 19 and 20) is in the id of a test of a real build."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: Section 19: how many cases each group has; they are numbered from 1.
GROUPS = {
    "PA": 30, "EX": 23, "SC": 12, "CP": 48, "AD": 19, "IG": 21, "WU": 13, "MT": 24, "HD": 13, "OB": 6, "ST": 9, "CA": 18, "CF": 20,
}  # fmt: skip
#: Section 20: the rows by a short name, which is a test's parameter. Those about cache backends belong to the tests of these.
ERROR_TEXTS = """
    dockerfile-missing empty only-comments only-arg before-from frmo runn from-two from-none stage-name blank-base upper-case-image
    platform empty-platform target-platform target-unknown stage-index later-stage circle itself variable-in-from
    variable-in-mount-from copy-one add-one copy-missing copy-ignored bind-source-missing parents-missing unknown-flag
    flag-without-value flag-twice boolean chmod-99 chmod-10000 chmod-zz name-on-scratch directory-onto-file file-onto-directory
    below-a-file link-loop copy-url copy-git checksum-format checksum-local checksum-several HD9-destination open-heredoc run-exits
    run-command-missing run-program-missing run-user run-group network security insecure device mount-type mount-key mount-word
    mount-other-key mount-mode mount-sharing mount-sharing-on-bind MT5-root secret secret-required ssh-required secret-too-big
    env-one label-one env-no-equals env-blank arg-blank no-argument-ENV no-argument-LABEL no-argument-ARG no-argument-EXPOSE
    no-argument-VOLUME no-argument-ONBUILD no-argument-HEALTHCHECK no-argument-SHELL no-argument-WORKDIR no-argument-USER
    no-argument-STOPSIGNAL no-argument-MAINTAINER open-brace empty-brace modifier required required-set required-filled
    double-quote single-quote PA20 shell expose-word expose-range expose-large expose-protocol volume-empty volume-unset signal
    healthcheck-type healthcheck-command healthcheck-none healthcheck-interval healthcheck-unit healthcheck-retries onbuild
    onbuild-from trigger escape escape-twice syntax-image IG14-bang IG14-class check-option check-error epoch context-kind
    context-reference workdir-over-file compression
"""
#: Rows whose tests have names of their own: a part of the test's id.
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
    "output-type": "test_mistake_on_the_command_line_is_a_usage_error[arguments4-nonsense]",
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


def cases() -> list[str]:
    return [f"{group}{number}" for group, count in GROUPS.items() for number in range(1, count + 1)]


def test_every_verified_case_is_a_test_of_a_real_build() -> None:
    assert len(cases()) == 256
    real = "\n".join(line for line in collected().splitlines() if line.startswith("tests/integration/"))
    named = {
        found.upper()
        for found in re.findall(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{1,2}(?![0-9A-Za-z])", real.replace("_", " "))
    }
    assert [case for case in cases() if case not in named] == []


def test_every_error_text_is_a_test() -> None:
    ids = collected()
    parts = {**{name: f"[{name}]" for name in ERROR_TEXTS.split()}, **ERROR_TESTS}
    assert [name for name, part in parts.items() if part not in ids] == []
