"""Instructions that only change the config: each function applies one and writes its history entry."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from img_core.spec.graph import FileOp, MakeDirectory
from img_frontend_dockerfile.planning.config import DEFAULT_SHELL
from img_frontend_dockerfile.planning.stage import clean_path
from img_frontend_dockerfile.planning.values import check_signal, parse_port
from img_frontend_dockerfile.syntax.budget import MOST_TRIGGERS, check_number
from img_frontend_dockerfile.syntax.scope import HIDDEN_ARGUMENTS
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import format_duration, quote

if TYPE_CHECKING:
    from img_frontend_dockerfile.planning.stage import StageBuilder
    from img_frontend_dockerfile.syntax import instructions as ins

__all__ = [
    "apply_arg",
    "apply_cmd",
    "apply_entrypoint",
    "apply_env",
    "apply_expose",
    "apply_healthcheck",
    "apply_label",
    "apply_maintainer",
    "apply_onbuild",
    "apply_shell",
    "apply_stopsignal",
    "apply_user",
    "apply_volume",
    "apply_workdir",
    "shell_words",
]


def apply_arg(builder: StageBuilder, instruction: ins.Arg) -> None:
    """Take each name's value from the build arguments, its default, or the global scope, in this order. Names are as written."""
    state, shared = builder.state, builder.shared
    shown = []
    for name, default in instruction.pairs:
        shared.arguments.add(name)
        value = shared.request.build_args.get(name)
        if value is None:
            value = builder.expand(default) if default is not None else shared.scope.values.get(name)
        if value is not None and name not in HIDDEN_ARGUMENTS:
            if state.config.env.get(name, value) != value:
                builder.warn(
                    "", f"argument `{name}` hides the variable that ENV set, in this stage and not in the image"
                )
            state.env[name] = value
        state.arguments[name] = value
        shown.append(name if value is None else f"{name}={value}")
    builder.commit(f"ARG {' '.join(shown)}")


def apply_env(builder: StageBuilder, instruction: ins.Env) -> None:
    """Set variables; all values see the environment as it was before the instruction."""
    pairs = [(builder.expand(name), builder.expand(value)) for name, value in instruction.pairs]
    builder.state.env.update(pairs)
    builder.state.config.env.update(pairs)
    builder.commit("ENV " + " ".join(f"{name}={value}" for name, value in pairs))


def apply_label(builder: StageBuilder, instruction: ins.Label) -> None:
    """Set labels."""
    pairs = [(builder.expand(name), builder.expand(value)) for name, value in instruction.pairs]
    builder.state.config.labels.update(pairs)
    builder.commit("LABEL " + " ".join(f"{name}={value}" for name, value in pairs))


def shell_words(builder: StageBuilder, words: tuple[str, ...], *, exec_form: bool) -> tuple[str, ...]:
    """Return the argument vector of a command: the shell form gets the shell in front."""
    if exec_form:
        return words
    return (*(builder.state.config.shell or DEFAULT_SHELL), *(words or ("",)))


def apply_cmd(builder: StageBuilder, instruction: ins.Cmd) -> None:
    """Set the default arguments; an empty list removes inherited ones."""
    _recommend_json(builder, instruction)
    words = shell_words(builder, instruction.words, exec_form=instruction.exec_form)
    builder.state.config.cmd = words
    builder.state.config.args_escaped = True
    builder.state.cmd_set = True
    builder.commit(f"CMD {_quoted_list(words)}")


def apply_entrypoint(builder: StageBuilder, instruction: ins.Entrypoint) -> None:
    """Set the program; a CMD that this stage did not set itself is dropped."""
    _recommend_json(builder, instruction)
    words = shell_words(builder, instruction.words, exec_form=instruction.exec_form)
    builder.state.config.entrypoint = words
    if not builder.state.cmd_set:
        builder.state.config.cmd = ()
    builder.commit(f"ENTRYPOINT {_quoted_list(words)}")


def _recommend_json(builder: StageBuilder, instruction: ins.Cmd | ins.Entrypoint) -> None:
    if not instruction.exec_form and not builder.state.config.shell:
        name = instruction.node.keyword
        text = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        builder.warn("JSONArgsRecommended", text)


