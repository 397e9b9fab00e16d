"""The client of the Python API with real work: in threads, in an event loop, against a registry, stopped half-way."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from harness.img import Img, write_context
from img_core.api import (
    AsyncClient,
    Canceled,
    CancelHandle,
    Client,
    ImgError,
    Output,
    Piece,
    SecretSource,
)
from img_core.spec import ArchiveError, CredentialsError, DockerfileError, NotFoundError, RegistryError, UsageError
from img_core.spec.progress import Event, StepLog
from img_core.testing.faulty_registry import Exchange, FaultyRegistry
from img_core.testing.images import make_image
from img_core.testing.registry import PASSWORD, USER, Authority, DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.rootless

DOCKERFILE = "FROM busybox\nLABEL team=a\nRUN echo hello > /hello\nCOPY a /a\n"
ENDLESS = "FROM busybox\nRUN echo begun; while true; do sleep 1; done\n"


@pytest.fixture
def client(img: Img) -> Client:
    return Client(state=img.state, environment=img.environment())


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return write_context(directory, DOCKERFILE, {"a": "a"})


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    directory = tmp_path / "endless"
    directory.mkdir()
    return write_context(directory, ENDLESS)


class Begun:
    """A listener that knows when a step has written something."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.event = threading.Event()
        self._then = then

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepLog) and b"begun" in event.data:
            self.event.set()
            self._then()


def cancel_after(event: threading.Event, handle: CancelHandle) -> None:
    """Wait for *event*, then cancel; do nothing if it does not come."""
    if event.wait(60):
        handle.cancel()


