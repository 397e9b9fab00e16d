"""What is sent to a worker, and what it answers: JSON, of a version that both have to speak."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from img_core.machines.plan_json import plan_digest, plan_from_json, plan_to_json
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, UsageError
from img_core.spec.frontend import Plan
from img_core.spec.text import show
from img_core.spec.values import Descriptor, DiffId, Digest

__all__ = ["TASK_VERSION", "PackedContext", "SentTask", "TaskFailure", "failure_of", "failure_text", "result_text"]

TASK_VERSION = 1
_SCHEMA = "img-task"
_OTHER = "run the same version of img on all machines"

# Any, below: JSON.


@dataclass(frozen=True, slots=True)
class PackedContext:
    """A build context as a layer in the cache: its files are below ``/context``."""

    descriptor: Descriptor
    diff_id: DiffId


@dataclass(frozen=True, slots=True)
class SentTask:
    """Steps for a worker: the images of *plan* have no config, only the results of steps that are wanted.

    They are looked up in the cache *source* and saved to *target* (a driver's type and options each; None: nobody else needs them).
    *contexts* are by their names in the
    plan. *secrets* are all that the steps may see; they are nowhere but in here.
    """

    plan: Plan
    source: tuple[str, Mapping[str, Any]]
    target: tuple[str, Mapping[str, Any]] | None = None
    contexts: Mapping[str, PackedContext] = field(default_factory=dict)
    network: str = "default"
    insecure: tuple[str, ...] = ()
    offline: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def text(self, keys: int) -> str:
        """Return the document; *keys* is the version of the keys of the cache."""
        plan = plan_to_json(self.plan)
        contexts = {
            name: {"media_type": item.descriptor.media_type, "digest": item.descriptor.digest,
                   "size": item.descriptor.size, "diff_id": item.diff_id}
            for name, item in self.contexts.items()
        }  # fmt: skip
        document = {
            "schema": _SCHEMA,
            "version": TASK_VERSION,
            "keys": keys,
            "plan": plan,
            "digest": plan_digest(plan),
            "roots": [image.root.digest for image in self.plan.images if image.root is not None],
            "source": list(self.source),
            "target": list(self.target) if self.target else None,
            "contexts": contexts,
            "network": self.network,
            "insecure": list(self.insecure),
            "offline": self.offline,
            "secrets": {name: base64.b64encode(value).decode() for name, value in self.secrets.items()},
        }
        return json.dumps(document, ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def read(cls, text: str, keys: int) -> SentTask:
        """Return the task of a document, whose keys must be of the version *keys*.

        Raises UsageError for what is none, or is of another version of img.
        """
        try:
            document = json.loads(text)
        except ValueError:
            raise UsageError("a task must be JSON") from None
        if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
            raise UsageError("this is no task of img")
        spoken = document.get("version"), document.get("keys")
        if spoken != (TASK_VERSION, keys):
            raise UsageError(
                f"a task of version {show(repr(spoken))} cannot be done here, only of {(TASK_VERSION, keys)}",
                hint=_OTHER,
            )
        plan = plan_from_json(document.get("plan"))
        if [image.root.digest for image in plan.images if image.root is not None] != document.get("roots"):
            raise UsageError("the steps of a task are not those that were meant", hint=_OTHER)
        try:
            return cls(
                plan,
                _place(document["source"]),
                _place(document["target"]) if document["target"] is not None else None,
                {str(name): _context(item) for name, item in document["contexts"].items()},
                str(document["network"]),
                tuple(map(str, document["insecure"])),
                bool(document["offline"]),
                {str(name): base64.b64decode(value, validate=True) for name, value in document["secrets"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UsageError("a part of a task is missing or is not what it must be") from None


def _place(item: Any) -> tuple[str, Mapping[str, Any]]:
    name, options = item
    return str(name), dict(options)


def _context(item: Any) -> PackedContext:
    size = item["size"]
    if type(size) is not int:
        raise TypeError
    return PackedContext(
        Descriptor(str(item["media_type"]), Digest(str(item["digest"])), size), DiffId(str(item["diff_id"]))
    )


# --------------------------------------------------------------------------------------------------------------- answers


def result_text(made: int, found: int) -> str:
    """Return the last line of a worker whose task went well: how many steps it *made* and *found*."""
    return json.dumps({"result": {"made": made, "found": found}})


def failure_text(error: ImgError, *, step: str = "") -> str:
    """Return the last line of a worker that failed; *step* is the digest of the vertex that did, if it was one."""
    told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint or "", "step": step}
    return json.dumps({"error": {**told, "status": getattr(error, "status", None)}})


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """What a worker said of its failure: the *kind* of error, and the *step* if one failed, which ended with *status*."""

    kind: str = ""
    message: str = ""
    hint: str = ""
    step: str = ""
    status: int | None = None


def failure_of(told: Mapping[str, Any]) -> TaskFailure:
    """Return the failure in a worker's last line; what is not in there is empty."""
    return TaskFailure(**{item.name: told[item.name] for item in fields(TaskFailure) if item.name in told})
