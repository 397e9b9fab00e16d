"""What listeners add to a build, and what they are told of it, in which order, and with whose name when they fail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.containers import skopeo
from harness.img import Img, write_context
from img_core.images.platforms import host_platform
from img_core.testing.registry import DockerRegistry

pytestmark = pytest.mark.rootless

HEAD = "import json\nfrom img_core.spec import RunAddition, RunMount, UsageError, hookimpl\n"
TELLING = (
    HEAD
    + """
def note(*what):
    with open(PATH, "a") as file:
        file.write(json.dumps(what) + "\\n")
@hookimpl
def img_run_planned(vertex):
    note("run", vertex.name)
@hookimpl
def img_build_planned(plan):
    note("planned", len(plan.images))
@hookimpl
def img_step_finished(vertex, cached):
    note("step", vertex.name)
@hookimpl
def img_step_failed(vertex, error, seconds):
    note("failed", vertex.name, error, seconds > 0)
@hookimpl
def img_layer_committed(vertex, descriptor, diff_id):
    note("layer", vertex.name, descriptor.digest, diff_id)
@hookimpl
def img_image_built(image, names):
    note("image", str(image.platform), list(names), [layer.diff_id for layer in image.layers()])
@hookimpl
def img_exported(exporter, names, metadata):
    note("exported", exporter, list(names), metadata.get("containerimage.digest", ""))
@hookimpl
def img_build_finished(error, seconds):
    note("finished", error, seconds > 0)
