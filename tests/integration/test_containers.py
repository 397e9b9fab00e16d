"""img inside of containers: the manifests for Kubernetes allow what they must, and the image of img builds images under podman."""

from __future__ import annotations

import importlib.metadata
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.containers import Containers
from harness.host import AS_ROOT, fixture_file, need
from harness.img import COMMAND, Img, environment, remove_as_mapped_root, write_context
from harness.situations import POD, VOLUME, Situation
from img_core.linux.sandbox import DEFAULT_CAPABILITIES

pytestmark = [pytest.mark.rootless, pytest.mark.skipif(AS_ROOT, reason="root needs none of this")]

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "contrib/kubernetes"
CONTAINER = ROOT / "contrib/container"
PROFILE = ROOT / "contrib/seccomp/builder.json"

DOCKERFILE = """\
FROM busybox AS build
RUN mkdir /out && echo program > /out/program && chmod 755 /out/program && chown 33:34 /out/program
FROM busybox
COPY --from=build /out /srv/out
COPY --chown=www Dockerfile /srv/file
RUN rm /etc/motd && test -r /proc/self/status
"""
#: of Debian, to run img there
NOT_NEEDED = re.compile(
    r"\./(usr/(lib/gcc|include|share/(doc|locale|man|info|i18n)|lib/.*\.a$)|var/(cache|lib/apt)|dev)/."
)
OWNERS = {"srv/out/program": (33, 34), "srv/file": (33, 34), "etc/passwd": (0, 0)}


