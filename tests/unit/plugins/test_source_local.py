"""Local build contexts and their ignore files (docs/reference/dockerfile-cases.md, IG)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from img_core.spec.errors import DockerfileError, ImgError, NotFoundError
from img_core.spec.graph import SourceOp
from img_core.spec.host import Host
from img_core.spec.source import PinnedTree, SourceContext
from img_source_local._local import LocalSource


def pin(context: Path, dockerfile: Path | None = None) -> PinnedTree:
    ignore_files = {"context": f"{dockerfile}.dockerignore"} if dockerfile else {}
    host = Host("none", "/", "/")
    source = LocalSource(SourceContext(host, {"context": str(context)}, ignore_files, (".dockerignore",)))
    return source.pin(SourceOp("local", "context"), None)


def test_a_context_is_used_where_it_is(tmp_path: Path) -> None:
    pinned = pin(tmp_path)
    assert (pinned.directory, pinned.ignore, pinned.identity) == (str(tmp_path), None, f"local:{tmp_path}")


def test_the_ignore_file_of_the_context_is_read(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_bytes(b"*.log\n\xff\n")
    pinned = pin(tmp_path)
    assert (pinned.ignore, pinned.ignore_name) == ("*.log\n\udcff\n", ".dockerignore")


@pytest.mark.parametrize("content", ["own", ""])
def test_the_dockerfile_s_own_ignore_file_wins_even_if_empty(tmp_path: Path, content: str) -> None:
    (tmp_path / ".dockerignore").write_text("context")
    (tmp_path / "my.Dockerfile.dockerignore").write_text(content)
    pinned = pin(tmp_path, tmp_path / "my.Dockerfile")
    assert (pinned.ignore, pinned.ignore_name) == (content, "my.Dockerfile.dockerignore")


def test_without_one_the_context_s_counts(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("context")
    assert pin(tmp_path, tmp_path / "elsewhere/Dockerfile").ignore == "context"


def test_a_link_inside_the_context_is_followed(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.o")
    (tmp_path / ".dockerignore").symlink_to(".gitignore")
    assert pin(tmp_path).ignore == "*.o"


def test_a_link_out_of_the_context_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").symlink_to("/etc/hostname")
    with pytest.raises(DockerfileError, match=r"`\.dockerignore` is a link that leads nowhere inside"):
        pin(tmp_path)


def test_a_fifo_is_an_error_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".dockerignore")
    with pytest.raises(DockerfileError, match=r"not a regular file: `\.dockerignore`"):
        pin(tmp_path)


def test_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").mkdir()
    with pytest.raises(DockerfileError, match="not a regular file"):
        pin(tmp_path)


def test_a_huge_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("")
    os.truncate(tmp_path / ".dockerignore", 1 << 40)
    with pytest.raises(DockerfileError, match=r"larger than 8388608 bytes: `\.dockerignore`"):
        pin(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").touch(0)
    with pytest.raises(ImgError, match=r"cannot read `.*/\.dockerignore`: permission denied"):
        pin(tmp_path)


def test_a_context_that_is_no_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError, match="unable to prepare context: not a directory"):
        pin(tmp_path / "file")
    with pytest.raises(NotFoundError, match="unable to prepare context: no such file or directory"):
        pin(tmp_path / "nope")
