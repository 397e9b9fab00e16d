"""What is switched off is off for every command that would need it, and each says in one line who did that."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from harness.img import Img, write_context
from harness.repository import ROOT

FROM = "FROM busybox\n"
FAR = "127.0.0.1:1/app:1"

#: What is done, the driver that it needs, the words (``@`` stands for a directory with a Dockerfile), the Dockerfile.
NEEDS = {
    "pull": ("registry:oci", ["pull", FAR], ""),
    "push": ("registry:oci", ["push", "busybox"], ""),
    "push to": ("registry:oci", ["push", "busybox", FAR], ""),
    "login": ("registry:oci", ["login", "-u", "joe", "-p", "secret", "127.0.0.1:1"], ""),
    "FROM": ("registry:oci", ["build", "@"], f"FROM {FAR}\n"),
    "COPY --from": ("registry:oci", ["build", "@"], f"{FROM}COPY --from={FAR} /a /a\n"),
    "--pull": ("registry:oci", ["build", "--pull", "@"], FROM),
    "type=registry": ("registry:oci", ["build", "-o", f"type=registry,name={FAR}", "@"], FROM),
    "push=true": ("registry:oci", ["build", "-o", f"type=image,push=true,name={FAR}", "@"], FROM),
    "load": ("importer:archive", ["load", "-i", "@.tar"], FROM),
    "load a directory": ("importer:layout", ["load", "-i", "@"], FROM),
    "save": ("exporter:docker", ["save", "-o", "@.tar", "busybox"], FROM),
    "save --format oci": ("exporter:oci", ["save", "--format", "oci", "-o", "@.tar", "busybox"], FROM),
    "type=oci": ("exporter:oci", ["build", "-o", "type=oci,dest=@.tar", "@"], FROM),
    "--secret env=": ("secret:env", ["build", "--secret", "id=s,env=HOME", "@"], FROM),
    "--secret src=": ("secret:file", ["build", "--secret", "id=s,src=@/Dockerfile", "@"], FROM),
    "--push": ("registry:oci", ["build", "--push", "-t", FAR, "@"], FROM),
    "a Dockerfile": ("frontend:dockerfile", ["build", "@"], FROM),
    "a base image": ("source:docker-image", ["build", "@"], f"FROM {FAR}\n"),
    "a context": ("source:local", ["build", "@"], "FROM scratch\nCOPY Dockerfile /\n"),
    "a repository": ("source:git", ["build", "https://127.0.0.1:1/app.git"], ""),
    "ADD": ("source:https", ["build", "https://127.0.0.1:1/app.tar"], ""),
    "an image layout": ("source:oci-layout", ["build", "--build-context", "x=oci-layout://@", "@"], FROM),
    "-t": ("exporter:image", ["build", "-t", "app", "@"], FROM),
    "type=local": ("exporter:local", ["build", "-o", "type=local,dest=@.out", "@"], FROM),
    "type=tar": ("exporter:tar", ["build", "-o", "type=tar,dest=@.tar", "@"], FROM),
    "a push": ("exporter:registry", ["build", "-o", f"type=registry,name={FAR}", "@"], FROM),
    "a login": ("credentials:*", ["login", "-u", "joe", "-p", "secret", "127.0.0.1:1"], ""),
}
#: Of other kinds any driver is named in the same way.
NAMED = {
    "cache": ["build", "--cache-to", "type={}", "@"],
    "executor": ["build", "--executor", "{}", "@"],
    "progress": ["build", "--progress", "{}", "@"],
    "snapshotter": ["--backend", "{}", "build", "@"],
}


def drivers() -> list[tuple[str, str]]:
    """Return kind and name of each driver of the distribution."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    singular = {"img.registries": "registry", "img.credentials": "credentials", "img.progress": "progress"}
    return [
        (singular.get(group, group.removeprefix("img.").removesuffix("s")), name)
        for group, points in groups.items()
        for name in points
    ]


@pytest.mark.parametrize("what", NEEDS)
def test_a_command_says_who_switched_its_driver_off(what: str, img: Img, tmp_path: Path) -> None:
    driver, words, dockerfile = NEEDS[what]
    context = write_context(tmp_path / "context", dockerfile)
    (tmp_path / "context.tar").touch()
    done = img.with_flags("--no-plugin", driver).run(*(word.replace("@", str(context)) for word in words))
    kind, _, name = driver.partition(":")
    if name == "*":
        assert done.returncode
        assert "is switched off by --no-plugin" in done.error
    else:
        done.refused(1, f"{kind} `{name}` is switched off by --no-plugin")
    assert "exporting" not in done.stderr  # found out before the work is done


@pytest.mark.parametrize("kind", NAMED)
def test_a_driver_that_somebody_names_says_who_switched_it_off(kind: str, img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path, "FROM scratch\n")
    for of, name in drivers():
        if of == kind:
            words = [word.replace("@", str(context)).format(name) for word in NAMED[kind]]
            done = img.with_flags("--no-plugin", f"{kind}:{name}").run(*words)
            done.refused(1, f"{kind} `{name}` is switched off by --no-plugin")


def test_no_driver_is_left_out() -> None:
    tried = {driver for driver, _, _ in NEEDS.values()}
    left = [(kind, name) for kind, name in drivers() if kind not in NAMED]
    assert len(left) > 10
    assert [name for kind, name in left if not {f"{kind}:{name}", f"{kind}:*"} & tried] == []


def test_the_environment_and_the_user_switch_off_as_well(img: Img) -> None:
    img.with_environment(IMG_DISABLED_PLUGINS="registry:*").run("pull", FAR).refused(1, "IMG_DISABLED_PLUGINS")
    img.run("plugins", "disable", "registry:oci").ok()
    img.run("push", "busybox").refused(1, "registry `oci` is switched off by", "50-img-plugins.toml")


def test_what_is_here_needs_no_registry(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"{FROM}COPY Dockerfile /\n")
    off = img.with_flags("--no-plugin", "registry:*")
    off.build(context).ok()
    off.run("save", "-o", tmp_path / "out.tar", "built").ok()
