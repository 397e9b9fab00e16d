"""Where img and Debian's buildah make different images of one Dockerfile, why, and which of the two BuildKit agrees with.

docs/reference/differences-from-buildah.md is made from this table; run contrib/docs/differences.py after changing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["DIFFERENCES", "Difference", "surprises"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One known difference. *cases* maps the names of Dockerfiles to patterns that match the lines that it causes, whole ones."""

    what: str
    img: str
    buildah: str
    buildkit: Literal["img", "buildah", "neither"]
    reason: str
    cases: Mapping[str, tuple[str, ...]]


def surprises(case: str, found: Iterable[str]) -> list[str]:
    """Return the *found* lines that no known difference explains, and what is listed for *case* but was not found."""
    found = list(found)
    patterns = [pattern for difference in DIFFERENCES for pattern in difference.cases.get(case, ())]
    unknown = [line for line in found if not any(re.fullmatch(pattern, line) for pattern in patterns)]
    gone = [pattern for pattern in patterns if not any(re.fullmatch(pattern, line) for line in found)]
    return [*unknown, *(f"a listed difference is gone: {pattern}" for pattern in gone)]


#: /etc, which buildah touches when it puts files into it to mount over.
_TOUCHED_ETC = r"etc: time is 1000000000, not 'now'"

