"""The command against a real registry that wants tokens of a real token server, over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.containers import Containers
from harness.img import Img
from harness.kept import keep
from img_core.testing.images import SmallImage, make_image
from img_core.testing.registry import PASSWORD, USER, Authority, DockerRegistry
from img_core.testing.token_server import IDENTITY_TOKEN, TokenServer

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry

IMAGE = make_image([{"a": b"1" * 1000}, {"b": b"2" * 1000}])


@pytest.fixture(scope="module")
def tokens(authority: Authority) -> Iterator[TokenServer]:
    with TokenServer(authority, {USER: PASSWORD}) as server:
        yield server


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, tokens: TokenServer
) -> Iterator[DockerRegistry]:
    directory = tmp_path_factory.mktemp("token-registry")
    with DockerRegistry(directory, authority=authority, tokens=tokens) as running:
        yield running


@pytest.fixture
def nobody(tmp_path: Path, authority: Authority) -> Img:
    """Give the command in an empty home, trusting the authority of registry and token server."""
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home", (("SSL_CERT_FILE", str(authority.certificate)),))


@pytest.fixture
def joe(nobody: Img, registry: DockerRegistry) -> Img:
    """Give the command after a login."""
    nobody.run("login", "-u", USER, "--password-stdin", registry.address, stdin=PASSWORD.encode()).ok()
    return nobody


def kept(img: Img, registry: DockerRegistry, image: SmallImage, repository: str) -> str:
    """Put *image* into the state directory of *img* under a name of *registry*."""
    target = f"{registry.address}/{repository}:1"
    keep(img, {target: image})
    return target


def test_login_push_and_pull(joe: Img, registry: DockerRegistry, tokens: TokenServer, tmp_path: Path) -> None:
    target = kept(joe, registry, IMAGE, "team/app")
    tokens.asked.clear()
    joe.run("push", target).ok()
    assert {asked.user for asked in tokens.asked} == {USER}
    assert len(tokens.asked) <= 2, "one token serves the whole push"
    fresh = Img(tmp_path / "other", joe.home, joe.changes)
    fresh.run("pull", target).ok()
    assert fresh.digest(target) == IMAGE.top.digest


def test_layers_are_mounted_with_the_right_to_read_the_neighbour(
    joe: Img, registry: DockerRegistry, tokens: TokenServer
) -> None:
    source = kept(joe, registry, make_image([{"m": b"mounted"}]), "team/one")
    joe.run("push", source).ok()
    joe.run("rm", source).ok()
    joe.run("pull", source).ok()
    tokens.asked.clear()
    joe.run("push", source, f"{registry.address}/team/two:1").ok()
    assert any("repository:team/one:pull" in asked.scopes for asked in tokens.asked)


def test_anybody_pulls_what_is_public_and_nothing_else(
    joe: Img, registry: DockerRegistry, tokens: TokenServer, tmp_path: Path
) -> None:
    for repository in ("public/app", "team/secret"):
        joe.run("push", kept(joe, registry, IMAGE, repository)).ok()
    (tmp_path / "nobody").mkdir()
    nobody = Img(tmp_path / "state2", tmp_path / "nobody", joe.changes)
    tokens.asked.clear()
    nobody.run("pull", f"{registry.address}/public/app:1").ok()
    assert {asked.user for asked in tokens.asked} == {""}
    nobody.run("pull", f"{registry.address}/team/secret:1").refused(5, "does not exist or needs a login")
    nobody.run("tag", f"{registry.address}/public/app:1", f"{registry.address}/public/mine:1").ok()
    nobody.run("push", f"{registry.address}/public/mine:1").refused(5, "insufficient_scope: authorization failed")


def test_a_wrong_password_is_refused_and_not_kept(nobody: Img, registry: DockerRegistry) -> None:
    nobody.run("login", "-u", USER, "--password-stdin", registry.address, stdin=b"wrong").refused(
        5, "refused the login"
    )
    assert not (nobody.home / ".docker/config.json").exists()


def test_an_identity_token_is_exchanged(nobody: Img, registry: DockerRegistry, tmp_path: Path) -> None:
    token = IDENTITY_TOKEN.encode()
    nobody.run("login", "-u", "<token>", "--password-stdin", registry.address, stdin=token).ok()
    nobody.run("push", kept(nobody, registry, IMAGE, "team/identity")).ok()
    nobody.run("login", "-u", "<token>", "--password-stdin", registry.address, stdin=b"old").refused(
        5, "refused the login"
    )


def test_skopeo_reads_what_was_pushed_with_the_same_login(
    joe: Img, registry: DockerRegistry, containers: Containers, authority: Authority, tmp_path: Path
) -> None:
    target = kept(joe, registry, IMAGE, "team/skopeo")
    joe.run("push", target).ok()
    shown = containers.run(
        "skopeo", "inspect", "--authfile", joe.home / ".docker/config.json",
        "--cert-dir", _certificates(tmp_path, authority), "--raw", f"docker://{target}",
    )  # fmt: skip
    assert shown.encode() == IMAGE.content


def _certificates(tmp_path: Path, authority: Authority) -> Path:
    directory = tmp_path / "certificates"
    directory.mkdir()
    (directory / "ca.crt").write_bytes(authority.certificate.read_bytes())
    return directory
