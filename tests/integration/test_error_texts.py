"""Mistakes (docs/reference/dockerfile-cases.md) as real builds tell them: one line, the place in the Dockerfile, no host paths."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.build_server import Built, Workshop
from harness.dockerfile_mistakes import MISTAKES
from harness.img import Img, write_context

pytestmark = pytest.mark.rootless


@pytest.fixture(scope="module", autouse=True)
def _base(server: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Name the base image ``b``, as the table of mistakes does."""
    server.build(tmp_path_factory.mktemp("base"), "FROM busybox\n", tags=["b"]).ok()


def check_form(workshop: Workshop, built: Built) -> None:
    """Insist on what every error has: one line without paths of this machine or internal digests."""
    told = "\n".join((built.error, built.hint))
    assert "\n" not in built.error
    for text in (str(workshop.context), str(workshop.server.state)):
        assert text not in told, str(built)
    assert not re.search(r"sha256:[0-9a-f]{64}", told), str(built)


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistake(workshop: Workshop, text: str, message: str) -> None:
    built = workshop.server.build(workshop.context, text)
    assert built.error == message
    assert built.code == 3
    check_form(workshop, built)
    assert ">>> " in built.excerpt or not text.strip()


@dataclass(frozen=True, slots=True)
class Row:
    """A build, the end or all of its error, and what is beside it. *line* is what the excerpt marks."""

    text: str
    error: str
    line: str = ""
    hint: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str | bytes] = field(default_factory=dict)


FILES: dict[str, str | bytes] = {"a.txt": "A", "b.txt": "B", "dir/f1": "1", "dir/sub/f2": "2"}
B = "FROM busybox\n"

