"""Projects of plugins, one of each kind, that work: ``img plugins new`` copies one and fills in its name.

The directory ``common`` holds what all kinds share, that of a kind what is special; names of files end with ``.in``. In names and texts
``PACKAGE`` and ``{{…}}`` stand for what `_words` says.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from img_core.files.refusals import why_refused
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, UsageError
from img_core.spec.kinds import GROUPS, KINDS
from img_core.spec.text import show, suggestion

__all__ = ["KINDS_WITH_TEMPLATE", "write_project"]

_HERE = Path(__file__).parent
_SUFFIX = ".in"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class _Template:
    """What differs between kinds: the class of the contract, what it is about, and a command that uses it.

    *order* is the line of ``config.toml`` without which nobody asks it.
    """

    base: str
    about: str
    use: str
    suite: str = ""
    holder: str = ""
    order: str = ""


_TEMPLATES: Mapping[str, _Template] = {
    "frontend": _Template(
        "Frontend", "Build images of img from {{class}}files: lines of what is copied where.",
        "img build --frontend {{name}} -o out .",
    ),
    "source": _Template(
        "TreeSource", "Build contexts for img from addresses {{name}}://….",
        "img build --build-context files={{name}}://one,two .",
    ),
    "registry": _Template(
        "Registry", "Registries of img in a directory.", "img push registry.example/app", order='registry = ["{{name}}"]'
    ),
    "executor": _Template(
        "Executor", "Run the steps of img's builds with an OCI runtime.", "img build --executor {{name}} ."
    ),
    "snapshotter": _Template(
        "Snapshotter", "Root file systems for img's builds.", "img build -b {{name}} .",
        "SnapshotterContract", "snapshotter",
    ),
    "exporter": _Template(
        "Exporter", "Export the list of files of an image with img.", "img build -o type={{name}},dest=files.txt .",
        "ExporterContract", "exporter",
    ),
    "importer": _Template(
        "Importer", "Load {{name}} archives into img.", "img load -i image.{{name}}",
        order='importer = ["archive", "layout", "{{name}}"]',
    ),
    "credentials": _Template(
        "CredentialStore", "Keep credentials of registries for img.", "img login registry.example",
        order='credentials = ["{{name}}"]',
    ),
    "secret": _Template(
        "SecretProvider", "Secrets for img's builds from a file with many.",
        "img build --secret id=token,type={{name}},src=secrets.json .",
    ),
    "cache": _Template(
        "CacheBackend",
        "Share results of img's builds in a directory.",
        "img build --cache-to type={{name}},directory=cache .",
    ),
    "engine": _Template(
        "Engine", "Let processes of this machine do parts of img's builds.", "img build --engine {{name}},workers=2 .",
        "EngineContract", "engine_class",
    ),
    "progress": _Template(
        "Progress", "Show how builds of img get on, a line for each step.", "img build --progress {{name}} .",
        "ProgressContract", "progress_class",
    ),
    "command": _Template("", "The command `img {{name}}`.", "img {{name}}"),
    "listener": _Template("", "Note each step of img's builds in a file.", "{{variable}}=steps.txt img build ."),
}  # fmt: skip

_ASKED = """```

It is asked once `~/.config/img/config.toml` says so:

```toml
[order]
ORDER
```

```console
"""

KINDS_WITH_TEMPLATE = tuple(_TEMPLATES)


def write_project(kind: str, name: str, parent: str) -> str:
    """Write the project of a plugin into a new directory below *parent*; return its path. Complete or not at all.

    Raises UsageError for a kind that does not exist and for a name that cannot be one.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of plugin `{show(kind)}`", hint=suggestion(kind, KINDS))
    if not _NAME.fullmatch(name) or len(name) > 40:
        raise UsageError(
            f"`{show(name)}` cannot be a name", hint="small letters and digits, with single hyphens between them"
        )
    words = _words(kind, name)
    target = os.path.join(parent, words["distribution"])
    if os.path.lexists(target):
        raise UsageError(f"`{show(target)}` is there already")
    try:
        made = tempfile.mkdtemp(dir=parent, prefix=".img-new-")
        try:
            for path, text in _files(kind, words):
                place = os.path.join(made, path)
                os.makedirs(os.path.dirname(place), exist_ok=True)
                Path(place).write_text(text, encoding="utf-8")
            os.chmod(made, 0o777 & ~_umask())
            os.rename(made, target)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as err:
        raise ImgError(f"cannot write `{show(target)}`: {why_refused(err, target)}", hint="name another place") from err
    return target


def _files(kind: str, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give path and text of each file of a project; those of the kind replace common ones."""
    found: dict[str, Path] = {}
    for room in ("common", kind):
        top = _HERE / room
        found.update({str(path.relative_to(top)): path for path in sorted(top.rglob(f"*{_SUFFIX}"))})
    for path, file in found.items():
        place = path.removesuffix(_SUFFIX).replace("PACKAGE", words["package"])
        yield ".gitignore" if place == "gitignore" else place, _filled(file.read_text(encoding="utf-8"), words)


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: words[match[1]], text)


def _words(kind: str, name: str) -> dict[str, str]:
    """Return what stands for the words of a template."""
    template, identifier = _TEMPLATES[kind], name.replace("-", "_")
    words = {
        "kind": kind,
        "name": name,
        "distribution": f"img-{kind}-{name}",
        "package": f"img_{kind}_{identifier}",
        "class": "".join(part.capitalize() for part in name.split("-"))
        + ("" if kind == "frontend" else kind.capitalize()),
        "variable": f"{identifier.upper()}_LOG",
        "group": GROUPS[kind],
        "hook": f"img_{kind}",
        "base": {"TreeSource": "Source"}.get(template.base, template.base),
        "suite": template.suite,
        "holder": template.holder,
    }
    asked = _ASKED.replace("ORDER", template.order) if template.order else ""
    texts = {"about": template.about, "use": template.use, "asked": asked}
    return {**words, **{place: _filled(text, words) for place, text in texts.items()}}


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask
