"""Compares two flattened trees, two image configs or two histories, and says where they differ in words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.oci import Entry, Tree

__all__ = ["VOLATILE", "config_differences", "document_differences", "history_differences", "tree_differences"]

#: Files that two runs of the same commands never make alike, with the reason.
VOLATILE = (
    r"var/cache/ldconfig/aux-cache",  # times and inode numbers
    r"var/log/(dpkg|alternatives|apt/.*|bootstrap)(\.log)?",  # times of day
    r"var/lib/dpkg/.*-old",  # a copy of the last state, if there was time to make one
    r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-",  # back-ups made by useradd: a day number in shadow
    r"etc/g?shadow",  # the day of the last change
    # Mount points that one tool leaves behind and the other does not; BuildKit leaves none of the content.
    r"(proc|sys|dev|run)(/.*)?",
    r"etc/(hosts|hostname|resolv\.conf|mtab)",
)


def tree_differences(
    ours: Tree, theirs: Tree, *, volatile: Iterable[str] = VOLATILE, started: float | None = None
) -> list[str]:
    """Return one line for every path that is not the same in both: type, mode, owner, content, target, attributes, hard links.

    With *started*, the time when both began to build, modification times count too: in whole seconds before that, and as "now" after.
    """
    ignored = re.compile("|".join(f"(?:{pattern})" for pattern in volatile) or "(?!)")
    paths = sorted(path for path in ours.keys() | theirs.keys() if not ignored.fullmatch(path))
    our_links, their_links = _hard_links(ours, paths), _hard_links(theirs, paths)
    differences = []
    for path in paths:
        if path not in ours or path not in theirs:
            differences.append(f"{path}: only in {'ours' if path in ours else 'theirs'}")
            continue
        ours_here, theirs_here = _described(ours[path], started), _described(theirs[path], started)
        ours_here["hard links"], theirs_here["hard links"] = our_links.get(path, ""), their_links.get(path, "")
        differences += [
            f"{path}: {key} is {value!r}, not {theirs_here[key]!r}"
            for key, value in ours_here.items()
            if value != theirs_here[key]
        ]
    return differences


def _described(entry: Entry, started: float | None) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "mode": oct(entry.mode) if entry.kind != "symlink" else "",
        "owner": f"{entry.uid}:{entry.gid}",
        "content": entry.content,
        # buildah leaves overlayfs's own attributes in its layers; they mean nothing in an image.
        "attributes": {name: value for name, value in entry.attributes.items() if not name.startswith("user.overlay.")},
        "time": "" if started is None else "now" if entry.mtime >= started else int(entry.mtime),
    }


def _hard_links(tree: Tree, paths: Iterable[str]) -> dict[str, str]:
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for path in paths:
        if path in tree and tree[path].kind != "directory":
            groups[id(tree[path])].append(path)
    return {path: " ".join(group) for group in groups.values() if len(group) > 1 for path in group}


#: What BuildKit and buildah write in different words, or only one of them writes.
_NOT_COMPARED = ("ArgsEscaped",)
#: Left over from docker's first releases: they described the container that a commit was made of. buildah still writes them.
_OF_A_CONTAINER = (
    "AttachStderr", "AttachStdin", "AttachStdout", "Domainname", "Hostname", "Image", "OpenStdin", "StdinOnce", "Tty"
)  # fmt: skip
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def config_differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, ignore_labels: Iterable[str] = ("io.buildah.version",)
) -> list[str]:
    """Return one line for every field of the run configuration that differs; an empty field is a missing one."""
    differences = []
    for key in sorted((ours.keys() | theirs.keys()).difference(_NOT_COMPARED, _OF_A_CONTAINER)):
        one, two = ours.get(key), theirs.get(key)
        if key == "Labels":
            one, two = ({k: v for k, v in (side or {}).items() if k not in ignore_labels} for side in (one, two))
        if key == "WorkingDir":
            one, two = one or "/", two or "/"
        if one != two and not (one in _EMPTY and two in _EMPTY):
            differences.append(f"{key}: {one!r}, not {two!r}")
    return differences


def document_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return one line for every differing field of the image configuration around the run configuration."""
    return [
        f"{key}: {ours.get(key)!r}, not {theirs.get(key)!r}"
        for key in ("architecture", "author", "os", "variant")
        if ours.get(key, "") != theirs.get(key, "")
    ]


_NO_COMMAND = "/bin/sh -c #(nop) "  #: before what is no command, in buildah's words


def history_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return a line if the histories name other instructions, or other ones of them as those that made a layer.

    buildah has one entry for each label, argument and trigger and BuildKit one for each LABEL and ARG and none for ONBUILD, so the
    former count once and the latter not at all; and buildah makes the directory of a WORKDIR in the layer of the next step.
    """
    one, two = (" ".join(_instructions(document.get("history", ()))) for document in (ours, theirs))
    return [] if one == two else [f"history: {one}, not {two}"]


def _instructions(history: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    before = ""
    for word in map(_instruction, history):
        if word != "ONBUILD" and (word != before or word not in ("ARG", "LABEL")):
            yield word
        before = word


def _instruction(entry: Mapping[str, Any]) -> str:
    """Return the instruction of a history entry, with a ``+`` if it made a layer."""
    text = str(entry.get("created_by", ""))
    first = text.removeprefix(_NO_COMMAND).partition(" ")[0].upper()
    # Of RUN, buildah writes the command alone.
    name = first if first.isalpha() and text.startswith((_NO_COMMAND, first)) else "RUN"
    return name if entry.get("empty_layer") or name == "WORKDIR" else f"{name}+"
