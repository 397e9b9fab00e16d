"""The plugins of contrib/: their wheels installed beside img alone, and used in a build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from packaging_support import ROOT, Environment, build_wheel, check_content

pytestmark = pytest.mark.rootless


def squashfs(environment: Environment) -> None:
    build(environment, "-o", "type=squashfs,dest=out,compression=xz")
    assert (environment.home / "out").read_bytes()[:4] == b"hsqs"


def initramfs(environment: Environment) -> None:
    build(environment, "-o", "type=initramfs,dest=out,compression=uncompressed")
    assert (environment.home / "out").read_bytes()[:6] == b"070701"


def debootstrap(environment: Environment) -> None:
    done = environment.img(
        "build", "--build-context", "base=debootstrap://x?flavour=y", "-f", "context/Based", "context"
    )
    assert "unknown key `flavour`" in done.stderr, done.stderr


#: distribution -> the plugin in it, and what shows that it works
USES: dict[str, tuple[str, Callable[[Environment], None]]] = {
    "img-exporter-squashfs": ("exporter:squashfs", squashfs),
    "img-exporter-initramfs": ("exporter:initramfs", initramfs),
    "img-source-debootstrap": ("source:debootstrap", debootstrap),
}


def build(environment: Environment, *words: str) -> None:
    done = environment.img("build", *words, "context")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    environment = Environment.create(tmp_path_factory.mktemp("distributions"))
    environment.install(wheel)
    context = environment.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /etc/\n")
    (context / "Based").write_text("FROM base\nCOPY Based /etc/\n")
    return environment


@pytest.mark.parametrize("name", USES)
def test_its_wheel_works_where_it_is_installed(shared: Environment, name: str, tmp_path: Path) -> None:
    plugin, use = USES[name]
    wheel = build_wheel(ROOT / "contrib" / name, tmp_path)
    check_content(wheel, name.replace("-", "_"), "img-builder")
    assert plugin not in shared.statuses()
    shared.install(wheel)
    try:
        assert shared.statuses()[plugin] == "ok"
        use(shared)
    finally:
        shared.pip("uninstall", "--yes", name)
    assert plugin not in shared.statuses()


def test_every_distribution_of_contrib_is_tried() -> None:
    found = {path.parent.name for path in (ROOT / "contrib").glob("*/pyproject.toml")}
    assert found - {"img-exporter-example"} == set(USES)