def _quoted_list(words: tuple[str, ...]) -> str:
    return f"[{' '.join(map(quote, words))}]"


def apply_expose(builder: StageBuilder, instruction: ins.Expose) -> None:
    """Declare ports, ranges unrolled."""
    ports: list[str] = []
    for text in builder.expand_list(instruction.ports):
        unrolled, odd_case, mapped = parse_port(text)
        ports += unrolled
        if odd_case:
            builder.warn("ExposeProtoCasing", f"Defined protocol '{text}' in EXPOSE instruction should be lowercase")
        if mapped:
            builder.warn(
                "ExposeInvalidFormat",
                f"EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'",
            )
    builder.state.config.ports.update(ports)
    builder.commit(f"EXPOSE [{' '.join(ports)}]")


def apply_volume(builder: StageBuilder, instruction: ins.Volume) -> None:
    """Declare volumes."""
    paths = [builder.expand(path) for path in instruction.paths]
    if not all(paths):
        raise Fault("VOLUME specified can not be an empty string")
    builder.state.config.volumes.update(paths)
    builder.commit(f"VOLUME [{' '.join(paths)}]")


def apply_user(builder: StageBuilder, instruction: ins.SetUser) -> None:
    """Set the user; it is only looked up when a step needs it."""
    builder.state.config.user = builder.expand(instruction.user)
    builder.commit(f"USER {builder.state.config.user}")


def apply_workdir(builder: StageBuilder, instruction: ins.Workdir) -> None:
    """Set the working directory and make it. An absolute path is stored as written, a relative one is joined."""
    state = builder.state
    path = builder.expand(instruction.path)
    if not path.startswith("/"):
        if not state.workdir_set:
            builder.warn(
                "WorkdirRelativePath",
                f"Relative workdir {quote(path)} can have unexpected results if the base image changes",
            )
        path = clean_path(posixpath.join(state.config.working_dir, path))
    text = builder.display()
    state.config.working_dir, state.workdir_set = path, True
    vertex = None
    if path != "/":  # another name of the root makes a layer without entries, as in BuildKit
        op = FileOp((MakeDirectory(state.directory, owner=state.config.user),), has_base=state.root is not None)
        vertex = state.root = builder.vertex(op, [state.root] if state.root else [], text)
    builder.commit(f"WORKDIR {path}", vertex)


def apply_shell(builder: StageBuilder, instruction: ins.Shell) -> None:
    """Set the shell of later shell forms."""
    builder.state.config.shell = instruction.words
    builder.commit(f"SHELL [{' '.join(instruction.words)}]")


def apply_stopsignal(builder: StageBuilder, instruction: ins.StopSignal) -> None:
    """Set the stop signal as written."""
    signal = builder.expand(instruction.signal)
    check_signal(signal)
    builder.state.config.stop_signal = signal
    builder.commit(f"STOPSIGNAL {signal}")


def apply_healthcheck(builder: StageBuilder, instruction: ins.Healthcheck) -> None:
    """Set the health check."""
    values = {
        "Test": list(instruction.test),
        "Interval": instruction.interval,
        "Timeout": instruction.timeout,
        "StartPeriod": instruction.start_period,
        "StartInterval": instruction.start_interval,
        "Retries": instruction.retries,
    }
    builder.state.config.healthcheck = {key: value for key, value in values.items() if value}
    shown = (
        f"Test:[{' '.join(instruction.test)}] Interval:{format_duration(instruction.interval)}"
        f" Timeout:{format_duration(instruction.timeout)} StartPeriod:{format_duration(instruction.start_period)}"
        f" StartInterval:{format_duration(instruction.start_interval)} Retries:{instruction.retries}"
    )
    builder.commit(f"HEALTHCHECK {{{shown}}}")


def apply_onbuild(builder: StageBuilder, instruction: ins.OnBuild) -> None:
    """Store the trigger; it leaves no history."""
    check_number(len(builder.state.config.on_build) + 1, MOST_TRIGGERS, "ONBUILD triggers")
    builder.state.config.on_build = (*builder.state.config.on_build, instruction.trigger)


def apply_maintainer(builder: StageBuilder, instruction: ins.Maintainer) -> None:
    """Set the author."""
    builder.state.config.author = instruction.author
    builder.commit(f"MAINTAINER {instruction.author}")
