"""Every command in the documents runs as printed, in the order of its page, with the plugins of one file that the page prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.documents import commands_of, plugins_of
from harness.fixtures import NewState
from harness.host import need
from harness.img import give_to_us, write_context
from img_core.spec.kinds import KINDS
from img_core.testing.registry import DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = [pytest.mark.rootless, pytest.mark.registry]

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT) for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])

#: How commands begin that cannot run in here, or prove nothing in here; and why.
ELSEWHERE = {
    "python3 -m venv": "needs a package index; a fresh clone is set up by hand before a release",
    ".venv/bin/pip": "the same",
    ".venv/bin/nox": "the same",
    ". .venv/bin/activate": "the tests have an environment",
    "nox --no-venv": "runs these tests",
    "sudo": "changes the host",
    "kubectl": "needs a cluster",
    "img build --engine": "needs other machines; tried in test_engines.py and with the engines themselves",
    "img engines ls dask": "needs a scheduler",
    "dask scheduler": "needs dask",
    "for host in": "needs other machines",
    "ssh -f": "needs other machines",
    "pip install img-builder img-engine": "needs a package index",
    "pip install --user": "the same",
    "img cache prune /shared": "a directory of other people's machines",
    "srun": "needs Slurm",
    "docker run": "needs docker, and an image of the reader's",
    "img build --cache-from type=local,src=/shared": "a directory of other people's machines",
    "pip install 'img-builder": "needs a package index; the tests have what it brings",
    "podman run": "needs the image of the command before it",
    "apptainer": "is not packaged for Debian",
    "export XDG_DATA_HOME=/scratch": "a directory of other people's machines",
    "python -m hatchling": "needs a package index; the wheels are built in tests/packaging",
    "img build -t img -f contrib/container": "needs Docker Hub; tried in test_containers.py with another base",
    "img build -t img:restricted": "needs Docker Hub; tried in test_unmodified_swap.py with another base",
    "pip install .": "stands for a package of the reader's; tests/packaging installs the example",
    "img plugins info exporter:example": "the same",
    "img plugins check exporter:example": "the same",
    "img build -o type=example": "the same",
    "pip install -e": "tests/packaging/test_new_plugin.py does it, for each kind",
    "img plugins info exporter:sizes": "the same",
    "img plugins check exporter:sizes": "the same",
    "img build -o type=sizes": "the same",
    "pip download": "needs a package index",
    "pip install --no-index": "the same",
    "img plugins install": "tests/packaging/test_plugins_install.py does it",
    "cd plugins/img-runc-embedded": "tests/packaging builds that wheel",
    "export IMG_RUNC": "the same",
    "python -m build": "the same",
    "pip install img-kaniko": "needs a package index; its tests run the installed command",
    "executor": "the same",
    "img -s /cache": "a directory of the reader's machines; tests/integration/test_image_layouts.py has one",
    "img build --on-error=shell": "needs a terminal; tests/integration/test_debug.py has one",
    "img build --platform linux/amd64,linux/arm64": "needs an emulator that is installed as root",
}


def _runs_here(command: str) -> bool:
    return not command.startswith(tuple(ELSEWHERE))


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(_runs_here, commands_of(ROOT / page)))], ids=str)
def test_the_commands_of_a_page_run(page: Path, new_state: NewState, registry: DockerRegistry, tmp_path: Path) -> None:
    img = new_state("home/.local/share/img")
    img.run("tag", "busybox", "app:1").ok()
    need("bash", *(["jq"] if "| jq " in (ROOT / page).read_text() else []))
    _configure(img.home, registry)
    _install(img.home, plugins_of(ROOT / page))
    programs = _program(img.home / "img/bin")
    path = f"{programs}:{Path(sys.executable).parent}:{img.environment()['PATH']}"
    commands = filter(_runs_here, commands_of(ROOT / page))
    script = "".join(f"echo '>>> {number}' >&2\n{command}\n" for number, command in enumerate(commands, 1))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        cwd=_checkout(tmp_path / "checkout"), env={**img.environment(), "PATH": path}, check=False,
    )  # fmt: skip
    give_to_us(tmp_path)
    assert done.returncode == 0, f"{script}\n--- stdout\n{done.stdout[-2000:]}\n--- stderr\n{done.stderr[-4000:]}"


def _program(directory: Path) -> Path:
    """Write the program ``img`` into *directory*; return that."""
    directory.mkdir(parents=True)
    (directory / "img").write_text(f'#!/bin/sh\nexec {sys.executable} -m img_core "$@"\n')
    (directory / "img").chmod(0o755)
    return directory


def _checkout(directory: Path) -> Path:
    """Return a directory that looks like a checkout and is a build context, too."""
    directory.mkdir()
    shutil.copytree(ROOT / "contrib", directory / "contrib", ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "plugins/img_lib_containers").mkdir(parents=True)
    return write_context(directory, "FROM busybox\nRUN echo built > /built\n", {".dockerignore": "contrib\n"})


def _configure(home: Path, registry: DockerRegistry) -> None:
    """Let the name that stands for the reader's registry mean one that is here."""
    path = home / ".config/containers/registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[[registry]]\nprefix = "registry.example"\nlocation = "{registry.address}"\ninsecure = true\n')


def _install(home: Path, plugins: Mapping[str, str]) -> None:
    """Put plugins where those of a user are."""
    directory = home / ".config/img/plugins"
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in plugins.items():
        (directory / name).write_text(text)


def test_a_plugin_on_a_page_is_checked_there() -> None:
    """There is one of each kind, and the page runs its suite by the command that it prints."""
    kinds = set()
    for page in PAGES:
        commands = [command for command in commands_of(ROOT / page) if _runs_here(command)]
        for file in plugins_of(ROOT / page):
            kind, _, name = file.removesuffix(".py").partition("-")
            kinds.add(kind)
            start = f"img plugins check {kind}:{name}"
            assert [it for it in commands if it == start or it.startswith((f"{start} ", f"{start},"))], (
                f"{page}: {file}"
            )
    assert kinds == set(KINDS)


def test_no_exception_is_left_over() -> None:
    """What is not tried is really there, and said to be so."""
    printed = [command for page in PAGES for command in commands_of(ROOT / page)]
    assert not [start for start in ELSEWHERE if not any(command.startswith(start) for command in printed)]


def test_commands_are_read_with_their_here_documents_and_continuations(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `img ls -q`, not `img rm NAME -f`.\n```console\n$ cat > x <<'END'\n$ a\nEND\nprinted\n$ b \\\n    c\n```\n`img du`\n"
    )
    assert list(commands_of(page)) == ["img ls -q", "cat > x <<'END'\n$ a\nEND", "b \\\n    c"]
