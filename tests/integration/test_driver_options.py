"""Options of drivers, from the command line, variables and files to the driver that a build really uses."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

Runtime = Callable[[str], Path]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", "FROM busybox\nRUN echo one > /one\n", {})


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """Return a function that makes an OCI runtime of that name: crun, which notes that it was called."""
    crun = shutil.which("crun", path="/usr/bin:/usr/sbin")
    assert crun is not None

    def make(name: str) -> Path:
        path = tmp_path / f"crun-{name}"
        path.write_text(f'#!/bin/sh\necho {name} >>{tmp_path}/called\nexec {crun} "$@"\n')
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def called(tmp_path: Path) -> Callable[[], list[str]]:
    path = tmp_path / "called"
    return lambda: sorted(set(path.read_text().split())) if path.exists() else []


def configured(img: Img, text: str) -> Img:
    """Return *img* with a configuration file of the user."""
    directory = Path(img.environment()["HOME"]) / ".config/img"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.toml").write_text(textwrap.dedent(text))
    return img


def test_the_importer_that_could_read_an_archive_is_named_where_the_order_lacks_it(img: Img, tmp_path: Path) -> None:
    img.run("save", "-o", tmp_path / "saved.tar", "busybox").ok()
    configured(img, '[order]\nimporter = ["layout"]\n')
    done = img.run("load", "-i", tmp_path / "saved.tar")
    done.refused(1, "importer `archive` is for this", "if config.toml has `[order] importer = ")


def test_the_runtime_of_each_place_is_used_and_the_nearest_wins(
    img: Img, context: Path, runtime: Runtime, called: Callable[[], list[str]], tmp_path: Path
) -> None:
    build = ("--no-cache", "--executor")
    configured(img, f'[order]\nexecutor = ["runc"]\n[executor.runc]\nruntime = "{runtime("file")}"\n')
    img.build(context, "--no-cache").ok()
    assert called() == ["file"]
    (tmp_path / "called").unlink()
    img.with_environment(IMG_EXECUTOR_RUNC_RUNTIME=str(runtime("variable"))).build(context, *build, "runc").ok()
    assert called() == ["variable"]
    (tmp_path / "called").unlink()
    loud = img.with_environment(IMG_EXECUTOR_RUNC_RUNTIME=str(runtime("variable")))
    loud.build(context, *build, f"runc,runtime={runtime('flag')}").ok()
    assert called() == ["flag"]


@pytest.mark.parametrize(
    ("words", "variables", "code", "expected"),
    [
        (["--executor", "runc,runtim=crun"], {}, 2, ["unknown option `runtim` for executor `runc`"]),
        (["--executor", "runcc,runtime=crun"], {}, 2, ["no executor is named `runcc`"]),
        (["--executor", "runc,runtime"], {}, 2, ["invalid option `runtime` of executor `runc`"]),
        (["--executor", "userns,runtime=crun"], {}, 2, ["unknown option `runtime` for executor `userns`"]),
        (["--executor", "runc,runtime=/no/crun"], {}, 7, ["the OCI runtime `/no/crun` is missing, or not executable"]),
        (["--executor", "runc,runtime=no-crun"], {}, 7, ["`no-crun` is not on PATH"]),
        (["-b", "native,speed=9"], {}, 2, ["unknown option `speed` for snapshotter `native`"]),
        (["-b", "natife,speed=9"], {}, 2, ["natife is not a valid snapshots backend"]),
        (["--progress", "plain,width=9"], {}, 2, ["unknown option `width` for progress `plain`"]),
        (["--progress", "plane,width=9"], {}, 2, ["unknown progress `plane`"]),
        (["-o", "type=tar,dset=x"], {}, 2, ["unknown option `dset` for type=tar"]),
        (
            [],
            {"IMG_SNAPSHOTTER_NATIVE_SPEED": "9", "IMG_EXECUTOR_RUNC_RUNTIM": "x"},
            0,
            [],
        ),  # of drivers that are not used
        (["--executor", "runc"], {"IMG_EXECUTOR_RUNC_RUNTIM": "x"}, 2, ["IMG_EXECUTOR_RUNC_RUNTIM"]),
    ],
)
def test_wrong_options_are_told_before_anything_runs(
    img: Img, context: Path, words: list[str], variables: dict[str, str], code: int, expected: list[str]
) -> None:
    chosen = img.with_flags("-b", "overlayfs") if "-b" not in words else img
    done = chosen.with_environment(**variables).build(context, *words, tag="" if "-o" in words else "built")
    if code:
        done.refused(code, *expected)
    else:
        done.ok()


@pytest.mark.parametrize("cached", [False, True])
def test_a_wrong_table_is_told_by_a_cached_build_too(img: Img, context: Path, cached: bool) -> None:
    if cached:
        img.build(context).ok()
    configured(img, "[exporter.oci]\ncompresion = 'zstd'\n")
    img.build(context).refused(2, "unknown option `compresion` for type=oci", "[exporter.oci]", "config.toml")
    configured(img, "[exporter.oki]\n")
    img.build(context).refused(2, "no exporter is named `oki`", "config.toml")
    configured(img, "[exporters.oci]\n")
    img.run("ls").refused(2, "unknown table `[exporters]`", "config.toml")


def test_options_of_an_exporter_may_be_configured_and_typed_ones_win(img: Img, context: Path, tmp_path: Path) -> None:
    configured(img, "[exporter.oci]\ntar = false\n")
    img.build(context, "-o", f"type=oci,dest={tmp_path}/layout", tag="").ok()
    assert (tmp_path / "layout" / "oci-layout").is_file()
    img.build(context, "-o", f"type=oci,tar=true,dest={tmp_path}/layout.tar", tag="").ok()
    assert (tmp_path / "layout.tar").is_file()


CREDENTIALS = """
from img_core.spec import Credentials, CredentialStore, hookimpl
class Vault(CredentialStore):
    name = "vault"
    schema = {"type": "object", "properties": {"path": {"type": "string"}, "depth": {"type": "integer"}}}
    def get(self, server, repository=""):
        return None
    def store(self, server, credentials): ...
    def erase(self, server): ...
    def list(self):
        return {"vault.example": f"{self.options['path']} {self.options['depth'] + 1}"}
@hookimpl
def img_credentials():
    return Vault
"""


def test_credential_stores_of_others_get_their_options_by_configuration(img: Img, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "their_vault-1.5.dist-info"
    info.mkdir(parents=True)
    (site / "their_vault.py").write_text(CREDENTIALS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-vault\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[img.credentials]\nvault = their_vault\n")
    configured(img, '[order]\ncredentials = ["vault"]\n[credentials.vault]\npath = "/secret"\ndepth = 2\n')
    chosen = img.with_environment(
        PYTHONPATH=f"{site}:{img.environment()['PYTHONPATH']}", IMG_CREDENTIALS_VAULT_DEPTH="6"
    )
    assert chosen.run("login", "--list").ok().text.split()[-3:] == ["vault.example", "/secret", "7"]
