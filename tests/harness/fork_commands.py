"""Runs img's own work in forked processes, so that thousands of crashes cost minutes instead of hours.

``python -m harness.fork_commands`` reads one JSON request per line and answers with one JSON line: imports are paid once, each request is a
fork with its own faults, its own namespace and its own end. Requests: ``{"command": NAME, "state": DIR, "crash_at": N?, "fail_at": N?,
"below_at": N?, "sticky": 1?, "error": ERRNO?, …arguments of the command}``; answers: ``{"status": N, "mutations": N, "below": N,
"error": TEXT, "code": N, "value": …}``.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.warm_commands import import_all

__all__ = ["ForkCommands", "Outcome"]

Request = dict[str, Any]


# --- this side: the test


class Outcome:
    """How one forked command ended. *status* 137 is a crash, 0 is success, else *error* and *code* tell."""

    def __init__(self, answer: Request) -> None:
        self.status: int = answer["status"]
        self.mutations: int = answer.get("mutations", 0)
        self.below: int = answer.get("below", 0)  #: changes of the database's files, as sqlite_faults.c counts them
        self.error: str = answer.get("error", "")
        self.code: int = answer.get("code", 0)
        self.value: Any = answer.get("value")

    def __repr__(self) -> str:
        return f"status {self.status}, code {self.code}, {self.mutations} mutations: {self.error or self.value}"

    def ok(self) -> Outcome:
        """Insist on success."""
        assert self.status == 0, repr(self)
        return self


class ForkCommands:
    """One server process; use as a context manager."""

    def __init__(self, environment: dict[str, str]) -> None:
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join([tests, environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "harness.fork_commands"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**environment, "PYTHONPATH": path},
        )  # fmt: skip

    def __enter__(self) -> ForkCommands:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(20)
        self._server.stdout.close()

    def run(self, command: str, state: Path, **arguments: Any) -> Outcome:
        """Run one command and wait for its end."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"command": command, "state": str(state), **arguments}) + "\n")
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        assert line, "the server of forked commands ended"
        return Outcome(json.loads(line))


# --- that side: the server and its children


def _serve() -> None:
    import_all()  # paid once, not in every child: plugins, too, which take most of it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_in_child(json.loads(line))) + "\n")
        answers.flush()


