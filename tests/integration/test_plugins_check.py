"""``img plugins check``: the contract suites from the command line, for plugins of ours and of strangers."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.img import Finished, Img

pytestmark = pytest.mark.rootless

EXAMPLE = Path(__file__).resolve().parents[2] / "contrib/img-exporter-example"
Install = Callable[[str, str, str], Img]

EXPORTER = '''
import os
from img_core.spec import Exporter, hookimpl
class Demo(Exporter):
    """Writes a word."""
    name, needs_layers = "demo", False
    schema = {"type": "object", "additionalProperties": False, "required": ["word"], "properties": {
        "dest": {"type": "string", "description": "file"}, "word": {"type": "string", "description": "what is written"}}}
    def export(self, result, progress):
        BODY
        progress.status("written")
        return {}
@hookimpl
def img_exporter():
    return Demo
'''
IN_PLACE = "open(self.options['dest'], 'w').write(self.options['word'] * 10000)"
LISTENER = "from img_core.spec import hookimpl\n@hookimpl\ndef img_event(event):\n    BODY\n"
COMMAND = """
import click
from img_core.spec import hookimpl
@click.command()
def greet():
    \"\"\"Say hello.\"\"\"
@hookimpl
def img_command():
    return greet
"""


@pytest.fixture
def install(img: Img, tmp_path: Path) -> Install:
    """Return a function that installs the plugin *name* with its source into *group*."""
    site = tmp_path / "site"

    def do(group: str, name: str, source: str) -> Img:
        info = site / f"their_{name}-1.5.dist-info"
        info.mkdir(parents=True)
        (site / f"their_{name}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: their-{name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = their_{name}\n")
        return img.with_environment(PYTHONPATH=f"{site}:{img.environment()['PYTHONPATH']}")

    return do


def outcomes(done: Finished) -> dict[str, dict[str, str]]:
    return {row["claim"]: row for row in map(json.loads, done.text.splitlines())}


@pytest.mark.parametrize(
    "name",
    [
        "exporter:tar",
        "exporter:oci,compression=zstd",
        "credentials:dockerconfig",
        "progress:plain",
        "executor:userns -k (exit_code or umask) and full",
        "snapshotter:native -k nothing_on_nothing",
        "frontend:dockerfile -k names",
        "registry:oci",
        "cache:local --sample export=dest={empty} --sample import=src={empty} -k (accepts or options or place or empty)",
    ],
)
def test_our_plugins_keep_their_contracts(img: Img, name: str) -> None:
    words = shlex.split(name.replace("(", "'(").replace(")", ")'")) if "cache" in name else name.split(" ", 2)
    done = img.run("plugins", "check", *words).ok()
    assert done.text.splitlines()[-1].startswith(f"{words[0].partition(',')[0]} keeps its contract: ")


def test_what_a_suite_misses_is_named_and_can_be_given(img: Img, tmp_path: Path) -> None:
    rows = outcomes(img.run("plugins", "check", "frontend:dockerfile", "--format", "json").ok())
    reason = rows["history is about this graph"]["reason"]
    assert reason == "needs `--sample definition=…`: a file with what it builds from, which makes at least one layer"
    samples = []
    for name, text in (("definition", "FROM scratch\nCOPY a /\n"), ("other", "FROM scratch\nCOPY b /\n")):
        (tmp_path / name).write_text(text)
        samples += ["--sample", f"{name}={tmp_path / name}"]
    rows = outcomes(img.run("plugins", "check", "frontend:dockerfile", *samples, "--format", "json").ok())
    assert {row["status"] for row in rows.values()} == {"passed"}
    done = img.run("plugins", "check", "frontend:dockerfile", "--sample", "defnition=x")
    done.refused(2, "the suite of a frontend wants no sample `defnition`")


def test_a_promise_that_is_broken_is_named(install: Install) -> None:
    img = install("img.exporters", "demo", EXPORTER.replace("BODY", IN_PLACE))
    done = img.run("plugins", "check", "exporter:demo,word=x", "--format", "json")
    done.refused(1, "exporter:demo does not keep its contract: ")
    rows = outcomes(done)
    assert rows["cancel leaves the old state"]["status"] == "failed"
    assert rows["constructor touches nothing"]["status"] == "passed"
    assert "AssertionError" in rows["cancel leaves the old state"]["details"]


@pytest.mark.parametrize("text", ["exporter:demo", "exporter:demo,wrod=x"])
def test_options_are_checked_as_for_a_build(install: Install, text: str) -> None:
    img = install("img.exporters", "demo", EXPORTER.replace("BODY", "pass"))
    rows = outcomes(img.run("plugins", "check", text, "--format", "json"))
    assert [row["reason"] for row in rows.values()] == [
        "option `word` is required for type=demo" if text.endswith("demo") else "unknown option `wrod` for type=demo"
    ]


@pytest.mark.parametrize("end", ["os._exit(7)", "os.kill(os.getpid(), 9)", "raise SystemExit"])
@pytest.mark.parametrize("when", ["import", "work"])
def test_a_plugin_that_ends_the_process_ends_only_the_check(
    install: Install, tmp_path: Path, when: str, end: str
) -> None:
    source = EXPORTER.replace("BODY", "pass" if when == "import" else end)
    img = install("img.exporters", "demo", f"import os\n{end if when == 'import' else ''}\n" + source)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = img.with_environment(TMPDIR=str(temporary)).run("plugins", "check", "exporter:demo,word=x")
    done.refused(1, "exporter:demo does not keep its contract: ")
    assert list(temporary.iterdir()) == []


def test_listeners_and_commands_are_checked(install: Install) -> None:
    img = install("img.plugins", "silent", LISTENER.replace("BODY", "pass"))
    img.run("plugins", "check", "silent").ok()
    img = install("img.plugins", "loud", LISTENER.replace("BODY", "print(event)"))
    rows = outcomes(img.run("plugins", "check", "loud", "--format", "json"))
    assert [claim for claim, row in rows.items() if row["status"] == "failed"] == [
        "it writes nothing to standard output"
    ]
    img = install("img.commands", "greet", COMMAND)
    assert "command:greet keeps its contract" in img.run("plugins", "check", "greet").ok().text


def test_modules_that_print_or_start_something_are_noticed(install: Install) -> None:
    body = "import threading, asyncio\nprint('hello')\nthreading.Thread(target=threading.Event().wait, args=(5,)).start()\n"
    img = install("img.plugins", "busy", body + LISTENER.replace("BODY", "pass"))
    rows = outcomes(img.run("plugins", "check", "busy", "--format", "json", "-k", "importing"))
    assert {row["status"] for row in rows.values()} == {"failed"}
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("nothing",), 1, 'plugin "nothing": not found'),
        (("exporter:nothing",), 1, 'plugin "exporter:nothing": not found'),
        (("oci",), 2, "`oci` may be any of `exporter:oci`, `registry:oci`"),
        (("tar", "-k", "no_such_test"), 2, "no test matches `-k no_such_test`"),
        (("tar", "--sample", "x"), 2, "`--sample x` must be NAME=VALUE"),
        (("--no-plugin", "exporter:tar", "tar"), 1, "exporter `tar` is switched off by --no-plugin"),
    ],
)
def test_mistakes_are_told_in_a_line(img: Img, words: tuple[str, ...], code: int, text: str) -> None:
    img.run("plugins", "check", *words).refused(code, text)


def test_the_example_passes(img: Img, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "example")
    info = tmp_path / "example" / "img_exporter_example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: img-exporter-example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[img.exporters]\nexample = img_exporter_example.plugin\n")
    path = f"{tmp_path / 'example'}:{img.environment()['PYTHONPATH']}"
    img.with_environment(PYTHONPATH=path).run("plugins", "check", "example").ok()
