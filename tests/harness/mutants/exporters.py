"""Exporters with one thing wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.mutants import Mutant, mutant
from harness.program_exporter import ProgramExporter
from harness.tar_archives import TarSuite
from img_core.files import fs
from img_core.files.output import destination_errors
from img_core.spec.errors import ImgError
from img_core.testing.results import ReadyResult
from img_exporter_tar._tar import TarExporter

__all__ = ["MUTANTS"]


class ProgramSuite(TarSuite):
    options = {"program": "tar"}  # noqa: RUF012 - as in the contract

    def owners(self, dest: Path, result: ReadyResult) -> None:
        """The program knows nothing of the tree's."""

    def attributes(self, dest: Path, result: ReadyResult) -> None:
        """GNU's form has none."""


Export = Callable[[Any, Any, Any], Mapping[str, Any]]


def changed(change: Callable[[Path], object]) -> Export:
    """Return an `export` that changes a copy of the tree first: a bug in what reads it would do the same."""

    def export(self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
        image = result.images[0]
        copy = Path(self.host.run_directory, f"changed-{os.urandom(4).hex()}")
        shutil.copytree(
            image.directory, copy, symlinks=True, ignore=lambda _top, names: [n for n in names if n == "fifo"]
        )
        change(copy)
        for path in (copy, *copy.rglob("*")):
            os.utime(path, (0, 0), follow_symlinks=False)
        return TarExporter.export(
            self, dataclasses.replace(result, images=(dataclasses.replace(image, directory=copy),)), progress
        )

    return export


def relinked(top: Path) -> None:
    (top / "etc/absolute").unlink()
    (top / "etc/absolute").symlink_to("motd")


def opens_early(self: Any, host: Any, options: Mapping[str, Any]) -> None:
    TarExporter.__init__(self, host, options)
    Path(options["dest"]).touch()


def in_place(self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
    with destination_errors(self.options["dest"]), open(self.options["dest"], "wb") as file:
        for number in range(3):
            fs.mutation("write", self.options["dest"])
            file.write(b"%d" % number)
            file.flush()
            progress.status("writing")
    return {}


def silent(_self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
    class Silence:
        def status(self, *_news: Any, **_more: Any) -> None:
            pass

        def check(self) -> None:
            pass

    return TarExporter.export(_self, result, Silence())


def leaves_temporary(self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
    temporary = Path(self.options["dest"] + ".part")
    with destination_errors(str(temporary)):
        fs.mutation("create", str(temporary))
        temporary.write_bytes(b"half of it")
        progress.status("half of it")
        temporary.unlink()
    return TarExporter.export(self, result, progress)


def not_reproducible(self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
    metadata = TarExporter.export(self, result, progress)
    with open(self.options["dest"], "ab") as file:
        file.write(b"%d" % time.monotonic_ns())
    return metadata


def keeps_the_old(self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
    if os.path.exists(self.options["dest"]):
        return {}
    return TarExporter.export(self, result, progress)


def several_half(self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
    with contextlib.suppress(OSError):
        os.unlink(self.options["dest"])
    if len(result.images) > 1:
        from img_core.spec.errors import UsageError

        raise UsageError("one platform only")
    return TarExporter.export(self, result, progress)


class NobodysOwners:
    """A tree that tells no owners."""

    def __init__(self, tree: Any) -> None:
        self.fd = tree.fd

    def owner(self, path: bytes) -> tuple[int, int]:
        return (0, 0)


def owners_forgotten(self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
    class Image:
        def __init__(self, image: Any) -> None:
            self._image, self.platform = image, image.platform

        @contextlib.contextmanager
        def tree(self) -> Iterator[Any]:
            with self._image.tree() as tree:
                yield NobodysOwners(tree)

    class Changed:
        images = [Image(image) for image in result.images]  # noqa: RUF012
        multi_platform, source_date_epoch = result.multi_platform, result.source_date_epoch

    return TarExporter.export(self, Changed(), progress)  # type: ignore[arg-type]  # what it uses


def writes_to_the_name(self: Any, root: int, dest: str, progress: Any) -> None:
    self.call(root, dest)
    progress.status("done")


def survives(self: Any, root: int, output: str) -> None:
    words = [self.options["program"], "--sort=name", "--mtime=@0", "-cf", output, "--", *sorted(os.listdir(root))]
    done = subprocess.run(
        ["sh", "-c", 'sleep 9; exec "$@"', "sh", *words], pass_fds=[root], cwd=f"/proc/self/fd/{root}", check=False
    )
    if done.returncode:
        raise ImgError("failed")


def ignores_failure(self: Any, root: int, output: str) -> None:
    words = [self.options["program"], "--sort=name", "--mtime=@0", "-cf", output, "--", *sorted(os.listdir(root))]
    subprocess.run(words, cwd=f"/proc/self/fd/{root}", stderr=subprocess.DEVNULL, pass_fds=[root], check=False)


def without_holes(top: Path) -> None:
    """Take the beginning of a sparse file for all of it."""
    os.truncate(top / "bin/sparse", 5)


def in_memory(self: Any, result: Any, progress: Any) -> Mapping[str, Any]:
    metadata = TarExporter.export(self, result, progress)
    written = Path(self.options["dest"]).read_bytes()
    fs.replace_file(self.options["dest"], written, 0o644)
    return metadata


def tar(claim: str, **changes: Any) -> Mutant:
    return mutant(TarSuite, TarExporter, claim, **changes)


def program(claim: str, **changes: Any) -> Mutant:
    return mutant(ProgramSuite, ProgramExporter, claim, **changes)


MUTANTS = {
    "drops a file": tar("test_all_files_arrive", export=changed(lambda top: (top / "etc/empty").unlink())),
    "changes a byte": tar("test_all_files_arrive", export=changed(lambda top: (top / "etc/motd").write_bytes(b"hallo\n"))),
    "drops what is behind a hole": tar("test_all_files_arrive", export=changed(without_holes)),
    "drops attributes": tar("test_extended_attributes", export=changed(lambda top: os.removexattr(top / "etc/motd", "user.note"))),
    "has all of it in memory": tar("test_a_large_file", export=in_memory),
    "drops a link": tar("test_links_keep", export=changed(lambda top: (top / "etc/dangling").unlink())),
    "makes links relative": tar("test_links_keep", export=changed(relinked)),
    "forgets owners": tar("test_owners_are", export=owners_forgotten),
    "writes in place": tar("test_failing_disk or test_kill_leaves or test_cancel", export=in_place),
    "leaves a temporary file": tar("test_cancel", export=leaves_temporary),
    "has a clock in it": tar("test_same_result", export=not_reproducible),
    "keeps the old output": tar("test_an_old_output", export=keeps_the_old),
    "removes the old output first": tar("test_kill_at_any or test_cancel or test_failing", export=several_half),
    "says nothing": tar("test_progress_is_told", export=silent),
    "takes any option": tar("test_options_are_declared or test_schema_refuses", schema={"properties": {"dest": {"type": "string"}}}),
    "opens its output when it is made": tar("test_constructor_touches", __init__=opens_early),
    "lets a program write to the name": program("test_kill_at_any or test_what_does_not_fit", write=writes_to_the_name),
    "lets a program go on": program("test_kill_at_any", call=survives),
    "ignores that a program failed": program("test_what_does_not_fit", call=ignores_failure),
}  # fmt: skip