def children() -> set[str]:
    """Return the processes that we started and that are still there."""
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            found.update(Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left(img: Img) -> Iterator[None]:
    before = children()
    yield
    assert children() <= before
    runs = img.state / "run"
    assert not runs.is_dir() or [path.name for path in runs.iterdir() if path.is_dir()] == []


# ----------------------------------------------------------------------------------------------------- one state's life


def test_an_image_is_built_looked_at_named_and_removed(client: Client, img: Img, context: Path) -> None:
    result = client.build(context, tags="app:1")
    image = client.image("app:1")
    assert (image.name, image.digest) == ("docker.io/library/app:1", result.digest)
    assert image.size
    assert image.size > 1000
    assert client.image(image.digest).is_untagged
    details = client.inspect("app:1")
    assert details.config["config"]["Labels"] == {"team": "a"}
    assert details.config_digest == result.config_digest
    history = client.history("app:1")
    assert history[-1].created_by.startswith("COPY a /a")
    assert [entry.layer for entry in history if entry.layer] == list(details.layers)
    assert client.tag("app:1", "other").name == "docker.io/library/other:latest"
    assert [each.labels for each in client.images(labels=True)] == [{"team": "a"}, {}, {"team": "a"}]
    with pytest.raises(UsageError, match="has several names"):
        client.remove(image.digest)
    assert client.remove("other") == ("docker.io/library/other:latest",)
    assert client.remove(image.digest) == ("docker.io/library/app:1",)
    assert [each.name for each in client.images()] == img.names() == ["docker.io/library/busybox:latest"]


def test_a_state_that_is_not_there_is_empty_and_stays_away(tmp_path: Path) -> None:
    client = Client(state=tmp_path / "none")
    found: list[Sequence[object]] = [client.images(), client.usage(), client.prune()]
    assert found == [(), (), ()]
    assert not (tmp_path / "none").exists()


def test_questions_about_a_definition_build_nothing(client: Client, context: Path) -> None:
    definition = "from busybox AS one\nARG WHO\nMAINTAINER me\nFROM busybox AS two\n"
    (warning, *_) = client.check(context, definition=definition)
    assert warning.location is not None
    assert [item["name"] for item in client.targets(context, definition=definition)["targets"]] == ["one", "two"]
    assert client.outline(context, definition=definition, target="one")["args"][0]["name"] == "WHO"
    assert len(client.images()) == 1


def test_archives_go_out_and_in(client: Client, context: Path, tmp_path: Path) -> None:
    client.build(context, tags=["app:1", "app:2"])
    client.save(["app:1", "app:2"], tmp_path / "app.tar", format="oci")
    events: list[Event] = []
    other = Client(state=tmp_path / "other")
    (loaded,) = other.load(tmp_path / "app.tar", on_event=events.append)
    assert loaded.digest == client.image("app:1").digest
    assert set(loaded.names) == {"docker.io/library/app:1", "docker.io/library/app:2"}
    assert events
    assert other.unpack("app:1", tmp_path / "rootfs").skipped_count == 0
    assert (tmp_path / "rootfs/hello").read_text() == "hello\n"
    with pytest.raises(ImgError, match="already exists"):
        other.unpack("app:1", tmp_path / "rootfs")
    client.build(context, outputs={"type": "tar", "dest": tmp_path / "root.tar"})
    imported = other.import_rootfs(tmp_path / "root.tar", "flat:1", config={"Cmd": ["/bin/sh"]})
    assert other.inspect("flat:1").config["config"] == {"Cmd": ["/bin/sh"]}
    assert other.image("flat:1") == imported


def test_space_is_told_and_given_back(client: Client, context: Path) -> None:
    client.build(context, tags="app:1")
    pieces = client.usage()
    assert sum(piece.size for piece in pieces) > 1000
    assert all(piece.in_use for piece in pieces if piece.id == client.image("app:1").digest)
    client.remove("app:1")
    assert client.prune(dry_run=True, matching=lambda _piece: False) == ()
    seen: list[Piece] = []

    def small(piece: Piece) -> bool:
        seen.append(piece)
        return piece.size < 5000

    planned = client.prune(dry_run=True, matching=small)
    assert seen
    assert planned
    assert all(piece.size < 5000 for piece in planned)
    removed = client.prune()
    assert {piece.id for piece in planned} <= {piece.id for piece in removed}
    assert {piece.id for piece in client.usage()}.isdisjoint(piece.id for piece in removed)


def test_images_are_pruned_by_name(client: Client, context: Path) -> None:
    client.build(context)
    (nameless,) = [image for image in client.images() if image.is_untagged]
    assert client.prune_images(nameless.name) > 0
    assert [image.name for image in client.images()] == ["docker.io/library/busybox:latest"]


# ---------------------------------------------------------------------------------------------------------- registries


def test_images_go_to_a_registry_and_come_back(
    client: Client, context: Path, registry: DockerRegistry, tmp_path: Path
) -> None:
    name = f"{registry.address}/client/app:1"
    client.build(context, tags=name)
    events: list[Event] = []
    pushed = client.push(name, on_event=events.append)
    assert (pushed.name, pushed.digest) == (name, client.image(name).digest)
    assert pushed.sent > 0
    assert events
    other = Client(state=tmp_path / "other")
    pulled = other.pull(name, platforms="linux/amd64" if os.uname().machine == "x86_64" else ())
    assert pulled.digest == pushed.digest
    assert client.push(pushed.digest, destination=f"{registry.address}/client/by-id").sent == 0


def test_a_login_is_checked_kept_and_forgotten(login_registry: DockerRegistry, img: Img, authority: Authority) -> None:
    client = Client(state=img.state, environment={**img.environment(), "SSL_CERT_FILE": str(authority.certificate)})
    server = login_registry.address
    with pytest.raises(CredentialsError):
        client.login(server, username=USER, password="wrong")
    assert server not in client.logins()
    assert client.login(server, username=USER, password=PASSWORD)
    assert client.logins()[server] == USER
    known = client.credentials(server)
    assert known is not None
    assert known.password == PASSWORD
    assert client.logout(server).known
    assert not client.logout(server).known


@pytest.fixture
def hanging(faulty_registry: FaultyRegistry) -> Iterator[tuple[str, threading.Event]]:
    """Give the name of an image whose layers never arrive, and what is set when the first is asked for."""
    asked, over = threading.Event(), threading.Event()

    def hang(_exchange: Exchange) -> None:
        asked.set()
        over.wait(60)

    faulty_registry.add("any/app", "1", make_image())
    faulty_registry.rule(r"GET .*/blobs/", hang)
    yield f"{faulty_registry.address}/any/app:1", asked
    over.set()


def test_a_pull_that_hangs_is_stopped(client: Client, hanging: tuple[str, threading.Event], img: Img) -> None:
    name, asked = hanging
    handle = CancelHandle()
    threading.Thread(target=cancel_after, args=(asked, handle)).start()
    started = time.monotonic()
    with pytest.raises(Canceled):
        client.pull(name, cancel=handle)
    assert asked.is_set()
    assert time.monotonic() - started < 30
    assert name not in img.names()
    with pytest.raises(Canceled):  # at once
        client.pull(name, cancel=handle)


def test_cancelling_the_task_stops_a_pull(img: Img, hanging: tuple[str, threading.Event]) -> None:
    name, asked = hanging

    async def main() -> None:
        task = asyncio.create_task(AsyncClient(state=img.state).pull(name))
        while not asked.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert name not in img.names()


# ------------------------------------------------------------------------------------------------------------ stopping


def test_a_build_is_stopped_from_another_thread(client: Client, endless: Path, img: Img) -> None:
    handle, begun = CancelHandle(), Begun()
    threading.Thread(target=cancel_after, args=(begun.event, handle)).start()
    started = time.monotonic()
    with pytest.raises(Canceled):
        client.build(endless, tags="x", on_event=begun, cancel=handle)
    assert begun.event.is_set()
    assert time.monotonic() - started < 30
    assert "docker.io/library/x:latest" not in img.names()


def test_a_build_is_stopped_by_its_own_callback(client: Client, endless: Path) -> None:
    handle = CancelHandle()
    with pytest.raises(Canceled):
        client.build(endless, on_event=Begun(handle.cancel), cancel=handle)


def test_one_handle_stops_several_builds(client: Client, endless: Path) -> None:
    handle = CancelHandle()
    ended: list[BaseException] = []
    listeners = [Begun(), Begun()]

    def run(listener: Begun) -> None:
        definition = ENDLESS.replace("echo", f"echo {id(listener)}")  # equal steps run once
        try:
            client.build(endless, definition=definition, on_event=listener, cancel=handle)
        except Canceled as err:
            ended.append(err)

    threads = [threading.Thread(target=run, args=(listener,)) for listener in listeners]
    for thread in threads:
        thread.start()
    for listener in listeners:
        assert listener.event.wait(60)
    handle.cancel()
    for thread in threads:
        thread.join(60)
    assert len(ended) == 2


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3])
def test_a_build_that_only_starts_is_stopped(
    client: Client, endless: Path, delay: float, capfd: pytest.CaptureFixture[str]
) -> None:
    handle = CancelHandle()
    threading.Timer(delay, handle.cancel).start()
    with pytest.raises(Canceled):
        client.build(endless, cancel=handle)
    assert capfd.readouterr() == ("", "")


