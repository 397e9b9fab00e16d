"""What a name with a digest and an id mean, in every command that takes an image."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.fixtures import NewState
from harness.img import Finished, Img, write_context
from harness.oci import ImageArchive
from img_core.testing.faulty_registry import FaultyRegistry, reply
from img_core.testing.images import make_image

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.rootless

FOREIGN = "sha256:" + "0" * 64  # of no image here
TEXT = "FROM busybox\nRUN echo made > /made\n"


def archive_with(directory: Path, original: Path, **documents: object) -> Path:
    """Return a copy of an image archive with other *documents* (``index`` for ``index.json``); None leaves one out."""
    changed = directory / "changed.tar"
    with tarfile.open(original) as source, tarfile.open(changed, "w") as target:
        for member in source:
            if member.name.removesuffix(".json") not in documents:
                target.addfile(member, source.extractfile(member) if member.isfile() else None)
        for name, document in documents.items():
            if document is not None:
                content = json.dumps(document).encode()
                added = tarfile.TarInfo(f"{name}.json")
                added.size = len(content)
                target.addfile(added, io.BytesIO(content))
    return changed


def contents(archive: Path) -> dict[str, bytes]:
    """Return the documents of an archive by name."""
    with tarfile.open(archive) as opened:
        files = [(member.name, opened.extractfile(member)) for member in opened if member.name.endswith(".json")]
        return {name: file.read() for name, file in files if file is not None}


# --- names with a digest --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag", "busybox", "x@D"],
        ["build", "-t", "x@D", "."],
        ["build", "-o", "type=image,name=x@D", "."],
        ["build", "-o", "type=oci,dest=out.tar,name=x@D", "."],
        ["import", "root.tar", "x@D"],
        ["load", "-i", "nameless.tar", "-t", "x@D"],
        ["load", "-i", "oci.tar"],
        ["load", "-i", "docker.tar"],
        ["load", "-i", "old.tar"],
        ["push", "busybox", "127.0.0.1:1/x@D"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_no_command_gives_an_image_the_digest_of_another(
    arguments: list[str], img: Img, tmp_path: Path, busybox_archive: Path
) -> None:
    saved = tmp_path / "saved.tar"
    img.run("save", "-o", saved, "busybox").ok()
    documents = {name: json.loads(content) for name, content in contents(saved).items()}
    (entry,) = documents["index.json"]["manifests"]
    bare = {key: value for key, value in entry.items() if key != "annotations"}
    named = {
        **documents["index.json"],
        "manifests": [{**bare, "annotations": {"io.containerd.image.name": f"x@{FOREIGN}"}}],
    }
    nameless = {**documents["index.json"], "manifests": [bare]}
    tagged = [{**item, "RepoTags": [f"x@{FOREIGN}"]} for item in documents["manifest.json"]]
    forms: dict[str, dict[str, Any]] = {
        "oci.tar": {"index": named},
        "nameless.tar": {"index": nameless, "manifest": None},
        "docker.tar": {"index": nameless, "manifest": tagged},
        "old.tar": {"index": None, "manifest": tagged},
    }
    for name, changes in forms.items():
        archive_with(tmp_path, saved, **changes).rename(tmp_path / name)
    with tarfile.open(tmp_path / "root.tar", "w"):
        pass
    write_context(tmp_path, TEXT)
    before = img.names()
    done = img.run(*(word.replace("x@D", f"x@{FOREIGN}") for word in arguments), cwd=tmp_path)
    done.refused(1 if arguments[0] == "load" and "-t" not in arguments else 2, FOREIGN if "-o" not in arguments else "")
    assert img.names() == before
    assert not (tmp_path / "out.tar").exists()


def test_a_name_with_its_own_digest_means_that_image(img: Img, tmp_path: Path) -> None:
    digest = img.digest("busybox")
    img.run("tag", "busybox", f"own@{digest}").ok()
    for name in (f"own@{digest}", f"busybox@{digest}", f"busybox:other@{digest}"):
        img.run("inspect", name).ok()
        img.build(write_context(tmp_path, f"FROM {name}\n")).ok()
    img.run("inspect", f"elsewhere@{digest}").refused(1, "not found")
    img.run("rm", f"busybox@{digest}").refused(1, "not found")
    img.run("rm", f"own@{digest}").ok()
    img.run("inspect", f"own@{digest}").refused(1, "not found")
    img.run("inspect", "busybox").ok()


def test_what_an_older_img_stored_under_a_foreign_digest_is_not_taken_for_it(
    img: Img, tmp_path: Path, faulty_registry: FaultyRegistry
) -> None:
    image = make_image([{"from-the-registry": b""}])
    faulty_registry.add("app", "1", image)
    name = f"{faulty_registry.address}/app@{image.top.digest}"
    with sqlite3.connect(img.state / "img.db") as database:
        database.execute("UPDATE image SET name = ?", (name,))
    for arguments in (["inspect"], ["save", "-o", tmp_path / "x.tar"], ["unpack", "-o", tmp_path / "x"], ["history"]):
        img.run(*arguments, name).refused(1, "not found")
    img.run("tag", name, "x").refused(1, "not found")
    img.run("push", name, f"{faulty_registry.address}/other:1").refused(1, "not found")
    img.build(write_context(tmp_path, f"FROM {name}\nCOPY Dockerfile /\n")).ok()
    assert "from-the-registry" in ImageArchive(img.export("built", tmp_path / "built.tar")).tree()
    img.build(tmp_path, "--build-context", f"x=docker-image://{name}", tag="again").ok()
    img.run("pull", name).ok()
    assert img.digest("again") == img.digest("built")


def test_a_registry_that_says_another_digest_for_a_pin_is_not_believed(
    new_state: NewState, faulty_registry: FaultyRegistry
) -> None:
    img = new_state(seeded=False)
    one, two = (make_image([{text: b""}]) for text in ("one", "two"))
    for tag, image in (("1", one), ("2", two)):
        faulty_registry.add("app", tag, image)
        img.run("pull", f"{faulty_registry.address}/app:{tag}").ok()
    faulty_registry.rule("HEAD", reply(200, b"", {"Docker-Content-Digest": one.top.digest}))
    img.run("pull", f"{faulty_registry.address}/app@{two.top.digest}").ok()
    rows = img.run("ls", "--format", "{{.Name}} {{.Digest}}").ok().text.split()
    assert rows[rows.index(f"{faulty_registry.address}/app@{two.top.digest}") + 1] == two.top.digest


# --- ids --------------------------------------------------------------------------------------------------------------------


def use(img: Img, command: str, name: str, directory: Path, registry: FaultyRegistry) -> Finished:
    """Run one command on the image that *name* means."""
    match command:
        case "tag":
            return img.run("tag", name, "another:1")
        case "push":
            return img.run("push", name, f"{registry.address}/pushed:1")
        case "save":
            return img.run("save", "-o", directory / "saved.tar", name)
        case "unpack":
            return img.run("unpack", "--force", "-o", directory / "root", name)
        case "FROM":
            return img.build(write_context(directory / "from", f"FROM {name}\nRUN cat /made\n"), tag="from")
        case "COPY --from":
            return img.build(
                write_context(directory / "copy", f"FROM busybox\nCOPY --from={name} /made /\n"), tag="copy"
            )
        case "--build-context":
            contexts = ["--build-context", f"base=docker-image://{name}"]
            return img.build(write_context(directory / "named", "FROM base\nRUN cat /made\n"), *contexts, tag="named")
    return img.run(command, name)


COMMANDS = ["inspect", "history", "tag", "push", "save", "unpack", "FROM", "COPY --from", "--build-context", "rm"]


def test_every_command_takes_the_id_that_a_build_prints(
    img: Img, tmp_path: Path, faulty_registry: FaultyRegistry
) -> None:
    context = write_context(tmp_path / "context", TEXT)
    built = img.run("build", "-q", context).ok().text.strip()
    img.run("build", "-q", "-t", "named", "--iidfile", tmp_path / "id", context).ok()
    assert (tmp_path / "id").read_text() == built
    assert built in img.run("ls", "-q").ok().text.split()
    img.run("save", "--format", "oci", "-o", tmp_path / "o.tar", built).ok()
    manifest = ImageArchive(tmp_path / "o.tar").manifest
    long = built.removeprefix("sha256:")
    forms = {
        "id": built,
        "digits": long,
        "short": long[:12],
        "short with algorithm": built[:19],
        "config": manifest["config"]["digest"],
    }
    for command in COMMANDS:
        for form, text in forms.items():
            if command == "rm":
                img.run("rm", "-f", "another:1", "named").ok()
                img.run("build", "-q", context).ok()
            elif form not in ("id", "short") and command not in ("inspect", "tag"):
                continue  # all ask the same code; FROM takes no short form with algorithm, which is a repository called sha256
            done = use(img, command, text, tmp_path, faulty_registry)
            assert done.returncode == 0, f"{command} {form}: {done}"
    assert "named" not in str(img.names())


def test_ids_that_name_nothing_or_too_much_are_refused(
    img: Img, tmp_path: Path, faulty_registry: FaultyRegistry
) -> None:
    images = [make_image(compress=compress) for compress in (True, False)]  # one config, two manifests
    for tag, image in zip("ab", images, strict=True):
        faulty_registry.add("app", tag, image)
        img.run("pull", f"{faulty_registry.address}/app:{tag}").ok()
    assert images[0].config
    done = img.run("inspect", images[0].config.digest).refused(2, f"the id `{images[0].config.digest}` is ambiguous")
    assert all(image.top.digest in done.stderr for image in images)
    img.run("inspect", FOREIGN).refused(1, "not found")
    img.run("inspect", FOREIGN[7:19]).refused(1, "not found")
    img.run("push", img.digest("busybox")).refused(2, "is an id")
    img.build(write_context(tmp_path, f"FROM {FOREIGN}\n")).refused(1, f"image {FOREIGN}: not found")


def test_an_id_with_several_names_goes_with_all_of_them_or_not_at_all(img: Img) -> None:
    digest = img.digest("busybox")
    img.run("tag", "busybox", "b:1").ok()
    img.run("rm", digest).refused(2, "has several names: docker.io/library/b:1, docker.io/library/busybox:latest")
    img.run("rm", "-f", digest[7:19]).ok()
    assert img.names() == []


# --- images without a name ------------------------------------------------------------------------------------------------


def test_a_build_without_a_name_keeps_the_image_under_its_id(img: Img, tmp_path: Path) -> None:
    done = img.run("build", write_context(tmp_path, TEXT)).ok()
    (identifier,) = done.text.split()
    assert f"Successfully built {identifier}" in done.stderr
    assert img.run("ls", "--format", "{{.Name}} {{.Repository}} {{.Tag}} {{.ID}}").ok().text.splitlines()[1:] == [
        f"<none> <none> <none> {identifier}"
    ]
    img.run("build", tmp_path).ok()
    assert len(img.run("ls", "-q").ok().text.split()) == 2, "the same image twice is one"
    img.run("tag", identifier, "named").ok()
    img.run("build", "--load", tmp_path).ok()
    assert sorted(img.names()) == ["docker.io/library/busybox:latest", "docker.io/library/named:latest"]
    img.run("rm", "named").ok()
    assert img.names() == ["docker.io/library/busybox:latest"]


def test_what_lost_its_name_to_another_image_keeps_its_id(img: Img, tmp_path: Path) -> None:
    old = img.run("build", "-q", "-t", "app", write_context(tmp_path, TEXT)).ok().text.strip()
    new = img.run("build", "-q", "-t", "app", write_context(tmp_path, TEXT + "RUN true\n")).ok().text.strip()
    assert img.digest("app") == new
    img.run("save", "-o", tmp_path / "old.tar", old).ok()
    img.run("tag", old, "app").ok()
    assert img.digest("app") == old
    img.run("inspect", new).ok()


def test_an_archive_without_a_name_is_loaded_under_its_id(img: Img, new_state: NewState, tmp_path: Path) -> None:
    digest = img.digest("busybox")
    img.run("save", "-o", tmp_path / "saved.tar", digest).ok()
    empty = new_state("other", seeded=False)
    assert empty.run("load", "-i", tmp_path / "saved.tar").ok().text == f"Loaded image ID: {digest}\n"
    empty.run("load", "-i", tmp_path / "saved.tar", "-t", "named").ok()
    assert empty.names() == ["docker.io/library/named:latest"]
