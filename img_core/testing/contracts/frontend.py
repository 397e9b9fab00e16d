"""What every frontend promises. Subclass `FrontendContract`, name the class and give build definitions::

    class TestMine(FrontendContract):
        frontend_class = MyFrontend
        definition = b"..."        # builds at least one layer, and needs no named context
        other_definition = b"..."  # gives another result

Needs no namespaces and no build: nothing is run, images come from `img_core.testing.plans.ReadyResolver`.
"""

# ruff: noqa: D102, PT017 - a test's name is its claim
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from img_core.spec.errors import ImgError, Unsupported
from img_core.spec.graph import Copy, FileOp, MakeDirectory, MergeOp, RunOp, SourceOp
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.namespaces import run_forked
from img_core.testing.plans import AMD64, ARM64, ReadyResolver, request, vertices

if TYPE_CHECKING:
    from img_core.spec.frontend import Frontend, Plan, PlanRequest
    from img_core.spec.graph import Vertex

__all__ = ["FrontendContract"]

#: What is no definition of anything, or of something else.
STRANGE = {
    "nothing": b"",
    "a zero": b"\0",
    "no text": b"\xff\xfe\xfd" * 100,
    "a byte order mark": "\ufeffhello\n".encode(),
    "carriage returns": b"a\rb\r\nc\r",
    "one long line": b"x" * 1_000_000,
    "many lines": b"\n" * 200_000,
    "brackets": b"[{(" * 30_000,
    "quotes": b"'\"\\" * 10_000,
    "controls": b"\x1b[2J\x1b]0;title\x07\n",
    "variables": b"${a:-" * 5_000,
    "a program": b"\x7fELF\x02\x01\x01" + bytes(200),
}
#: what is on the disk and may be read while a plan is made: parts of Python and of the plugin itself
_CODE = (".py", ".pyc", ".so", ".zip")


