"""A realistic build: a Debian base from a registry over TLS, a compiler stage, packages, users, capabilities, deletions, three stages.

Other tools must read the result without complaint, and buildah must make the same from the same file.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.bases import write_oci_archive
from harness.compare import config_differences, tree_differences
from harness.containers import Containers
from harness.host import fixture_file, need
from harness.img import Img, remove_as_mapped_root, write_context
from harness.oci import ImageArchive, ImageDirectory, Tree
from img_core.testing.registry import Authority, DockerRegistry

pytestmark = [pytest.mark.rootless, pytest.mark.registry, pytest.mark.compare, pytest.mark.slow]

PROGRAM = '#include <stdio.h>\nint main(void) { puts("hello from a static program"); return 0; }\n'

DOCKERFILE = """\
ARG BASE
FROM $BASE AS build
WORKDIR /src
COPY hello.c Makefile ./
RUN make && ./hello

FROM $BASE AS full
ARG VERSION=1.2
ENV VERSION=$VERSION LANG=C.UTF-8
COPY local.deb /tmp/
RUN dpkg -i /tmp/local.deb && rm /tmp/local.deb && local-tool
RUN groupadd -g 3000 team && useradd -m -u 3001 -g team -s /bin/sh worker && mkdir -p /srv/data \\
 && touch /srv/data/one /srv/data/two /srv/data/three && chown worker:team /srv/data/one && chown 65534:65534 /srv/data/two \\
 && chown -R 1:2 /var/opt && chmod 3775 /srv/data
COPY --from=build --chown=worker:team /src/hello /usr/local/bin/hello
RUN cp /usr/local/bin/hello /usr/local/bin/privileged && chmod 4755 /usr/local/bin/privileged \\
 && cp /usr/local/bin/hello /usr/local/bin/capable && setcap cap_net_bind_service=+ep /usr/local/bin/capable \\
 && ln /usr/local/bin/capable /usr/local/bin/capable-too && ln -s capable /usr/local/bin/soft
RUN rm -rf /usr/share/doc /usr/share/man/man1 /etc/motd && rm -rf /usr/share/common-licenses \\
 && mkdir /usr/share/common-licenses && echo none > /usr/share/common-licenses/NONE
COPY tree/ /opt/tree/
USER worker
WORKDIR /home/worker
RUN id -un > who && umask 027 && mkdir private && touch private/file
LABEL org.example.version=$VERSION maintainer="joe <joe@example.org>"
EXPOSE 8080
VOLUME /srv/data
ENTRYPOINT ["/usr/local/bin/hello"]
CMD ["--help"]

FROM busybox AS small
COPY --from=build /src/hello /bin/hello
RUN hello > /said
CMD ["hello"]
"""
CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["bash"]}
MAKEFILE = "hello: hello.c\n\tgcc -O1 -static -Wl,--build-id=none -o $@ $<\n\tstrip $@\n"


@dataclass(frozen=True)
class Realm:
    """What all tests here share: a context, a base in a registry, and a state where both targets are built."""

    context: Path
    base: str
    img: Img
    log: str
    directory: Path

    def archive(self, target: str) -> Path:
        return self.directory / f"{target}.tar"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry whose certificate only the system's store vouches for."""
    need("docker-registry", "openssl", "skopeo")
    directory = tmp_path_factory.mktemp("tls")
    for name in ("ca.pem", "ca.key"):
        shutil.copy(fixture_file(name), directory / name)
    if subprocess.run(["openssl", "verify", directory / "ca.pem"], capture_output=True, check=False).returncode:
        pytest.skip("the system's certificate store lacks the test authority (see .ci/fixtures)")
    with DockerRegistry(directory / "registry", authority=SystemAuthority(directory)) as running:
        yield running