def _in_child(request: Request) -> Request:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 70
        try:
            answer = _run(request)
            os.write(writing, json.dumps(answer).encode())
            status = 0
        except BaseException:
            import traceback

            os.write(writing, json.dumps({"error": traceback.format_exc(), "code": -1}).encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    _, status = os.waitpid(child, 0)
    answer = json.loads(data) if data else {}
    ended = os.waitstatus_to_exitcode(status)
    return {**answer, "status": ended or answer.get("status", 0)}


def _run(request: Request) -> Request:
    from img_core.files import faults
    from img_core.spec.errors import ImgError

    faults.install(
        crash_at=request.get("crash_at"), fail_at=request.get("fail_at"), error=request.get("error", errno.ENOSPC)
    )
    preloaded = _sqlite_faults(request)
    try:
        value = _COMMANDS[request["command"]](request)
    except ImgError as err:
        return {
            "status": 1,
            "error": err.message,
            "code": err.exit_code,
            "mutations": faults.count(),
            "below": preloaded(),
        }
    return {"value": value, "mutations": faults.count(), "below": preloaded()}


def _sqlite_faults(request: Request) -> Callable[[], int]:
    """Arm ``sqlite_faults.c`` if it is preloaded; return what counts its calls."""
    if not os.environ.get("LD_PRELOAD"):
        return lambda: 0
    import ctypes

    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.sqlite_faults_set(request.get("below_at", 0), request.get("error", errno.EIO), request.get("sticky", 0))
    return lambda: int(library.sqlite_faults_count())


def _build(request: Request) -> Any:
    from img_core.api._build import Build
    from img_core.api._request import BuildRequest
    from img_core.linux.cancellation import Cancellation

    with _session(request) as session:
        wanted = BuildRequest(
            context=request["context"], tags=tuple(request["tags"]), backend=request.get("backend", "auto")
        )
        result = Build(session, [wanted], Cancellation()).run()[0]
        return {"digest": result.digest, "steps": result.steps, "cached": result.cached_steps}


def _session(request: Request, *, namespace: bool = True) -> Any:
    from img_core.api.session import Session
    from img_core.config import Config

    return Session(Config.load(state=request["state"]), namespace=namespace)


def _pull(request: Request) -> Any:
    from img_core.images.pull import pull_image
    from img_core.spec.graph import IMAGE_SCHEME

    with _session(request, namespace=False) as session:
        return pull_image(request["name"], session.sources()(IMAGE_SCHEME), session.store).digest


def _load(request: Request) -> Any:
    from img_core.api._images import load

    with _session(request, namespace=False) as session, open(request["archive"], "rb") as file:
        return [name for image in load(session.store, file, session.plugins) for name in image.names]


def _tag(request: Request) -> Any:
    with _session(request, namespace=False) as session:
        store = session.store
        store.tag(request["new"], store.images.get(request["name"], request["name"]).descriptor)


def _remove(request: Request) -> Any:
    with _session(request, namespace=False) as session:
        session.store.images.remove(request["name"])


def _save(request: Request) -> Any:
    from img_core.api._images import save

    with _session(request, namespace=False) as session:
        exporter = session.plugins.make("exporter", "docker", session.host)
        save(session.store, [request["name"]], request["dest"], exporter=exporter)


def _check(request: Request) -> Any:
    """Say what is listed, after reading every byte of every image: whatever is listed must be complete."""
    with _session(request) as session:
        store = session.store
        listed = {}
        for image in store.images.list():
            if not image.is_untagged:  # a step that ran again made another image; the first one stays under its id
                listed[image.name] = image.descriptor.digest
            _read_all(store, image.descriptor)
        return {"listed": listed, "integrity": _integrity(request["state"]), "garbage": _garbage(request["state"])}


def _read_all(store: Any, descriptor: Any) -> None:
    from img_core.spec.values import Descriptor

    document = json.loads(store.read(descriptor.digest))
    children = document.get("manifests") or [document["config"], *document["layers"]]
    for child in children:
        found = Descriptor(child["mediaType"], child["digest"], child["size"])
        if "manifests" in document:
            _read_all(store, found)
        elif store.blobs.has(found.digest) or not store.origins(found.digest):  # others were left in a registry
            for _ in store.chunks(found):  # verifies digest and size
                pass


def _integrity(state: str) -> str:
    import sqlite3

    with sqlite3.connect(os.path.join(state, "img.db")) as database:
        broken = database.execute("PRAGMA foreign_key_check").fetchall()
        answer: str = database.execute("PRAGMA integrity_check").fetchone()[0]
        return answer if not broken else f"foreign keys: {broken}"


def _garbage(state: str) -> list[str]:
    """Return the names of blobs and snapshots on disk that the database does not know."""
    import sqlite3

    with sqlite3.connect(os.path.join(state, "img.db")) as database:
        known = {row[0].removeprefix("sha256:") for row in database.execute("SELECT digest FROM blob")}
        known |= {row[0] for row in database.execute("SELECT directory FROM snapshot")}
    found = [*Path(state).glob("blobs/sha256/*"), *Path(state).glob("snapshots/*/*")]
    return sorted(path.name for path in found if path.name not in known)


def _prune(request: Request) -> Any:
    from img_core.store.collect import Policy, prune

    with _session(request) as session:
        policy = Policy(images=lambda image: image.is_untagged, **request.get("policy", {}))
        return len(prune(session.store, policy))


def _list(request: Request) -> Any:
    from img_core.store import Store

    notices: list[str] = []
    with Store(request["state"], writable=False, notice=notices.append) as store:
        return {"names": [image.name for image in store.images.list()], "notices": notices}


def _fsck(request: Request) -> Any:
    from img_core.store import Store
    from img_core.store.fsck import check, request_check

    repair = request.get("repair", False)
    if repair:
        request_check(request["state"])
    with Store(request["state"], writable=repair, cleaning=repair) as store:
        report = check(store, repair=repair, read_data=True)
    return [
        [problem.kind, problem.id, problem.description, problem.repaired]
        for problem in report.problems
        if not problem.harmless
    ]


_COMMANDS: dict[str, Callable[[Request], Any]] = {
    "build": _build,
    "check": _check,
    "fsck": _fsck,
    "list": _list,
    "load": _load,
    "prune": _prune,
    "pull": _pull,
    "rm": _remove,
    "save": _save,
    "tag": _tag,
}

if __name__ == "__main__":
    _serve()
