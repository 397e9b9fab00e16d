"""Plugins of others that print, raise, hang or end the process: what that does to a command, and whose fault is told."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

Install = Callable[..., Img]

NOISE = """
import os, subprocess
def noise():
    print("NOISE by print")
    os.write(1, b"NOISE by write\\n")
    subprocess.run(["echo", "NOISE by a program"], check=True)
noise()
"""
LISTENER = """
from img_core.spec import hookimpl
CALLS = 0
@hookimpl
def img_event(event):
    global CALLS
    CALLS += 1
    BODY
"""
EXPORTER = """
from img_core.spec import Exporter, hookimpl
class Demo(Exporter):
    name, needs_layers, schema = "demo", False, {"type": "object", "properties": {}}
    def check(self): pass
    def export(self, result, progress):
        BODY
        return {}
@hookimpl
def img_exporter():
    return Demo
"""
SLEEPER = "import threading, time; threading.Thread(target=time.sleep, args=(120,)).start()"


@pytest.fixture
def install(img: Img, tmp_path: Path) -> Install:
    """Return a function that installs the plugin *name* of the distribution ``their-NAME`` and returns the command that sees it."""
    site = tmp_path / "site"
    site.mkdir()

    def do(group: str, name: str, source: str, body: str = "pass") -> Img:
        module = f"their_{name}"
        (site / f"{module}.py").write_text(source.replace("BODY", textwrap.indent(body, "        ").lstrip()))
        info = site / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: their-{name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
        path = f"{site}:{img.environment()['PYTHONPATH']}"
        return img.with_environment(PYTHONPATH=path, TMPDIR=str(img.home))  # there are reports of what fails

    return do


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", "FROM busybox\nRUN echo one\nCOPY file /\n", {"file": "x"})


def test_what_a_plugin_prints_is_no_data(install: Install, context: Path) -> None:
    img = install("img.plugins", "loud", NOISE + LISTENER, "noise()")
    done = img.build(context, "-q").ok()
    assert done.text.startswith("sha256:")
    assert done.text.count("\n") == 1
    assert all(f"NOISE by {what}" in done.stderr for what in ("print", "write", "a program"))
    archive = img.build(context, "-o", "type=tar,dest=-", tag="").ok()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        assert "file" in tar.getnames()
    for line in img.run("plugins", "ls", "--format", "json").ok().text.splitlines():
        json.loads(line)


def test_a_command_of_a_plugin_prints_where_it_likes(install: Install) -> None:
    source = "import click\nfrom img_core.spec import hookimpl\n@click.command()\ndef greet():\n    print('hello')\n"
    img = install("img.commands", "greet", source + "@hookimpl\ndef img_command():\n    return greet\n")
    assert img.run("greet").ok().text == "hello\n"


def test_the_reader_of_standard_output_may_still_go_away(img: Img) -> None:
    with subprocess.Popen(
        img.command("save", "busybox"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=img.environment()
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert (command.stderr.read(), command.wait(60)) == (b"", 141)


@pytest.mark.parametrize(
    "error", ["ValueError('bad value')", "AssertionError()", "KeyError('key')", "SystemError('x')"]
)
def test_an_exception_of_a_plugin_names_its_distribution(install: Install, context: Path, error: str) -> None:
    img = install("img.exporters", "demo", EXPORTER, f"raise {error}")
    done = img.build(context, "-o", "type=demo", tag="")
    done.refused(1, "plugin exporter:demo of their-demo 1.5 failed: ", error.partition("(")[0])
    assert "`--no-plugin exporter:demo`, or tell the authors of their-demo" in done.stderr
    assert "internal error" not in done.stderr


def test_a_bug_of_ours_below_a_call_of_a_plugin_is_told_with_the_plugin(install: Install, context: Path) -> None:
    img = install("img.exporters", "demo", EXPORTER, "import json; json.loads('{')")
    img.build(context, "-o", "type=demo", tag="").refused(1, "their-demo 1.5 failed: JSONDecodeError")


def test_a_failing_listener_warns_once(install: Install, context: Path) -> None:
    img = install("img.plugins", "weak", LISTENER, "raise ValueError(f'call {CALLS}')")
    done = img.build(context, "--no-cache").ok()
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == ["warning: plugin listener:weak of their-weak 1.5 failed: ValueError: call 1 (in `img_event`)"]


def test_a_listener_that_hangs_delays_neither_the_steps_nor_the_end(install: Install, context: Path) -> None:
    img = install("img.plugins", "stuck", LISTENER, "import time; time.sleep(120)")
    started = time.monotonic()
    done = img.build(context, "--no-cache").ok()
    assert time.monotonic() - started < 60
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "warning: plugin listener:stuck of their-stuck 1.5 is not waited for, it is too slow; "
    )


def test_wrappers_surround_the_other_listeners(install: Install, context: Path, tmp_path: Path) -> None:
    wrapper = f"""
