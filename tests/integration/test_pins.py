"""Pins: `img lock` and `--locked`, `--offline`, and listeners that decide about sources, on real builds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

from harness.fixtures import NewState
from harness.git import Repository, git_daemon
from harness.img import Finished, Img, write_context
from harness.web import Page, WebServer, web_server
from img_core.api import Client
from img_core.spec.errors import NotFoundError
from img_core.spec.values import Platform
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import make_image, make_index

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.rootless

SCHEMA = Path(__file__).parents[2] / "docs/reference/lock.schema.json"
OLD, NEW = make_image([{"version": b"old\n"}]), make_image([{"version": b"new\n"}])
TOOLS = make_image([{"tool": b"tool\n"}])


@dataclass
class World:
    """A registry, a web server and a git server, and a Dockerfile that takes something from each."""

    registry: FaultyRegistry
    web: WebServer
    repository: Repository
    git: str
    context: Path

    @property
    def text(self) -> str:
        host = self.registry.address
        return (
            f"FROM {host}/tools AS unused\nFROM {host}/base:1\nCOPY --from={host}/tools:latest /tool /tool\n"
            f"ADD {self.web.url}/file /file\nADD {self.git}/r.git#main /repository\nCOPY Dockerfile /\n"
        )

    def move(self) -> None:
        """Let the tag and the branch mean something else."""
        self.registry.add("base", "1", NEW)
        self.repository.write({"content": "new"}).commit()

    def requests(self) -> int:
        return len(self.registry.requests) + len(self.web.requests)


@pytest.fixture
def world(faulty_registry: FaultyRegistry, tmp_path: Path) -> Iterator[World]:
    faulty_registry.add("base", "1", OLD)
    faulty_registry.add("tools", "latest", TOOLS)
    (tmp_path / "served").mkdir()
    with web_server() as web, git_daemon(tmp_path / "served") as git:
        web.pages["/file"] = Page(b"from the web\n")
        repository = Repository(tmp_path / "served", "r.git", tmp_path / "work")
        repository.write({"content": "old"}).commit()
        made = World(faulty_registry, web, repository, git, tmp_path / "context")
        write_context(made.context, made.text)
        yield made


def built(img: Img, context: Path, out: Path, *arguments: str) -> Finished:
    return img.run("build", "-o", f"type=local,dest={out}", *arguments, context)


def test_locked_takes_what_tags_and_branches_meant_when_they_were_locked(
    world: World, new_state: NewState, tmp_path: Path
) -> None:
    img = new_state("first", seeded=False)
    img.run("lock", world.context).ok()
    lock = world.context / "Dockerfile.lock"
    document = json.loads(lock.read_text())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    host, commit = world.registry.address, world.repository.git("rev-parse", "HEAD")
    assert document["sources"][f"docker-image://{host}/base:1"] == OLD.top.digest
    assert document["sources"][f"docker-image://{host}/tools:latest"] == TOOLS.top.digest
    assert document["sources"][f"{world.git}/r.git#main"] == commit
    assert document["sources"][f"{world.web.url}/file"].startswith("sha256:")
    assert len(document["sources"]) == 4
    before = lock.read_bytes()
    img.run("lock", world.context).ok()
    assert lock.read_bytes() == before
    world.move()
    for name, arguments, version in (("second", ("--locked",), "old"), ("third", (), "new")):
        out = tmp_path / name
        built(new_state(name, seeded=False), world.context, out, *arguments).ok()
        assert (out / "version").read_text() == f"{version}\n"
        assert (out / "repository/content").read_text() == version


def test_a_url_whose_content_changed_is_refused(world: World, new_state: NewState, tmp_path: Path) -> None:
    img = new_state("first", seeded=False)
    img.run("lock", world.context).ok()
    world.web.pages["/file"] = Page(b"something else\n")
    built(img, world.context, tmp_path / "out", "--locked").refused(1, "digest mismatch")


def test_what_is_not_locked_is_refused_by_name(world: World, img: Img, tmp_path: Path) -> None:
    img.run("lock", world.context).ok()
    added = {
        "image": (f"FROM {world.registry.address}/other:1\n", "/other:1"),
        "image of COPY": (f"{world.text}COPY --from={world.registry.address}/other /a /b\n", "/other:latest"),
        "url": (f"{world.text}ADD {world.web.url}/another /\n", "/another"),
        "git": (f"{world.text}ADD {world.git}/r.git#v2 /\n", "r.git#v2"),
        "digest": (f"FROM {world.registry.address}/base@{NEW.top.digest}\n", NEW.top.digest),
    }
    for text, name in added.values():
        (world.context / "Dockerfile").write_text(text)
        done = built(img, world.context, tmp_path / "out", "--locked")
        assert done.returncode in (1, 3, 4), str(done)
        assert name in done.error, str(done)
        assert "is not in the lock file" in done.error, str(done)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("not json", "not valid JSON"),
        ("[]", "is not a lock file"),
        ('{"version": 1, "sources": {"a": 1}}', "is not a lock file"),
        ('{"version": 9, "sources": {}}', "has version 9"),
    ],
)
def test_a_lock_file_that_is_none_is_refused(content: str | None, words: str, img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY Dockerfile /\n")
    if content is not None:
        (context / "other.lock").write_text(content)
    done = img.run("build", f"--locked={context / 'other.lock'}", context)
    assert done.returncode in (1, 2), str(done)
    assert words in done.error


def test_an_index_is_locked_once_for_all_platforms(img: Img, faulty_registry: FaultyRegistry, tmp_path: Path) -> None:
    index = make_index([make_image(platform=Platform("linux", name)) for name in ("amd64", "arm64")])
    faulty_registry.add("both", "1", index)
    context = write_context(tmp_path / "context", f"FROM {faulty_registry.address}/both:1\nCOPY Dockerfile /\n")
    done = img.run("lock", "--platform=linux/amd64,linux/arm64", "-o", "-", context).ok()
    assert json.loads(done.text)["sources"] == {f"docker-image://{faulty_registry.address}/both:1": index.top.digest}


def test_a_password_of_a_url_is_in_no_lock_file(world: World, img: Img) -> None:
    url = f"http://user:hidden@{world.web.address}/file"
    (world.context / "Dockerfile").write_text(f"FROM scratch\nADD {url} /file\n")
    img.run("lock", world.context).ok()
    assert "hidden" not in (world.context / "Dockerfile.lock").read_text()
    img.run("build", "--locked", world.context).ok()


NO_SOCKETS = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["WATCHED"], "a") as log:
            print(event, arguments, file=log)
        raise RuntimeError("a socket")
sys.addaudithook(watch)
"""