class SystemAuthority(Authority):
    """The authority of ``.ci/fixtures``, already in *directory*, instead of a new one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.certificate = directory / "ca.pem"
        self._key = directory / "ca.key"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, registry: DockerRegistry, containers: Containers) -> str:
    """Debian as an image in the registry, pushed by skopeo."""
    directory = tmp_path_factory.mktemp("debian")
    root = fixture_file("debian.tar").read_bytes()
    name = f"{registry.address}/debian:bookworm"
    archive = write_oci_archive(directory / "debian.tar", [root], name=name, config=CONFIG)
    containers.run("skopeo", "copy", "-q", f"oci-archive:{archive}", f"docker://{name}")
    archive.unlink()
    return name


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("dpkg-deb")
    directory = tmp_path_factory.mktemp("context")
    write_context(
        directory, DOCKERFILE, {"hello.c": PROGRAM, "Makefile": MAKEFILE, "tree/a/b": "b", "tree/c": "c" * 70_000}
    )
    (directory / "tree/a").chmod(0o711)
    package = directory / "package"
    write_context(package, "", {
        "DEBIAN/control": "Package: local\nVersion: 1.0\nArchitecture: all\nMaintainer: joe <joe@example.org>\nDescription: local\n",
        "DEBIAN/postinst": "#!/bin/sh\nset -e\nchown games:games /usr/share/local/score\nchmod 2755 /usr/share/local\n",
        "usr/bin/local-tool": "#!/bin/sh\nexec cat /usr/share/local/score\n", "usr/share/local/score": "100\n",
    })  # fmt: skip
    (package / "Dockerfile").unlink()
    for script in ("DEBIAN/postinst", "usr/bin/local-tool"):
        (package / script).chmod(0o755)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", package, directory / "local.deb"],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(package)
    return directory


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory, context: Path, base: str, seed: Path) -> Iterator[Realm]:
    directory = tmp_path_factory.mktemp("realistic")
    (directory / "home").mkdir()
    shutil.copytree(seed, directory / "state")
    img = Img(directory / "state", directory / "home")
    logs = []
    for target in ("full", "small"):
        done = img.build(context, "--build-arg", f"BASE={base}", "--target", target, tag=f"real-{target}").ok()
        logs.append(done.stderr)
        img.export(f"real-{target}", directory / f"{target}.tar")
    yield Realm(context, base, img, "".join(logs), directory)
    remove_as_mapped_root(directory / "state")


@pytest.fixture(scope="module")
def full(realm: Realm) -> Tree:
    return ImageArchive(realm.archive("full")).tree()


# --- what the image holds


def test_owners_modes_capabilities_and_links_are_in_the_image(full: Tree) -> None:
    owners = {name: (full[f"srv/data/{name}"].uid, full[f"srv/data/{name}"].gid) for name in ("one", "two", "three")}
    assert owners == {"one": (3001, 3000), "two": (65534, 65534), "three": (0, 0)}
    assert full["srv/data"].mode == 0o3775
    assert full["usr/local/bin/privileged"].mode == 0o4755
    assert full["usr/local/bin/hello"].uid == 3001
    capability = full["usr/local/bin/capable"].attributes["security.capability"].encode("utf-8", "surrogateescape")
    # Version 2: a capability of a user namespace (version 3) would be worth nothing anywhere else.
    assert capability[:4] == b"\x01\x00\x00\x02"
    assert full["usr/local/bin/capable-too"] is full["usr/local/bin/capable"]
    assert full["usr/local/bin/soft"].content == "capable"
    assert full["home/worker/private"].mode == 0o750
    assert (full["usr/share/local/score"].uid, full["usr/share/local"].mode) == (5, 0o2755)


def test_deleted_files_of_the_base_are_gone_and_a_replaced_directory_has_only_the_new(full: Tree) -> None:
    assert "etc/motd" not in full
    assert not [path for path in full if path.startswith(("usr/share/doc/", "usr/share/man/man1/"))]
    assert [path for path in full if path.startswith("usr/share/common-licenses/")] == [
        "usr/share/common-licenses/NONE"
    ]


def test_small_image_holds_busybox_and_the_program_only(realm: Realm) -> None:
    small = ImageArchive(realm.archive("small"))
    assert small.tree()["bin/hello"].mode == 0o755
    assert len(small.manifest["layers"]) == 3
    assert small.config["Cmd"] == ["hello"]


def test_second_build_uses_what_the_first_one_made(realm: Realm) -> None:
    """The stage `build` belongs to both targets and was made once."""
    assert realm.log.count("RUN make && ./hello") == 2
    again = realm.img.build(realm.context, "--build-arg", f"BASE={realm.base}", "--target", "full", tag="again").ok()
    assert "DONE" not in "".join(line for line in again.stderr.splitlines() if "RUN" in line)
    assert realm.img.digest("again") == realm.img.digest("real-full")


# --- other people's tools


@pytest.mark.parametrize("target", ["full", "small"])
def test_skopeo_inspects_and_copies_the_image(
    realm: Realm, containers: Containers, tmp_path: Path, target: str
) -> None:
    inspected = json.loads(containers.run("skopeo", "inspect", f"oci-archive:{realm.archive(target)}"))
    assert inspected["Digest"] == realm.img.digest(f"real-{target}")
    containers.run(
        "skopeo", "copy", "-q", f"oci-archive:{realm.archive(target)}", f"docker-archive:{tmp_path}/d.tar:x:1"
    )
    containers.run("skopeo", "copy", "-q", f"oci-archive:{realm.archive(target)}", f"dir:{tmp_path}/dir")


def test_umoci_unpacks_the_image(realm: Realm, containers: Containers, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-xf", realm.archive("full"), "-C", layout], check=True)
    tag = json.loads((layout / "index.json").read_text())["manifests"][0]["annotations"][
        "org.opencontainers.image.ref.name"
    ]
    containers.run("umoci", "unpack", "--rootless", "--image", f"{layout}:{tag}", tmp_path / "bundle")
    root = tmp_path / "bundle/rootfs"
    assert (root / "home/worker/who").read_text() == "worker\n"
    assert not (root / "usr/share/doc").exists()
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    assert config["process"]["args"] == ["/usr/local/bin/hello", "--help"]
    assert config["process"]["cwd"] == "/home/worker"
    remove_as_mapped_root(tmp_path / "bundle")


def test_podman_loads_inspects_and_mounts_the_image(realm: Realm, containers: Containers, tmp_path: Path) -> None:
    realm.img.run("save", "-o", tmp_path / "docker.tar", "real-small").ok()
    containers.run("podman", "load", "-q", "-i", tmp_path / "docker.tar")
    inspected = json.loads(containers.run("podman", "image", "inspect", "docker.io/library/real-small:latest"))[0]
    assert inspected["Config"]["Cmd"] == ["hello"]
    script = 'm=$(podman image mount docker.io/library/real-small:latest) && cat "$m/said" && podman image unmount -a >/dev/null'
    assert containers.run("podman", "unshare", "sh", "-c", script) == "hello from a static program\n"


# --- the same as buildah's


@pytest.fixture(scope="module")
def theirs(
    realm: Realm, containers: Containers, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    need("buildah")
    containers.take(busybox_archive, "docker.io/library/busybox:latest")
    directory = tmp_path_factory.mktemp("theirs")
    # The same base without compression: to unpack it takes buildah longer than to build.
    root = fixture_file("debian.tar").read_bytes()
    archive = write_oci_archive(directory / "debian.tar", [root], name=realm.base, config=CONFIG, compressed=False)
    containers.take(archive, realm.base)
    archive.unlink()
    for target in ("full", "small"):
        containers.build(realm.context, directory / target, "--build-arg", f"BASE={realm.base}", "--target", target)
    return directory


@pytest.mark.parametrize("target", ["full", "small"])
def test_buildah_makes_the_same(realm: Realm, theirs: Path, target: str) -> None:
    ours_image, their_image = ImageArchive(realm.archive(target)), ImageDirectory(theirs / target)
    ours_tree = ours_image.tree()
    assert len(ours_tree) > {"full": 3000, "small": 100}[target]
    differences = tree_differences(ours_tree, their_image.tree())
    differences += config_differences(ours_image.config, their_image.config)
    assert not differences, "\n".join(differences)
