"""RUN: argument vector, environment, mounts."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from img_core.spec.graph import FileOp, RunMount, RunOp, WriteFile
from img_frontend_dockerfile.planning.metadata import shell_words
from img_frontend_dockerfile.planning.stage import Inputs, StageBuilder, clean_path
from img_frontend_dockerfile.syntax.budget import PAIR
from img_frontend_dockerfile.syntax.mounts import MountSpec, parse_mount
from img_frontend_dockerfile.syntax.scope import proxy_environment
from img_frontend_dockerfile.syntax.source import Fault

if TYPE_CHECKING:
    from img_core.spec.graph import Vertex
    from img_frontend_dockerfile.syntax import instructions as ins
    from img_frontend_dockerfile.syntax.heredocs import Heredoc

__all__ = ["apply_run"]

_HOSTNAME = "buildkitsandbox"
_SCRIPT = "script"


def apply_run(builder: StageBuilder, instruction: ins.Run) -> None:
    """Add the layer of one command."""
    state = builder.state
    if instruction.exec_form and not instruction.words:
        raise Fault("RUN names no program", hint="`RUN []` has nothing to run")
    inputs = Inputs(state.root)
    args, script = _arguments(builder, instruction, inputs)
    specs = [parse_mount(text, builder.expand) for text in instruction.mounts]
    mounts = (*_mounts(builder, specs, inputs), *script)
    text = builder.display({spec.text("env"): "****" for spec in specs if spec.text("env")}) + _summary(instruction)
    vertex = builder.vertex(
        _operation(builder, instruction, args, mounts), inputs.vertices, text, platform=state.platform
    )
    state.root = vertex
    # A script is started by the kernel and needs no shell in the image; history shows the shell that BuildKit puts before it.
    shown = shell_words(builder, args, exec_form=False) if script else args
    builder.commit(f"RUN {_argument_prefix(builder)}{' '.join(shown)} # buildkit", vertex)


def _operation(
    builder: StageBuilder, instruction: ins.Run, args: tuple[str, ...], mounts: tuple[RunMount, ...]
) -> RunOp:
    state, request = builder.state, builder.shared.request
    builder.shared.budget.take(PAIR * len(state.env))
    env = dict(state.env)
    for mount in mounts:
        if mount.type == "ssh":
            env["SSH_AUTH_SOCK"] = mount.target
            break
    return RunOp(
        args=args,
        env=tuple(env.items()),
        cwd=state.directory,
        user=state.config.user,
        has_base=state.root is not None,
        # RUN --network=default: what the build says, as without the flag
        network=request.network if instruction.network in (None, "default") else instruction.network,
        security=instruction.security,
        hostname=request.hostname or request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") or _HOSTNAME,
        mounts=mounts,
        extra_hosts=tuple(name for name, _ in request.extra_hosts),
        extra_host_addresses=tuple(address for _, address in request.extra_hosts),
        shm_size=request.shm_size,
        ulimits=request.ulimits,
        options=instruction.options,
        proxy_env=proxy_environment(request.build_args),
    )


def _arguments(
    builder: StageBuilder, instruction: ins.Run, inputs: Inputs
) -> tuple[tuple[str, ...], tuple[RunMount, ...]]:
    """Return the argument vector, and the mount of the script if a here-document is one."""
    heredocs = instruction.node.heredocs
    if not heredocs:
        return shell_words(builder, instruction.words, exec_form=instruction.exec_form), ()
    only = _lone_heredoc(instruction)
    if only is None:
        bodies = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in heredocs)
        return shell_words(builder, (instruction.node.text + bodies,), exec_form=False), ()
    if not only.body.startswith("#!"):
        return shell_words(builder, (only.body,), exec_form=False), ()
    program = f"/dev/pipes/{posixpath.basename(only.name) or _SCRIPT}"
    return (program,), (_script_mount(builder, program, only.body, inputs),)


def _script_mount(builder: StageBuilder, program: str, content: str, inputs: Inputs) -> RunMount:
    action = WriteFile(_SCRIPT, content.encode("utf-8", "surrogateescape"), "/", mode="0755")
    file = builder.vertex(FileOp((action,), has_base=False), (), "[internal] prepare script", numbered=False)
    return RunMount("bind", program, input=inputs.add(file), source=f"/{_SCRIPT}")


def _summary(instruction: ins.Run) -> str:
    """Return the first line of a lone here-document, for the step's name."""
    only = _lone_heredoc(instruction)
    if only is None:
        return ""
    first, _, rest = only.body.strip().partition("\n")
    return f" ({first.rstrip()}{'...' if rest else ''})"


