"""``-o`` and ``--output``: what becomes of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.api import Output
from img_core.forms.words import key_values
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["output_name", "parse_outputs"]

_NOT_FOR_LOCAL = "invalid output option: output: output directory is required for local exporter"
_IMAGES = ("image", "registry")
_WITHOUT_FILES = (*_IMAGES, "cacheonly")


def parse_outputs(
    texts: Iterable[str], *, push: bool = False, insecure: bool = False, docker: bool = False
) -> list[Output]:
    """Parse every ``-o``. Raises UsageError; whether the exporter and its options exist is seen when it is loaded.

    *push* makes the image outputs push, *docker* gives them Docker's media types; both add one if there is none.
    *insecure* lets them use plain HTTP.
    """
    outputs = [parse_output(text) for text in texts]
    if (push or docker) and not any(output.type in _IMAGES for output in outputs):
        outputs.append(Output("image"))
    wanted = (("push", "true", push), ("registry.insecure", "true", insecure), ("oci-mediatypes", "false", docker))
    added = {key: value for key, value, given in wanted if given}
    return [
        Output(output.type, {**added, **output.options}) if output.type in _IMAGES else output for output in outputs
    ]


def parse_output(text: str) -> Output:
    """Parse ``type=tar,dest=out.tar``, a bare path (a directory to export into), or ``-`` (a tar archive on stdout)."""
    if not text:
        raise UsageError("`--output` is empty", hint="e.g. `-o type=tar,dest=out.tar`")
    pairs = key_values(text)
    if len(pairs) == 1 and pairs[0][1] is None:
        path = pairs[0][0]
        return Output("tar", {"dest": "-"}) if path == "-" else Output("local", {"dest": path})
    options: dict[str, str] = {}
    for key, value in pairs:
        if value is None:
            raise UsageError(f"invalid value {key}", hint="expected `key=value`")
        if key == "output":
            raise UsageError(f"output={value} not supported for --output, you meant dest={value}?")
        options[key] = value
    kind = options.pop("type", "")
    if not kind:
        raise UsageError("--output requires type=<type>")
    return _checked(kind, options)


def _checked(kind: str, options: dict[str, str]) -> Output:
    if kind == "local" and not options.get("dest"):
        raise UsageError(_NOT_FOR_LOCAL, hint="add `dest=DIRECTORY`")
    if kind in _WITHOUT_FILES and "dest" in options:
        raise UsageError(f"invalid output option: output: output {options['dest']} is not supported by {kind} exporter")
    return Output(kind, options)


def output_name(outputs: Iterable[Output]) -> str:
    """Return the first ``name=`` of *outputs*, empty if there is none."""
    return next((str(output.options["name"]) for output in outputs if output.options.get("name")), "")
