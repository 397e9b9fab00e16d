"""What every source of images promises, and what is special here, with a mirror in a directory. `pip install -e '.[test]'` brings the suite.

Needs mmdebstrap and dpkg-dev. Nothing is fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from img_core.spec import HostError, ImgError, NotFoundError, SourceOp, UsageError
from img_core.spec.host import Host
from img_core.spec.source import PinnedImage, SourceContext
from img_core.spec.values import Platform
from img_core.testing.contracts.driver import ModuleContract
from img_core.testing.contracts.source import ImageSourceContract

from img_source_debootstrap import _source
from img_source_debootstrap._address import architecture, parse
from img_source_debootstrap._bootstrap import bootstrap
from img_source_debootstrap._source import DebootstrapSource

DATE = "Sat, 01 Jun 2024 10:00:00 UTC"
AMD64 = Platform("linux", "amd64")


class TestModule(ModuleContract):
    kind = "source"
    module = "img_source_debootstrap.plugin"


def write_suite(mirror: Path, suite: str, text: str) -> None:
    """Put a suite with the package `greeting` into *mirror*, as dpkg-scanpackages makes it."""
    root = mirror / f"tree-{suite}"
    (root / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (root / "usr/share/greeting").mkdir(parents=True, exist_ok=True)
    (root / "usr/share/greeting/text").write_text(text)
    (root / "DEBIAN/control").write_text(
        "Package: greeting\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: says it\n"
    )
    (mirror / f"pool/{suite}").mkdir(parents=True, exist_ok=True)
    run("dpkg-deb", "--root-owner-group", "--build", str(root), f"pool/{suite}/greeting_1_all.deb", cwd=mirror)
    packages = run("dpkg-scanpackages", "--multiversion", f"pool/{suite}", cwd=mirror).encode()
    lists = mirror / f"dists/{suite}/main/binary-amd64"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "Packages").write_bytes(packages)
    line = f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages"
    (mirror / f"dists/{suite}/Release").write_text(
        f"Suite: {suite}\nCodename: {suite}\nDate: {DATE}\nArchitectures: amd64\nComponents: main\nSHA256:\n{line}\n"
    )


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def shared_mirror() -> Iterator[Path]:
    with open_directory() as mirror:
        write_suite(mirror, "one", "hello\n")
        write_suite(mirror, "two", "good evening\n")
        yield mirror


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """Give a directory that everybody can read: without img's namespace mmdebstrap makes one, whose root is somebody else."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def reference(mirror: Path, suite: str) -> str:
    return f"{suite}?variant=extract&include=greeting&unsigned=yes&mirror=file://{mirror}"


class TestContract(ImageSourceContract):
    source_class = DebootstrapSource
    moments = 2  # a base takes a second

    @pytest.fixture(scope="class")
    @classmethod
    def state(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("state")

    @pytest.fixture
    def context(self, state: Path, tmp_path: Path) -> SourceContext:
        """One state for all tests, so that each base is installed once."""
        (tmp_path / "run").mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        return SourceContext(Host("none", str(state), str(tmp_path / "run"), environment=environment))

    @pytest.fixture
    def op(self, shared_mirror: Path) -> SourceOp:
        return SourceOp("debootstrap", reference(shared_mirror, "one"))

    @pytest.fixture
    def other_op(self, shared_mirror: Path) -> SourceOp:
        return SourceOp("debootstrap", reference(shared_mirror, "two"))

    @pytest.fixture
    def missing_op(self, shared_mirror: Path) -> SourceOp:
        return SourceOp("debootstrap", reference(shared_mirror, "three"))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[DebootstrapSource]:
    made = another_build(tmp_path)
    yield made
    made.close()


def another_build(tmp_path: Path, name: str = "state") -> DebootstrapSource:
    for directory in (name, "run"):
        (tmp_path / directory).mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    return DebootstrapSource(
        SourceContext(Host("none", str(tmp_path / name), str(tmp_path / "run"), environment=environment))
    )


def members(source: DebootstrapSource, pinned: PinnedImage) -> dict[str, tarfile.TarInfo]:
    data = b"".join(source.blob(pinned, pinned.layers[0]))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name.removeprefix("./"): member for member in archive}


