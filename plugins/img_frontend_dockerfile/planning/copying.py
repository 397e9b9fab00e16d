"""COPY and ADD: from sources and a destination to file actions."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from img_core.files.ignore import IgnoreMatcher
from img_core.net.git_urls import is_git, is_web
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import DockerfileError
from img_core.spec.graph import Copy, FileAction, FileOp, MergeOp, WriteFile
from img_core.spec.text import redacted
from img_frontend_dockerfile.planning.remote import check_checksum, git_source, http_source
from img_frontend_dockerfile.planning.stage import Inputs, StageBuilder, clean_path
from img_frontend_dockerfile.planning.values import check_mode, is_numeric_owner
from img_frontend_dockerfile.syntax.heredocs import Heredoc
from img_frontend_dockerfile.syntax.source import Fault

if TYPE_CHECKING:
    from img_core.spec.graph import Vertex
    from img_frontend_dockerfile.syntax import instructions as ins

__all__ = ["apply_copy"]

_FROM_HINT = "define a new stage with FROM using ARG from global scope as a workaround"


@dataclass(frozen=True, slots=True, eq=False)
class _Expanded:
    """An instruction after expansion. *paths* are sources as written, *destination* is absolute."""

    instruction: ins.CopyOrAdd
    paths: list[str]
    heredocs: list[WriteFile]
    destination: str
    written_destination: str
    owner: str
    mode: str
    exclude: tuple[str, ...]
    checksum: str


def apply_copy(builder: StageBuilder, instruction: ins.CopyOrAdd) -> None:
    """Add the layer of one COPY or ADD."""
    expanded = _expand(builder, instruction)
    _check(builder, expanded)
    root = builder.state.root
    apart = instruction.link and root is not None
    inputs = Inputs(None if apart else root)
    actions = tuple(_actions(builder, expanded, inputs))
    text = builder.display()
    op = FileOp(actions, has_base=root is not None and not apart)
    layer = builder.vertex(op, inputs.vertices, text)
    builder.state.root = layer
    if apart and root is not None:
        name = layer.name.replace("] ", "] LINK ", 1)
        builder.state.root = builder.vertex(MergeOp(), (root, layer), name, numbered=False)
    builder.commit(_created_by(expanded), layer)


def _expand(builder: StageBuilder, instruction: ins.CopyOrAdd) -> _Expanded:
    destination = builder.expand(instruction.destination)
    absolute = _destination(builder, destination)
    owner, mode = builder.expand(instruction.owner), builder.expand(instruction.mode)
    paths, heredocs = [], []
    for source in instruction.sources:
        if isinstance(source, Heredoc):
            content = builder.expand_body(source.body) if source.expand else source.body
            data = content.encode("utf-8", "surrogateescape")
            heredocs.append(WriteFile(_file_of(source), data, absolute, owner=owner, mode=mode))
        else:
            paths.append(builder.expand(source))
    return _Expanded(
        instruction,
        paths,
        heredocs,
        absolute,
        destination,
        owner,
        mode,
        tuple(builder.expand(pattern) for pattern in instruction.exclude),
        builder.expand(instruction.checksum),
    )


def _destination(builder: StageBuilder, text: str) -> str:
    """Return the absolute destination; a trailing slash is kept, or added to what can only be a directory."""
    path = builder.state.resolve(text)
    directory = posixpath.basename(text) in ("", ".", "..")
    return path + "/" if directory and path != "/" else path


def _check(builder: StageBuilder, expanded: _Expanded) -> None:
    instruction = expanded.instruction
    for written, path in zip(_written_paths(instruction), expanded.paths, strict=True):
        if not path:
            raise Fault(
                f"{instruction.node.name} source {written} is empty",
                hint="an empty source would copy everything; write `.` if you want that",
            )
        if not instruction.add and is_git(path):
            raise Fault("source can't be a git ref for COPY", hint="use ADD")
        if not instruction.add and is_web(path):
            raise Fault("source can't be a URL for COPY", hint="use ADD")
    check_checksum(expanded.checksum, expanded.paths, inline=bool(expanded.heredocs))
    if expanded.mode:
        check_mode(expanded.mode)
    alone = instruction.link or builder.state.root is None
    if alone and not is_numeric_owner(expanded.owner):
        why = "with --link" if instruction.link else "on an empty root"
        raise Fault(
            f"invalid user in --chown={expanded.owner}: names cannot be looked up {why}", hint="use numeric ids"
        )
    try:
        IgnoreMatcher.from_patterns(expanded.exclude)
    except DockerfileError as err:
        raise Fault(f"--exclude: {err.message}", hint=err.hint) from None


def _written_paths(instruction: ins.CopyOrAdd) -> list[str]:
    return [source or '""' for source in instruction.sources if isinstance(source, str)]


def _actions(builder: StageBuilder, expanded: _Expanded, inputs: Inputs) -> list[FileAction]:
    """Group neighbouring local sources into one action; every remote source has its own."""
    actions: list[FileAction] = []
    local: list[str] = []
    for path in expanded.paths:
        remote = _remote_action(builder, expanded, path, inputs) if expanded.instruction.add else None
        if remote is None:
            local.append(_source_path(path, parents=expanded.instruction.parents))
            continue
        if local:
            actions.append(_local_action(builder, expanded, local, inputs))
            local = []
        actions.append(remote)
    if local:
        actions.append(_local_action(builder, expanded, local, inputs))
    return [*actions, *expanded.heredocs]


def _local_action(builder: StageBuilder, expanded: _Expanded, paths: list[str], inputs: Inputs) -> Copy:
    instruction = expanded.instruction
    origin = _origin(builder, instruction)
    builder.context_rules().sources(instruction, origin, paths)
    unpack = instruction.add and instruction.unpack is not False
    return _copy(expanded, inputs.add(origin), tuple(paths), unpack=unpack)


def _origin(builder: StageBuilder, instruction: ins.CopyOrAdd) -> Vertex | None:
    if instruction.source_stage is None:
        return builder.context()
    if "$" in instruction.source_stage:
        raise Fault(f"variable expansion is not supported for --from, {_FROM_HINT}")
    return builder.source(instruction.source_stage)


def _remote_action(builder: StageBuilder, expanded: _Expanded, path: str, inputs: Inputs) -> Copy | None:
    instruction = expanded.instruction
    if is_git(path):
        origin = git_source(path, instruction, expanded.checksum, dated=builder.shared.epoch is not None)
        source = builder.vertex(origin, (), f"[internal] load {path}", numbered=False)
        return _copy(expanded, inputs.add(source), ("/",), unpack=False)
    if not is_web(path):
        return None
    op, name = http_source(path, expanded.checksum)
    source = builder.vertex(op, (), f"[internal] load {path}", numbered=False)
    return _copy(expanded, inputs.add(source), (f"/{_literal(name)}",), unpack=instruction.unpack is True)


def _copy(expanded: _Expanded, index: int | None, sources: tuple[str, ...], *, unpack: bool) -> Copy:
    instruction = expanded.instruction
    return Copy(
        input=index,
        sources=sources,
        destination=expanded.destination,
        owner=expanded.owner,
        mode=expanded.mode,
        exclude=expanded.exclude,
        parents=instruction.parents,
        unpack=unpack,
        add=instruction.add,
        checksum=expanded.checksum,
        keep_git_directory=instruction.keep_git_directory,
    )


def _literal(name: str) -> str:
    """Quote the wildcard characters of a file name."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", name)


def _source_path(text: str, *, parents: bool) -> str:
    """Return a source as an absolute path inside its root; ``..`` cannot leave it. ``/./`` stays with ``--parents``."""
    if parents:
        relative = re.sub(r"^(?:\.?/+)+", "", text)
        head, pivot, tail = relative.partition("/./")
        if pivot:
            return f"{clean_path(head)}/./{clean_path(tail)[1:]}"
    return clean_path(text)


def _file_of(heredoc: Heredoc) -> str:
    """Return the name of the file that *heredoc* becomes in a directory: what is above the root is the root, also in a here-document."""
    return clean_path(heredoc.name)[1:] or heredoc.name


def _created_by(expanded: _Expanded) -> str:
    instruction = expanded.instruction
    words = [instruction.node.name]
    if instruction.parents:
        words.append("--parents")
    if expanded.owner:
        words.append(f"--chown={expanded.owner}")
    if expanded.mode:
        words.append(f"--chmod={expanded.mode}")
    words += map(redacted, expanded.paths) if instruction.add else expanded.paths
    words += [f"<<{source.name}" for source in instruction.sources if isinstance(source, Heredoc)]
    return f"{' '.join(words)} {expanded.written_destination} # buildkit"