def _lone_heredoc(instruction: ins.Run) -> Heredoc | None:
    """Return the here-document that is the whole command, if there is one."""
    heredocs = instruction.node.heredocs
    if len(heredocs) == 1 and heredocs[0].end - heredocs[0].start == len(instruction.node.text):
        return heredocs[0]
    return None


def _argument_prefix(builder: StageBuilder) -> str:
    """Return ``|2 A=1 B= `` for the arguments in scope, as history shows them."""
    env, arguments = builder.state.env, builder.state.arguments
    if not arguments:
        return ""
    values = (f"{name}={env.get(name, value) or ''}" for name, value in arguments.items())
    return f"|{len(arguments)} {' '.join(values)} "


def _mounts(builder: StageBuilder, specs: list[MountSpec], inputs: Inputs) -> list[RunMount]:
    mounts = []
    sockets = 0
    for spec in specs:
        if spec.type == "ssh":
            mounts.append(_ssh(builder, spec, sockets))
            sockets += 1
        elif spec.type == "secret":
            mounts.append(_secret(builder, spec))
        else:
            mounts.append(_tree(builder, spec, inputs))
    return mounts


def _target(builder: StageBuilder, spec: MountSpec) -> str:
    target = builder.state.resolve(spec.text("target")) if spec.text("target") else "/"
    if target == "/":
        raise Fault('invalid mount target "/"', hint="give the mount a `target=` below the root")
    return target


def _tree(builder: StageBuilder, spec: MountSpec, inputs: Inputs) -> RunMount:
    target, stage = _target(builder, spec), spec.text("from")
    if spec.type == "tmpfs":
        return RunMount("tmpfs", target, **spec.fields)
    origin: Vertex | None = None
    if stage:
        origin = builder.source(stage)
    elif spec.type == "bind":
        origin = builder.context()
    source = clean_path(spec.text("source"))
    if spec.type == "bind":
        builder.context_rules().missing(origin, source)
        return RunMount("bind", target, input=inputs.add(origin), source=source, **spec.fields)
    if not stage and source != "/":
        raise Fault("source of a cache mount needs from", hint="it is where the first content comes from")
    namespace = builder.shared.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS", "")
    identity = spec.text("id") or posixpath.normpath(spec.text("target"))
    return RunMount(
        "cache",
        target,
        input=inputs.add(origin),
        source=source if stage else "",
        id=f"{namespace}/{identity}" if namespace else identity,
        **spec.fields,
    )


def _secret(builder: StageBuilder, spec: MountSpec) -> RunMount:
    target, env = spec.text("target"), spec.text("env")
    identity = spec.text("id") or spec.text("source") or posixpath.basename(target)
    if target:
        target = _target(builder, spec)
    elif not env:
        target = clean_path(f"/run/secrets/{posixpath.basename(identity)}")
    return RunMount("secret", target, id=identity, env=env, **spec.fields)


def _ssh(builder: StageBuilder, spec: MountSpec, number: int) -> RunMount:
    target = _target(builder, spec) if spec.text("target") else f"/run/buildkit/ssh_agent.{number}"
    return RunMount("ssh", target, id=spec.text("id") or "default", readonly=False, **spec.fields)
