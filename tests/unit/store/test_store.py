"""The state directory: what is listed is complete, whatever happened before."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from img_core.files import faults, fs, locks
from img_core.files.appearing import appearing
from img_core.images import oci
from img_core.images.digests import chain_id
from img_core.spec.errors import ImgError, IntegrityError, NotFoundError, StateError
from img_core.spec.values import Descriptor, DiffId, Digest
from img_core.store import Store
from img_core.store.collect import survey
from img_core.store.records import RecordedLayer, StepRecord
from img_core.store.snapshots import Snapshot
from img_core.store.usage import ABANDONED


def add_image(store: Store, name: str = "docker.io/library/a:latest", content: bytes = b"layer") -> Descriptor:
    """Store a small but complete image and give it *name*."""
    with store.blobs.writer(oci.OCI_LAYER) as writer:
        writer.write(content)
        layer = writer.commit()
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}}
    config_descriptor = store.put(oci.canonical_json(config), oci.OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": oci.descriptor_document(config_descriptor),
        "layers": [oci.descriptor_document(layer)],
    }
    descriptor = store.put(
        oci.canonical_json(manifest), oci.OCI_MANIFEST, references=[config_descriptor.digest, layer.digest]
    )
    store.tag(name, descriptor)
    return descriptor


def add_snapshot(store: Store, parent: Snapshot | None = None, diff_id: str | None = None) -> Snapshot:
    assert store.run is not None
    directory = store.run.new_path("snapshot")
    os.mkdir(directory)
    return store.snapshots.commit(directory, parent, description="test", diff_id=diff_id)  # type: ignore[arg-type]


def test_a_tagged_image_is_listed_by_the_next_process(tmp_path: Path) -> None:
    with Store(str(tmp_path / "s")) as store:
        descriptor = add_image(store)
    with Store(str(tmp_path / "s"), writable=False) as store:
        assert [(image.name, image.descriptor) for image in store.images.list()] == [
            ("docker.io/library/a:latest", descriptor)
        ]


def test_reading_a_state_that_does_not_exist_gives_no_images_and_makes_nothing(tmp_path: Path) -> None:
    with Store(str(tmp_path / "none"), writable=False) as store:
        assert store.images.list() == []
    assert not (tmp_path / "none").exists()


def test_an_image_with_a_missing_layer_cannot_be_tagged(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        descriptor = add_image(store)
        layer = oci.parse_manifest(store.read(descriptor.digest), name="x").layers[0]
        os.unlink(store.blobs.path(layer.digest))
        with pytest.raises(NotFoundError, match=layer.digest):
            store.tag("docker.io/library/b:latest", descriptor)
        assert store.images.find("docker.io/library/b:latest") is None


def test_a_blob_with_another_digest_or_length_is_not_kept(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        wanted = Descriptor("x", oci.digest(b"right"), 5)
        for content, words in ((b"wrong", "does not match"), (b"right!", "longer"), (b"righ", "ended after 4 of 5")):
            with pytest.raises(IntegrityError, match=words):
                list(store.blobs.ingest(wanted, [content]))
            assert not store.blobs.has(wanted.digest)
        assert os.listdir(store.run.path) == []  # type: ignore[union-attr]


def test_a_flipped_bit_in_a_blob_is_an_error_not_wrong_data_and_can_be_mended(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        for use in (lambda blob: store.read(blob.digest), lambda blob: list(store.chunks(blob))):
            descriptor = store.put(b"some text", "text/plain")
            Path(store.blobs.path(descriptor.digest)).write_bytes(b"some tezt")
            with pytest.raises(IntegrityError, match="damaged on disk"):
                use(descriptor)
            assert not store.blobs.has(descriptor.digest)


@pytest.mark.parametrize("digest", ["sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "", "sha256:"])
def test_a_digest_that_is_no_digest_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    with Store(str(tmp_path)) as store, pytest.raises(IntegrityError, match="unsupported digest"):
        store.blobs.path(Digest(digest))


def test_snapshots_stack_and_are_found_by_chain_id(tmp_path: Path) -> None:
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        low = add_snapshot(store, diff_id="sha256:" + "1" * 64)
        high = add_snapshot(store, low)
        assert store.snapshots.get(high.id) == high
        assert high.directories == (low.directory, high.directory)
        assert high.chain_id is None
        store.snapshots.set_diff_id(high, "sha256:" + "2" * 64)  # type: ignore[arg-type]
        chain = chain_id([low.chain_id], "sha256:" + "2" * 64)  # type: ignore[arg-type,list-item]
        found = store.snapshots.by_chain(chain)
        assert found is not None
        assert found.id == high.id


def test_snapshots_of_another_mapping_are_not_used(tmp_path: Path) -> None:
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        low = add_snapshot(store, diff_id="sha256:" + "1" * 64)
    with Store(str(tmp_path), backend="test", mapping="full") as store:
        assert store.snapshots.by_chain(low.chain_id) is None  # type: ignore[arg-type]


def test_each_layer_of_a_long_build_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 50
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        snapshot, layers = None, []
        for number in range(count):
            snapshot = add_snapshot(store, snapshot)
            layers.append(RecordedLayer(snapshot.id, 1.0, snapshot.id))
            store.records.add_step(StepRecord(f"key{number}", "definition", f"identity{number}", tuple(layers)))
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        rows = 0
        query = store.database.query

        def counted(*arguments: Any) -> list[sqlite3.Row]:
            nonlocal rows
            found = query(*arguments)
            rows += len(found)
            return found

        monkeypatch.setattr(store.database, "query", counted)
        for number in range(count):
            (step,) = store.records.steps(f"key{number}")
            assert [layer.layer for layer in step.layers] == [layer.layer for layer in layers[: number + 1]]
        assert rows <= 2 * count  # here: closing asks, too, while a busy disk has left something to sync


def test_after_a_power_loss_rows_that_were_not_synced_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fs, "syncs_soon", lambda: True)
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        synced = add_snapshot(store)
        add_image(store)
    monkeypatch.setattr(fs, "syncs_soon", lambda: False)
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        unsynced = add_snapshot(store, synced)
        store.records.add_step(
            StepRecord("key", "definition", "identity", (RecordedLayer(unsynced.id, 1.0, unsynced.id),))
        )
        loose = store.put(b"loose", "x")
        Path(store.blobs.path(loose.digest)).write_bytes(bytes(loose.size))  # what a disk may hold that was not synced
    with sqlite3.connect(tmp_path / "img.db") as connection:
        connection.execute("UPDATE snapshot SET boot = 'earlier'")
        connection.execute("UPDATE blob SET boot = 'earlier'")
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        assert store.snapshots.get(synced.id) is not None
        assert store.snapshots.get(unsynced.id) is None
        assert store.records.steps("key") == []
        assert not store.blobs.has(loose.digest)
        assert len(store.images.list()) == 1
        assert unsynced.directory in [piece.path for piece in survey(store) if piece.kind == ABANDONED]


@pytest.mark.parametrize("damage", ["garbage", "header", "truncated", "empty"])
def test_a_damaged_database_is_set_aside_and_rebuilt_from_the_blobs(tmp_path: Path, damage: str) -> None:
    with Store(str(tmp_path)) as store:
        descriptor = add_image(store)
    path = tmp_path / "img.db"
    data = path.read_bytes()
    for suffix in ("-wal", "-shm"):
        Path(str(path) + suffix).unlink(missing_ok=True)
    path.write_bytes(
        {"garbage": b"x" * 8192, "header": b"y" * 100 + data[100:], "truncated": data[:100] + b"z" * 50, "empty": b""}[
            damage
        ]
    )
    notices: list[str] = []
    with Store(str(tmp_path), notice=notices.append) as store:
        assert [image.descriptor for image in store.images.list()] == [descriptor]
    if damage == "empty":  # nothing that could be set aside
        assert "was lost" in notices[0]
    else:
        assert "was damaged" in notices[0]
        assert list(tmp_path.glob("img.db.damaged-*"))


def test_a_blob_that_the_disk_does_not_give_is_named_and_not_the_place_where_it_goes(tmp_path: Path) -> None:
    with Store(str(tmp_path / "state")) as store:
        blob = store.put(b"", "text/plain")
        path = store.blobs.path(blob.digest)
        os.unlink(path)
        os.symlink("/proc/self/mem", path)  # to read at its begin is an input/output error
        for use in (lambda: store.read(blob.digest), lambda: list(store.chunks(blob))):
            with pytest.raises(ImgError) as caught, appearing(str(tmp_path / "place"), state=store.state):
                use()
            assert caught.value.message == f"input/output error: `{path}`"


def test_a_layer_that_a_repository_has_need_not_be_kept(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        descriptor = add_image(store)
        layer = oci.parse_manifest(store.read(descriptor.digest), name="x").layers[0].digest
        os.unlink(store.blobs.path(layer))
        store.blobs.remember_origins([layer], "example.com/base")
        store.tag("docker.io/library/b:latest", descriptor)
        assert store.images.left(store.images.contents(descriptor)) == {layer: ["example.com/base"]}


def test_where_layers_were_left_survives_a_damaged_database(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        descriptor = add_image(store)
        layer = oci.parse_manifest(store.read(descriptor.digest), name="x").layers[0].digest
        os.unlink(store.blobs.path(layer))
        for repository in ("example.com/base", "example.com/copy"):
            store.blobs.remember_origins([layer], repository)
        store.tag("docker.io/library/b:latest", descriptor)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"img.db{suffix}").unlink(missing_ok=True)
    (tmp_path / "img.db").write_bytes(b"x" * 8192)
    with Store(str(tmp_path)) as store:
        assert "docker.io/library/b:latest" in [image.name for image in store.images.list()]
        assert store.origins(layer) == ["example.com/base", "example.com/copy"]


@pytest.mark.parametrize(
    ("version", "hint"),
    [(99, "use the newer img"), (7, "it stays as it is"), (1, "`img save` of the img that made it")],
    ids=["newer", "of-no-release", "the-first"],
)
def test_a_database_of_a_version_that_is_not_known_is_refused_and_stays(
    tmp_path: Path, version: int, hint: str
) -> None:
    with Store(str(tmp_path)) as store:
        add_image(store)
    with sqlite3.connect(tmp_path / "img.db") as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    content = (tmp_path / "img.db").read_bytes()
    for writable, cleaning in ((True, False), (False, False), (True, True)):
        with pytest.raises(StateError, match=f"version {version}") as refusal:
            Store(str(tmp_path), writable=writable, cleaning=cleaning)
        assert hint in (refusal.value.hint or "")
    assert (tmp_path / "img.db").read_bytes() == content


def test_a_crash_at_any_mutation_leaves_a_state_that_lists_only_complete_images(tmp_path: Path) -> None:
    def scenario(state: str) -> None:
        with Store(state) as store:
            add_image(store, "docker.io/library/one:latest", b"one")
            add_image(store, "docker.io/library/two:latest", b"two")
            store.images.remove("docker.io/library/one:latest")

    crash_points = 0
    for number in range(1, 500):
        state = str(tmp_path / str(number))
        if os.fork() == 0:
            faults.install(crash_at=number)
            try:
                scenario(state)
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.wait()[1])
        with Store(state) as store:
            for image in store.images.list():
                assert list(store.images.contents(image.descriptor))
                assert all(list(store.chunks(layer)) for layer in next(store.images.contents(image.descriptor)).layers)
        scenario(state)  # and the same work succeeds afterwards
        with Store(state) as store:
            assert [image.name for image in store.images.list()] == ["docker.io/library/two:latest"]
        if status == 0:
            crash_points = number - 1
            break
        assert status == 137
    assert crash_points > 20


def test_enospc_at_any_mutation_is_one_line_and_gives_the_space_back(tmp_path: Path) -> None:

    state = str(tmp_path / "s")
    with Store(state) as store:
        add_image(store, "docker.io/library/zero:latest", b"zero")

    def files() -> set[str]:
        return {str(path) for path in Path(state).rglob("*") if not path.name.startswith("img.db")}

    failures = 0
    for number in range(1, 500):
        before = files()
        faults.install(fail_at=number)
        try:
            with Store(state) as store:
                add_image(store, "docker.io/library/new:latest", b"new content")
            succeeded = True
        except ImgError as err:
            succeeded = False
            failures += 1
            assert "no space left" in str(err)
            assert "\n" not in str(err)
        finally:
            faults.uninstall()
        with Store(state) as store:
            if succeeded:
                assert store.images.find("docker.io/library/new:latest")
                break
            assert store.images.find("docker.io/library/new:latest") is None
            grown = {path for path in files() - before if "/run/" in path and store.run.path not in path}  # type: ignore[union-attr]
            assert not grown
    assert failures > 10


def _hold(
    state: str, name: str, started: multiprocessing.synchronize.Event, release: multiprocessing.synchronize.Event
) -> None:
    with locks.lock(state, name):
        started.set()
        release.wait(10)


def test_a_lock_excludes_other_processes_and_no_unrelated_name(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), "a", started, release))
    holder.start()
    assert started.wait(10)

    class GaveUpError(Exception):
        pass

    def give_up() -> None:
        raise GaveUpError

    with locks.lock(str(tmp_path), "b", check=give_up):
        pass
    with pytest.raises(GaveUpError), locks.lock(str(tmp_path), "a", check=give_up):
        pass
    release.set()
    holder.join(10)
    with locks.lock(str(tmp_path), "a", check=give_up):
        pass


def test_a_run_directory_that_is_stopped_as_it_begins_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def stopped(descriptor: int, how: int) -> None:
        flock(descriptor, how)
        if how == fcntl.LOCK_EX:  # its own, not that of the directory above
            raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", stopped)
    with pytest.raises(KeyboardInterrupt):
        locks.RunDirectory(str(tmp_path))
    assert os.listdir(tmp_path / "run") == []


def test_the_run_directory_of_a_killed_process_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    living = locks.RunDirectory(str(tmp_path))
    if os.fork() == 0:
        dead = locks.RunDirectory(str(tmp_path))
        Path(dead.path, "half-made").mkdir()
        os._exit(137)
    os.wait()
    assert locks.sweep(str(tmp_path)) == 1
    assert os.listdir(tmp_path / "run") == [os.path.basename(living.path)]
    living.close()


def test_layers_that_others_removed_meanwhile_are_recorded_again(tmp_path: Path) -> None:
    layers = tuple(RecordedLayer(name, 1.0) for name in "abc")
    with Store(str(tmp_path / "state")) as store:
        for number in (1, 2):
            store.records.add_step(StepRecord(f"key{number}", "definition", "identity", layers[:number]))
        with store.database.transaction() as cursor:
            cursor.execute("DELETE FROM step")
            cursor.execute("DELETE FROM stack")
        store.records.add_step(StepRecord("key3", "definition", "identity", layers))
    with Store(str(tmp_path / "state")) as store:
        assert [step.layers for step in store.records.steps("key3")] == [layers]


def test_what_became_known_of_a_layer_is_recorded_with_the_next_step(tmp_path: Path) -> None:
    layers = [RecordedLayer(name, 1.0) for name in "abc"]
    with Store(str(tmp_path / "state")) as store:
        store.records.add_step(StepRecord("key1", "definition", "identity", tuple(layers[:2])))
        layers[0] = RecordedLayer("a", 1.0, None, DiffId("sha256:" + "0" * 64))
        store.records.add_step(StepRecord("key2", "definition", "identity", tuple(layers)))
    with Store(str(tmp_path / "state")) as store:
        assert [step.layers for step in store.records.steps("key1")] == [tuple(layers[:2])]


def test_file_digests_are_forgotten_when_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("a")
    before = os.stat(file)
    with Store(str(tmp_path / "s")) as store:
        digests = store.records.file_digests("scope")
        digests.put(before, "digest")
        digests.save()
        again = store.records.file_digests("scope")
        assert again.get(before) == "digest"
        os.utime(file, ns=(10**18, 10**18))
        assert again.get(os.stat(file)) is None
        assert store.records.file_digests("other").get(before) is None


def test_notes_beside_the_database_are_json_for_people(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        add_image(store)
    (note,) = (tmp_path / "names").iterdir()
    assert json.loads(note.read_text())["name"] == "docker.io/library/a:latest"


def test_directories_of_the_state_do_not_inherit_the_group_of_a_shared_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o2777)
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "state/blobs", tmp_path / "there"):
        locks.ensure_directory(str(path))
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("state", "state/blobs")] == [0o700, 0o700]
    assert (tmp_path / "state").stat().st_gid == os.getegid()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "there"]


def test_the_database_makes_no_file_elsewhere(tmp_path: Path) -> None:
    """Where temporary files would lie may be full, or an image's while a step takes the place of the root directory."""
    large = """WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 60000)
               SELECT hex(randomblob(60)) AS word FROM n ORDER BY word"""
    with Store(str(tmp_path / "s")) as store, store.database.transaction() as cursor:
        cursor.execute(large).fetchone()
        opened = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
    assert [path for path in opened if "etilqs" in path] == []
