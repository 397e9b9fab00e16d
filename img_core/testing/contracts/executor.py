"""What every executor promises. Subclass `ExecutorContract` and name the class::

    class TestMine(ExecutorContract):
        executor = MyExecutor

Run as an ordinary user; needs a static busybox. Every test runs in full and in single-id mapping.
"""

# ruff: noqa: D102 - a test's name is its claim; the paths are those of a container
from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from img_core.spec import errors
from img_core.testing.contracts._executor_isolation import IsolationPromises
from img_core.testing.contracts._executor_mounts import MountPromises
from img_core.testing.contracts._executor_owners import OwnerPromises
from img_core.testing.contracts._executor_process import ProcessPromises
from img_core.testing.executor_lab import BUSYBOX, Laboratory, place_of
from img_core.testing.processes import CEILING, LARGE, eventually, processes_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.executor import Executor

__all__ = ["ExecutorContract", "unusual_number"]


class ExecutorContract(ProcessPromises, IsolationPromises, MountPromises, OwnerPromises):
    """The promises of `img_core.spec.Executor`, each as a test."""

    kind = "executor"
    holder = "executor"
    executor: ClassVar[type[Executor]]
    #: seconds for the start of a program to its end, with room for a busy machine
    budget: ClassVar[float] = 0.3

    @pytest.fixture(scope="class", params=["full", "single"])
    @classmethod
    def class_lab(cls, request: pytest.FixtureRequest) -> Iterator[Laboratory]:
        """One laboratory for all tests of a class and mapping."""
        lab = cls.make_lab(request.param)
        yield lab
        lab.close()

    @pytest.fixture
    def lab(self, class_lab: Laboratory) -> Laboratory:
        """A laboratory with a fresh root file system."""
        class_lab.ask("reset")
        return class_lab

    @classmethod
    def make_lab(cls, mapping: str) -> Laboratory:
        """Start a laboratory, or skip when this host lacks what it needs."""
        if not os.access(BUSYBOX, os.X_OK):
            pytest.skip("needs a static busybox")
        lab = Laboratory(place_of(cls.executor), mapping, cls.options)
        mode = lab.identity["mode"]
        if mapping == "full" and mode == "single":
            lab.close()
            pytest.skip(f"only a single id can be mapped: {lab.identity['reason']}")
        return lab

    # --- ends

    def test_background_processes_end_with_the_step(self, lab: Laboratory) -> None:
        seconds = unusual_number()
        assert lab.shell(f"sleep {seconds} & setsid sleep {seconds} & echo started").text == "started"
        assert processes_with(seconds) == []

    def test_cancel_ends_everything_at_once(self, lab: Laboratory) -> None:
        seconds = unusual_number()
        script = f"trap '' TERM INT; setsid sleep {seconds} & sleep {seconds} & echo ready; wait"
        outcome = lab.shell(script, cancel="ready")
        assert outcome.canceled
        assert outcome.seconds < 10 + self.budget  # at once, on a machine that has much to do
        assert processes_with(seconds) == []

    @pytest.mark.parametrize("mapping", ["full", "single"])
    def test_nothing_is_left_when_the_builder_is_killed(self, mapping: str) -> None:
        lab = self.make_lab(mapping)
        seconds = unusual_number()
        script = f"setsid sleep {seconds} & sleep {seconds}"
        process = {"args": ["sh", "-c", script], "env": [["PATH", "/bin"]]}
        lab.ask("background", process=process)
        lab.ask("background", process={**process, "uid": 1000, "gid": 1000})
        eventually(lambda: len(processes_with(seconds)) >= 4)
        lab.kill()
        eventually(lambda: processes_with(seconds) == [])
        assert lab.identity["scratch"] not in Path("/proc/self/mountinfo").read_text()

    def test_descriptors_do_not_leak(self, lab: Laboratory, tmp_path: Path) -> None:
        mounts = [{"target": "/m", "source": str(tmp_path)}]
        before = lab.ask("descriptors")
        lab.run("true", mounts=mounts)
        lab.run("no-such-program", mounts=mounts)
        assert lab.ask("descriptors") == before
        assert os.listdir(lab.identity["run"]) == []

    def test_a_full_disk_is_an_error_of_one_line_and_leaves_nothing(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        mounts = [{"target": "/made/here/file", "source": str(tmp_path / "file")}]

        def left() -> object:
            return lab.ask("list"), lab.ask("descriptors"), lab.ask("working_files")

        before = left()
        for room in (0, 1, 300):
            outcome = lab.run("echo", "well", mounts=mounts, room=room)
            kind, _, message = outcome.error.partition(": ")
            if kind:
                assert issubclass(getattr(errors, kind, Exception), errors.ImgError), outcome.error
                assert "\n" not in message
            else:  # it had nothing to write, or put that elsewhere
                assert (outcome.code, outcome.text) == (0, "well"), outcome.errors
            assert left() == before
        assert lab.run("echo", "well", mounts=mounts).text == "well"

    def test_output_takes_little_memory(self, lab: Laboratory) -> None:
        outcome = lab.run("head", "-c", str(LARGE), "/dev/zero", drop=True)
        assert (outcome.code, outcome.error) == (0, "")
        assert outcome.grown < CEILING

    def test_start_to_end_is_quick(self, lab: Laboratory) -> None:
        times = [lab.run("true").seconds for _ in range(10)]
        assert min(times) < self.budget


def unusual_number() -> str:
    """Return a number of seconds that no other process on this machine sleeps for."""
    return f"{random.randrange(10_000, 99_999)}.{os.getpid()}"  # noqa: S311 - not a secret
