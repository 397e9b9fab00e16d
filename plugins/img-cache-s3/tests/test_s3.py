"""The cache in a bucket, against a service on loopback that checks signatures."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_s3 import KEYS, FakeS3
from img_cache_s3._cache import S3Cache
from img_cache_s3._signature import Keys, find_keys, signed

from img_core.spec.cache import CacheContext, CacheLoad, CacheRecord
from img_core.spec.errors import CredentialsError, ImgError, UsageError
from img_core.testing.contracts.cache import CacheContract, Damage, Maker, Place
from img_core.testing.results import DirectoryStore, Recorder, host

ACCESS = {"access_key_id": KEYS[0], "secret_access_key": KEYS[1]}


@pytest.fixture
def service() -> Iterator[FakeS3]:
    with FakeS3() as running:
        yield running


def options(service: FakeS3) -> dict[str, Any]:
    where = {"bucket": "builds", "region": "eu-central-1", "endpoint_url": service.address, "use_path_style": True}
    return {**where, **ACCESS, "prefix": "ci/", "name": "app"}


class TestS3(CacheContract):
    backend = S3Cache

    @pytest.fixture
    def place(self, service: FakeS3) -> Place:
        given = options(service)

        def on_object(change: Callable[[bytes], bytes | None]) -> Damage:
            def act(chance: random.Random) -> Callable[[], None]:
                key = chance.choice(sorted(service.objects))
                before = service.objects[key]
                after = change(before[0])
                if after is None:
                    del service.objects[key]
                else:
                    service.objects[key] = (after, before[1])
                return lambda: service.objects.__setitem__(key, before)

            return act

        damage = {
            "deleted": on_object(lambda _content: None),
            "truncated": on_object(lambda content: content[: len(content) // 2]),
            "flipped": on_object(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
            "page": on_object(lambda _content: b"<html>"),
        }
        return Place(given, given, state=lambda: {key: item[0] for key, item in service.objects.items()}, damage=damage)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(DirectoryStore(tmp_path / "store"))


def save(maker: Maker, records: list[CacheRecord], **given: Any) -> None:
    with closing(make(maker, **given)) as made:
        made.save(records, Recorder())


def load(maker: Maker, **given: Any) -> CacheLoad:
    with closing(make(maker, **given)) as made:
        return made.load()


def make(maker: Maker, environment: dict[str, str] | None = None, **given: Any) -> S3Cache:
    made = replace(host(maker.store.directory.parent / "host"), environment=environment or {})
    return S3Cache(CacheContext(made, maker.store, None), given)  # type: ignore[arg-type]  # needs no registry


def test_objects_are_called_as_told(service: FakeS3, maker: Maker) -> None:
    save(maker, maker.chain("a", 1), **options(service), blobs_prefix="layers/")
    names = {re.sub("[0-9a-f]{64}", "…", name) for name in service.objects}
    assert {re.sub(r"\.seg-.*", ".seg-…", name) for name in names} == {
        "builds/ci/layers/sha256:…",
        "builds/ci/manifests/app",
        "builds/ci/manifests/app.seg-…",
    }


def test_old_objects_that_are_still_in_use_are_made_young(service: FakeS3, maker: Maker) -> None:
    records = maker.chain("a", 2)
    save(maker, records, **options(service))
    service.objects = {key: (content, 1000.0) for key, (content, _) in service.objects.items()}
    save(maker, [*records, maker.record("b", "a 0", "b")], **options(service))
    layers = {layer.descriptor.digest for record in records[:1] for layer in record.layers or ()}
    assert all(service.objects[f"builds/ci/blobs/{digest}"][1] > time.time() - 600 for digest in layers)


def test_wrong_keys_are_one_line(service: FakeS3, maker: Maker) -> None:
    wrong = {**options(service), "secret_access_key": "wrong"}
    with pytest.raises(CredentialsError, match="SignatureDoesNotMatch"):
        load(maker, **wrong)


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_a_service_that_misbehaves_is_one_line(service: FakeS3, maker: Maker, status: int) -> None:
    save(maker, maker.chain("a", 1), **options(service))
    service.failures.append((re.compile("GET "), status))
    with pytest.raises(ImgError) as caught:
        load(maker, **options(service))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("given", "environment", "words"),
    [
        ({"region": "x"}, {}, "an s3 cache needs `bucket`"),
        ({"bucket": "x"}, {}, "an s3 cache needs `region`"),
        ({"bucket": "x", "region": "y", "name": "a b"}, {}, "`a b` is no name for a cache"),
        ({"bucket": "x", "region": "y", "endpoint_url": "s3.example"}, {}, "`s3.example` is no address"),
        ({"bucket": "x", "region": "y", "touch_refresh": "soon"}, {}, "`soon` for `touch_refresh` is not a duration"),
    ],
)
def test_bad_options_are_one_line(maker: Maker, given: dict[str, str], environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(maker, environment, **given)
    assert words in caught.value.message


def test_where_keys_come_from(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert find_keys({}, environment) is None
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"
        "[ci]\naws_access_key_id = c\naws_secret_access_key = d\naws_session_token = e\n"
    )
    assert find_keys({}, environment) == Keys("a", "b")
    assert find_keys({}, {**environment, "AWS_PROFILE": "ci"}) == Keys("c", "d", "e")
    with pytest.raises(UsageError, match="there is no profile `no`"):
        find_keys({}, {**environment, "AWS_PROFILE": "no"})
    named = {**environment, "AWS_ACCESS_KEY_ID": "f", "AWS_SECRET_ACCESS_KEY": "g"}
    assert find_keys({}, named) == Keys("f", "g")
    assert find_keys({"access_key_id": "h", "secret_access_key": "i"}, named) == Keys("h", "i")
    with pytest.raises(UsageError, match="one is missing"):
        find_keys({"access_key_id": "h"}, named)


def test_secrets_are_in_no_text() -> None:
    assert "hush" not in repr(Keys("a", "hush", "hush"))


def test_the_signature_of_amazons_example() -> None:
    """GET Object of "Authenticating Requests (AWS Signature Version 4)", "Examples: Signature Calculations"."""
    keys = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    url = "https://examplebucket.s3.amazonaws.com/?prefix=J&max-keys=2"
    now = datetime(2013, 5, 24, tzinfo=UTC)
    headers = signed("GET", url, {}, keys=keys, region="us-east-1", now=now)
    assert headers["Authorization"].endswith(
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )
