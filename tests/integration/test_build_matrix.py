"""Every backend, executor and id mapping makes the same image, intended owners included."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.compare import VOLATILE, config_differences, tree_differences
from harness.fixtures import NewState
from harness.host import AS_ROOT, need
from harness.img import Img, write_context
from harness.oci import ImageArchive

pytestmark = pytest.mark.rootless

DOCKERFILE = """\
FROM busybox AS build
RUN mkdir /out && echo program > /out/program && chmod 4755 /out/program && ln /out/program /out/again && chown -h 33:34 /out/program
COPY --chown=7:8 tree/ /out/tree/
FROM busybox
RUN rm /etc/motd && rm -r /srv/data && mkdir /srv/data && echo new > /srv/data/new && chown www:staff /srv/data /srv/data/new
RUN mkdir -p /deep/er && touch /deep/er/a /deep/er/b && chown 1000:1001 /deep/er/a && chown -h 5:6 /deep && chmod 3770 /deep
RUN ln -s a /deep/er/soft && chown -h 9:10 /deep/er/soft && mkfifo /deep/pipe && mv /srv/data/new /srv/data/newer
COPY --from=build /out /opt/out
COPY --chown=www tree /opt/tree
WORKDIR /opt/work
USER www
RUN id -u > /tmp/mine && mkdir /tmp/own && chmod 700 /tmp/own
USER root
RUN rm /opt/out/tree/x && cp -a /opt/out/again /copied && chown -R 11:12 /opt/tree && cat /tmp/mine
ENV A=b
"""
VARIANTS = [
    variant
    for variant in itertools.product(("overlayfs", "moving", "native"), ("userns", "runc"), ("full", "single"))
    if variant != ("overlayfs", "userns", "full")  # what the others are compared with
    and (variant[0], variant[2]) != ("moving", "single")  # it refuses that
]
#: With one id, owners are recorded instead of set, so what a step itself sees is another matter than what the image holds.


def build(img: Img, context: Path, dest: Path, backend: str, executor: str, mapping: str) -> ImageArchive:
    changes = {} if AS_ROOT else {"IMG_IDMAP": mapping}
    img = img.with_flags("-b", backend).with_environment(**changes)
    img.build(context, "--executor", executor, "-o", f"type=oci,dest={dest}", tag="").ok()
    return ImageArchive(dest)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_context(tmp_path_factory.mktemp("context"), DOCKERFILE, {"tree/x": "x", "tree/sub/y": "y"})


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, seed: Path, context: Path) -> Iterator[ImageArchive]:
    directory = tmp_path_factory.mktemp("reference")
    maker = NewState(directory, seed)
    yield build(maker(), context, directory / "out.tar", "overlayfs", "userns", "full")
    maker.close()


def test_reference_has_the_intended_owners(reference: ImageArchive) -> None:
    tree = reference.tree()
    owners = {
        path: (tree[path].uid, tree[path].gid)
        for path in ("deep", "deep/er/a", "deep/er/b", "deep/er/soft", "srv/data")
    }
    assert owners == {
        "deep": (5, 6),
        "deep/er/a": (1000, 1001),
        "deep/er/b": (0, 0),
        "deep/er/soft": (9, 10),
        "srv/data": (33, 50),
    }
    assert (tree["opt/out/tree/sub/y"].uid, tree["opt/tree/x"].uid, tree["tmp/own"].uid) == (7, 11, 33)
    assert tree["opt/out/again"] is tree["opt/out/program"]
    assert "etc/motd" not in tree
    assert [path for path in tree if path.startswith("srv/data/")] == ["srv/data/newer"]


@pytest.mark.parametrize(("backend", "executor", "mapping"), VARIANTS, ids=["-".join(variant) for variant in VARIANTS])
def test_variant_makes_the_same_image(
    img: Img, context: Path, reference: ImageArchive, tmp_path: Path, backend: str, executor: str, mapping: str
) -> None:
    if executor == "runc":
        need("runc")
    if AS_ROOT and mapping == "single":
        pytest.skip("root has all ids")
    image = build(img, context, tmp_path / "out.tar", backend, executor, mapping)
    differences = tree_differences(image.tree(), reference.tree(), volatile=VOLATILE)
    differences += config_differences(image.config, reference.config)
    assert not differences, "\n".join(differences)