def test_it_holds_the_package_with_times_of_the_suite(source: DebootstrapSource, shared_mirror: Path) -> None:
    pinned = source.pin(SourceOp("debootstrap", reference(shared_mirror, "one")), AMD64)
    found = members(source, pinned)
    text = found["usr/share/greeting/text"]
    assert (text.uid, text.gid, text.size) == (0, 0, 6)
    assert max(member.mtime for member in found.values()) == 1_717_236_000
    assert not any(name.startswith("dev/") for name in found)


@pytest.fixture
def mirror() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


def test_it_is_made_once_until_the_suite_moves(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = bootstrap

    def counted(*arguments: object) -> None:
        made.append("made")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_source, "bootstrap", counted)
    write_suite(mirror, "one", "hello\n")
    op = SourceOp("debootstrap", reference(mirror, "one"))
    digests = [another_build(tmp_path).pin(op, AMD64).manifest.digest for _ in range(3)]
    assert (len(set(digests)), len(made)) == (1, 1)
    write_suite(mirror, "one", "hello again\n")
    moved = another_build(tmp_path).pin(op, AMD64)
    assert (moved.manifest.digest in digests, len(made)) == (False, 2)
    other_machine = another_build(tmp_path, "elsewhere").pin(op, AMD64)
    assert (other_machine.manifest.digest == moved.manifest.digest, len(made)) == (True, 3)


def test_what_is_not_signed_is_not_taken(source: DebootstrapSource, shared_mirror: Path) -> None:
    (shared_mirror / "dists/one/InRelease").write_bytes((shared_mirror / "dists/one/Release").read_bytes())
    try:
        with pytest.raises(ImgError, match="`mmdebstrap` failed: "):
            source.pin(SourceOp("debootstrap", reference(shared_mirror, "one").replace("&unsigned=yes", "")), AMD64)
    finally:
        (shared_mirror / "dists/one/InRelease").unlink()
    assert list(Path(source.context.host.run_directory).iterdir()) == []


def test_without_mmdebstrap_it_says_what_to_install(tmp_path: Path, shared_mirror: Path) -> None:
    made = another_build(tmp_path)
    made.context.host.environment["PATH"] = str(tmp_path)  # type: ignore[index]
    with pytest.raises(HostError, match="cannot run `mmdebstrap`") as caught:
        made.pin(SourceOp("debootstrap", reference(shared_mirror, "one").replace("one?", "two?")), AMD64)
    assert caught.value.hint == "`sudo apt-get install mmdebstrap`"


def test_offline_no_mirror_is_asked(tmp_path: Path) -> None:
    host = another_build(tmp_path).context.host
    with pytest.raises(NotFoundError, match="with `--offline`"):
        DebootstrapSource(SourceContext(host, offline=True)).pin(SourceOp("debootstrap", "bookworm"), AMD64)


BAD = {
    "": "`` cannot be a name",
    "-o?variant=minbase": "`-o` cannot be a name",
    "bookworm?include=a,-oDebug=1": "`-oDebug=1` cannot be a name",
    "bookworm?variant=large": "unknown variant `large`",
    "bookworm?flavour=large": "unknown key `flavour`",
    "bookworm?variant": "is not `key=value&key=value`",
    "bookworm?mirror=ftp://x": "is not an address of a mirror",
    "bookworm?mirror=http://x/%5Btrusted=yes%5D": "is not an address of a mirror",
    "bookworm?mirror=http://x/%20y": "is not an address of a mirror",
    "bookworm?keyring=keys": "`keyring` is not an absolute path",
    "bookworm?unsigned=maybe": "`unsigned` is `yes`",
    "bookworm?unsigned=yes&keyring=/k": "`unsigned` is `yes`, without `keyring`",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_address_is_named(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert BAD[text] in caught.value.message
    assert caught.value.message.isprintable()


def test_architectures_are_called_as_debian_does() -> None:
    names = {
        "linux/amd64": "amd64",
        "linux/arm64/v8": "arm64",
        "linux/arm/v7": "armhf",
        "linux/386": "i386",
        "linux/ppc64le": "ppc64el",
    }
    assert {text: architecture(Platform(*text.split("/"))) for text in names} == names
