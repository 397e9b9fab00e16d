"""The cache in a registry: what it asks for, and what happens when the registry misbehaves."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cache_lab import Lab

from img_cache_registry._registry import RegistryCache
from img_core.images import oci
from img_core.spec.cache import CacheBackend
from img_core.spec.errors import Canceled, ImgError, UsageError
from img_core.testing.faulty_registry import Exchange, FaultyRegistry, cut_after, reply, status
from img_core.testing.images import make_image
from img_core.testing.results import Recorder


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as running:
        yield running


@pytest.fixture
def lab(registry: FaultyRegistry, tmp_path: Path) -> Lab:
    return Lab(RegistryCache, tmp_path, ref=f"{registry.address}/app:cache")


def asked(registry: FaultyRegistry, lab: Lab, act: Callable[[], object]) -> list[str]:
    """Return the requests that *act* makes, without what differs from run to run."""
    before = len(registry.requests)
    act()
    made = [item for item in registry.requests[before:] if item.path != "/v2/"]
    return [f"{item.method} {item.path.split('?')[0].split('/')[3]}" for item in made]


# ---------------------------------------------------------------------------------------------------------- requests


def test_a_fresh_cache_is_read_in_two_requests(registry: FaultyRegistry, lab: Lab) -> None:
    lab.save(lab.maker.chain("a", 50))
    assert asked(registry, lab, lab.load) == ["GET manifests", "GET blobs"]
    assert asked(registry, lab, lab.load) == ["GET manifests"], "the second time its records are here"
    lab.save(lab.maker.chain("b", 1))
    assert asked(registry, lab, lab.load) == ["GET manifests", "GET blobs"]


def test_a_writer_that_dies_at_any_request_leaves_a_cache_that_can_be_read(registry: FaultyRegistry, lab: Lab) -> None:
    before, records = lab.maker.chain("before", 2), lab.maker.chain("after", 2)
    outcomes: list[bool] = []
    while not any(outcomes[-2:]):
        name = f"{registry.address}/app{len(outcomes)}:cache"
        lab.save(before, ref=name)
        made, passed = lab.make(export=True, ref=name), itertools.count()

        def act(exchange: Exchange, made: CacheBackend = made, passed: Iterator[int] = passed) -> None:
            if next(passed) < len(outcomes):
                exchange.serve()
            else:
                made.close()  # it waits for nothing any more
                exchange.reset()

        registry.rule(".*", act)
        with contextlib.suppress(ImgError, Canceled):
            made.save(records, Recorder())
        made.close()
        registry.heal()
        loaded = lab.load(ref=name)
        assert set(loaded.records) >= set(before)
        assert loaded.warnings == ()
        outcomes.append(set(loaded.records) >= set(records))
    assert len(outcomes) > 5
    assert outcomes[0] is False


def test_an_old_document_costs_a_look_for_segments(
    registry: FaultyRegistry, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be one that a registry of immutable tags keeps: three requests, not more."""
    lab.save(lab.maker.chain("a", 3))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    assert asked(registry, lab, lab.load) == ["GET manifests", "GET blobs", "GET tags"]


def test_without_news_two_requests_and_no_put(registry: FaultyRegistry, lab: Lab, monkeypatch: Any) -> None:
    records = [replace(record, last=time.time()) for record in lab.maker.chain("a", 3)]
    lab.save(records)
    assert asked(registry, lab, lambda: lab.save(records)) == ["GET manifests", "GET blobs"]


def test_one_new_step_sends_its_layer_and_two_small_documents(registry: FaultyRegistry, lab: Lab) -> None:
    records = lab.maker.chain("a", 20)
    lab.save(records[:-1])
    requests = asked(registry, lab, lambda: lab.save(records))
    assert requests.count("POST blobs") == 3  # the layer, and the configs of the segment and of the union
    assert requests.count("HEAD blobs") == 0  # the same request asks whether they are there: they are small
    assert requests.count("PUT manifests") == 2
    assert len(requests) <= 24


