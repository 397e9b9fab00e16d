"""`img cache`: a cache of many machines, looked at and cut down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from img_cache_local._local import LocalCache
from img_core.spec.cache import CacheContext, CacheRecord
from img_core.testing.contracts.cache import Maker
from img_core.testing.results import DirectoryStore, Recorder, host

Run = Callable[..., CompletedProcess[str]]
DAY = 86400.0


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A directory with two steps of today and one that nobody used for two months."""
    maker = Maker(DirectoryStore(tmp_path / "store"))
    context = CacheContext(host(tmp_path / "host"), maker.store, None)  # type: ignore[arg-type]  # uses no registry
    backend = LocalCache(context, {"dest": str(tmp_path / "cache")})
    new = [replace(record, last=time.time()) for record in maker.chain("new", 2)]
    old = replace(maker.record("old", "large" * 100), last=time.time() - 60 * DAY)
    nameless = CacheRecord("k", "", "k", last=time.time(), trees=(("a", "b"),))
    backend.save([*new, old, replace(maker.record("bare"), layers=None, last=time.time() - 1), nameless], Recorder())
    return tmp_path / "cache"


def test_ls_lists_what_was_used_last_first(run: Run, cache: Path) -> None:
    lines = run("cache", "ls", str(cache)).stdout.splitlines()
    assert lines[0].split() == ["STEP", "PLATFORM", "CREATED", "USED", "TOOK", "SIZE"]
    assert sorted(line.split("  ")[0] for line in lines[1:3]) == ["RUN new 0", "RUN new 1"]
    assert [line.split("  ")[0] for line in lines[3:]] == ["RUN bare", "RUN old"]
    assert lines[3].endswith(" -")
    assert "2 months ago" in lines[4]
    assert lines[4].endswith("24.41KiB")


def test_ls_gives_json_lines(run: Run, cache: Path) -> None:
    found = [json.loads(line) for line in run("cache", "ls", "--format", "json", str(cache)).stdout.splitlines()]
    assert {item["Step"]: item["Size"] for item in found} == {
        "RUN new 0": 250, "RUN new 1": 250, "RUN bare": None, "RUN old": 25_000,
    }  # fmt: skip


def test_du_counts_by_age(run: Run, cache: Path) -> None:
    rows = dict(line.rsplit("  ", 1) for line in run("cache", "du", str(cache)).stdout.splitlines())
    assert {key.strip(): value.strip() for key, value in rows.items()} == {
        "steps": "4", "layers": "3", "size": "24.9KiB", "used today": "3", "not used for a month": "1",
    }  # fmt: skip
    found = json.loads(run("cache", "du", "--format", "json", str(cache)).stdout)
    assert found == {"Steps": 4, "Layers": 3, "Size": 25_500, "Ages": {"1d": 3, "7d": 0, "30d": 0, "older": 1}}


@pytest.mark.parametrize("limit", [("--max-age", "30d"), ("--max-size", "1k")])
def test_prune_forgets_what_is_old_or_too_much(run: Run, cache: Path, limit: tuple[str, str]) -> None:
    for _ in range(2):
        shown = run("cache", "prune", "--dry-run", *limit, str(cache)).stdout
        assert "Would remove: 1 steps, 24.41KiB" in shown
    assert "Kept: 3 steps, 500B" in run("cache", "prune", *limit, str(cache)).stdout
    assert "RUN old" not in run("cache", "ls", str(cache)).stdout
    assert "Removed: 0 steps, 0B" in run("cache", "prune", *limit, str(cache)).stdout


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["ls"], 2, "expected one PLACE"),
        (["ls", "a", "b"], 2, "expected one PLACE"),
        (["ls", "type=nothing"], 2, "nothing"),
        (["ls", "./missing"], 1, "there is no cache `latest` in"),
        (["ls", "type=local"], 2, "a local cache needs `src`"),
        (["ls", "ref=a"], 2, "`cache` requires type=<type>"),
        (["du", "type=inline"], 2, "an inline cache is in an image"),
        (["prune", "./missing"], 2, "nothing says what is too old or too much"),
        (["prune", "--max-age", "soon", "./missing"], 2, "`soon` for --max-age is not a duration"),
        (["prune", "--max-age", "1d", "./missing"], 1, "there is no cache in"),
    ],
)
def test_mistakes_are_one_line(run: Run, words: list[str], code: int, error: str) -> None:
    done = run("cache", *words)
    assert done.returncode == code, done.stderr
    assert error in done.stderr
    assert "Traceback" not in done.stderr
