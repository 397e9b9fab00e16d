"""Progress, frontends and listeners with one thing wrong."""

# ruff: noqa: E501 - one mutant, one line
from __future__ import annotations

import os
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.mutants import Mutant, mutant
from img_core.spec.frontend import BuildWarning, Plan
from img_core.spec.graph import Copy, FileOp, Vertex
from img_core.spec.hooks import hookimpl
from img_core.spec.progress import StepFinished, StepLog, StepStarted
from img_core.testing.contracts.frontend import FrontendContract
from img_core.testing.contracts.listener import ListenerContract
from img_core.testing.contracts.progress import ProgressContract
from img_frontend_dockerfile._frontend import DockerfileFrontend
from img_progress_plain._plain import PlainProgress

__all__ = ["FRONTENDS", "LISTENERS", "PROGRESS"]


def _raw(self: Any, event: Any) -> None:
    if isinstance(event, StepLog):
        self.stream.write(event.data.decode("utf-8", "replace"))
    PlainProgress.handle(self, event)


def _raw_names(self: Any, event: Any) -> None:
    if isinstance(event, StepStarted):
        self.stream.write(event.name + "\n")
    PlainProgress.handle(self, event)


def _strict(self: Any, event: Any) -> None:
    if isinstance(event, StepLog):
        event.data.decode()
    PlainProgress.handle(self, event)


def _pedantic(self: Any, event: Any) -> None:
    known = self.__dict__.setdefault("known", set())
    if isinstance(event, StepStarted):
        known.add(event.step)
    if isinstance(event, StepFinished):
        known.remove(event.step)
    PlainProgress.handle(self, event)


def _of_today(self: Any, event: Any) -> None:
    event.time  # noqa: B018 - there may be none
    PlainProgress.handle(self, event)


def _loud(self: Any, stream: Any) -> None:
    PlainProgress.__init__(self, stream)
    stream.write("welcome\n")


def _threaded(self: Any, stream: Any) -> None:
    PlainProgress.__init__(self, stream)
    threading.Thread(target=threading.Event().wait, args=(30,), daemon=True).start()


def _unguarded(self: Any, event: Any) -> None:
    PlainProgress.handle(self, event)
    self.stream.flush()
    self.stream.write("")


def _ascii_only(self: Any, event: Any) -> None:
    if isinstance(event, StepStarted):
        self.stream.write("• ")
    PlainProgress.handle(self, event)


def _without_end(self: Any) -> None:
    PlainProgress.close(self)
    self.stream.write("bye")


def _repeats(self: Any, event: Any) -> None:
    if isinstance(event, StepLog):
        for _ in range(3):
            self.stream.write("y" * 65536)
    PlainProgress.handle(self, event)


def _splits(self: Any, text: str) -> None:
    for word in text.split():
        PlainProgress.note(self, word)


def progress(claim: str, **changes: Any) -> Mutant:
    return mutant(ProgressContract, PlainProgress, claim, **changes)


PROGRESS = {
    "passes output on": progress("test_no_text_reaches or test_a_colour", handle=_raw),
    "passes names on": progress("test_no_text_reaches", handle=_raw_names),
    "insists on UTF-8": progress("test_bytes_that_are", handle=_strict),
    "insists on beginnings": progress("test_events_that_never or test_a_step_may", handle=_pedantic),
    "knows the events of today only": progress("test_events_of_the_future", handle=_of_today),
    "greets": progress("test_silence", __init__=_loud),
    "leaves a thread": progress("test_no_thread", __init__=_threaded),
    "needs its stream": progress("test_a_closed_stream or test_a_full_stream", handle=_unguarded),
    "needs UTF-8": progress("test_any_encoding", handle=_ascii_only),
    "ends in the middle of a line": progress("test_every_line", close=_without_end),
    "swallows notes": progress("test_a_note", note=lambda self, text: None),
    "splits notes": progress("test_a_note", note=_splits),
    "repeats output": progress("test_output_without_end", handle=_repeats),
}  # fmt: skip


