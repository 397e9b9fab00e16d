"""Each fault of a registry, met by the command: success or one clear line in time, and a state that the next command can use."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.img import Img
from harness.kept import keep
from img_core.testing.faulty_registry import (
    Exchange,
    FaultyRegistry,
    cut_after,
    lose_upload_after,
    redirect,
    reply,
    status,
)
from img_core.testing.images import make_image
from img_core.testing.registry import free_port

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry

IMAGE = make_image([{"small": os.urandom(20_000)}, {"big": os.urandom(400_000)}])
LAYER = max(IMAGE.layers, key=lambda layer: layer.size)
CONTENT = IMAGE.blobs[LAYER.digest]
BLOB = f"/blobs/{LAYER.digest}"
SECONDS = 30.0  # for five tries with their pauses, on a loaded machine
PASSWORD = "canary-of-joe"
OTHER_DIGEST = {"Docker-Content-Digest": "sha256:" + "0" * 64}

Action = Callable[[Exchange], None]


@dataclass(frozen=True)
class Fault:
    """*action* answers what matches *pattern*, *times* or for ever. *code* 0 means that the user notices nothing, else *words* are said."""

    name: str
    pattern: str
    action: Action
    times: int | None = None
    code: int = 0
    words: tuple[str, ...] = ()
    seconds: tuple[float, float] = (0.0, SECONDS)


def lying_part(first: int) -> Action:
    """Answer a question for a part with another part."""

    def act(exchange: Exchange) -> None:
        if "range" not in exchange.request.headers:
            cut_after(100_000, reset=False)(exchange)
            return
        rest = CONTENT[first:]
        exchange.answer(206, rest, {"Content-Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"})

    return act


def whole_instead(exchange: Exchange) -> None:
    """Cut the first answer, then ignore the question for a part, as servers without ranges do."""
    cut_after(100_000)(exchange) if "range" not in exchange.request.headers else exchange.answer(200, CONTENT)


PULL_FAULTS = [
    Fault("500 twice for the manifest", "GET .*/manifests/", status(500), 2),
    Fault("502 twice for a layer", f"GET .*{BLOB}", status(502), 2),
    Fault("500 for ever", f"GET .*{BLOB}", status(500), None, 6, ("HTTP status 500", "tried 5 times", LAYER.digest)),
    Fault("429 with Retry-After", f"GET .*{BLOB}", status(429, retry_after="2"), 1, seconds=(2.0, SECONDS)),
    Fault("429 that takes too long", "GET .*/manifests/", status(429, retry_after="9999"), None, 6, ("9999 seconds",)),
    Fault("reset in mid-blob, twice", f"GET .*{BLOB}", cut_after(150_000), 2),
    Fault("end in mid-blob", f"GET .*{BLOB}", cut_after(150_000, reset=False), 1),
    Fault("no ranges", f"GET .*{BLOB}", whole_instead),
    Fault("another part than asked for", f"GET .*{BLOB}", lying_part(5), None, 6, ("nobody asked for", LAYER.digest)),
    Fault("wrong content", f"GET .*{BLOB}", reply(200, bytes(len(CONTENT))), None, 1, (LAYER.digest,)),
    Fault("too short", f"GET .*{BLOB}", reply(200, CONTENT[:-100]), None, 1, (LAYER.digest, "instead of")),
    Fault("too long", f"GET .*{BLOB}", reply(200, CONTENT + b"more"), None, 1, (LAYER.digest, "instead of")),
    Fault("layer gone", f"GET .*{BLOB}", status(404), None, 1, ("not found",)),
    Fault("forbidden", f"GET .*{BLOB}", status(403), None, 5, ("HTTP status 403",)),
    Fault("manifest is no JSON", "GET .*/manifests/", reply(200, b"<html>"), None, 1, ("is not valid JSON",)),
    Fault("manifest lacks its layers", "GET .*/manifests/", reply(200, b'{"schemaVersion":2,"config":{}}'), None, 1, ("is invalid: ",)),
    Fault("manifest of schema 1", "GET .*/manifests/", reply(200, b'{"schemaVersion":1,"fsLayers":[]}'), None, 1, ("schema 1",)),
    Fault("endless redirects", f"GET .*{BLOB}", redirect("{path}"), None, 6, ("redirects",)),
]  # fmt: skip


def no_more_than(limit: int) -> Action:
    """Refuse requests of more than *limit* bytes, as proxies before registries do."""
    return lambda exchange: (status(413) if len(exchange.request.body) > limit else Exchange.serve)(exchange)


PUSH_FAULTS = [
    *(Fault(f"500 twice for {verb}", verb, status(500), 2) for verb in ("HEAD", "POST", "PATCH", "PUT .*/uploads/", "PUT .*/manifests/")),
    Fault("500 for ever", "PATCH", status(500), None, 6, ("HTTP status 500", "tried 5 times")),
    Fault("429 with Retry-After", "POST", status(429, retry_after="2"), 1, seconds=(2.0, SECONDS)),
    Fault("reset in mid-upload", "PATCH", lose_upload_after(100_000), 2),
    Fault("wrong offset", "PATCH", status(416), 1),
    Fault("small requests only", "PATCH", no_more_than(120_000)),
    Fault("no requests at all", "PATCH", no_more_than(0), None, 6, ("HTTP status 413",)),
    Fault("digest refused", "PUT .*/uploads/", status(400), None, 6, ("HTTP status 400",)),
    Fault("manifest refused", "PUT .*/manifests/", status(400), None, 6, ("HTTP status 400",)),
    Fault("no right to push", "POST", status(403), None, 5, ("HTTP status 403",)),
    Fault("another digest stored", "PUT .*/manifests/", reply(201, b"", OTHER_DIGEST), None, 1, ("stored other content",)),
]  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path) -> Img:
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home")


def names_of(faults: list[Fault]) -> list[str]:
    return [fault.name for fault in faults]


def blobs_of(img: Img) -> set[str]:
    directory = img.state / "blobs/sha256"
    return set(os.listdir(directory)) if directory.exists() else set()


def meet(img: Img, fault: Fault, *arguments: str) -> None:
    """Run the command and insist on what *fault* may do to it."""
    started = time.monotonic()
    done = img.run(*arguments)
    seconds = time.monotonic() - started
    assert fault.seconds[0] <= seconds <= fault.seconds[1], done
    if fault.code:
        done.refused(fault.code, *fault.words)
    else:
        done.ok()


# --- pull -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PULL_FAULTS, ids=names_of(PULL_FAULTS))
def test_pull_meets(fault: Fault, empty: Img, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.add("app", "1", IMAGE)
    name = f"{faulty_registry.address}/app:1"
    faulty_registry.rule(fault.pattern, fault.action, times=fault.times)
    meet(empty, fault, "pull", name)
    if fault.code:
        assert empty.names() == []
        assert LAYER.digest.removeprefix("sha256:") not in blobs_of(empty)
        faulty_registry.heal()
        empty.run("pull", name).ok()
    assert empty.digest(name) == IMAGE.top.digest
    assert (empty.state / "blobs/sha256" / LAYER.digest.removeprefix("sha256:")).read_bytes() == CONTENT


def test_a_cut_download_goes_on_where_it_stopped(empty: Img, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.add("app", "1", IMAGE)
    faulty_registry.rule(f"GET .*{BLOB}", cut_after(150_000), times=2)
    empty.run("pull", f"{faulty_registry.address}/app:1").ok()
    asked = faulty_registry.asked(f"GET .*{BLOB}")
    offsets = [int(item.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0]) for item in asked]
    assert len(offsets) == 3
    assert 0 == offsets[0] < offsets[1] < offsets[2]


# --- push -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PUSH_FAULTS, ids=names_of(PUSH_FAULTS))
def test_push_meets(fault: Fault, empty: Img, faulty_registry: FaultyRegistry) -> None:
    name = f"{faulty_registry.address}/app:1"
    keep(empty, {name: IMAGE})
    faulty_registry.rule(fault.pattern, fault.action, times=fault.times)
    meet(empty, fault, "push", name)
    if fault.code:
        assert faulty_registry.find("/v2/app/manifests/1") is None
        faulty_registry.heal()
        empty.run("push", name).ok()
    assert faulty_registry.find("/v2/app/manifests/1") == (IMAGE.top.media_type, IMAGE.content)
    assert faulty_registry.find(f"/v2/app{BLOB}") == ("application/octet-stream", CONTENT)


def test_a_lost_upload_is_started_again(empty: Img, faulty_registry: FaultyRegistry) -> None:
    name = f"{faulty_registry.address}/app:1"
    keep(empty, {name: IMAGE})
    faulty_registry.rule("PATCH", lose_upload_after(100_000), times=1)
    faulty_registry.rule("GET .*/uploads/", status(404), times=1)
    empty.run("push", name).ok()
    assert faulty_registry.find(f"/v2/app{BLOB}") == ("application/octet-stream", CONTENT)
    assert len(faulty_registry.asked("POST")) == len(IMAGE.layers) + 2, (
        "one per blob, the config among them, and one more"
    )


# --- both -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_a_registry_that_is_down_is_one_line(verb: str, empty: Img) -> None:
    name = f"127.0.0.1:{free_port()}/app:1"
    if verb == "push":
        keep(empty, {name: IMAGE})
    empty.run(verb, name).refused(6, name.partition("/")[0], "connection refused")


def hang_up(listener: socket.socket) -> None:
    """Close every connection at once, until *listener* is closed."""
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_a_registry_that_says_nothing_at_all_is_one_line(verb: str, empty: Img) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        name = f"127.0.0.1:{listener.getsockname()[1]}/app:1"
        if verb == "push":
            keep(empty, {name: IMAGE})
        started = time.monotonic()
        empty.run(verb, name).refused(6, name.partition("/")[0])
        assert time.monotonic() - started < SECONDS


def log_in(img: Img, server: str) -> None:
    path = img.home / ".docker/config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"auths": {server: {"auth": base64.b64encode(f"joe:{PASSWORD}".encode()).decode()}}}))


def wants_login(action: Action) -> Action:
    """Let *action* answer who is logged in."""

    def act(exchange: Exchange) -> None:
        if "authorization" in exchange.request.headers:
            action(exchange)
        else:
            exchange.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})

    return act


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_a_redirect_to_another_host_takes_no_credentials_there(
    verb: str, empty: Img, faulty_registry: FaultyRegistry
) -> None:
    name = f"{faulty_registry.address}/app:1"
    log_in(empty, faulty_registry.address)
    with FaultyRegistry(host="127.0.0.2") as stranger:
        stranger.rule("GET", reply(200, CONTENT))
        stranger.rule("PATCH", reply(202, b"", {"Location": "/there"}))
        stranger.rule("PUT", reply(201))
        if verb == "pull":
            faulty_registry.add("app", "1", IMAGE)
            faulty_registry.rule(f"GET .*{BLOB}", wants_login(redirect(stranger.url + "/there")))
        else:
            keep(empty, {name: IMAGE})
            faulty_registry.rule("POST", wants_login(reply(202, b"", {"Location": stranger.url + "/there"})))
        faulty_registry.rule("", wants_login(Exchange.serve))
        empty.run(verb, name).ok()
        assert stranger.requests != []
        assert not any("authorization" in item.headers for item in stranger.requests)
        assert PASSWORD not in repr(stranger.requests)
    assert any("authorization" in item.headers for item in faulty_registry.requests)
