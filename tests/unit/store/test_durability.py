"""A cut of power: what is listed afterwards is whole, and no command waits for the disk to make it so."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from test_store import add_image, add_snapshot

from img_core.files import faults, fs
from img_core.images import oci
from img_core.spec.values import Descriptor, Digest
from img_core.store import Store
from img_core.store.records import RecordedLayer, StepRecord

APP = "docker.io/library/app:latest"
OTHER = "docker.io/library/other:latest"


def rows(state: Path, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(state / "img.db") as connection:
        return connection.execute(sql).fetchall()


def cut_power(state: Path) -> None:
    """Let all that was not synced be of an earlier boot; what became of it is the business of the test."""
    with sqlite3.connect(state / "img.db") as connection:
        connection.execute("UPDATE snapshot SET boot = 'earlier'")
        connection.execute("UPDATE blob SET boot = 'earlier'")


def listed(state: Path, *, writable: bool = True) -> dict[str, Descriptor]:
    with Store(str(state), writable=writable) as store:
        return {image.name: image.descriptor for image in store.images.list()}


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let the disk have much to write, or not."""

    def make(state: bool) -> None:
        monkeypatch.setattr(fs, "syncs_soon", lambda: not state)

    make(True)
    return make


def parts_of(store: Store, top: Descriptor) -> dict[str, Digest]:
    manifest = oci.parse_manifest(store.read(top.digest), name="x")
    return {"manifest": top.digest, "config": manifest.config.digest, "layer": manifest.layers[0].digest}


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGE: dict[str, Callable[[Path], None]] = {"gone": Path.unlink, "cut": _cut, "zeros": _zero}


@pytest.mark.parametrize("writable", [True, False])
def test_what_reached_the_disk_all_the_same_is_kept(
    busy: Callable[[bool], None], tmp_path: Path, writable: bool
) -> None:
    with Store(str(tmp_path)) as store:
        top = add_image(store, APP)
    assert rows(tmp_path, "SELECT count(*) FROM blob WHERE synced = 0") == [(3,)]
    cut_power(tmp_path)
    assert listed(tmp_path, writable=writable) == {APP: top}
    assert rows(tmp_path, "SELECT count(*) FROM blob WHERE synced = 0") == [(0,)], "it has been read from the disk"


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("way", DAMAGE)
@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_an_image_is_whole_or_absent(
    busy: Callable[[bool], None], tmp_path: Path, part: str, way: str, writable: bool
) -> None:
    notices: list[str] = []
    with Store(str(tmp_path)) as store:
        other = add_image(store, OTHER, b"of the other one")
        top = add_image(store, APP)
        path = Path(store.blobs.path(parts_of(store, top)[part]))
    cut_power(tmp_path)
    DAMAGE[way](path)
    with Store(str(tmp_path), writable=writable, notice=notices.append) as store:
        assert [image.name for image in store.images.list()] == [OTHER]
        store.images.require_complete(other)
        assert notices == [f"image {APP} was not yet on the disk when the machine stopped; it is gone"]
    with Store(str(tmp_path)) as store:  # it can be made again
        assert add_image(store, APP) == top
    assert listed(tmp_path) == {APP: top, OTHER: other}


