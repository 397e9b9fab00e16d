"""The contract suite that every exporter passes, and what is special here. Needs ``pip install -e '.[test]'``."""

from __future__ import annotations

from pathlib import Path

from img_exporter_example._listing import ListingExporter

from img_core.testing.contracts.driver import ModuleContract
from img_core.testing.contracts.exporter import ExporterContract
from img_core.testing.results import Recorder, host, make_result


class TestModule(ModuleContract):
    kind = "exporter"
    module = "img_exporter_example.plugin"


class TestContract(ExporterContract):
    exporter = ListingExporter


def test_every_file_is_a_line(tmp_path: Path) -> None:
    dest = tmp_path / "files.txt"
    exporter = ListingExporter(host(tmp_path), {"dest": str(dest), "directories": False})
    metadata = exporter.export(make_result(tmp_path / "result"), Recorder())
    lines = dest.read_text().splitlines()
    assert len(lines) == metadata["example.files"] > 0
    assert not any(line.startswith("d") for line in lines)
