"""`img plugins install`: pip for real, with wheels of a directory and without network."""

from __future__ import annotations

from pathlib import Path

from packaging_support import Environment


def test_it_installs_where_img_is_and_tells_what_came(installed: Environment, example_wheel: Path) -> None:
    words = ("plugins", "install", "--no-index", "--find-links", str(example_wheel.parent))
    done = installed.img(*words, "exporter:example")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "exporter:example img-exporter-example 1.0\n"
    assert installed.statuses()["exporter:example"] == "ok"
    again = installed.img(*words, "img-exporter-example")
    assert (again.returncode, again.stdout) == (0, "")
    assert "no plugin came with img-exporter-example" in again.stderr


def test_what_cannot_be_found_is_an_error_that_changes_nothing(installed: Environment, tmp_path: Path) -> None:
    before = installed.statuses()
    done = installed.img("plugins", "install", "--no-index", "--find-links", str(tmp_path), "img-no-such-thing")
    assert done.returncode == 1
    assert "failed with status 1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert installed.statuses() == before


def test_where_the_system_forbids_it_nothing_is_installed(installed: Environment, example_wheel: Path) -> None:
    """Run with the Python of a system whose packages are managed: a copy of this one that says so."""
    python = installed.path / "bin/python"
    code = (
        "import sys, sysconfig; from pathlib import Path; here = Path(sys.argv.pop(1)); "
        "sys.base_prefix = sys.prefix; "
        "real = sysconfig.get_path; "
        "sysconfig.get_path = lambda name, *more: str(here) if name == 'stdlib' else real(name, *more); "
        "from img_core.cli import main; main()"
    )
    (installed.home / "EXTERNALLY-MANAGED").write_text("[externally-managed]\nError=no\n")
    words = ["plugins", "install", "--no-index", "--find-links", str(example_wheel.parent), "img-exporter-example"]
    done = installed._run([str(python), "-c", code, str(installed.home), *words], check=False)
    assert done.returncode == 7, done.stderr
    assert "forbids pip to add to it" in done.stderr
    assert "--user --break-system-packages" in done.stderr
    assert "exporter:example" not in installed.statuses()
