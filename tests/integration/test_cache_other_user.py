"""A cache that one user wrote, read by another one, whose state directory and home are elsewhere.

As root that is really another user: whoever owns this checkout. As an ordinary user it is one whom the same person is in a user namespace,
with no other ids.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.fixtures import NewState
from harness.host import AS_ROOT
from harness.img import Img, remove_as_mapped_root, write_context
from harness.steps import made
from img_core.testing.registry import DockerRegistry

pytestmark = [pytest.mark.rootless, pytest.mark.registry]
pytest_plugins = ["img_core.testing.fixtures"]

DOCKERFILE = """\
FROM busybox AS tool
RUN mkdir /out && echo tool > /out/f && chown 33:34 /out/f
FROM busybox
COPY --from=tool /out /srv
COPY --chown=7:8 plain /w/plain
RUN echo $(id -u) $(cat /w/plain) > /w/all && chmod 4750 /w/all
"""
_OWNER = Path(__file__).stat()
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class OtherUser:
    """Another user."""

    uid: int = (_OWNER.st_uid or _NOBODY) if AS_ROOT else 4321
    gid: int = (_OWNER.st_gid or _NOBODY) if AS_ROOT else 4321

    def wrap(self, *command: str) -> list[str]:
        """Return the command line that runs *command* there."""
        if AS_ROOT:
            return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", *command]
        return ["unshare", "--user", f"--map-user={self.uid}", f"--map-group={self.gid}", *command]


@pytest.fixture
def shared() -> Iterator[Path]:
    """Give a directory that everybody can read."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    remove_as_mapped_root(directory)


@pytest.fixture
def other(shared: Path, busybox_archive: Path) -> Img:
    """Give the command of the other user, with a state directory that holds ``busybox``."""
    user, home = OtherUser(), shared / "homes" / "of" / "another"
    home.mkdir(parents=True)
    archive = shutil.copy(busybox_archive, home / "busybox.tar")
    if AS_ROOT:
        for path in (home, archive):
            os.chown(path, user.uid, user.gid)
    img = Img(home / "state", home, (("USER", "another"),) if AS_ROOT else (("IMG_IDMAP", "single"),)).on(user)
    img.run("load", "-i", archive, cwd=home).ok()
    return img


def test_another_user_finds_everything_and_gets_the_same_image(
    new_state: NewState, shared: Path, other: Img, registry: DockerRegistry
) -> None:
    context = shared / "context"
    context.mkdir()
    write_context(context, DOCKERFILE, {"plain": "plain\n"})
    name = f"{registry.address}/other-user"
    here = new_state()
    local, remote = f"type=local,dest={shared}/cache,mode=max", f"type=registry,ref={name}:cache,mode=min"
    here.build(context, "--cache-to", local, "--cache-to", remote, tag="built").ok()
    here.build(context, "--cache-to", "type=inline", "--push", tag=f"{name}:image").ok()
    for source in (f"type=local,src={shared}/cache", f"{name}:cache", f"{name}:image"):
        done = other.build(context, "--cache-from", source).ok()
        assert made(done.stderr) == [], source
        assert "cache" not in "".join(line for line in done.stderr.splitlines() if line.startswith(" - ")), done.stderr
        assert other.digest("built") == here.digest("built"), source
        other.run("prune", "-af").ok()
        other.run("load", "-i", other.home / "busybox.tar").ok()
    (context / "plain").write_text("changed\n")
    done = other.build(context, "--cache-from", f"type=local,src={shared}/cache").ok()
    assert [step.partition("] ")[2].split()[0] for step in made(done.stderr)] == ["COPY", "RUN"], done.stderr
    assert here.build(context).ok()
    layers = [img.run("inspect", "--format", "{{.RootFS}}", "built").text for img in (here, other)]
    assert layers[0].split()[:-2] == layers[1].split()[:-2], "what came from the cache is the same"
