"""Passwords and tokens go where they were given for, wherever a registry sends its clients, and nobody on the way sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pull_lab import JOE, QUICK, SECRET, client, image, layer_bytes, no_proxy_in_the_environment

from img_core.spec.errors import CredentialsError, NotFoundError, RegistryError
from img_core.spec.values import Credentials
from img_core.testing.faulty_registry import (
    Exchange,
    FaultyRegistry,
    challenge,
    cut_after,
    redirect,
    reply,
    status,
)
from img_core.testing.images import SmallImage, make_image
from img_core.testing.registry import Authority
from img_registry_oci._client import RegistryClient

__all__ = ["client", "image", "no_proxy_in_the_environment"]

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry


def logged_in(registry: FaultyRegistry, **options: object) -> RegistryClient:
    return RegistryClient(registry.address, credentials=lambda *_: JOE, limits=QUICK, **options)  # type: ignore[arg-type]


def secrets_seen(registry: FaultyRegistry) -> list[str]:
    return [str(item) for item in registry.requests if "authorization" in item.headers or SECRET.encode() in item.body]


@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.0.1"])
def test_redirect_elsewhere_is_followed_without_the_password(
    host: str, faulty_registry: FaultyRegistry, image: SmallImage
) -> None:
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/manifests", challenge('Basic realm="x"'))
    with FaultyRegistry(host=host) as storage, logged_in(faulty_registry) as client:
        storage.add("app", "1", image)
        faulty_registry.rule("GET /v2/app/blobs/", redirect(storage.url + "{path}"))
        client.manifest("app", "1")
        assert layer_bytes(client, image) == image.blobs[image.layers[0].digest]
        assert secrets_seen(faulty_registry)
        assert len(storage.requests) == 1
        assert secrets_seen(storage) == []


def test_cut_blob_continues_behind_a_redirect(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with FaultyRegistry(host="127.0.0.2") as storage, RegistryClient(faulty_registry.address, limits=QUICK) as client:
        storage.add("app", "1", image)
        storage.rule("GET", cut_after(100_000, reset=False), times=1)
        faulty_registry.rule("GET /v2/app/blobs/", redirect(storage.url + "{path}"))
        assert layer_bytes(client, image) == image.blobs[image.layers[0].digest]
        assert "range" in storage.requests[1].headers


def test_way_back_from_elsewhere_carries_no_password(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    faulty_registry.rule("GET /v2/app/manifests/1", challenge('Basic realm="x"'))
    with FaultyRegistry(host="127.0.0.2") as stranger, logged_in(faulty_registry) as client:
        client.manifest("app", "1")
        stranger.rule("GET", redirect(faulty_registry.url + "/back"))
        faulty_registry.rule("GET /v2/app/blobs/", redirect(stranger.url + "/away"))
        with pytest.raises(NotFoundError):
            layer_bytes(client, image)
        assert "GET /back" not in secrets_seen(faulty_registry)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://joe:pw@127.0.0.1/x", "http://[::1", "", "gopher:x"]
)
def test_redirect_to_what_is_no_plain_address_is_refused(
    location: str, client: RegistryClient, faulty_registry: FaultyRegistry
) -> None:
    faulty_registry.rule("GET /v2/app/", redirect(location))
    with pytest.raises(RegistryError, match="which is no address to follow"):
        client.manifest("app", "1")


def test_redirect_loop_ends(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("GET /v2/app/", redirect("{path}"))
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        client.manifest("app", "1")
    assert len(faulty_registry.asked()) == 6


def test_redirect_from_tls_to_plain_http_is_refused(
    authority: Authority, faulty_registry: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with (
        FaultyRegistry(certificate=authority.issue("faulty")) as registry,
        RegistryClient(registry.address, limits=QUICK) as client,
    ):
        registry.rule("GET /v2/app/", redirect(faulty_registry.url + "{path}"))
        with pytest.raises(RegistryError, match="it sends us from HTTPS to plain HTTP"):
            client.manifest("app", "1")
    assert faulty_registry.requests == []


def test_registry_behind_a_tls_proxy_may_call_itself_plain(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    image = make_image()
    with FaultyRegistry(certificate=authority.issue("faulty")) as registry:
        registry.add("app", "1", image)
        registry.rule("GET /v2/app/blobs/", redirect("http://127.0.0.1/moved{path}"), times=1)
        registry.rule("GET /moved", reply(200, image.blobs[image.layers[0].digest]))
        with RegistryClient(registry.address, limits=QUICK) as client:
            assert layer_bytes(client, image) == image.blobs[image.layers[0].digest]


def with_tokens(registry: FaultyRegistry, realm: str, *, token: str = "T1") -> None:
    """Let *registry* want the bearer *token* and name *realm* as the place to get it."""

    def act(exchange: Exchange) -> None:
        if exchange.request.headers.get("authorization") == f"Bearer {token}":
            exchange.serve()
        else:
            value = f'Bearer realm="{realm}",service="test, registry",scope="repository:other:push,pull"'
            exchange.answer(401, b"{}", {"WWW-Authenticate": value})

    registry.rule("GET /v2/app/", act)


def test_token_is_fetched_for_just_what_we_need_and_reused(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with_tokens(faulty_registry, faulty_registry.url + "/token?x=y")
    faulty_registry.rule("GET /token", reply(200, b'{"access_token":"T1","expires_in":300}'))
    with logged_in(faulty_registry) as client:
        client.manifest("app", "1")
        layer_bytes(client, image)
    (asked,) = faulty_registry.asked("/token")
    assert asked.path == "/token?x=y&account=joe&service=test%2C+registry&scope=repository%3Aapp%3Apull"
    assert asked.headers["authorization"].startswith("Basic ")
    assert not any(item.headers.get("authorization", "").startswith("Basic") for item in faulty_registry.asked("/v2/"))


def test_anonymous_token_is_enough_for_public_images(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with_tokens(faulty_registry, faulty_registry.url + "/token")
    faulty_registry.rule("GET /token", reply(200, b'{"token":"T1"}'))
    with RegistryClient(faulty_registry.address, limits=QUICK) as client:
        client.manifest("app", "1")
    assert "authorization" not in faulty_registry.asked("/token")[0].headers


def test_identity_token_is_exchanged_by_post(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with_tokens(faulty_registry, faulty_registry.url + "/token")
    faulty_registry.rule("POST /token", reply(200, b'{"access_token":"T1"}'))
    identity = Credentials(identity_token=SECRET)
    with RegistryClient(faulty_registry.address, credentials=lambda *_: identity, limits=QUICK) as client:
        client.manifest("app", "1")
    (asked,) = faulty_registry.asked("POST")
    assert f"grant_type=refresh_token&refresh_token={SECRET}".encode() in asked.body
    assert SECRET not in asked.path


def test_token_that_expires_midway_is_renewed_once(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with_tokens(faulty_registry, faulty_registry.url + "/token", token="T2")
    faulty_registry.rule("GET /token", reply(200, b'{"token":"T1","expires_in":300}'), times=1)
    faulty_registry.rule("GET /token", reply(200, b'{"token":"T2","expires_in":300}'))
    faulty_registry._rules.insert(0, _one_good_answer("T1"))
    with RegistryClient(faulty_registry.address, limits=QUICK) as client:
        client.manifest("app", "1")
        assert layer_bytes(client, image) == image.blobs[image.layers[0].digest]
    assert len(faulty_registry.asked("/token")) == 2


def _one_good_answer(token: str):  # type: ignore[no-untyped-def]
    import re

    from img_core.testing.faulty_registry import _Rule

    def act(exchange: Exchange) -> None:
        if exchange.request.headers.get("authorization") == f"Bearer {token}":
            exchange.serve()
        else:
            realm = exchange.registry.url + "/token"
            exchange.answer(401, b"{}", {"WWW-Authenticate": f'Bearer realm="{realm}"'})

    return _Rule(re.compile("GET /v2/app/manifests/"), act, None)


def test_endless_401_is_not_asked_again_and_again(faulty_registry: FaultyRegistry) -> None:
    with_tokens(faulty_registry, faulty_registry.url + "/token", token="never")
    faulty_registry.rule("GET /token", reply(200, b'{"token":"T1"}'))
    with logged_in(faulty_registry) as client, pytest.raises(CredentialsError, match="refused the login of `joe`"):
        client.manifest("app", "1")
    assert len(faulty_registry.asked()) == 3


def test_busy_token_server_is_asked_again(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with_tokens(faulty_registry, faulty_registry.url + "/token")
    faulty_registry.rule("GET /token", status(503), times=2)
    faulty_registry.rule("GET /token", reply(200, b'{"token":"T1"}'))
    with RegistryClient(faulty_registry.address, limits=QUICK) as client:
        client.manifest("app", "1")


def test_foreign_token_server_does_not_get_the_password(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with FaultyRegistry(host="127.0.0.2") as stranger:
        with_tokens(faulty_registry, stranger.url + "/token")
        stranger.rule("GET /token", status(401))
        with logged_in(faulty_registry) as client, pytest.raises(CredentialsError) as caught:
            client.manifest("app", "1")
        assert (
            f"wants the password sent to `{stranger.address}`, which is not its own host; it was not sent"
            in caught.value.message
        )
        assert len(stranger.requests) == 1
        assert secrets_seen(stranger) == []
        assert SECRET not in caught.value.message


def test_foreign_token_server_that_is_configured_gets_the_password(
    faulty_registry: FaultyRegistry, image: SmallImage, tmp_path: Path
) -> None:
    faulty_registry.add("app", "1", image)
    with FaultyRegistry(host="127.0.0.2") as stranger:
        (tmp_path / "img").mkdir()
        rule = f'[registry."{faulty_registry.address}"]\ntoken-servers = ["{stranger.address}"]\n'
        (tmp_path / "img/registries.toml").write_text(rule)
        with_tokens(faulty_registry, stranger.url + "/token")
        stranger.rule("GET /token", reply(200, b'{"token":"T1"}'))
        environment = {"XDG_CONFIG_HOME": str(tmp_path)}
        with RegistryClient(
            faulty_registry.address, credentials=lambda *_: JOE, environment=environment, limits=QUICK
        ) as client:
            client.manifest("app", "1")
        assert secrets_seen(stranger) != []


def test_token_of_the_configuration_is_sent_as_it_is(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with_tokens(faulty_registry, faulty_registry.url + "/token")
    given = Credentials(registry_token="T1")
    with RegistryClient(faulty_registry.address, credentials=lambda *_: given, limits=QUICK) as client:
        client.manifest("app", "1")
    assert faulty_registry.asked("/token") == []


def test_token_of_the_configuration_that_ran_out_is_named(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with_tokens(faulty_registry, faulty_registry.url + "/token")
    faulty_registry.rule("GET /token", status(401))
    given = Credentials(registry_token="old")
    with (
        RegistryClient(faulty_registry.address, credentials=lambda *_: given, limits=QUICK) as client,
        pytest.raises(CredentialsError, match="refused the login"),
    ):
        client.manifest("app", "1")


def test_foreign_token_server_still_serves_public_images(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    faulty_registry.add("app", "1", image)
    with FaultyRegistry(host="127.0.0.2") as stranger:
        with_tokens(faulty_registry, stranger.url + "/token")
        stranger.rule("GET /token", reply(200, b'{"token":"T1"}'))
        with logged_in(faulty_registry) as client:
            client.manifest("app", "1")
        assert secrets_seen(stranger) == []


def test_plain_token_server_of_a_tls_registry_is_not_asked(
    authority: Authority, faulty_registry: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with FaultyRegistry(certificate=authority.issue("faulty")) as registry:
        with_tokens(registry, faulty_registry.url + "/token")
        with logged_in(registry) as client, pytest.raises(CredentialsError, match="over plain HTTP"):
            client.manifest("app", "1")
    assert faulty_registry.requests == []


def test_token_server_with_a_bad_certificate_gets_nothing(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    other = Authority(tmp_path / "other")
    with (
        FaultyRegistry(certificate=authority.issue("faulty")) as registry,
        FaultyRegistry(certificate=other.issue("tokens")) as tokens,
    ):
        with_tokens(registry, tokens.url + "/token")
        # Trust is switched off for the one host that was named, and for no other.
        for insecure in (set(), {registry.address}):
            with logged_in(registry, insecure=insecure) as client, pytest.raises(RegistryError, match="not trusted"):
                client.manifest("app", "1")
        assert tokens.requests == []


@pytest.mark.parametrize(
    "realm", ["file:///etc/passwd", "x", "http://joe:pw@127.0.0.1/token", "http://example.invalid/token"]
)
def test_token_server_that_is_none_is_refused(realm: str, faulty_registry: FaultyRegistry) -> None:
    with_tokens(faulty_registry, realm)
    with logged_in(faulty_registry) as client, pytest.raises(CredentialsError):
        client.manifest("app", "1")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"token":1}', b'{"token":"a\\nb"}', b'{"token":"\\u00e9"}', b"[" * 100000, b" " * 2**21]
)
def test_answer_without_a_token_is_an_error(body: bytes, faulty_registry: FaultyRegistry) -> None:
    with_tokens(faulty_registry, faulty_registry.url + "/token")
    faulty_registry.rule("GET /token", reply(200, body))
    with logged_in(faulty_registry) as client, pytest.raises(RegistryError):
        client.manifest("app", "1")


def test_proxy_of_the_environment_is_used_and_sees_no_secret_of_ours() -> None:
    with FaultyRegistry() as proxy:
        limits = replace(QUICK, tries=1)
        environment = {"https_proxy": proxy.url}
        client = RegistryClient("registry.invalid", environment=environment, credentials=lambda *_: JOE, limits=limits)
        with client, pytest.raises(RegistryError):
            client.manifest("app", "1")
        (asked,) = proxy.requests
        assert str(asked) == "CONNECT registry.invalid:443"
        assert secrets_seen(proxy) == []


def test_many_threads_share_one_token(faulty_registry: FaultyRegistry, image: SmallImage) -> None:
    from concurrent.futures import ThreadPoolExecutor

    faulty_registry.add("app", "1", image)
    with_tokens(faulty_registry, faulty_registry.url + "/token")
    faulty_registry.rule("GET /token", reply(200, b'{"token":"T1","expires_in":300}'))
    with RegistryClient(faulty_registry.address, limits=QUICK) as client, ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda number: layer_bytes(client, image, number % 2), range(12)))
    assert results == [image.blobs[image.layers[number % 2].digest] for number in range(12)]
    assert len(faulty_registry.asked("/token")) == 1
