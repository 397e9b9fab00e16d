"""COPY in real builds: the cases CP, IG18 and IG19 (docs/reference/dockerfile-cases.md), each by the file system of its result."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.build_server import Workshop
from harness.oci import Entry, ImageArchive, Tree

pytestmark = pytest.mark.rootless

Files = dict[str, str | bytes]


@dataclass(frozen=True, slots=True)
class Is:
    """What a path of the result must be; what is None does not matter."""

    kind: str
    content: str | None = None
    mode: int | None = None
    owner: str | None = None

    def check(self, path: str, entry: Entry | None) -> None:
        assert entry is not None, f"{path} is missing"
        assert entry.kind == self.kind, path
        if self.content is not None:
            assert entry.content == self.content, path
        if self.mode is not None:
            assert oct(entry.mode) == oct(self.mode), path
        if self.owner is not None:
            assert f"{entry.uid}:{entry.gid}" == self.owner, path


def a_file(text: str, mode: int | None = None, owner: str | None = None) -> Is:
    return Is("file", hashlib.sha256(text.encode()).hexdigest(), mode, owner)


def a_directory(mode: int | None = None, owner: str | None = None) -> Is:
    return Is("directory", None, mode, owner)


def a_link(target: str) -> Is:
    return Is("symlink", target)


@dataclass(frozen=True, slots=True)
class Row:
    """A build and its result: paths that must be something, or (None) must not be there."""

    body: str
    result: dict[str, Is | None]
    files: Files = field(default_factory=dict)
    change: Callable[[Path], object] = lambda _context: None


FILES: Files = {
    "a.txt": "A", "b.txt": "B", ".dot": "dot", "dir/a.txt": "A", "dir/sub/c": "C", "dir/sub/.hidden": "H", "flnk@": "a.txt",
    "dlnk@": "dir", "dir/ln@": "a.txt", "abs@": "/etc/passwd",
}  # fmt: skip


def _modes(context: Path) -> None:
    (context / "dir").chmod(0o700)
    (context / "dir" / "sub").chmod(0o711)
    (context / "dir" / "sub" / "c").chmod(0o755)


def _times(context: Path) -> None:
    for name in ("a.txt", "dir/sub/c", "dir/sub", "dir/a.txt", "dir"):
        os.utime(context / name, (1111111111, 1111111111))


def _archive() -> bytes:
    """A directory that is there already, and an entry below a link that leads out."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, kind, mode, target in (
            ("", tarfile.REGTYPE, 0o644, ""),
            ("sub", tarfile.DIRTYPE, 0o711, ""),
            ("l", tarfile.SYMTYPE, 0o777, "../../made"),
            ("made", tarfile.DIRTYPE, 0o755, ""),
            ("l/d", tarfile.DIRTYPE, 0o700, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.linkname, member.uid, member.gid = kind, mode, target, 3, 4
            file.addfile(member)
    return buffer.getvalue()


_EXISTING = "RUN mkdir -p /t/sub && chmod 1777 /t /t/sub && chown 7:8 /t /t/sub && echo -n old > /t/sub/old\n"
_OTHER_STAGE = f"FROM busybox AS other\nCOPY --chown=5:6 dir /dir\nFROM busybox\n{_EXISTING}"
_KEPT: dict[str, Is | None] = {"t": a_directory(0o1777, "7:8"), "t/sub/old": a_file("old")}


def _merged(line: str, mode: int, owner: str, before: str = _EXISTING) -> Row:
    """A copy onto an existing tree, and what becomes of the directory below its destination."""
    return Row(before + line, {**_KEPT, "t/sub": a_directory(mode, owner), "t/sub/c": a_file("C")}, change=_modes)


ROWS = {
    "onto-existing": _merged("COPY dir /t", 0o711, "0:0"),
    "onto-existing-with-owner": _merged("COPY --chown=5:6 dir /t", 0o711, "5:6"),
    "onto-existing-with-mode": _merged("COPY --chmod=750 dir /t", 0o750, "0:0"),
    "onto-existing-by-add": _merged("ADD --chown=5:6 --chmod=g=rwx dir /t/", 0o771, "5:6"),
    "onto-existing-from-a-stage": _merged(
        "COPY --from=other /dir /t", 0o711, "5:6", _OTHER_STAGE
    ),
    "onto-existing-from-a-stage-with-owner": _merged(
        "COPY --chown=9 --from=other /dir /t", 0o711, "9:9", _OTHER_STAGE
    ),
    "onto-existing-with-parents": Row(
        _EXISTING + "COPY --chown=5:6 --parents dir/./sub/c /t",
        {**_KEPT, "t/sub": a_directory(0o711, "7:8"), "t/sub/c": a_file("C", owner="5:6")}, change=_modes,
    ),
    "onto-existing-linked": Row(
        _EXISTING + "COPY --link --chown=5:6 dir /t", {
            "t": a_directory(0o755, "5:6"), "t/sub": a_directory(0o711, "5:6"), "t/sub/old": a_file("old"), "t/sub/c": a_file("C")
        }, change=_modes,
    ),
    "onto-existing-archive": Row(
        _EXISTING + "ADD t.tar /t", {
            **_KEPT, "t/sub": a_directory(0o711, "3:4"), "t/l": a_link("../../made"), "t/made/d": a_directory(0o700, "3:4"), "made": None
        }, {"t.tar": _archive()},
    ),
    "mode-of-the-destination-of-an-archive": Row(
        "ADD --chmod=600 --chown=5:6 t.tar /x/y", {
            "x": a_directory(0o755, "5:6"), "x/y": a_directory(0o755, "5:6"), "x/y/made": a_directory(0o755, "5:6")
        }, {"t.tar": _archive()},
    ),
    "set-id-bits-are-not-for-parents": Row(
        "COPY --chmod=7755 a.txt /s/t/f\nCOPY --chmod=6711 dir /u/v/",
        {"s": a_directory(0o755), "s/t": a_directory(0o755), "s/t/f": a_file("A", 0o7755), "u": a_directory(0o711),
         "u/v": a_directory(0o711), "u/v/sub": a_directory(0o6711)},
    ),
    "CP1": Row("COPY a.txt /x/\nCOPY b.txt /x", {"x/a.txt": a_file("A"), "x/b.txt": a_file("B")}),
    "CP3": Row("RUN mkdir /x\nCOPY a.txt b.txt /x", {"x/a.txt": a_file("A"), "x/b.txt": a_file("B")}),
    "CP4-plain": Row("COPY dir /x", {"x/a.txt": a_file("A"), "x/sub/c": a_file("C"), "x/dir": None}),
    "CP4-slash": Row("COPY dir/ /x/", {"x/a.txt": a_file("A"), "x/sub/c": a_file("C"), "x/dir": None}),
    "CP4-dot": Row("COPY dir/. /x/", {"x/a.txt": a_file("A"), "x/sub/c": a_file("C"), "x/dir": None}),
    "CP5": Row("COPY dir /new", {"new": a_directory(0o755), "new/sub": a_directory(0o711)}, change=_modes),
    "CP6": Row("RUN mkdir -m 1777 /t\nCOPY dir /t/", {"t": a_directory(0o1777), "t/a.txt": a_file("A")}),
    "CP6-link": Row("RUN mkdir -m 1777 /t\nCOPY --link dir /t/", {"t": a_directory(0o755), "t/a.txt": a_file("A")}),
    "CP7": Row(
        "RUN mkdir /t3\nCOPY --chown=5:5 dir /t3/",
        {"t3": a_directory(owner="0:0"), "t3/a.txt": a_file("A", owner="5:5"), "t3/sub": a_directory(owner="5:5")},
    ),
    "CP8": Row(
        "COPY --chown=5 a.txt /x/y/",
        {"x": a_directory(owner="5:5"), "x/y": a_directory(owner="5:5"), "x/y/a.txt": a_file("A", owner="5:5")},
    ),
    "CP9": Row(
        "COPY --chown=www a.txt /1\nCOPY --chown=www:staff a.txt /2\nCOPY --chown=:staff a.txt /3\nCOPY --chown=www: a.txt /4",
        {"1": a_file("A", owner="33:34"), "2": a_file("A", owner="33:50"), "3": a_file("A", owner="0:50"),
         "4": a_file("A", owner="33:0")},
    ),
    "CP11": Row(
        "COPY --chmod=700 a.txt /p/q/",
        {"p": a_directory(0o700), "p/q": a_directory(0o700), "p/q/a.txt": a_file("A", 0o700)},
    ),
    "CP11-symbolic": Row(
        "COPY --chmod=u=rwx,go= a.txt /p/q/",
        {"p": a_directory(0o755), "p/q": a_directory(0o755), "p/q/a.txt": a_file("A", 0o700)},
    ),
    "CP12": Row("COPY --chmod=0640 dir /x/", {"x/sub": a_directory(0o640), "x/sub/c": a_file("C", 0o640)}),
    "CP13": Row(
        "COPY --chmod=u=rwX,go=rX dir /x/",
        {"x/sub": a_directory(0o755), "x/a.txt": a_file("A", 0o644), "x/sub/c": a_file("C", 0o755)},
        change=_modes,
    ),
    "CP14": Row("COPY *.zzz /x/", {"x": None}),
    "CP16": Row("COPY a.txt *.zzz /x/", {"x/a.txt": a_file("A")}),
    "CP18": Row(
        "COPY * /x/",
        {"x/.dot": a_file("dot"), "x/a.txt": a_file("A"), "x/sub/c": a_file("C"), "x/dir": None},
        change=lambda context: (context / "abs").unlink(),
    ),
    "CP19": Row(
        "COPY d[0-9] /x/",
        {"x/a": a_file("1"), "x/b": a_file("2"), "x/d3": a_file("3"), "x/d1": None},
        {"d1/a": "1", "d2/b": "2", "d3": "3"},
    ),
    "CP20": Row("COPY **/f /x/", {"x/f": a_file("one")}, {"one/f": "one", "deep/er/f": "two"}),
    "CP21": Row("COPY ../a.txt /x/\nCOPY /b.txt /x/", {"x/a.txt": a_file("A"), "x/b.txt": a_file("B")}),
    "CP22": Row("COPY a.txt/ /x", {"x": a_file("A")}),
    "CP23": Row("COPY flnk /x/", {"x/flnk": a_file("A")}),
    "CP24": Row("COPY dlnk /x/", {"x/a.txt": a_file("A"), "x/ln": a_link("a.txt"), "x/dlnk": None}),
    "CP26": Row(
        "FROM busybox AS s\nRUN echo -n inside > /real && ln -s /real /lnk\nFROM busybox\nCOPY --from=s /lnk /y",
        {"y": a_file("inside")},
    ),
    "CP27": Row(
        "RUN mkdir /real && ln -s /real /ln\nCOPY a.txt /ln/\nCOPY dir /ln",
        {"ln": a_link("/real"), "real/a.txt": a_file("A"), "real/sub/c": a_file("C")},
    ),
    "CP28": Row(
        "RUN echo old > /orig && ln -s /orig /ln6\nCOPY a.txt /ln6", {"ln6": a_link("/orig"), "orig": a_file("A")}
    ),
    "CP29": Row("RUN ln -s ../../../tmp/zz /ln\nCOPY a.txt /ln", {"tmp/zz": a_file("A")}),
    "CP30": Row(
        "RUN mkdir /real && ln -s /real /ln\nCOPY --link a.txt /ln/",
        {"ln": a_directory(), "ln/a.txt": a_file("A"), "real/a.txt": None},
    ),
    "CP31": Row(
        "RUN mkdir /q && echo -n old > /target && ln -s /target /q/a.txt\nCOPY dir/ /q/",
        {"q/a.txt": a_file("A"), "target": a_file("old")},
    ),
    "CP33-link": Row("RUN mkdir -p /d/a.txt\nCOPY --link a.txt /d/", {"d/a.txt": a_file("A")}),
    "CP34": Row("USER 33\nCOPY a.txt /x/", {"x": a_directory(owner="0:0"), "x/a.txt": a_file("A", owner="0:0")}),
    "CP37-better": Row(
        "COPY --exclude=*.txt hom* /d/", {"d/home.md": a_file("md"), "d/home.txt": None}, {"home.txt": "t", "home.md": "md"}
    ),
    "exclude-of-all-that-a-pattern-finds": Row(
        "ADD --exclude=* d* /6", {"6": a_directory(0o755), "6/a": None}, {"d1/a": "1", "d2/b": "2"}
    ),
    "CP38": Row(
        "COPY --exclude=*.txt src /o/", {"o/a.txt": None, "o/in/b.txt": a_file("b")}, {"src/a.txt": "a", "src/in/b.txt": "b"}
    ),
    "CP38-everywhere": Row(
        "COPY --exclude=**/*.txt src /o/", {"o/a.txt": None, "o/in/b.txt": None, "o/in/c": a_file("c")},
        {"src/a.txt": "a", "src/in/b.txt": "b", "src/in/c": "c"},
    ),
    "CP39": Row(
        "COPY --exclude=src --exclude=!src/x . /o/", {"o/src/x": a_file("x"), "o/src/y": None}, {"src/x": "x", "src/y": "y"}
    ),
    "CP40-better": Row("ARG P=*.txt\nCOPY --exclude=$P dir /o/", {"o/a.txt": None, "o/sub/c": a_file("C")}),
    "CP41": Row(
        "COPY --parents ./x/./y/*.txt /p/\nCOPY --parents src/./x /p/", {"p/y/a.txt": a_file("1"), "p/x": a_file("2")},
        {"x/y/a.txt": "1", "src/x": "2"},
    ),
    "CP42": Row(
        "COPY --parents ./src/**/*.txt /p/",
        {"p/src/a.txt": a_file("1"), "p/src/d/e/b.txt": a_file("2"), "p/src/d/no": None},
        {"src/a.txt": "1", "src/d/e/b.txt": "2", "src/d/no": "3"},
    ),
    "parents-wildcards-before-the-pivot": Row(
        "COPY --parents src/b*/./c/**/f src/*/./d /p/",
        {"p/c/x/f": a_file("1"), "p/c/y/f": a_file("2"), "p/d": a_file("3"), "p/src": None, "p/b": None, "p/c/y/g": None},
        {"src/b/c/x/f": "1", "src/b2/c/y/f": "2", "src/b2/c/y/g": "no", "src/b3/d": "3"},
    ),
    "parents-of-links": Row(
        "COPY --parents a/l b/*/l /o/\nCOPY --parents b/./*/l /p/", {
            "o/a/l": a_link("../f"), "o/b/c/l": a_link("/etc/passwd"), "p/c/l": a_link("/etc/passwd"), "o/f": None
        }, {"a/l@": "../f", "b/c/l@": "/etc/passwd", "f": "f"},
    ),
    "CP43-pattern": Row("COPY --parents src/*.nope /p/", {"p/src": None}, {"src/a": "1"}),
    "CP44": Row("COPY --parents src/a.txt /p", {"p/src/a.txt": a_file("1")}, {"src/a.txt": "1"}),
    "CP45": Row("WORKDIR /w\nCOPY a.txt $EMPTY", {"w/a.txt": a_file("A")}),
    "CP46": Row("WORKDIR /w\nCOPY a.txt ..", {"a.txt": a_file("A")}),
    "CP47-better": Row(
        "RUN mkdir /real && ln -s /real /ln\nCOPY --link --chmod=600 a.txt /ln/",
        {"ln": a_directory(), "ln/a.txt": a_file("A", 0o600), "real/a.txt": None},
    ),
    "ignored-below-what-was-not": Row(
        "COPY . /c/", {"c/dir/a.txt": a_file("A"), "c/dir/sub": None}, {**FILES, ".dockerignore": "dir/sub\n!dir\nabs\n"}
    ),
    "kept-of-a-pattern": Row(
        "COPY . /c/", {"c/dir/a.txt": a_file("A"), "c/dir/sub": None}, {**FILES, ".dockerignore": "d*\n!dir/a.txt\ndir\nabs\n"}
    ),
    "excluded-below-what-was-not": Row(
        "COPY --exclude=dir/sub --exclude=!dir . /c/\nCOPY --exclude=d* --exclude=!dir/a.txt --exclude=dir . /e/",
        {"c/dir/a.txt": a_file("A"), "c/dir/sub": None, "e/dir/a.txt": a_file("A"), "e/dir/sub": None},
    ),
    "mounted-without-what-is-ignored": Row(
        "RUN --mount=target=/c cp -r /c/dir /d", {"d/a.txt": a_file("A"), "d/sub": None}, {**FILES, ".dockerignore": "dir/sub\n!dir\n"}
    ),
    "IG19": Row("COPY a.txt /x", {"x": a_file("A")}, {"elsewhere/.dockerignore": "a.txt\n"}),
}  # fmt: skip

ERRORS = {
    "CP2-better": ("COPY a.txt b.txt /x", "/x"),
    "CP10-better": ("COPY --chown=nosuch a.txt /x", "nosuch"),
    "CP15": ("COPY nope /x/", '"/nope": not found'),
    "CP25": ("COPY abs /x/", "not found"),
    "CP32": ("RUN mkdir -p /q /other && ln -s /other /q/sub\nCOPY dir/ /q/", "/q/sub"),
    "CP33": ("RUN mkdir -p /d/a.txt\nCOPY a.txt /d/", "/d/a.txt"),
    "CP43": ("COPY --parents dir/nope /p/", '"/dir/nope": not found'),
    "nothing-before-a-wildcard": ("COPY nope/*/* /x/", '"/nope": not found'),
}


def result(workshop: Workshop, tmp_path: Path, body: str, name: str = "out.tar") -> ImageArchive:
    workshop.build(body, outputs=[["oci", {"dest": str(tmp_path / name)}]]).ok()
    return ImageArchive(tmp_path / name)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_row(workshop: Workshop, tmp_path: Path, row: Row) -> None:
    workshop.write(row.files or FILES)
    if row.files:
        workshop.write({"a.txt": "A"})
    row.change(workshop.context)
    tree: Tree = result(workshop, tmp_path, row.body).tree()
    for path, wanted in row.result.items():
        if wanted is None:
            assert path not in tree, f"{path} is there"
        else:
            wanted.check(path, tree.get(path))


@pytest.mark.parametrize(("body", "words"), ERRORS.values(), ids=ERRORS.keys())
def test_error(workshop: Workshop, body: str, words: str) -> None:
    workshop.write(FILES)
    built = workshop.build(body).refused(words)
    assert ">>> COPY" in built.excerpt
    assert str(workshop.context) not in built.error


NOTES = {
    "octal-mode-of-a-directory": ("COPY --chmod=644 dir /x", "makes directories that nobody but root can enter"),
    "pattern-without-match": ("COPY *.zzz /y/", "`/*.zzz` matches nothing in the build context"),
    "socket": ("COPY sockets /z/", "`/sockets/s` in the build context is a socket: not copied"),
}


@pytest.mark.parametrize(("body", "words"), NOTES.values(), ids=NOTES.keys())
def test_what_may_surprise_is_said(workshop: Workshop, body: str, words: str) -> None:
    workshop.write({**FILES, "sockets/f": ""})
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(workshop.context / "sockets"):
        listener.bind("s")  # the whole path may be too long for an address
        built = workshop.build(body).ok()
    assert [note for note in built.notes if words in note], built.notes


def test_cp35_times_of_what_is_copied_stay_and_those_of_what_is_made_are_now(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop.write(FILES)
    _times(workshop.context)
    started = int(time.time()) - 1
    tree = result(workshop, tmp_path, "COPY a.txt /n/\nCOPY dir /m").tree()
    assert {int(tree[path].mtime) for path in ("n/a.txt", "m", "m/a.txt", "m/sub", "m/sub/c")} == {1111111111}
    assert tree["n"].mtime >= started


def test_cp36_hard_links_stay(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write({"d/one": "1"})
    os.link(workshop.context / "d" / "one", workshop.context / "d" / "two")
    records = result(workshop, tmp_path, "COPY d /d").layers()[-1]
    assert [(path, target) for path, entry, target in records if entry is None] == [("d/two", "d/one")]


def test_hard_links_stay_across_what_a_wildcard_finds_with_parents(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write({"d/one/f": "1", "d/two/": ""})
    os.link(workshop.context / "d/one/f", workshop.context / "d/two/f")
    records = result(workshop, tmp_path, "COPY --parents d/*/f /x/").layers()[-1]
    assert [(path, target) for path, entry, target in records if entry is None] == [("x/d/two/f", "x/d/one/f")]


def test_cp48_a_linked_layer_stays_when_what_is_below_changes(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write(FILES)
    first = result(workshop, tmp_path, "RUN echo 1 > /f\nCOPY --link a.txt /x/", "1.tar")
    second = result(workshop, tmp_path, "RUN echo 2 > /f\nCOPY --link a.txt /x/", "2.tar")
    assert first.diff_ids[-1] == second.diff_ids[-1]
    assert first.diff_ids[-2] != second.diff_ids[-2]


@pytest.mark.parametrize(("own", "left"), [("", {"a.txt", "b.txt"}), ("b.txt\n", {"a.txt"})])
def test_ig18_the_ignore_file_beside_the_dockerfile_replaces_that_of_the_context(
    workshop: Workshop, tmp_path: Path, own: str, left: set[str]
) -> None:
    files: Files = {"a.txt": "A", "b.txt": "B", ".dockerignore": "*.txt\n", "my.Dockerfile.dockerignore": own}
    workshop.write({**files, "my.Dockerfile": "FROM scratch\nCOPY *.txt /c/\n"})
    dockerfile = str(workshop.context / "my.Dockerfile")
    outputs = [["oci", {"dest": str(tmp_path / "out.tar")}]]
    workshop.server.build(workshop.context, None, dockerfile=dockerfile, outputs=outputs).ok()
    tree = ImageArchive(tmp_path / "out.tar").tree()
    assert {path.removeprefix("c/") for path, entry in tree.items() if entry.kind == "file"} == left
