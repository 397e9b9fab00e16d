"""The sources against their contracts: real servers on loopback, directories with images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.git import Repository, git_daemon
from harness.host import need
from harness.web import Page, web_server
from img_core.spec import SourceOp
from img_core.testing.contracts.source import ImageSourceContract, TreeSourceContract
from img_core.testing.images import make_image, write_layout
from img_core.testing.processes import LARGE
from img_source_git._source import GitSource
from img_source_http._source import WebSource
from img_source_oci_layout._source import LayoutSource


class TestWeb(TreeSourceContract):
    source_class = WebSource

    @pytest.fixture
    def url(self) -> Iterator[str]:
        with web_server() as server:
            server.pages |= {"/one": Page(b"one" * 100), "/two": Page(b"two" * 100_000), "/large": Page(bytes(LARGE))}
            yield server.url

    @pytest.fixture
    def op(self, url: str) -> SourceOp:
        return SourceOp("https", f"{url}/one", (("filename", "name"),))

    @pytest.fixture
    def other_op(self, url: str) -> SourceOp:
        return SourceOp("https", f"{url}/two", (("filename", "name"),))

    @pytest.fixture
    def large_op(self, url: str) -> SourceOp:
        return SourceOp("https", f"{url}/large", (("filename", "name"),))

    @pytest.fixture
    def missing_op(self, url: str) -> SourceOp:
        return SourceOp("https", f"{url}/none", (("filename", "name"),))


class TestGit(TreeSourceContract):
    source_class = GitSource

    @pytest.fixture
    def url(self, tmp_path: Path) -> Iterator[str]:
        need("git")
        (tmp_path / "served").mkdir()
        repository = Repository(tmp_path / "served", "r.git", tmp_path / "work")
        repository.write({"f": "one", "d/x": "x", "l@": "f"}).commit()
        repository.git("tag", "one")
        repository.write({"f": "two"}).commit()
        with git_daemon(tmp_path / "served") as address:
            yield f"{address}/r.git"

    @pytest.fixture
    def op(self, url: str) -> SourceOp:
        return SourceOp("git", f"{url}#one")

    @pytest.fixture
    def other_op(self, url: str) -> SourceOp:
        return SourceOp("git", url)

    @pytest.fixture
    def large_op(self, tmp_path: Path, url: str) -> SourceOp:
        repository = Repository(tmp_path / "served", "large.git", tmp_path / "large-work")
        repository.git("config", "core.compression", "0")
        (repository.work / "large").touch()
        os.truncate(repository.work / "large", LARGE)
        repository.commit()
        return SourceOp("git", url.replace("r.git", "large.git"))

    @pytest.fixture
    def missing_op(self, url: str) -> SourceOp:
        return SourceOp("git", f"{url}#none")


class TestLayout(ImageSourceContract):
    source_class = LayoutSource

    @pytest.fixture
    def layout(self, tmp_path: Path) -> Path:
        images = {name: make_image([{"etc/name": name.encode()}]) for name in ("one", "two")}
        write_layout(tmp_path / "layout", images)
        return tmp_path / "layout"

    @pytest.fixture
    def op(self, layout: Path) -> SourceOp:
        return SourceOp("oci-layout", f"{layout}:one")

    @pytest.fixture
    def other_op(self, layout: Path) -> SourceOp:
        return SourceOp("oci-layout", f"{layout}:two")

    @pytest.fixture
    def large_op(self, tmp_path: Path) -> SourceOp:
        write_layout(tmp_path / "large", {"large": make_image([{"large": bytes(LARGE)}], compress=False)})
        return SourceOp("oci-layout", f"{tmp_path}/large:large")

    @pytest.fixture
    def missing_op(self, layout: Path) -> SourceOp:
        return SourceOp("oci-layout", f"{layout}:three")
