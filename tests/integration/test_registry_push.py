"""Pushing to a real registry and to one that misbehaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.containers import skopeo
from img_core.images import oci
from img_core.net.retry import Patience
from img_core.spec.errors import CredentialsError, IntegrityError, RegistryError
from img_core.spec.registry import Uploaded
from img_core.spec.values import Credentials, Descriptor
from img_core.testing.faulty_registry import (
    Exchange,
    FaultyRegistry,
    challenge,
    lose_upload_after,
    redirect,
    reply,
    status,
)
from img_core.testing.images import SmallImage, make_image, make_index
from img_core.testing.registry import PASSWORD, USER, Authority, DockerRegistry
from img_registry_oci._client import RegistryClient

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry

QUICK = Patience(first_pause=0.01, longest_pause=0.02, stall_seconds=2, total_seconds=10)
JOE = Credentials("joe", "correct-horse-battery")
CONTENT = os.urandom(300_000)
BLOB = Descriptor(oci.OCI_LAYER, oci.digest(CONTENT), len(CONTENT))


def reader(content: bytes, calls: list[int] | None = None) -> Callable[[int], Iterator[bytes]]:
    def read(offset: int) -> Iterator[bytes]:
        if calls is not None:
            calls.append(offset)
        for start in range(offset, len(content), 65536):
            yield content[start : start + 65536]

    return read


def push(client: RegistryClient, repository: str, tag: str, image: SmallImage) -> None:
    manifests = [content for content in image.blobs.values() if b'"schemaVersion"' in content[:40]]
    for digest, content in image.blobs.items():
        if content not in manifests:
            client.upload(repository, Descriptor(oci.OCI_LAYER, digest, len(content)), reader(content))
    for content in sorted(manifests, key=lambda content: content == image.content):
        media_type = oci.parse_manifest_or_index(content, name="x").media_type
        reference = tag if content == image.content else oci.digest(content)
        assert client.put_manifest(repository, reference, content, media_type) == oci.digest(content)


@pytest.fixture
def client(faulty_registry: FaultyRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(faulty_registry.address, limits=QUICK) as running:
        yield running


def stored(registry: FaultyRegistry, repository: str = "app") -> bytes | None:
    found = registry.find(f"/v2/{repository}/blobs/{BLOB.digest}")
    return found[1] if found else None


# --- a real registry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["registry", "login_registry"])
@pytest.mark.parametrize("docker", [False, True])
def test_pushed_image_is_what_another_tool_pulls(
    kind: str,
    docker: bool,
    request: pytest.FixtureRequest,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    registry: DockerRegistry = request.getfixturevalue(kind)
    image = make_image([{"a": b"1"}, {"b": os.urandom(2_000_000)}], docker=docker)
    with RegistryClient(registry.address, credentials=lambda *_: Credentials(USER, PASSWORD)) as client:
        push(client, "org/app", "1", image)
        assert client.resolve("org/app", "1") == image.top.digest
    login = ["--src-creds", f"{USER}:{PASSWORD}"] if kind == "login_registry" else []
    skopeo("copy", "--src-tls-verify=false", *login, f"docker://{registry.address}/org/app:1", f"dir:{tmp_path}")
    assert (tmp_path / "manifest.json").read_bytes() == image.content
    for layer in image.layers:
        assert (tmp_path / layer.digest.removeprefix("sha256:")).read_bytes() == image.blobs[layer.digest]


def test_index_is_pushed_with_its_images(registry: DockerRegistry) -> None:
    index = make_index([make_image(), make_image([{"other": b"1"}])])
    with RegistryClient(registry.address) as client:
        push(client, "app", "1", index)
        assert client.manifest("app", "1").content == index.content


def test_blob_that_is_there_is_not_sent_and_a_neighbours_is_mounted(registry: DockerRegistry) -> None:
    calls: list[int] = []
    with RegistryClient(registry.address) as client:
        assert client.upload("app", BLOB, reader(CONTENT, calls)) is Uploaded.SENT
        assert client.upload("app", BLOB, reader(CONTENT, calls)) is Uploaded.EXISTED
        assert client.upload("other", BLOB, reader(CONTENT, calls), mount_from="app") is Uploaded.MOUNTED
        assert client.upload("third", BLOB, reader(CONTENT, calls), mount_from="never-was") is Uploaded.SENT
        assert b"".join(client.blob("other", BLOB)) == CONTENT
    assert calls == [0, 0]


def test_empty_blob_is_pushed(registry: DockerRegistry) -> None:
    empty = Descriptor(oci.OCI_LAYER, oci.digest(b""), 0)
    with RegistryClient(registry.address) as client:
        assert client.upload("app", empty, reader(b"")) in {Uploaded.SENT, Uploaded.EXISTED}
        assert b"".join(client.blob("app", empty)) == b""


def test_push_without_a_login_says_how_to_get_one(
    login_registry: DockerRegistry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with RegistryClient(login_registry.address) as client, pytest.raises(CredentialsError) as caught:
        client.upload("app", BLOB, reader(CONTENT))
    assert caught.value.hint == f"run `img login {login_registry.address}`"


# --- faults that pass -------------------------------------------------------------------------------------------------------


def test_cut_upload_continues_where_it_stopped(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    calls: list[int] = []
    faulty_registry.rule("PATCH", lose_upload_after(100_000), times=2)
    client.upload("app", BLOB, reader(CONTENT, calls))
    assert stored(faulty_registry) == CONTENT
    assert calls == [0, 100_000, 200_000]


def test_upload_starts_again_when_the_registry_forgot_it(
    client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    calls: list[int] = []
    faulty_registry.rule("PATCH", lose_upload_after(100_000), times=1)
    faulty_registry.rule("GET .*/uploads/", status(404))
    client.upload("app", BLOB, reader(CONTENT, calls))
    assert stored(faulty_registry) == CONTENT
    assert calls == [0, 0]


@pytest.mark.parametrize("pattern", ["HEAD", "POST", "PATCH", "PUT .*/uploads/", "PUT .*/manifests/"])
@pytest.mark.parametrize("code", [500, 503, 429])
def test_transient_status_is_tried_again_at_every_step(
    pattern: str, code: int, client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    image = make_image()
    faulty_registry.rule(pattern, status(code), times=2)
    push(client, "app", "1", image)
    assert client.manifest("app", "1").content == image.content


def test_parts_are_as_small_as_a_proxy_wants_and_as_large_as_the_registry_asks(
    client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    def limited(exchange: Exchange) -> None:
        sizes.append(len(exchange.request.body))
        (status(413) if sizes[-1] > 100_000 else Exchange.serve)(exchange)

    sizes: list[int] = []
    faulty_registry.rule("PATCH", limited)
    client.upload("app", BLOB, reader(CONTENT))
    assert stored(faulty_registry) == CONTENT
    accepted = [size for size in sizes if size <= 100_000]
    assert sum(accepted) == len(CONTENT)
    assert len(set(accepted[:-1])) == 1, "all but the last are of one size"
    location = faulty_registry.asked("POST")[0]
    faulty_registry.rule(
        "POST",
        lambda exchange: exchange.answer(202, b"", {"Location": location.path, "OCI-Chunk-Min-Length": "200000"}),
    )
    with pytest.raises(RegistryError, match="413"):
        client.upload("other", BLOB, reader(CONTENT))


def test_wrong_offset_is_asked_for(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("PATCH", status(416), times=1)
    client.upload("app", BLOB, reader(CONTENT))
    assert stored(faulty_registry) == CONTENT


def test_refused_mount_becomes_an_upload(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule(r"POST .*mount=", status(403))
    assert client.upload("app", BLOB, reader(CONTENT), mount_from="private") is Uploaded.SENT
    assert stored(faulty_registry) == CONTENT


# --- faults that must not pass ------------------------------------------------------------------------------------------------


def test_full_registry_is_named_after_five_tries(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("PATCH", status(500))
    with pytest.raises(RegistryError) as caught:
        client.upload("app", BLOB, reader(CONTENT))
    message = f"failed to push {faulty_registry.address}/app@{BLOB.digest} to `{faulty_registry.address}`: "
    assert caught.value.message == message + "HTTP status 500: as told (tried 5 times)"


@pytest.mark.parametrize("length", [-1, 1, -100_000])
def test_blob_of_another_size_is_not_pushed(
    length: int, client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    content = CONTENT[:length] if length < 0 else CONTENT + b"x"
    with pytest.raises(RegistryError):
        client.upload("app", BLOB, reader(content))
    assert stored(faulty_registry) is None


def test_blob_that_does_not_match_its_digest_is_refused_by_the_registry(
    client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    with pytest.raises(RegistryError, match="HTTP status 400: DIGEST_INVALID"):
        client.upload("app", BLOB, reader(b"x" * len(CONTENT)))


def test_manifest_that_arrives_changed_is_noticed(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("PUT", reply(201, b"", {"Docker-Content-Digest": "sha256:" + "0" * 64}))
    with pytest.raises(IntegrityError, match="the registry stored other content"):
        client.put_manifest("app", "1", make_image().content, oci.OCI_MANIFEST)


def test_upload_address_on_another_host_gets_no_password(faulty_registry: FaultyRegistry) -> None:
    def wants_login(exchange: Exchange) -> None:
        if "authorization" in exchange.request.headers:
            exchange.answer(202, b"", {"Location": stranger.url + "/v2/app/blobs/uploads/1"})
        else:
            exchange.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})

    with FaultyRegistry(host="127.0.0.2") as stranger:
        faulty_registry.rule("POST", wants_login)
        stranger.rule("PATCH", reply(202, b"", {"Location": "/done"}))
        stranger.rule("PUT", reply(201))
        with RegistryClient(faulty_registry.address, credentials=lambda *_: JOE, limits=QUICK) as client:
            client.upload("app", BLOB, reader(CONTENT))
        assert [item.method for item in stranger.requests] == ["PATCH", "PUT"]
        assert not any("authorization" in item.headers for item in stranger.requests)


def test_stranger_who_wants_a_login_gets_none(faulty_registry: FaultyRegistry) -> None:
    with FaultyRegistry(host="127.0.0.2") as stranger:
        faulty_registry.rule("POST", reply(202, b"", {"Location": stranger.url + "/up"}))
        stranger.rule("", reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        client = RegistryClient(faulty_registry.address, credentials=lambda *_: JOE, limits=QUICK)
        with client, pytest.raises(CredentialsError):
            client.upload("app", BLOB, reader(CONTENT))
        assert not any("authorization" in item.headers for item in stranger.requests)


@pytest.mark.parametrize("code", [307, 308])
@pytest.mark.parametrize("mount", [None, "base"])
@pytest.mark.parametrize("where", ["stranger", "home"])
def test_redirect_of_the_request_for_an_upload_is_followed(
    faulty_registry: FaultyRegistry, code: int, mount: str | None, where: str
) -> None:
    login = challenge('Basic realm="x"')
    with FaultyRegistry(host="127.0.0.2") as stranger:
        there = stranger if where == "stranger" else faulty_registry
        if where == "home":
            faulty_registry.rule("POST /moved", reply(202, b"", {"Location": "uploads/1"}))
        faulty_registry.rule("POST /v2/app", redirect(there.url + "/moved/", code))
        faulty_registry.rule("(GET|HEAD|POST) /v2/app", login)
        stranger.rule("POST", reply(202, b"", {"Location": "uploads/1"}))  # belongs to the address that answers
        there.rule("PATCH /moved/uploads/1", reply(202, b"", {"Location": "2"}))
        there.rule("PUT /moved/uploads/2", reply(201))
        with RegistryClient(faulty_registry.address, credentials=lambda *_: JOE, limits=QUICK) as client:
            assert client.upload("app", BLOB, reader(CONTENT), mount_from=mount) is Uploaded.SENT
        assert there.asked("PATCH")[0].body == CONTENT
        assert not any("authorization" in item.headers for item in stranger.requests)


@pytest.mark.parametrize("code", [301, 302, 303])
def test_redirect_that_would_make_it_a_get_is_refused(
    client: RegistryClient, faulty_registry: FaultyRegistry, code: int
) -> None:
    faulty_registry.rule("POST", redirect("/moved", code))
    with pytest.raises(RegistryError, match=f"HTTP status {code}"):
        client.upload("app", BLOB, reader(CONTENT))


def test_endless_redirects_of_an_upload_end(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    with FaultyRegistry(host="127.0.0.2") as other:
        faulty_registry.rule("POST", redirect(other.url + "/x"))
        other.rule("POST", redirect(faulty_registry.url + "/x"))
        with pytest.raises(RegistryError, match="more than 5 redirects"):
            client.upload("app", BLOB, reader(CONTENT))


def test_redirect_of_the_bytes_of_an_upload_is_not_followed(
    client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    with FaultyRegistry(host="127.0.0.2") as stranger:
        faulty_registry.rule("PATCH", redirect(stranger.url + "/x", 308))
        with pytest.raises(RegistryError, match="HTTP status 308"):
            client.upload("app", BLOB, reader(CONTENT))
        assert stranger.requests == []


@pytest.mark.parametrize("location", ["", "file:///x", "http://a:b@127.0.0.1/"])
def test_upload_address_that_is_none_is_refused(
    location: str, client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    faulty_registry.rule("POST", reply(202, b"", {"Location": location} if location else None))
    with pytest.raises(RegistryError, match="which is no address to follow"):
        client.upload("app", BLOB, reader(CONTENT))


def test_token_for_a_push_covers_push_and_the_mount(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    def act(exchange: Exchange) -> None:
        if "authorization" in exchange.request.headers:
            exchange.serve()
        else:
            exchange.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{faulty_registry.url}/token"'})

    faulty_registry.rule("/v2/app/", act)
    faulty_registry.rule("GET /token", reply(200, b'{"token":"T"}'))
    client.upload("app", BLOB, reader(CONTENT), mount_from="base")
    scopes = [item.path.partition("?")[2] for item in faulty_registry.asked("/token")]
    assert scopes == [
        "scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull",
        "scope=repository%3Aapp%3Apull%2Cpush",
    ]
    assert stored(faulty_registry) == CONTENT


def test_digest_that_the_registry_makes_up_is_not_believed(
    client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    faulty_registry.rule("HEAD", reply(200, b"", {"Docker-Content-Digest": "../../x"}))
    assert client.resolve("app", "1") is None
