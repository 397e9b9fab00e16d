"""``--build-context``: directories, images, OCI layouts, git and web, as base, in COPY and in mounts."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.git import Repository, git_daemon
from harness.host import need
from harness.img import Finished, Img, write_context
from harness.oci import ImageArchive
from harness.web import Page, WebServer, web_server
from img_core.testing.images import make_image, write_layout

pytestmark = pytest.mark.rootless


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def layout(tmp_path: Path, busybox_archive: Path) -> Path:
    """Give an unpacked OCI layout of the base image, tagged ``latest``."""
    with tarfile.open(busybox_archive) as archive:
        archive.extractall(tmp_path / "layout")
    return tmp_path / "layout"


def build(img: Img, directory: Path, dockerfile: str, *arguments: str, files: dict[str, str] | None = None) -> Finished:
    context = directory / "context"
    context.mkdir(exist_ok=True)
    write_context(context, dockerfile, dict(files or {}))
    return img.build(context, "--progress", "plain", *arguments)


def named(*contexts: str) -> list[str]:
    return [part for context in contexts for part in ("--build-context", context)]


@pytest.mark.parametrize("suffix", ["", ":latest"])
def test_a_layout_as_base_and_for_copy_and_mount(new_state, tmp_path: Path, layout: Path, suffix: str) -> None:  # type: ignore[no-untyped-def]
    img = new_state(seeded=False)
    dockerfile = (
        "FROM base\nCOPY --from=base /etc/motd /copied\n"
        "RUN --mount=from=base,target=/m cat /m/etc/motd > /mounted && cat /copied /mounted\n"
    )
    arguments = named(f"base=oci-layout://{layout}{suffix}")
    first = build(img, tmp_path, dockerfile, *arguments).ok()
    assert first.stderr.count("hello") == 2
    again = build(img, tmp_path, dockerfile, *arguments).ok()
    assert again.stderr.count("CACHED") >= 2
    assert "hello" not in again.stderr


def test_a_layout_by_digest_and_a_wrong_one(img: Img, tmp_path: Path, layout: Path, busybox_archive: Path) -> None:
    digest = ImageArchive(busybox_archive).digest
    build(img, tmp_path, "FROM x\nRUN true\n", *named(f"x=oci-layout://{layout}@{digest}")).ok()
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    build(img, tmp_path, "FROM x\nRUN true\n", *named(f"x=oci-layout://{layout}@{wrong}")).refused(1, "not found")


def test_a_tag_that_a_layout_lacks_is_named_with_those_it_has(img: Img, tmp_path: Path, layout: Path) -> None:
    result = build(img, tmp_path, "FROM x\nRUN true\n", *named(f"x=oci-layout://{layout}:nope"))
    result.refused(1, "no image `nope`")
    assert "hint: it has latest" in result.stderr


def test_a_damaged_layout_is_refused(new_state, tmp_path: Path, layout: Path) -> None:  # type: ignore[no-untyped-def]
    img = new_state(seeded=False)
    largest = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    assert build(img, tmp_path, "FROM x\nRUN true\n", *named(f"x=oci-layout://{layout}")).returncode == 1
    assert img.names() == []


def test_a_directory_that_is_no_layout_is_refused(img: Img, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = build(img, tmp_path, "FROM x\nRUN true\n", *named(f"x=oci-layout://{tmp_path / 'empty'}"))
    result.refused(2, "is not an OCI layout")


def test_st9_an_image_is_replaced_by_another_one_but_not_its_other_tags(img: Img, tmp_path: Path) -> None:
    build(img, tmp_path, "FROM busybox\nRUN echo mine > /mark\n").ok()
    dockerfile = "FROM scratch AS x\nFROM app\nRUN --mount=from=app:latest,target=/m cat /mark /m/mark\n"
    result = build(img, tmp_path, dockerfile, *named("app=docker-image://built")).ok()
    assert result.stderr.count("mine") >= 2
    other = build(img, tmp_path, "FROM built:other\n", *named("built=docker-image://busybox"))
    assert other.returncode != 0


def test_st8_a_context_wins_over_a_stage_of_its_name(img: Img, tmp_path: Path) -> None:
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "f").write_text("from the context\n")
    dockerfile = (
        "FROM busybox AS proj\nRUN echo from the stage > /f\nFROM busybox\nCOPY --from=proj /f /f\nRUN cat /f\n"
    )
    assert "from the context" in build(img, tmp_path, dockerfile, *named(f"proj={tmp_path / 'proj'}")).ok().stderr


def test_a_directory_as_base_is_a_layer_that_the_history_tells_of(img: Img, tmp_path: Path) -> None:
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "f").write_text("x")
    dockerfile = "FROM proj AS one\nLABEL a=b\nFROM one\nCOPY --from=one f /g\n"
    build(img, tmp_path, dockerfile, *named(f"proj={tmp_path / 'proj'}")).ok()
    image = ImageArchive(img.export("built", tmp_path / "out.tar"))
    assert "f" in image.tree()
    history = image.document["history"]
    assert [entry["created_by"] for entry in history if not entry.get("empty_layer")] == [
        "FROM proj",
        "COPY f /g # buildkit",
    ]
    assert len(image.document["rootfs"]["diff_ids"]) == 2


LAYER, EMPTY = {"created_by": "a layer"}, {"created_by": "none", "empty_layer": True}
HISTORIES = {
    "none": None,
    "too short": [EMPTY, LAYER],
    "as it should be": [LAYER, EMPTY, LAYER],
    "too long": [LAYER, LAYER, LAYER, EMPTY],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_whatever_history_a_base_has_the_image_has_an_entry_for_each_layer(
    img: Img, tmp_path: Path, history: list[dict[str, object]] | None
) -> None:
    base = make_image([{"a": b"1"}, {"b": b"2"}], history=history)
    write_layout(tmp_path / "base", {"latest": base})
    dockerfile = "FROM base\nLABEL a=b\nCOPY Dockerfile /c\n"
    build(img, tmp_path, dockerfile, *named(f"base=oci-layout://{tmp_path / 'base'}")).ok()
    image = ImageArchive(img.export("built", tmp_path / "out.tar")).document
    with_layer = [entry for entry in image["history"] if not entry.get("empty_layer")]
    assert len(with_layer) == len(image["rootfs"]["diff_ids"]) == 3
    assert with_layer[-1]["created_by"] == "COPY Dockerfile /c # buildkit"
    kept = [entry.get("created_by") for entry in image["history"]]
    assert kept[: len(history or ())] == [entry["created_by"] for entry in history or ()], "nothing is lost"


def test_ig21_a_named_directory_has_its_own_ignore_file(img: Img, tmp_path: Path) -> None:
    project = tmp_path / "proj"
    project.mkdir()
    (project / ".dockerignore").write_text("hidden\n")
    for name in ("hidden", "seen"):
        (project / name).write_text(name)
    dockerfile = "FROM busybox\nCOPY --from=proj / /copied/\nRUN --mount=from=proj,target=/m ls /m > /list && cat /list && ls /copied\n"
    log = (
        build(img, tmp_path, dockerfile, *named(f"proj={project}"), files={"hidden": "of the main context"}).ok().stderr
    )
    assert " seen" in log
    assert " hidden" not in log


def test_ig20_git_contexts_are_not_filtered(img: Img, tmp_path: Path) -> None:
    need("git")
    (tmp_path / "served").mkdir()
    with git_daemon(tmp_path / "served") as url:
        repository = Repository(tmp_path / "served", "r.git", tmp_path / "work")
        repository.write({".dockerignore": "f\n", "f": "content\n"}).commit()
        dockerfile = "FROM busybox\nCOPY --from=src /f /f\nRUN cat /f\n"
        log = build(img, tmp_path, dockerfile, *named(f"src={url}/r.git#main")).ok().stderr
    assert "content" in log


def test_a_web_context_is_unpacked_or_one_file(img: Img, tmp_path: Path, web: WebServer) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("inside")
        member.size = 7
        archive.addfile(member, io.BytesIO(b"tarball"))
    web.pages["/a.tgz"] = Page(buffer.getvalue())
    web.pages["/plain.txt"] = Page(b"just text")
    dockerfile = "FROM busybox\nCOPY --from=a /inside /i\nCOPY --from=p /plain.txt /p\nRUN cat /i /p\n"
    log = build(img, tmp_path, dockerfile, *named(f"a={web.url}/a.tgz", f"p={web.url}/plain.txt")).ok().stderr
    assert "tarballjust text" in log


def test_a_platform_variant_of_a_context_comes_first(img: Img, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    contexts = named(f"src={tmp_path / 'one'}", f"src::linux/amd64={tmp_path / 'two'}")
    log = build(img, tmp_path, "FROM busybox\nCOPY --from=src /f /f\nRUN cat /f\n", *contexts).ok().stderr
    assert " two" in log


@pytest.mark.parametrize(
    ("value", "words"),
    [("foo=zzz://x", "unsupported context source zzz for foo"), ("foo=/does/not/exist", "no such directory")],
)
def test_bad_contexts_are_refused(img: Img, tmp_path: Path, value: str, words: str) -> None:
    result = build(img, tmp_path, "FROM busybox\n", *named(value))
    assert result.returncode in (1, 2)
    assert words in result.stderr
