import copy
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.images import oci
from img_core.images.oci import InvalidDocument
from img_core.images.schemas import first_fault, load_schema
from img_core.spec.values import Descriptor, Digest, Platform

HEX = "0123456789abcdef" * 4


def descriptor(media_type: str = oci.OCI_LAYER_GZIP, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{HEX}", "size": 12, **more}


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": descriptor(oci.OCI_CONFIG),
        "layers": [descriptor(), descriptor(oci.OCI_LAYER_ZSTD, annotations={"a": "b"})],
        **more,
    }


def index(**more: Any) -> dict[str, Any]:
    platform = {"os": "linux", "architecture": "arm", "variant": "v7", "os.features": ["x"]}
    entry = descriptor(oci.OCI_MANIFEST, platform=platform)
    return {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [entry, descriptor(oci.OCI_MANIFEST)], **more}


def config(**more: Any) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["A=b"], "Cmd": None, "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}, "User": "me"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}", f"sha256:{HEX}"]},
        "history": [{"created_by": "x", "empty_layer": True}, {"author": None}],
        **more,
    }


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


def parse(document: Any, media_type: str = "") -> oci.Manifest | oci.Index:
    content = document if isinstance(document, bytes) else as_json(document)
    return oci.parse_manifest_or_index(content, name="manifest of `x`", media_type=media_type)


def refusal(document: Any, media_type: str = "") -> str:
    with pytest.raises(InvalidDocument) as caught:
        parse(document, media_type)
    message = caught.value.message
    assert message.startswith("manifest of `x` ")
    assert message.isprintable()
    assert len(message) < 500
    return message.removeprefix("manifest of `x` ")


def test_manifest_gives_config_and_layers() -> None:
    parsed = parse(manifest())
    assert isinstance(parsed, oci.Manifest)
    assert parsed.is_image
    assert parsed.config == Descriptor(oci.OCI_CONFIG, Digest(f"sha256:{HEX}"), 12)
    assert [oci.layer_compression(layer.media_type) for layer in parsed.layers] == ["gzip", "zstd"]
    assert parsed.layers[1].annotations == {"a": "b"}


def test_index_gives_platforms() -> None:
    parsed = parse(index())
    assert isinstance(parsed, oci.Index)
    assert [entry.platform for entry in parsed.manifests] == [Platform("linux", "arm", "v7"), None]


def test_config_gives_platform_and_diff_ids() -> None:
    parsed = oci.parse_config(as_json(config(variant="v2")), name="config")
    assert parsed.platform == Platform("linux", "amd64", "v2")
    assert parsed.diff_ids == (f"sha256:{HEX}",) * 2
    assert parsed.document["config"]["Env"] == ["A=b"]


def test_old_config_without_platform_is_linux_on_amd64() -> None:
    parsed = oci.parse_config(as_json({"rootfs": {"type": "layers", "diff_ids": None}}), name="config")
    assert str(parsed.platform) == "linux/amd64"
    assert parsed.diff_ids == ()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "is not a JSON object"),
        (b'{"a":"\xe4"}', "is not valid JSON: it is no text in UTF-8"),
        (b'{"a":1,"a":1}', "is not valid JSON: key 'a' appears twice"),
        (b'{"x":{"a":1,"b":2,"a":1}}', "is not valid JSON: key 'a' appears twice"),
        (b'{"a":NaN}', "is not valid JSON: NaN is not a JSON number"),
        (b'{"a":-Infinity}', "is not valid JSON: -Infinity is not a JSON number"),
        (b'{"a":1e999}', "is not valid JSON: 1e999 is not a JSON number"),
        (b'{"a":"\\ud800"}', "is not valid JSON: a text contains half of a surrogate pair"),
        (b'{"\\udfff":1}', "is not valid JSON: a text contains half of a surrogate pair"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "is nested too deeply"),
        (b"[" * 200_000, "is nested too deeply"),
        (b" " * (oci.DOCUMENT_LIMIT + 1), "has more than 4194304 bytes"),
        (b"{}", "is neither a manifest nor an index"),
    ],
)
def test_json_that_readers_could_disagree_about_is_refused(content: bytes, fault: str) -> None:
    assert refusal(content) == fault


