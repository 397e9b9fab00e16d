"""The distribution with a runc in it: built, installed, used where no other runc is, and switched off."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging_support import ROOT, Environment, build_wheel

from img_core.testing.executor_lab import BUSYBOX

SOURCE = ROOT / "plugins" / "img-runc-embedded"
RUNC = shutil.which("runc", path=os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin") or ""
DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "echo made by $(/bin/busybox id -u) > /made"]
"""

pytestmark = pytest.mark.skipif(not RUNC, reason="needs a runc to put into the wheel")


def digest() -> str:
    return hashlib.sha256(Path(RUNC).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def runc_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMG_RUNC_BINARY", RUNC)
        patch.setenv("IMG_RUNC_SHA256", digest())
        return build_wheel(SOURCE, tmp_path_factory.mktemp("runc"))


@pytest.fixture
def with_runc(installed: Environment, runc_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment with the wheel in it, on a machine whose PATH has no runc."""
    installed.install(runc_wheel)
    programs = installed.home / "programs"
    programs.mkdir()
    for name in ("newuidmap", "newgidmap"):
        found = shutil.which(name)
        if found:
            (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    context = installed.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    shutil.copy(BUSYBOX, context / "busybox")
    return installed


def build(environment: Environment) -> subprocess.CompletedProcess[str]:
    return environment.img("build", "--executor", "runc-embedded", "-o", "type=local,dest=out", "context")


def test_the_wheel_is_for_one_machine_and_has_the_checked_binary_and_its_licence(runc_wheel: Path) -> None:
    assert runc_wheel.name.endswith(f"-py3-none-linux_{os.uname().machine}.whl")
    with zipfile.ZipFile(runc_wheel) as archive:
        assert hashlib.sha256(archive.read("img_runc_embedded/bin/runc")).hexdigest() == digest()
        assert archive.getinfo("img_runc_embedded/bin/runc").external_attr >> 16 & 0o777 == 0o755
        assert b"Apache" in archive.read("img_runc_embedded/bin/LICENSE.runc")


@pytest.mark.rootless
def test_it_runs_steps_where_there_is_no_other_runc(with_runc: Environment) -> None:
    done = build(with_runc)
    assert done.returncode == 0, done.stderr
    assert (with_runc.home / "out/made").read_text() == "made by 0\n"


CONTRACT = """\
import pytest
from img_core.testing.contracts.executor import ExecutorContract
from img_runc_embedded._executor import EmbeddedRuncExecutor

class TestEmbedded(ExecutorContract):
    executor = EmbeddedRuncExecutor
    budget = 2.0
"""


@pytest.mark.rootless
@pytest.mark.slow
def test_it_keeps_the_contract_of_executors(with_runc: Environment) -> None:
    (with_runc.home / "test_contract.py").write_text(CONTRACT)
    command = [
        str(with_runc.path / "bin" / "python"),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "test_contract.py",
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(with_runc.home), "TMPDIR": str(with_runc.home)}
    done = subprocess.run(
        command, cwd=with_runc.home, capture_output=True, text=True, env=environment, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.rootless
def test_it_steps_back_for_the_runc_of_the_host(with_runc: Environment) -> None:
    (with_runc.home / "programs/runc").symlink_to(RUNC)
    done = build(with_runc)
    assert done.returncode == 7
    assert f"not needed: `{with_runc.home}/programs/runc` is on PATH" in done.stderr


@pytest.mark.rootless
def test_doctor_tells_whether_it_is_used(with_runc: Environment) -> None:
    def line() -> str:
        template = "{{.what}}: {{.text}}"
        lines = with_runc.img("doctor", "--format", template).stdout.splitlines()
        return next(line for line in lines if line.startswith("executor runc-embedded: "))

    assert line() == "executor runc-embedded: works"
    (with_runc.home / "programs/runc").symlink_to(RUNC)
    assert "not needed" in line()


@pytest.mark.rootless
def test_a_binary_that_cannot_start_is_refused_with_the_reason(with_runc: Environment) -> None:
    binary = with_runc.site_packages / "img_runc_embedded/bin/runc"
    binary.write_text("#!/no/such/loader\n")
    done = build(with_runc)
    assert done.returncode == 7
    assert f"`{binary}` does not start" in done.stderr


def test_the_variable_of_the_original_img_switches_it_off(
    with_runc: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_runc.statuses()["executor:runc-embedded"] == "ok"
    monkeypatch.setattr(Environment, "variables", {"IMG_DISABLE_EMBEDDED_RUNC": "1"})
    assert with_runc.statuses()["executor:runc-embedded"] == "disabled"
    done = build(with_runc)
    assert done.returncode != 0
    assert "IMG_DISABLE_EMBEDDED_RUNC" in done.stderr


def test_a_toggle_file_switches_it_off_without_importing_it(with_runc: Environment) -> None:
    toggles = with_runc.home / ".config" / "img" / "plugins.d"
    toggles.mkdir(parents=True)
    (toggles / "10-no-binaries.toml").write_text('disabled = ["executor:runc-embedded"]\n')
    (with_runc.site_packages / "img_runc_embedded/plugin.py").write_text("raise SystemExit('imported')\n")
    assert with_runc.statuses()["executor:runc-embedded"] == "disabled"
    assert "10-no-binaries.toml" in build(with_runc).stderr


def test_uninstalling_it_leaves_no_trace(with_runc: Environment) -> None:
    with_runc.pip("uninstall", "--yes", "img-runc-embedded")
    assert "executor:runc-embedded" not in with_runc.statuses()
    assert not (with_runc.site_packages / "img_runc_embedded").exists()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"IMG_RUNC_SHA256": "0" * 64}, "IMG_RUNC_SHA256 is 0000"),
        ({"IMG_RUNC_BINARY": "/no/such/file"}, "IMG_RUNC_BINARY names no file: /no/such/file"),
        ({"IMG_RUNC_BINARY": "/etc/passwd"}, "not an ELF program"),
        ({"IMG_RUNC_LICENSE": "/no/such/file"}, "no licence text at /no/such/file"),
    ],
)
def test_a_bad_input_stops_the_build(tmp_path: Path, variables: dict[str, str], reason: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheels")]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "IMG_RUNC_BINARY": RUNC, "TMPDIR": str(temporary), **variables}
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode != 0
    assert reason in done.stderr + done.stdout
    assert not list(tmp_path.glob("wheels/*.whl"))
    assert list(temporary.iterdir()) == []
