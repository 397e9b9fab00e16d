"""``img push`` and ``img build --push``: real registries, the real command, other tools as judges."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.containers import Containers, skopeo
from harness.img import Img, write_context
from harness.kept import keep
from img_core.spec.values import Platform
from img_core.testing.faulty_registry import FaultyRegistry, reply
from img_core.testing.images import SmallImage, make_image, make_index
from img_core.testing.registry import Authority, DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry

ARM = Platform("linux", "arm64")
AMD = Platform("linux", "amd64")


@pytest.fixture
def second_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path / "second") as running:
        yield running


@pytest.fixture
def empty(tmp_path: Path) -> Img:
    """Give the command with a state directory that does not exist yet."""
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home")


def big_image(size: int = 1_000_000) -> SmallImage:
    return make_image([{"a": b"1"}, {"b": os.urandom(size)}], platform=AMD)


def raw_manifest(registry: DockerRegistry, repository: str, reference: str) -> bytes:
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/{repository}:{reference}")


def uploads(registry: DockerRegistry) -> int:
    return len(re.findall('"PUT /v2/[^ ]*/blobs/uploads/', registry.log))


# --- what arrives -------------------------------------------------------------------------------------------------------


def test_a_pulled_image_is_pushed_byte_for_byte(
    empty: Img, registry: DockerRegistry, second_registry: DockerRegistry
) -> None:
    image = big_image()
    source = registry.add("org/app", "1", image)
    target = f"{second_registry.address}/copy:2"
    pulled = empty.run("pull", source).ok().text
    empty.run("tag", source, target).ok()
    done = empty.run("push", target).ok()
    assert done.text == f"Pushing {target}...\nSuccessfully pushed {target}\n"
    assert f"Pulled: {image.top.digest}\n" in pulled
    assert raw_manifest(second_registry, "copy", "2") == image.content


def test_what_the_registry_has_is_not_sent_again(
    empty: Img, registry: DockerRegistry, second_registry: DockerRegistry
) -> None:
    source = registry.add("org/app", "1", big_image())
    empty.run("pull", source).ok()
    for name in (f"{second_registry.address}/copy:1", f"{second_registry.address}/copy:2"):
        empty.run("tag", source, name).ok()
        empty.run("push", name).ok()
    assert uploads(second_registry) == 3  # two layers and the config, once


def test_layers_of_a_neighbour_are_mounted(empty: Img, registry: DockerRegistry) -> None:
    source = registry.add("org/app", "1", big_image())
    before = uploads(registry)
    empty.run("pull", source).ok()
    empty.run("tag", source, f"{registry.address}/elsewhere:1").ok()
    empty.run("push", f"{registry.address}/elsewhere:1").ok()
    assert uploads(registry) == before
    assert "mount=sha256" in registry.log


def test_platforms_that_were_not_pulled_are_copied_from_their_registry(
    empty: Img, registry: DockerRegistry, second_registry: DockerRegistry
) -> None:
    index = make_index([big_image(), make_image([{"arm": os.urandom(500_000)}], platform=ARM)])
    source = registry.add("org/app", "1", index)
    target = f"{second_registry.address}/copy:1"
    empty.run("pull", "--platform", "linux/amd64", source).ok()
    empty.run("tag", source, target).ok()
    empty.run("push", target).ok()
    assert raw_manifest(second_registry, "copy", "1") == index.content
    other = Img(empty.state.parent / "other", empty.home)
    other.run("pull", "--platform", "linux/arm64", target).ok()


def test_one_platform_can_be_pushed_alone(
    empty: Img, registry: DockerRegistry, second_registry: DockerRegistry
) -> None:
    arm = make_image([{"arm": b"1"}], platform=ARM)
    source = registry.add("org/app", "1", make_index([big_image(), arm]))
    target = f"{second_registry.address}/copy:1"
    empty.run("pull", "--all-platforms", source).ok()
    empty.run("tag", source, target).ok()
    empty.run("push", "--platform", "linux/arm64", target).ok()
    assert raw_manifest(second_registry, "copy", "1") == arm.content


def test_all_platforms_are_pulled_saved_and_loaded_with_one_digest(
    empty: Img, registry: DockerRegistry, tmp_path: Path
) -> None:
    index = make_index([big_image(), make_image([{"arm": b"1"}], platform=ARM)])
    source = registry.add("org/app", "1", index)
    empty.run("pull", "--all-platforms", source).ok()
    empty.run("save", "--format", "oci", "-o", tmp_path / "out.tar", source).ok()
    other = Img(tmp_path / "other", empty.home)
    other.run("load", "-i", tmp_path / "out.tar").ok()
    assert other.run("ls", "--format", "{{.Digest}}").text.strip() == index.top.digest
    target = source.replace(":1", ":2")
    other.run("tag", source, target).ok()
    other.run("push", target).ok()
    assert raw_manifest(registry, "org/app", "2") == index.content


def test_podman_pulls_what_was_built_and_pushed(
    img: Img, registry: DockerRegistry, tmp_path: Path, containers: Containers
) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nCOPY f /f\n", {"f": b"hello"})
    name = f"{registry.address}/org/built:1"
    img.build(context, "--push", tag=name).ok()
    assert name in img.names()
    containers.run("podman", "pull", "-q", "--tls-verify=false", name)
    found = json.loads(containers.run("podman", "inspect", name))[0]
    assert found["Digest"] == img.digest(name)
    assert len(found["RootFS"]["Layers"]) == 2


def test_output_of_type_registry_only_pushes(img: Img, registry: DockerRegistry, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY f /f\n", {"f": b"hello"})
    name = f"{registry.address}/org/built:1"
    img.build(context, "-o", f"type=registry,name={name}", tag="").ok()
    assert name not in img.names()
    assert b"layers" in raw_manifest(registry, "org/built", "1")


def test_a_push_of_a_build_that_needs_no_base_file_moves_no_base_bytes(
    empty: Img, registry: DockerRegistry, second_registry: DockerRegistry, tmp_path: Path
) -> None:
    base = big_image()
    source = registry.add("base", "1", base)
    target = f"{second_registry.address}/org/built:1"
    context = write_context(tmp_path / "context", f"FROM {source}\nENV A=b\nCMD run\n")
    empty.build(context, "-o", f"type=registry,name={target}", tag="").ok()
    layers = {layer.digest.removeprefix("sha256:") for layer in base.layers}
    assert not set(os.listdir(empty.state / "blobs/sha256")) & layers
    manifest = json.loads(raw_manifest(second_registry, "org/built", "1"))
    assert [layer["digest"] for layer in manifest["layers"]] == [layer.digest for layer in base.layers]
    beside = f"{registry.address}/org/built:1"
    empty.build(context, "-o", f"type=registry,name={beside}", tag="").ok()
    assert registry.log.count("from=base") == 2, "the layers; the config is asked for in one request, too"
    empty.build(context, tag="here").ok()
    assert not set(os.listdir(empty.state / "blobs/sha256")) & layers
    empty.build(context, "-o", "type=image,name=here,store-allow-incomplete=false", tag="").ok()
    assert set(os.listdir(empty.state / "blobs/sha256")) >= layers


# --- who may --------------------------------------------------------------------------------------------------------------


def test_an_unknown_image_is_named_in_the_words_of_the_original(empty: Img) -> None:
    done = empty.run("push", "nope")
    done.refused(1, 'getting image "nope" failed: image "nope": not found')
    assert done.text == "Pushing nope...\n"


def test_an_image_can_be_pushed_under_another_name(empty: Img, registry: DockerRegistry) -> None:
    image = make_image()
    source, target = registry.add("app", "1", image), f"{registry.address}/elsewhere/app:2"
    empty.run("pull", source).ok()
    done = empty.run("push", source, target).ok()
    assert done.text == f"Pushing {target}...\nSuccessfully pushed {target}\n"
    assert raw_manifest(registry, "elsewhere/app", "2") == image.content
    assert empty.names() == [source]
    empty.run("push", "a", "b", "c").refused(2, "found 3")


def test_push_needs_a_name(empty: Img) -> None:
    empty.run("push").refused(2, "must pass an image or repository to push")


def test_push_without_a_login_says_how_to_get_one(
    empty: Img, registry: DockerRegistry, login_registry: DockerRegistry, authority: Authority
) -> None:
    trusting = empty.with_environment(SSL_CERT_FILE=str(authority.certificate))
    source = registry.add("app", "1", make_image())
    target = f"{login_registry.address}/app:1"
    trusting.run("pull", source).ok()
    trusting.run("tag", source, target).ok()
    done = trusting.run("push", target)
    done.refused(5, login_registry.address)
    assert f"hint: run `img login {login_registry.address}`" in done.stderr


def test_an_untrusted_certificate_is_refused_unless_asked(
    empty: Img, tls_registry: DockerRegistry, tmp_path: Path
) -> None:
    target, context = f"{tls_registry.address}/app:1", tmp_path / "context"
    keep(empty, {target: make_image()})
    write_context(context, f"FROM {target}\nLABEL a=b\n")
    for words in (["push", target], ["pull", target], ["build", "--pull", "-t", "x", str(context)]):
        empty.run(*words).refused(6, tls_registry.address, "certificate is not trusted")
        empty.run(words[0], "--insecure-registry", *words[1:]).ok()


# --- faults ---------------------------------------------------------------------------------------------------------------


def test_a_token_without_the_right_to_push_is_told_in_the_words_of_the_original(
    empty: Img, registry: DockerRegistry, faulty_registry: FaultyRegistry
) -> None:
    source, target = registry.add("app", "1", make_image()), f"{faulty_registry.address}/app:1"
    empty.run("pull", source).ok()
    empty.run("tag", source, target).ok()
    faulty_registry.rule("GET /token", reply(200, b'{"token":"T"}'))
    header = f'Bearer realm="{faulty_registry.url}/token",error="insufficient_scope",scope="x"'
    faulty_registry.rule("/v2/", reply(401, b"", {"WWW-Authenticate": header}))
    empty.run("push", target).refused(5, "insufficient_scope: authorization failed")