DIFFERENCES = (
    Difference(
        "`WORKDIR` as the last step, or followed by no step that needs the directory",
        "makes the directory, in a layer of its own",
        "makes the directory only when a later RUN or COPY needs it; then a COPY there gives it its own owner and mode",
        "img",
        "the directory belongs to WORKDIR: mode 0755, the current USER as its owner",
        {
            "config/workdir-is-made-by-nobody-else": ("only: only in ours", "only/workdir: only in ours"),
            "config/workdir-forms": ("relative: only in ours",),
            "config/overridden-from-an-image": (
                "srv: time is 'now', not 1000000000", "srv/opt: only in ours", "srv/www: only in ours",
            ),
            "applications/python": ("app: owner is '0:0', not '990:990'",),
            "applications/node": ("home(/node(/app)?)?: owner is '0:0', not '1000:1000'",),
        },
    ),
    Difference(
        "`ENV` of a variable that exists",
        "replaces the value in place",
        "moves the variable to the end",
        "img",
        "the order of the environment is part of the image; programs and cache keys see it",
        {"config/env-order-and-replacement": (r"Env: \['PATH=.*",), "applications/python": (r"Env: \['PATH=.*",)},
    ),
    Difference(
        "`EXPOSE 3000-3003`",
        "one entry for each port",
        "one entry for the range",
        "img",
        "the image specification has a port and a protocol in an entry, no ranges",
        {"config/expose-ranges": ("ExposedPorts: .*",)},
    ),
    Difference(
        "`EXPOSE 80/udp` after an `EXPOSE 80`",
        "exposes both",
        "loses the second",
        "img",
        "a port is its number and its protocol",
        {"config/duplicates": ("ExposedPorts: .*",)},
    ),
    Difference(
        "`EXPOSE 53/UDP`",
        "writes the protocol in lower case",
        "writes it as it stands",
        "img",
        "the protocols are `tcp`, `udp` and `sctp`; BuildKit warns with `ExposeProtoCasing`, as img does",
        {"config/upper-case-protocol": ("ExposedPorts: .*",)},
    ),
    Difference(
        "`VOLUME` and what later steps do below it",
        "nothing is made, later writes are kept",
        "makes the directory in the next RUN, and loses what RUN writes below it",
        "img",
        "VOLUME is metadata of the container to come; docker's first builder lost the writes, BuildKit keeps them",
        {
            "config/volume-keeps-later-writes": ("data/after: only in ours",),
            "config/inherited-from-an-image": ("one: only in theirs", "two: only in theirs"),
            "config/values-in-quotes": ("quoted: only in theirs",),
        },
    ),
    Difference(
        "`SHELL` and the shell form of `CMD` and `ENTRYPOINT`",
        "uses the shell that was set",
        "always uses `/bin/sh -c`",
        "img",
        "the Dockerfile reference: SHELL is for the shell form of commands",
        {"config/shell": (r"Cmd: \['/bin/sh', '-euc'.*", r"Entrypoint: \['/bin/sh', '-euc'.*")},
    ),
    Difference(
        "`ARG name=value` after `ENV name`",
        "the argument wins until the end of the stage; the image keeps the variable",
        "the variable wins",
        "img",
        "BuildKit has one scope in which the last write wins, against the words of the Dockerfile reference",
        {
            "arguments/arg-after-env": ("v: content is .*", r"Env: .*'OUT=arg'\], not .*'OUT=env'\]"),
            "arguments/path-as-an-argument": ("path: content is .*",),
        },
    ),
    Difference(
        "`# escape=` and the words of ENV and LABEL",
        "the directive governs escapes in words and variables too",
        "the directive governs continuations only, a backslash stays special",
        "img",
        "one escape character for the whole file",
        {"text/escape-directive": (r"Env: .*", r"Labels: .*")},
    ),
    Difference(
        "octal `--chmod` and the directories made on the way to the destination",
        "they get its permissions, but no set-id and sticky bits",
        "they get 0755",
        "img",
        "with a symbolic `--chmod`, and where an archive is unpacked, they get 0755 in BuildKit and img as well",
        {
            "heredocs/copy-several-with-tabs": ("dir: mode is '0o600', not '0o755'",),
            "copy/mode-of-made-directories": ("p: mode is '0o700', not '0o755'", "p/q: mode is '0o700', not '0o755'"),
        },
    ),
    Difference(
        "the directory that a `COPY` or `ADD` of a directory goes to",
        "has the time of the source, whether it was there or is made",
        "has the time of the build",
        "img",
        "BuildKit gives the destination the time of the source and leaves its mode and owner alone (fsutil, `copy/copy.go`)",
        {
            case: (rf"({paths}): time is \d+, not 'now'",)
            for case, paths in {
                "add/files-as-copy": "d",
                "add/not-unpacked": "dir",
                "applications/debian-users-and-packages": "var",
                "config/base-without-a-path": "bin",
                "copy/absolute-links-stay-in-the-context": "dir",
                "copy/deep-tree": "top",
                "copy/directory-destinations": "d|dot|e/f|slash",
                "copy/directory-merge-keeps-others": "d",
                "copy/empty-files-and-directories": "z",
                "copy/excluded-files": "x",
                "copy/existing-destination": "d",
                "copy/existing-destination-keeps-its-mode": "t",
                "copy/fifo": "tree",
                "copy/from-a-stage": "all|owned",
                "copy/from-an-image": "srv",
                "copy/hard-links-in-a-directory": "tree",
                "copy/link-replaced-by-a-file": "q",
                "copy/links-as-sources": "dir",
                "copy/links-in-a-directory": "tree",
                "copy/links-in-the-destination": "real/d",
                "copy/links-on-the-way-to-a-source": "y",
                "copy/long-names-and-paths": "long",
                "copy/mode-of-directories": "x",
                "copy/names": "names",
                "copy/owner": "four",
                "copy/owner-and-an-existing-directory": "t",
                "copy/owner-is-root-for-any-user": "x",
                "copy/source-cannot-leave-the-context": "abs",
                "copy/to-a-volume-of-the-base": "data/d",
                "ignore/of-wildcards-and-directories": "d",
                "run/base-links-followed": "usr/lib/d",
                "stages/run-on-scratch": "bin",
                "users/created-in-the-build": "home/app/d",
            }.items()
        },
    ),
    Difference(
        "`COPY` to a path that is a symbolic link to a file or to nothing",
        "writes through the link; a missing target is made",
        "replaces a link to a file; makes a directory where a link leads to nothing",
        "img",
        "links in the destination are followed inside the image, whatever they lead to",
        {
            "copy/links-in-the-destination": (
                "target: content is .*", r"target: time is \d+, not 'now'", "to-file: (kind|mode|content|time) is .*",
            ),
            "copy/dangling-link-as-destination": (
                "made/by/copy: kind is 'file', not 'directory'", "made/by/copy: (mode|content|time) is .*",
                "made/by/copy/a: only in theirs",
            ),
        },
    ),
    Difference(
        "set-user-id and set-group-id bits of files and directories that COPY takes from the context",
        "kept",
        "dropped",
        "img",
        "the whole mode of the source counts",
        {
            "copy/modes-of-the-context": ("x/sgid: mode is '0o2711', not '0o711'", "x/suid: mode is '0o4755', not '0o755'"),
            "copy/set-group-id-directory": ("x/g: mode is '0o2775', not '0o775'",),
        },
    ),
    Difference(
        "`ADD --chown` of an archive",
        "every entry gets the owner",
        "entries keep the owners of the archive",
        "img",
        "`--chown` is for all that ADD makes",
        {"add/archive-with-owner": ("x/top.*: owner is '9:10', not .*",)},
    ),
    Difference(
        "a change of a directory's time alone, or a change that was undone",
        "no entry in the layer, so the image has the old time, and hard links stay whole",
        "an entry with the new time; a hard link that was written anew becomes a file of its own",
        "img",
        "BuildKit compares the entries that overlayfs copied with the ones below and takes up those that differ in mode, owner, size, "
        "content or, if not directories, time (`util/overlay/overlay_linux.go`, `sameDirent`)",
        {
            "run/times-of-parents": ("srv: time is 1000000000, not 1000",),
            "run/changed-and-changed-back": (_TOUCHED_ETC, "tmp: time is 1000000000, not 'now'"),
            "run/unchanged-hard-link": ("srv/data/(one|hard): hard links is 'srv/data/hard srv/data/one', not ''",),
        },
    ),
    Difference(
        "directories on the way to a file that `!` brings back",
        "have the time that they have in the context",
        "have the time of the build",
        "img",
        "they are copied from the context, not made",
        {
            "ignore/all-but-a-directory": (r"c/d: time is \d+, not 'now'",),
            "ignore/all-but-a-file": (r"c/d: time is \d+, not 'now'", r"c/d/e: time is \d+, not 'now'"),
            "ignore/back-in-an-ignored-directory": (r"c/d: time is \d+, not 'now'", r"c/d/e: time is \d+, not 'now'"),
            "ignore/slashes-and-stars": (r"c/d: time is \d+, not 'now'",),
            "ignore/a-directory-without-a-file": (r"c/d: time is \d+, not 'now'",),
            "ignore/carriage-returns": (r"c/d: time is \d+, not 'now'",),
        },
    ),
    Difference(
        "`!` lines of an ignore file and the directories that they match",
        "a `!` line counts for what is excluded when a path or a directory above it is looked at, another line for what is not",
        "the last line that matches a path or a directory above it counts",
        "img",
        "docker and BuildKit try the lines on the way down the tree (moby/patternmatcher, `MatchesUsingParentResults`)",
        {
            "ignore/back-what-was-not-excluded": ("c/d/e(/.*)?: only in theirs",),
            "ignore/excluded-already": ("c/d(/g)?: only in ours",),
        },
    ),
    Difference(
        "a wildcard in a source and links to directories that it finds on the way",
        "are not followed",
        "are followed",
        "img",
        "BuildKit matches the paths of a walk through the tree, which enters no links (fsutil, `copy/copy.go`)",
        {"copy/wildcards-and-links-on-the-way": ("y/two.txt: only in theirs",)},
    ),
    Difference(
        "`*` and then `!**/*.md` in an ignore file",
        "brings back the files at every depth",
        "brings back those in the root only",
        "img",
        "`**` spans any number of components",
        {"ignore/all-but-any-depth": ("c/d(/e(/README.md)?)?: only in ours",)},
    ),
    Difference(
        "`RUN --mount` (and the files that every RUN finds in `/etc`) at a path that did not exist",
        "nothing stays",
        "the mount point stays, and its parents",
        "img",
        "what the builder makes for a mount is no part of the layer",
        {
            "mounts/bind-directory-and-file": ("mnt: only in theirs", "mnt/x: only in theirs"),
            "mounts/cache": ("var/cache: only in theirs", "var: time is 1000000000, not 'now'"),
            "mounts/secret": (_TOUCHED_ETC,),
            "config/base-without-a-path": ("etc: only in theirs",),
            "stages/attributes-of-a-stage": ("all/run: time is 1000000000, not 'now'",),
            "copy/from-a-stage": (_TOUCHED_ETC,),
        },
    ),
    Difference(
        "`RUN --mount` at a path that exists",
        "what it covered is back after the step",
        "what it covered is gone from the image",
        "img",
        "a mount hides, it does not delete",
        {
            "mounts/bind-directory-and-file": (_TOUCHED_ETC, "etc/motd: only in ours"),
            "mounts/tmpfs": ("srv(/.*)?: only in ours",),
            "mounts/over-an-existing-file": (_TOUCHED_ETC, "etc/passwd: only in ours"),
        },
    ),
    Difference(
        "`RUN --mount=type=bind,rw`",
        "writes are thrown away after the step",
        "writes go to the build context on the host",
        "img",
        "a build does not change its context",
        {"mounts/bind-writes-are-lost": ("found: content is .*",)},
    ),
    Difference(
        "`EXPOSE web`",
        "error: not a port",
        "takes it into the image",
        "img",
        "a port is a number",
        {"refused/port-that-is-none": ("buildah accepts it",)},
    ),
    Difference(
        "`RUN --mount=type=bind,source=…` of what is not there",
        "error: not found",
        "runs the step all the same",
        "img",
        "what a step names must be there",
        {"refused/mount-of-a-missing-file": ("buildah accepts it",)},
    ),
)  # fmt: skip
