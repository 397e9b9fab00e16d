"""The cache in GitHub's service, against both versions of its protocol on loopback."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_gha import TOKEN, FakeGha
from img_cache_gha._cache import GhaCache
from img_cache_gha._service import ServiceV1, ServiceV2

from img_core.spec.cache import CacheContext
from img_core.spec.errors import CredentialsError, UsageError
from img_core.testing.contracts.cache import CacheContract, Damage, Maker, Place
from img_core.testing.results import DirectoryStore, Recorder, host


@pytest.fixture
def service() -> Iterator[FakeGha]:
    with FakeGha() as running:
        yield running


class GhaContract(CacheContract):
    backend = GhaCache
    address: str

    @pytest.fixture
    def place(self, service: FakeGha) -> Place:
        given = {self.address: service.address + "/", "token": TOKEN, "version": "2" if "v2" in self.address else "1"}

        def on_entry(change: Callable[[bytes], bytes | None]) -> Damage:
            def act(chance: random.Random) -> Callable[[], None]:
                key = chance.choice(sorted(service.entries))
                before = dict(service.entries)
                after = change(before[key])
                service.entries = {
                    name: after if name == key else content  # type: ignore[misc]  # None goes right below
                    for name, content in before.items()
                    if name != key or after is not None
                }
                return lambda: setattr(service, "entries", before)

            return act

        damage = {
            "deleted": on_entry(lambda _content: None),
            "truncated": on_entry(lambda content: content[: len(content) // 2]),
            "flipped": on_entry(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        }
        return Place(given, given, state=lambda: dict(service.entries), damage=damage)


class TestV1(GhaContract):
    address = "url"


class TestV2(GhaContract):
    address = "url_v2"


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(DirectoryStore(tmp_path / "store"))


def make(maker: Maker, environment: dict[str, str] | None = None, **given: Any) -> GhaCache:
    made = replace(host(maker.store.directory.parent / "host"), environment=environment or {})
    return GhaCache(CacheContext(made, maker.store, None), given)  # type: ignore[arg-type]  # needs no registry


@pytest.mark.parametrize(
    ("environment", "given", "protocol", "url"),
    [
        ({"ACTIONS_CACHE_URL": "http://one/", "ACTIONS_RESULTS_URL": "http://two/"}, {}, ServiceV1, "http://one/"),
        ({"ACTIONS_RESULTS_URL": "http://two/"}, {}, ServiceV1, "http://two/"),
        ({"ACTIONS_RESULTS_URL": "http://two/", "ACTIONS_CACHE_SERVICE_V2": "true"}, {}, ServiceV2, "http://two/"),
        ({"ACTIONS_RESULTS_URL": "http://two/"}, {"version": "2"}, ServiceV2, "http://two/"),
        ({"ACTIONS_CACHE_SERVICE_V2": "1", "ACTIONS_CACHE_URL": "http://one/"}, {"version": "1"}, ServiceV1, "http://one/"),
        ({}, {"url": "http://three"}, ServiceV1, "http://three"),
        ({}, {"url_v2": "http://four"}, ServiceV2, "http://four"),
    ],
)  # fmt: skip
def test_the_job_says_which_protocol_is_spoken(
    maker: Maker, environment: dict[str, str], given: dict[str, str], protocol: type, url: str
) -> None:
    made = make(maker, environment, **given)
    assert (made._protocol, made._url) == (protocol, url)


def test_outside_of_a_job_it_is_one_line(maker: Maker) -> None:
    with closing(make(maker)) as made:
        for warnings in (made.load().warnings, made.save(maker.chain("a", 1), Recorder()).warnings):
            assert len(warnings) == 1
            assert "outside of a job" in warnings[0]


def test_scopes_stay_apart(service: FakeGha, maker: Maker) -> None:
    given = {"url_v2": service.address, "token": TOKEN, "version": "2"}
    for scope in ("a", "a-1"):
        with closing(make(maker, **given, scope=scope)) as made:
            made.save([maker.record(scope, "x")], Recorder())
    with closing(make(maker, **given, scope="a")) as made:
        assert [record.description for record in made.load().records] == ["RUN a"]


def test_entries_are_numbered(service: FakeGha, maker: Maker) -> None:
    for name in "ab":
        with closing(make(maker, url_v2=service.address, token=TOKEN, version="2")) as made:
            made.save([maker.record(name)], Recorder())
    numbers = [key[-10:] for key in service.entries if key.startswith("img-index-")]
    assert numbers == ["0000000001", "0000000002"]
    assert all(re.fullmatch(r"img-(blob-[0-9a-f]{64}|index-[0-9a-f]{16}-\d{10})", key) for key in service.entries)


def test_a_wrong_token_is_one_line(service: FakeGha, maker: Maker) -> None:
    with closing(make(maker, url=service.address, token="wrong")) as made, pytest.raises(CredentialsError) as caught:
        made.load()
    assert "wrong" not in caught.value.message


def test_a_wrong_address_is_one_line(maker: Maker) -> None:
    with pytest.raises(UsageError, match="`nonsense` is no address"):
        make(maker, url="nonsense", token="t")
