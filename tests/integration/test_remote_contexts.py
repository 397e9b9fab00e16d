"""The main context from elsewhere: standard input, a git repository, a web address."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.git import Repository, git_daemon
from harness.host import need
from harness.img import Img
from harness.oci import ImageArchive
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


def archive(files: dict[str, str], *, mtime: int = 0) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.mtime = len(text), 0o640, 1234, mtime
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


def test_only_a_sub_directory_is_the_context_and_the_dockerfile_is_from_the_whole(
    img: Img, tmp_path: Path, repository: tuple[str, Repository]
) -> None:
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'o.tar'}", "--context-subdir", "sub", repository[0]).ok()
    assert names(tmp_path / "o.tar") == {"c/Dockerfile", "c/inner"}


def test_a_sub_directory_that_is_missing_or_a_link_is_refused(
    img: Img, tmp_path: Path, repository: tuple[str, Repository]
) -> None:
    repository[1].write({"out@": str(tmp_path)}).commit()
    for name in ("nope", "out", "out/served"):
        img.run("build", "-t", "x", "--context-subdir", name, repository[0]).refused(1, f"sub-directory `{name}`")


DATED = "FROM scratch\nARG SOURCE_DATE_EPOCH\nENV E=$SOURCE_DATE_EPOCH\nWORKDIR /w\n"
COMMITTED = 1600000000


def epoch_of(img: Img, tmp_path: Path, *arguments: str | Path) -> tuple[str, str, float]:
    """Build; return the variable, the date of the image, and the time of the directory that WORKDIR made."""
    img.run("build", "-o", f"type=oci,dest={tmp_path / 'o.tar'}", *arguments).ok()
    image = ImageArchive(tmp_path / "o.tar")
    variable = next(item for item in image.config["Env"] if item.startswith("E="))
    return variable.removeprefix("E="), image.document["created"], image.tree()["w"].mtime


def test_the_epoch_of_a_git_context_is_the_time_of_its_commit(
    img: Img, tmp_path: Path, repository: tuple[str, Repository]
) -> None:
    dated = (str(COMMITTED), "2020-09-13T12:26:40Z", COMMITTED)
    repository[1].write({"Dated": DATED, "Own": f"ARG SOURCE_DATE_EPOCH=context\n{DATED}"}).commit()
    assert epoch_of(img, tmp_path, "--build-arg", "SOURCE_DATE_EPOCH=context", "-f", "Dated", repository[0]) == dated
    assert epoch_of(img, tmp_path, "-f", "Own", repository[0]) == dated
    (tmp_path / "c").mkdir()
    by_name = ("--build-context", f"src={repository[0]}", "--build-arg", "SOURCE_DATE_EPOCH=src", tmp_path / "c")
    (tmp_path / "c" / "Dockerfile").write_text(DATED)
    assert epoch_of(img, tmp_path, *by_name) == dated


def test_the_epoch_of_a_stage_is_that_of_what_it_adds_and_dates_its_files(
    img: Img, tmp_path: Path, repository: tuple[str, Repository]
) -> None:
    (tmp_path / "c").mkdir()
    add = f"FROM scratch AS src\nADD {repository[0]} /\n"
    (tmp_path / "c" / "Dockerfile").write_text(f"ARG SOURCE_DATE_EPOCH=src\n{add}{DATED}COPY --from=src / /w/\n")
    assert epoch_of(img, tmp_path, tmp_path / "c") == (str(COMMITTED), "2020-09-13T12:26:40Z", COMMITTED)
    assert ImageArchive(tmp_path / "o.tar").tree()["w/file"].mtime == COMMITTED


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


@pytest.mark.parametrize(("modified", "epoch"), [("Mon, 01 Jan 2018 00:00:00 GMT", 1514764800), ("", 1500000000)])
def test_the_epoch_of_a_web_context_is_what_the_server_says_or_its_newest_file(
    img: Img, tmp_path: Path, web: WebServer, modified: str, epoch: int
) -> None:
    web.pages["/c.tar"] = Page(archive({"Dockerfile": DATED, "file": "x"}, mtime=1500000000), modified=modified)
    asked = ("--build-arg", "SOURCE_DATE_EPOCH=context", f"{web.url}/c.tar")
    assert epoch_of(img, tmp_path, *asked)[::2] == (str(epoch), epoch)
    assert epoch_of(img, tmp_path, *asked)[::2] == (str(epoch), epoch)  # known, and asked on condition


def test_a_directory_has_no_time_and_leaves_the_epoch_unset(img: Img, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "Dockerfile").write_text(DATED)
    started = int(time.time()) - 5
    variable, _, made = epoch_of(img, tmp_path, "--build-arg", "SOURCE_DATE_EPOCH=context", tmp_path / "c")
    assert variable == ""
    assert made >= started


def test_a_missing_web_context_is_a_status(img: Img, web: WebServer) -> None:
    img.run("build", "-t", "x", f"{web.url}/none.tar").refused(6, "invalid response status 404")
