"""The contracts as a package: lazy names, digests of the graph, errors."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

import img_core.spec
from img_core.spec import (
    DockerfileError,
    FileOp,
    Host,
    ImageSource,
    ImgError,
    MakeDirectory,
    PinnedImage,
    Platform,
    RunMount,
    RunOp,
    SourceContext,
    SourceOp,
    StepError,
    Vertex,
    WriteFile,
    errors,
)
from img_core.spec.graph import canonical_value


class Chunks(ImageSource):
    """Gives a blob in chunks of three bytes, and knows nothing of parts."""

    name = "chunks"

    def pin(self, op: SourceOp, platform: object) -> PinnedImage:
        raise NotImplementedError

    def blob(self, pinned: object, descriptor: object) -> Iterator[bytes]:
        yield from (b"abc", b"def", b"gh")


@pytest.mark.parametrize("start", range(10))
def test_a_source_that_knows_no_parts_still_gives_the_end_of_a_blob(start: int) -> None:
    source = Chunks(SourceContext(Host("none", "", "")))
    assert b"".join(source.blob_from(None, None, start)) == b"abcdefgh"[start:]  # type: ignore[arg-type]  # not looked at


def test_every_name_is_exported_and_found() -> None:
    for name in img_core.spec.__all__:
        assert getattr(img_core.spec, name) is not None


def test_the_list_of_names_is_that_of_the_modules() -> None:
    for home, names in img_core.spec._HOMES.items():
        module = __import__(f"img_core.spec.{home}", fromlist=["__all__"])
        assert names.split() == list(module.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = img_core.spec.nothing_like_this


def test_an_exporter_does_not_pay_for_the_graph() -> None:
    code = "import sys; from img_core.spec import Exporter; sys.exit('img_core.spec.graph' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


BASE = Vertex(SourceOp("docker-image", "docker.io/library/a:latest"))


def _mounting(**fields: Any) -> RunOp:
    return RunOp(("a",), mounts=(RunMount(target="/t", **fields),))


#: What is in a step's identity and in its cache key.
IN_BOTH = {
    "arguments": (RunOp(("a",)), RunOp(("b",))),
    "environment": (RunOp(("a",)), RunOp(("a",), env=(("A", "1"),))),
    "directory": (RunOp(("a",)), RunOp(("a",), cwd="/x")),
    "user": (RunOp(("a",)), RunOp(("a",), user="1")),
    "network": (RunOp(("a",)), RunOp(("a",), network="none")),
    "security": (RunOp(("a",)), RunOp(("a",), security="insecure")),
    "hostname": (RunOp(("a",)), RunOp(("a",), hostname="h")),
    "hosts": (RunOp(("a",)), RunOp(("a",), extra_hosts=("h",), extra_host_addresses=("1.2.3.4",))),
    "shared memory": (RunOp(("a",)), RunOp(("a",), shm_size=1)),
    "limits": (RunOp(("a",)), RunOp(("a",), ulimits=(("nofile", 1, 1),))),
    "mount": (RunOp(("a",)), _mounting(type="tmpfs")),
    "mount target": (_mounting(type="tmpfs"), RunOp(("a",), mounts=(RunMount("tmpfs", "/u"),))),
    "size of a tmpfs": (_mounting(type="tmpfs"), _mounting(type="tmpfs", size=1)),
    "readonly": (_mounting(type="cache"), _mounting(type="cache", readonly=False)),
    "owner of a cache": (_mounting(type="cache"), _mounting(type="cache", uid=1)),
    "group of a cache": (_mounting(type="cache"), _mounting(type="cache", gid=1)),
    "mode of a cache": (_mounting(type="cache"), _mounting(type="cache", mode=0o700)),
    "required secret": (_mounting(type="secret"), _mounting(type="secret", required=True)),
    "secret": (_mounting(type="secret", id="dev"), _mounting(type="secret", id="prod")),
    "secret in the environment": (_mounting(type="secret", env="A"), _mounting(type="secret", env="B")),
    "agent": (_mounting(type="ssh", id="dev"), _mounting(type="ssh", id="prod")),
    "option of a mount": (_mounting(type="tmpfs"), _mounting(type="tmpfs", options=(("a", "b"),))),
    "option of a step": (RunOp(("a",)), RunOp(("a",), options=(("a", "b"),))),
    "value of an option": (RunOp(("a",), options=(("a", "c"),)), RunOp(("a",), options=(("a", "b"),))),
}
#: What is only in the identity: a step that differs is another one, but finds the record.
IN_IDENTITY = {
    "proxy": (RunOp(("a",)), RunOp(("a",), proxy_env=(("http_proxy", "x"),))),
    "address": (
        RunOp(("a",), extra_hosts=("h",), extra_host_addresses=("1.2.3.4",)),
        RunOp(("a",), extra_hosts=("h",), extra_host_addresses=("5.6.7.8",)),
    ),
    "cache": (_mounting(type="cache", id="one"), _mounting(type="cache", id="two")),
    "sharing": (_mounting(type="cache"), _mounting(type="cache", sharing="locked")),
}


@pytest.mark.parametrize(("one", "other"), [*IN_BOTH.values(), *IN_IDENTITY.values()])
def test_whatever_can_affect_a_step_is_in_its_identity(one: RunOp, other: RunOp) -> None:
    assert Vertex(one, (BASE,)).digest != Vertex(other, (BASE,)).digest


@pytest.mark.parametrize(("one", "other"), IN_BOTH.values(), ids=IN_BOTH)
def test_what_counts_changes_the_key(one: RunOp, other: RunOp) -> None:
    assert canonical_value(one, key=True) != canonical_value(other, key=True)


@pytest.mark.parametrize(("one", "other"), IN_IDENTITY.values(), ids=IN_IDENTITY)
def test_what_does_not_count_leaves_the_key(one: RunOp, other: RunOp) -> None:
    assert canonical_value(one, key=True) == canonical_value(other, key=True)


def test_what_came_later_leaves_alone_what_was_recorded_before() -> None:
    mounts = (RunMount("cache", "/c", id="x"), RunMount("secret", "/s", id="y", mode=0o400))
    step = Vertex(RunOp(("true",), (("A", "1"),), mounts=mounts, proxy_env=(("http_proxy", "p"),)))
    assert step.digest == "sha256:9f0096a85952eb5b3bd9548d5cebe7403503d72f690c3646d7b4edf6414cb9da"


def test_every_field_of_a_mount_and_of_a_run_is_decided_on() -> None:
    known = {item.name for item in (*fields(RunOp), *fields(RunMount)) if "in_key" in item.metadata}
    assert known == {"id", "sharing", "extra_host_addresses", "proxy_env"}


def test_platform_and_a_run_without_cache_are_in_the_identity() -> None:
    plain = Vertex(RunOp(("a",)), (BASE,))
    assert Vertex(RunOp(("a",)), (BASE,), use_cache=False).digest != plain.digest
    platforms = [Platform("windows", "amd64", os_version=version) for version in ("", "10", "11")]
    assert len({Vertex(RunOp(("a",)), (BASE,), item).digest for item in (None, *platforms)}) == 4
    assert Vertex(BASE.op, use_cache=False).digest == BASE.digest, "a source has no record"


def test_names_and_places_do_not_count() -> None:
    assert Vertex(RunOp(("a",)), (BASE,), name="[1/2] RUN a").digest == Vertex(RunOp(("a",)), (BASE,)).digest


def test_operations_of_different_kinds_never_share_a_digest() -> None:
    directory = FileOp((MakeDirectory("/a"),))
    file = FileOp((WriteFile("/a", b"", "/a"),))
    assert Vertex(directory, (BASE,)).digest != Vertex(file, (BASE,)).digest
    assert Vertex(FileOp((), has_base=False)).digest != Vertex(FileOp(())).digest


def test_errors_have_the_promised_exit_codes() -> None:
    codes = {name: getattr(errors, name)("m").exit_code for name in errors.__all__}
    assert codes["UsageError"] == 2
    assert codes["DockerfileError"] == 3
    assert codes["StepError"] == 4
    assert codes["CredentialsError"] == 5
    assert codes["RegistryError"] == 6
    assert codes["Unsupported"] == codes["HostError"] == 7
    assert codes["Canceled"] == 130
    assert {
        codes[name]
        for name in ("ImgError", "NotFoundError", "StateError", "IntegrityError", "ArchiveError", "PluginError")
    } == {1}


@pytest.mark.parametrize(
    "error", [ImgError("m", hint="h"), DockerfileError("m", line=3, excerpt="e"), StepError("m", status=7)]
)
def test_errors_survive_the_way_to_another_process(error: ImgError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
