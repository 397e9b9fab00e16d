"""The contracts as a package: lazy names, digests of the graph, errors."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator

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
    RunMount,
    RunOp,
    SourceContext,
    SourceOp,
    StepError,
    Vertex,
    WriteFile,
    errors,
)


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
    listed = {name for names in img_core.spec._HOMES.values() for name in names}
    assert set(img_core.spec.__all__) == listed
    for home, names in img_core.spec._HOMES.items():
        module = __import__(f"img_core.spec.{home}", fromlist=["__all__"])
        assert set(names) == set(module.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = img_core.spec.nothing_like_this


def test_an_exporter_does_not_pay_for_the_graph() -> None:
    code = "import sys; from img_core.spec import Exporter; sys.exit('img_core.spec.graph' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


BASE = Vertex(SourceOp("docker-image", "docker.io/library/a:latest"))


@pytest.mark.parametrize(
    "changed",
    [
        RunOp(("b",)),
        RunOp(("a",), env=(("A", "1"),)),
        RunOp(("a",), cwd="/x"),
        RunOp(("a",), user="1"),
        RunOp(("a",), network="none"),
        RunOp(("a",), security="insecure"),
        RunOp(("a",), hostname="h"),
        RunOp(("a",), extra_hosts=("h",), extra_host_addresses=("1.2.3.4",)),
        RunOp(("a",), shm_size=1),
        RunOp(("a",), ulimits=(("nofile", 1, 1),)),
        RunOp(("a",), mounts=(RunMount("tmpfs", "/t"),)),
        RunOp(("a",), mounts=(RunMount("secret", "/t", required=True),)),
    ],
)
def test_what_counts_changes_the_digest(changed: RunOp) -> None:
    assert Vertex(changed, (BASE,)).digest != Vertex(RunOp(("a",)), (BASE,)).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RunOp(("a",), proxy_env=(("http_proxy", "x"),)), RunOp(("a",))),
        (
            RunOp(("a",), extra_hosts=("h",), extra_host_addresses=("1.2.3.4",)),
            RunOp(("a",), extra_hosts=("h",), extra_host_addresses=("5.6.7.8",)),
        ),
        (
            RunOp(("a",), mounts=(RunMount("cache", "/c", id="one", sharing="locked"),)),
            RunOp(("a",), mounts=(RunMount("cache", "/c", id="two"),)),
        ),
    ],
)
def test_what_does_not_count_leaves_the_digest(one: RunOp, other: RunOp) -> None:
    assert Vertex(one, (BASE,)).digest == Vertex(other, (BASE,)).digest


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
