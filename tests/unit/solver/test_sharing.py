"""Results of other machines: what they save is found in an empty state directory, and whatever happens to it, the result is right."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sharing_lab import CacheLab, MemoryCache, damaged, without_layers
from solver_lab import World
from test_same_results import Node, graphs, roots

from img_core.spec.cache import CacheRecord
from img_core.spec.graph import Copy, FileOp, MergeOp, RunOp, SourceOp, Vertex, WriteFile

SETTINGS = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CacheLab]:
    made = CacheLab(tmp_path, monkeypatch)
    yield made
    made.close()


# --- a graph of a usual shape: a stage whose file is copied, a linked copy, and a base that both share

IMAGE = Vertex(SourceOp("docker-image", "one"), name="image")
CONTEXT = Vertex(SourceOp("local", "context"), name="context")
BASE = Vertex(RunOp(("base",)), (IMAGE,), name="base")
STAGE = Vertex(
    RunOp(("stage",)), (Vertex(FileOp((Copy(1, ("/d",), "/d"),)), (BASE, CONTEXT), name="stage copy"),), name="stage"
)
COPIED = Vertex(FileOp((Copy(1, ("/r",), "/from-stage"),)), (BASE, STAGE), name="copy of stage")
LINKED = Vertex(
    MergeOp(), (COPIED, Vertex(FileOp((WriteFile("l", b"1", "/l/"),), has_base=False), (), name="link")), name="merge"
)
LAST = Vertex(RunOp(("last",)), (LINKED,), name="last")
STEPS = ["base", "stage copy", "stage", "copy of stage", "link", "last"]
MODES = pytest.mark.parametrize("all_layers", [True, False], ids=["max", "min"])


@MODES
@pytest.mark.parametrize("blobs", [True, False], ids=["blobs", "files"])
def test_an_empty_state_finds_everything(lab: CacheLab, all_layers: bool, blobs: bool) -> None:
    cache = MemoryCache(all_layers=all_layers)
    first = lab.build([LAST], World(), target=cache)
    assert sorted(name for name in first.ran if name != "merge") == sorted(STEPS)
    state = lab.state()
    second = lab.build([LAST], World(), lab=state, sources=[cache], blobs=blobs)
    assert (second.ran, second.warnings) == ([], [])
    assert second.trees == first.trees
    assert len(cache.fetched) == len(set(cache.fetched)) == 4, "base, copy, link and last; nothing of the stage"
    third = lab.build([LAST], World(), lab=state)
    assert third.ran == ["stage copy", "stage"], "what came here is ours now"
    assert third.trees == first.trees


def test_nobody_fetches_what_nobody_reads(lab: CacheLab) -> None:
    cache = MemoryCache()
    lab.build([LAST], World(), target=cache)
    changed = Vertex(RunOp(("other",)), (BASE,), name="other")
    done = lab.build([changed], World(), sources=[cache])
    assert done.ran == ["other"]
    assert len(cache.fetched) == 1


@MODES
def test_one_changed_step_runs_on_fetched_layers(lab: CacheLab, all_layers: bool) -> None:
    cache = MemoryCache(all_layers=all_layers)
    lab.build([LAST], World(), target=cache)
    other = Vertex(RunOp(("other end",)), (LINKED,), name="other end")
    done = lab.build([other], World(), sources=[cache])
    assert done.ran == ["other end"]
    assert done.trees == lab.build([other], World()).trees


def test_the_files_of_a_step_without_layers_are_made_again(lab: CacheLab) -> None:
    cache = MemoryCache(all_layers=False)
    lab.build([LAST], World(), target=cache)
    other = Vertex(RunOp(("other",)), (STAGE,), name="other")
    both = lab.build([LAST, other], World(), sources=[cache])
    assert sorted(set(both.ran)) == ["other", "stage", "stage copy"]
    assert both.warnings == []
    assert both.trees == lab.build([LAST, other], World()).trees


@MODES
def test_a_second_export_keeps_what_it_imported(lab: CacheLab, all_layers: bool) -> None:
    cache, other = MemoryCache(all_layers=all_layers), MemoryCache(all_layers=all_layers)
    first = lab.build([LAST], World(), target=cache)
    lab.build([LAST], World(), sources=[cache], target=other)
    assert other.blobs == cache.blobs
    assert other.records == cache.records
    again = MemoryCache()
    again.location, again.blobs, again.records = cache.location, {}, {}
    cache.fetched.clear()
    lab.build([LAST], World(), sources=[cache], target=cache, blobs=False)
    third = lab.build([LAST], World(), sources=[other])
    assert (third.ran, third.trees) == ([], first.trees)


def test_what_is_saved_where_it_came_from_is_not_fetched(lab: CacheLab) -> None:
    cache = MemoryCache()
    lab.build([LAST], World(), target=cache)
    state = lab.state()
    done = lab.build([STAGE], World(), lab=state, sources=[cache], target=cache)
    assert done.ran == []
    assert len(cache.fetched) == 3, "the files of the image, and nothing else"


def test_results_of_two_runs_of_a_step_are_never_mixed(lab: CacheLab) -> None:
    """Our own `base` differs from that of the cache: what is above is taken with the base that it was made on, or made anew."""
    cache = MemoryCache()
    first = lab.build([LAST], World(), target=cache)
    ours = lab.state()
    lab.build([BASE], World(), lab=ours)
    with ours.store.database.transaction() as cursor:  # as if it had given something else
        cursor.execute("UPDATE stack SET diff_id = 'sha256:other'")
    done = lab.build([LAST], World(), lab=ours, sources=[cache])
    assert (done.ran, done.trees) == ([], first.trees)
    assert done.warnings == []


# --- damage


def other_content(record: CacheRecord) -> CacheRecord:
    """Let the layers of *record* be those of somebody else, whose digests are right."""
    if not record.layers:
        return record
    lower, *rest = record.layers
    pairs = zip(record.layers, (*rest, lower), strict=True)
    return replace(record, layers=tuple(replace(layer, descriptor=other.descriptor) for layer, other in pairs))


DAMAGES: dict[str, Callable[[MemoryCache], object]] = {
    "no blobs": lambda cache: cache.blobs.clear(),
    "damaged": lambda cache: cache.blobs.update(
        {name: data[:-9] + b"x" + data[-8:] for name, data in cache.blobs.items()}
    ),
    "cut": lambda cache: cache.blobs.update({name: data[:-3] for name, data in cache.blobs.items()}),
    "longer": lambda cache: cache.blobs.update({name: data + b"x" for name, data in cache.blobs.items()}),
    "other content": lambda cache: damaged(cache, other_content),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("blobs", [True, False], ids=["blobs", "files"])
def test_damaged_layers_are_a_warning_each(lab: CacheLab, damage: str, blobs: bool) -> None:
    cache = MemoryCache()
    first = lab.build([LAST], World(), target=cache)
    DAMAGES[damage](cache)
    done = lab.build([LAST], World(), sources=[cache], blobs=blobs)
    assert done.trees == first.trees
    assert done.ran
    assert set(done.ran) <= {*STEPS, "merge"}
    assert done.warnings
    assert len(done.warnings) == len(set(done.warnings))
    assert all("cache 0 is not used for" in text and "sha256:" in text for text in done.warnings), done.warnings


def test_layers_of_an_unknown_kind_are_no_result(lab: CacheLab) -> None:
    cache = MemoryCache()
    first = lab.build([LAST], World(), target=cache)

    def unknown(record: CacheRecord) -> CacheRecord:
        layers = [
            replace(item, descriptor=replace(item.descriptor, media_type="text/html")) for item in record.layers or ()
        ]
        return replace(record, layers=tuple(layers)) if layers else record

    damaged(cache, unknown)
    done = lab.build([LAST], World(), sources=[cache], blobs=True)
    assert (done.trees, done.warnings) == (first.trees, [])
    assert {name for name in done.ran if name != "merge"} == set(STEPS)


def test_a_cache_that_cannot_be_read_is_a_warning(lab: CacheLab, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (RuntimeError("surprise"), OSError(5, "input/output error")):

        def load(_self: MemoryCache, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(MemoryCache, "load", load)
        done = lab.build([BASE], World(), sources=[MemoryCache()])
        assert done.ran == ["base"]
        assert len(done.warnings) == 1


def cached(nodes: list[Node]) -> list[Node]:
    return [replace(node, use_cache=True) for node in nodes]


@SETTINGS
@given(nodes=graphs(), all_layers=st.booleans(), blobs=st.booleans(), whole=st.booleans())
def test_whatever_graph_is_found_in_an_empty_state(
    tmp_path_factory: pytest.TempPathFactory, nodes: list[Node], all_layers: bool, blobs: bool, whole: bool
) -> None:
    directory = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        lab, cache, world = CacheLab(directory, patch), MemoryCache(all_layers=all_layers), World()
        targets = roots(cached(nodes))[0 if whole else -1 :]
        first = lab.build(targets, world, target=cache)
        second = lab.build(targets, world, sources=[cache], blobs=blobs)
        lab.close()
    shutil.rmtree(directory)
    assert second.trees == first.trees
    assert second.warnings == []
    assert second.ran == []


@SETTINGS
@given(nodes=graphs(), all_layers=st.booleans(), blobs=st.booleans(), seed=st.integers(0, 1 << 30))
def test_whatever_happens_to_a_cache_the_result_is_right(
    tmp_path_factory: pytest.TempPathFactory, nodes: list[Node], all_layers: bool, blobs: bool, seed: int
) -> None:
    """Records are lost, lose their layers or get those of others; blobs are lost, or have other bytes."""
    directory, chance = tmp_path_factory.mktemp("caches"), random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        lab, cache, world = CacheLab(directory, patch), MemoryCache(all_layers=all_layers), World()
        targets = roots(nodes)
        first = lab.build(targets, world, target=cache)
        damage(cache, chance)
        second = lab.build(targets, world, sources=[cache], blobs=blobs)
        lab.close()
    shutil.rmtree(directory)
    assert second.trees == first.trees


def damage(cache: MemoryCache, chance: random.Random) -> None:
    def change(record: CacheRecord) -> CacheRecord | None:
        return chance.choice([lambda it: it, lambda it: it, lambda _: None, without_layers, other_content])(record)

    damaged(cache, change)
    for name, data in list(cache.blobs.items()):
        kind = chance.randrange(4)
        if kind == 0:
            del cache.blobs[name]
        elif kind == 1:
            cache.blobs[name] = data[: len(data) // 2] + bytes([chance.randrange(256)]) + data[len(data) // 2 + 1 :]
