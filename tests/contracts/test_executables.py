"""Plugins that are programs, in shell, keep the contracts of their kinds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.tar_archives import TarSuite
from img_core.plugins import Found
from img_core.plugins._register import load_checked
from img_core.spec.graph import SourceOp
from img_core.spec.source import SourceContext
from img_core.testing.contracts.credentials import CredentialStoreContract
from img_core.testing.contracts.listener import ListenerContract
from img_core.testing.contracts.secret import SecretProviderContract
from img_core.testing.contracts.source import TreeSourceContract
from img_core.testing.processes import LARGE
from img_core.testing.results import ReadyResult
from img_core.testing.running import run_suites
from img_core.testing.suites import suites_for

if missing := [word for word in ("jq", "flock", "sha256sum", "tar") if shutil.which(word) is None]:
    pytest.skip(f"this host lacks {', '.join(missing)}", allow_module_level=True)

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests/harness/executables"


def program(kind: str, name: str, directory: Path = SAMPLES) -> Any:  # Any: a driver class
    path = str(directory / f"img-{kind}-{name}")
    return load_checked(Found(kind, name, path, path, ""))


class TestExporter(TarSuite):
    """The example of the documents."""

    exporter = program("exporter", "gnutar", ROOT / "contrib/executables")
    options: ClassVar[dict[str, Any]] = {"format": "gnu"}

    def owners(self, dest: Path, result: ReadyResult) -> None:
        """They are those of our files: the program knows nothing of the tree's."""

    def attributes(self, dest: Path, result: ReadyResult) -> None:
        """GNU's form has none."""


DRIVERS = [ROOT / "contrib/executables/img-exporter-gnutar", *sorted(SAMPLES.glob("img-[!l]*"))]


@pytest.mark.parametrize("path", DRIVERS, ids=lambda path: path.name)
def test_the_command_that_checks_plugins_takes_programs_for_modules(path: Path) -> None:
    kind, name = path.name.removeprefix("img-").split("-", 1)
    found = Found(kind, name, str(path), str(path), "")
    outcomes = list(run_suites(lambda: suites_for(found, load_checked(found), {}, {}), select="TestModule"))
    assert len(outcomes) >= 5
    assert [(outcome.claim, outcome.reason) for outcome in outcomes if outcome.status != "passed"] == []


class TestSource(TreeSourceContract):
    source_class = program("source", "shelf")

    @pytest.fixture(autouse=True)
    def shelf(self, tmp_path: Path, context: SourceContext) -> None:
        for name in ("one", "two"):
            (tmp_path / "shelf" / name).mkdir(parents=True)
            (tmp_path / "shelf" / name / "file").write_text(name)
        assert isinstance(context.host.environment, dict)
        context.host.environment["SHELF"] = str(tmp_path / "shelf")

    @pytest.fixture
    def op(self) -> SourceOp:
        return SourceOp("shelf", "shelf://one")

    @pytest.fixture
    def other_op(self) -> SourceOp:
        return SourceOp("shelf", "shelf://two")

    @pytest.fixture
    def large_op(self, tmp_path: Path) -> SourceOp:
        (tmp_path / "shelf/large").mkdir()
        (tmp_path / "shelf/large/file").touch()
        os.truncate(tmp_path / "shelf/large/file", LARGE)
        return SourceOp("shelf", "shelf://large")

    @pytest.fixture
    def missing_op(self) -> SourceOp:
        return SourceOp("shelf", "shelf://three")


class TestCredentials(CredentialStoreContract):
    store_class = program("credentials", "drawer")


class TestSecret(SecretProviderContract):
    provider_class = program("secret", "shelf")

    def put(self, content: bytes, environment: dict[str, str]) -> Mapping[str, Any]:
        Path("shelf").mkdir(exist_ok=True)
        Path("shelf/token").write_bytes(content)
        return {"place": str(Path("shelf").resolve())}

    def missing(self) -> Mapping[str, Any]:
        return {"key": "not-there"}


class TestListener(ListenerContract):
    module = str(SAMPLES / "img-listener-quiet")
