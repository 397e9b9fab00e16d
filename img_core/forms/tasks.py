"""What is sent to a worker: JSON, of a version that both have to speak. What it answers is in `img_core.forms.event_lines`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Any

from img_core.forms.plan_json import plan_digest, plan_from_json, plan_to_json, value_from_json, value_to_json
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError
from img_core.spec.frontend import Plan
from img_core.spec.text import show
from img_core.spec.values import Descriptor, DiffId

__all__ = ["TASK_VERSION", "PackedContext", "SentTask"]

TASK_VERSION = 2
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
    plan. *secrets* are all that the steps may see; they are nowhere but in here. At most *parallelism* steps run at the same time
    (0: as many as there are processors for one of the tasks that are *sharing* the machine).
    """

    plan: Plan
    source: tuple[str, Mapping[str, Any]]
    target: tuple[str, Mapping[str, Any]] | None = None
    contexts: Mapping[str, PackedContext] = field(default_factory=dict)
    network: str = "default"
    insecure: tuple[str, ...] = ()
    offline: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    parallelism: int = 0
    sharing: int = 1

    def steps_at_once(self, processors: int, most: int = 0) -> int:
        """Return how many steps may run at the same time on a machine of so many *processors*, whose own limit is *most* (0: none)."""
        wanted = self.parallelism or max(1, processors // max(1, self.sharing))
        return min(wanted, most or wanted)

    def text(self, keys: int) -> str:
        """Return the document; *keys* is the version of the keys of the cache."""
        plan = plan_to_json(self.plan)
        document = {
            **value_to_json(replace(self, plan=Plan(()))),
            "schema": _SCHEMA,
            "version": TASK_VERSION,
            "keys": keys,
            "plan": plan,
            "digest": plan_digest(plan),
            "roots": _roots(self.plan),
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
        if _roots(plan) != document.get("roots"):
            raise UsageError("the steps of a task are not those that were meant", hint=_OTHER)
        own = {item.name: document[item.name] for item in fields(cls) if item.name in document}
        nothing = value_to_json(Plan(()))
        task: SentTask = value_from_json(cls, {**own, "$": cls.__name__, "plan": nothing}, "task")
        return replace(task, plan=plan)


def _roots(plan: Plan) -> list[str]:
    return [root.digest for root in plan.roots()]