from img_core.spec import hookimpl
def note(text):
    with open({str(tmp_path / "notes")!r}, "a") as file:
        file.write(text + "\\n")
@hookimpl(wrapper=True)
def img_step_finished(vertex):
    note("before")
    result = yield
    note("after")
    return result
"""
    install("img.plugins", "around", wrapper)
    inner = wrapper.partition("@hookimpl")[0] + "@hookimpl\ndef img_step_finished(vertex):\n    note('inside')\n"
    img = install("img.plugins", "inside", inner)
    img.build(context, "--no-cache").ok()
    notes = (tmp_path / "notes").read_text().split()
    assert len(notes) >= 6
    assert notes == ["before", "inside", "after"] * (len(notes) // 3)


def test_a_thread_of_a_plugin_does_not_hold_the_command(install: Install, context: Path) -> None:
    img = install("img.plugins", "slow", SLEEPER + LISTENER)
    started = time.monotonic()
    img.build(context).ok()
    code = f"from img_core.api import build; print(build({str(context)!r}, tags=['a'], state={str(img.state)!r}).names)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=img.environment(), capture_output=True, text=True, check=False
    )
    assert "a:latest" in done.stdout, done.stderr
    assert time.monotonic() - started < 60


def test_a_caller_of_the_library_learns_whose_exception_it_was(install: Install, context: Path) -> None:
    img = install("img.exporters", "demo", EXPORTER, "raise ValueError('bad value')")
    code = f"""
from img_core.api import Output, build
from img_core.spec.errors import PluginError
try:
    build({str(context)!r}, outputs=[Output("demo")], state={str(img.state)!r})
except PluginError as err:
    print(err.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=img.environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "plugin exporter:demo of their-demo 1.5 failed: ValueError: bad value\n", done.stderr


@pytest.mark.parametrize("probe", [(), ("--probe",)])
@pytest.mark.parametrize("end", ["os._exit(7)", "os.kill(os.getpid(), 9)", "raise SystemExit(3)"])
def test_who_ends_the_process_when_imported_costs_only_its_row(
    install: Install, end: str, probe: tuple[str, ...]
) -> None:
    img = install("img.exporters", "deadly", f"import os; {end}\n")
    rows = [json.loads(line) for line in img.run("plugins", "ls", "--format", "json", *probe).ok().text.splitlines()]
    found = {row["name"]: row for row in rows if row["kind"] == "exporter"}
    assert found["deadly"]["status"] == "broken"
    assert "their-deadly 1.5" in found["deadly"]["reason"]
    assert found["tar"]["status"] == "ok"
    img.run("doctor")


@pytest.mark.parametrize("name", ["ls", "images", "image", "help"])
def test_a_command_that_nobody_can_call_is_not_ok(install: Install, name: str) -> None:
    source = "import click\nfrom img_core.spec import hookimpl\n@click.command()\ndef other():\n    pass\n"
    img = install("img.commands", name, source + "@hookimpl\ndef img_command():\n    return other\n")
    rows = [json.loads(line) for line in img.run("plugins", "ls", "--format", "json").ok().text.splitlines()]
    (row,) = [row for row in rows if row["kind"] == "command"]
    assert (row["status"], row["reason"]) == ("unsupported", f"`img {name}` means something else already")


# --- the environment of the interpreter ---------------------------------------------------------------------------------


@pytest.fixture
def poison(tmp_path: Path) -> Path:
    """A directory with modules that end whoever imports them, as an environment module of another Python version would."""
    directory = tmp_path / "poison"
    directory.mkdir()
    for name in ("click", "pluggy", "httpx", "sqlite3", "tomllib"):
        (directory / f"{name}.py").write_text("raise SystemExit('poisoned')\n")
    return directory


def test_the_program_does_not_import_what_the_environment_offers(img: Img, poison: Path, context: Path) -> None:
    program = Path(sys.executable).with_name("img")
    environment = {**img.environment(), "PYTHONPATH": str(poison), "PYTHONSTARTUP": str(poison / "click.py")}
    command = [str(program), "-s", str(img.state), "build", "-q", "-t", "x", str(context)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sha256:")


def test_programs_that_it_starts_have_the_users_environment(img: Img, poison: Path, tmp_path: Path) -> None:
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    (helpers / "docker-credential-noting").write_text(
        f"#!/bin/sh\necho $PYTHONPATH >{tmp_path}/seen\necho '{{}}'\nexit 1\n"
    )
    (helpers / "docker-credential-noting").chmod(0o755)
    (img.home / ".docker").mkdir(parents=True)
    (img.home / ".docker/config.json").write_text('{"credHelpers": {"localhost:1": "noting"}}')
    environment = {**img.environment(), "PYTHONPATH": str(poison), "PATH": f"{helpers}:{os.environ['PATH']}"}
    program = Path(sys.executable).with_name("img")
    subprocess.run([str(program), "-s", str(img.state), "logout", "localhost:1"], env=environment, check=False)
    assert (tmp_path / "seen").read_text() == f"{poison}\n"