# ---- frontends


class DockerfileSuite(FrontendContract):
    definition = b"FROM scratch AS a\nCOPY f /f\nFROM b\nRUN x\nCOPY --from=a /f /g\n"
    other_definition = b"FROM scratch\nCOPY g /f\n"


Planner = Callable[[Any, Any, Any], Plan]


def _changed(change: Callable[[Plan, Any], Plan]) -> Planner:
    return lambda self, request, resolver: change(DockerfileFrontend.plan(self, request, resolver), request)


def _images(change: Callable[[Any, Any], Any]) -> Planner:
    return _changed(lambda plan, request: replace(plan, images=tuple(change(image, request) for image in plan.images)))


def _config(**more: Any) -> Planner:
    return _images(lambda image, request: replace(image, config={**image.config, **more}))


def _new_root(make: Callable[[Vertex], Vertex]) -> Planner:
    return _images(lambda image, request: image if image.root is None else replace(image, root=make(image.root)))


def _reads(self: Any, request: Any, resolver: Any) -> Plan:
    with open("/etc/hostname"):
        return DockerfileFrontend.plan(self, request, resolver)


def _lists(self: Any, request: Any, resolver: Any) -> Plan:
    os.listdir(".")
    return DockerfileFrontend.plan(self, request, resolver)


def _bug(self: Any, request: Any, resolver: Any) -> Plan:
    request.definition.decode()
    return DockerfileFrontend.plan(self, request, resolver)


def _other_config(self: Any, request: Any, resolver: Any) -> Plan:
    return DockerfileFrontend.plan(self, replace(request, labels={}), resolver)


_COUNT = iter(range(1_000_000))


def frontend(claim: str, **changes: Any) -> Mutant:
    return mutant(DockerfileSuite, DockerfileFrontend, claim, **changes)


FRONTENDS = {
    "forgets platforms": frontend("test_there_is_one_image", plan=_changed(lambda plan, request: replace(plan, images=plan.images[:1]))),
    "turns platforms round": frontend("test_there_is_one_image", plan=_changed(lambda plan, request: replace(plan, images=plan.images[::-1]))),
    "says the wrong architecture": frontend("test_there_is_one_image", plan=_config(architecture="mips")),
    "writes the layers into the config": frontend("test_configs_are", plan=_config(rootfs={"type": "layers", "diff_ids": []})),
    "has a config that is no JSON": frontend("test_configs_are", plan=_config(config={"Env": ("A=b",)})),
    "forgets labels": frontend("test_labels_of", plan=_other_config),
    "tells the history of another graph": frontend("test_history_is", plan=_images(lambda image, request: replace(image, history=tuple(replace(entry, vertex=Vertex(FileOp((Copy(None, ("/x",), "/x"),), False), name="x")) for entry in image.history)))),
    "plans anew each time": frontend("test_the_same_definition", plan=_new_root(lambda root: Vertex(FileOp((Copy(None, ("/",), f"/{next(_COUNT)}"),)), (root,), name="x"))),
    "plans the same for all": frontend("test_another_definition", plan=lambda self, request, resolver: DockerfileFrontend.plan(self, replace(request, definition=b"FROM scratch\nCOPY a /\n"), resolver)),
    "names inputs that are not there": frontend("test_every_step_has_the_inputs", plan=_new_root(lambda root: Vertex(FileOp((Copy(3, ("/",), "/"),)), (root,), name="x"))),
    "has relative paths": frontend("test_every_step_has_the_inputs", plan=_new_root(lambda root: Vertex(FileOp((Copy(0, ("/",), "x"),)), (root,), name="x"))),
    "names no steps": frontend("test_every_step_has_a_name", plan=_new_root(lambda root: replace_name(root, ""))),
    "has names of several lines": frontend("test_every_step_has_a_name", plan=_new_root(lambda root: replace_name(root, "a\nb"))),
    "uses the cache in any case": frontend("test_without_cache", plan=lambda self, request, resolver: DockerfileFrontend.plan(self, replace(request, no_cache=False), resolver)),
    "reads a file": frontend("test_planning_looks", plan=_reads),
    "lists a directory": frontend("test_planning_looks", plan=_lists),
    "has a bug": frontend("test_what_is_no_definition", plan=_bug),
    "takes any target": frontend("test_a_target", plan=lambda self, request, resolver: DockerfileFrontend.plan(self, replace(request, target=""), resolver)),
    "has paths for names": frontend("test_names_of_files", definition_names=("build/Dockerfile",)),
    "checks with a bug": frontend("test_calls_answer", check=lambda self, request, resolver: (BuildWarning(b"bytes"),)),  # type: ignore[arg-type]
}  # fmt: skip