def test_a_name_that_moved_leaves_the_older_image(busy: Callable[[bool], None], tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        old = add_image(store, APP, b"old")
        new = add_image(store, APP, b"new")
        path = store.blobs.path(new.digest)
    cut_power(tmp_path)
    os.unlink(path)
    assert listed(tmp_path) == {old.digest: old}


def test_a_platform_of_an_index_is_not_lost_in_silence(busy: Callable[[bool], None], tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        images = [add_image(store, f"docker.io/library/{name}:latest", name.encode()) for name in "ab"]
        index = {
            "schemaVersion": 2,
            "mediaType": oci.OCI_INDEX,
            "manifests": [oci.descriptor_document(image) for image in images],
        }
        top = store.put(oci.canonical_json(index), oci.OCI_INDEX, references=[image.digest for image in images])
        store.tag(APP, top)
        path = store.blobs.path(images[1].digest)
    cut_power(tmp_path)
    os.unlink(path)
    assert listed(tmp_path) == {"docker.io/library/a:latest": images[0]}


def test_a_layer_that_its_registry_has_is_only_not_here_any_more(busy: Callable[[bool], None], tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        top = add_image(store, APP)
        layer = parts_of(store, top)["layer"]
        store.blobs.remember_origins([layer], "registry.example/app")
    cut_power(tmp_path)
    os.unlink(tmp_path / "blobs/sha256" / layer.partition(":")[2])
    with Store(str(tmp_path)) as store:
        assert [image.name for image in store.images.list()] == [APP]
        _, left = store.images.require_complete(top)
        assert left == {layer: ["registry.example/app"]}


def test_what_was_synced_is_not_read_again(tmp_path: Path, busy: Callable[[bool], None]) -> None:
    busy(False)
    with Store(str(tmp_path)) as store:
        top = add_image(store, APP)
    cut_power(tmp_path)
    (tmp_path / "blobs/sha256" / top.digest.partition(":")[2]).write_bytes(b"rot, which fsck finds")
    assert listed(tmp_path) == {APP: top}


def test_what_nobody_can_write_to_can_still_be_read(busy: Callable[[bool], None], tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Store(str(state)) as store:
        top = add_image(store, APP)
    cut_power(state)
    for directory, mode in ((state, 0o500), (state / "img.db", 0o400)):
        directory.chmod(mode)
    try:
        assert listed(state, writable=False) == {APP: top}
    finally:
        state.chmod(0o700)


def test_snapshots_and_their_records_are_dropped(busy: Callable[[bool], None], tmp_path: Path) -> None:
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        lost = add_snapshot(store)
        store.records.add_step(StepRecord("key", "definition", "identity", (RecordedLayer(lost.id, 1.0, lost.id),)))
    cut_power(tmp_path)
    with Store(str(tmp_path), backend="test", mapping="single") as store:
        assert store.snapshots.get(lost.id) is None
        assert store.records.steps("key") == []


def test_while_the_disk_is_busy_nobody_syncs_and_the_next_command_does_it(
    busy: Callable[[bool], None], tmp_path: Path
) -> None:
    def unsynced() -> list[tuple[object, ...]]:
        return rows(
            tmp_path,
            "SELECT (SELECT count(*) FROM blob WHERE NOT synced), (SELECT count(*) FROM snapshot WHERE NOT synced)",
        )

    syncs: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fs, "sync_filesystem", lambda _fd: syncs.append("syncfs"))
        with Store(str(tmp_path), backend="test", mapping="single") as store:
            add_snapshot(store)
            add_image(store, APP)
        assert (syncs, unsynced()) == ([], [(3, 1)])
        with Store(str(tmp_path)):
            pass
        assert (syncs, unsynced()) == ([], [(3, 1)])
        busy(False)
        with Store(str(tmp_path)):
            pass
        assert (syncs, unsynced()) == (["syncfs"], [(0, 0)]), "what other commands wrote is among it"
        with Store(str(tmp_path)):
            pass
        assert syncs == ["syncfs"], "there is nothing to do any more"


def test_a_row_that_came_while_the_disk_was_synced_is_not_taken_for_synced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fs, "syncs_soon", lambda: True)

    def sync(_fd: int) -> None:
        monkeypatch.setattr(fs, "syncs_soon", lambda: False)
        with Store(str(tmp_path)) as other:
            other.put(b"meanwhile", "x")

    with Store(str(tmp_path)) as store:
        store.put(b"before", "x")
        monkeypatch.setattr(fs, "sync_filesystem", sync)
    assert rows(tmp_path, "SELECT synced FROM blob ORDER BY created") == [(1,), (0,)]


def test_a_crash_at_any_point_of_the_recovery_leaves_whole_or_nothing(
    busy: Callable[[bool], None], tmp_path: Path
) -> None:
    for point in range(1, 100):
        state = tmp_path / str(point)
        with Store(str(state)) as store:
            whole = add_image(store, OTHER, b"whole")
            path = store.blobs.path(parts_of(store, add_image(store, APP))["layer"])
        cut_power(state)
        os.unlink(path)
        pid = os.fork()
        if pid == 0:
            faults.install(crash_at=point)
            Store(str(state)).close()
            os._exit(0)
        finished = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert listed(state) == {OTHER: whole}
        if finished:
            break
    assert finished
    assert point > 3
