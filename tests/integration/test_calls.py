"""``--check``, ``--call`` and ``--allow`` on the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.host import need
from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

DOCKERFILE = """\
# V which version
ARG V=1
# base the first one
FROM busybox AS base
ARG V
RUN --mount=type=secret,id=token,required true
RUN --mount=type=ssh true
# app what people want
FROM base AS app
CMD echo hello
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    return write_context(tmp_path / "c", DOCKERFILE)


def test_check_shows_findings_with_their_lines_and_fails(img: Img, context: Path) -> None:
    done = img.run("build", "--check", context)
    assert done.returncode == 1
    assert done.text.startswith("Check complete, 1 warning has been found!\n\nWARNING: JSONArgsRecommended\n")
    assert ">>> CMD echo hello" in done.text
    assert img.names() == ["docker.io/library/busybox:latest"]


def test_check_of_a_good_file_says_so(img: Img, context: Path) -> None:
    write_context(context, 'FROM busybox\nCMD ["sh"]\n')
    assert img.run("build", "--check", context).ok().text == "Check complete, no warnings found.\n"


def test_check_as_json_and_without_status(img: Img, context: Path) -> None:
    done = img.run("build", "--call=lint,format=json,ignorestatus=true", context).ok()
    (warning,) = json.loads(done.text)["warnings"]
    assert warning["ruleName"] == "JSONArgsRecommended"
    assert warning["location"]["ranges"] == [{"start": {"line": 10}, "end": {"line": 10}}]


def test_check_of_a_broken_file_is_its_error(img: Img, context: Path) -> None:
    write_context(context, "FRMO busybox\n")
    assert "did you mean FROM?" in img.run("build", "--check", context).refused(3, "unknown instruction").stderr


def test_outline_lists_arguments_secrets_and_sockets(img: Img, context: Path) -> None:
    text = img.run("build", "--call=outline", "--build-arg", "V=7", context).ok().text
    assert text.splitlines() == [
        "TARGET:      app",
        "DESCRIPTION: what people want",
        "",
        "BUILD ARG   VALUE   DESCRIPTION",
        "V           7       which version",
        "",
        "SECRET   REQUIRED",
        "token    true",
        "",
        "SSH       REQUIRED",
        "default   false",
    ]


def test_targets_marks_the_default(img: Img, context: Path) -> None:
    assert img.run("build", "--call=targets", context).ok().text.splitlines() == [
        "TARGET          DESCRIPTION",
        "base            the first one",
        "app (default)   what people want",
    ]
    found = json.loads(img.run("build", "--call=targets,format=json", context).ok().text)
    assert [target["name"] for target in found["targets"]] == ["base", "app"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--call=nonsense"], "unknown call `nonsense`"),
        (["--call=check,format=xml"], "unknown format `xml`"),
        (["--check", "--call=outline"], "cannot be used together"),
    ],
)
def test_bad_calls_are_refused(img: Img, context: Path, arguments: list[str], words: str) -> None:
    img.run("build", *arguments, context).refused(2, words)


def test_call_build_builds(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nRUN true\n")
    img.run("build", "--call=build", "-t", "x", context).ok()
    assert "docker.io/library/x:latest" in img.names()


def test_insecure_steps_need_leave(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nRUN --security=insecure true\n")
    result = img.build(context).refused(2, "security.insecure is not allowed")
    assert "hint: use `--allow security.insecure`" in result.stderr
    img.build(context, "--allow", "security.insecure").ok()


@pytest.mark.parametrize("executor", ["userns", "runc"])
def test_an_insecure_step_has_all_capabilities_whoever_the_user_is(img: Img, context: Path, executor: str) -> None:
    if executor == "runc":
        need("runc")
    step = "RUN --security=insecure"
    lines = (f"{step} grep ^CapEff /proc/self/status | sort -u > /caps", "USER 33:34", f"{step} touch /by-user")
    check = 'RUN [ "$(stat -c %u:%g /by-user)" = 33:34 ] && id -u | grep -x 33'
    sandboxed = "RUN ! touch /by-user-again && grep -x 'CapEff:.0000000000000000' /proc/self/status"
    same = f"{step} grep ^CapEff /proc/self/status | cmp - /caps"
    write_context(context, "\n".join(("FROM busybox", *lines, check, sandboxed, same, "")))
    img.build(context, "--allow", "security.insecure", "--executor", executor).ok()


def test_an_unknown_entitlement_is_refused(img: Img, context: Path) -> None:
    img.build(context, "--allow", "everything").refused(2, "invalid entitlement `everything`")


def test_a_cgroup_parent_is_ignored_with_a_warning(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nRUN true\n")
    assert "`--cgroup-parent` is ignored" in img.build(context, "--cgroup-parent", "x").ok().stderr


def test_check_knows_what_the_ignore_file_hides(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nCOPY a.log /a\n", {".dockerignore": "*.log\n", "a.log": ""})
    done = img.run("build", "--check", context)
    assert done.returncode == 1
    assert 'Attempting to Copy file "a.log" that is excluded by .dockerignore' in done.text


def test_standard_input_cannot_be_context_and_dockerfile(img: Img) -> None:
    img.run("build", "-t", "x", "-f", "-", "-").refused(2, "cannot both come from standard input")


def test_check_looks_for_sources_in_the_context(img: Img, context: Path, tmp_path: Path) -> None:
    (context / "lost").symlink_to("gone")
    (tmp_path / "other").mkdir()
    files: dict[str, bytes | str] = {"a.txt": "", "b.txt": "", "d/c": "", ".dockerignore": "b.txt\nd\n!d/c\n"}
    lines = [
        "FROM busybox", "COPY a.txx /x", "COPY lost /x", "COPY b.txt /x", "COPY --from=other f /x",
        "RUN --mount=source=nope,target=/m true", "COPY *.zzz a.txt d /fine/", "COPY --parents ./d/./c /fine/",
        "RUN --mount=source=d,target=/m true", "ADD https://h.invalid/x <<E /fine/", "E",
    ]  # fmt: skip
    write_context(context, "\n".join(lines), files)
    done = img.run("build", "--call=check,format=json", "--build-context", f"other={tmp_path / 'other'}", context)
    assert done.returncode == 1
    found = [(item["location"]["ranges"][0]["start"]["line"], item) for item in json.loads(done.text)["warnings"]]
    assert {item["ruleName"] for _, item in found} == {"CopyMissingFile"}
    assert [(line, item["detail"]) for line, item in found] == [
        (2, '"/a.txx": not found in the build context (did you mean `a.txt`?)'),
        (3, '"/lost": not found in the build context: `/lost` links to `gone`, which is not there'),
        (4, '"/b.txt": not found in the build context: excluded by line 1 of `.dockerignore`: `b.txt` '
            "(add `!b.txt` at the end of `.dockerignore`)"),
        (5, '"/f": not found in the build context'),
        (6, '"/nope": not found in the build context'),
    ]  # fmt: skip
