"""Builds a case with img and with buildah."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from compare.dockerfiles import Case, write_files
from harness.bases import write_oci_archive
from harness.build_server import BuildServer, Built
from harness.compare import config_differences, document_differences, history_differences, tree_differences
from harness.containers import Containers
from harness.fixtures import load
from harness.host import fixture_file
from harness.oci import ImageArchive, ImageDirectory
from harness.web import Page, WebServer

__all__ = ["Builders"]

BEFORE = "localhost/before"  #: the image that a case may want to have built first


@dataclass(slots=True)
class Builders:
    """Both builders, with the same base images; *directory* is for them all."""

    img: BuildServer
    buildah: Containers
    web: WebServer
    directory: Path
    _bases: set[str] = field(default_factory=set)

    def differences(self, case: Case, directory: Path) -> list[str]:
        """Build *case* with both at once and return a line for each difference."""
        if "FROM debian" in case.text:
            self._provide_debian()
        started = float(int(time.time()))
        self.web.pages.update({path: Page(content, modified) for path, (content, modified) in case.pages.items()})
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(self._build_with_buildah, case, directory / "theirs")
            ours = self._build_with_img(case, directory / "ours")
            theirs = building.result()
        return self._compare(ours, theirs, started)

    def differences_or_refusal(self, case: Case, directory: Path) -> list[str]:
        """Like `differences`, but both may refuse *case*; times of directories and the order of variables, which differ, do not count."""
        started = float(int(time.time()))
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(self._try_buildah, case, directory / "theirs")
            built, archive = self._try_img(case, directory / "ours")
            done = building.result()
        if built.error or done.returncode:
            if built.error and built.code != 125 and done.returncode:
                return []
            return [f"img: {built}", f"buildah: {done.returncode} {done.stderr[-1500:]}"]
        ours, theirs = ImageArchive(archive), ImageDirectory(directory / "theirs/image")
        directories = {path for path, entry in ours.tree().items() if entry.kind == "directory"}
        times = {f"{path}: time is" for path in directories}
        for image in (ours, theirs):
            image.config.get("Env", []).sort()
        return [line for line in self._compare(ours, theirs, started) if line.split(" is ")[0] + " is" not in times]

    @staticmethod
    def _compare(ours: ImageArchive, theirs: ImageDirectory, started: float) -> list[str]:
        return [
            *tree_differences(ours.tree(), theirs.tree(), started=started),
            *config_differences(ours.config, theirs.config),
            *document_differences(ours.document, theirs.document),
            *history_differences(ours.document, theirs.document),
        ]

    def acceptances(self, case: Case, directory: Path) -> list[str]:
        """Return a line for each of the two that does not refuse *case*; an internal error of img is no refusal."""
        ours, _ = self._try_img(case, directory / "ours")
        theirs = self.buildah.attempt_all(*self._commands(case, directory / "theirs"))
        accepts = {"img": ours.code in (0, 125), "buildah": theirs.returncode == 0}
        return [f"{name} accepts it" for name, does in accepts.items() if does]

    def _build_with_img(self, case: Case, directory: Path) -> ImageArchive:
        built, archive = self._try_img(case, directory)
        built.ok()
        return ImageArchive(archive)

    def _try_img(self, case: Case, directory: Path) -> tuple[Built, Path]:
        context, archive = self._context(case, case.text, directory), directory / "image.tar"
        if case.before:
            self.img.build(context, case.text_before, tags=[BEFORE]).ok()
        built = self.img.build(
            context, None, outputs=[["oci", {"dest": str(archive), "compression": "uncompressed"}]], target=case.target,
            build_args=dict(case.build_args), labels=dict(case.labels), secrets=dict(case.secrets), no_cache=True,
        )  # fmt: skip
        return built, archive

    def _build_with_buildah(self, case: Case, directory: Path) -> ImageDirectory:
        done = self._try_buildah(case, directory)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return ImageDirectory(directory / "image")

    def _try_buildah(self, case: Case, directory: Path) -> subprocess.CompletedProcess[str]:
        """Build *case* and write the image to ``image`` in *directory*."""
        save = self.buildah.save_command("compared", directory / "image")
        return self.buildah.attempt_all(*self._commands(case, directory), save)

    def _commands(self, case: Case, directory: Path) -> Iterator[list[str | Path]]:
        """Write the context for buildah and yield the commands that build it."""
        context = self._context(case, case.text_for_buildah, directory)
        if case.before:
            (directory / "before").write_text(case.text_before)
            yield self.buildah.steps_command(context, "-f", str(directory / "before"), name=BEFORE)
        yield self.buildah.steps_command(context, *self._flags(case, directory))

    def _context(self, case: Case, text: str, directory: Path) -> Path:
        """Write the context of a case with its Dockerfile in it."""
        text = text.replace("http://web/", f"{self.web.url}/")
        write_files(directory / "context", {**case.files, "Dockerfile": text})
        return directory / "context"

    def _flags(self, case: Case, directory: Path) -> Iterator[str]:
        for name, value in case.build_args.items():
            yield f"--build-arg={name}={value}"
        for name, value in case.labels.items():
            yield f"--label={name}={value}"
        for name, text in case.secrets.items():
            (directory / name).write_text(text)
            yield f"--secret=id={name},src={directory / name}"
        if case.target:
            yield f"--target={case.target}"

    def _provide_debian(self) -> None:
        """Give both of them the image ``debian``, once."""
        if "debian" in self._bases:
            return
        self._bases.add("debian")
        name = "docker.io/library/debian:latest"
        path = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
        root = fixture_file("debian.tar").read_bytes()
        archive = write_oci_archive(self.directory / "debian.tar", [root], name=name, config=path, compressed=False)
        self.buildah.take(archive, name)
        load(self.img.state, archive, self.directory)
        archive.unlink()
