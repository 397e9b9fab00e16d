"""The index of plugins is used while nothing changed, and never longer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from img_core.plugins import _discovery, _index
from img_core.plugins._discovery import discover, load_module
from img_core.spec.errors import PluginError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on sys.path with one distribution of one exporter."""
    directory = tmp_path / "site"
    directory.mkdir()
    install(directory, "demo", "demo_exporter.plugin")
    (directory / "demo_exporter.py").write_text("MARK = 1\n")
    monkeypatch.syspath_prepend(str(directory))
    yield directory
    sys.modules.pop("demo_exporter", None)


def install(site: Path, name: str, module: str, version: str = "1.0") -> Path:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[img.exporters]\n{name} = {module}\n")
    return info


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


ROW: _index.Row = ("exporter", "x", "x.plugin", "x", "1")


def test_what_was_saved_is_loaded_for_the_same_fingerprint_only(environment: dict[str, str]) -> None:
    _index.save(environment, "now", [ROW])
    assert _index.load(environment, "now") == [ROW]
    assert _index.load(environment, "later") is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"fingerprint": "now"}', '{"fingerprint": "now", "plugins": [[1]]}']
)
def test_a_damaged_index_is_no_index(environment: dict[str, str], content: str) -> None:
    _index.save(environment, "now", [ROW])
    (path,) = Path(environment["HOME"]).rglob("plugins-*.json")
    path.write_text(content)
    assert _index.load(environment, "now") is None


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _index.save({"HOME": str(tmp_path / "file")}, "now", [ROW])
    assert _index.load({"HOME": str(tmp_path / "file")}, "now") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_the_index_of_another_user_is_not_trusted(environment: dict[str, str]) -> None:
    _index.save(environment, "now", [ROW])
    (path,) = Path(environment["HOME"]).rglob("plugins-*.json")
    os.chown(path, 12345, 12345)
    assert _index.load(environment, "now") is None


def test_installing_changing_and_removing_show_at_once(site: Path) -> None:
    seen = {_index.fingerprint()}
    other = install(site, "other", "other.plugin")
    seen.add(_index.fingerprint())
    install(site, "other", "other.renamed")
    seen.add(_index.fingerprint())
    (other / "entry_points.txt").unlink()
    seen.add(_index.fingerprint())
    assert len(seen) == 4


def test_files_that_are_no_distributions_change_nothing(site: Path) -> None:
    before = _index.fingerprint()
    (site / "output.tar").write_text("x")
    assert _index.fingerprint() == before


def test_the_second_discovery_equals_the_first_and_does_not_read_metadata(
    site: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "img_builder", "img_exporter_tar.plugin", "9.9")
    first = discover(environment)
    (path,) = Path(environment["HOME"]).rglob("plugins-*.json")
    document = json.loads(path.read_text())
    assert ["exporter", "demo", "demo_exporter.plugin", "demo", "1.0"] in document["plugins"]
    monkeypatch.setattr(_discovery, "_list_entry_points", lambda: pytest.fail("it looks for them again"))
    assert discover(environment) == first


@pytest.mark.parametrize("value", ["demo_exporter", "demo_exporter : Part.inner", "demo_exporter:MARK [x,y]"])
@pytest.mark.parametrize("installed", [True, False], ids=["from the index", "found just now"])
def test_an_entry_point_is_imported_as_the_specification_says_however_it_was_found(
    site: Path, environment: dict[str, str], value: str, installed: bool
) -> None:
    install(site, "img_builder", "img_exporter_tar.plugin", "9.9")
    install(site, "demo", value)
    (site / "demo_exporter.py").write_text("MARK = 'mark'\nclass Part:\n    inner = 'part'\n")
    if installed:
        discover(environment)
    (found,) = discover(environment)["exporter", "demo"]
    expected = entry_points(group="img.exporters", name="demo")["demo"].load()
    assert load_module(found) is expected


def test_importing_needs_neither_stevedore_nor_metadata(site: Path, environment: dict[str, str]) -> None:
    install(site, "img_builder", "img_exporter_tar.plugin", "9.9")
    discover(environment)
    code = (
        "import sys\nfrom img_core.plugins._discovery import discover, load_module\n"
        f"print(load_module(discover({environment!r})['exporter', 'demo'][0]).MARK)\n"
        "sys.exit(sorted({'stevedore', 'importlib.metadata'} & set(sys.modules)) or 0)"
    )
    (site / "demo-1.0.dist-info" / "entry_points.txt").write_text("[img.exporters]\ndemo = demo_exporter\n")
    for expected in (1, 0):  # the first one looks around
        done = subprocess.run(
            [sys.executable, "-c", f"import sys\nsys.path[:] = {sys.path!r}\n{code}"], capture_output=True, text=True
        )
        assert done.stdout == "1\n", done.stderr
        assert done.returncode == expected, done.stderr


def test_a_plugin_from_the_index_that_is_broken_is_a_plugin_error(site: Path, environment: dict[str, str]) -> None:
    install(site, "img_builder", "img_exporter_tar.plugin", "9.9")
    install(site, "quits", "quits_at_import")
    (site / "quits_at_import.py").write_text("raise SystemExit(3)\n")
    discover(environment)
    with pytest.raises(PluginError, match=r"exporter:quits of quits 1\.0 cannot be imported"):
        load_module(discover(environment)["exporter", "quits"][0])