ROWS = {
    "dockerfile-missing": Row(
        "", "failed to read dockerfile: open nope.Dockerfile: no such file or directory",
        options={"dockerfile": "nope.Dockerfile"},
    ),
    "target-platform": Row(
        B, 'failed to parse target platform foo/bar/x/y/z: "y/z" is an invalid component of "foo/bar/x/y/z": platform '
        'specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument',
        options={"platforms": ["foo/bar/x/y/z"]},
    ),
    "target-unknown": Row(
        "FROM busybox AS build\nFROM busybox", 'target stage "biuld" could not be found (did you mean build?)',
        options={"target": "biuld"}, hint="stages with a name: build",
    ),
    "copy-missing": Row(B + "COPY nope /x", '"/nope": not found', ">>> COPY nope /x"),
    "copy-misspelt": Row(B + "COPY dir/f11 /x", '"/dir/f11": not found', ">>> COPY dir/f11 /x", hint="did you mean `dir/f1`?"),
    "copy-ignored": Row(
        B + "COPY a.txt /x",
        '"/a.txt": not found in the build context: excluded by line 2 of `.dockerignore`: `*.txt`',
        ">>> COPY a.txt /x", hint="add `!a.txt` at the end of `.dockerignore`", files={".dockerignore": "# c\n*.txt\n"},
    ),
    "copy-ignored-with-its-directory": Row(
        B + "COPY dir/sub/f2 /x", "excluded by line 1 of `.dockerignore`: `dir`", ">>> COPY", files={".dockerignore": "dir\n"},
    ),
    "copy-dangling-link": Row(
        B + "COPY lost /x", '"/lost": not found in the build context: `/lost` links to `gone/x`, which is not there',
        ">>> COPY lost", files={"lost@": "gone/x"},
    ),
    "copy-link-to-the-host": Row(
        B + "COPY abs /x", "`/abs` links to `/etc/passwd`, which is not there", ">>> COPY abs", files={"abs@": "/etc/passwd"},
        hint="links lead nowhere outside the build context",
    ),
    "copy-link-to-what-is-ignored": Row(
        B + "COPY ln /x", "`/ln` links to `a.txt`, which is excluded by line 1 of `.dockerignore`: `a.txt`",
        files={"ln@": "a.txt", ".dockerignore": "a.txt\n"}, hint="add `!a.txt`",
    ),
    "copy-below-a-link": Row(
        B + "COPY ln/f11 /x", '"/ln/f11": not found in the build context', files={"ln@": "dir"},
        hint="did you mean `dir/f1`?",
    ),
    "ignore-file-bang": Row(
        B + "COPY a.txt /x", 'illegal exclusion pattern: "!" in line 2 of `.dockerignore`', ">>> COPY a.txt",
        files={".dockerignore": "# c\n!\n"}, hint="write a pattern after the `!`",
    ),
    "ignore-file-class": Row(
        B + "COPY a.txt /x", "syntax error in pattern: `[a` in line 1 of `.dockerignore`", ">>> COPY a.txt",
        files={".dockerignore": "[a\n"},
    ),
    "bind-source-missing": Row(B + "RUN --mount=source=nope,target=/m true", '"/nope": not found', ">>> RUN --mount"),
    "parents-missing": Row(B + "COPY --parents dir/nope /x/", '"/dir/nope": not found', ">>> COPY --parents"),
    "copy-from-stage-missing": Row(
        "FROM busybox AS s\nFROM busybox\nCOPY --from=s /etc/modt /m", '"/etc/modt": not found',
        ">>> COPY --from=s", hint="did you mean `etc/motd`?",
    ),
    "directory-onto-file": Row(B + "COPY dir /etc/motd", "`/etc/motd`", ">>> COPY dir"),
    "file-onto-directory": Row(B + "RUN mkdir -p /d/a.txt\nCOPY a.txt /d/", "`/d/a.txt`", ">>> COPY a.txt"),
    "below-a-file": Row(B + "COPY a.txt /etc/passwd/x/", "not a directory: `/etc/passwd`", ">>> COPY a.txt"),
    "link-loop": Row(B + "RUN ln -s /l1 /l2 && ln -s /l2 /l1\nCOPY a.txt /l1/x", "too many", ">>> COPY a.txt"),
    "unknown-owner": Row(B + "COPY --chown=nosuch a.txt /x", "unable to find user nosuch", ">>> COPY --chown"),
    "unknown-group": Row(B + "COPY --chown=0:nosuch a.txt /x", "unable to find group nosuch", ">>> COPY --chown"),
    "run-exits": Row(
        B + "RUN exit 3", 'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3', ">>> RUN exit 3"
    ),
    "run-command-missing": Row(B + "RUN nosuchcmd", "exit code: 127", ">>> RUN nosuchcmd"),
    "run-program-missing": Row(B + 'RUN ["nosuchcmd"]', "nosuchcmd", ">>> RUN"),
    "run-user": Row(
        B + "USER nosuch\nRUN true",
        "unable to find user nosuch: no matching entries in passwd file", ">>> RUN true",
    ),
    "run-group": Row(
        B + "USER root:nosuch\nRUN true",
        "unable to find group nosuch: no matching entries in group file", ">>> RUN true",
    ),
    "insecure": Row(B + "RUN --security=insecure true", "security.insecure is not allowed", hint="--allow"),
    "secret-required": Row(
        B + "RUN --mount=type=secret,id=nope,required true", "secret nope: not found", ">>> RUN", hint="--secret id=nope"
    ),
    "ssh-required": Row(
        B + "RUN --mount=type=ssh,required true", 'no SSH key "default" forwarded from the client', ">>> RUN", hint="--ssh"
    ),
    "secret-too-big": Row(
        B + "RUN --mount=type=secret,id=b true", "secret b too big. max size 500KiB", ">>> RUN",
        options={"secrets": {"b": "x" * (500 * 1024 + 1)}},
    ),
    "context-kind": Row(B, "unsupported context source zzz for foo", options={"contexts": {"foo": "zzz://x"}}),
    "context-reference": Row(
        "FROM foo\n", "invalid context specifier for foo: ", options={"contexts": {"foo": "docker-image://B@D"}}
    ),
    "workdir-over-file": Row(B + "RUN touch /f\nWORKDIR /f", "not a directory: `/f`", ">>> WORKDIR /f"),
    "epoch": Row(B, "invalid SOURCE_DATE_EPOCH: abc", options={"build_args": {"SOURCE_DATE_EPOCH": "abc"}}),
    "compression": Row(
        B, "lz9", options={"outputs": [["oci", {"dest": "/tmp/never.tar", "compression": "lz9"}]]}
    ),
    "trigger": Row("FROM onbuild\n", "unknown instruction: FOO", ">>> FROM onbuild"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_error(workshop: Workshop, row: Row, request: pytest.FixtureRequest) -> None:
    workshop.write({**FILES, **row.files})
    if "onbuild" in row.text:
        workshop.server.build(workshop.context, "FROM scratch\nONBUILD FOO x\n", tags=["onbuild"]).ok()
    text = None if "dockerfile" in row.options else row.text
    built = workshop.server.build(workshop.context, text, **row.options).refused(row.error)
    check_form(workshop, built)
    assert row.line in built.excerpt, str(built)
    assert row.hint in built.hint, str(built)


@pytest.mark.parametrize("line", ["FROM biulder", "FROM busybox\nCOPY --from=biulder /etc/motd /m"])
def test_an_image_that_is_likely_a_misspelt_stage_says_so(img: Img, tmp_path: Path, line: str) -> None:
    config = img.home / ".config" / "img"
    config.mkdir(parents=True)
    (config / "registries.toml").write_text('[registry."docker.io"]\nblocked = true\n')
    (tmp_path / "c").mkdir()
    done = img.build(write_context(tmp_path / "c", f"FROM busybox AS builder\n{line}\n")).refused(6, "docker.io")
    assert "hint: did you mean the stage `builder`?" in done.stderr
    assert f">>> {line.splitlines()[-1]}" in done.stderr
