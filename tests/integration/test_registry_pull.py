"""Pulling from a real registry and from one that misbehaves."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pull_lab import QUICK, client, image, layer_bytes, no_proxy_in_the_environment, pin, source

from harness.containers import skopeo
from img_core.images import oci
from img_core.spec.errors import Canceled, CredentialsError, ImgError, IntegrityError, NotFoundError, RegistryError
from img_core.spec.graph import SourceOp
from img_core.spec.values import Credentials, Descriptor, Digest, Platform
from img_core.testing.faulty_registry import (
    Exchange,
    FaultyRegistry,
    cut_after,
    drip,
    endless,
    reply,
    stall,
    status,
)
from img_core.testing.images import SmallImage, make_image, make_index, write_layout
from img_core.testing.registry import PASSWORD, USER, Authority, DockerRegistry, free_port
from img_registry_oci._client import RegistryClient

__all__ = ["client", "image", "no_proxy_in_the_environment"]

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry

AMD64, ARM64, ARM7 = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v7")


def push_with_skopeo(registry: DockerRegistry, name: str, image: SmallImage, directory: Path) -> str:
    write_layout(directory, {"it": image})
    reference = f"{registry.address}/{name}"
    options = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]
    skopeo(*options, f"oci:{directory}:it", f"docker://{reference}")
    return reference


# --- a real registry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["registry", "tls_registry"])
@pytest.mark.parametrize("docker", [False, True])
def test_image_comes_back_as_it_was_pushed(
    kind: str,
    docker: bool,
    request: pytest.FixtureRequest,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    image = make_image([{"a": b"1"}, {"b": b"2" * 100_000}], docker=docker)
    reference = request.getfixturevalue(kind).add("org/app", "1", image)
    images, pinned = pin(reference)
    assert (pinned.top.digest, pinned.manifest.digest) == (image.top.digest, image.top.digest)
    assert pinned.manifest.platform == AMD64
    assert pinned.layers == image.layers
    assert set(pinned.documents) == {image.top.digest, pinned.config.digest}
    for layer in pinned.layers:
        assert b"".join(images.blob(pinned, layer)) == image.blobs[layer.digest]
    images.close()


def test_index_is_resolved_by_platform_and_kept(registry: DockerRegistry, tmp_path: Path) -> None:
    per_platform = {
        platform: make_image([{"x": str(platform).encode()}], platform=platform) for platform in (AMD64, ARM64, ARM7)
    }
    index = make_index(per_platform.values())
    reference = push_with_skopeo(registry, "app:1", index, tmp_path)
    for platform, wanted in per_platform.items():
        images, pinned = pin(reference, platform)
        assert pinned.top.digest == index.top.digest
        assert pinned.manifest.digest == wanted.top.digest
        assert pinned.manifest.platform == platform
        assert set(pinned.documents) == {index.top.digest, wanted.top.digest, pinned.config.digest}
        images.close()


def test_digest_reference_names_exactly_that(registry: DockerRegistry) -> None:
    image = make_image()
    registry.add("app", "1", image)
    images, pinned = pin(f"{registry.address}/app:ignored@{image.top.digest}")
    assert pinned.manifest.digest == image.top.digest
    images.close()


def test_missing_tag_repository_and_digest_are_not_found(registry: DockerRegistry) -> None:
    registry.add("app", "1", make_image())
    for name in ("app:2", "nope:1", "app@sha256:" + "0" * 64):
        images = source()
        with pytest.raises(NotFoundError) as caught:
            images.pin(SourceOp("docker-image", f"{registry.address}/{name}"), AMD64)
        assert caught.value.message == f"{registry.address}/{name}: not found"
        images.close()


def test_login_is_used_and_a_wrong_one_is_named(
    login_registry: DockerRegistry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    image = make_image()
    reference = login_registry.add("app", "1", image)
    asked: list[tuple[str, str]] = []

    def credentials(server: str, repository: str) -> Credentials:
        asked.append((server, repository))
        return Credentials(USER, PASSWORD)

    images, pinned = pin(reference, credentials=credentials)
    assert b"".join(images.blob(pinned, pinned.layers[0])) == image.blobs[pinned.layers[0].digest]
    assert asked == [(login_registry.address, "app")]
    images.close()

    with pytest.raises(CredentialsError) as caught:
        pin(reference)
    assert caught.value.message == f"`{login_registry.address}` wants a login"
    assert caught.value.hint == f"run `img login {login_registry.address}`"
    with pytest.raises(CredentialsError) as caught:
        pin(reference, credentials=lambda *_: Credentials(USER, "wrong-one"))
    assert caught.value.message == f"`app` of `{login_registry.address}` refused the login of `{USER}`"
    with RegistryClient(login_registry.address, credentials=credentials) as client:
        client.ping()


def test_untrusted_certificate_is_refused_and_accepted_when_asked(tls_registry: DockerRegistry) -> None:
    reference = tls_registry.add("app", "1", make_image())
    with pytest.raises(RegistryError) as caught:
        pin(reference)
    assert caught.value.message.startswith(
        f"failed to fetch {reference} from `{tls_registry.address}`: its certificate is not trusted: "
    )
    assert "system's store" in (caught.value.hint or "")
    for insecure in (tls_registry.address, "127.0.0.1", "*"):
        images, _ = pin(reference, insecure=frozenset({insecure}))
        images.close()


# --- what people see ------------------------------------------------------------------------------------------------------


def test_unreachable_registry_is_named_with_port_and_reason() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(RegistryError) as caught:
        pin(f"{address}/app:1")
    assert caught.value.message == f"failed to fetch {address}/app:1 from `{address}`: connection refused"
    assert caught.value.hint == "check that it is running and that the port is right"
    assert caught.value.exit_code == 6


def test_unknown_host_is_named() -> None:
    with pytest.raises(RegistryError) as caught:
        pin("no-such-host.invalid/app:1")
    message = caught.value.message
    assert message.startswith(
        "failed to fetch no-such-host.invalid/app:1 from `no-such-host.invalid:443`: the host name is not known"
    )


def test_plain_http_is_refused_beyond_loopback(
    faulty_registry: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_registry.add("app", "1", make_image())
    monkeypatch.setattr("img_registry_oci._session.is_loopback", lambda _host: False)  # stands for a far host
    # A plain server may wait for the end of a line in the TLS greeting; whichever way it ends, nothing is pulled.
    with (
        RegistryClient(faulty_registry.address, limits=replace(QUICK, tries=1)) as client,
        pytest.raises(RegistryError),
    ):
        client.manifest("app", "1")
    assert faulty_registry.asked("manifests") == []
    with RegistryClient(
        faulty_registry.address, insecure={faulty_registry.address}, limits=replace(QUICK, connect_seconds=0.5)
    ) as client:
        client.manifest("app", "1")


def test_wrong_platform_lists_what_there_is(faulty_registry: FaultyRegistry) -> None:
    faulty_registry.add("app", "1", make_index([make_image(platform=ARM64), make_image(platform=ARM7)]))
    with pytest.raises(NotFoundError) as caught:
        pin(f"{faulty_registry.address}/app:1")
    assert caught.value.message.endswith("/app:1: no match for platform linux/amd64 in manifest: not found")
    assert caught.value.hint == "it offers linux/arm/v7, linux/arm64"


def test_single_image_of_another_platform_is_used(faulty_registry: FaultyRegistry) -> None:
    faulty_registry.add("app", "1", make_image(platform=ARM64))
    images, pinned = pin(f"{faulty_registry.address}/app:1", AMD64)
    assert pinned.manifest.platform == ARM64
    images.close()


def test_index_without_platforms_is_resolved_by_the_configs(faulty_registry: FaultyRegistry) -> None:
    bare = [
        replace(image, top=replace(image.top, platform=None)) for image in (make_image(platform=ARM64), make_image())
    ]
    faulty_registry.add("app", "1", make_index(bare))
    images, pinned = pin(f"{faulty_registry.address}/app:1", AMD64)
    assert pinned.manifest.digest == bare[1].top.digest
    images.close()


def test_server_message_is_shown_escaped_and_cut(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"\\u001b[31mno\\n' + b"x" * 5000 + b'"}]}'
    faulty_registry.rule("GET /v2/app/", reply(403, body))
    with pytest.raises(CredentialsError) as caught:
        client.manifest("app", "1")
    assert "HTTP status 403: \\x1b[31mno\\nxxx" in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


# --- faults that pass -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_transient_status_is_tried_again(
    code: int, client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/", status(code), times=2)
    assert client.manifest("app", "1").digest == image.top.digest
    assert len(faulty_registry.asked("manifests")) == 3


@pytest.mark.parametrize("code", [400, 403, 404, 405, 501])
def test_final_status_is_not_tried_again(code: int, client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("GET /v2/app/", status(code))
    with pytest.raises(ImgError):
        client.manifest("app", "1")
    assert len(faulty_registry.asked()) == 1


def test_a_registry_that_stays_down_is_given_up_after_five_tries(
    client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    faulty_registry.rule("GET /v2/app/", status(503))
    with pytest.raises(RegistryError) as caught:
        client.manifest("app", "1")
    assert caught.value.message.endswith("HTTP status 503: as told (tried 5 times)")
    assert caught.value.status == 503
    assert len(faulty_registry.asked()) == 5


def test_retry_after_is_waited_for(
    client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/", status(429, retry_after="7"), times=1)
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return False

    monkeypatch.setattr(
        client._places.main("app").session._stop, "wait", wait
    )  # the clock is the one thing not to be real here
    client.manifest("app", "1")
    assert waited == [7.0]


def test_endless_retry_after_is_an_error_that_says_so(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("GET /v2/app/", status(429, retry_after="99999999"))
    with pytest.raises(RegistryError) as caught:
        client.manifest("app", "1")
    assert "asks to wait 99999999 seconds, more than 60" in caught.value.message
    assert len(faulty_registry.asked()) == 1


@pytest.mark.parametrize("reset", [True, False])
def test_cut_blob_continues_where_it_stopped(
    reset: bool, client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/blobs/", cut_after(100_000, reset=reset), times=2)
    assert layer_bytes(client, image) == image.blobs[image.layers[0].digest]
    sent = faulty_registry.asked("blobs")
    assert len(sent) == 3
    # A reset throws away what was still under way, so at most what was sent has arrived.
    assert all(
        0 < int(item.headers["range"][6:].split("-")[0]) <= 200_000 for item in sent[1:] if "range" in item.headers
    )
    assert any("range" in item.headers for item in sent[1:])


def test_blob_with_steady_progress_outlives_the_limit_of_tries(
    client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    image = make_image([{"a": os.urandom(1_000_000)}])
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/blobs/", cut_after(100_000, reset=False))
    assert layer_bytes(client, image) == image.blobs[image.layers[0].digest]
    assert len(faulty_registry.asked("blobs")) > QUICK.tries


def test_server_without_ranges_sends_all_again_and_we_skip(
    client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/blobs/", cut_after(100_000, reset=False), times=1)
    faulty_registry.rule("GET /v2/app/blobs/", reply(200, image.blobs[image.layers[0].digest]))
    assert layer_bytes(client, image) == image.blobs[image.layers[0].digest]


def test_stalled_blob_is_tried_again(
    client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/blobs/", stall(1000), times=1)
    assert layer_bytes(client, image) == image.blobs[image.layers[0].digest]


def test_dripping_blob_is_given_up(client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/blobs/", drip(0.02))
    with pytest.raises(RegistryError, match=r"only \d+ bytes in"):
        layer_bytes(client, image)


def test_closing_the_client_ends_a_wait(faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("GET /v2/app/", status(503, retry_after="50"))
    client = RegistryClient(faulty_registry.address)
    threading.Timer(0.2, client.close).start()
    with pytest.raises(Canceled):
        client.manifest("app", "1")


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("sent", [0, 1000])
def test_closing_the_client_ends_a_transfer_that_stands_still(
    tls: bool, sent: int, authority: Authority, image: SmallImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with FaultyRegistry(certificate=authority.issue("faulty") if tls else None) as registry:
        registry.add("app", "1", image)
        registry.rule("GET /v2/app/blobs/", stall(sent))
        client = RegistryClient(registry.address)  # with the real patience of 30 seconds
        client.manifest("app", "1")
        start = time.monotonic()
        threading.Timer(0.2, client.close).start()
        with pytest.raises(Canceled):
            layer_bytes(client, image)
        assert time.monotonic() - start < 20


# --- faults that must not pass ------------------------------------------------------------------------------------------------


def test_wrong_content_is_refused(client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    other = b"x" * image.layers[0].size
    faulty_registry.rule("GET /v2/app/blobs/", reply(200, other))
    with pytest.raises(IntegrityError, match="sent other content"):
        layer_bytes(client, image)


def test_wrong_length_is_refused_before_the_first_byte(
    client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    content = image.blobs[image.layers[0].digest]
    for body in (content + b"x", content[:-1]):
        faulty_registry.rule("GET /v2/app/blobs/", reply(200, body), times=1)
        with pytest.raises(IntegrityError, match=f"offers {len(body)} bytes instead of {len(content)}"):
            next(iter(client.blob("app", image.layers[0])))


def test_endless_blob_is_cut_at_its_size(
    client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    faulty_registry.rule("GET /v2/app/blobs/", endless())
    received = 0
    with pytest.raises(IntegrityError, match="more than the promised"):  # noqa: PT012 - counting is the point
        for chunk in client.blob("app", image.layers[0]):
            received += len(chunk)
    assert received <= image.layers[0].size


@pytest.mark.parametrize("code", [200, 500, 401, 307])
def test_endless_manifest_and_error_bodies_are_bounded(
    code: int, client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    def act(exchange: Exchange) -> None:
        exchange.head(code, {"Transfer-Encoding": "chunked", "Location": "/x"})
        while exchange.write(b"10000\r\n" + b" " * 65536 + b"\r\n"):
            pass

    faulty_registry.rule("GET /v2/app/", act)
    faulty_registry.rule("GET /x", act)
    with pytest.raises(ImgError):
        client.manifest("app", "1")
    assert sum(item.sent for item in faulty_registry.requests) < 64 * 2**20


def test_tag_that_is_not_what_its_digest_header_says_is_refused(
    client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    headers = {"Docker-Content-Digest": "sha256:" + "0" * 64, "Content-Type": oci.OCI_MANIFEST}
    faulty_registry.rule("GET /v2/app/", reply(200, image.content, headers))
    with pytest.raises(IntegrityError, match="sent other content"):
        client.manifest("app", "1")


def test_manifest_under_a_foreign_digest_is_refused(
    client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    digest = "sha256:" + "0" * 64
    faulty_registry.add_manifest("app", digest, oci.OCI_MANIFEST, image.content)
    with pytest.raises(IntegrityError, match="sent other content"):
        client.manifest("app", digest)


def test_descriptor_that_lies_about_its_size_is_refused(faulty_registry: FaultyRegistry) -> None:
    image = make_image()
    lying = replace(image, top=replace(image.top, size=image.top.size + 1))
    faulty_registry.add("app", "1", make_index([lying]))
    with pytest.raises(IntegrityError, match=r"has \d+ bytes where \d+ were promised"):
        pin(f"{faulty_registry.address}/app:1")


def test_document_that_is_manifest_and_index_is_refused(faulty_registry: FaultyRegistry) -> None:
    both = make_image().content.replace(b'"schemaVersion": 2', b'"schemaVersion": 2, "manifests": []')
    for media_type in (oci.OCI_MANIFEST, oci.OCI_INDEX):
        faulty_registry.add_manifest("app", "1", media_type, both)
        with pytest.raises(oci.InvalidDocument, match="is ambiguous"):
            pin(f"{faulty_registry.address}/app:1")


def test_artifact_is_not_an_image(faulty_registry: FaultyRegistry) -> None:
    chart = make_image().content.replace(oci.OCI_CONFIG.encode(), b"application/vnd.cncf.helm.config.v1+json")
    faulty_registry.add_manifest("app", "1", oci.OCI_MANIFEST, chart)
    with pytest.raises(oci.InvalidDocument, match=r"is not a container image but `application/vnd\.cncf\.helm"):
        pin(f"{faulty_registry.address}/app:1")


def test_part_that_nobody_asked_for_is_never_mixed_in(
    client: RegistryClient, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    faulty_registry.add("app", "1", image)
    content = image.blobs[image.layers[0].digest]
    faulty_registry.rule("GET /v2/app/blobs/", cut_after(100_000, reset=False), times=1)
    lie = {"Content-Range": f"bytes 5-{len(content) - 1}/{len(content)}"}
    faulty_registry.rule("GET /v2/app/blobs/", reply(206, content[5:], lie))
    with pytest.raises(RegistryError, match="a part of the blob that nobody asked for"):
        layer_bytes(client, image)


def test_urls_of_a_descriptor_are_not_asked(faulty_registry: FaultyRegistry) -> None:
    with FaultyRegistry(host="127.0.0.2") as stranger:
        image = make_image()
        urls = f'"urls": ["{stranger.url}/x"], "mediaType": "{oci.OCI_LAYER_GZIP}"'.encode()
        content = image.content.replace(f'"mediaType": "{oci.OCI_LAYER_GZIP}"'.encode(), urls)
        faulty_registry.add("app", "0", image)
        faulty_registry.add_manifest("app", "1", oci.OCI_MANIFEST, content)
        images, pinned = pin(f"{faulty_registry.address}/app:1")
        assert b"".join(images.blob(pinned, pinned.layers[0]))
        images.close()
        assert stranger.requests == []


def test_huge_header_is_refused(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("GET /v2/app/", reply(200, b"{}", {"X": "y" * 2**20}))
    with pytest.raises(RegistryError):
        client.manifest("app", "1")


def test_descriptor_without_verifiable_digest_is_refused(
    client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    with pytest.raises(IntegrityError, match="is not a digest that can be verified"):
        list(client.blob("app", Descriptor(oci.OCI_LAYER, Digest("sha256:../../x"), 1)))
    assert faulty_registry.requests == []