def owners_of(archive: bytes) -> dict[str, tuple[int, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {member.name.removeprefix("./"): (member.uid, member.gid) for member in tar}
    assert "etc/motd" not in found
    return {path: found[path] for path in OWNERS}


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def pod_of(name: str) -> dict[str, Any]:  # Any: YAML
    yaml = pytest.importorskip("yaml", reason="needs pyyaml, one of the development dependencies")
    job: dict[str, Any] = yaml.safe_load((MANIFESTS / name).read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def situation_of(pod: dict[str, Any]) -> Situation:
    """Return what a node makes of the security settings."""
    (container,) = pod["containers"]
    settings = {**pod["securityContext"], **container["securityContext"]}
    changes = settings.get("capabilities", {})
    kept = () if changes.get("drop") == ["ALL"] else DEFAULT_CAPABILITIES
    return POD.but(
        user="root" if settings["runAsUser"] == 0 else "ordinary",
        capabilities=(*kept, *changes.get("add", ())),
        no_new_privileges=not settings["allowPrivilegeEscalation"],
        masked_proc=settings.get("procMount", "Default") == "Default",
    )


@pytest.mark.parametrize("name", sorted(path.name for path in MANIFESTS.glob("*.yaml")))
def test_a_manifest_is_unprivileged_and_names_what_it_mounts(name: str) -> None:
    pod = pod_of(name)
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "Unconfined"}
    assert pod["securityContext"]["appArmorProfile"] == {"type": "Unconfined"}
    assert (pod["securityContext"]["runAsUser"] == 0) is (pod.get("hostUsers") is False)
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        assert key not in pod
    (container,) = pod["containers"]
    settings = container["securityContext"]
    assert settings["privileged"] is False
    assert settings["capabilities"]["drop"] == ["ALL"]
    assert "SYS_ADMIN" not in settings["capabilities"].get("add", ())
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert not any("hostPath" in volume for volume in volumes.values())
    state = next(mount for mount in container["volumeMounts"] if mount["name"] == "state")
    # An emptyDir has mode 0777, so the state is a directory in it.
    assert {"name": "XDG_DATA_HOME", "value": state["mountPath"]} in container["env"]


@pytest.mark.parametrize(
    ("name", "ids"),
    [("job.yaml", "sub-ids"), ("job-user-namespace.yaml", "the pod's"), ("job-one-id.yaml", "one")],
)
def test_what_a_manifest_allows_is_enough(busybox_archive: Path, tmp_path: Path, name: str, ids: str) -> None:
    write_context(tmp_path / "volume", DOCKERFILE, {"base.tar": busybox_archive.read_bytes()})
    (tmp_path / "home").mkdir()
    situation = situation_of(pod_of(name)).but(volume=str(tmp_path / "volume"))
    img = f"{' '.join(COMMAND)} -s {VOLUME}/state"
    script = (
        f"cd {VOLUME} && export HOME=$PWD && {img} load -q -i base.tar >&2 && {img} doctor >&2 && {img} build -o - ."
    )
    done = subprocess.run(
        situation.wrap("sh", "-c", script),
        capture_output=True,
        env=environment(tmp_path / "home"),
        check=False,
        timeout=120,
    )
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert owners_of(done.stdout) == OWNERS
    assert ("only one id is mapped" in said) is (ids == "one"), said


# --- the image of img -------------------------------------------------------------------------------------------------


def write_wheels(directory: Path) -> Path:
    """Write img and all it needs as wheels: those of the interpreter that runs the tests, nothing is downloaded."""
    requirements = pytest.importorskip("packaging.requirements")
    directory.mkdir()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (own,) = directory.glob("img_builder-*.whl")
    with zipfile.ZipFile(own) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        lines = wheel.read(metadata).decode().splitlines()
    todo = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    done: set[str] = set()
    while todo:
        requirement = requirements.Requirement(todo.pop())
        name = re.sub(r"[-_.]+", "_", requirement.name).lower()
        if name in done or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        done.add(name)
        todo += pack(importlib.metadata.distribution(requirement.name), name, directory)
    return directory


def pack(distribution: importlib.metadata.Distribution, name: str, directory: Path) -> list[str]:
    """Turn an installed distribution into a wheel again; return what it requires."""
    tags = [
        line.split()[1].split("-") for line in (distribution.read_text("WHEEL") or "").splitlines() if "Tag: " in line
    ]
    python, abi, platform = (".".join(sorted({tag[part] for tag in tags})) for part in range(3))
    left_out = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    files = [
        file
        for file in distribution.files or ()
        if ".." not in file.parts and file.suffix != ".pyc" and file.name not in left_out
    ]
    information = next(file.parent for file in files if file.name == "METADATA")
    with zipfile.ZipFile(directory / f"{name}-{distribution.version}-{python}-{abi}-{platform}.whl", "w") as wheel:
        for file in files:
            wheel.write(str(file.locate()), str(file))
        wheel.writestr(f"{information}/RECORD", "".join(f"{file},,\n" for file in (*files, information / "RECORD")))
    return distribution.requires or []


def write_base(debian: Path, dest: Path) -> None:
    """Copy the root file system without its compiler and its texts, which are most of it."""
    with tarfile.open(debian) as source, tarfile.open(dest, "w") as small:
        members = source.getmembers()
        python = next((Path(member.linkname).name for member in members if member.name == "./usr/bin/python3"), "")
        if not python:
            pytest.skip(f"{debian} has no Python (an older .ci/fixtures made it)")
        if python != f"python{sys.version_info.major}.{sys.version_info.minor}":
            pytest.skip(f"the wheels that are installed here are not for the {python} of {debian}")
        for member in members:
            if not NOT_NEEDED.match(member.name):
                small.addfile(member, source.extractfile(member) if member.isreg() else None)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, containers: Containers) -> str:
    """Build the Containerfile with img, and give it to podman."""
    need("podman", "buildah", "runc")
    directory = tmp_path_factory.mktemp("image")
    (directory / "home").mkdir()
    img = Img(directory / "state", directory / "home")
    write_base(fixture_file("debian.tar"), directory / "base.tar")
    img.run("import", directory / "base.tar", "base").ok()
    wheels = write_wheels(directory / "wheels")
    done = img.build(
        CONTAINER, "-f", CONTAINER / "Containerfile", "--build-arg", "BASE=base", "--build-context", f"wheels={wheels}",
        tag="img",
    ).ok()  # fmt: skip
    assert "apt-get" not in re.sub(r"^#\d+ \[.*", "", done.stderr, flags=re.MULTILINE)
    containers.take(img.export("img", directory / "img.tar"), "docker.io/library/img:latest")
    remove_as_mapped_root(directory)
    return "docker.io/library/img:latest"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ((), "65535 ids"),
        (("--user", "0"), "ids are mapped"),
        (("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"), "only one id"),
    ],
    ids=["as-it-is", "root", "restricted"],
)
def test_the_image_of_img_builds_images_under_rootless_podman(
    containers: Containers, image: str, busybox_archive: Path, tmp_path: Path, options: tuple[str, ...], ids: str
) -> None:
    context = write_context(tmp_path / "context", DOCKERFILE, {"base.tar": busybox_archive.read_bytes()})
    script = "img load -q -i base.tar >&2 && img doctor >&2 && img build -o - . > /out/out.tar"
    out = tmp_path / "out"
    out.mkdir()
    for directory in (tmp_path, context, out):
        directory.chmod(0o777)
    done = subprocess.run(
        ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm", "--network", "host",
         "--security-opt", f"seccomp={PROFILE}", "--security-opt", "label=disable", *options,
         "--volume", f"{context}:/work:ro", "--volume", f"{out}:/out", "--entrypoint", "sh", image, "-c", script],
        capture_output=True, text=True, env=containers.environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ids in done.stderr, done.stderr
    assert owners_of((out / "out.tar").read_bytes()) == OWNERS