# ----------------------------------------------------------------------------------------------------- the event loop


def test_builds_do_not_hold_the_event_loop(img: Img, context: Path) -> None:
    async def main() -> tuple[int, str, str]:
        client, ticks = AsyncClient(state=img.state), 0
        builds = asyncio.gather(client.build(context, tags="one"), client.build(context, tags="two"))
        while not builds.done():
            await asyncio.sleep(0.01)
            ticks += 1
        one, two = await builds
        assert (await client.image("one")).digest == one.digest
        return ticks, one.digest, two.digest

    ticks, one, two = asyncio.run(main())
    assert one == two
    assert ticks > 5


def test_cancelling_the_task_stops_the_build(img: Img, endless: Path) -> None:
    async def main() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        listener = Begun(lambda: loop.call_soon_threadsafe(begun.set))
        task = asyncio.create_task(AsyncClient(state=img.state).build(endless, tags="x", on_event=listener))
        await asyncio.wait_for(begun.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == before  # nothing goes on when the task has ended

    before = children()
    asyncio.run(main())
    assert "docker.io/library/x:latest" not in img.names()


def test_a_timeout_of_the_loop_stops_a_build(img: Img, endless: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(2):
            await AsyncClient(state=img.state).build(endless)

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_errors_and_exceptions_of_callbacks_reach_the_task(img: Img, context: Path) -> None:
    def refuse(_event: Event) -> None:
        raise LookupError("enough")

    async def main() -> None:
        client = AsyncClient(state=img.state)
        with pytest.raises(DockerfileError):
            await client.build(context, definition="FROM busybox\nFOO\n")
        with pytest.raises(NotFoundError):
            await client.inspect("nope")
        with pytest.raises(LookupError, match="enough"):
            await client.build(context, on_event=refuse)

    asyncio.run(main())


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda client, _: client.build("/nope"), NotFoundError, "/nope"),
        (lambda client, _: client.image("nope"), NotFoundError, 'image "nope": not found'),
        (lambda client, _: client.inspect("busybox", platform="linux/s390x"), NotFoundError, "linux/s390x"),
        (lambda client, _: client.inspect("busybox", platform="plan9/9/9/9"), UsageError, "plan9"),
        (lambda client, _: client.tag("busybox", "UPPER"), UsageError, "lowercase"),
        (lambda client, _: client.remove("nope"), NotFoundError, "nope"),
        (lambda client, _: client.save("busybox", None), UsageError, "cannot go to standard output"),
        (lambda client, _: client.save("busybox", "x.tar", format="zip"), UsageError, "not a valid format"),
        (lambda client, path: client.save("nope", path / "x.tar"), NotFoundError, "nope"),
        (lambda client, path: client.load(path / "none"), UsageError, "cannot read"),
        (lambda client, path: client.load(path / "context/a"), ArchiveError, "archive"),
        (lambda client, path: client.import_rootfs(path / "context/a", "x"), ArchiveError, "archive"),
        (lambda client, _: client.prune(images="some"), UsageError, "`images` of prune()"),
        (lambda client, _: client.push("nope"), NotFoundError, "nope"),
        (lambda client, _: client.pull("127.0.0.1:9/x", all_platforms=True, platforms="a/b"), UsageError, "exclude"),
        (lambda client, _: client.pull("127.0.0.1:9/x"), RegistryError, "127.0.0.1:9"),
        (lambda client, _: client.login("127.0.0.1:9"), UsageError, "user name"),
        (lambda client, path: client.unpack("nope", path / "r"), NotFoundError, "nope"),
    ],
)
def test_errors_are_typed(
    call: Callable[[Client, Path], object],
    error: type[ImgError],
    words: str,
    client: Client,
    context: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        call(client, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_plugin_that_is_off_is_off_for_the_client_too(img: Img, context: Path, tmp_path: Path) -> None:
    client = Client(state=img.state, no_plugins="exporter:tar")
    with pytest.raises(ImgError, match="`tar` is switched off"):
        client.build(context, outputs=Output("tar", {"dest": str(tmp_path / "x")}))


def test_the_environment_is_that_of_the_client(img: Img, context: Path) -> None:
    client = Client(state=img.state, environment={**img.environment(), "WHO": "client"})
    definition = "FROM busybox\nARG WHO\nLABEL who=$WHO\nRUN --mount=type=secret,id=s test $(cat /run/secrets/s) = 1\n"
    client.build(
        context, tags="e", definition=definition, build_args={"WHO": None}, secrets={"s": SecretSource(value=b"1")}
    )
    assert client.inspect("e").config["config"]["Labels"] == {"who": "client"}


def test_a_client_works_in_this_process_for_what_needs_no_namespace(img: Img, tmp_path: Path) -> None:
    with Client(state=img.state, in_process=True) as client, (tmp_path / "out.tar").open("wb+") as file:
        client.save("busybox", tmp_path / "busybox.tar")
        file.write((tmp_path / "busybox.tar").read_bytes())
        file.seek(0)
        (loaded,) = client.load(file)
        assert loaded.digest == client.image("busybox").digest
