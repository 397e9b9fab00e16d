"""The manifests and CI templates for containers that nobody changes: what they ask of the node is nothing, and their commands build there.

As root (`nox -s containers`), under runc: each template's settings become the container, and its own commands run in it.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.containers import skopeo
from harness.host import AS_ROOT, fixture_file, need
from harness.img import COMMAND, Img
from harness.unmodified import Box
from img_core.testing.registry import DockerRegistry
from integration.test_containers import NOT_NEEDED, write_wheels

CONTRIB = Path(__file__).parents[2] / "contrib"
TEMPLATES = sorted(
    str(path.relative_to(CONTRIB)) for pattern in ("ci/*", "kubernetes/unmodified/*") for path in CONTRIB.glob(pattern)
)
DOCKERFILE = """\
FROM busybox AS build
RUN mkdir /out && echo program > /out/program && chown 33:34 /out/program
FROM busybox
COPY --from=build /out /srv/out
RUN test -r /proc/self/status
"""
#: words that ask a node for more than it gives to any container
UNWANTED = (
    "securityContext",
    "privileged",
    "capabilities",
    "seccomp",
    "apparmor",
    "hostPath",
    "docker.sock",
    "services",
    "options:",
)


def document(name: str) -> dict[str, Any]:  # Any: YAML
    yaml = pytest.importorskip("yaml", reason="needs pyyaml, one of the development dependencies")
    loaded: dict[str, Any] = yaml.safe_load((CONTRIB / name).read_text())
    return loaded


class Template:
    """What a template runs: *image*, *script* for sh, *environment*, and the *kind* of the container, see `harness.situations`."""

    def __init__(self, name: str, registry: str, context: str) -> None:
        self.kind = "root"
        self.environment: dict[str, str] = {}
        self._target, self._context = f"{registry}/team/app:latest", context
        found = document(name)
        reader = {
            "Pod": self._pod,
            "Job": self._job,
            "Task": self._tekton,
            "Workflow": self._argo,
        }.get(found.get("kind", ""), self._github if "jobs" in found else self._gitlab)
        reader(found)
        self.environment = {
            key: value.replace("registry.example.com/team/app:latest", self._target)
            .replace("https://git.example.com/team/app.git#main", context)
            .replace("registry.example.com", registry)
            for key, value in self.environment.items()
        }

    def _container(self, container: dict[str, Any]) -> None:
        self.image = container["image"]
        assert container["command"] == ["sh", "-c"]
        (self.script,) = container["args"]
        self.environment = {each["name"]: each["value"] for each in container.get("env", ())}

    def _pod(self, found: dict[str, Any]) -> None:
        self._spec(found["spec"])

    def _job(self, found: dict[str, Any]) -> None:
        self._spec(found["spec"]["template"]["spec"])

    def _spec(self, spec: dict[str, Any]) -> None:
        assert spec["automountServiceAccountToken"] is False
        if spec.get("hostUsers") is False:
            self.kind = "host-users-false"
        (container,) = spec["containers"]
        self._container(container)

    def _gitlab(self, found: dict[str, Any]) -> None:
        (job,) = found.values()
        self.image, self.script = job["image"]["name"], "\n".join(job["script"])
        registry = self._target.partition("/")[0]
        self.environment = {
            "CI_REGISTRY": registry, "CI_REGISTRY_USER": "user", "CI_REGISTRY_PASSWORD": "password",
            "CI_REGISTRY_IMAGE": self._target.rpartition(":")[0], "CI_COMMIT_SHORT_SHA": "latest",
            "CI_PROJECT_DIR": self._context,
        }  # fmt: skip

    def _github(self, found: dict[str, Any]) -> None:
        (job,) = found["jobs"].values()
        self.image = job["container"]
        self.script = "\n".join(step["run"] for step in job["steps"] if "run" in step)
        self.environment = {**job["env"], "GITHUB_WORKSPACE": self._context}

    def _tekton(self, found: dict[str, Any]) -> None:
        (step,) = found["spec"]["steps"]
        given = {each["name"]: each.get("default", self._target) for each in found["spec"]["params"]}
        self.image = step["image"]
        place = step["workingDir"].replace("$(workspaces.source.path)", self._context)
        self.script = f"cd {place}\n" + re.sub(r"\$\(params\.(\w+)\)", lambda match: given[match[1]], step["script"])

    def _argo(self, found: dict[str, Any]) -> None:
        (template,) = found["spec"]["templates"]
        self._container(template["container"])
        for each in found["spec"]["arguments"]["parameters"]:
            self.script = self.script.replace(f"{{{{workflow.parameters.{each['name']}}}}}", f"${each['name'].upper()}")
            self.environment[each["name"].upper()] = each["value"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Give a registry, which containers reach on the loopback interface."""
    need("docker-registry", "skopeo", "runc")
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def check_the_commands_of_a_template_build_and_push(
    registry: DockerRegistry, busybox_archive: Path, tmp_path: Path, name: str
) -> None:
    text = "\n".join(line.partition("#")[0] for line in (CONTRIB / name).read_text().splitlines())
    assert not [word for word in UNWANTED if word in text]
    template = Template(name, registry.address, "/work")
    assert template.image == "registry.example.com/tools/img:unmodified"
    box = Box.make(tmp_path / "layer", template.kind, busybox_archive)
    box.put("/work/Dockerfile", DOCKERFILE)
    situation = box.img().situation
    assert situation is not None
    script = f'set -e; img() {{ {" ".join(COMMAND)} -s /state "$@"; }}\n{template.script}'
    done = subprocess.run(
        situation.wrap("sh", "-c", script), capture_output=True, text=True, check=False, timeout=120,
        env={**box.environment(), **template.environment},
    )  # fmt: skip
    box.remove()
    assert done.returncode == 0, done.stderr
    pushed = tmp_path / "pushed"
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{registry.address}/team/app:latest", f"dir:{pushed}")
    assert (pushed / "manifest.json").exists()