@pytest.mark.parametrize(
    "content", [b'{"a":"\xff"}', b"\xef\xbb\xbf{}", b"{} x", b'{"a":' + b"9" * 5000 + b"}", b'{"\x00":1}']
)
def test_anything_but_plain_json_is_refused(content: bytes) -> None:
    assert refusal(content).startswith("is not valid JSON: ")


def test_manifest_that_is_also_an_index_is_refused() -> None:
    extras: list[dict[str, Any]] = [{"layers": []}, {"config": None}, {"fsLayers": []}, {"history": []}]
    for extra in extras:
        assert refusal(index(**extra)) == "is ambiguous: it has the keys of a manifest and of an index"


@pytest.mark.parametrize(
    ("document", "told", "fault"),
    [
        (manifest(), oci.OCI_INDEX, f"has the form of a manifest but the type `{oci.OCI_INDEX}`"),
        (index(), oci.OCI_MANIFEST, f"has the form of an index but the type `{oci.OCI_MANIFEST}`"),
        (manifest(mediaType=oci.OCI_INDEX), "", f"has the form of a manifest but the type `{oci.OCI_INDEX}`"),
        (
            manifest(),
            oci.DOCKER_MANIFEST,
            f"was sent as `{oci.DOCKER_MANIFEST}` but says that it is `{oci.OCI_MANIFEST}`",
        ),
        (manifest(), "text/html", "has the form of a manifest but the type `text/html`"),
        (manifest(mediaType="\x1b[31m"), "", "has the form of a manifest but the type `\\x1b[31m`"),
        (manifest(mediaType=3), "", "is invalid: mediaType: is not a text"),
        (
            {"schemaVersion": 1, "fsLayers": [], "history": []},
            "",
            "is a schema 1 manifest, which cannot be verified and is not supported",
        ),
    ],
)
def test_type_must_agree_with_the_document(document: Any, told: str, fault: str) -> None:
    assert refusal(document, told) == fault


def test_type_comes_from_wherever_it_is_told() -> None:
    bare = manifest()
    del bare["mediaType"]
    assert parse(bare).media_type == oci.OCI_MANIFEST
    assert parse(bare, oci.DOCKER_MANIFEST + "; charset=utf-8").media_type == oci.DOCKER_MANIFEST
    assert parse(manifest(), "application/octet-stream").media_type == oci.OCI_MANIFEST


def test_wrong_kind_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="x is an index where a manifest was expected"):
        oci.parse_manifest(as_json(index()), name="x")
    with pytest.raises(InvalidDocument, match="x is a manifest where an index was expected"):
        oci.parse_index(as_json(manifest()), name="x")


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("layers", 1, "size"), -1, "is invalid: layers.1.size: -1 is less than the minimum of 0"),
        (("layers", 1, "size"), True, "is invalid: layers.1.size: True is not of type 'integer'"),
        (("layers", 1, "size"), 2**63, "is invalid: layers.1.size: "),
        (("layers", 1, "digest"), "sha256:" + HEX.upper(), "is invalid: layers.1.digest: "),
        (("layers", 1, "digest"), f"sha256:{HEX}\n", "is invalid: layers.1.digest: "),
        (("layers", 1, "digest"), "sha256:../../etc/passwd", "is invalid: layers.1.digest: 'sha256:../../etc/passwd' "),
        (("layers", 1, "mediaType"), "", "is invalid: layers.1.mediaType: "),
        (("layers", 1), None, "is invalid: layers.1: None is not of type 'object'"),
        (("layers",), {}, "is invalid: layers: {} is not of type 'array'"),
        (("layers",), [descriptor()] * 1001, "is invalid: layers: "),
        (("config",), None, "is invalid: config: None is not of type 'object'"),
        (("annotations",), {"a": 1}, "is invalid: annotations.a: 1 is not of type 'string'"),
        (("schemaVersion",), "2", "is invalid: schemaVersion: "),
        (("schemaVersion",), 2.0, "is invalid: some value has the wrong type"),
    ],
)
def test_bad_manifest_is_refused_with_the_place(path: tuple[Any, ...], value: Any, fault: str) -> None:
    document = manifest()
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert refusal(document).startswith(fault)


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": None},
        {"rootfs": {"type": "tar", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}},
        {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"] * 1001}},
        {"config": []},
        {"config": {"Env": "A=b"}},
        {"config": {"Cmd": [1]}},
        {"config": {"Labels": {"a": None}}},
        {"config": {"User": 0}},
        {"config": {"Volumes": ["/x"]}},
        {"history": [None]},
        {"history": [{"empty_layer": "yes"}]},
        {"history": [{"created": 5}]},
        {"architecture": 1},
    ],
)
def test_bad_config_is_refused_with_the_place(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument, match=f"^config is invalid: {next(iter(change))}"):
        oci.parse_config(as_json(config(**change)), name="config")


