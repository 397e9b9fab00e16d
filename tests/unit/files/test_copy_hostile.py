"""Whatever links a root or a source holds: nothing outside is written, and nothing outside is read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img_core.files import fs
from img_core.files.copy import SourceTree, apply, digest, select
from img_core.files.ownership import Owners
from img_core.spec.errors import ImgError
from img_core.spec.graph import Copy, FileAction, MakeDirectory, WriteFile
from img_core.testing.trees import fingerprint

NAMES = st.sampled_from(["a", "b", "c", "a/a", "a/b", "b/c", "a/b/c"])
INSIDE = ["a", "b", "c", ".", "/", "/a", "/b/c"]
# {out} is the absolute path of a directory outside.
OUTSIDE = ["..", "../..", "../../outside", "../../../outside/f", "{out}", "{out}/f", "{out}/new", "/proc/self/cwd"]
TARGETS = st.sampled_from([*INSIDE, *OUTSIDE])
LINKS = st.lists(st.tuples(NAMES, TARGETS), max_size=6)
DESTINATIONS = st.builds(
    lambda *parts: "/" + "/".join(parts), NAMES, st.sampled_from(["", "a", "../b", "new", "../../x"])
)


def build(top: Path, links: list[tuple[str, str]], outside: Path) -> int:
    top.mkdir()
    for name, target in links:
        path = top / name
        if os.path.realpath(path.parent) != os.path.abspath(path.parent):
            continue  # this builder must not fall for its own links
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target.format(out=outside))
        except OSError:
            pass
    for name in ("file", "dir/file", "dir/deeper/file"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("inside")
    return os.open(top, os.O_RDONLY | os.O_DIRECTORY)


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(LINKS, DESTINATIONS, st.sampled_from(["file", "dir", "."]), st.booleans())
def test_nothing_outside_of_the_root_is_written(
    links: list[tuple[str, str]], destination: str, source: str, parents: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        outside = base / "outside"
        context = build(base / "context", [], outside)
        outside.mkdir()
        (outside / "f").write_text("safe")
        root = build(base / "root", links, outside)
        before = fingerprint(str(outside), changes=True), fingerprint(str(base / "context"), changes=True)
        actions: list[FileAction] = [
            Copy(0, (source,), destination, parents=parents, owner="3:4", mode="0711"),
            MakeDirectory(destination + "/work", owner="5"),
            WriteFile("EOF", b"evil", destination, mode="4755"),
        ]
        for action in actions:
            selection = select(SourceTree(context), action) if isinstance(action, Copy) else None
            try:
                apply([action], [selection], root, owners=Owners("single"), now_ns=1)
            except ImgError as err:
                assert str(outside) not in err.message or "{out}" in str(links)
        os.close(root)
        os.close(context)
        assert (fingerprint(str(outside), changes=True), fingerprint(str(base / "context"), changes=True)) == before
        assert sorted(os.listdir(base)) == ["context", "outside", "root"]
        fs.remove_tree(name + "/root")


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    LINKS, st.sampled_from(["a", "b/c", "*", "a/*", "/a/f", "a/../../../outside/f", "b/f", "**/f", "."]), st.booleans()
)
def test_nothing_outside_of_the_source_is_read(links: list[tuple[str, str]], source: str, parents: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        outside = base / "outside"
        outside.mkdir()
        (outside / "f").write_text("secret")
        context = build(base / "context", links, outside)
        (base / "root").mkdir()
        root = os.open(base / "root", os.O_PATH | os.O_DIRECTORY)
        action = Copy(0, (source,), "/x/", parents=parents)
        try:
            selection = select(SourceTree(context), action)
            digest(selection)
            apply([action], [selection], root, owners=Owners("single"))
        except ImgError:
            pass
        os.close(root)
        os.close(context)
        for directory, _, files in os.walk(base / "root"):
            for file in files:
                path = Path(directory, file)
                assert path.is_symlink() or path.read_text() == "inside"