def watched(img: Img, directory: Path) -> tuple[Img, Path]:
    """Return the command in a world where nothing can connect, and the file that tells who tried."""
    hooks = directory / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(NO_SOCKETS)
    path = os.pathsep.join([str(hooks), *filter(None, [os.environ.get("PYTHONPATH")])])
    return img.with_environment(PYTHONPATH=path, WATCHED=str(directory / "tried")), directory / "tried"


def test_offline_builds_from_what_is_known_and_opens_no_socket(world: World, img: Img, tmp_path: Path) -> None:
    img.run("lock", world.context).ok()  # for the commit: what a branch is, only its server knows
    built(img, world.context, tmp_path / "first").ok()
    world.move()
    asked = world.requests()
    alone, tried = watched(img, tmp_path)
    built(alone, world.context, tmp_path / "second", "--offline", "--locked").ok()
    assert not tried.exists(), tried.read_text()
    assert world.requests() == asked
    assert (tmp_path / "second/version").read_text() == "old\n"
    done = built(alone, world.context, tmp_path / "third")  # the same without it would have asked
    assert done.returncode != 0
    assert tried.exists()


def test_offline_names_what_is_missing(world: World, img: Img, tmp_path: Path) -> None:
    host = world.registry.address
    alone, tried = watched(img, tmp_path)
    missing = {
        f"FROM {host}/base:1\nCOPY Dockerfile /\n": f"{host}/base:1",
        f"FROM scratch\nCOPY --from={host}/tools:latest /tool /\n": f"{host}/tools:latest",
        f"FROM scratch\nADD {world.web.url}/file /\n": f"{world.web.url}/file",
        f"FROM scratch\nADD {world.git}/r.git#main /\n": f"{world.git}/r.git",
    }
    for text, name in missing.items():
        (world.context / "Dockerfile").write_text(text)
        done = built(alone, world.context, tmp_path / "out", "--offline")
        assert done.returncode not in (0, 125), str(done)
        assert f"{name}" in done.error, str(done)
        assert "is not kept here, and with `--offline`" in done.error, str(done)
    assert not tried.exists(), tried.read_text()
    assert world.requests() == 0
    img.run("build", "--offline", "--pull", world.context).refused(2, "exclude each other")


def test_offline_pushes_nothing(world: World, img: Img, tmp_path: Path) -> None:
    alone, tried = watched(img, tmp_path)
    (world.context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    done = alone.run("build", "--offline", "--push", "-t", f"{world.registry.address}/made:1", world.context)
    done.refused(6, "`--offline`", world.registry.address)
    assert not tried.exists(), tried.read_text()


def test_offline_asks_no_cache_in_a_registry(world: World, img: Img, tmp_path: Path) -> None:
    alone, tried = watched(img, tmp_path)
    (world.context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    cache = f"--cache-from=type=registry,ref={world.registry.address}/cache"
    done = built(alone, world.context, tmp_path / "out", "--offline", cache).ok()
    assert "`--offline`" in done.stderr, str(done)
    assert not tried.exists(), tried.read_text()


def test_a_program_locks_and_builds_what_is_locked(world: World, new_state: NewState, tmp_path: Path) -> None:
    client = Client(state=new_state("api", seeded=False).state)
    lock = client.lock(world.context)
    assert lock.path == str(world.context / "Dockerfile.lock")
    Path(lock.path).write_text(lock.text)
    world.move()
    output = {"type": "local", "dest": str(tmp_path / "out")}
    client.build(world.context, outputs=output, locked=True)
    assert (tmp_path / "out/version").read_text() == "old\n"
    client.build(world.context, outputs={**output, "dest": str(tmp_path / "again")}, locked=lock.path, offline=True)
    (tmp_path / "empty.lock").write_text('{"version": 1, "sources": {}}')
    with pytest.raises(Exception, match="is not in the lock file") as caught:
        client.build(world.context, outputs=output, locked=tmp_path / "empty.lock")
    assert isinstance(caught.value, NotFoundError) or hasattr(caught.value, "hint")
