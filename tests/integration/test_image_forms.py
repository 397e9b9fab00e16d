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
from img_core.images import oci
from img_core.spec.values import Descriptor
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import SmallImage, make_image, make_index, write_layout

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.rootless


def written(image: SmallImage, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> SmallImage:
    """Return *image* after *change* of its manifest and config."""
    assert image.config is not None
    manifest, config = (json.loads(image.blobs[item.digest]) for item in (image.top, image.config))
    change(manifest, config)
    data = json.dumps(config).encode()
    new = Descriptor(image.config.media_type, oci.digest(data), len(data))
    manifest["config"] = oci.descriptor_document(new)
    content = json.dumps(manifest).encode()
    top = replace(image.top, digest=oci.digest(content), size=len(content))
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
