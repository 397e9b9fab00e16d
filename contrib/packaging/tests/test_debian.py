"""The Debian packages: built, linted, installed into a root that is thrown away, and used there. Needs a mirror of Debian.

Run by `nox -s debian`, as an ordinary user with sub-ids, on bookworm or later with the tools that packages are built with.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.host import need

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": os.environ["HOME"], "LC_ALL": "C.UTF-8"}
PACKAGES = {"img-builder", "img-builder-fuse", "img-builder-runc-embedded"}
#: what the core needs; of them, bookworm has no pluggy that is new enough, and the one of trixie is for any version of Python
NEEDED = "ca-certificates,python3-click,python3-httpx,python3-jsonschema,python3-stevedore,python3-xattr,python3-pluggy/trixie,libseccomp2"

SCRIPT = r"""
set -eu
dpkg -i /tmp/img-builder_*.deb /tmp/img-builder-runc-embedded_*.deb >/dev/null
img version
echo "unconfigured: $(dpkg --audit)"
test -e /usr/share/man/man1/img-build.1.gz && test -e /usr/share/bash-completion/completions/img && echo documented
echo "off: $(img plugins ls --format '{{.kind}}:{{.name}} {{.status}} {{.reason}}' | grep runc-embedded)"
echo "broken: $(img plugins ls --format '{{.status}}' | grep -c broken)" || true
mkdir /ctx && cp /bin/busybox /ctx/
printf 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "sh", "-c", "echo by a step > /made"]\n' >/ctx/Dockerfile
img build -o /out /ctx
echo "made $(cat /out/made)"
rm /usr/lib/img/plugins.d/10-embedded-runc.toml
echo "on: $(img plugins ls --format '{{.kind}}:{{.name}} {{.status}}' | grep runc-embedded)"
dpkg --purge img-builder-runc-embedded img-builder >/dev/null
test ! -e /usr/bin/img && echo removed
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages, made from a copy of what is committed or changed here."""
    for program in ("dpkg-buildpackage", "dh", "dh_python3", "git"):
        need(program)
    directory = tmp_path_factory.mktemp("debian")
    source = directory / "img-builder"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    shutil.copytree(source / "contrib/packaging/debian", source / "debian")
    done = run(["dpkg-buildpackage", "-b", "-us", "-uc"], cwd=source)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return directory


def run(command: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=550, errors="replace"
    )


def test_three_packages_are_built_and_the_linter_has_nothing_to_say(built: Path) -> None:
    need("lintian")
    assert {path.name.partition("_")[0] for path in built.glob("*.deb")} == PACKAGES
    (changes,) = built.glob("*.changes")
    done = run(["lintian", "--fail-on", "error,warning", str(changes)], cwd=built)
    assert done.returncode == 0, done.stdout
    assert "W:" not in done.stdout


def test_they_work_where_they_are_installed_and_the_runc_inside_is_off(built: Path) -> None:
    need("mmdebstrap")
    script = built / "script.sh"
    script.write_text(SCRIPT)
    names = [str(path) for path in (*built.glob("*.deb"), script)]
    # A root of its own mount: in a bare chroot nobody can make mounts private.
    enter = 'unshare --mount sh -c \'mount --rbind "$1" "$1" && chroot "$1" sh /tmp/script.sh\' sh "$1"'
    # The root of mmdebstrap's namespace is somebody else, who cannot read what is private.
    for path in (built, *built.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    done = run(
        [
            "mmdebstrap", "--quiet", "--mode=unshare", "--variant=minbase", "--format=null", '--aptopt=APT::Default-Release "bookworm"',
            f"--include={NEEDED},busybox-static", f"--customize-hook=copy-in {' '.join(names)} /tmp", f"--customize-hook={enter}",
            "bookworm", "/dev/null", "deb http://deb.debian.org/debian bookworm main", "deb http://deb.debian.org/debian trixie main",
        ],
        cwd=built,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = (done.stdout + done.stderr).splitlines()  # what hooks print is talk to mmdebstrap
    assert any(re.fullmatch(r" version +: 0\.1\.0", line) for line in lines)
    assert {"unconfigured: ", "documented", "broken: 0", "made by a step", "removed"} <= set(lines), lines
    (off,) = [line for line in lines if line.startswith("off: ")]
    assert off.startswith("off: executor:runc-embedded disabled by /usr/lib/img/plugins.d/10-embedded-runc.toml"), off
    (on,) = [line for line in lines if line.startswith("on: ")]
    assert on == "on: executor:runc-embedded ok"
