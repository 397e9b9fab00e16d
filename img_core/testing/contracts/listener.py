"""What every listener promises. Subclass `ListenerContract` and name the module of the entry point::

    class TestMine(ListenerContract):
        module = "img_listener_mine.plugin"

Needs no namespaces and no build: the listener is told what builds tell, by the core's own ways.
"""

# ruff: noqa: D102, PT017 - a test's name is its claim
from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img_core.images.oci import OCI_LAYER_GZIP
from img_core.plugins import Found, notify
from img_core.plugins._discovery import load_module
from img_core.plugins._register import hook_manager, register_listener
from img_core.spec.errors import ImgError, PluginError
from img_core.spec.frontend import HistoryEntry, Plan, PlannedImage
from img_core.spec.graph import Copy, FileOp, RunOp, SourceOp, Vertex
from img_core.spec.progress import StepLog
from img_core.spec.values import Descriptor, DiffId, Digest
from img_core.testing.contracts.driver import ModuleContract
from img_core.testing.contracts.progress import HOSTILE, events
from img_core.testing.plans import AMD64, vertices
from img_core.testing.results import ReadyImage, host

if TYPE_CHECKING:
    from pluggy import HookRelay

__all__ = ["ListenerContract", "ready_plan"]

#: events of a large build, and the seconds that a listener may take for all of them
_MANY, _BUDGET = 20_000, 5.0


def ready_plan(text: str = "text") -> Plan:
    """Return the plan of a small build, with *text* wherever somebody else's text is."""
    base = Vertex(SourceOp("docker-image", f"docker.io/library/{text}:1"), name=f"FROM {text}")
    context = Vertex(SourceOp("local", "context"), name="load build context")
    run = Vertex(RunOp(("sh", "-c", text), (("A", text),)), (base,), AMD64, f"RUN {text}")
    copy = Vertex(FileOp((Copy(1, (f"/{text}",), "/"),)), (run, context), AMD64, f"COPY {text} /")
    config = {"os": "linux", "architecture": "amd64", "config": {"Labels": {"a": text}}}
    history = tuple(HistoryEntry(vertex.name, vertex=vertex) for vertex in (run, copy))
    return Plan((PlannedImage(AMD64, copy, config, history),))


class ListenerContract(ModuleContract):
    """The promises of listeners (`img_core.spec.hooks`), each as a test."""

    kind = "listener"

    @pytest.fixture
    def relay(self) -> HookRelay:
        """The hooks, with this listener alone."""
        manager, found = hook_manager(), Found(self.kind, "checked", self.module, "the suite", "1")
        register_listener(manager, found, load_module(found))
        return manager.hook

    def tell_build(self, relay: HookRelay, text: str = "text", *, fails: bool = True) -> list[str]:
        """Tell of one whole build; return the messages of failures. A policy may refuse the plan."""
        plan = ready_plan(text)
        try:
            for vertex in vertices(plan):
                if isinstance(vertex.op, RunOp):
                    relay.img_run_planned(vertex=vertex)
            relay.img_build_planned(plan=plan)
        except ImgError as err:
            assert "\n" not in err.message
        failures = []
        for number, vertex in enumerate(vertices(plan)):
            failures += notify(relay, "img_step_finished", vertex=vertex, cached=number % 2 == 0, seconds=0.5)
        if fails:
            failed = next(iter(vertices(plan)))
            failures += notify(relay, "img_step_failed", vertex=failed, error=f"it did not work: {text}", seconds=0.5)
        for event in events(text, fails=fails):
            failures += notify(relay, "img_event", event=event)
        for vertex in vertices(plan):
            blob = Descriptor(OCI_LAYER_GZIP, Digest(f"sha256:{'2' * 64}"), 7)
            diff_id = DiffId(f"sha256:{'3' * 64}")
            failures += notify(relay, "img_layer_committed", vertex=vertex, descriptor=blob, diff_id=diff_id)
        try:
            with tempfile.TemporaryDirectory() as empty:
                image = ReadyImage(AMD64, Path(empty), {}, (), {**plan.images[0].config, "rootfs": {"type": "layers"}})
                relay.img_image_built(image=image, names=(f"example.org/{text}:1",))
        except ImgError as err:  # it may refuse; what is no answer is a bug
            assert "\n" not in err.message
            assert not isinstance(err, PluginError), err.message
        metadata = {"containerimage.digest": f"sha256:{'1' * 64}", "note": text}
        failures += notify(relay, "img_exported", exporter="image", names=(f"example.org/{text}:1",), metadata=metadata)
        failures += notify(relay, "img_build_finished", error=text if fails else "", seconds=1.5)
        return [failure.message for failure in failures]

    def test_a_whole_build_is_heard_without_a_failure(self, relay: HookRelay) -> None:
        assert self.tell_build(relay) == []

    def test_what_it_says_of_the_host_comes_soon_and_is_findings(self, relay: HookRelay, tmp_path: Path) -> None:
        began = time.monotonic()
        for found in relay.img_doctor(host=host(tmp_path)):
            assert all(finding.what and finding.text for finding in found)
            assert all("\n" not in finding.what + finding.text + finding.hint for finding in found)
        assert time.monotonic() - began < _BUDGET, "`img doctor` gives it up after five seconds"

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_of_strangers_makes_it_fail(self, relay: HookRelay, text: str) -> None:
        assert self.tell_build(relay, text) == []

    def test_builds_after_each_other_and_at_the_same_time_are_heard(self, relay: HookRelay) -> None:
        failures: list[str] = []

        def work() -> None:
            for fails in (True, False):
                failures.extend(self.tell_build(relay, fails=fails))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []

    def test_events_that_never_came_are_not_missed(self, relay: HookRelay) -> None:
        failures = [failure for event in reversed(events()) for failure in notify(relay, "img_event", event=event)]
        failures += notify(relay, "img_event", event=object())
        assert [failure.message for failure in failures] == []

    def test_much_output_is_no_burden(self, relay: HookRelay) -> None:
        event = StepLog("sha256:b", 1, b"y\n" * 100, 1.0)
        began = time.monotonic()
        for number in range(_MANY):
            notify(relay, "img_event", event=event)
            assert time.monotonic() - began < _BUDGET, f"after {number} of {_MANY} events"

    def test_it_writes_nothing_to_standard_output(self, relay: HookRelay, capfd: pytest.CaptureFixture[str]) -> None:
        self.tell_build(relay)
        assert capfd.readouterr().out == ""

    def test_the_process_is_left_as_it_was(self, relay: HookRelay) -> None:
        before = _process()
        self.tell_build(relay)
        assert _process() == before

    def test_no_thread_holds_the_command(self, relay: HookRelay) -> None:
        self.tell_build(relay)
        assert [thread.name for thread in threading.enumerate()[1:] if not thread.daemon] == []


def _process() -> dict[str, Any]:  # Any: to be compared
    """Return what belongs to the whole process and not to a listener."""
    os.umask(mask := os.umask(0))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
    return {"directory": os.getcwd(), "umask": mask, "environment": dict(os.environ), "handlers": handlers}
