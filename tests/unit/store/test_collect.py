"""Leases and garbage collection, with real files and a real database and no namespaces."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from itertools import count
from pathlib import Path

import pytest

from img_core.files.fs import faults
from img_core.files.treewalk import tree_size
from img_core.images import oci
from img_core.spec.errors import ImgError
from img_core.spec.values import Descriptor
from img_core.store import Store
from img_core.store.collect import Policy, prune, survey
from img_core.store.database import BLOB, SNAPSHOT
from img_core.store.records import RecordedLayer, StepRecord
from img_core.store.snapshots import Snapshot
from img_core.store.usage import ABANDONED, Piece


def opened(state: Path) -> Store:
    return Store(str(state), backend="test", mapping="single")


def add_snapshot(store: Store, parent: Snapshot | None = None, size: int = 10_000) -> Snapshot:
    assert store.run is not None
    directory = store.run.new_path("snapshot")
    os.mkdir(directory)
    Path(directory, "file").write_bytes(b"x" * size)
    return store.snapshots.commit(directory, parent, description="step")


def add_image(store: Store, name: str, content: bytes) -> Descriptor:
    layer = store.put(content, oci.OCI_LAYER)
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}}
    kept = store.put(oci.canonical_json(config), oci.OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": oci.descriptor_document(kept),
        "layers": [oci.descriptor_document(layer)],
    }
    top = store.put(oci.canonical_json(manifest), oci.OCI_MANIFEST)
    store.tag(name, top)
    return layer


def ids(pieces: list[Piece], kind: str = "") -> set[str]:
    return {piece.id for piece in pieces if not kind or piece.kind == kind}


def collect(state: Path, policy: Policy | None = None, **more: bool) -> list[Piece]:
    with opened(state) as store:
        return prune(store, policy or Policy(), **more)


def test_what_arrived_in_part_is_shown_and_goes_unless_it_is_growing(tmp_path: Path) -> None:
    content = bytes(3 << 20)
    blob = Descriptor("x", oci.digest(content), len(content))
    with opened(tmp_path) as store:
        growing = store.blobs.resume(blob, lambda _start: iter([content[: 2 << 20], content[2 << 20 :]]))
        next(growing)
        (shown,) = survey(store)
        assert (shown.description, shown.size, shown.in_use) == ("blob that arrived in part", 2 << 20, True)
        assert collect(tmp_path) == []
        assert isinstance(growing, Generator)
        growing.close()
        assert [piece.in_use for piece in survey(store)] == [False]
        assert [piece.path for piece in collect(tmp_path)] == [shown.path]
        assert os.listdir(tmp_path / "ingest") == []


def test_tagged_images_survive_and_all_else_goes(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        kept = add_image(store, "docker.io/library/kept:latest", b"kept")
        loose = store.put(b"loose", oci.OCI_LAYER)
        snapshot = add_snapshot(store)
        store.records.add_step(
            StepRecord("key", "definition", "identity", (RecordedLayer(snapshot.id, 1.0, snapshot.id),))
        )
    removed = collect(tmp_path)
    assert ids(removed) == {loose.digest, snapshot.id}
    with opened(tmp_path) as store:
        assert b"".join(store.chunks(kept)) == b"kept"
        assert store.records.steps("key") == []
        assert not os.path.exists(snapshot.directory)
    assert collect(tmp_path) == []


def test_space_is_really_freed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        add_snapshot(store, add_snapshot(store, size=3_000_000), size=2_000_000)
        store.put(os.urandom(1_000_000), oci.OCI_LAYER)
    before = tree_size(str(tmp_path))
    told = sum(piece.size for piece in collect(tmp_path))
    freed = before - tree_size(str(tmp_path))
    assert freed >= 6_000_000
    assert abs(freed - told) < 200_000


def test_what_a_running_process_made_or_looked_up_survives(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        base = add_snapshot(store)
        top = add_snapshot(store, base)
        other = add_snapshot(store)
        blob = store.put(b"looked up", oci.OCI_LAYER)
    with opened(tmp_path) as running:
        made = running.put(b"made", oci.OCI_LAYER)
        assert running.snapshots.get(top.id)
        assert running.blobs.has(blob.digest)
        assert ids(collect(tmp_path)) == {other.id}
        assert os.path.isdir(base.directory)
        assert running.read(made.digest) == b"made"
    assert ids(collect(tmp_path)) == {base.id, top.id, blob.digest, made.digest}


def test_what_is_gone_is_not_found(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshot = add_snapshot(store)
        blob = store.put(b"x", oci.OCI_LAYER)
    with opened(tmp_path) as late:
        collect(tmp_path)
        assert late.snapshots.get(snapshot.id) is None
        assert not late.blobs.has(blob.digest)


def test_many_things_are_leased_in_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the uploads of a push have nothing to write."""
    with opened(tmp_path) as store:
        kept = [str(store.put(b"%d" % number, "x").digest) for number in range(5)]
    with opened(tmp_path) as store:
        begun = count()
        transaction = store.database.transaction
        monkeypatch.setattr(store.database, "transaction", lambda: next(begun) >= 0 and transaction())
        assert store.leases.take_all(BLOB, [*kept, "sha256:" + "0" * 64]) == 5
        assert [store.leases.take(BLOB, digest) for digest in kept] == [True] * 5
        assert next(begun) == 1
        assert {row["id"] for row in store.database.query("SELECT id FROM lease")} == set(kept)
        assert not store.leases.take(BLOB, "sha256:" + "0" * 64)