def test_blobs_of_a_neighbour_are_mounted(registry: FaultyRegistry, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    records = lab.maker.chain("a", 2)
    assert records[0].layers
    digest = registry.add_blob("base", lab.maker.store.read(records[0].layers[0].descriptor.digest))
    origin = ["other.example/base", f"{registry.address}/base"]
    monkeypatch.setattr(lab.maker.store, "origins", lambda asked: origin if asked == digest else ())
    lab.save(records)
    (mounted,) = (item for item in registry.asked("mount=") if item.path.endswith("from=base"))
    assert (digest in unquote(mounted.path), mounted.status) == (True, 201)
    assert set(lab.load().records) == set(records)


# -------------------------------------------------------------------------------------------------------- misbehaviour


def _reset(exchange: Exchange) -> None:
    exchange.reset()


@pytest.mark.parametrize("what", ["manifests", "blobs"])
@pytest.mark.parametrize(
    "answer",
    [
        status(404),
        status(403),
        status(429),
        status(500),
        _reset,
        cut_after(20),
        reply(200, b"<html>sign in</html>", {"Content-Type": "text/html"}),
        reply(200, b"", {"Content-Type": oci.OCI_MANIFEST}),
        reply(200, b"{}", {"Content-Type": oci.OCI_MANIFEST}),
    ],
    ids=["404", "403", "429", "500", "reset", "cut", "page", "empty", "object"],
)
def test_a_registry_that_misbehaves_gives_one_line(registry: FaultyRegistry, lab: Lab, what: str, answer: Any) -> None:
    lab.save(lab.maker.chain("a", 2))
    registry.rule(f"GET /v2/app/{what}/", answer)
    try:
        loaded = lab.load()
    except ImgError as err:
        assert "\n" not in err.message
    else:
        assert loaded.records == ()
        assert len(loaded.warnings) >= 1
        assert not any("\n" in line for line in loaded.warnings)


def test_a_document_that_vanishes_is_replaced_by_its_segments(registry: FaultyRegistry, lab: Lab) -> None:
    records = lab.maker.chain("a", 2)
    lab.save(records)
    registry.rule("GET /v2/app/manifests/cache$", status(404))
    assert set(lab.load().records) == set(records)


def test_a_tag_that_cannot_be_moved_is_a_warning(
    registry: FaultyRegistry, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = lab.maker.chain("a", 2), lab.maker.chain("b", 2)
    lab.save(first)
    registry.rule(
        "PUT /v2/app/manifests/cache$", reply(400, b'{"errors":[{"code":"TAG_INVALID","message":"immutable"}]}')
    )
    report = lab.save(second)
    assert [line for line in report.warnings if "could not be replaced" in line and "immutable" in line]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    assert set(lab.load().records) == {*first, *second}


def test_a_registry_that_lists_no_tags_is_a_warning(registry: FaultyRegistry, lab: Lab) -> None:
    registry.rule("GET /v2/app/tags/", status(403))
    records = lab.maker.chain("a", 2)
    report = lab.save(records)
    assert [line for line in report.warnings if "is not seen" in line]
    assert set(lab.load().records) == set(records)


def test_records_whose_blobs_are_gone_are_dropped_when_the_union_is_refused(registry: FaultyRegistry, lab: Lab) -> None:
    first, second = lab.maker.chain("a", 2), lab.maker.chain("b", 2)
    lab.save(first)
    assert first[0].layers
    assert first[1].layers
    gone = first[1].layers[1].descriptor.digest

    def refuse(exchange: Exchange) -> None:
        names = gone.encode() in exchange.request.body
        exchange.answer(400, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}') if names else exchange.serve()

    registry.rule("PUT /v2/app/manifests/", refuse)
    registry.rule(f"(GET|HEAD) /v2/app/blobs/{gone}", status(404))
    report = lab.save(second)
    assert [line for line in report.warnings if "1 records" in line]
    assert set(lab.load().records) == {first[0], *second}


def test_our_own_blob_that_is_gone_is_sent_again(registry: FaultyRegistry, lab: Lab) -> None:
    records = lab.maker.chain("a", 2)
    lab.save(records[:1])
    assert records[0].layers
    gone = records[0].layers[0].descriptor.digest
    present = {"there": False}

    def refuse(exchange: Exchange) -> None:
        lacking = gone.encode() in exchange.request.body and not present["there"]
        exchange.answer(400, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}') if lacking else exchange.serve()

    def missing(exchange: Exchange) -> None:
        exchange.serve() if present["there"] else exchange.answer(404)

    def arrives(exchange: Exchange) -> None:
        present["there"] = True
        exchange.serve()

    registry.rule("PUT /v2/app/manifests/", refuse)
    registry.rule(f"(GET|HEAD) /v2/app/blobs/{gone}", missing)
    registry.rule("PUT /v2/app/blobs/uploads/", arrives)
    lab.save(records)
    assert present["there"]
    assert set(lab.load().records) == set(records)


@pytest.mark.parametrize("refused", [False, True])
def test_old_segments_are_removed_when_there_are_many(
    registry: FaultyRegistry, lab: Lab, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    if refused:
        registry.rule("DELETE ", status(405))
    now = time.time()
    expected, warnings = set(), []
    for number in range(20):
        monkeypatch.setattr(time, "time", lambda number=number: now + 300 * number)
        records = lab.maker.chain(str(number), 1)
        warnings.append(lab.save(records).warnings)
        expected |= set(records)
    tags = _tags(registry, lab)
    assert set(lab.load().records) == expected
    if refused:
        assert len(tags) == 21
        assert "old parts of" in warnings[-1][0]
        assert len(warnings[-1]) == 1
    else:
        assert len(tags) <= 17
        assert not any(warnings)


def _tags(registry: FaultyRegistry, lab: Lab) -> list[str]:
    made = lab.make(export=False)
    assert isinstance(made, RegistryCache)
    try:
        return made.place.tags("")
    finally:
        made.close()


# ------------------------------------------------------------------------------------------------------- other things


def test_an_image_is_never_replaced_by_a_cache(registry: FaultyRegistry, lab: Lab) -> None:
    registry.add("app", "cache", make_image())
    with pytest.raises(UsageError, match="the cache would replace something else"):
        lab.save(lab.maker.chain("a", 1))


def test_the_cache_of_another_builder_is_one_warning(registry: FaultyRegistry, lab: Lab) -> None:
    config = b'{"layers":[],"records":[]}'
    digest = registry.add_blob("app", config)
    described = {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": digest, "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": oci.OCI_MANIFEST, "config": described, "layers": []}
    registry.add_manifest("app", "cache", oci.OCI_MANIFEST, json.dumps(manifest).encode())
    loaded = lab.load()
    assert loaded.records == ()
    assert len(loaded.warnings) == 1
    assert "made by BuildKit" in loaded.warnings[0]
    records = lab.maker.chain("a", 1)
    lab.save(records)
    assert set(lab.load().records) == set(records)


def test_a_long_tag_has_segments_too(registry: FaultyRegistry, tmp_path: Path) -> None:
    lab = Lab(RegistryCache, tmp_path, ref=f"{registry.address}/app:{'t' * 128}")
    for name in "ab":
        lab.save(lab.maker.chain(name, 1))
    assert all(len(tag) <= 128 for tag in _tags(registry, lab))
    assert len(lab.load().records) == 2


@pytest.mark.parametrize(
    ("options", "export", "words"),
    [
        ({"ref": "a/UPPER"}, True, "invalid `ref` of a cache: `a/UPPER`"),
        ({"ref": ""}, False, "a registry cache needs `ref`"),
        ({"ref": "a@sha256:" + "0" * 64}, True, "a cache cannot be saved under the digest"),
        ({"ref": "a", "mode": "max"}, False, "the cache option `mode` is one of `--cache-to`"),
        ({"ref": "a", "max-age": "soon"}, True, "`soon` for `max-age` is not a duration"),
        ({"ref": "a", "max-size": "much"}, True, "`much` for `max-size` is not a size"),
        (
            {"ref": "a", "compression": "zstd", "compression-level": 99},
            True,
            "`compression-level` of zstd must be 0 to 22",
        ),
    ],
)
def test_bad_options_are_one_line(tmp_path: Path, options: dict[str, Any], export: bool, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Lab(RegistryCache, tmp_path).make(export=export, **options)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ref": "a", "mode": "all"}, "`mode` cannot be `all`"),
        ({"ref": "a", "compression": "estargz"}, "`compression` cannot be `estargz`"),
        ({"ref": "a", "ignore-error": "maybe"}, "non-bool value specified for ignore-error"),
        ({"ref": "a", "colour": "red"}, "unknown option `colour`"),
        ({}, "option `ref` is required"),
    ],
)
def test_the_schema_refuses(options: dict[str, str], words: str) -> None:
    from img_core.forms.options import typed_options

    with pytest.raises(UsageError) as caught:
        typed_options(RegistryCache.schema, options, "type=registry")
    assert words in caught.value.message


@pytest.mark.parametrize(("compression", "media_type"), [("zstd", oci.OCI_LAYER_ZSTD), ("gzip", oci.OCI_LAYER_GZIP)])
def test_forced_compression_packs_layers_anew(lab: Lab, compression: str, media_type: str) -> None:
    records = lab.maker.chain("a", 2)  # whose layers are not compressed
    options = {"compression": compression, "force-compression": True}
    lab.save(records, **options)
    loaded = lab.load().records
    assert {layer.descriptor.media_type for record in loaded for layer in record.layers or ()} == {media_type}
    assert [[layer.diff_id for layer in record.layers or ()] for record in loaded] == [
        [layer.diff_id for layer in record.layers or ()] for record in sorted(records, key=lambda record: record.key)
    ]
    assert lab.make(export=True, **options).layer_form.compression == compression


def test_limits_are_kept(lab: Lab) -> None:
    old = [replace(record, last=1.0, created=1.0) for record in lab.maker.chain("old", 2)]
    new = [replace(record, last=time.time()) for record in lab.maker.chain("new", 2)]
    lab.save(old)
    lab.save(new, **{"max-age": "1h"})
    assert set(lab.load().records) == set(new)
