"""``cache-mounts`` of ``--cache-to``: what a step left in a cache mount is there on another machine, when a step that mounts it runs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.build_server import BuildServer, Built
from harness.img import write_context
from harness.machines import Machines, places
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.registry import DockerRegistry

pytestmark = pytest.mark.rootless
pytest_plugins = ["img_core.testing.fixtures"]

FILL = "mkdir -p /k/d && echo {0} > /k/f && chmod 640 /k/f && chown 7:8 /k/f && ln -sf f /k/l && ln -f /k/f /k/d/h && echo {0} > /p/f"
MOUNTS = "--mount=type=cache,target=/k,id=npm --mount=type=cache,target=/p,id=pip"
LOOK = "cat /k/f /k/l; stat -c '%a %u:%g %h' /k/f; ls /p | wc -l"


@pytest.fixture
def machines(tmp_path: Path, seed: Path) -> Iterator[Machines]:
    context = tmp_path / "context"
    context.mkdir()
    made = Machines(tmp_path, seed, context)
    yield made
    made.close()


def build(machines: Machines, machine: BuildServer, command: str, mounts: str = MOUNTS, **request: Any) -> Built:
    write_context(machines.context, f"FROM busybox\nRUN {mounts} {command}\n", {})
    return machines.build(machine, **request)


def fill(machines: Machines, to: Any, word: str = "one", **request: Any) -> Built:
    return build(machines, machines.new(), FILL.format(word), cache_to=to, **request).ok()


def look(machines: Machines, source: Any, command: str = LOOK, mounts: str = MOUNTS) -> Built:
    return build(machines, machines.new(), command, mounts, cache_from=source).ok()


RESTORED = "one\none\n640 7:8 2\n0\n"
COUNT = "ls /k | wc -l"


@pytest.mark.parametrize("kind", ["local", "registry"])
def test_the_step_that_runs_again_sees_the_files(
    machines: Machines, registry: DockerRegistry, tmp_path: Path, kind: str
) -> None:
    to, source = places(kind, tmp_path, registry, **{"cache-mounts": "npm;other"})
    assert fill(machines, to).warnings == ()
    found = look(machines, source)
    assert (found.warnings, found.log) == ((), RESTORED)
    assert any("`/k` was filled from cache" in text for text in found.notes), found.notes


def test_a_mount_is_filled_where_it_is_empty_and_wanted(
    machines: Machines, registry: DockerRegistry, tmp_path: Path
) -> None:
    to, source = places("local", tmp_path, registry, **{"cache-mounts": "true"})
    private = "--mount=type=cache,target=/k,id=npm,sharing=private"
    build(machines, machines.new(), "touch /k/f", private, cache_to=to).ok()
    assert blobs(tmp_path) == {}, "what one step has for itself is nobody else's"
    fill(machines, to)
    machine = machines.new()

    def count(mark: str, mounts: str = MOUNTS, **options: str) -> str:
        chosen = [[source[0][0], {**source[0][1], **options}]]
        return build(machines, machine, f"{COUNT}; : '{mark}'", mounts, cache_from=chosen).ok().log

    for option in ("false", "pip", "false;x"):
        assert count(option, **{"cache-mounts": option}) == "0\n"
    assert count("private", private) == "0\n"
    assert count("true") == "3\n"
    build(machines, machine, "rm -r /k/d", cache_from=source).ok()
    assert count("what is there stays") == "2\n"
    assert build(machines, machine, COUNT, cache_from=source, no_cache=True).ok().log == "0\n"


def test_a_cached_build_fetches_nothing_of_a_mount(machines: Machines, faulty_registry: FaultyRegistry) -> None:
    name = f"{faulty_registry.address}/mounts:cache"
    to, source = [["registry", {"ref": name, "cache-mounts": "true"}]], [["registry", {"ref": name}]]
    fill(machines, to)
    manifest = json.loads((faulty_registry.find("/v2/mounts/manifests/cache") or ("", b"{}"))[1])
    mounts = {item["digest"] for item in manifest["layers"] if item["mediaType"].endswith("+zstd")}
    assert len(mounts) == 2
    before = len(faulty_registry.asked())
    found = build(machines, machines.new(), FILL.format("one"), cache_from=source).ok()
    assert found.made == []
    asked = {item.path.rpartition("/")[2] for item in faulty_registry.asked()[before:]}
    assert not asked & mounts
    # Where a step runs, it is what that step mounts.
    look(machines, source, "ls /k", "--mount=type=cache,target=/k,id=npm")
    asked = {item.path.rpartition("/")[2] for item in faulty_registry.asked()[before:]}
    assert len(asked & mounts) == 1


def test_whoever_saves_last_replaces_all_of_a_mount(
    machines: Machines, registry: DockerRegistry, tmp_path: Path
) -> None:
    to, source = places("local", tmp_path, registry, **{"cache-mounts": "npm"})
    fill(machines, to)
    machine = machines.new()
    build(machines, machine, "true", cache_to=to).ok()  # has nothing: that replaces nothing
    assert len(blobs(tmp_path)) == 1
    build(machines, machine, "echo two > /k/other", cache_to=to).ok()
    assert look(machines, source, "ls /k").log == "other\n"


def blobs(directory: Path) -> dict[Path, bytes]:
    every = {path: path.read_bytes() for path in (directory / "cache" / "blobs" / "sha256").iterdir()}
    return {path: content for path, content in every.items() if content[:4] == b"\x28\xb5\x2f\xfd"}


DAMAGES: dict[str, Callable[[Path, bytes], object]] = {
    "deleted": lambda path, _content: path.unlink(),
    "cut": lambda path, content: path.write_bytes(content[:-9]),
    "longer": lambda path, content: path.write_bytes(content + b"x"),
    "flipped": lambda path, content: path.write_bytes(content[:40] + bytes([content[40] ^ 4]) + content[41:]),
    "another": lambda path, content: path.write_bytes(random.Random(1).randbytes(len(content))),
}


def test_a_damaged_mount_is_a_warning_and_begins_empty(
    machines: Machines, registry: DockerRegistry, tmp_path: Path
) -> None:
    to, source = places("local", tmp_path, registry, **{"cache-mounts": "true"})
    mounts = " ".join(f"--mount=type=cache,target=/k/{name}" for name in (*DAMAGES, "whole"))
    build(machines, machines.new(), "for i in /k/*; do echo $i > $i/f; done", mounts, cache_to=to).ok()
    damages = iter(DAMAGES.values())
    for path, content in blobs(tmp_path).items():
        path.chmod(0o600)
        next(damages, lambda _path, _content: None)(path, content)
    found = look(machines, source, "ls /k/*/f | wc -l", mounts)
    assert (found.log, len(found.warnings)) == ("1\n", len(DAMAGES)), str(found)
    assert all("is not used for `cache mount /k/" in text for text in found.warnings), found.warnings


def test_a_mount_that_cannot_be_saved_is_a_warning(
    machines: Machines, registry: DockerRegistry, tmp_path: Path
) -> None:
    to, source = places("local", tmp_path, registry, **{"cache-mounts": "true", "max-size": "20000"})
    mounts = " ".join(f"--mount=type=cache,target=/k/{name}" for name in ("large", "name", "good"))
    command = "head -c 30000 /dev/urandom > /k/large/f; touch /k/name/.wh.f; echo good > /k/good/f"
    done = build(machines, machines.new(), command, mounts, cache_to=to).ok()
    assert sorted(text.partition(": ")[2] for text in done.warnings) == [
        "the cache mount `/k/large` is not saved: it has more than 19.53KiB",
        "the cache mount `/k/name` is not saved: a file in a layer cannot be called `.wh.f`: the name means a deletion",
    ], str(done)
    assert look(machines, source, "cat /k/*/f", mounts).log == "good\n"


def test_a_signed_mount_is_restored_where_its_key_is_trusted(
    machines: Machines, registry: DockerRegistry, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for name in ("ours", "theirs"):
        key = Ed25519PrivateKey.generate()
        secret = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
        (tmp_path / name).write_bytes(secret)
        public = key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(public)
    to, source = places("local", tmp_path, registry, **{"cache-mounts": "npm", "sign": str(tmp_path / "ours")})
    fill(machines, to)
    machine = machines.new()
    for name, log, warnings in (("theirs", "0\n", 1), ("ours", "3\n", 0)):
        trusting = [["local", {**source[0][1], "trust": str(tmp_path / f"{name}.pub")}]]
        found = build(machines, machine, f"{COUNT}; : {name}", cache_from=trusting).ok()
        assert (found.log, len(found.warnings)) == (log, warnings), str(found)
