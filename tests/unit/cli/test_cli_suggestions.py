"""What img says to a flag or a command that it does not have, and the flags of others that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img_core.cli._suggest import nearest

if TYPE_CHECKING:
    from unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["build", "--platfrom", "x", "."], "did you mean `--platform`?"),
        (["build", "--tagg", "x", "."], "did you mean `--tag`?"),
        (["build", "--plat", "x", "."], "did you mean `--platform`?"),
        (["build", "--helpp"], "did you mean `--help`?"),
        (["build", "--attest-", "x", "."], None),  # near to a flag that is refused
        (["build", "--squas", "."], None),  # near to one that is ignored
        (["ls", "--xyzzy"], None),
        (["images", "--fliter", "a"], "did you mean `--filter`?"),
        (["--stat", "x", "ls"], "did you mean `--state`?"),
        (["biuld", "."], "did you mean `img build`?"),
        (["comit"], None),  # near to a command of docker's
        (["image", "lss"], "did you mean `img image ls`?"),
        (["plugins", "enabel"], "did you mean `img plugins enable`?"),
        (["plugins", "xyzzy"], "see `img plugins --help`"),
        (["hlep"], "did you mean `img help`?"),
        (["run", "x"], "img builds images and runs no containers: "),
        (["bud", "."], "use `img build`"),
        (["build", "--timestamp", "0", "."], "use `--build-arg SOURCE_DATE_EPOCH=SECONDS`"),
        (["build", "--creds", "a:b", "."], "log in with `img login`"),
        (["pull", "--creds=a:b", "x"], "log in with `img login`"),
        (["build", "--ignorefile", "x", "."], "call the file `DOCKERFILE.dockerignore`"),
        (["build", "--volume", "/a:/b", "."], "use `--build-context NAME=DIR`"),
        (["build", "-v", "/a:/b", "."], "use `--build-context NAME=DIR`"),
        (["build", "--layers=false", "-t", "x", "."], "`--no-cache` runs all steps again"),
        (["rm", "--all"], "use `img rm '*'`"),
    ],
)
def test_a_word_that_is_unknown_is_met_with_what_was_meant(words: list[str], hint: str | None, run: Run) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.count("\nhint: ") == (hint is not None), done.stderr
    assert hint is None or f"\nhint: {hint}" in done.stderr


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("ab", ["ba", "b", "abc"], "abc"),  # equally near: the alphabet decides
        ("platfrom", ["cache-from", "platform"], "platform"),
        ("--tagg", ["--state", "--tag", "--target"], "--tag"),
        ("x", ["abc"], None),
        ("", ["abc"], None),
    ],
)
def test_the_nearest_word_is_taken(word: str, known: list[str], expected: str | None) -> None:
    assert nearest(word, known) == expected


@pytest.mark.parametrize(
    "words",
    [
        ["--layers"],
        ["--layers=true"],
        ["--skip-unused-stages=true"],
        ["--jobs", "2"],
        ["--jobs=2"],
        ["--tls-verify"],
        ["--tls-verify=false"],
        ["--format", "oci"],
        ["--format=docker"],
        ["--authfile", "auth.json"],
    ],
)
def test_flags_of_podman_that_mean_what_we_have_are_taken(words: list[str], run: Run, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("{}")
    (tmp_path / "Dockerfile").write_text("FROM scratch AS only")
    done = run("build", *words, "-t", "x", "--call=targets", ".")
    assert (done.returncode, "only (default)" in done.stdout) == (0, True), done.stderr


def test_the_file_of_authfile_is_the_one_that_is_read_and_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text('{"auths": {"r.example": {"auth": "am9lOng="}}}')
    listed = run("login", "--list", "--authfile", "auth.json")
    assert "r.example" in listed.stdout
    assert "joe" in listed.stdout
    assert "r.example" not in run("login", "--list").stdout
    for command in ("pull", "push", "build"):
        refused = run(command, "--authfile", "nope.json", "x")
        assert (refused.returncode, refused.stderr.splitlines()[0]) == (
            2,
            "Error: cannot read `nope.json`: no such file or directory",
        )


def test_verification_that_is_switched_off_is_our_flag_for_it(run: Run) -> None:
    for flag in ("--tls-verify=false", "--insecure-registry"):
        done = run("pull", flag, "127.0.0.1:1/x")
        assert done.returncode == 6, done.stderr


def test_podmans_image_format_chooses_the_media_types() -> None:
    from img_core.cli.build._outputs import parse_outputs

    assert [(output.type, dict(output.options)) for output in parse_outputs([], docker=True)] == [
        ("image", {"oci-mediatypes": "false"})
    ]
    kept = parse_outputs(["type=image,oci-mediatypes=true", "out"], docker=True)
    assert [output.options.get("oci-mediatypes") for output in kept] == ["true", None]
