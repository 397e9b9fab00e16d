"""Wheels, and virtual environments that hold nothing of ours but what a test installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "contrib" / "img-exporter-example"


def build_wheel(source: Path, directory: Path) -> Path:
    """Build the wheel of *source* and return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = directory.glob(f"{source.name.replace('-', '_')}-*.whl" if source != ROOT else "img_builder-*.whl")
    return wheel


def check_content(wheel: Path, package: str, requirement: str) -> None:
    """Insist that *wheel* holds *package* alone, and asks for *requirement*."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith("/METADATA"))
        assert f"Requires-Dist: {requirement}" in archive.read(metadata).decode()
    assert {name.split("/")[0] for name in names} == {package, metadata.split("/")[0]}


@dataclass(frozen=True)
class Environment:
    """A virtual environment. The dependencies come from the interpreter that runs the tests: nothing is downloaded."""

    path: Path
    home: Path
    variables: ClassVar[dict[str, str]] = {}  #: added to the few that commands get

    @classmethod
    def create(cls, directory: Path) -> Environment:
        """Make an environment in *directory* without anything of ours."""
        made = cls(directory / "venv", directory / "home")
        made.home.mkdir()
        venv.create(made.path, with_pip=False, symlinks=True)
        (made.site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return made

    def copy(self, directory: Path) -> Environment:
        """Make the same environment in *directory*: installing img takes pip four seconds, most of them to compile it."""
        made = Environment(directory / "venv", directory / "home")
        made.home.mkdir()
        shutil.copytree(self.path, made.path, symlinks=True)
        for program in (made.path / "bin").iterdir():
            if not program.is_symlink():
                program.write_bytes(program.read_bytes().replace(os.fsencode(self.path), os.fsencode(made.path)))
        return made

    @property
    def site_packages(self) -> Path:
        """The directory that wheels are installed into."""
        return next((self.path / "lib").glob("python3*/site-packages"))

    def pip(self, *words: str) -> None:
        """Run pip without network and dependencies."""
        # That of the tests, which the environment sees: giving it one of its own takes ten seconds, and `--python` starts it twice.
        command = [str(self.path / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
        self._run(command, check=True)

    def install(self, wheel: Path) -> None:
        """Install one wheel."""
        self.pip("install", "--no-index", "--no-deps", str(wheel))

    def img(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the installed command ``img``."""
        return self.program("img", *words)

    def program(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run an installed command."""
        return self._run([str(self.path / "bin" / name), *words], check=False)

    def statuses(self, *words: str) -> dict[str, str]:
        """Return the status of each plugin by ``kind:name``."""
        done = self.img("plugins", "ls", "--format", "{{.kind}}:{{.name}} {{.status}}", *words)
        assert done.returncode == 0, done.stderr
        return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())  # type: ignore[misc]

    def _run(self, command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.home), "PYTHONDONTWRITEBYTECODE": "1",
            **self.variables,
        }  # fmt: skip
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, check=check, cwd=self.home, timeout=600
        )
