"""The document of a cache: what is written is read again, equal content is equal bytes, and what is damaged is never a wrong record."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from cache_records import hexadecimal, layer, record, records
from hypothesis import given, settings
from hypothesis import strategies as st

from img_core.images import oci
from img_core.spec.cache import CacheRecord
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.values import Descriptor, Digest
from img_lib_cache.document import Body, UnusableError, checksum, decode_body, encode_body, normal
from img_lib_cache.envelope import CONFIG_KEY, FOREIGN, FoundBodies, pack, unpack


def newest(items: list[CacheRecord]) -> dict[tuple[str, str], CacheRecord]:
    kept = [item for given in items if (item := normal(given)) is not None]
    return {(item.key, item.definition): item for item in sorted(kept, key=lambda item: item.created)}


class Stored(dict[str, bytes]):
    """Blobs by their digests, as a place keeps them."""

    def add(self, content: bytes) -> str:
        self[oci.digest(content)] = content
        return oci.digest(content)

    def fetch(self, descriptor: Descriptor) -> bytes:
        return self.document(descriptor.digest)

    def document(self, digest: str) -> bytes:
        if digest not in self:
            raise NotFoundError(f"{digest}: not found")
        return self[digest]

    def unpack(self, manifest: bytes) -> FoundBodies:
        return unpack(manifest, self.fetch, "the cache", document=self.document)


def stored(body: Body) -> tuple[bytes, Stored]:
    envelope, store = pack(body, created="2026-01-01T00:00:00Z"), Stored()
    for descriptor, content in envelope.blobs:
        assert store.add(content) == descriptor.digest
    return envelope.manifest, store


@given(records)
@settings(deadline=None, max_examples=200)
def test_what_is_written_is_read_again(items: list[CacheRecord]) -> None:
    value = json.loads(oci.canonical_json(encode_body(Body(tuple(items), created=5.5, segments=("a", "b")))))
    body = decode_body(value, "x")
    assert {(item.key, item.definition): item for item in body.records} == newest(items)
    assert (body.created, body.segments, body.dropped) == (5.5, ("a", "b"), 0)


@given(records, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_equal_content_gives_equal_bytes(items: list[CacheRecord], chance: random.Random) -> None:
    kept = list(newest(items).values())
    shuffled = list(kept)
    chance.shuffle(shuffled)
    first, second = (oci.canonical_json(encode_body(Body(tuple(some)))) for some in (kept, shuffled))
    assert first == second


@given(records)
@settings(deadline=None, max_examples=50)
def test_an_envelope_gives_back_the_records(items: list[CacheRecord]) -> None:
    manifest, store = stored(Body(tuple(items)))
    found = store.unpack(manifest)
    assert found.warnings == ()
    assert {(item.key, item.definition): item for body in found.bodies for item in body.records} == newest(items)


def test_every_stack_is_written_once() -> None:
    layers = [layer(str(number)) for number in range(50)]
    items = [record(str(number), *layers[: number + 1]) for number in range(50)]
    value = encode_body(Body(tuple(items)))
    assert len(value["stacks"]) == len(value["blobs"]) == 50
    assert len(oci.canonical_json(value)) < 50 * 700


def test_5000_records_lie_in_a_blob_of_their_own() -> None:
    shared = [layer(f"base {number}") for number in range(3)]
    items = [record(str(number), *shared, layer(str(number))) for number in range(5000)]
    manifest, store = stored(Body(tuple(items)))
    assert len(json.loads(manifest)["layers"]) == 5004
    assert len(store.fetch(_config(manifest))) < 1 << 20
    found = store.unpack(manifest)
    assert set(found.bodies[0].records) == set(items)


@pytest.mark.parametrize("count", [2, 4000])
def test_1000_mutations_never_give_a_record_that_was_not_written(count: int) -> None:
    """Of the manifest, the config and the blob of records, bytes are flipped, cut, added and exchanged."""
    items = {record(str(number), layer("below"), layer(str(number)), description="RUN x") for number in range(count)}
    manifest, store = stored(Body(tuple(items)))
    documents = {"manifest": manifest, **store}
    chance = random.Random(7)
    for _ in range(1000 if count < 100 else 50):
        name = chance.choice(sorted(documents))
        content = _mutated(documents[name], chance)
        damaged = Stored({**store, name: content})
        found = damaged.unpack(content if name == "manifest" else manifest)
        read = {item for body in found.bodies for item in body.records}
        assert read <= items
        if name != "manifest" and content != documents[name]:
            assert read == set()
            assert len(found.warnings) == 1


@pytest.mark.parametrize("seed", range(4))
def test_1000_mutations_of_the_body_itself_are_refused(seed: int) -> None:
    """Also where no digest guards it, as in an image whose config somebody rewrote."""
    items = [record(str(number), layer("below"), layer(str(number)), trees=(("aa", "bb"),)) for number in range(4)]
    text = oci.canonical_json(encode_body(Body(tuple(items))))
    chance = random.Random(seed)
    for _ in range(250):
        try:
            body = decode_body(oci.load_json(_mutated(text, chance), name="x"), "x")
        except ImgError as err:
            assert "\n" not in err.message
        else:
            assert set(body.records) <= set(items)


def _mutated(content: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(content))
    kind = chance.randrange(5)
    if kind == 0:
        return content[:position]
    if kind == 1:
        return content[:position] + content[position + chance.randrange(1, 20) :]
    if kind == 2:
        return content[:position] + bytes([content[position] ^ (1 << chance.randrange(8))]) + content[position + 1 :]
    if kind == 3:
        return content[:position] + content[:position]
    other = chance.randrange(len(content))
    return content[:position] + content[other : other + 64] + content[position + 64 :]


def _config(manifest: bytes) -> Descriptor:
    value = json.loads(manifest)["config"]
    return Descriptor(value["mediaType"], Digest(value["digest"]), value["size"])


# ------------------------------------------------------------------------------------------- lies with a right checksum


def _lie(change: Any) -> dict[str, Any]:
    value = copy.deepcopy(encode_body(Body((record("a", layer("1"), layer("2")), record("b", layer("1"))))))
    change(value)
    return {**value, "sum": checksum(value)}


def _set(*path: Any) -> Any:
    *parts, last, new = path

    def change(value: Any) -> None:
        for part in parts:
            value = value[part]
        value[last] = new

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("blobs", 0, 0, "sha256:abc"),
        _set("blobs", 0, 0, "../../etc/passwd"),
        _set("blobs", 0, 1, None),
        _set("blobs", 0, 2, -1),
        _set("blobs", 0, 2, 1.5),
        _set("blobs", 0, 2, True),
        _set("blobs", 0, 3, "text/plain"),
        _set("blobs", 0, 3, "application/vnd.oci.image.layer.nondistributable.v1.tar"),
        _set("blobs", 0, []),
        _set("blobs", {}),
        _set("bases", 0, 7),
        _set("stacks", 0, 0, 0),
        _set("stacks", 0, 0, 5),
        _set("stacks", 0, 0, -9),
        _set("stacks", 0, 1, 9),
        _set("stacks", 0, 2, -1),
        _set("stacks", 0, 2, 1e300),
        _set("stacks", 0, 2, "now"),
        _set("stacks", None),
        _set("records", 5),
        _set("created", "x"),
        _set("segments", [1]),
    ],
)
def test_a_table_of_a_wrong_kind_makes_a_document_useless(change: Any) -> None:
    with pytest.raises(UnusableError, match="x is damaged"):
        decode_body(_lie(change), "x")


@pytest.mark.parametrize(
    "change",
    [
        _set("records", 0, None),
        _set("records", 0, []),
        _set("records", 0, "k", ""),
        _set("records", 0, "k", "a\nb"),
        _set("records", 0, "k", "ä"),
        _set("records", 0, "i", 7),
        _set("records", 0, "v", 5),
        _set("records", 0, "l", 99),
        _set("records", 0, "l", -99),
        _set("records", 0, "l", "0"),
        _set("records", 0, "c", True),
        _set("records", 0, "last", -1),
        _set("records", 0, "trees", [["a"]]),
        _set("records", 0, "trees", [["a", "b c\x1b"]]),
        _set("records", 0, "in", "ab"),
        _set("records", 0, "d", 5),
    ],
)
def test_a_record_that_says_something_impossible_is_left_out(change: Any) -> None:
    body = decode_body(_lie(change), "x")
    assert (len(body.records), body.dropped) == (1, 1)


def test_unknown_fields_are_ignored() -> None:
    def change(value: Any) -> None:
        value["later"] = {"a": 1}
        value["records"][0]["later"] = [1]

    assert len(decode_body(_lie(change), "x").records) == 2


def test_enormous_stacks_of_a_small_document_are_not_expanded() -> None:
    def change(value: Any) -> None:
        value["stacks"] = [[number - 1, 0, 0] for number in range(100_000)]
        value["records"][0]["l"] = 99_999

    assert decode_body(_lie(change), "x").dropped >= 1


def test_a_later_format_is_told() -> None:
    with pytest.raises(UnusableError, match=r"x has format 2, which a later version of img wrote") as caught:
        decode_body({"format": 2}, "x")
    assert not caught.value.replaceable


@pytest.mark.parametrize(
    "odd",
    [
        replace(record("a"), key=""),
        replace(record("a"), key="a b\n"),
        replace(record("a"), created=float("nan")),
        replace(record("a"), created=-1.0),
        replace(record("a"), created=1e300),
        replace(record("a"), layers=(replace(layer("a"), diff_id="none"),)),
        replace(record("a"), layers=tuple(layer(str(number)) for number in range(1001))),
    ],
    ids=range(7),
)
def test_what_cannot_be_written_is_left_out(odd: CacheRecord) -> None:
    assert [item.key for item in decode_body(encode_body(Body((odd, record("b")))), "x").records] == [hexadecimal("b")]


def test_a_description_of_strange_bytes_is_written() -> None:
    odd = replace(record("a"), description="RUN \udcff" + "x" * 5000, inputs=(("\udcff", "y"),))
    (read,) = decode_body(json.loads(oci.canonical_json(encode_body(Body((odd,))))), "x").records
    assert (read.description[:6], len(read.description), read.inputs) == ("RUN ?x", 1000, (("?", "y"),))


# ----------------------------------------------------------------------------------------------- documents of others


def _manifest(store: Stored, config: bytes, media_type: str = oci.OCI_CONFIG) -> bytes:
    described = {"mediaType": media_type, "digest": store.add(config), "size": len(config)}
    return json.dumps({"schemaVersion": 2, "mediaType": oci.OCI_MANIFEST, "config": described, "layers": []}).encode()


_BUILDKIT = "application/vnd.buildkit.cacheconfig.v0"


@pytest.mark.parametrize(
    ("make", "words", "replaceable"),
    [
        (lambda store: _manifest(store, b'{"layers":[]}', _BUILDKIT), FOREIGN, True),
        (lambda store: json.dumps({"manifests": [{"mediaType": _BUILDKIT}]}).encode(), FOREIGN, True),
        (lambda store: _manifest(store, b'{"os":"linux","moby.buildkit.cache.v0":"W10="}'), FOREIGN, False),
        (lambda store: _manifest(store, b'{"os":"linux"}'), "carries no cache", False),
        (lambda store: _manifest(store, b"{}", "application/vnd.example+json"), "carries no cache", False),
        (lambda store: json.dumps({"manifests": []}).encode(), "carries no cache", False),
        (lambda store: _manifest(store, json.dumps({CONFIG_KEY: {"format": 9}}).encode()), "later version", False),
        (lambda store: _manifest(store, json.dumps({CONFIG_KEY: []}).encode()), "damaged", True),
        (lambda store: _manifest(store, json.dumps({CONFIG_KEY: {"format": 1, "more": 3}}).encode()), "damaged", True),
        (lambda store: _manifest(Stored(), b"{}"), "damaged", True),
        (lambda store: _manifest(store, b"\xff"), "damaged", True),
        (lambda store: b"<html>busy</html>", "damaged", True),
        (lambda store: b"", "damaged", True),
        (lambda store: b"[]", "damaged", True),
        (lambda store: b'{"config":7}', "damaged", True),
        (lambda store: b'{"manifests":7}', "carries no cache", False),
        (lambda store: b'{"manifests":[7,{"mediaType":7}]}', "carries no cache", False),
    ],
)
def test_what_is_no_cache_of_ours_is_one_warning(make: Any, words: str, replaceable: bool) -> None:
    store = Stored()
    found = store.unpack(make(store))
    assert found.bodies == ()
    assert len(found.warnings) == 1
    assert words in found.warnings[0]
    assert found.replaceable is replaceable


def test_an_index_leads_to_the_images_of_all_platforms() -> None:
    store, items = Stored(), []
    for name in ("amd64", "arm64"):
        body = encode_body(Body((record(name, layer(name)),)))
        manifest = _manifest(store, json.dumps({"os": "linux", CONFIG_KEY: body}).encode())
        described = {"mediaType": oci.OCI_MANIFEST, "digest": store.add(manifest), "size": len(manifest)}
        items.append(described)
    items.append({"mediaType": oci.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 3})  # gone
    found = store.unpack(json.dumps({"manifests": items}).encode())
    assert {item.key for body in found.bodies for item in body.records} == {hexadecimal("amd64"), hexadecimal("arm64")}
    assert len(found.warnings) == 1
    assert not found.replaceable
