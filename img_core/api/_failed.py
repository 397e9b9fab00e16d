"""What is kept of steps that failed, so that people can look at what they left: a note for each, beside its snapshot.

A note is a file in ``failed/`` that only the user can read, for it has the environment of the step. It means something as long as the
snapshot that it names exists. Contents of secrets are not in it, only where they came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from img_core.api._request import BuildRequest
from img_core.files import fs
from img_core.files.locks import ensure_directory
from img_core.files.places import names_in
from img_core.forms.plan_json import plan_from_json, plan_to_json, value_from_json, value_to_json
from img_core.forms.rewriting import alone
from img_core.images.platforms import host_platform
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, NotFoundError, StateError, UsageError
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import Vertex
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from img_core.api._request import SecretSource
    from img_core.store import Store

__all__ = ["DIRECTORY", "FailedStep", "available", "failed_step", "forget", "kind_of", "remember"]

DIRECTORY = "failed"
_VERSION = 4
_LAST = ("", "last")
#: The fields of a request that a step needs, beside secrets.
_NEEDED = (
    "context context_subdirectory dockerfile definition network limits contexts ssh insecure_registries backend executor "
    "frontend offline"
)


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A RUN step of the *build* with that id, which failed for the reason *message* and left *snapshot*.

    *request* is as much of the build's as the step needs, and *vertex* the step with those of its inputs that its mounts read.
    """

    build: str
    kind: str
    snapshot: str
    message: str
    request: BuildRequest
    vertex: Vertex


def kind_of(request: BuildRequest) -> str:
    """Return what builds have in common of which only the last failure is kept: context, definition and target."""
    context = request.context if "://" in request.context else os.path.abspath(request.context)
    text = hashlib.sha256(request.definition or b"").hexdigest()
    parts = [context, request.context_subdirectory, request.dockerfile or "", text, request.target]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def remember(state: str, build: str, request: BuildRequest, vertex: Vertex, snapshot: str, message: str) -> str:
    """Write a note of a step that failed; return its name. Raises OSError."""
    kept = FailedStep(build, kind_of(request), snapshot, message, _needed(request), alone(vertex))
    directory = os.path.join(state, DIRECTORY)
    ensure_directory(directory)
    name = f"{time.time_ns() // 1_000_000:013d}-{snapshot}.json"
    fs.replace_file(os.path.join(directory, name), json.dumps(_document(kept)).encode(), 0o600)
    return name


def failed_step(state: str, build: str) -> FailedStep:
    """Return the last step that failed, or that of a *build* by its id, perhaps cut. Raises NotFoundError, StateError."""
    found = False
    for path in _notes(state):
        note = _read(path)
        if note is None:
            continue
        found = True
        if build in _LAST or note.get("build", "").startswith(build):
            return _step(note)
    hint = "`img logs` shows what it said; build it again to look at what it left"
    if not found:
        raise NotFoundError("no failed step is kept here", hint=hint)
    raise NotFoundError(f'no failed step of the build "{show(build)}" is kept', hint=hint)


def forget(store: Store, kind: str, *, besides: Iterable[str]) -> None:
    """Forget failed steps of builds of that *kind*, and those whose snapshot is gone; *besides* are names of notes that stay."""
    assert store.run is not None
    for path in _notes(store.state):
        note = _read(path)
        snapshot = str(note.get("snapshot", "")) if note else ""
        if os.path.basename(path) in besides:
            continue
        is_gone = not store.database.one("SELECT 1 FROM snapshot WHERE id = ?", (snapshot,))
        same = note is not None and note.get("kind") == kind
        if is_gone or (same and store.snapshots.discard(snapshot, store.run.new_path("failed"))):
            with suppress(FileNotFoundError):
                fs.unlink(path)


def available(
    request: BuildRequest, locate: Callable[[str, SecretSource], SecretSource], notice: Callable[[str], None]
) -> BuildRequest:
    """Return *request* without the secrets and agents that are not where the build found them; *notice* hears of each.

    *locate* looks for a secret, and raises ImgError for one that cannot be had.
    """
    secrets: dict[str, SecretSource] = {}
    for name, source in request.secrets.items():
        with suppress(ImgError):
            secrets[name] = locate(name, source)
    agents = {name: agent for name, agent in request.ssh.items() if os.path.exists(agent.path)}
    for kind, old, new in (("secret", request.secrets, secrets), ("ssh agent", request.ssh, agents)):
        for name in sorted(old.keys() - new.keys()):
            notice(f"the {kind} `{show(name)}` is not there any more")
    return replace(request, secrets=secrets, ssh=agents)


def _notes(state: str) -> Iterator[str]:
    """Give the paths of all notes, newest first."""
    directory = os.path.join(state, DIRECTORY)
    return (os.path.join(directory, name) for name in reversed(names_in(directory)))


def _read(path: str) -> dict[str, Any] | None:  # Any: JSON
    try:
        with open(path, "rb") as file:
            note = json.load(file)
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def _needed(request: BuildRequest) -> BuildRequest:
    """Return *request* without what a step does not need: values of build arguments and contents of secrets stay with the build."""
    secrets = {name: source for name, source in request.secrets.items() if source.value is None}
    return BuildRequest(secrets=secrets, **{name: getattr(request, name) for name in _NEEDED.split()})


# ------------------------------------------------------------------------------------------------------------------- JSON


def _document(step: FailedStep) -> dict[str, Any]:  # Any: JSON
    image = PlannedImage(step.vertex.platform or host_platform(), step.vertex, {}, ())
    return {"version": _VERSION, "plan": plan_to_json(Plan((image,))), **value_to_json(step)}


def _step(note: Mapping[str, Any]) -> FailedStep:  # Any: JSON
    own = {name: value for name, value in note.items() if name not in ("version", "plan")}
    try:
        if note["version"] != _VERSION:
            raise ValueError(note["version"])
        vertex = plan_from_json(note["plan"]).images[0].root
        step: FailedStep = value_from_json(FailedStep, own, "step", (vertex,))
    except (KeyError, TypeError, ValueError, IndexError, UsageError) as err:
        raise StateError(
            "what is kept of the failed step cannot be read", hint="another version of img built it: build it again"
        ) from err
    return step