"""
)
ADDING = HEAD + "@hookimpl\ndef img_run_planned(vertex):\n    return RunAddition(BODY)\n"
Plug = Callable[..., Img]


@pytest.fixture
def plug(img: Img) -> Plug:
    """Return a function that writes the listener *name* and returns the command that has it."""
    directory = img.home / ".config/img/plugins"
    directory.mkdir(parents=True)
    img = img.with_environment(TMPDIR=str(img.home))  # for the reports of listeners that fail

    def do(source: str, name: str = "one") -> Img:
        path = directory / f"listener-{name}.py"
        path.write_text(source)
        path.chmod(0o644)
        return img

    return do


def context(tmp_path: Path, text: str) -> Path:
    return write_context(tmp_path / "context", text)


def test_a_build_is_told_in_order(plug: Plug, tmp_path: Path) -> None:
    img = plug(TELLING.replace("PATH", repr(str(tmp_path / "told"))))
    place = context(tmp_path, "FROM busybox\nRUN echo one\n")
    digest = img.build(place, "-q", tag="app:1").ok().text.strip()
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    kinds = [row[0] for row in told]
    steps = [row for row in told if row[0] == "step"]
    assert [kind for kind in kinds if kind not in ("step", "layer")] == [
        "run",
        "planned",
        "image",
        "exported",
        "finished",
    ]
    assert steps[-1][1] == "[2/2] RUN echo one"
    (layer,) = (row for row in told if row[0] == "layer")
    assert (layer[1], layer[2][:7], layer[3][:7]) == ("[2/2] RUN echo one", "sha256:", "sha256:")
    assert kinds.index("layer") < kinds.index("exported")
    image = told[kinds.index("image")]
    assert image[1:3] == [str(host_platform()), ["docker.io/library/app:1"]]
    assert image[3][-1] == layer[3]
    assert told[-2][1:3] == ["image", ["docker.io/library/app:1"]]
    assert told[-2][3] in digest or digest
    assert told[-1] == ["finished", "", True]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("FROM busybox\nRUN exit 3\n", "did not complete successfully: exit code: 3"),
        ("FROM busybox\nRUN sleep 0.1 && exit 3\nRUN true\n", "did not complete successfully: exit code: 3"),
        ("FROM busybox\nCOPY none /\n", "none"),
    ],
)
def test_a_failure_is_told_in_a_line(plug: Plug, tmp_path: Path, text: str, error: str) -> None:
    img = plug(TELLING.replace("PATH", repr(str(tmp_path / "told"))))
    assert img.build(context(tmp_path, text)).returncode != 0
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    if ["planned", 1] not in told:  # it failed before there was a plan
        assert not [row for row in told if row[0] == "finished"]
        return
    assert told[-1][0] == "finished"
    assert error in told[-1][1]
    ((_, name, reason, took),) = (row for row in told if row[0] == "failed")
    assert (name.split()[1], took) == (text.split()[2], True)
    assert error in reason
    assert "\n" not in reason
    assert not [row for row in told if row[0] == "step" and row[1] == name]
    assert "\n" not in told[-1][1]


def test_what_is_added_is_there_and_counts(plug: Plug, tmp_path: Path) -> None:
    place = context(
        tmp_path,
        'FROM busybox\nENV OWN=mine\nRUN echo "$ADDED $OWN" > /seen; test -d /tmp/mounted\nRUN cp /seen /copy\n',
    )
    mount = "mounts=(RunMount('tmpfs', '/tmp/mounted'),)"

    def build(added: str) -> tuple[str, int]:
        img = plug(ADDING.replace("BODY", f"env=(('ADDED', {added!r}), ('OWN', 'theirs')), {mount}"))
        done = img.build(place, "--progress=plain", "-o", f"{tmp_path}/out-{added}", tag="").ok()
        return (tmp_path / f"out-{added}/copy").read_text(), done.stderr.count("CACHED")

    assert build("one") == ("one mine\n", 0)
    assert build("two") == ("two mine\n", 0)
    text, cached = build("one")
    assert text == "one mine\n"
    assert cached >= 2


BAD = {
    "a name": ("env=(('A=B', 'x'),)", "which cannot be one"),
    "a bind mount": ("mounts=(RunMount('bind', '/x', input=0),)", "`/x`"),
    "a relative target": ("mounts=(RunMount('tmpfs', 'x'),)", "`x`"),
    "a target twice": ("mounts=(RunMount('tmpfs', '/x'), RunMount('tmpfs', '/x'))", "a second mount at `/x`"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_added_is_refused(plug: Plug, tmp_path: Path, what: str) -> None:
    img = plug(ADDING.replace("BODY", BAD[what][0]))
    img.build(context(tmp_path, "FROM busybox\nRUN true\n")).refused(1, "listener", BAD[what][1])


def test_two_that_disagree_are_an_error(plug: Plug, tmp_path: Path) -> None:
    plug(ADDING.replace("BODY", "env=(('A', '1'),)"), "first")
    img = plug(ADDING.replace("BODY", "env=(('A', '2'),)"), "second")
    img.build(context(tmp_path, "FROM busybox\nRUN true\n")).refused(1, "two listeners add other values of `A`")


def test_one_that_fails_stops_the_build_with_its_name(plug: Plug, tmp_path: Path) -> None:
    img = plug(HEAD + "@hookimpl\ndef img_run_planned(vertex):\n    1 / 0\n")
    done = img.build(context(tmp_path, "FROM busybox\nRUN true\n"))
    done.refused(1, f"plugin listener:one of {img.home}/.config/img/plugins/listener-one.py failed: ZeroDivisionError")
    img = plug(HEAD + "@hookimpl\ndef img_run_planned(vertex):\n    raise UsageError('no RUN here')\n")
    img.build(context(tmp_path, "FROM busybox\nRUN true\n")).refused(2, "no RUN here")
    img = plug(HEAD + "@hookimpl\ndef img_exported(names):\n    1 / 0\n")
    done = img.build(context(tmp_path, "FROM busybox\nRUN true\n")).ok()
    assert "listener-one.py failed: ZeroDivisionError: division by zero (in `img_exported`)" in done.stderr


def test_calls_can_be_seen_with_their_times(plug: Plug, tmp_path: Path) -> None:
    img = plug(TELLING.replace("PATH", repr(str(tmp_path / "told"))))
    place = context(tmp_path, "FROM busybox\nRUN true\n")
    lines = img.with_environment(IMG_TRACE_PLUGINS="1").build(place).ok().stderr.splitlines()
    seen = [line.removeprefix("plugin listener:one: ") for line in lines if line.startswith("plugin listener:one: ")]
    assert {line.split()[0] for line in seen} == {
        "loaded", "img_run_planned", "img_build_planned", "img_step_finished", "img_layer_committed", "img_image_built",
        "img_exported", "img_build_finished",
    }  # fmt: skip
    assert all(line.endswith(" ms") for line in seen)
    assert any(line.startswith("plugin exporter:image: made in ") for line in lines)
    assert not [line for line in img.build(place).ok().stderr.splitlines() if line.startswith("plugin ")]


ATTESTING = (
    "from img_core.spec import Attestation, hookimpl\nTYPE = 'https://example.org/reviewed/v1'\n"
    "@hookimpl\ndef img_image_built(image):\n    return BODY\n"
)
STATED = "[Attestation(TYPE, {'by': 'somebody', 'layers': len(image.layers())})]"


def layout_document(layout: Path, descriptor: dict[str, Any]) -> dict[str, Any]:
    """Return a document of an image layout, whose digest and size are as told."""
    content = (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    assert descriptor["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert descriptor["size"] == len(content)
    return dict(json.loads(content))


@pytest.mark.registry
def test_what_a_listener_states_is_attached_as_buildkit_does(
    plug: Plug, tmp_path: Path, registry: DockerRegistry
) -> None:
    place, layout = context(tmp_path, "FROM busybox\nRUN true\n"), tmp_path / "layout"
    img = plug("from img_core.spec import hookimpl\n@hookimpl\ndef img_image_built(image):\n    return None\n")
    output = f"type=oci,tar=false,dest={layout}"
    before = img.build(place, "-q", "-o", output, "-o", "type=image", tag="org/app:1").ok().text.strip()
    assert layout_document(layout, json.loads((layout / "index.json").read_text())["manifests"][0])["layers"]
    plug(ATTESTING.replace("BODY", STATED))
    attested = img.build(place, "-q", "-o", output, "-o", "type=image", tag="org/app:1").ok().text.strip()
    (top,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert attested == top["digest"] != before
    image, entry = layout_document(layout, top)["manifests"]
    assert entry["platform"] == {"os": "unknown", "architecture": "unknown"}
    assert entry["annotations"] == {
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = layout_document(layout, entry)
    assert manifest["subject"]["digest"] == image["digest"]
    assert layout_document(layout, manifest["config"]) == {}
    (layer,) = manifest["layers"]
    assert layer["annotations"] == {"in-toto.io/predicate-type": "https://example.org/reviewed/v1"}
    assert layout_document(layout, layer) == {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://example.org/reviewed/v1",
        "predicate": {"by": "somebody", "layers": len(layout_document(layout, image)["layers"])},
        "subject": [
            {
                "name": f"pkg:docker/org/app@1?platform={str(host_platform()).replace('/', '%2F')}",
                "digest": {"sha256": image["digest"].removeprefix("sha256:")},
            }
        ],
    }
    # Others read it, and so do we: the image is what it was, whether everything is copied or the image alone.
    skopeo("copy", "--all", f"oci:{layout}:1", f"oci:{tmp_path}/all:1")
    (copied,) = json.loads((tmp_path / "all/index.json").read_text())["manifests"]
    assert copied["digest"] == top["digest"]
    assert b"rootfs" in skopeo("inspect", "--raw", "--config", f"oci:{layout}:1")
    img.build(place, "-o", f"type=registry,name={registry.address}/app:1,registry.insecure=true", tag="").ok()
    pushed = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/app:1"))
    assert [item["platform"]["os"] for item in pushed["manifests"]] == ["linux", "unknown"]
    skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{registry.address}/app:1", f"dir:{tmp_path}/pushed")
    child = context(tmp_path / "child", "FROM org/app:1\nRUN true\n")
    (img.home / ".config/img/plugins/listener-one.py").unlink()
    img.build(child, tag="child:1").ok()
    assert "org/app" in img.run("ls").ok().text
    img.run("save", "--format", "oci", "-o", tmp_path / "saved.tar", "org/app:1").ok()
    img.run("unpack", "-o", tmp_path / "unpacked", "org/app:1").ok()
    assert img.build(place, "-q", tag="org/app:1").ok().text.strip() == before  # nothing of it stays


WRONG_STATEMENTS = {
    "no list": ("5", 1, "must return a list of Attestation or None, not int from `img_image_built`"),
    "no attestation": ("[{}]", 1, "not one with dict"),
    "no URI": ("[Attestation('', {})]", 1, "whose type is a URI"),
    "no JSON": ("[Attestation(TYPE, {'a': object()})]", 1, "attestations that are JSON"),
    "a bug": ("1 / 0", 1, "failed: ZeroDivisionError"),
}


@pytest.mark.parametrize("what", WRONG_STATEMENTS)
def test_a_wrong_statement_stops_the_build_with_its_name(plug: Plug, tmp_path: Path, what: str) -> None:
    body, status, text = WRONG_STATEMENTS[what]
    img = plug(ATTESTING.replace("BODY", body))
    done = img.build(context(tmp_path, "FROM busybox\n"), tag="app:1")
    done.refused(status, f"plugin listener:one of {img.home}/.config/img/plugins/listener-one.py ", text)
    assert "docker.io/library/app:1" not in img.names()


def test_outputs_that_cannot_hold_statements_say_so(plug: Plug, tmp_path: Path) -> None:
    img = plug(ATTESTING.replace("BODY", STATED))
    place = context(tmp_path, "FROM busybox\n")
    img.build(place, "-o", "type=docker,dest=out.tar").refused(2, "docker exporter cannot attach attestations")
    img.build(place, "-o", "type=image,oci-mediatypes=false").refused(2, "with `oci-mediatypes=false`")
    img.build(place, "-o", f"type=local,dest={tmp_path}/tree", tag="").ok()
