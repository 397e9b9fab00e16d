"""The container tools of the host (buildah, podman, skopeo, umoci), each with storage of its own in a test directory."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.host import need, tool_path
from harness.img import environment, remove_as_mapped_root

__all__ = ["Containers", "skopeo"]

_STORAGE = '[storage]\ndriver = "{driver}"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n'


class Containers:
    """Runs the tools as this user; nothing of the user's own configuration is read or changed."""

    def __init__(self, directory: Path, *, driver: str = "overlay") -> None:
        self._directory = directory
        config = directory / "home/.config/containers"
        config.mkdir(parents=True)
        storage = config / "storage.conf"
        storage.write_text(_STORAGE.format(driver=driver, directory=directory))
        (config / "policy.json").write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        (config / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
        # A short path: where those of its sockets are too long, podman waits for 20 seconds at the end of each container.
        self._runtime = tempfile.mkdtemp(prefix="img-")
        self.environment = environment(
            directory / "home",
            XDG_RUNTIME_DIR=self._runtime,
            TMPDIR=self._runtime,  # else all users of buildah share the directory of its cache mounts
            CONTAINERS_STORAGE_CONF=str(storage),
            CONTAINERS_REGISTRIES_CONF=str(config / "registries.conf"),
            PATH=tool_path(),
        )

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run a tool, insist on success, return its standard output."""
        done = self.attempt(*command, cwd=cwd)
        assert done.returncode == 0, f"$ {' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def attempt(self, *command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a tool and return how it ended."""
        need(str(command[0]))
        return subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, errors="replace", env=self.environment,
            stdin=subprocess.DEVNULL, cwd=cwd or self._directory, check=False, timeout=600,
        )  # fmt: skip

    def take(self, archive: Path, name: str) -> None:
        """Put the image of an OCI archive into the storage as *name*."""
        identity = self.run("buildah", "pull", "-q", f"oci-archive:{archive}").split()[-1]
        self.run("buildah", "tag", identity, name)

    def steps_command(self, context: Path, *arguments: str, name: str = "compared") -> list[str | Path]:
        """Return the command that builds *context* with buildah as the image *name*, a layer for each step.

        In docker's format: an OCI config of buildah's has no SHELL, HEALTHCHECK and ONBUILD. Without a filter of system calls, which no
        step asks about and which takes a tenth of a short one to make.
        """
        return [
            "buildah", "bud", "--isolation", "chroot", "--pull-never", "--layers", "--no-cache", "--format", "docker",
            "--security-opt", "seccomp=unconfined",
            *arguments, "-t", name, context,
        ]  # fmt: skip

    def save_command(self, name: str, dest: Path) -> list[str | Path]:
        """Return the command that writes the image *name* to the directory *dest*, its layers as plain tars."""
        return ["buildah", "push", "-q", "--disable-compression", name, f"dir:{dest}"]

    def attempt_all(self, *commands: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run the buildah *commands* until one fails, in one user namespace: to enter it takes as long as a short command."""
        script = " && ".join(shlex.join(map(str, command)) for command in commands)
        return self.attempt("buildah", "unshare", "sh", "-c", script)

    def build(self, context: Path, dest: Path, *arguments: str) -> Path:
        """Build *context* with buildah and write the result to the directory *dest*, its layers as plain tars."""
        self.run(
            "buildah", "bud", "--isolation", "chroot", "--pull-never", "--layers=false", "--format", "oci",
            *arguments, "-t", "compared", context,
        )  # fmt: skip
        self.run(*self.save_command("compared", dest))
        return dest

    def close(self) -> None:
        """Remove the storage, and the process by which podman keeps its user namespace."""
        if list(Path(self._runtime).glob("libpod/**/pause.pid")):
            self.run("podman", "system", "migrate")
        remove_as_mapped_root(self._directory)
        remove_as_mapped_root(Path(self._runtime))


def skopeo(*arguments: str | Path, **changes: str) -> bytes:
    """Run skopeo, insist on success, return its standard output. Home and runtime directory are its own, or those in *changes*."""
    need("skopeo")
    with tempfile.TemporaryDirectory() as directory:
        own = {**environment(Path(directory)), "XDG_RUNTIME_DIR": directory, **changes}
        done = subprocess.run(
            ["skopeo", "--insecure-policy", *map(str, arguments)], capture_output=True, env=own, check=False
        )
    assert done.returncode == 0, f"$ skopeo {' '.join(map(str, arguments))}\n{done.stderr.decode(errors='replace')}"
    return done.stdout
