"""What `img fsck` finds and repairs, one fault at a time."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from img_core.files.leases import EVERYTHING, leased
from img_core.images import oci
from img_core.spec.values import Descriptor, DiffId
from img_core.store import Store
from img_core.store.collect import Policy, prune
from img_core.store.database import BLOB
from img_core.store.fsck import Report, check, request_check
from img_core.store.records import RecordedLayer, StepRecord
from img_core.store.snapshots import Snapshot

NAME = "docker.io/library/a:latest"
CONTENT = b"not really a tar archive"


def add_image(store: Store) -> Descriptor:
    layer = store.put(gzip.compress(CONTENT), oci.OCI_LAYER_GZIP)
    diff_id = DiffId(oci.digest(CONTENT))
    store.blobs.remember_layer(layer.digest, diff_id)
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    kept = store.put(oci.canonical_json(config), oci.OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": oci.descriptor_document(kept),
        "layers": [oci.descriptor_document(layer)],
    }
    descriptor = store.put(oci.canonical_json(manifest), oci.OCI_MANIFEST, references=[kept.digest, layer.digest])
    store.tag(NAME, descriptor)
    return descriptor


def add_snapshot(store: Store, parent: Snapshot | None = None) -> Snapshot:
    assert store.run is not None
    directory = store.run.new_path("snapshot")
    os.mkdir(directory)
    made = store.snapshots.commit(directory, parent, description="RUN true")
    store.records.add_step(StepRecord(made.id, "definition", "identity", (RecordedLayer(made.id, 1.0, made.id),)))
    return made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Give a state with one image and three snapshots, two of them upon the first."""
    with Store(str(tmp_path / "s"), backend="test", mapping="single") as store:
        add_image(store)
        low = add_snapshot(store)
        add_snapshot(store, add_snapshot(store, low))
    return tmp_path / "s"


def blob(state: Path, kind: str) -> Path:
    """Return the file of the manifest, config or layer."""
    words = {"manifest": b"schemaVersion", "config": b"architecture", "layer": b"\x1f\x8b"}[kind]
    return next(path for path in (state / "blobs/sha256").iterdir() if words in path.read_bytes()[:400])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _into_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def sql(state: Path, statement: str) -> None:
    import sqlite3

    with sqlite3.connect(state / "img.db") as connection:
        connection.execute(statement)
    connection.close()


def fsck(state: Path, *, repair: bool = False) -> Report:
    if repair:
        request_check(str(state))
    with Store(str(state), writable=repair, backend="test", mapping="single") as store:
        return check(store, repair=repair, read_data=True)


def kinds(report: Report) -> set[str]:
    return {problem.kind for problem in report.problems}


def test_a_sound_state_has_no_problems(state: Path) -> None:
    report = fsck(state)
    assert report.problems == []
    assert dict(report.checked) == {"database": 1, "blob": 3, "layer": 1, "snapshot": 3, "image": 1, "note": 1}


#: What is done, which kinds of problems that makes, and which of them stay after a repair.
FAULTS: dict[str, tuple[Callable[[Path], object], set[str], set[str]]] = {
    "layer flipped": (lambda state: flip(blob(state, "layer")), {"blob"}, {"image"}),
    "layer cut": (lambda state: os.truncate(blob(state, "layer"), 5), {"blob", "image"}, {"image"}),
    "config flipped": (lambda state: flip(blob(state, "config")), {"blob", "image"}, {"image"}),
    "manifest gone": (lambda state: blob(state, "manifest").unlink(), {"blob", "image"}, {"blob", "image"}),
    "blob is a directory": (lambda state: _into_directory(blob(state, "layer")), {"blob", "image"}, {"image"}),
    "layer of another diff id": (
        lambda state: sql(state, f"UPDATE layer SET diff_id = 'sha256:{'0' * 64}'"),
        {"layer"},
        set(),
    ),
    "snapshot gone": (lambda state: os.rmdir(next((state / "snapshots/test").iterdir())), {"snapshot"}, set()),
    "chain id of something else": (
        lambda state: sql(
            state,
            f"UPDATE snapshot SET chain_id = 'sha256:{'0' * 64}', diff_id = 'sha256:{'1' * 64}' WHERE parent IS NULL",
        ),
        {"snapshot"},
        set(),
    ),
    "note garbled": (lambda state: flip(next((state / "names").iterdir())), {"note"}, set()),
    "note gone": (lambda state: next((state / "names").iterdir()).unlink(), {"note"}, set()),
    "row of an image gone": (lambda state: sql(state, "DELETE FROM image"), {"note"}, set()),
    "row without its parent": (
        lambda state: sql(state, "UPDATE snapshot SET parent = 'nothing' WHERE parent IS NOT NULL"),
        {"database"},
        set(),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found_and_repaired(state: Path, fault: str) -> None:
    do, expected, left = FAULTS[fault]
    do(state)
    assert kinds(fsck(state)) == expected
    fsck(state, repair=True)
    assert kinds(fsck(state)) == left


def test_what_is_built_on_a_lost_snapshot_goes_with_it(state: Path) -> None:
    with Store(str(state), backend="test", mapping="single") as store:
        lowest = store.database.one("SELECT directory FROM snapshot WHERE parent IS NULL")
        assert lowest is not None
        os.rmdir(state / "snapshots/test" / lowest["directory"])
    fsck(state, repair=True)
    with Store(str(state), backend="test", mapping="single") as store:
        assert store.database.query("SELECT id FROM snapshot") == []
        assert store.database.query("SELECT key FROM step") == []
        assert [image.name for image in store.images.list()] == [NAME]


def test_an_image_whose_damaged_layer_a_registry_has_is_whole_after_a_repair(state: Path) -> None:
    with Store(str(state), backend="test", mapping="single") as store:
        layer = "sha256:" + blob(state, "layer").name
        store.blobs.remember_origins([layer], "example.com/base")  # type: ignore[list-item]
    flip(blob(state, "layer"))
    fsck(state, repair=True)
    assert fsck(state).problems == []


def test_until_they_end_commands_whose_leases_were_lost_use_everything(state: Path) -> None:
    with Store(str(state), backend="test", mapping="single") as running:
        loose = running.put(b"loose", "x")
        for path in state.glob("img.db-leases-*"):
            path.write_bytes(b"x" * 5000)
        notices: list[str] = []
        with Store(str(state), backend="test", mapping="single", notice=notices.append) as store:
            assert "what running commands use" in notices[0]
            with store.database.transaction() as cursor:
                assert leased(cursor, store.state)[EVERYTHING]
            prune(store, Policy())
            assert store.blobs.has(loose.digest)
            with store.database.transaction() as cursor:
                assert loose.digest in leased(cursor, store.state)[BLOB]


def test_the_database_shrinks_when_it_is_pruned(tmp_path: Path) -> None:
    with Store(str(tmp_path), backend="test", mapping="single") as store, store.database.transaction() as cursor:
        cursor.executemany(
            "INSERT INTO tree_digest (identity, files, digest) VALUES (?, ?, ?)",
            [(f"{number:0200}", "f", "d") for number in range(5000)],
        )
    large = (tmp_path / "img.db").stat().st_size
    with Store(str(tmp_path), backend="test", mapping="single", cleaning=True) as store:
        prune(store, Policy(records=True))
    assert (tmp_path / "img.db").stat().st_size < large // 5