class FrontendContract(DriverContract):
    """The promises of `img_core.spec.Frontend`, each as a test."""

    kind = "frontend"
    holder = "frontend_class"
    frontend_class: ClassVar[type[Frontend]]
    definition: ClassVar[bytes] = b""
    other_definition: ClassVar[bytes] = b""
    samples: ClassVar[Mapping[str, str]] = {
        "definition": "a file with what it builds from, which makes at least one layer",
        "other": "a file with what gives another result",
    }

    def request(self, **more: Any) -> PlanRequest:  # Any: the fields of a request
        name = (*self.frontend_class.definition_names, "definition")[0]
        definition = more.pop("definition", None)
        return request(self._text("definition") if definition is None else definition, **{"filename": name, **more})

    def _text(self, name: str) -> bytes:
        """Return one of the two definitions."""
        own = self.definition if name == "definition" else self.other_definition
        return own or Path(self.sample(name)).read_bytes()

    def plan(self, **more: Any) -> Plan:  # Any: the fields of a request
        made: Frontend = self.made()
        return made.plan(self.request(**more), ReadyResolver())

    # ---- images

    @pytest.mark.parametrize(
        "platforms", [(AMD64,), (ARM64,), (ARM64, AMD64)], ids=lambda them: ",".join(map(str, them))
    )
    def test_there_is_one_image_per_platform_in_their_order(self, platforms: Any) -> None:
        plan = self.plan(platforms=platforms)
        assert tuple(image.platform for image in plan.images) == platforms
        for image in plan.images:
            assert (image.config["os"], image.config["architecture"]) == (
                image.platform.os,
                image.platform.architecture,
            )

    def test_configs_are_json_without_what_the_layers_say(self) -> None:
        for image in self.plan().images:
            assert json.loads(json.dumps(image.config)) == image.config
            assert not {"rootfs", "history", "created"} & set(image.config)

    def test_labels_of_the_command_line_are_in_the_config(self) -> None:
        labels = {"one": "a=b", "two": '$HOME "${x}"'}
        for image in self.plan(labels=labels).images:
            found = (image.config.get("config") or {}).get("Labels") or {}
            assert {name: found.get(name) for name in labels} == labels

    def test_history_is_about_this_graph(self) -> None:
        plan = self.plan()
        known = {vertex.digest for vertex in vertices(plan)}
        for image in plan.images:
            assert all(entry.vertex is None or entry.vertex.digest in known for entry in image.history)

    # ---- the graph

    def test_the_same_definition_gives_the_same_plan(self) -> None:
        first, second = self.plan(), self.plan()
        assert _shown(first) == _shown(second)

    def test_another_definition_gives_another_plan(self) -> None:
        assert _shown(self.plan()) != _shown(self.plan(definition=self._text("other")))

    def test_every_step_has_the_inputs_that_it_names(self) -> None:
        found = vertices(self.plan())
        assert found, "the definition of this suite builds nothing"
        for vertex in found:
            _check_inputs(vertex)

    def test_every_step_has_a_name_of_one_line(self) -> None:
        for vertex in vertices(self.plan()):
            assert vertex.name.strip(), vertex.op
            assert vertex.name.isprintable(), vertex.name

    def test_without_cache_no_step_uses_it(self) -> None:
        for vertex in vertices(self.plan(no_cache=True)):
            assert isinstance(vertex.op, SourceOp) or not vertex.use_cache, vertex.name

    def test_planning_looks_at_nothing_but_what_it_is_given(self) -> None:
        asked = self.request()
        self.plan()  # imports what is imported late

        def body() -> None:
            touched: list[str] = []
            made: Frontend = self.made()
            sys.addaudithook(lambda event, arguments: touched.append(_touch(event, arguments)))
            made.plan(asked, ReadyResolver())
            assert [what for what in touched if what] == []

        run_forked(body)

    # ---- mistakes

    @pytest.mark.parametrize("strange", STRANGE)
    def test_what_is_no_definition_is_refused_in_one_line_or_planned(self, strange: str) -> None:
        began = time.process_time()
        try:
            plan = self.plan(definition=STRANGE[strange])
        except ImgError as err:
            assert "\n" not in err.message
            assert len(err.message) < 2000
        else:
            assert len(plan.images) == 1
            for vertex in vertices(plan):
                _check_inputs(vertex)
        assert time.process_time() - began < 5

    def test_a_target_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(ImgError) as caught:
            self.plan(target="no-such-target-of-any")
        assert "no-such-target-of-any" in caught.value.message
        assert "\n" not in caught.value.message

    def test_calls_answer_or_say_that_they_are_not_supported(self) -> None:
        made: Frontend = self.made()
        for call in (
            lambda: {"warnings": [finding.message for finding in made.check(self.request(), ReadyResolver())]},
            lambda: made.outline(self.request(), ReadyResolver()),
            lambda: made.targets(self.request()),
        ):
            try:
                answer = call()
            except Unsupported as err:
                assert "\n" not in err.message
            else:
                json.dumps(answer)

    # ---- names

    def test_names_of_files_are_names(self) -> None:
        ignored = self.frontend_class.ignore_names("some.definition")
        for name in (*self.frontend_class.definition_names, *ignored.beside, *ignored.within):
            assert name == os.path.basename(name) not in ("", ".", "..")

    def test_another_frontend_is_asked_for_by_a_word_or_not_at_all(self) -> None:
        made: Frontend = self.made()
        for definition in (self._text("definition"), *STRANGE.values()):
            try:
                wanted = made.wanted(replace(self.request(), definition=definition))
            except ImgError as err:
                wanted = err.message
            assert isinstance(wanted, str)
            assert "\n" not in wanted


def _shown(plan: Plan) -> Any:  # Any: to be compared
    """Return what two plans of one result have in common."""
    images = [
        (image.platform, image.root and image.root.digest, image.config, len(image.history)) for image in plan.images
    ]
    return images, plan.source_date_epoch, plan.multi_platform


def _touch(event: str, arguments: tuple[Any, ...]) -> str:  # Any: of the event (docs.python.org, "Audit events table")
    """Return what an audit event says about the world outside, or nothing."""
    if event == "open" and not str(arguments[0]).endswith(_CODE):
        return f"opened {arguments[0]}"
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.listdir", "os.scandir"):
        return f"{event} {arguments[0]}"
    return ""


def _check_inputs(vertex: Vertex) -> None:
    """Insist that *vertex* has the inputs that its operation needs, and clean paths."""
    op, count = vertex.op, len(vertex.inputs)
    where = f"step `{vertex.name}`"
    match op:
        case SourceOp():
            assert count == 0, where
            assert op.scheme, where
        case MergeOp():
            assert count == 2, where
        case RunOp():
            assert op.args, where
            assert count >= op.has_base, where
            for mount in op.mounts:
                assert mount.target.startswith("/"), where
                assert mount.input is None or mount.input < count, where
        case FileOp():
            assert op.actions, where
            assert count >= op.has_base, where
            for action in op.actions:
                if isinstance(action, Copy):
                    assert action.input is None or action.input < count, where
                place = action.path if isinstance(action, MakeDirectory) else action.destination
                assert place.startswith("/"), where
