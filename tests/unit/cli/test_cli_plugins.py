"""Plugins seen from the command line: listing, describing, and commands of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import environment

if TYPE_CHECKING:
    from unit.cli.conftest import Run

HELLO = """
import click
from img_core.spec import hookimpl

@click.command("hello", help="Say hello.")
@click.option("--name", default="you")
def hello(name):
    click.echo(f"hello {name}")

@hookimpl
def img_command():
    return hello
"""


OBEDIENT = """
import os
import click
from img_core.spec import hookimpl

@click.command()
@click.option("-d", "--own", is_flag=True)
@click.pass_obj
def hello(line, own):
    with line.client() as client:
        config = client.config
        click.echo("own" if own else f"{os.path.basename(config.state_directory)} {' '.join(config.no_plugins)}")

@hookimpl
def img_command():
    return hello
"""


@pytest.fixture
def with_hello(run: Run, tmp_path: Path) -> Run:
    """Return `run` with a plugin installed that adds ``img hello``."""
    site = tmp_path / "site"
    info = site / "img_command_hello-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "img_command_hello.py").write_text(HELLO)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: img-command-hello\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[img.commands]\nhello = img_command_hello\n")
    path = f"{site}:{environment(tmp_path)['PYTHONPATH']}"
    return lambda *words, **changes: run(*words, PYTHONPATH=path, **changes)


def test_a_plugin_adds_a_command(with_hello: Run) -> None:
    assert with_hello("hello", "--name", "world").stdout == "hello world\n"
    assert with_hello("-s", "x", "hello").stdout == "hello you\n"
    assert any(line.startswith("  hello ") for line in with_hello("--help").stdout.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ["-s", "there", "hello"],
        ["hello", "-s", "there"],
        ["-s", "here", "hello", "--state", "there"],
        ["hello", "--own"],
    ],
    ids=" ".join,
)
def test_global_flags_say_what_the_client_of_an_added_command_is(
    with_hello: Run, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "site" / "img_command_hello.py").write_text(OBEDIENT)
    done = with_hello(*words, "--no-plugin", "exporter:tar")
    assert done.stdout.split() == (["own"] if "--own" in words else ["there", "exporter:tar"])
    assert "--no-plugin" in with_hello("hello", "--help").stdout


def test_a_command_that_is_switched_off_is_unknown(with_hello: Run) -> None:
    for words, changes in (
        (["--no-plugin", "command:hello", "hello"], {}),
        (["hello"], {"IMG_DISABLED_PLUGINS": "command:hello"}),
    ):
        done = with_hello(*words, **changes)
        assert done.returncode == 2
        assert "'hello' is not an img command" in done.stderr


def test_a_broken_command_breaks_neither_help_nor_others(with_hello: Run, tmp_path: Path) -> None:
    (tmp_path / "site" / "img_command_hello.py").write_text("raise SystemExit(3)")
    assert with_hello("--help").returncode == 0
    assert with_hello("ls").returncode == 0
    done = with_hello("hello")
    assert done.returncode == 1
    assert "command:hello of img-command-hello 1.0 cannot be imported: SystemExit: 3" in done.stderr


def test_our_own_commands_cannot_be_replaced(with_hello: Run, tmp_path: Path) -> None:
    (tmp_path / "site/img_command_hello-1.0.dist-info/entry_points.txt").write_text(
        "[img.commands]\nls = img_command_hello\n"
    )
    assert with_hello("ls").stdout.startswith("NAME ")


def test_ls_and_info(run: Run) -> None:
    rows = [
        json.loads(line) for line in run("plugins", "ls", "--kind", "exporter", "--format", "json").stdout.splitlines()
    ]
    assert {row["kind"] for row in rows} == {"exporter"}
    assert {"tar", "oci", "docker", "local", "image"} <= {row["name"] for row in rows}
    done = run("plugins", "info", "exporter:tar")
    assert "  distribution  img-builder " in done.stdout
    assert "    dest=string" in done.stdout


def test_info_of_an_unknown_plugin(run: Run) -> None:
    done = run("plugins", "info", "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith('Error: plugin "nope": not found')


def test_a_disabled_plugin_is_listed_with_who_did_it(run: Run) -> None:
    done = run("plugins", "ls", "--no-plugin", "exporter:tar")
    row = next(line for line in done.stdout.splitlines() if "tar" in line.split("\t"))
    assert "disabled" in row
    assert row.endswith("by --no-plugin")


def test_a_bad_name_for_no_plugin_is_refused(run: Run) -> None:
    done = run("plugins", "ls", "--no-plugin", "tar")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2, "Error: `tar` in --no-plugin is not a plugin: expected `kind:name`, e.g. `executor:runc`",
    )  # fmt: skip


def status(run: Run, name: str, **changes: str) -> str:
    template = "{{.kind}}:{{.name}} {{.status}}"
    rows = dict(line.split() for line in run("plugins", "ls", "--format", template, **changes).stdout.splitlines())
    return rows[name]


def test_disable_and_enable_last(run: Run, tmp_path: Path) -> None:
    assert run("plugins", "disable", "exporter:tar", "exporter:oci").stdout == (
        "Disabled exporter:tar\nDisabled exporter:oci\n"
    )
    assert [status(run, f"exporter:{name}") for name in ("tar", "oci", "docker")] == ["disabled", "disabled", "ok"]
    assert run("plugins", "enable", "exporter:tar").stdout == "Enabled exporter:tar\n"
    assert [status(run, f"exporter:{name}") for name in ("tar", "oci")] == ["ok", "disabled"]
    assert [path.name for path in (tmp_path / ".config/img/plugins.d").iterdir()] == ["50-img-plugins.toml"]


def test_disabling_a_whole_kind(run: Run) -> None:
    run("plugins", "disable", "exporter:*")
    run("plugins", "enable", "exporter:tar")
    assert [status(run, f"exporter:{name}") for name in ("tar", "oci")] == ["ok", "disabled"]


def test_a_later_place_that_decides_otherwise_is_named(run: Run) -> None:
    done = run("plugins", "enable", "exporter:tar", IMG_DISABLED_PLUGINS="exporter:tar")
    assert done.returncode == 1
    assert done.stderr == "Error: exporter:tar stays off: IMG_DISABLED_PLUGINS decides\n"


def test_only_what_is_installed_can_be_switched(run: Run, tmp_path: Path) -> None:
    done = run("plugins", "disable", "exporter:nope")
    assert done.returncode == 1
    assert not (tmp_path / ".config").exists()