# --- the image of img -------------------------------------------------------------------------------------------------


def write_base(dest: Path) -> None:
    """Write Debian with its Python, without its compiler and its texts."""
    with tarfile.open(fixture_file("debian.tar")) as source, tarfile.open(dest, "w") as small:
        for member in source:
            if not NOT_NEEDED.match(member.name):
                small.addfile(member, source.extractfile(member) if member.isreg() else None)


def check_the_image_boots_and_builds(busybox_archive: Path, tmp_path: Path) -> None:
    img = Img(tmp_path / "state", tmp_path)
    write_base(tmp_path / "base.tar")
    img.run("import", tmp_path / "base.tar", "base").ok()
    wheels = write_wheels(tmp_path / "wheels")
    img.build(
        CONTRIB / "container", "-f", CONTRIB / "container/Containerfile.unmodified", "--build-arg", "BASE=base",
        "--build-context", f"wheels={wheels}", tag="img:unmodified",
    ).ok()  # fmt: skip
    img.run("unpack", "-o", tmp_path / "root", "img:unmodified").ok()
    assert json.loads(img.run("inspect", "img:unmodified").ok().text)["config"]["Entrypoint"] == ["img"]
    box = Box(tmp_path / "layer", "root", image=tmp_path / "root")
    box.put("/work/Dockerfile", DOCKERFILE)
    box.put("/work/base.tar", busybox_archive.read_bytes())
    situation = box.img().situation
    assert situation is not None
    script = "img load -q -i base.tar && img doctor && img build -o type=oci,dest=/out.tar ."
    done = subprocess.run(
        situation.wrap("sh", "-c", f"cd /work && {script}"), capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "root of a container that can make no namespace" in done.stdout
    assert box.inside("/out.tar").stat().st_size > 100_000
    box.remove()


if AS_ROOT:
    test_the_commands_of_a_template_build_and_push = pytest.mark.parametrize("name", TEMPLATES)(
        check_the_commands_of_a_template_build_and_push
    )
    test_the_image_boots_and_builds = check_the_image_boots_and_builds