def replace_name(vertex: Vertex, name: str) -> Vertex:
    return Vertex(vertex.op, vertex.inputs, vertex.platform, name, vertex.location, vertex.use_cache, vertex.hint)


# ---- listeners


def listener(claim: str, **hooks: Callable[..., Any]) -> Mutant:
    """Return a module with these hooks as a mutant; the good one hears the same and does nothing."""
    bad = _module(f"mutant_{len(sys.modules)}", hooks)
    return Mutant(ListenerContract, bad, _QUIET, claim)


def _module(name: str, hooks: dict[str, Callable[..., Any]]) -> str:
    module = types.ModuleType(name)
    for hook, function in hooks.items():
        function.__name__ = hook
        setattr(module, hook, hookimpl(function))
    sys.modules[name] = module
    return name


_QUIET = _module("quiet_listener", {"img_event": lambda event: None})
_SEEN: list[Any] = []


def _needs_a_name(event: Any) -> None:
    event.name  # noqa: B018 - most have none


def _encodes(event: Any) -> None:
    getattr(event, "name", "").encode()


def _by_step(event: Any) -> None:
    steps = vars(sys.modules[__name__]).setdefault("_STEPS", {})
    if isinstance(event, StepStarted):
        steps[event.step] = event
    if isinstance(event, StepFinished):
        del steps[event.step]


def _grows(event: Any) -> None:
    _SEEN.append(event)
    sum(1 for _ in range(50 * len(_SEEN)))


def _changes_directory(event: Any) -> None:
    os.chdir("/")


def _changes_environment(event: Any) -> None:
    os.environ["HTTP_PROXY"] = "http://elsewhere"


def _starts(event: Any) -> None:
    threading.Thread(target=threading.Event().wait, args=(20,)).start()


def _asserts(plan: Any) -> None:
    raise ValueError("a policy refuses with an ImgError")


def _prints(event: Any) -> None:
    os.write(1, b"event\n")


LISTENERS = {
    "wants what no event has": listener("test_a_whole_build", img_event=_needs_a_name),
    "has a bug for steps that failed": listener("test_a_whole_build", img_step_failed=lambda vertex, error: error["reason"]),
    "has a bug for steps": listener("test_a_whole_build", img_step_finished=lambda vertex, seconds: 1 / 0),
    "has a bug for layers": listener("test_a_whole_build", img_layer_committed=lambda descriptor: descriptor["digest"]),
    "states what is no statement": listener("test_a_whole_build", img_image_built=lambda image: [{"predicate": {}}]),
    "refuses with a bug": listener("test_a_whole_build", img_build_planned=_asserts),
    "insists on text that can be encoded": listener("test_no_text_of", img_event=_encodes),
    "insists on beginnings": listener("test_builds_after or test_events_that_never", img_event=_by_step),
    "is slower with each event": listener("test_much_output", img_event=_grows),
    "prints": listener("test_it_writes_nothing", img_event=_prints),
    "changes the directory": listener("test_the_process_is", img_event=_changes_directory),
    "changes the environment": listener("test_the_process_is", img_event=_changes_environment),
    "leaves threads": listener("test_no_thread", img_event=_starts),
    "knows the events of today only": listener("test_events_that_never", img_event=lambda event: event.time),
}  # fmt: skip
