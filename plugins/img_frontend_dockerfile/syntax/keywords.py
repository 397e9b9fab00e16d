"""From nodes to instructions: what each keyword demands of its flags and arguments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from img_core.spec.text import redacted
from img_frontend_dockerfile.syntax import instructions as ins
from img_frontend_dockerfile.syntax.flags import Flags, parse_flags
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import did_you_mean, format_duration, parse_duration, quote
from img_frontend_dockerfile.syntax.words import (
    json_words,
    name_value_pairs,
    plain_words,
    quoted_words,
    split_flags,
    split_keyword,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_frontend_dockerfile.syntax.heredocs import Heredoc
    from img_frontend_dockerfile.syntax.parser import Node

__all__ = ["KEYWORDS", "build_instruction"]

_VARIABLE = re.compile(r"\$(?:\w+|\{[^}]*\})")  # all of its forms that have no braces inside
_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_MINIMUM_DURATION = 10**6
#: Instructions whose text may be a JSON array, and those that consist of names and values.
_JSON_FORMS = frozenset({"ADD", "CMD", "COPY", "ENTRYPOINT", "HEALTHCHECK", "RUN", "SHELL", "VOLUME"})
_PAIR_FORMS = frozenset({"ENV", "LABEL"})


def build_instruction(node: Node, escape: str) -> ins.Instruction:
    """Turn *node* into its instruction. Raises `Fault` when its form is wrong."""
    builder = _BUILDERS.get(node.name)
    if builder is None:
        known = KEYWORDS if node.keyword.isupper() else map(str.lower, KEYWORDS)
        raise Fault(f"unknown instruction: {node.keyword}{did_you_mean(node.keyword, known)}", at_parse=True)
    return builder(node, escape)


def _no_flags(node: Node) -> None:
    parse_flags(node.name, node.flags)


def _at_least_one(node: Node, *values: object) -> None:
    if not any(values):
        raise Fault(f"{node.name} requires at least one argument", at_parse=True)


def _exactly_one(node: Node) -> str:
    _no_flags(node)
    if not node.text:
        raise Fault(f"{node.name} requires exactly one argument", at_parse=True)
    return node.text


def _named(node: Node, names: list[str]) -> None:
    if not all(names):
        raise Fault(f"{node.name} names can not be blank", at_parse=True)


def _from(node: Node, _escape: str) -> ins.From:
    platform = parse_flags(node.name, node.flags).text("platform")
    words = plain_words(node.text)
    if len(words) == 1:
        return ins.From(node, words[0], "", "", "", platform)
    if len(words) != 3 or words[1].lower() != "as":
        raise Fault("FROM requires either one or three arguments", at_parse=True)
    base, keyword, name = words
    if not _STAGE_NAME.fullmatch(name.lower()):
        text = f"invalid name for build stage: {quote(name)}, name can't start with a number or contain symbols"
        raise Fault(text, at_parse=True)
    return ins.From(node, base, name.lower(), name, keyword, platform)


def _arg(node: Node, escape: str) -> ins.Arg:
    _no_flags(node)
    words = quoted_words(node.text, escape)
    _at_least_one(node, words)
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        pairs.append((name, value if equals else None))
    _named(node, [name for name, _ in pairs])
    return ins.Arg(node, tuple(pairs))


def _env(node: Node, escape: str) -> ins.Env:
    pairs, legacy = _pairs(node, escape)
    return ins.Env(node, pairs, legacy)


def _label(node: Node, escape: str) -> ins.Label:
    pairs, legacy = _pairs(node, escape)
    return ins.Label(node, pairs, legacy)


def _pairs(node: Node, escape: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    _no_flags(node)
    pairs, legacy = name_value_pairs(node.name, node.text, escape)
    _at_least_one(node, pairs)
    _named(node, [name for name, _ in pairs])
    return tuple(pairs), legacy


def _command(text: str) -> tuple[tuple[str, ...], bool]:
    """Return the argument vector and True, or the one text for the shell (none if empty) and False."""
    words = json_words(text)
    if words is not None:
        return tuple(words), True
    return ((text,) if text else ()), False


def _run(node: Node, _escape: str) -> ins.Run:
    flags = parse_flags(node.name, node.flags)
    words, exec_form = _command(node.text)
    security = flags.text("security") or "sandbox"
    return ins.Run(node, words, exec_form, flags.list("mount"), flags.text("network"), security, flags.carried())


def _cmd(node: Node, _escape: str) -> ins.Cmd:
    _no_flags(node)
    return ins.Cmd(node, *_command(node.text))


def _entrypoint(node: Node, _escape: str) -> ins.Entrypoint:
    _no_flags(node)
    return ins.Entrypoint(node, *_command(node.text))


def _copy_or_add(node: Node, _escape: str) -> ins.CopyOrAdd:
    flags = parse_flags(node.name, node.flags)
    *sources, destination = _copy_arguments(node)
    if not isinstance(destination, str):
        raise Fault(f"{node.name} cannot accept a heredoc as a destination", at_parse=True)
    return ins.CopyOrAdd(
        node,
        sources=tuple(sources),
        destination=destination,
        add=node.name == "ADD",
        source_stage=flags.text("from") or None,  # an empty one is none, as of a mount
        owner=flags.text("chown") or "",
        mode=flags.text("chmod") or "",
        link=bool(flags.boolean("link")),
        parents=bool(flags.boolean("parents")),
        exclude=flags.list("exclude"),
        checksum=flags.text("checksum") or "",
        keep_git_directory=bool(flags.boolean("keep-git-dir")),
        unpack=flags.boolean("unpack"),
    )


def _copy_arguments(node: Node) -> list[str | Heredoc]:
    arguments: list[str | Heredoc] = []
    done = 0
    for heredoc in node.heredocs:
        arguments += plain_words(node.text[done : heredoc.start])
        arguments.append(heredoc)
        done = heredoc.end
    words = None if node.heredocs else json_words(node.text)
    arguments += plain_words(node.text[done:]) if words is None else words
    if len(arguments) < 2:
        text = f"{node.name} requires at least two arguments, but only one was provided."
        raise Fault(f"{text} Destination could not be determined", at_parse=True)
    return arguments


def _expose(node: Node, _escape: str) -> ins.Expose:
    _no_flags(node)
    ports = sorted(plain_words(node.text))
    _at_least_one(node, ports)
    return ins.Expose(node, tuple(ports))


def _volume(node: Node, _escape: str) -> ins.Volume:
    _no_flags(node)
    words = json_words(node.text)
    paths = plain_words(node.text) if words is None else words
    _at_least_one(node, bool(paths))
    if not all(path.strip() for path in paths):
        raise Fault("VOLUME specified can not be an empty string", at_parse=True)
    return ins.Volume(node, tuple(paths))


def _shell(node: Node, _escape: str) -> ins.Shell:
    _no_flags(node)
    words = json_words(node.text)
    _at_least_one(node, words if words is not None else node.text)
    if words is None:
        raise Fault("SHELL requires the arguments to be in JSON form", at_parse=True)
    return ins.Shell(node, tuple(words))


def _onbuild(node: Node, escape: str) -> ins.OnBuild:
    _no_flags(node)
    keyword, rest = split_keyword(node.text)
    word = keyword.upper()
    _at_least_one(node, word)
    if word == "ONBUILD":
        raise Fault("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", at_parse=True)
    if word in ("FROM", "MAINTAINER"):
        raise Fault(f"{word} isn't allowed as an ONBUILD trigger", at_parse=True)
    _check_trigger_form(word, split_flags(rest, escape)[1], escape)
    if word == "ADD":
        _check_trigger_passwords(rest)
    bodies = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in node.heredocs)
    return ins.OnBuild(node, node.original[len(node.keyword) :].lstrip() + bodies)


def _check_trigger_passwords(text: str) -> None:
    """Refuse an ADD that keeps a password in the config of the image: a trigger stands there as it was written."""
    literal = _VARIABLE.sub("", text).replace("://:@", "://").replace("://@", "://")
    if redacted(literal) != literal:
        raise Fault(
            f"this trigger would keep the password of an address in the image: ADD {redacted(text)}",
            hint="leave it out; who builds on the image gives it as a secret, e.g. `HTTP_AUTH_TOKEN_<host>`",
        )


def _check_trigger_form(name: str, text: str, escape: str) -> None:
    """Raise what cutting a trigger into words finds, as BuildKit does; what the words mean is seen when it fires."""
    if name in _PAIR_FORMS:
        name_value_pairs(name, text, escape)
    elif name in _JSON_FORMS:
        json_words(split_keyword(text)[1] if name == "HEALTHCHECK" else text)


def _healthcheck(node: Node, _escape: str) -> ins.Healthcheck:
    flags = parse_flags(node.name, node.flags)
    kind, rest = split_keyword(node.text)
    _at_least_one(node, kind)
    words, exec_form = _command(rest)
    if kind.upper() == "NONE":
        if words:
            raise Fault("HEALTHCHECK NONE takes no arguments", at_parse=True)
        return ins.Healthcheck(node, ("NONE",))
    if kind.upper() != "CMD":
        raise Fault(f"Unknown type {quote(kind.upper())} in HEALTHCHECK (try CMD)", at_parse=True)
    if not words:
        raise Fault("Missing command after HEALTHCHECK CMD", at_parse=True)
    return ins.Healthcheck(
        node,
        ("CMD" if exec_form else "CMD-SHELL", *words),
        interval=_duration(flags, "interval"),
        timeout=_duration(flags, "timeout"),
        start_period=_duration(flags, "start-period"),
        start_interval=_duration(flags, "start-interval"),
        retries=_retries(flags),
    )


def _duration(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    try:
        duration = parse_duration(text)
    except ValueError as err:
        raise Fault(str(err), at_parse=True) from None
    if duration and duration < _MINIMUM_DURATION:
        shortest = format_duration(_MINIMUM_DURATION)
        raise Fault(f"Interval {quote(name)} cannot be less than {shortest}", at_parse=True)
    return duration


def _retries(flags: Flags) -> int:
    text = flags.text("retries")
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise Fault(f"--retries must be a whole number, not {quote(text)}", at_parse=True)
    if int(text) < 0:
        raise Fault(f"--retries cannot be negative ({int(text)})", at_parse=True)
    return int(text)


_BUILDERS: dict[str, Callable[[Node, str], ins.Instruction]] = {
    "ADD": _copy_or_add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy_or_add,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": lambda node, _escape: ins.Maintainer(node, _exactly_one(node)),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda node, _escape: ins.StopSignal(node, _exactly_one(node)),
    "USER": lambda node, _escape: ins.SetUser(node, _exactly_one(node)),
    "VOLUME": _volume,
    "WORKDIR": lambda node, _escape: ins.Workdir(node, _exactly_one(node)),
}

KEYWORDS = tuple(_BUILDERS)
