"""Compares two flattened trees or two image configs, and says where they differ in words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from harness.oci import Entry, Tree

__all__ = ["VOLATILE", "config_differences", "tree_differences"]

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


def tree_differences(ours: Tree, theirs: Tree, *, volatile: Iterable[str] = VOLATILE) -> list[str]:
    """Return one line for every path that is not the same in both: type, mode, owner, content, target, attributes, hard links."""
    ignored = re.compile("|".join(f"(?:{pattern})" for pattern in volatile) or "(?!)")
    paths = sorted(path for path in ours.keys() | theirs.keys() if not ignored.fullmatch(path))
    our_links, their_links = _hard_links(ours, paths), _hard_links(theirs, paths)
    differences = []
    for path in paths:
        if path not in ours or path not in theirs:
            differences.append(f"{path}: only in {'ours' if path in ours else 'theirs'}")
            continue
        ours_here, theirs_here = _described(ours[path]), _described(theirs[path])
        ours_here["hard links"], theirs_here["hard links"] = our_links.get(path, ""), their_links.get(path, "")
        differences += [
            f"{path}: {key} is {value!r}, not {theirs_here[key]!r}"
            for key, value in ours_here.items()
            if value != theirs_here[key]
        ]
    return differences


def _described(entry: Entry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "mode": oct(entry.mode) if entry.kind != "symlink" else "",
        "owner": f"{entry.uid}:{entry.gid}",
        "content": entry.content,
        # buildah leaves overlayfs's own attributes in its layers; they mean nothing in an image.
        "attributes": {name: value for name, value in entry.attributes.items() if not name.startswith("user.overlay.")},
    }


def _hard_links(tree: Tree, paths: Iterable[str]) -> dict[str, str]:
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for path in paths:
        if path in tree and tree[path].kind != "directory":
            groups[id(tree[path])].append(path)
    return {path: " ".join(group) for group in groups.values() if len(group) > 1 for path in group}


#: What BuildKit and buildah write in different words, or only one of them writes.
_NOT_COMPARED = ("ArgsEscaped",)
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def config_differences(
    ours: dict[str, Any], theirs: dict[str, Any], *, ignore_labels: Iterable[str] = ("io.buildah.version",)
) -> list[str]:
    """Return one line for every field of the run configuration that differs; an empty field is a missing one."""
    differences = []
    for key in sorted(ours.keys() | theirs.keys()):
        if key in _NOT_COMPARED:
            continue
        one, two = ours.get(key), theirs.get(key)
        if key == "Labels":
            one, two = ({k: v for k, v in (side or {}).items() if k not in ignore_labels} for side in (one, two))
        if key == "WorkingDir":
            one, two = one or "/", two or "/"
        if one != two and not (one in _EMPTY and two in _EMPTY):
            differences.append(f"{key}: {one!r}, not {two!r}")
    return differences
