"""Base images whose content lies in a directory already: the option `layouts` of the source of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.img import Finished, Img, write_context
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import SmallImage, make_image

pytestmark = [pytest.mark.rootless, pytest.mark.registry]


class Kept:
    """A registry with an *image*, and the *directory* of a state that has pulled it; *img* has a state of its own."""

    def __init__(self, img: Img, registry: FaultyRegistry, image: SmallImage, directory: Path) -> None:
        self.img = img.with_environment(IMG_SOURCE_DOCKER_IMAGE_LAYOUTS=f"{directory}/nothing:{directory}/bases")
        self.registry = registry
        self.image = image
        self.directory = directory / "bases"

    @property
    def layer(self) -> Path:
        """The file of its layer."""
        return self._file(self.image.layers[0].digest)

    @property
    def manifest(self) -> Path:
        return self._file(self.image.top.digest)

    def _file(self, digest: str) -> Path:
        return self.directory / "blobs" / digest.replace(":", "/")

    def build(self, reference: str) -> Finished:
        context = write_context(
            self.directory.parent / "context", f"FROM {self.registry.address}/team/{reference}\nCOPY f /f\n", {"f": "f"}
        )
        return self.img.build(context, "-o", f"type=local,dest={self.directory.parent}/out", tag="")


@pytest.fixture
def kept(new_state: Callable[..., Img], tmp_path: Path) -> Iterator[Kept]:
    image = make_image([{"base": b"of the base\n" * 1000}])
    with FaultyRegistry() as registry:
        registry.add("team/base", "1", image)
        img = new_state(seeded=False)
        img.run("-s", tmp_path / "bases", "pull", f"{registry.address}/team/base:1").ok()
        (tmp_path / "nothing").mkdir()
        yield Kept(img, registry, image, tmp_path)


def blobs_asked(kept: Kept) -> list[str]:
    return [str(each) for each in kept.registry.asked() if "/blobs/" in each.path]


def test_of_a_tag_the_registry_is_only_asked_what_it_means(kept: Kept) -> None:
    before = len(kept.registry.asked())
    kept.build("base:1").ok()
    assert [each.method for each in kept.registry.asked()[before:] if "/manifests/" in each.path] == ["HEAD"]
    assert len(blobs_asked(kept)) == 2  # of the first pull: config and layer


def test_of_a_digest_no_registry_is_asked(kept: Kept) -> None:
    before = len(kept.registry.asked())
    kept.build(f"base@{kept.image.top.digest}").ok()
    assert kept.registry.asked()[before:] == []
    assert (kept.directory.parent / "out/base").read_bytes() == b"of the base\n" * 1000


@pytest.mark.parametrize("damage", ["another size", "a pipe"])
def test_what_is_not_there_comes_from_the_registry(kept: Kept, damage: str) -> None:
    kept.layer.chmod(0o644)
    if damage == "another size":
        kept.layer.write_bytes(b"x")
    else:
        kept.layer.unlink()
    if damage == "a pipe":
        os.mkfifo(kept.layer)
    kept.build("base:1").ok()
    assert len(blobs_asked(kept)) == 3
    assert (kept.directory.parent / "out/base").read_bytes() == b"of the base\n" * 1000


@pytest.mark.parametrize("what", ["layer", "manifest"])
def test_what_is_not_what_its_name_says_is_refused(kept: Kept, what: str) -> None:
    file: Path = getattr(kept, what)
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    kept.build("base:1").refused(1, "does not match its digest", str(file))


def test_a_place_that_is_none_is_refused(kept: Kept) -> None:
    img = kept.img.with_environment(IMG_SOURCE_DOCKER_IMAGE_LAYOUTS="/nowhere/at/all")
    done = img.build(write_context(kept.directory.parent / "x", "FROM busybox\n"), tag="")
    done.refused(2, "`/nowhere/at/all`, which is no directory")
