"""A directory of files and an img command in a container as engines start it by default, see `harness.situations.Unmodified`."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.host import AS_ROOT, need
from harness.img import Img, environment, remove_as_mapped_root
from harness.situations import UNMODIFIED, Unmodified

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
    def make(cls, layer: Path, kind: str, archive: Path) -> Box:
        """Return a new one whose state directory holds the image of *archive*."""
        need("runc")
        box = cls(layer, kind)
        box.put("/in/base.tar", archive.read_bytes())
        box.img().run("load", "-q", "-i", "/in/base.tar").ok()
        return box

    def img(self, *writable: Path) -> Img:
        """Return the command in it; *writable* are directories of this machine that it sees under their own names, and may change."""
        visible = dict.fromkeys(str(path) for path in (_ROOT, Path(sys.prefix), Path(sys.base_prefix)))
        shown = tuple(path for path in visible if path != "/usr" and self.image is None)
        image = str(self.image or "")
        situation = Unmodified(str(self.layer), visible=shown, writable=tuple(map(str, writable)), image=image)
        situation = situation.but(**UNMODIFIED[self.kind])
        return Img(Path("/state"), Path("/root"), situation=situation)

    def environment(self) -> dict[str, str]:
        """Return the environment of a command in it."""
        return environment(Path("/root"))

    def put(self, name: str, content: str | bytes) -> None:
        """Write a file as its root would; between two commands only."""
        upper, path = self.layer / "upper", self.inside(name)
        owner = _OWNER if AS_ROOT and "host-users-false" in self.kind else 0
        missing = [parent for parent in (path, *path.parents) if upper in (parent, *parent.parents)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if owner:
            for each in missing:
                os.chown(each, owner, owner)

    def give(self, directory: Path) -> None:
        """Make its root the owner of *directory* and all that is in it."""
        if AS_ROOT and "host-users-false" in self.kind:
            for path in (directory, *directory.rglob("*")):
                mode = path.lstat().st_mode
                os.chown(path, _OWNER, _OWNER, follow_symlinks=False)
                if not path.is_symlink():
                    path.chmod(stat.S_IMODE(mode))  # a new owner takes bits away

    def inside(self, name: str) -> Path:
        """Return where a file of its writable layer lies here."""
        return self.layer / "upper" / name.lstrip("/")

    def remove(self) -> None:
        """Remove all of it."""
        if AS_ROOT:
            shutil.rmtree(self.layer, ignore_errors=True)
        else:
            remove_as_mapped_root(self.layer)
