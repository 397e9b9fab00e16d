"""Builds in containers as engines start them by default: no namespace, no mount, the usual filter of system calls.

Under runc (`harness.engine`). As root the containers are those of `docker run` and of `hostUsers: false`; what an ordinary user can
start has the rights of the latter.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import AS_ROOT
from harness.oci import ImageArchive
from harness.unmodified import Box

#: as an ordinary user both are the same
KINDS = ["root", "host-users-false"] if AS_ROOT else ["root"]


@pytest.fixture(scope="module", params=KINDS)
def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path
) -> Iterator[Box]:
    made = Box.make(tmp_path_factory.mktemp("box") / "layer", request.param, busybox_archive)
    yield made
    made.remove()


def test_the_container_refuses_what_engines_refuse(box: Box) -> None:
    tried = {
        "unshare --user true": False,
        "unshare --mount true": False,
        "mount -t tmpfs none /mnt": False,
        "chroot / true": True,
        "touch /file && chown 33:34 /file": True,
        "cat /proc/kcore | head -c 1 | grep -q .": False,
    }
    script = "".join(f"if {command}; then echo 1; else echo 0; fi\n" for command in tried)
    done = subprocess.run(
        box.img().situation.wrap("sh", "-c", script),  # type: ignore[union-attr]  # it has one
        stdout=subprocess.PIPE, text=True, env=box.environment(), check=False, timeout=60,
    )  # fmt: skip
    assert dict(zip(tried, done.stdout.split(), strict=True)) == {
        command: "1" if works else "0" for command, works in tried.items()
    }


def test_files_are_copied_with_their_owners(box: Box) -> None:
    box.put("/copied/Dockerfile", "FROM busybox AS one\nCOPY --chown=33:34 --chmod=4750 file /srv/file\n")
    box.put("/copied/file", "content")
    box.img().build(Path("/copied"), "-o", "type=oci,dest=/copied/out.tar", tag="").ok()
    entry = ImageArchive(box.inside("/copied/out.tar")).tree()["srv/file"]
    assert (entry.uid, entry.gid, entry.mode & 0o7777) == (33, 34, 0o4750)


def test_the_doctor_names_the_situation(box: Box) -> None:
    done = box.img().run("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.text)["findings"]}
    assert "root of a container that can make no namespace" in findings["user ids"]["text"]
    for name in ("userns", "runc"):
        assert "needs namespaces of its own" in findings[f"executor {name}"]["text"]
    assert "works" in findings["snapshotter native"]["text"]
