"""The main context from elsewhere: standard input, a git repository, a web address."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.git import Repository, git_daemon
from harness.host import need
from harness.img import Img
from harness.web import Page, WebServer, web_server

pytestmark = pytest.mark.rootless

DOCKERFILE = "FROM scratch\nCOPY . /c/\n"


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def img(new_state) -> Img:  # type: ignore[no-untyped-def]
    """No base image is needed here."""
    return new_state(seeded=False)


def archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid = len(text), 0o640, 1234
            out.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "file"
        out.addfile(link)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    need("zstd")
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


def names(result: Path) -> set[str]:
    with tarfile.open(result) as files:
        return {member.name.rstrip("/") for member in files if not member.isdir()}


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd], ids=["plain", "gzip", "bzip2", "xz", "zstd"]
)
def test_an_archive_on_standard_input_in_every_compression(
    img: Img, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(archive({"Dockerfile": DOCKERFILE, "file": "x"}))
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", "-", stdin=data).ok()
    with tarfile.open(tmp_path / "o.tar") as files:
        file, link = files.getmember("c/file"), files.getmember("c/link")
    assert (file.mode, file.uid, link.linkname) == (0o640, 0, "file")


def test_a_dockerfile_of_another_name_inside_the_archive(img: Img, tmp_path: Path) -> None:
    data = archive({"sub/Other": "FROM scratch\nCOPY file /only\n", "file": "x"})
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", "-f", "sub/Other", "-", stdin=data).ok()
    assert names(tmp_path / "o.tar") == {"only"}


def test_a_missing_dockerfile_in_the_archive_is_named(img: Img) -> None:
    img.run("build", "-t", "x", "-f", "Nope", "-", stdin=archive({"file": "x"})).refused(3, "`Nope`", "no such file")


def test_a_damaged_archive_is_refused(img: Img) -> None:
    data = gzip.compress(archive({"Dockerfile": DOCKERFILE, "file": "x" * 100_000}))
    assert img.run("build", "-t", "x", "-", stdin=data[: len(data) // 2]).returncode == 1
    assert img.names() == []


def test_an_archive_cannot_write_outside(img: Img, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        out.addfile(link)
        member = tarfile.TarInfo("out/canary")
        member.size = 1
        out.addfile(member, io.BytesIO(b"x"))
    img.run("build", "-t", "x", "-", stdin=buffer.getvalue())
    assert not (tmp_path / "canary").exists()


def test_a_dockerfile_alone_on_standard_input_sees_only_itself(img: Img, tmp_path: Path) -> None:
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", "-", stdin=DOCKERFILE.encode()).ok()
    assert names(tmp_path / "o.tar") == {"c/Dockerfile"}


def test_standard_input_with_a_dockerfile_and_a_directory_as_context(img: Img, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "file").write_text("x")
    img.run(
        "build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", "-f", "-", tmp_path / "c", stdin=DOCKERFILE.encode()
    ).ok()
    assert names(tmp_path / "o.tar") == {"c/file"}


# ------------------------------------------------------------------------------------------------------------------ git


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[str, Repository]]:
    need("git")
    (tmp_path / "served").mkdir()
    with git_daemon(tmp_path / "served") as url:
        made = Repository(tmp_path / "served", "r.git", tmp_path / "work")
        made.write({"Dockerfile": DOCKERFILE, "Other": "FROM scratch\nCOPY file /other\n", "file": "x"})
        made.write({".dockerignore": "file\n", "sub/Dockerfile": "FROM scratch\nCOPY . /sub/\n", "sub/inner": "y"})
        made.commit()
        yield f"{url}/r.git", made


def test_a_git_repository_is_the_context_without_its_ignore_file(
    img: Img, tmp_path: Path, repository: tuple[str, Repository]
) -> None:
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", repository[0]).ok()
    assert {"c/file", "c/sub/inner", "c/Dockerfile"} <= names(tmp_path / "o.tar")
    assert not [name for name in names(tmp_path / "o.tar") if ".git/" in name]


def test_a_sub_directory_of_a_ref_is_the_context(img: Img, tmp_path: Path, repository: tuple[str, Repository]) -> None:
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", f"{repository[0]}#main:sub").ok()
    assert names(tmp_path / "o.tar") == {"sub/Dockerfile", "sub/inner"}


def test_another_dockerfile_is_looked_up_in_the_repository(
    img: Img, tmp_path: Path, repository: tuple[str, Repository]
) -> None:
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", "-f", "Other", repository[0]).ok()
    assert names(tmp_path / "o.tar") == {"other"}


def test_the_git_directory_is_kept_on_request(img: Img, tmp_path: Path, repository: tuple[str, Repository]) -> None:
    keep = ("--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", *keep, repository[0]).ok()
    assert "c/.git/HEAD" in names(tmp_path / "o.tar")


def test_a_second_build_of_a_repository_is_cached(img: Img, tmp_path: Path, repository: tuple[str, Repository]) -> None:
    arguments = ("build", "-t", "x", "--progress", "plain", repository[0])
    img.run(*arguments).ok()
    assert "CACHED" in img.run(*arguments).ok().stderr


def test_a_repository_that_does_not_answer_is_named(img: Img) -> None:
    img.run("build", "-t", "x", "git://127.0.0.1:1/r.git").refused(6, "git://127.0.0.1:1/r.git", "refused")


def test_a_dockerfile_of_a_repository_cannot_be_a_link_to_the_host(
    img: Img, tmp_path: Path, repository: tuple[str, Repository]
) -> None:
    (tmp_path / "secret").write_text("FROM scratch\n")
    repository[1].write({"evil/Dockerfile@": str(tmp_path / "secret")}).commit()
    img.run("build", "-t", "x", f"{repository[0]}#main:evil").refused(3, "no such file")


# ------------------------------------------------------------------------------------------------------------------ web


def test_an_archive_of_a_web_server_is_the_context(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/c.tar.gz"] = Page(gzip.compress(archive({"Dockerfile": DOCKERFILE, "file": "x", ".dockerignore": "*"})))
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", f"{web.url}/c.tar.gz").ok()
    assert {"c/file", "c/Dockerfile"} <= names(tmp_path / "o.tar")


def test_text_of_a_web_server_is_the_dockerfile(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/d/my.Dockerfile?x=1"] = Page(b"FROM scratch\nCOPY <<EOF /made\nhello\nEOF\n")
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", f"{web.url}/d/my.Dockerfile?x=1").ok()
    assert names(tmp_path / "o.tar") == {"made"}


def test_a_dockerfile_of_a_web_server_for_a_directory(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/my.Dockerfile"] = Page(DOCKERFILE.encode())
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "file").write_text("x")
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", "-f", f"{web.url}/my.Dockerfile", tmp_path / "c").ok()
    assert names(tmp_path / "o.tar") == {"c/file"}


def test_a_missing_web_context_is_a_status(img: Img, web: WebServer) -> None:
    img.run("build", "-t", "x", f"{web.url}/none.tar").refused(6, "invalid response status 404")
