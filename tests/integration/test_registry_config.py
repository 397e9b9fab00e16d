"""Mirrors, insecure and blocked registries and certificates, with real registries and the real command."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.img import Img, write_context
from harness.kept import keep
from img_core.testing.faulty_registry import FaultyRegistry, challenge, cut_after, status
from img_core.testing.images import SmallImage, make_image
from img_core.testing.registry import Authority, DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry


@pytest.fixture
def empty(tmp_path: Path) -> Img:
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home")


@pytest.fixture
def mirror() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as running:
        yield running


@pytest.fixture
def image() -> SmallImage:
    return make_image([{"a": b"1"}, {"b": bytes(range(256)) * 2000}])


def configure(img: Img, text: str, path: str = "img/registries.toml") -> None:
    place = img.home / ".config" / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_docker_hub_is_pulled_from_its_mirror(empty: Img, mirror: FaultyRegistry, image: SmallImage) -> None:
    mirror.add("hub/library/app", "1", image)
    configure(empty, f'[registry."docker.io"]\nmirrors = ["{mirror.url}/hub"]\n')
    empty.run("pull", "app:1").ok()
    assert empty.names() == ["docker.io/library/app:1"]


def test_what_the_mirror_lacks_comes_from_the_registry(
    empty: Img, mirror: FaultyRegistry, registry: DockerRegistry, image: SmallImage
) -> None:
    source = registry.add("app", "1", image)
    configure(empty, f'[registry."{registry.address}"]\nmirrors = ["{mirror.url}", "http://127.0.0.1:1"]\n')
    empty.run("pull", source).ok()
    assert mirror.asked("/v2/app/manifests/1")


def test_a_layer_that_a_mirror_does_not_finish_is_continued_elsewhere(
    empty: Img, mirror: FaultyRegistry, registry: DockerRegistry, image: SmallImage
) -> None:
    source = registry.add("app", "1", image)
    mirror.add("app", "1", image)
    mirror.rule("/blobs/", cut_after(300))
    configure(empty, f'[registry."{registry.address}"]\nmirrors = ["{mirror.url}"]\n')
    empty.run("pull", source).ok()
    empty.run("unpack", "-o", empty.home / "rootfs", source).ok()


def test_a_mirror_in_trouble_is_left_after_few_tries(
    empty: Img, mirror: FaultyRegistry, registry: DockerRegistry, image: SmallImage
) -> None:
    source = registry.add("app", "1", image)
    mirror.rule("/v2/app", status(503))
    configure(empty, f'[registry."{registry.address}"]\nmirrors = ["{mirror.url}"]\n')
    empty.run("pull", source).ok()
    assert len(mirror.asked("/v2/app")) == 2


def test_pushes_go_to_the_registry_and_not_to_its_mirror(
    empty: Img, mirror: FaultyRegistry, registry: DockerRegistry, image: SmallImage
) -> None:
    source = registry.add("app", "1", image)
    configure(empty, f'[registry."{registry.address}"]\nmirrors = ["{mirror.url}"]\n')
    empty.run("pull", source).ok()
    empty.run("tag", source, f"{registry.address}/app:2").ok()
    empty.run("push", f"{registry.address}/app:2").ok()
    assert not [item for item in mirror.requests if item.method not in {"GET", "HEAD"}]


def test_a_blocked_registry_is_not_asked(empty: Img, mirror: FaultyRegistry, image: SmallImage) -> None:
    mirror.add("app", "1", image)
    configure(empty, f'[registry."{mirror.address}"]\nblocked = true\n')
    empty.run("pull", f"{mirror.address}/app:1").refused(
        6, f"registry `{mirror.address}` is blocked by", "registries.toml"
    )
    empty.run("login", "-u", "a", "--password-stdin", mirror.address, stdin=b"b").refused(6, "is blocked by")
    assert mirror.requests == []


def test_an_insecure_host_needs_no_flag(
    empty: Img, tls_registry: DockerRegistry, image: SmallImage, authority: Authority
) -> None:
    source = tls_registry.add("app", "1", image)
    empty.run("pull", source).refused(6, "certificate is not trusted")
    configure(empty, f'[registry."{tls_registry.address}"]\ninsecure = true\n')
    empty.run("pull", source).ok()


@pytest.mark.parametrize("place", ["img/registries.toml", "containers/certs.d"])
def test_a_certificate_is_trusted_for_its_host_only(
    place: str, empty: Img, tls_registry: DockerRegistry, image: SmallImage, authority: Authority
) -> None:
    source = tls_registry.add("app", "1", image)
    for host, works in (("127.0.0.1:1", False), (tls_registry.address, True)):
        if place.endswith(".toml"):
            configure(empty, f'[registry."{host}"]\nca = "{authority.certificate}"\n')
        else:
            configure(empty, authority.certificate.read_text(), f"{place}/{host}/ca.crt")
        done = empty.run("pull", source)
        done.ok() if works else done.refused(6, "certificate is not trusted")


def test_a_certificate_file_that_is_none_is_named(empty: Img, tls_registry: DockerRegistry) -> None:
    configure(empty, "rubbish", f"containers/certs.d/{tls_registry.address}/ca.crt")
    empty.run("pull", f"{tls_registry.address}/app:1").refused(6, "a configured certificate cannot be used", "ca.crt")


def test_registries_conf_of_podman_is_honoured(empty: Img, mirror: FaultyRegistry, image: SmallImage) -> None:
    mirror.add("base/app", "1", image)
    configure(
        empty,
        f'[[registry]]\nprefix = "docker.io/library"\nlocation = "{mirror.address}/base"\n',
        "containers/registries.conf",
    )
    empty.run("pull", "app:1").ok()


@pytest.mark.parametrize("verb", ["pull", "push"])
@pytest.mark.parametrize("location", ["{host}", "{host}/base"])
def test_the_password_of_a_name_is_not_for_the_host_that_serves_it(
    empty: Img, mirror: FaultyRegistry, image: SmallImage, verb: str, location: str
) -> None:
    named = "named.example:5000"
    place = location.format(host=mirror.address)
    mirror.add(f"{place.partition('/')[2]}/app".lstrip("/"), "1", image)
    mirror.rule("/v2/", challenge('Basic realm="x"'))
    pairs = {server: base64.b64encode(pair.encode()).decode() for server, pair in (
        (named, "joe:canary"), (mirror.address, "joe:for-the-host"),
    )}  # fmt: skip
    (empty.home / ".docker").mkdir()
    config = empty.home / ".docker/config.json"
    configure(empty, f'[[registry]]\nprefix = "{named}"\nlocation = "{place}"\n', "containers/registries.conf")
    if verb == "push":
        keep(empty, {f"{named}/app:1": image})
    config.write_text(json.dumps({"auths": {named: {"auth": pairs[named]}}}))
    refused = empty.run(verb, f"{named}/app:1").refused(5, f"`{mirror.address}`")
    assert f"hint: run `img login {mirror.address}`" in refused.stderr
    assert not any("authorization" in item.headers for item in mirror.requests)
    config.write_text(json.dumps({"auths": {server: {"auth": pair} for server, pair in pairs.items()}}))
    empty.run(verb, f"{named}/app:1").ok()
    sent = {item.headers["authorization"] for item in mirror.requests if "authorization" in item.headers}
    assert sent == {f"Basic {pairs[mirror.address]}"}


def test_a_login_to_a_name_that_another_host_serves_does_not_tell_it_the_password(
    empty: Img, mirror: FaultyRegistry
) -> None:
    mirror.rule("/v2/", challenge('Basic realm="x"'))
    configure(
        empty,
        f'[[registry]]\nprefix = "named.example"\nlocation = "{mirror.address}"\n',
        "containers/registries.conf",
    )
    login = ("login", "-u", "joe", "--password-stdin")
    told = f"`named.example` is served by `{mirror.address}`: log in there, with `img login {mirror.address}`"
    empty.run(*login, "named.example", stdin=b"canary").refused(5, told)
    assert not any("authorization" in item.headers for item in mirror.requests)
    empty.run(*login, mirror.address, stdin=b"for-the-host").ok()


def test_what_an_unverified_build_heard_of_a_tag_is_not_believed_by_others(
    empty: Img, tls_registry: DockerRegistry, image: SmallImage, tmp_path: Path
) -> None:
    write_context(tmp_path / "context", f"FROM {tls_registry.add('app', '1', image)}\nENV A=1\n")
    build = ("build", "-t", "x", tmp_path / "context")
    empty.run(*build, "--insecure-registry").ok()
    empty.run(*build).refused(6, "certificate is not trusted")
    empty.run(*build, "--insecure-registry").ok()


def test_a_broken_file_is_one_line(empty: Img) -> None:
    configure(empty, "[")
    empty.run("pull", "app:1").refused(2, "registries.toml is not valid TOML")
