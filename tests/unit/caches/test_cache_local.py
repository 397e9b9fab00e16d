"""The cache in a directory: what other tools see of it, and what they left there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from cache_lab import Lab

from img_cache_local._local import LocalCache
from img_core.images import oci
from img_core.spec.errors import ImgError, UsageError
from img_core.testing.images import make_image, write_layout


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(LocalCache, tmp_path)


def blobs(directory: Path) -> set[str]:
    return set(os.listdir(directory / "blobs/sha256"))


def test_other_tools_read_the_layout(lab: Lab, directory: Path, tmp_path: Path) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("this host lacks `skopeo`")
    lab.save(lab.maker.chain("a", 2), dest=str(directory))
    copy = ["skopeo", "copy", "--quiet", f"oci:{directory}:latest", f"oci:{tmp_path / 'copy'}:moved"]
    subprocess.run(copy, check=True, capture_output=True)
    loaded = lab.load(src=str(tmp_path / "copy"), tag="moved")
    assert {record.key for record in loaded.records} == {record.key for record in lab.maker.chain("a", 2)}


def test_tags_stay_apart(lab: Lab, directory: Path) -> None:
    first, second = lab.maker.chain("a", 1), lab.maker.chain("b", 1)
    lab.save(first, dest=str(directory))
    lab.save(second, dest=str(directory), tag="other")
    assert set(lab.load(src=str(directory)).records) == set(first)
    assert set(lab.load(src=str(directory), tag="other").records) == set(second)
    index = json.loads((directory / "index.json").read_bytes())
    assert [item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"]] == [
        "latest",
        "other",
    ]


def test_tags_of_another_tool_stay(lab: Lab, directory: Path) -> None:
    directory.mkdir()
    write_layout(directory, {"theirs": make_image()})
    lab.save(lab.maker.chain("a", 1), dest=str(directory))
    lab.save(lab.maker.chain("b", 1), dest=str(directory), reset=True)
    index = json.loads((directory / "index.json").read_bytes())
    assert [item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"]] == [
        "latest",
        "theirs",
    ]
    assert oci.digest(make_image().content).removeprefix("sha256:") in blobs(directory)
    assert "carries no cache" in lab.load(src=str(directory), tag="theirs").warnings[0]


def test_a_digest_names_one_document(lab: Lab, directory: Path) -> None:
    first = lab.maker.chain("a", 1)
    digest = lab.save(first, dest=str(directory)).digest
    lab.save(lab.maker.chain("b", 1), dest=str(directory))
    assert set(lab.load(src=str(directory), digest=str(digest)).records) == set(first)


def test_reset_removes_old_blobs_that_nothing_needs(lab: Lab, directory: Path) -> None:
    lab.save(lab.maker.chain("a", 2), dest=str(directory))
    old, young = directory / "blobs/sha256" / ("0" * 64), directory / "blobs/sha256" / ("1" * 64)
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    (directory / "blobs/sha256/.tmp-killed").write_bytes(b"x")
    os.utime(directory / "blobs/sha256/.tmp-killed", (1, 1))
    records = [*lab.maker.chain("a", 2), *lab.maker.chain("b", 1)]
    lab.save(records, dest=str(directory), reset=True)
    assert not old.exists()
    assert not (directory / "blobs/sha256/.tmp-killed").exists()
    assert young.exists()
    assert set(lab.load(src=str(directory)).records) == set(records)


def test_reset_removes_nothing_when_a_tag_is_damaged(lab: Lab, directory: Path) -> None:
    lab.save(lab.maker.chain("a", 1), dest=str(directory), tag="other")
    for path in (directory / "blobs/sha256").iterdir():
        os.utime(path, (1, 1))
    (directory / "img-tags/other.json").write_bytes(b"{")
    before = blobs(directory)
    report = lab.save(lab.maker.chain("b", 1), dest=str(directory), reset=True)
    assert blobs(directory) >= before
    assert len(report.warnings) == 1


def test_an_import_makes_nothing(lab: Lab, directory: Path) -> None:
    with pytest.raises(ImgError, match="there is no cache `latest` in"):
        lab.load(src=str(directory))
    assert not directory.exists()


def test_a_directory_that_cannot_be_written_is_one_line(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImgError, match="cannot use the cache in"):
        lab.save(lab.maker.chain("a", 1), dest=str(tmp_path / "file"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"digest":7}', b'{"digest":"sha256:../../x"}'])
def test_a_damaged_tag_is_one_warning(
    lab: Lab, directory: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segments have the records still."""
    records = lab.maker.chain("a", 2)
    lab.save(records, dest=str(directory))
    (directory / "img-tags/latest.json").write_bytes(content)
    loaded = lab.load(src=str(directory))
    assert len(loaded.warnings) == 1
    assert set(loaded.records) == set(records)


def test_the_same_blob_is_not_written_again(lab: Lab, directory: Path) -> None:
    records = lab.maker.chain("a", 3)
    lab.save(records[:2], dest=str(directory))
    for path in (directory / "blobs/sha256").iterdir():
        os.utime(path, (1, 1))
    lab.save(records, dest=str(directory))
    written = [path for path in (directory / "blobs/sha256").iterdir() if path.stat().st_mtime > time.time() - 600]
    assert len(written) == 5  # a layer, and manifest and config of the segment and of the union


@pytest.mark.parametrize(
    ("options", "export", "words"),
    [
        ({}, True, "a local cache needs `dest`"),
        ({}, False, "a local cache needs `src`"),
        ({"dest": "a"}, False, "the cache option `dest` is one of `--cache-to`"),
        ({"dest": "a", "src": "a"}, True, "the cache option `src` is one of `--cache-from`"),
        ({"dest": "a", "tag": "../x"}, True, "`../x` is no name for a cache"),
        ({"src": "a", "digest": "x"}, False, "`x` is no digest"),
    ],
)
def test_bad_options_are_one_line(lab: Lab, options: dict[str, str], export: bool, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        lab.make(export=export, **options)
    assert words in caught.value.message
