"""Lint rules that need nothing but the parsed file. Rules about values are raised while instructions are applied."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from img_core.images import platforms
from img_core.images.reference import InvalidReference, Reference
from img_frontend_dockerfile.syntax import instructions as ins
from img_frontend_dockerfile.syntax.expansion import expand_word
from img_frontend_dockerfile.syntax.source import Fault, Span
from img_frontend_dockerfile.syntax.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_frontend_dockerfile.lint.findings import WarningList
    from img_frontend_dockerfile.syntax.program import Program, Stage
    from img_frontend_dockerfile.syntax.scope import GlobalScope

__all__ = ["lint_base_defaults", "lint_program", "lint_stage"]

_SECRET_WORDS = frozenset(
    {"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"}
)
_HARMLESS_WORDS = frozenset({"public", "file", "version"})
_RESERVED = ("scratch", "context")
_TARGET_PLATFORM = re.compile(r"\$(?:TARGETPLATFORM|\{TARGETPLATFORM\})")


def lint_program(program: Program, warnings: WarningList) -> None:
    """Check the whole file, also the stages that nothing needs."""
    for rule in _FILE_RULES:
        rule(program, warnings)
    for stage in program.stages:
        _stage_platform(stage, warnings)
        _maintainer(stage, warnings)


def lint_stage(stage: Stage, warnings: WarningList) -> None:
    """Check the instructions of a stage that the target needs."""
    _only_last_counts(stage, warnings)
    _legacy_pairs(stage, warnings)
    _secrets(stage, warnings)


def _empty_continuation(program: Program, warnings: WarningList) -> None:
    for node in program.document.nodes:
        for line in node.empty_continuations:
            warnings.add("NoEmptyContinuation", "Empty continuation line", node, Span(line, line))


def _instruction_casing(program: Program, warnings: WarningList) -> None:
    nodes = [item.node for stage in program.stages for item in (stage.start, *stage.instructions)]
    counted = Counter("upper" if node.keyword.isupper() else "lower" for node in nodes if _one_case(node.keyword))
    majority = "lower" if counted["lower"] > counted["upper"] else "upper"
    for node in nodes:
        wanted = node.keyword.lower() if majority == "lower" else node.keyword.upper()
        if node.keyword != wanted:
            text = f"Command '{node.keyword}' should match the case of the command majority ({majority}case)"
            warnings.add("ConsistentInstructionCasing", text, node)


def _like(word: str, model: str) -> str:
    return word.upper() if model.isupper() else word


def _one_case(word: str) -> bool:
    return word.isupper() or word.islower()


def _stage_names(program: Program, warnings: WarningList) -> None:
    seen: set[str] = set()
    for stage in program.stages:
        start = stage.start
        if not start.name:
            continue
        if start.written_name != start.name:
            warnings.add("StageNameCasing", f"Stage name '{start.written_name}' should be lowercase", start.node)
        if start.name in seen:
            text = f"Duplicate stage name {quote(start.name)}, stage names should be unique"
            warnings.add("DuplicateStageName", text, start.node)
        if start.name in _RESERVED:
            text = f"Stage name should not use the same name as reserved stage {quote(start.name)}"
            warnings.add("ReservedStageName", text, start.node)
        if _one_case(start.node.keyword) and start.as_keyword != _like("as", start.node.keyword):
            text = f"'{start.as_keyword}' and '{start.node.keyword}' keywords' casing do not match"
            warnings.add("FromAsCasing", text, start.node)
        seen.add(start.name)


def _stage_platform(stage: Stage, warnings: WarningList) -> None:
    text, name = stage.start.platform, stage.start.name
    if not text:
        return
    if _TARGET_PLATFORM.fullmatch(text):
        message = f"Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
        warnings.add("RedundantTargetPlatform", message, stage.start.node)
    if "$" not in text and not _names_platform(name, text):
        message = f"FROM --platform flag should not use constant value {quote(text)}"
        warnings.add("FromPlatformFlagConstDisallowed", message, stage.start.node)


def _names_platform(name: str, text: str) -> bool:
    """Tell whether the *name* of a stage has system or processor of the platform *text* in it; nothing is said of what is no platform."""
    try:
        platform = platforms.parse(text)
    except platforms.InvalidPlatform:
        return True
    return platform.os in name or platform.architecture in name


def _maintainer(stage: Stage, warnings: WarningList) -> None:
    for item in stage.instructions:
        if isinstance(item, ins.Maintainer):
            text = "Maintainer instruction is deprecated in favor of using label"
            warnings.add("MaintainerDeprecated", text, item.node)


def _only_last_counts(stage: Stage, warnings: WarningList) -> None:
    former: dict[type[ins.Instruction], ins.Instruction] = {}
    for item in stage.instructions:
        if isinstance(item, ins.Cmd | ins.Entrypoint | ins.Healthcheck):
            text = f"Multiple {item.node.keyword} instructions should not be used in the same stage because only the"
            if type(item) in former:
                warnings.add("MultipleInstructionsDisallowed", f"{text} last one will be used", former[type(item)].node)
            former[type(item)] = item


def _legacy_pairs(stage: Stage, warnings: WarningList) -> None:
    for item in stage.instructions:
        if isinstance(item, ins.Env | ins.Label) and item.legacy:
            name = item.node.keyword
            text = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
            warnings.add("LegacyKeyValueFormat", text, item.node)


def _secrets(stage: Stage, warnings: WarningList) -> None:
    for item in stage.instructions:
        if not isinstance(item, ins.Arg | ins.Env):
            continue
        for name, _ in item.pairs:
            words = set(name.lower().split("_"))
            if words & _SECRET_WORDS and not words & _HARMLESS_WORDS:
                text = f"Do not use ARG or ENV instructions for sensitive data ({item.node.name} {quote(name)})"
                warnings.add("SecretsUsedInArgOrEnv", text, item.node)


def _descriptions(program: Program, warnings: WarningList) -> None:
    for item in program.instructions():
        names = _described_names(item)
        comment = item.node.comments[-1] if item.node.comments else ""
        if names and comment and comment.split(" ", 1)[0] not in names and not comment.startswith("check="):
            name = names[0] if len(names) == 1 else "<arg_key>"
            text = f"Comment for {item.node.name} should follow the format: `# {name} <description>`"
            warnings.add("InvalidDefinitionDescription", text, item.node)


def _described_names(item: ins.Instruction) -> list[str]:
    if isinstance(item, ins.From):
        return [item.written_name] if item.name else []
    return [name for name, _ in item.pairs] if isinstance(item, ins.Arg) else []


def lint_base_defaults(program: Program, defaults: GlobalScope, warnings: WarningList) -> None:
    """Check what FROM lines mean when no build argument is given; *defaults* is the global scope without any."""
    for stage in program.stages:
        base = stage.start.base
        if "$" not in base:
            continue
        try:
            Reference.parse(expand_word(base, defaults.values, escape=program.escape, budget=defaults.budget))
        except (Fault, InvalidReference):
            text = f"Default value for ARG {base} results in empty or invalid base image name"
            warnings.add("InvalidDefaultArgInFrom", text, stage.start.node)


_FILE_RULES: tuple[Callable[[Program, WarningList], None], ...] = (
    _empty_continuation,
    _instruction_casing,
    _stage_names,
    _descriptions,
)
