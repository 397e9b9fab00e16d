"""The sources of trees against their contract: real servers on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.git import Repository, git_daemon
from harness.host import need
from harness.web import Page, web_server
from img_core.spec import SourceOp
from img_core.testing.contracts.source import TreeSourceContract
from img_source_git._source import GitSource
from img_source_http._source import WebSource


class TestWeb(TreeSourceContract):
    source_class = WebSource

    @pytest.fixture
    def url(self) -> Iterator[str]:
        with web_server() as server:
            server.pages |= {"/one": Page(b"one"), "/two": Page(b"two" * 100_000)}
            yield server.url

    @pytest.fixture
    def op(self, url: str) -> SourceOp:
        return SourceOp("https", f"{url}/one", (("filename", "name"),))

    @pytest.fixture
    def other_op(self, url: str) -> SourceOp:
        return SourceOp("https", f"{url}/two", (("filename", "name"),))

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
    def missing_op(self, url: str) -> SourceOp:
        return SourceOp("git", f"{url}#none")
