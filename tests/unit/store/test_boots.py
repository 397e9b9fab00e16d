"""All processes with one state directory use one name for this boot, whatever each of them can see and whatever the clock does."""

from __future__ import annotations

from pathlib import Path

import pytest

from img_core.files import boots, fs
from img_core.store import Store
from img_core.store.collect import Policy, prune


class Machine:
    """What the store sees of the machine: *identity* is None where ``/proc`` hides it; *clock* and *uptime* are in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.identity: str | None = None
        self.clock, self.uptime = 1_700_000_000.0, 5000.0
        monkeypatch.setattr(fs, "syncs_soon", lambda: False)  # the disk is busy
        monkeypatch.setattr(boots, "boot_id", lambda: self.identity)
        monkeypatch.setattr(boots, "_uptime", lambda: self.uptime)
        monkeypatch.setattr(boots, "_started", lambda: self.clock - self.uptime)

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        self.uptime += seconds

    def start_again(self, seconds: float) -> None:
        self.clock += seconds
        self.uptime = seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize("first", [None, "true-boot-id"])
@pytest.mark.parametrize("second", [None, "true-boot-id"])
@pytest.mark.parametrize("clock_step", [0.0, 31.0, -86400.0])
def test_what_a_living_process_uses_is_never_collected(
    tmp_path: Path, machine: Machine, first: str | None, second: str | None, clock_step: float
) -> None:
    machine.identity = first
    with Store(str(tmp_path)) as building:
        used = building.put(b"in use by the build", "text/plain")
        machine.wait(100)
        machine.clock += clock_step
        machine.identity = second
        with Store(str(tmp_path)) as collecting:
            assert collecting.database.boot == building.database.boot
            prune(collecting, Policy())
        assert building.blobs.has(used.digest)
    assert len(list(tmp_path.glob("img.db-leases-*[0-9a-z]"))) <= 2, "one file of leases, and its journal"


def test_cached_work_outlives_the_process_where_the_boot_id_is_hidden(tmp_path: Path, machine: Machine) -> None:
    with Store(str(tmp_path)) as store:
        made = store.put(b"never synced", "text/plain")
    machine.wait(3600)
    with Store(str(tmp_path)) as store:
        assert store.blobs.has(made.digest)


@pytest.mark.parametrize("seconds", [6000.0, 20.0])
def test_what_was_not_synced_is_dropped_after_another_boot(tmp_path: Path, machine: Machine, seconds: float) -> None:
    with Store(str(tmp_path)) as store:
        made = store.put(b"never synced", "text/plain")
        Path(store.blobs.path(made.digest)).write_bytes(bytes(made.size))  # what a disk may hold that was not synced
    machine.start_again(seconds)
    with Store(str(tmp_path)) as store:
        assert not store.blobs.has(made.digest)


def test_a_dead_process_says_nothing_about_this_boot(tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "run" / "0123456789abcdef.earlier").mkdir(parents=True)
    machine.identity = "true-boot-id"
    with Store(str(tmp_path)) as store:
        assert store.database.boot == "true-boot-id"
