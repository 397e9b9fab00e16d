"""Transfers tell how they get on: real registries, real commands, on terminals and in logs."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.img import Img, write_context
from harness.pseudo_terminal import TerminalSession
from harness.web import Page, web_server
from img_core.spec.values import Platform
from img_core.testing.faulty_registry import Exchange, FaultyRegistry
from img_core.testing.images import SmallImage, make_image
from img_core.testing.registry import DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = [pytest.mark.rootless, pytest.mark.registry]

SIZE = 4 << 20


@pytest.fixture
def empty(tmp_path: Path) -> Img:
    """Give the command with a state directory that does not exist yet."""
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home")


@pytest.fixture
def image() -> SmallImage:
    """Give an image with one small layer and one of some megabytes that cannot be compressed."""
    return make_image([{"a": b"1"}, {"b": os.urandom(SIZE)}], platform=Platform("linux", "amd64"))


def told(stderr: str) -> list[str]:
    """Return what was told of transfers, without digests and times: ``4.00MiB / 4.00MiB done``."""
    lines = [line for line in stderr.splitlines() if "sha256:" in line]
    return [re.sub(r"^#\d+ |sha256:[0-9a-f]{64} |\d+\.\ds |\(.*\)", "", line).strip() for line in lines]


@pytest.fixture
def slow(faulty_registry: FaultyRegistry, image: SmallImage) -> Iterator[tuple[str, threading.Event]]:
    """Give the reference of *image* in a registry that stops in the middle of its layer, and what makes it go on."""
    go_on = threading.Event()
    content = image.blobs[image.layers[1].digest]

    def hesitate(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(content))})
        exchange.write(content[:1_900_000])
        time.sleep(0.3)  # news come ten times a second: the next bytes are told of
        exchange.write(content[1_900_000:2_000_000])
        go_on.wait(60)
        exchange.write(content[2_000_000:])

    faulty_registry.rule(f"GET .*{image.layers[1].digest}", hesitate)
    faulty_registry.add("app", "1", image)
    yield f"{faulty_registry.address}/app:1", go_on
    go_on.set()


def test_a_pull_shows_how_far_it_is(empty: Img, slow: tuple[str, threading.Event]) -> None:
    reference, go_on = slow
    with TerminalSession(empty, "pull", reference, columns=90) as session:
        half = session.wait_for(lambda screen: any("[======" in line for line in screen.lines)).lines
        go_on.set()
        assert session.end() == 0
        lines = session.screen.everything
    moving = next(line for line in half if "[======" in line)
    assert re.fullmatch(
        r" => => sha256:[0-9a-f]{12} \[=+> *\] (1\.[89]\d|2\.00)MiB / 4\.\d\dMiB( [\d.]+([KM]i)?B/s)? +\d+\.\ds", moving
    )
    assert lines[0] == f"Pulling {reference}..."
    assert re.fullmatch(r"\[\+\] Pulling \d+\.\ds \(1/1\) FINISHED", lines[1])
    assert sum(line.startswith(" => => sha256:") for line in lines) == 2
    assert [line.split(":")[0] for line in lines[-2:]] == ["Pulled", "Size"]
    assert session.screen.unknown == []


def test_ctrl_c_ends_a_pull_and_leaves_a_clean_terminal(empty: Img, slow: tuple[str, threading.Event]) -> None:
    with TerminalSession(empty, "pull", slow[0], columns=90) as session:
        session.wait_for(lambda screen: any("[======" in line for line in screen.lines))
        session.press(b"\x03")
        assert session.end() == 130
        lines = session.screen.lines
        assert any(line.startswith(f" => CANCELED pulling {slow[0]}") for line in lines)
        assert lines[-1] == "Error: canceled"
        assert session.screen.cursor == (len(lines), 0)


def test_a_log_tells_how_each_blob_came_to_be_there(empty: Img, registry: DockerRegistry, image: SmallImage) -> None:
    source, target = registry.add("org/app", "1", image), f"{registry.address}/org/copy:1"
    first = empty.run("pull", source).ok()
    assert [line.split()[-1] for line in told(first.stderr)] == ["done", "done"]
    assert "4.00MiB / 4.00MiB done" in told(first.stderr)
    assert [line.split()[-1] for line in told(empty.run("pull", source).ok().stderr)] == ["reused", "reused"]
    empty.run("tag", source, target).ok()
    assert [line.split()[-1] for line in told(empty.run("push", target).ok().stderr)] == ["mounted"] * 3
    assert [line.split()[-1] for line in told(empty.run("push", target).ok().stderr)] == ["exists"] * 3
    assert empty.run("push", "-q", target).ok().stderr == ""
    assert '"id":"pushing sha256:' in empty.run("push", "--progress=rawjson", target).ok().stderr


def test_a_build_tells_what_it_fetches_unpacks_and_pushes(
    img: Img, registry: DockerRegistry, image: SmallImage, tmp_path: Path
) -> None:
    source, target = registry.add("org/app", "1", image), f"{registry.address}/other:1"
    with web_server() as web:
        web.pages["/file"] = Page(b"x" * 5000)
        dockerfile = f"FROM {source}\nADD {web.url}/file /\nCOPY --from=busybox /bin/busybox /c/\n"
        built = img.build(write_context(tmp_path / "context", dockerfile), "--push", tag=target).ok()
        assert f"downloading {web.url}/file 4.88KiB / 4.88KiB" in built.stderr
    lines = told(built.stderr)
    assert lines.count("4.00MiB / 4.00MiB done") == 1
    assert any(line.startswith("extracting 4.00MiB / 4.00MiB") for line in lines)
    assert sum(line.startswith("pushing") and line.endswith("mounted") for line in lines) == 2
    assert sum(line.startswith("pushing ") and " / " in line and line.endswith("done") for line in lines) == 3


def test_save_and_load_draw_only_on_terminals(img: Img, tmp_path: Path) -> None:
    archive = tmp_path / "out.tar"
    with TerminalSession(img, "save", "-o", archive, "busybox") as session:
        assert session.end() == 0
        assert session.screen.lines[0].startswith("[+] Saving ")
    assert archive.exists()
    with TerminalSession(img, "load", "-i", archive) as session:
        assert session.end() == 0
        assert session.screen.lines[0].startswith("[+] Loading ")
        assert session.screen.lines[-1] == "Loaded image: busybox:latest"
    with TerminalSession(img, "save", "busybox", stdout=archive) as session:
        assert session.end() == 0
        assert session.written == ""  # the other end of a pipe may draw there
    assert img.run("load", "-i", archive).ok().stderr == ""
    assert "archive" in img.run("load", "-i", archive, "--progress=plain").ok().stderr
