"""A directory of files and an img command in a container as engines start it by default, see `harness.situations.Unmodified`."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import prepared
from harness.host import AS_ROOT, need
from harness.img import COMMAND, Finished, Img, environment, remove_as_mapped_root
from harness.situations import UNMODIFIED, Unmodified
from harness.warm_commands import run

__all__ = ["Box"]

_ROOT = Path(__file__).parents[2]
#: of the root of a container with `hostUsers: false`, when real root starts it (`harness.engine`)
_OWNER = 200_000


@dataclass(frozen=True, slots=True)
class Box:
    """The container: *layer* is its writable layer, *kind* a key of `UNMODIFIED`. Files in it are named by absolute paths."""

    layer: Path
    kind: str
    image: Path | None = None  #: its root file system, if it is not to have the programs of this machine

    @classmethod
    def make(cls, layer: Path, kind: str, archive: Path, image: Path | None = None) -> Box:
        """Return a new one whose state directory holds the image of *archive*."""
        need("runc")
        box = cls(layer, kind, image)
        box.put(f"{box.home}/in/base.tar", archive.read_bytes())
        box.img().run("load", "-q", "-i", f"{box.home}/in/base.tar").ok()
        return box

    @property
    def home(self) -> str:
        """The directory that holds all of ours, state included; empty for the root directory."""
        return str(prepared.HOME) if self._has_own_img or UNMODIFIED[self.kind].get("prepared") else ""

    @property
    def _has_own_img(self) -> bool:
        """Tell whether it has an image of img, made by `contrib/container/Containerfile.swap`."""
        return self.image is not None and (self.image / ".img").exists()

    @property
    def user(self) -> int:
        """The number of its user, as seen from here."""
        return int(str(UNMODIFIED[self.kind].get("user", 0))) + self._root

    @property
    def _root(self) -> int:
        return _OWNER if AS_ROOT and "host-users-false" in self.kind else 0

    def img(self, *writable: Path) -> Img:
        """Return the command in it; *writable* are directories of this machine that it sees under their own names, and may change."""
        visible = dict.fromkeys(str(path) for path in (_ROOT, Path(sys.prefix), Path(sys.base_prefix)))
        shown = tuple(path for path in visible if path != "/usr" and self.image is None)
        image = str(self.image or "")
        situation = Unmodified(str(self.layer), visible=shown, writable=tuple(map(str, writable)), image=image)
        situation = situation.but(**UNMODIFIED[self.kind])
        if self._has_own_img:
            situation = situation.but(prepared="")
            return Img(Path(f"{self.home}/data/img"), self._user_home, situation=situation, program=("/.img/bin/img",))
        state = Path(f"{self.home}/state")
        if self.image is not None:  # whose programs are the only ones there
            return Img(state, self._user_home, situation=situation, program=("img",))
        return Img(state, self._user_home, situation=situation)

    @property
    def _user_home(self) -> Path:
        return Path(self.home, "home") if self.home else Path("/root")

    def environment(self) -> dict[str, str]:
        """Return the environment of a command in it."""
        return environment(self._user_home)

    def shell(self, script: str, *, timeout: float = 120) -> Finished:
        """Run *script* in one container, in which ``img`` is the command with this box's state directory."""
        program = prepared.command_in([*COMMAND]) if self.home else COMMAND
        state = self.img().state if self.writes_state else "/tmp/state"
        defined = f'img() {{ {" ".join(program)} -s {state} "$@"; }}\n{script}'
        command = self.img().situation.wrap("sh", "-ec", defined)  # type: ignore[union-attr]  # it has one
        done = run(command, self.environment(), timeout=timeout)
        return Finished(("…",), done.returncode, done.stdout, done.stderr.decode(errors="backslashreplace"))

    @property
    def writes_state(self) -> bool:
        """Tell whether its user may write its state directory."""
        return bool(self.home) or not UNMODIFIED[self.kind].get("user")

    def put(self, name: str, content: str | bytes) -> None:
        """Write a file as its user would, if we are root, or as its root; between two commands only."""
        upper, path = self.layer / "upper", self.inside(name)
        if not upper.exists():
            self.img().run("version").ok()  # whoever starts it first makes its root directory
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if AS_ROOT and self.user:
            ours = self.inside(self.home)
            for each in (path, *path.parents):
                if ours in each.parents:
                    os.chown(each, self.user, self.user)
                elif each.is_relative_to(upper):
                    os.chown(each, self._root, self._root)
        elif self.user:  # as an ordinary user we can give nothing away, but let everybody write
            for directory in path.parents:
                if self.inside(self.home) in directory.parents and directory.stat().st_uid == os.getuid():
                    directory.chmod(0o777)

    def give(self, directory: Path) -> None:
        """Make its user the owner of *directory* and all that is in it."""
        if AS_ROOT and self.user:
            for path in (directory, *directory.rglob("*")):
                mode = path.lstat().st_mode
                os.chown(path, self.user, self.user, follow_symlinks=False)
                if not path.is_symlink():
                    path.chmod(stat.S_IMODE(mode))  # a new owner takes bits away
        elif self.user:
            directory.chmod(0o777)

    def seen(self, path: Path) -> Path:
        """Return where *path*, in one of the writable directories of this machine, is in it."""
        return Path(prepared.place_of(str(path))) if UNMODIFIED[self.kind].get("prepared") else path

    def inside(self, name: str) -> Path:
        """Return where a file of its writable layer lies here."""
        return self.layer / "upper" / name.lstrip("/")

    def remove(self) -> None:
        """Remove all of it."""
        if AS_ROOT:
            shutil.rmtree(self.layer, ignore_errors=True)
        else:
            remove_as_mapped_root(self.layer)
