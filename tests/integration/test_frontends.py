"""``# syntax=``: built in, somebody else's installed frontend, or an error; nothing is ever fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

FRONTEND = '''
from typing import ClassVar

from img_core.spec import Frontend, hookimpl
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import FileOp, Vertex, WriteFile


class Greeting(Frontend):
    """One file with what stands below the first line."""

    name: ClassVar[str] = "example.com/greeting"

    def plan(self, request, resolver):
        text = request.definition.partition(b"\\n")[2]
        root = Vertex(FileOp((WriteFile("greeting", text, "/"),), has_base=False), (), name="greet")
        images = tuple(PlannedImage(p, root, {"os": p.os, "architecture": p.architecture}, ()) for p in request.platforms)
        return Plan(images)


@hookimpl
def img_frontend():
    return Greeting
'''


@pytest.fixture
def with_greeting(img: Img, tmp_path: Path) -> Img:
    """Give the command with a frontend of somebody else installed."""
    site = tmp_path / "site"
    info = site / "img_frontend_greeting-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "img_frontend_greeting.py").write_text(FRONTEND)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: img-frontend-greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[img.frontends]\nexample.com/greeting = img_frontend_greeting\n")
    return img.with_environment(PYTHONPATH=f"{site}:{img.environment()['PYTHONPATH']}")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    return tmp_path / "c"


@pytest.mark.parametrize("version", ["", ":1", "@sha256:" + "0" * 64])
def test_an_installed_frontend_is_selected_by_its_name(with_greeting: Img, context: Path, version: str) -> None:
    write_context(context, f"# syntax=example.com/greeting{version}\nhello, this is no Dockerfile\n")
    with_greeting.run("build", "-o", context / "out", context).ok()
    assert (context / "out" / "greeting").read_text() == "hello, this is no Dockerfile\n"


def test_a_build_argument_selects_it_and_switching_it_off_ends_that(with_greeting: Img, context: Path) -> None:
    write_context(context, "# anything\nhi")
    asked = ("build", "--build-arg", "BUILDKIT_SYNTAX=example.com/greeting", "-o", context / "out", context)
    with_greeting.run(*asked).ok()
    assert (context / "out" / "greeting").read_text() == "hi"
    off = with_greeting.with_environment(IMG_DISABLED_PLUGINS="frontend:example.com/greeting").run(*asked)
    assert "install a frontend plugin" in off.refused(3, "unknown frontend `example.com/greeting`").stderr


def test_other_files_are_dockerfiles_still(with_greeting: Img, context: Path) -> None:
    write_context(context, "# syntax=docker/dockerfile:1.7-labs\nFROM scratch\nCOPY <<E /f\nx\nE\n")
    with_greeting.run("build", "-o", context / "out", context).ok()
    assert (context / "out" / "f").read_text() == "x\n"


def test_a_frontend_that_is_not_installed_is_named(img: Img, context: Path) -> None:
    write_context(context, "# syntax=127.0.0.1:1/never/fetched:1\nFROM scratch\n")
    done = img.run("build", "-t", "x", context).refused(3, "unknown frontend `127.0.0.1:1/never/fetched:1`")
    assert ">>> # syntax=" in done.stderr
