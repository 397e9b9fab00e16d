"""Forms of images that other tools write, each tried on every command that reads one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.fixtures import NewState
from harness.img import Img, write_context
from harness.steps import made
from img_core.images import oci
from img_core.spec.values import Descriptor
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import SmallImage, make_image, make_index, write_layout
from img_core.testing.registry import DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.rootless


def written(image: SmallImage, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> SmallImage:
    """Return *image* after *change* of its manifest and config."""
    assert image.config is not None
    manifest, config = (json.loads(image.blobs[item.digest]) for item in (image.top, image.config))
    change(manifest, config)
    data = json.dumps(config).encode()
    new = Descriptor(image.config.media_type, oci.digest(data, image.config.digest), len(data))
    manifest["config"] = oci.descriptor_document(new)
    content = json.dumps(manifest).encode()
    top = replace(image.top, digest=oci.digest(content, image.top.digest), size=len(content))
    layers = {layer.digest: image.blobs[layer.digest] for layer in image.layers}
    return SmallImage(top, {**layers, new.digest: data, top.digest: content}, image.layers, new)


def empty(**changes: object) -> SmallImage:
    """Return an image without layers that writes ``layers`` and ``diff_ids`` as *changes* say; ``...`` leaves one out."""

    def change(manifest: dict[str, Any], config: dict[str, Any]) -> None:
        for document, key in ((manifest, "layers"), (config["rootfs"], "diff_ids")):
            document[key] = changes.get(key, [])
            if document[key] is ...:
                del document[key]

    return written(make_image([]), change)


def with_nulls(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    """Write null for everything that Go writes so when it is not set."""
    manifest["annotations"] = None
    config["history"] = None
    config["config"] = dict.fromkeys(("Env", "Cmd", "Entrypoint", "Labels", "Volumes", "ExposedPorts", "OnBuild"))


FILES = [{"hello": b"world\n"}]
SEVERAL = [*FILES, {"second": b"file\n"}, {"third": b"file\n" * 10_000}]
#: What an image looks like, and a file that it must have.
FORMS: dict[str, tuple[SmallImage, str]] = {
    "layers: []": (empty(), ""),
    "layers: null": (empty(layers=None), ""),
    "no layers key": (empty(layers=...), ""),
    "diff_ids: null": (empty(diff_ids=None), ""),
    "layers and diff_ids: null": (empty(layers=None, diff_ids=None), ""),
    "no layers, no diff_ids": (empty(layers=..., diff_ids=...), ""),
    "null for all that is not set": (written(make_image(FILES), with_nulls), "hello"),
    "index in an index": (make_index([make_index([make_image(FILES)])]), "hello"),
    "docker's types": (make_image(FILES, docker=True), "hello"),
    "layer that is not compressed": (make_image(FILES, compress=False), "hello"),
    "blobs by sha512": (make_image(FILES, algorithms=("sha256", "sha512", "sha256")), "hello"),
    "diff ids by sha512": (make_image(FILES, algorithms=("sha256", "sha256", "sha512")), "hello"),
    "all digests by sha512": (make_image(SEVERAL, algorithms=("sha512",) * 3), "hello"),
    "plain layers by sha512": (make_image(SEVERAL, compress=False, algorithms=("sha512",) * 3), "hello"),
    "plain layers by both": (make_image(SEVERAL, compress=False, algorithms=("sha256", "sha256", "sha512")), "hello"),
    "index of sha512": (make_index([make_image(FILES, algorithms=("sha512",) * 3)]), "hello"),
    "entry below a lower layer's file": (make_image([{"a": b"file"}, {"a/hello": b"x"}]), "a/hello"),
}


def archive_of(directory: Path, image: SmallImage) -> Path:
    """Return a tar archive with an image layout."""
    with tarfile.open(directory / "layout.tar", "w") as archive:
        archive.add(layout_of(directory, image), ".")
    return directory / "layout.tar"


def layout_of(directory: Path, image: SmallImage) -> Path:
    if not (directory / "layout").exists():
        write_layout(directory / "layout", {"1": image})
    return directory / "layout"


def take_by(way: str, img: Img, image: SmallImage, registry: FaultyRegistry, directory: Path) -> None:
    """Bring *image* into the state directory as ``taken``."""
    name = f"{registry.address}/app:1"
    match way:
        case "load":
            img.run("load", "-i", archive_of(directory, image), "-t", "taken").ok()
        case "load a directory":
            img.run("load", "-i", layout_of(directory, image), "-t", "taken").ok()
        case "pull":
            img.run("pull", name).ok()
            img.run("tag", name, "taken").ok()
        case "pull --all-platforms":
            img.run("pull", "--all-platforms", name).ok()
            img.run("tag", name, "taken").ok()
        case "FROM":
            img.build(write_context(directory / "from", f"FROM {name}\nCOPY Dockerfile /added\n"), tag="taken").ok()
        case "oci-layout":
            layout = f"base=oci-layout://{layout_of(directory, image)}:1"
            context = write_context(directory / "named", "FROM base\nCOPY Dockerfile /added\n")
            img.build(context, "--build-context", layout, tag="taken").ok()


WAYS = ["load", "load a directory", "pull", "pull --all-platforms", "FROM", "oci-layout"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_taken_in_every_way_and_can_be_used(
    form: str, new_state: NewState, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    image, file = FORMS[form]
    faulty_registry.add("app", "1", image)
    for way in WAYS:
        img = new_state(way.replace(" ", "-"), seeded=False)
        take_by(way, img, image, faulty_registry, tmp_path)
        root = tmp_path / "roots" / img.state.name
        img.run("unpack", "-o", root, "taken").ok()
        assert not file or (root / file).exists(), way
        if way == "pull":
            img.run("prune").ok()
            img.run("inspect", "taken").ok()
            img.run("history", "taken").ok()
            img.run("push", "taken", f"{faulty_registry.address}/pushed:1").ok()
            img.run("save", "-o", tmp_path / "saved.tar", "taken").ok()
            img.run("load", "-q", "-i", tmp_path / "saved.tar").ok()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_lives_through_every_command(
    form: str, new_state: NewState, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    image, file = FORMS[form]
    faulty_registry.add("app", "1", image)
    digest, img = image.top.digest, new_state("state", seeded=False)
    name = f"{faulty_registry.address}/app@{digest}"
    img.run("pull", name).ok()
    assert img.digest(name) == digest
    img.run("tag", name, "by-digest").ok()
    img.run("tag", digest.partition(":")[2][:12], "by-id").ok()
    packed = f"type=oci,dest={tmp_path / 'packed.tar'},compression=zstd,force-compression=true"
    img.build(write_context(tmp_path / "from", f"FROM {name}\nCOPY Dockerfile /added\n"), "-o", packed, tag="").ok()
    img.run("load", "-i", tmp_path / "packed.tar", "-t", "packed").ok()
    img.run("unpack", "-o", tmp_path / "root", "packed").ok()
    assert not file or (tmp_path / "root" / file).exists()
    img.run("fsck", "--read-data").ok()
    for lost in img.state.glob("img.db*"):
        lost.unlink()
    img.run("fsck", "--read-data", "--repair").ok()  # takes the blobs up again
    assert img.digest(name) == digest
    img.run("rm", *("by-digest", "by-id", "packed", name)).ok()
    img.run("prune", "-a", "-f").ok()
    assert not list(img.state.glob("blobs/*/*"))


def damaged(img: Img, digest: str) -> None:
    """Change a byte of the blob *digest*."""
    path = img.state / "blobs" / digest.replace(":", "/")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_a_damaged_blob_of_sha512_is_found_and_fetched_again(
    img: Img, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    image, _ = FORMS["all digests by sha512"]
    faulty_registry.add("app", "1", image)
    name = f"{faulty_registry.address}/app:1"
    img.run("pull", name).ok()
    damaged(img, image.layers[2].digest)
    img.run("fsck", "--read-data").refused(1, "1 problems were found")
    img.run("fsck", "--read-data", "--repair").ok()
    img.run("pull", name).ok()
    img.run("unpack", "-o", tmp_path / "root", name).ok()


@pytest.mark.parametrize("where", ["in the archive", "in the registry"])
def test_content_that_its_sha512_digest_does_not_tell_of_is_refused(
    where: str, img: Img, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    image, _ = FORMS["all digests by sha512"]
    layer = image.layers[2].digest
    wrong = replace(image, blobs={**image.blobs, layer: b"x" * len(image.blobs[layer])})
    faulty_registry.add("app", "1", wrong)
    commands = {
        "in the archive": ("load", "-i", archive_of(tmp_path, wrong)),
        "in the registry": ("pull", f"{faulty_registry.address}/app:1"),
    }
    img.run(*commands[where]).refused(1, "does not match its digest", "sha512:")


@pytest.mark.parametrize("place", ["manifest", "config or layers", "diff ids"])
def test_an_algorithm_that_nobody_registered_is_refused_in_one_line(
    place: str, img: Img, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    places = ["manifest", "config or layers", "diff ids"]
    image = make_image(FILES, algorithms=["sha384" if name == place else "sha256" for name in places])
    faulty_registry.add("app", "1", image)
    commands: list[tuple[str | Path, ...]] = [("load", "-i", archive_of(tmp_path, image))]
    if place == "manifest":
        pinned = write_context(tmp_path / "from", f"FROM {faulty_registry.address}/app@{image.top.digest}\n")
        img.build(pinned).refused(3, "unsupported digest algorithm")
    else:
        commands.append(("pull", f"{faulty_registry.address}/app:1"))
    for command in commands:
        done = img.run(*command).refused(1, "unsupported digest algorithm `sha384`")
        assert "hint: digests are sha256 or sha512" in done.stderr


def test_an_image_of_sha512_goes_through_a_real_registry(
    new_state: NewState, registry: DockerRegistry, tmp_path: Path
) -> None:
    """A registry that knows manifests by sha256 only: blobs keep their digests, the tag means the same manifest."""
    image = make_image(SEVERAL, algorithms=("sha256", "sha512", "sha512"))
    name = f"{registry.address}/sha512:1"
    first, second = new_state("first", seeded=False), new_state("second", seeded=False)
    first.run("load", "-i", archive_of(tmp_path, image), "-t", name).ok()
    first.run("push", name).ok()
    second.run("pull", name).ok()
    assert second.digest(name) == image.top.digest
    second.build(write_context(tmp_path / "from", f"FROM {name}\nCOPY Dockerfile /added\n")).ok()
    second.run("push", "built", f"{registry.address}/built:1").ok()
    second.run("unpack", "-o", tmp_path / "root", "built").ok()
    assert (tmp_path / "root/third").exists()


def test_a_base_of_sha512_is_shared_through_a_cache(
    new_state: NewState, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    image, _ = FORMS["all digests by sha512"]
    faulty_registry.add("app", "1", image)
    base = f"{faulty_registry.address}/app@{image.top.digest}"
    context = write_context(tmp_path / "context", f"FROM {base}\nCOPY Dockerfile /one\nCOPY Dockerfile /two\n")
    cache = tmp_path / "cache"
    for name, steps in (("first", 2), ("second", 0)):
        flags = (f"--cache-to=type=local,dest={cache},mode=max", f"--cache-from=type=local,src={cache}")
        done = new_state(name, seeded=False).build(context, *(flags if steps else flags[1:])).ok()
        assert len(made(done.stderr)) == steps, str(done)


@pytest.mark.parametrize("tags", [["<none>:<none>"], None, []])
def test_an_archive_whose_image_has_no_tag_is_loaded_under_its_id(
    tags: list[str] | None, img: Img, tmp_path: Path
) -> None:
    img.run("save", "-o", tmp_path / "saved.tar", "busybox").ok()
    digest = img.digest("busybox")
    with tarfile.open(tmp_path / "saved.tar") as archive:
        archive.extractall(tmp_path / "files")
    for name in ("index.json", "manifest.json"):
        (tmp_path / "files" / name).chmod(0o644)
    index = json.loads((tmp_path / "files/index.json").read_text())
    for entry in index["manifests"]:
        entry.pop("annotations", None)
    (tmp_path / "files/index.json").write_text(json.dumps(index))
    saved = json.loads((tmp_path / "files/manifest.json").read_text())
    (tmp_path / "files/manifest.json").write_text(json.dumps([{**item, "RepoTags": tags} for item in saved]))
    with tarfile.open(tmp_path / "changed.tar", "w") as archive:
        archive.add(tmp_path / "files", ".")
    assert img.run("load", "-i", tmp_path / "changed.tar").ok().text == f"Loaded image ID: {digest}\n"
