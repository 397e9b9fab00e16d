"""Many small builds by the Python API in one process: what takes the command line half a second each takes this a tenth.

``python -m harness.build_server STATE`` enters its namespace once, reads one JSON request per line (fields of `BuildRequest`; ``secrets``
maps ids to their text, ``ssh`` ids to sockets) and answers each with one JSON line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.situations import Surrounding

__all__ = ["BuildServer", "Built", "Workshop", "build_server"]

_STEP = re.compile(r"\[[^\]]*\d+/\d+\] (?!LINK )(.*)", re.DOTALL)


# --- this side: the test


@dataclass(frozen=True, slots=True)
class Built:
    """How one build ended. *log* is what the steps wrote, *steps* their names and ``cached``, ``done`` or ``failed``."""

    error: str
    code: int
    hint: str
    excerpt: str
    log: str
    steps: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]  #: what steps said about themselves
    digest: str = ""  #: of the manifest or index
    reasons: tuple[tuple[str, str], ...] = ()  #: names of the steps that ran, and why

    def ok(self) -> Built:
        """Insist on success."""
        assert not self.error, str(self)
        return self

    def refused(self, *words: str) -> Built:
        """Insist on an error with all *words*."""
        assert self.error, str(self)
        for word in words:
            assert word in self.error, str(self)
        return self

    @property
    def made(self) -> list[str]:
        """The instructions that were not cached, without bases and helpers such as the stacking of ``--link``."""
        found = ((_STEP.fullmatch(name), end) for name, end in self.steps)
        return [match[1] for match, end in found if match and end != "cached" and not match[1].startswith("FROM ")]

    def __str__(self) -> str:
        """Show all of it, for the report of a failed test."""
        steps = "\n".join(f"  {end}: {name}" for name, end in self.steps)
        return f"error {self.code}: {self.error}\nhint: {self.hint}\n{self.excerpt}\n{steps}\n--- log\n{self.log}"


class BuildServer:
    """A running server; use `build_server`. It may run in a *surrounding*, as long as the state and contexts are seen there, too."""

    def __init__(self, state: Path, environment: dict[str, str], surrounding: Surrounding | None = None) -> None:
        self.state = state
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join([tests, environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        command = [sys.executable, "-m", "harness.build_server", str(state)]
        self._process = subprocess.Popen(
            surrounding.wrap(*command) if surrounding else command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**environment, "PYTHONPATH": path},
        )  # fmt: skip

    def build(self, context: Path, text: str | None, /, **request: Any) -> Built:
        """Run one build; without the *text* of a Dockerfile it is looked up in the context."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if "tags" not in request and "outputs" not in request:
            request["tags"] = ["server/result"]
        request |= {"context": str(context)} | ({} if text is None else {"definition": text})
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the build server died"
        answer = json.loads(line)
        steps = tuple((name, end) for name, end in answer.pop("steps"))
        answer["reasons"] = tuple((name, reason) for name, reason in answer["reasons"])
        lists = {name: tuple(answer[name]) for name in ("warnings", "notes")}
        return Built(**answer | lists | {"steps": steps})

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


@contextmanager
def build_server(
    state: Path, environment: dict[str, str], surrounding: Surrounding | None = None
) -> Iterator[BuildServer]:
    """Run a server for a block."""
    server = BuildServer(state, environment, surrounding)
    try:
        yield server
    finally:
        server.close()


class Workshop:
    """One test's context *directory* and its use of the server. Builds start from a layer that no other test has."""

    def __init__(self, server: BuildServer, directory: Path, name: str) -> None:
        self.server = server
        self.context = directory / "context"
        self.context.mkdir()
        self._name = hashlib.sha256(name.encode()).hexdigest()[:16]

    def write(self, files: dict[str, str | bytes]) -> None:
        """Write files; a name that ends with ``@`` becomes a link to its content, one that ends with ``/`` a directory."""
        for name, content in files.items():
            path = self.context / name.rstrip("@/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir()
            elif name.endswith("@"):
                path.unlink(missing_ok=True)
                path.symlink_to(content if isinstance(content, str) else content.decode())
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    def build(self, body: str, **request: Any) -> Built:
        """Build *body*; without FROM at its start it continues an own layer on busybox."""
        if not re.search(r"^FROM ", body, re.MULTILINE):
            body = f"FROM busybox\nRUN : {self._name}\n{body}"
        return self.server.build(self.context, body, **request)


# --- the other side


def main() -> None:
    """Be the server."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    from img_core.api.session import Session
    from img_core.config import Config

    with Session(Config.load(state=sys.argv[1]), namespace=True) as session:
        for line in sys.stdin:
            answers.write(json.dumps(_run(session, json.loads(line))) + "\n")


def _run(session: Any, document: dict[str, Any]) -> dict[str, Any]:
    from img_core.api._build import Build
    from img_core.linux.cancellation import Cancellation
    from img_core.spec.errors import ImgError

    events: list[Any] = []
    answer: dict[str, Any] = {"error": "", "code": 0, "hint": "", "excerpt": "", "digest": ""}
    cancellation = Cancellation()
    try:
        answer["digest"] = Build(session, [_request(document)], cancellation, [events.append]).run()[0].digest
    except ImgError as err:
        answer |= {"error": err.message, "code": err.exit_code, "hint": err.hint or "", "excerpt": err.excerpt or ""}
    finally:
        cancellation.close()
    return answer | _told(events)


def _request(document: dict[str, Any]) -> Any:
    from img_core.api import BuildRequest, CachePlace, Output, SecretSource, SshAgent

    if "definition" in document:
        document["definition"] = document["definition"].encode("utf-8", "surrogateescape")
    document["outputs"] = tuple(Output(kind, options) for kind, options in document.get("outputs", ()))
    for name in ("cache_from", "cache_to"):
        document[name] = tuple(CachePlace(kind, options) for kind, options in document.get(name, ()))
    document["secrets"] = {
        name: SecretSource(value=text.encode()) for name, text in document.get("secrets", {}).items()
    }
    document["ssh"] = {name: SshAgent(path) for name, path in document.get("ssh", {}).items()}
    document["add_hosts"] = tuple(tuple(pair) for pair in document.get("add_hosts", ()))
    document["ulimits"] = tuple(tuple(limit) for limit in document.get("ulimits", ()))
    for name in ("tags", "platforms", "no_cache_filter", "allow", "insecure_registries"):
        document[name] = tuple(document.get(name, ()))
    return BuildRequest(**document)


def _told(events: list[Any]) -> dict[str, Any]:
    from img_core.spec.progress import StepFinished, StepLog, StepStarted, StepStatus, WarningRaised

    names: dict[str, str] = {}
    steps: list[tuple[str, str]] = []
    reasons: list[tuple[str, str]] = []
    log = b""
    warnings: list[str] = []
    notes: list[str] = []
    for event in events:
        if isinstance(event, StepStarted):
            names[event.step] = event.name
        elif isinstance(event, StepFinished):
            end = "failed" if event.error else "canceled" if event.canceled else "cached" if event.cached else "done"
            steps.append((names.get(event.step, event.step), end))
            if event.reason:
                reasons.append((names.get(event.step, event.step), event.reason))
        elif isinstance(event, StepLog):
            log += event.data
        elif isinstance(event, WarningRaised):
            warnings.append(event.text)
        elif isinstance(event, StepStatus):
            notes.append(event.text)
    return {
        "reasons": reasons,
        "steps": steps,
        "log": log.decode("utf-8", "replace"),
        "warnings": warnings,
        "notes": notes,
    }


if __name__ == "__main__":
    main()
