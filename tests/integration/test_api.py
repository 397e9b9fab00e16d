"""The Python API, as a program with threads uses it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.img import Img, write_context
from harness.web import Page, web_server
from img_core.api import BuildResult, Output, SecretSource, build
from img_core.images import platforms
from img_core.spec import DockerfileError, NotFoundError, StepError, UsageError
from img_core.spec.progress import Event, StepFinished, StepLog, StepStarted

pytestmark = pytest.mark.rootless

DOCKERFILE = "FROM busybox\nARG WHO=nobody\nRUN echo hello $WHO\nCOPY a /a\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return write_context(directory, DOCKERFILE, {"a": "a"})


def test_a_build_gives_digest_names_and_events(img: Img, context: Path) -> None:
    events: list[Event] = []
    result = build(context, tags=["app:1"], build_args={"WHO": "world"}, state=img.state, on_event=events.append)
    assert result.names == ("docker.io/library/app:1",)
    assert result.digest == img.digest("app:1")
    assert result.cached_steps == 0
    assert b"hello world\n" in b"".join(event.data for event in events if isinstance(event, StepLog))
    started = {event.step for event in events if isinstance(event, StepStarted)}
    assert started == {event.step for event in events if isinstance(event, StepFinished)}
    again = build(context, tags=["app:1"], build_args={"WHO": "world"}, state=img.state)
    assert (again.digest, again.cached_steps) == (result.digest, 2)


def test_one_tag_one_platform_and_the_text_of_a_dockerfile_may_be_given_as_they_are(img: Img, context: Path) -> None:
    platform = platforms.host_platform()
    result = build(
        context, tags="a:1", platforms=str(platform), definition="FROM busybox\nLABEL b=1\n", state=img.state
    )
    assert result.names == ("docker.io/library/a:1",)
    assert img.digest("a:1") == result.digest


def test_a_url_is_a_context(img: Img, context: Path) -> None:
    with web_server() as web:
        web.pages["/Dockerfile"] = Page(DOCKERFILE.partition("COPY")[0].encode())
        assert build(f"{web.url}/Dockerfile", tags="u", state=img.state).names == ("docker.io/library/u:latest",)


def test_two_threads_build_at_the_same_time_and_the_process_stays_what_it_was(img: Img, context: Path) -> None:
    results: dict[str, BuildResult] = {}

    def run(name: str) -> None:
        results[name] = build(context, tags=[name], state=img.state)

    before = os.getuid(), os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/mnt")
    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results["one"].digest == results["two"].digest == img.digest("one")
    assert (os.getuid(), os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/mnt")) == before


def test_outputs_may_be_mappings_and_secrets_plain_bytes(img: Img, context: Path, tmp_path: Path) -> None:
    write_context(context, "FROM busybox\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /size\n")
    build(
        context,
        outputs=[{"type": "local", "dest": str(tmp_path / "out")}, Output("oci", {"dest": str(tmp_path / "app.tar")})],
        secrets={"s": SecretSource(value=b"12345")},
        state=img.state,
    )
    assert (tmp_path / "out/size").read_text() == "5\n"
    assert (tmp_path / "app.tar").stat().st_size > 1000


@pytest.mark.parametrize(
    ("dockerfile", "options", "error", "words"),
    [
        ("FROM busybox\nRUN exit 7\n", {}, StepError, "exit code: 7"),
        ("FROM busybox\nFOO\n", {}, DockerfileError, "unknown instruction: FOO"),
        ("FROM busybox\nCOPY nope /\n", {}, NotFoundError, "/nope"),
        ("FROM busybox\n", {"tags": ["UPPER"]}, UsageError, "must be lowercase"),
        ("FROM busybox\n", {"build_args": {"A": "a\udcff"}}, UsageError, "build argument `A` is not valid UTF-8"),
        ("FROM busybox\n", {"build_args": {"A": "a\0"}}, UsageError, "build argument `A` contains a NUL byte"),
        ("FROM busybox\n", {"labels": {"l\udcff": ""}}, UsageError, "label `.*` is not valid UTF-8"),
    ],
)
def test_errors_are_those_of_the_command_line(
    img: Img, context: Path, dockerfile: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    write_context(context, dockerfile)
    with pytest.raises(error, match=words) as caught:
        build(context, state=img.state, **{"tags": ["x"], **options})
    if isinstance(caught.value, StepError):
        assert caught.value.status == 7
        assert "RUN exit 7" in (caught.value.excerpt or "")


@pytest.mark.parametrize("output", [{"type": "tar", "dest": "-"}, {"type": "oci"}, Output("docker", {"dest": "-"})])
def test_an_output_cannot_go_to_the_standard_output_of_the_caller(
    output: Any, img: Img, context: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="cannot go to standard output"):
        build(context, outputs=output, state=img.state)
    assert capfd.readouterr() == ("", "")


def test_an_exception_in_a_callback_ends_the_build(img: Img, context: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class EnoughError(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, StepLog):
            raise EnoughError

    with pytest.raises(EnoughError):
        build(context, tags=["x"], state=img.state, on_event=stop)
    assert capfd.readouterr() == ("", "")
    assert "docker.io/library/x:latest" not in img.names()
