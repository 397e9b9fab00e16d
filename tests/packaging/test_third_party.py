"""A plugin of somebody else: found after ``pip install``, gone after ``pip uninstall``, harmless when it is broken."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from packaging_support import Environment


@pytest.fixture
def with_example(installed: Environment, example_wheel: Path) -> Environment:
    installed.install(example_wheel)
    return installed


def test_it_is_found_with_its_origin_and_options(with_example: Environment) -> None:
    done = with_example.img("plugins", "info", "exporter:example")
    assert "distribution  img-exporter-example 1.0" in done.stdout
    assert "status        ok" in done.stdout
    assert "dest=string" in done.stdout


def test_its_options_are_checked_like_those_of_ours(with_example: Environment) -> None:
    context = with_example.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    done = with_example.img("build", "-o", "type=example,dset=x", "context")
    if "user namespace" in done.stderr:
        pytest.skip("needs user namespaces")
    assert done.returncode == 2
    assert "Error: unknown option `dset` for type=example\nhint: did you mean `dest`?\n" in done.stderr


@pytest.mark.rootless
def test_it_exports_a_build(with_example: Environment) -> None:
    context = with_example.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /etc/\n")
    done = with_example.img(
        "build", "-o", "type=example,dest=files.txt,directories=false", "--metadata-file", "m.json", "context"
    )
    assert done.returncode == 0, done.stderr
    assert (with_example.home / "files.txt").read_text().endswith(" /etc/Dockerfile\n")
    assert json.loads((with_example.home / "m.json").read_text())["example.files"] == 1


def test_uninstalling_it_leaves_the_rest_working(with_example: Environment) -> None:
    before = with_example.statuses()
    with_example.pip("uninstall", "--yes", "img-exporter-example")
    after = with_example.statuses()
    assert set(before) - set(after) == {"exporter:example"}
    assert set(after.values()) == {"ok"}


def test_it_can_be_switched_off_by_the_administrator_of_a_user(with_example: Environment) -> None:
    toggles = with_example.home / ".config" / "img" / "plugins.d"
    toggles.mkdir(parents=True)
    (toggles / "10-mine.toml").write_text('disabled = ["exporter:example"]\n')
    assert with_example.statuses()["exporter:example"] == "disabled"
    assert f"by {toggles}/10-mine.toml" in with_example.img("plugins", "info", "example").stdout


def test_a_broken_one_breaks_no_other_command(with_example: Environment) -> None:
    module = with_example.site_packages / "img_exporter_example" / "plugin.py"
    module.write_text("raise SystemExit('broken on purpose')\n")
    statuses = with_example.statuses()
    assert {name for name, status in statuses.items() if status != "ok"} == {"exporter:example"}
    assert statuses["exporter:example"] == "broken"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    (with_example.home / "x.tar").write_bytes(buffer.getvalue())
    assert with_example.img("import", "x.tar", "app").returncode == 0
    assert "app" in with_example.img("ls").stdout
    assert os.listdir(with_example.home / ".local/share/img/blobs/sha256") != []