def test_leases_of_the_dead_count_for_nothing(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        store = opened(tmp_path)
        add_snapshot(store)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(collect(tmp_path)) == 1
    with opened(tmp_path) as store:
        assert store.database.query("SELECT * FROM lease") == []


def test_a_blob_that_was_removed_can_be_kept_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(b"again", oci.OCI_LAYER)
    collect(tmp_path)
    with opened(tmp_path) as store:
        kept = store.put(b"again", oci.OCI_LAYER)
        assert store.read(kept.digest) == b"again"


def test_parents_of_what_stays_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        base = add_snapshot(store)
        top = add_snapshot(store, base)
    assert collect(tmp_path, Policy(matches=lambda piece: piece.id == base.id)) == []
    assert ids(collect(tmp_path, Policy(matches=lambda piece: piece.id == top.id))) == {top.id}


def test_two_snapshots_of_one_directory_go_one_by_one(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        layer = add_snapshot(store)
        again = store.snapshots.rebase(layer, add_snapshot(store))
    assert ids(collect(tmp_path, Policy(matches=lambda piece: piece.id == layer.id))) == {layer.id}
    assert os.path.isdir(layer.directory)
    assert ids(collect(tmp_path, Policy(matches=lambda piece: piece.id == again.id))) == {again.id}
    assert not os.path.exists(layer.directory)


def test_the_last_used_is_kept_up_to_a_size(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshots = [add_snapshot(store, size=1_000_000) for _ in range(4)]
        for number, snapshot in enumerate(snapshots):
            with store.database.transaction() as cursor:
                cursor.execute("UPDATE snapshot SET used = ? WHERE id = ?", (1000.0 + number, snapshot.id))
    removed = collect(tmp_path, Policy(keep_bytes=2_300_000))
    assert ids(removed) == {snapshots[0].id, snapshots[1].id}


def test_a_base_counts_as_used_when_what_is_built_on_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        base = add_snapshot(store)
        add_snapshot(store, base)
        old = add_snapshot(store)
        with store.database.transaction() as cursor:
            cursor.execute("UPDATE snapshot SET used = 1 WHERE id IN (?, ?)", (base.id, old.id))
    assert ids(collect(tmp_path, Policy(unused_seconds=3600))) == {old.id}


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshot = add_snapshot(store)
    assert ids(collect(tmp_path, dry_run=True)) == {snapshot.id}
    assert ids(collect(tmp_path)) == {snapshot.id}


def test_files_and_directories_that_nobody_knows_go(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshot, blob = add_snapshot(store), store.put(b"x", oci.OCI_LAYER)
        path = store.blobs.path(blob.digest)
        with store.database.transaction() as cursor:
            cursor.execute("DELETE FROM snapshot")
            cursor.execute("DELETE FROM blob")
        assert len(ids(survey(store), ABANDONED)) == 2
    collect(tmp_path)
    assert not os.path.exists(snapshot.directory)
    assert not os.path.exists(path)


def test_an_index_keeps_its_images(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        layer = add_image(store, "docker.io/library/one:latest", b"one")
        manifest = store.images.get("docker.io/library/one:latest").descriptor
        index = {
            "schemaVersion": 2,
            "mediaType": oci.OCI_INDEX,
            "manifests": [oci.descriptor_document(manifest)],
        }
        top = store.put(oci.canonical_json(index), oci.OCI_INDEX)
        store.tag("docker.io/library/all:latest", top)
        store.images.remove("docker.io/library/one:latest")
    assert collect(tmp_path) == []
    with opened(tmp_path) as store:
        assert store.blobs.has(layer.digest)
        store.images.remove("docker.io/library/all:latest")
    assert len(ids(collect(tmp_path), BLOB)) == 4


def test_sizes_are_measured_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshot = add_snapshot(store, size=100_000)
        assert survey(store)[0].size >= 100_000
        Path(snapshot.directory, "file").unlink()
        assert survey(store)[0].size >= 100_000


@pytest.mark.parametrize("way", ["fail", "crash"])
def test_a_failure_at_any_point_leaves_a_whole_store(way: str, tmp_path: Path) -> None:
    for number in range(1, 60):
        state = tmp_path / str(number)
        with opened(state) as store:
            kept = add_image(store, "docker.io/library/kept:latest", b"kept")
            add_snapshot(store, add_snapshot(store))
            store.put(b"loose", oci.OCI_LAYER)
        finished = _attempt(state, number, way)
        with opened(state) as store:
            assert b"".join(store.chunks(kept)) == b"kept"
            for row in store.database.query("SELECT id FROM snapshot"):
                assert store.snapshots.get(row["id"])
        collect(state)
        assert [piece for piece in _survey(state) if not piece.in_use] == []
        if finished:
            return
    pytest.fail("prune has more than 60 mutations")


def _attempt(state: Path, number: int, way: str) -> bool:
    if way == "crash":
        pid = os.fork()
        if pid == 0:
            faults.install(crash_at=number)
            collect(state)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    faults.install(fail_at=number)
    try:
        collect(state)
    except (ImgError, OSError):
        return False
    finally:
        faults.uninstall()
    return True


def _survey(state: Path) -> list[Piece]:
    with opened(state) as store:
        return survey(store)


def test_looking_up_costs_little(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        found = [add_snapshot(store) for _ in range(50)]
    with opened(tmp_path) as store:
        started = time.process_time()
        for snapshot in found:
            store.snapshots.get(snapshot.id)
        assert (time.process_time() - started) / len(found) < 0.002
        assert len(store.database.query("SELECT * FROM lease WHERE kind = ?", (SNAPSHOT,))) == 50
