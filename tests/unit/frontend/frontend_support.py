"""Planning Dockerfiles in tests: a resolver that knows its images and contexts from dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from img_core.solver.keys import step_key
from img_core.spec.errors import DockerfileError, NotFoundError
from img_core.spec.frontend import BaseImage, Plan, PlannedImage, PlanRequest
from img_core.spec.graph import RunOp, SourceOp, Vertex
from img_core.spec.values import Digest, Platform
from img_frontend_dockerfile._frontend import DockerfileFrontend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
DIGEST = Digest("sha256:" + "1" * 64)
BUSYBOX: dict[str, Any] = {"config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "history": [{"created_by": "busybox"}]}


@dataclass
class DictResolver:
    """Answers from *images* (normalised name -> config document) and *contexts* (name -> kind, value)."""

    images: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    contexts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    platform: Platform | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    expected: list[tuple[str, str]] = field(default_factory=list)
    ignore: str | None = None
    missing: frozenset[str] = frozenset()
    times: Mapping[str, int] = field(default_factory=dict)  #: by reference of the source

    def expect(self, images: Sequence[tuple[str, Platform]]) -> None:
        self.expected += [(reference, str(platform)) for reference, platform in images]

    def base_image(self, reference: str, platform: Platform) -> BaseImage:
        self.asked.append((reference, str(platform)))
        document = {"docker.io/library/b:latest": BUSYBOX, **self.images}.get(reference)
        if document is None:
            raise NotFoundError(f"image `{reference}`: not found")
        return BaseImage(reference, DIGEST, self.platform or platform, document)

    def context_kind(self, name: str) -> str | None:
        return self.contexts[name][0] if name in self.contexts else None

    def context_reference(self, name: str) -> str:
        return self.contexts[name][1] if name in self.contexts else name

    def context_is_image(self, name: str) -> bool:
        return self.contexts[name][0] in ("docker-image", "oci-layout")

    def source_time(self, op: SourceOp) -> int | None:
        return self.times.get(op.reference)

    def why_missing(self, op: SourceOp, path: str, *, parents: bool) -> str | None:
        return f"{path} is not in {op.reference}" if path in self.missing else None

    def ignore_file(self) -> str | None:
        return self.ignore


def plan(
    text: str | bytes,
    *,
    args: Mapping[str, str] | None = None,
    resolver: DictResolver | None = None,
    platforms: tuple[Platform, ...] = (AMD64,),
    **options: Any,
) -> Plan:
    definition = text.encode() if isinstance(text, str) else text
    request = PlanRequest(definition, "Dockerfile", platforms, AMD64, dict(args or {}), **options)
    return DockerfileFrontend().plan(request, resolver or DictResolver())


def image(text: str | bytes, **options: Any) -> PlannedImage:
    return plan(text, **options).images[0]


def config(text: str, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = image(text, **options).config["config"]
    return result


def env(text: str, **options: Any) -> dict[str, str]:
    return dict(item.split("=", 1) for item in config(text, **options).get("Env", []))


def vertices(root: Vertex | None) -> Iterator[Vertex]:
    """Yield everything below *root*, inputs first, each once."""
    seen: set[str] = set()

    def walk(vertex: Vertex) -> Iterator[Vertex]:
        if vertex.digest not in seen:
            seen.add(vertex.digest)
            for item in vertex.inputs:
                yield from walk(item)
            yield vertex

    if root is not None:
        yield from walk(root)


def key(vertex: Vertex) -> str:
    """Return the cache key of *vertex* as far as a plan tells: without the content of files."""
    return step_key(vertex, "", [key(item) for item in vertex.inputs])


def actions(text: str, **options: Any) -> tuple[Any, ...]:
    """Return the file actions of the last layer."""
    root = image(text, **options).root
    assert root is not None
    result: tuple[Any, ...] = root.op.actions  # type: ignore[union-attr]  # tests look at what they wrote
    return result


def run(text: str, **options: Any) -> RunOp:
    """Return the last RUN."""
    found = [vertex.op for vertex in vertices(image(text, **options).root) if isinstance(vertex.op, RunOp)]
    return found[-1]


def history(text: str, **options: Any) -> list[str]:
    return [entry.created_by for entry in image(text, **options).history if entry.document is None]


def failure(text: str | bytes, **options: Any) -> DockerfileError:
    try:
        plan(text, **options)
    except DockerfileError as error:
        return error
    raise AssertionError("the Dockerfile was accepted")


def rules(text: str, **options: Any) -> list[str]:
    return [warning.rule for warning in plan(text, **options).warnings]