def test_layers_and_diff_ids_must_count_the_same() -> None:
    parsed, two = oci.parse_manifest(as_json(manifest()), name="x"), oci.parse_config(as_json(config()), name="c")
    oci.check_layers(parsed, two, name="x")
    one = oci.parse_config(as_json(config(rootfs={"diff_ids": [f"sha256:{HEX}"]})), name="c")
    with pytest.raises(InvalidDocument, match="x has 2 layers but its config 1 diff ids"):
        oci.check_layers(parsed, one, name="x")
    strange = oci.parse_manifest(as_json(manifest(layers=[descriptor("text/plain")] * 2)), name="x")
    with pytest.raises(InvalidDocument, match="x has a layer of unknown type `text/plain`"):
        oci.check_layers(strange, two, name="x")


def test_descriptor_goes_out_as_it_came_in() -> None:
    for entry in index()["manifests"]:
        entry.get("platform", {}).pop("os.features", None)
        parsed = oci.parse_index(as_json(index(manifests=[entry])), name="x")
        assert oci.descriptor_document(parsed.manifests[0]) == entry


def test_canonical_json_is_sorted_compact_utf8() -> None:
    assert (
        oci.canonical_json({"b": [1, "é<"], "a": {"z": None, "y": True}})
        == '{"a":{"y":true,"z":null},"b":[1,"é<"]}'.encode()
    )
    assert oci.digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(ValueError, match="not JSON compliant"):
        oci.canonical_json(float("nan"))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_json)
def test_canonical_json_reads_back(value: Any) -> None:
    assert oci.load_json(oci.canonical_json(value), name="x") == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        parse(content)
    except InvalidDocument as error:
        assert error.message.isprintable()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in *value*."""
    found = []
    pending = [value]
    while pending:
        item = pending.pop()
        pairs = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for key, child in pairs:
            found.append((item, key))
            pending.append(child)
    return found


_replacements = st.sampled_from(
    [None, 0, -1, 2**63, True, "", "x", [], {}, ["x"], {"x": "y"}, {"x": 1}, f"sha256:{HEX}", [None]]
)


@given(st.sampled_from(["manifest", "index", "config"]), st.data())
def test_plain_checks_and_schemas_agree(kind: str, data: st.DataObject) -> None:
    document = {"manifest": manifest, "index": index, "config": config}[kind]()
    document.pop("mediaType", None)  # checked before the rest, with words of its own
    container, key = data.draw(st.sampled_from(_places(document)))
    container[key] = data.draw(_replacements)
    builders = {"manifest": oci._manifest, "index": oci._index, "config": oci._config}
    try:
        builders[kind](copy.deepcopy(document), "")
        accepted = True
    except oci._Malformed:
        accepted = False
    assert accepted == (first_fault(document, kind) is None)


def test_schemas_are_schemas() -> None:
    import jsonschema

    for kind in ("manifest", "index", "config"):
        jsonschema.Draft202012Validator.check_schema(load_schema(kind))


def test_good_documents_do_not_load_the_schema_library() -> None:
    program = (
        "import sys; from img_core.images import oci, platforms, reference; "
        f"oci.parse_manifest_or_index({as_json(manifest())!r}, name='x'); "
        "print([m for m in ('jsonschema', 'httpcore', 'httpx', 'importlib.resources', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
