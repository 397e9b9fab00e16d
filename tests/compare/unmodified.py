"""Builds a case on this machine and in an unmodified container (`harness.unmodified`), with equal clocks, and compares all bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compare.builders import BEFORE
from compare.dockerfiles import Case, write_files
from harness.bases import below_media, merged_busybox, write_oci_archive
from harness.build_server import BuildServer, build_server
from harness.compare import VOLATILE, config_differences, tree_differences
from harness.fixtures import load
from harness.host import fixture_file
from harness.img import Img, environment
from harness.oci import ImageArchive
from harness.prepared import OWNED
from harness.unmodified import Box
from harness.web import Page, WebServer, web_server

__all__ = ["PREPARED", "Twins"]

#: where no step can make a name in the root directory: Dockerfiles make theirs below ``/media`` there, see `below_media`
PREPARED = "restricted-prepared"

EPOCH = 1_200_000_000  #: later than all files of contexts and bases: whatever a build makes gets this time
_DEBIAN = "docker.io/library/debian:latest"
_VOLATILE = re.compile("|".join(f"(?:{pattern})" for pattern in VOLATILE))
_PATH = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}


@dataclass(slots=True)
class Twins:
    """A builder *here* and one in the container *box*, which share *directory*."""

    box: Box
    here: BuildServer
    there: BuildServer
    inside: Img
    web: WebServer
    directory: Path
    _loaded: set[str] = field(default_factory=set)
    _count: int = 0

    @classmethod
    @contextmanager
    def started(cls, kind: str, busybox_archive: Path, here: BuildServer, directory: Path) -> Iterator[Twins]:
        """Start the one in a container of *kind* and give both."""
        base = merged_busybox(directory / "base.tar") if kind == PREPARED else busybox_archive
        box = Box.make(directory / "layer", kind, base)
        shared = directory / "shared"
        shared.mkdir()
        inside = box.img(shared)
        with ExitStack() as opened:
            opened.callback(box.remove)
            if kind == PREPARED:
                # Of the image, and to be copied up before two containers share the layer: that takes the working directory of the overlay.
                box.shell(f"chmod 755 {' '.join(f'/{name}' for name in OWNED)}").ok()
                here = opened.enter_context(build_server(directory / "here", environment(directory)))
                load(directory / "here", base, directory)
            web = opened.enter_context(web_server())
            there = opened.enter_context(build_server(inside.state, box.environment(), inside.situation))
            yield cls(box, here, there, inside, web, shared)

    def differences(self, case: Case) -> list[str]:
        """Return a line for each difference between both images, or what the container refuses."""
        if "FROM debian" in case.text:
            self._provide_debian()
        self.web.pages.update({path: Page(content, modified) for path, (content, modified) in case.pages.items()})
        case, place = self._reference(case)
        self.box.give(place)
        if refusal := self._built(self.there, case, self.box.seen(place), "there.tar"):
            return [refusal]
        ours, theirs = ImageArchive(place / "there.tar"), ImageArchive(place / "here.tar")
        if ours.document == theirs.document:  # the digest of each layer stands in it
            return []
        found = [
            *tree_differences(ours.tree(), theirs.tree()),
            *config_differences(ours.config, theirs.config),
        ]
        return found or [
            f"layer {number}: {' '.join(sorted(set(mine) ^ set(other)))}"
            for number, (mine, other) in enumerate(zip(_paths(ours), _paths(theirs), strict=True))
            if mine != other
        ]

    def _reference(self, case: Case) -> tuple[Case, Path]:
        """Build *case* on this machine in a new directory; return it as it is to be built in the container, and the directory."""
        if self.box.kind == PREPARED:
            moved = replace(case, dockerfile=below_media(case.dockerfile), before=below_media(case.before))
            place, expected = self._built_here(moved)
            if not expected:
                return moved, place
        place, expected = self._built_here(case)  # for that one, what it starts from may have no such directory
        assert expected == "" or self.box.kind == PREPARED, expected
        return case, place

    def _built_here(self, case: Case) -> tuple[Path, str]:
        self._count += 1
        place = self.directory / str(self._count)
        write_files(
            place / "context", {**case.files, "Dockerfile": case.text.replace("http://web/", f"{self.web.url}/")}
        )
        return place, self._built(self.here, case, place, "here.tar")

    def _built(self, server: BuildServer, case: Case, place: Path, name: str) -> str:
        """Build *case* in *place*, as *server* sees it, into *name*; return why that failed."""
        common: dict[str, Any] = {"no_cache": True, "network": "host"}
        arguments = {"SOURCE_DATE_EPOCH": str(EPOCH), **case.build_args}
        if case.before:
            first = server.build(place / "context", case.text_before, tags=[BEFORE], build_args=arguments, **common)
            if first.error:
                return f"{first.error}\n{first.log}"
        output = {"dest": str(place / name), "compression": "uncompressed", "rewrite-timestamp": "true"}
        built = server.build(
            place / "context", None, outputs=[["oci", output]], target=case.target, build_args=arguments,
            labels=dict(case.labels), secrets=dict(case.secrets), **common,
        )  # fmt: skip
        return f"{built.error}\n{built.log}" if built.error else ""

    def _provide_debian(self) -> None:
        """Give both of them the image ``debian``, once."""
        if "debian" in self._loaded:
            return
        self._loaded.add("debian")
        archive = self.directory / "debian.tar"
        write_oci_archive(archive, [fixture_file("debian.tar").read_bytes()], name=_DEBIAN, config=_PATH)
        load(self.here.state, archive, self.directory)
        self.inside.run("load", "-q", "-i", self.box.seen(archive)).ok()
        archive.unlink()


def _paths(image: ImageArchive) -> list[list[str]]:
    """Return the paths in each layer, but those that two builds never make alike."""
    return [[path for path, *_ in layer if not _VOLATILE.fullmatch(path)] for layer in image.layers()]


#: What makes another image in an unmodified container than elsewhere, and the Dockerfiles that show it.
#: docs/reference/unmodified-images.md is made from it; run contrib/docs/unmodified.py after changing it.
EXCEPTIONS: dict[str, tuple[str, ...]] = {
    "A file of the base with several names that is written, or gets another owner, mode or name: here all its names show that, "
    "as on any file system; an overlay copies the file for the one name and leaves the others as they were.": (
        "copy/from-a-stage",
        "random_steps/seed-1",
        "random_steps/seed-2",
        "random_steps/seed-3",
        "random_steps/seed-4",
        "run/copied-trees",
        "run/hard-links-across-steps",
        "run/hard-links-in-other-directories",
        "run/hard-links-of-the-base-by-mode",
        "run/many-links-to-one-file",
        "run/owners",
        "run/permission-bits",
    ),
}


_NAMES = "The names in `/` hold `.img`, where img is: the Dockerfile writes them down."
_SEEDS = tuple(f"random_copies/seed-{seed}" for seed in range(6))
#: without capabilities
_BELIEVED: dict[str, tuple[str, ...]] = {
    _NAMES: _SEEDS,
    "All files belong to one user, so `USER` keeps no step from writing those of others.": (
        "users/user-in-a-read-only-place",
    ),
}
#: And what one kind of container only cannot, or tells otherwise, by kind.
EXCEPTIONS_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "cri-o-root": {
        "Without the capability `SETFCAP` nobody can give a file capabilities.": ("applications/file-capabilities",),
        _NAMES: _SEEDS,
    },
    "host-users-false-drop-all": _BELIEVED,
    "restricted-open-root": _BELIEVED,
    PREPARED: {
        "The names in `/` are those of the container's image: the Dockerfile writes them down.": _SEEDS,
        **{why: names for why, names in _BELIEVED.items() if why != _NAMES},
        "A name in `/` that is none of the directories in img's own image.": (
            "config/workdir-forms",
            "run/exec-form",
            "run/fifo-and-odd-names",
        ),
        "The base has no merged `/usr`.": ("config/base-without-a-path", "stages/run-on-scratch"),
        "It removes `/usr`, where a base that is merged has its shell: elsewhere it fails, too.": (
            "run/deleted-base-directories",
        ),
        "A directory cannot be moved to a name in `/`.": ("run/moved-directories",),
    },
}


def reason(kind: str, name: str) -> str:
    """Return why the Dockerfile *name* gives another image in a container of *kind*; empty if it does not."""
    listed = {**EXCEPTIONS, **EXCEPTIONS_OF.get(kind, {})}
    return next((why for why, names in listed.items() if name in names), "")
