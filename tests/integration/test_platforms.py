"""Steps and images of other architectures, built as an ordinary user on a host that knows nothing of them."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from harness.containers import Containers
from harness.fixtures import NewState
from harness.host import AS_ROOT, fixture_file, need
from harness.img import Img, write_context

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the other architecture is arm64"),
    pytest.mark.skipif(AS_ROOT, reason="root would have to change the host"),
]

ARM = ("--platform", "linux/arm64")
#: A shell script, a program that it executes, and a pipe.
SCRIPT = "busybox uname -m > /made; busybox echo by $(/bin/busybox id -u) | busybox cat >> /made"
BUSYBOX = f"""
    FROM scratch
    ARG TARGETARCH
    ADD busybox-$TARGETARCH.tar /
    RUN ["/bin/busybox", "sh", "-c", "{SCRIPT}"]
"""


def busybox_context(directory: Path, dockerfile: str = BUSYBOX) -> Path:
    need("qemu-aarch64-static")
    shutil.copy(fixture_file("busybox-arm64.tar"), directory)
    with tarfile.open(directory / "busybox-amd64.tar", "w") as archive:
        archive.add("/bin/busybox", "bin/busybox")
    return write_context(directory, dockerfile)


def host_handlers() -> list[str]:
    try:
        return sorted(os.listdir("/proc/sys/fs/binfmt_misc"))
    except OSError:
        return []


@pytest.mark.parametrize(("executor", "mapping"), [("userns", "full"), ("userns", "single"), ("runc", "full")])
def test_steps_of_another_architecture_run(new_state: NewState, tmp_path: Path, executor: str, mapping: str) -> None:
    if executor == "runc":
        need("runc")
    img = new_state(seeded=False)
    if mapping == "single":
        img = img.with_environment(IMG_IDMAP="single")
    context = tmp_path / "context"
    context.mkdir()
    before = host_handlers()
    output = f"type=local,dest={tmp_path}/out"
    img.run("build", *ARM, "--executor", executor, "-o", output, busybox_context(context)).ok()
    assert (tmp_path / "out/made").read_text() == "aarch64\nby 0\n"
    # No mount point, and nothing of qemu.
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"bin", "dev", "etc", "made", "tmp", "usr", "var"}
    assert host_handlers() == before


def test_debian_of_another_architecture_runs_its_programs(img: Img, tmp_path: Path) -> None:
    need("qemu-aarch64-static")
    context = tmp_path / "context"
    context.mkdir()
    archive = fixture_file("debian-arm64.tar")
    shutil.copy(archive, context)
    script = "dpkg --print-architecture; uname -m; perl -e 'print 6*7, chr 10'; ls / | sort | head -n 1; bash -c 'echo $0' inner"
    dockerfile = (
        f"FROM scratch\nADD {archive.name} /\nRUN {{ {script}; }} > /made\nFROM scratch\nCOPY --from=0 /made /\n"
    )
    output = f"type=local,dest={tmp_path}/out"
    img.run("build", *ARM, "-o", output, write_context(context, dockerfile)).ok()
    assert (tmp_path / "out/made").read_text().split() == ["arm64", "aarch64", "42", "bin", "inner"]


def test_two_platforms_make_one_index(img: Img, tmp_path: Path, containers: Containers) -> None:
    need("skopeo")
    context = tmp_path / "context"
    context.mkdir()
    archive = tmp_path / "both.tar"
    platforms = ("--platform", "linux/amd64,linux/arm64")
    img.run("build", *platforms, "-o", f"type=oci,dest={archive},name=both:1", busybox_context(context)).ok()
    index = json.loads(containers.run("skopeo", "inspect", "--raw", f"oci-archive:{archive}"))
    found = {manifest["platform"]["architecture"] for manifest in index["manifests"]}
    assert found == {"amd64", "arm64"}
    for architecture, machine in (("amd64", "x86_64"), ("arm64", "aarch64")):
        source = ("--override-arch", architecture)
        config = json.loads(containers.run("skopeo", *source, "inspect", "--config", f"oci-archive:{archive}"))
        assert config["architecture"] == architecture
        layout = tmp_path / architecture
        containers.run("skopeo", *source, "copy", "-q", f"oci-archive:{archive}", f"dir:{layout}")
        layers = json.loads((layout / "manifest.json").read_text())["layers"]
        top = layout / layers[-1]["digest"].removeprefix("sha256:")
        with tarfile.open(top) as layer:
            member = layer.extractfile("made")
            assert member is not None
            assert member.read() == f"{machine}\nby 0\n".encode()


def test_missing_emulator_is_an_error_that_names_the_package(img: Img, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("newuidmap", "newgidmap"):
        (programs / name).symlink_to(shutil.which(name) or "/absent")
    done = img.with_environment(PATH=str(programs)).build(busybox_context(context), *ARM)
    if done.returncode == 0:
        pytest.skip("the host itself runs arm64 programs")
    done.refused(7, "`arm64`", "`qemu-aarch64`")
    assert "hint: install the package `qemu-user-static`" in done.stderr


@pytest.mark.parametrize("executor", ["userns", "runc"])
def test_fallback_without_a_list_of_interpreters_runs_single_programs(img: Img, tmp_path: Path, executor: str) -> None:
    """What a kernel before 6.7 can do."""
    if executor == "runc":
        need("runc")
    context = tmp_path / "context"
    context.mkdir()
    dockerfile = """
        FROM scratch
        ADD busybox-arm64.tar /
        COPY --chmod=755 script /script
        RUN ["/bin/busybox", "mkdir", "/made"]
        RUN ["/script", "one", "two words"]
        SHELL ["/bin/busybox", "sh", "-c"]
        RUN echo $0 > /made/shell
    """
    busybox_context(context, dockerfile)
    (context / "script").write_text('#!/bin/busybox sh\necho "$0" "$1" "$2" > /made/arguments\n')
    output = f"type=local,dest={tmp_path}/out"
    direct = img.with_environment(IMG_EMULATION="direct")
    direct.run("build", *ARM, "--executor", executor, "-o", output, context).ok()
    assert (tmp_path / "out/made/arguments").read_text() == "/script one two words\n"
    assert (tmp_path / "out/made/shell").read_text().strip() in ("/bin/busybox", "sh")
    assert list((tmp_path / "out/dev").iterdir()) == []
