"""Which frontend plans: that of ``# syntax=`` (nothing is ever fetched), of ``--frontend``, or whose name the definition has."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

NAME = "example.com/greeting"

FRONTEND = '''
from typing import ClassVar

from img_core.spec import Frontend, hookimpl
from img_core.spec.frontend import IgnoreNames, Plan, PlannedImage
from img_core.spec.graph import Copy, FileOp, SourceOp, Vertex, WriteFile


class Greeting(Frontend):
    """One file with what stands below the first line, and the context below ``/context``."""

    name: ClassVar[str] = "example.com/greeting"
    definition_names = ("Greeting",)
    schema = {"properties": {"shout": {"type": "boolean"}}}

    @classmethod
    def ignore_names(cls, definition):
        return IgnoreNames((f"{definition}.ignore",), (".greetignore",))

    def plan(self, request, resolver):
        text = request.definition.partition(b"\\n")[2]
        text = text.upper() if self.options.get("shout") else text
        actions = WriteFile("greeting", text, "/"), Copy(input=0, sources=("/",), destination="/context/")
        context = Vertex(SourceOp("local", "context"), name="context")
        root = Vertex(FileOp(actions, has_base=False), (context,), name="greet")
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


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        (None, ["Greeting", "a.log", "b"]),
        (".dockerignore", [".dockerignore", "Greeting", "a.log", "b"]),
        (".greetignore", [".greetignore", "Greeting", "b"]),
        ("Greeting.ignore", ["Greeting", "Greeting.ignore", "b"]),
    ],
)
def test_a_named_frontend_has_names_of_its_own(
    with_greeting: Img, context: Path, tmp_path: Path, ignore: str | None, kept: list[str]
) -> None:
    for name, text in {"Greeting": "#\nhi", "a.log": "", "b": ""}.items():
        (context / name).write_text(text)
    if ignore is not None:
        (context / ignore).write_text("*.log\n")
    out = tmp_path / "out"
    done = with_greeting.run("build", "--progress=plain", "--frontend", NAME, "-o", out, context).ok()
    assert (out / "greeting").read_text() == "hi"
    assert sorted(path.name for path in (out / "context").iterdir()) == kept
    assert "[internal] load build definition from Greeting\n" in done.stderr


def test_a_definition_that_is_missing_or_on_standard_input_has_its_name(
    with_greeting: Img, context: Path, tmp_path: Path
) -> None:
    write_context(context, "FROM scratch\n")
    asked = ("build", "--frontend", NAME, "-o", tmp_path / "out")
    with_greeting.run(*asked, context).refused(3, "failed to read greeting: open Greeting: no such file or directory")
    with_greeting.run(*asked, "-", stdin=b"#\nhi").ok()
    assert [path.name for path in (tmp_path / "out" / "context").iterdir()] == ["Greeting"]


@pytest.mark.parametrize(
    ("files", "arguments", "greets"),
    [
        (("Dockerfile",), (), False),
        (("Greeting",), (), True),
        (("Dockerfile", "Greeting"), (), False),
        (("Dockerfile", "Greeting"), ("-f", "Greeting"), True),
        (("Greeting.x",), ("-f", "Greeting.x"), False),
        (("Greeting.x",), ("-f", "Greeting.x", "--frontend", "example.com/greeting"), True),
    ],
)
def test_among_configured_ones_the_name_of_the_definition_decides(
    with_greeting: Img, context: Path, tmp_path: Path, files: tuple[str, ...], arguments: tuple[str, ...], greets: bool
) -> None:
    (tmp_path / "config" / "img").mkdir(parents=True)
    (tmp_path / "config" / "img" / "config.toml").write_text(f'[order]\nfrontend = ["dockerfile", "{NAME}"]\n')
    for name in files:
        (context / name).write_text("FROM scratch\nCOPY <<E /f\nx\nE\n")
    given = [context / text if text in files else text for text in arguments]
    configured = with_greeting.with_environment(XDG_CONFIG_HOME=str(tmp_path / "config"))
    configured.run("build", *given, "-o", tmp_path / "out", context).ok()
    assert (tmp_path / "out" / "greeting").exists() is greets


def test_options_of_a_frontend(with_greeting: Img, context: Path, tmp_path: Path) -> None:
    write_context(context, "FROM scratch\n")
    (context / "Greeting").write_text("#\nhi")
    asked = ("build", "-o", tmp_path / "out", "--frontend", NAME)
    with_greeting.run(*asked, "--opt", "shout=true", context).ok()
    assert (tmp_path / "out" / "greeting").read_text() == "HI"
    with_greeting.run(*asked, "--opt", "loud=1", context).refused(2, "unknown option `loud`")
    with_greeting.run(*asked, "--opt", "shout=maybe", context).refused(2, "non-bool value specified for shout")
    with_greeting.run(*asked, "--opt", "shout", context).refused(2, "`shout`")
    with_greeting.run("build", "--opt", "shout=true", context).refused(2, "unknown option `shout`")
    with_greeting.run("build", "--frontend", "greting", context).refused(2, "no frontend is named `greting`")
