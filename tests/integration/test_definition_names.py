"""What a build definition and its ignore file are called where nobody names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build_server import Workshop

_LIST = "FROM busybox\nCOPY . /c\nRUN ls /c | sort | xargs echo has:\n"


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        (("Dockerfile",), "Dockerfile"),
        (("dockerfile",), "dockerfile"),
        (("Containerfile",), "Containerfile"),
        (("Containerfile", "secret", ".containerignore"), "Containerfile"),
        (("Containerfile", "secret", ".dockerignore"), "Containerfile"),
        (("Containerfile", "secret", "Containerfile.containerignore"), "Containerfile Containerfile.containerignore"),
        (("Containerfile", "secret", "Containerfile.dockerignore"), "Containerfile Containerfile.dockerignore"),
        # As docker reads a context that has both.
        (("Dockerfile", "kept", ".containerignore"), "Dockerfile kept"),
    ],
)
def test_the_usual_names_are_found(files: tuple[str, ...], listed: str, workshop: Workshop, tmp_path: Path) -> None:
    context = tmp_path / "box"
    context.mkdir()
    for name in files:
        (context / name).write_text("secret\n" if name.endswith("ignore") else _LIST)
    assert f"has: {listed}\n" in workshop.server.build(context, None).ok().log


@pytest.mark.parametrize(("other", "used"), [("Containerfile", "Dockerfile"), ("dockerfile", "Dockerfile")])
def test_dockers_name_comes_first(other: str, used: str, workshop: Workshop, tmp_path: Path) -> None:
    context = tmp_path / "box"
    context.mkdir()
    for name in (other, used):
        (context / name).write_text(f"FROM busybox\nRUN echo from:{name} of {other}\n")
    assert f"from:{used} of {other}\n" in workshop.server.build(context, None).ok().log


def test_without_any_the_error_names_dockers_and_how_to_name_another(workshop: Workshop, tmp_path: Path) -> None:
    context = tmp_path / "box"
    context.mkdir()
    built = workshop.server.build(context, None).refused("open Dockerfile: no such file or directory")
    assert (built.code, built.hint) == (3, "name another file with `-f`")


def test_what_cannot_be_read_may_be_left_out_in_a_file_with_a_name(workshop: Workshop) -> None:
    # A file of an owner who is not mapped: what belongs to us is readable to the root of our namespace, whatever its mode.
    built = workshop.server.build(Path("/etc"), "FROM busybox\nCOPY shadow /shadow\n").refused("cannot read `/shadow`")
    assert built.hint == "make it readable or exclude it in `.dockerignore`"
