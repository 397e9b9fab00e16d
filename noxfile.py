"""What there is to run: ``nox -l`` lists it, ``nox -s tests`` runs it.

In the environment that the README sets up, sessions work in that: nothing is installed twice. Elsewhere each makes a virtual environment of
its own with the checkout in it, unless ``--no-venv`` says that all is there (e.g. in a distribution's build).
"""

from __future__ import annotations

import json
import os
import sys
from importlib import metadata
from pathlib import Path

import nox


def is_prepared() -> bool:
    """Tell whether nox runs where ``pip install -e '.[dev]'`` of this checkout was run."""
    try:
        origin = json.loads(metadata.distribution("img-builder").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        return False
    return bool(origin.get("url") == Path.cwd().as_uri())


if is_prepared():
    # It is called by its path, and so are the programs beside it.
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
nox.options.default_venv_backend = "none" if is_prepared() else "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False  # `versions` says which it skips
nox.options.sessions = ["lint", "types", "imports", "tests"]

#: Unit tests that start few processes, and those of them that measure no time.
PURE = [
    f"tests/unit/{room}" for room in ("archives", "files", "frontend", "images", "net", "registry", "spec", "store")
]
UNTIMED = "not time and not speed and not linear and not budget and not half_a_second and not test_every"

CODE = ["img_core", "plugins", "tests", "contrib", "noxfile.py"]


def install(session: nox.Session) -> None:
    """Install the checkout and what its tests need."""
    if not session.virtualenv.is_sandboxed:
        # Without an installation the source roots have to be on the path.
        session.env["PYTHONPATH"] = os.pathsep.join(
            filter(None, [os.getcwd(), os.path.join(os.getcwd(), "plugins"), os.environ.get("PYTHONPATH")])
        )
        return
    session.install("-e", ".[dev]")


def check_distribution(session: nox.Session, name: str, *, typed: bool = True, room: str = "plugins") -> None:
    """Check the types of a distribution of its own, unless they are not *typed*, and run its tests."""
    directory = f"{room}/{name}"
    if session.virtualenv.is_sandboxed:
        session.install("-e", directory)
    if typed:
        modules = sorted(map(str, Path(directory, name.replace("-", "_")).glob("*.py")))
        session.run("mypy", *modules, env={"MYPYPATH": directory})  # only here there is what they import
    session.run("pytest", f"{directory}/tests", *session.posargs)


def require_ordinary_user(session: nox.Session) -> None:
    """Stop a session that proves nothing when root runs it."""
    if os.geteuid() == 0:
        session.error("run this as an ordinary user: root needs none of what it tests")


def chosen(session: nox.Session, *paths: str) -> tuple[str, ...]:
    """Return the *paths* that a session tests, unless its arguments name others."""
    return () if any(word.startswith("tests/") for word in session.posargs) else paths


@nox.session
def tests(session: nox.Session) -> None:
    """Unit and contract tests: anywhere, in seconds to minutes; ``-- tests/unit`` for a part of them."""
    install(session)
    session.run("pytest", *chosen(session, "tests/unit", "tests/contracts"), *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"], venv_backend="venv")
def versions(session: nox.Session) -> None:
    """Unit and contract tests with each version of Python that is installed, in an environment of its own."""
    install(session)
    session.run("pytest", "tests/unit", "tests/contracts", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Which lines the unit tests reach, least first. Tests of speed are left out: a tracer makes everything slow."""
    install(session)
    session.run("coverage", "run", "-m", "pytest", "-q", "-k", UNTIMED, *(session.posargs or PURE))
    session.run("coverage", "report")


@nox.session
def release(session: nox.Session) -> None:
    """Move the fragments of changelog.d into CHANGELOG.md, record what plugins may rely on: ``nox -s release -- 0.2.0``."""
    session.run("python", "contrib/release/changelog.py", *session.posargs)
    session.run("python", "contrib/release/surface.py", "--record")


@nox.session
def integration(session: nox.Session) -> None:
    """Real namespaces, a real registry, other tools; as an ordinary user; ``-- tests/integration/test_x.py`` for a part of them."""
    require_ordinary_user(session)
    install(session)
    # Most of them wait for processes, disks and servers, two of them at once; those of a file follow each other and share what they made.
    session.run("pytest", "-n", "2", "--dist", "loadfile", *chosen(session, "tests/integration"), *session.posargs)


@nox.session
def containers(session: nox.Session) -> None:
    """Builds in containers as engines start them by default, under runc; as root, who can start those without a user namespace.

    And as two users who share a cache: root can be both.
    ``-- --every 1`` compares the images of all Dockerfiles of tests/compare, not of a sample.
    With ``IMG_TEST_EVERY_CONTAINER`` the commands of Debian are tried in every container.
    """
    install(session)
    compared = ["tests/compare/test_unmodified.py", *session.posargs]
    if "--every" in session.posargs:
        session.run("pytest", *compared)
        return
    tests = [
        f"tests/integration/test_unmodified_{part}.py"
        for part in ("containers", "cache_mounts", "templates", "swap", "security", "commands")
    ]
    session.run("pytest", *tests, *session.posargs)
    session.run("pytest", "tests/integration/test_cache_other_user.py", *session.posargs)
    session.run("pytest", "tests/contracts/test_executors.py", "-k", "TestChroot or TestSwap", *session.posargs)
    session.run("pytest", *compared)


@nox.session
def compare(session: nox.Session) -> None:
    """Build many Dockerfiles with img and with buildah and compare the images; as an ordinary user."""
    require_ordinary_user(session)
    install(session)
    session.run("pytest", "-n", "2", "--dist", "loadgroup", "tests/compare", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    install(session)
    session.run("ruff", "check", *CODE)
    session.run("ruff", "format", "--check", *CODE)


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly, those of the tests too."""
    install(session)
    session.run("mypy")
    session.run("mypy", "tests")


@nox.session
def imports(session: nox.Session) -> None:
    """The arrows between packages, and the size of the core."""
    install(session)
    session.run("python", "contrib/checks/imports.py")
    session.run("python", "contrib/checks/size.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The documents as a site below site/; a link or an anchor that leads nowhere is an error."""
    if session.virtualenv.is_sandboxed:
        session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--quiet", "-f", "contrib/docs/site/mkdocs.yml", *session.posargs)


@nox.session
def packaging(session: nox.Session) -> None:
    """Build the wheels and install them alone."""
    install(session)
    session.run("pytest", "tests/packaging", *session.posargs)


@nox.session
def debian(session: nox.Session) -> None:
    """The Debian packages of contrib/packaging: built, linted, installed into a root that is thrown away; as an ordinary user."""
    require_ordinary_user(session)
    install(session)
    session.run("pytest", "contrib/packaging/tests", *session.posargs)


@nox.session
def fuse(session: nox.Session) -> None:
    """The FUSE snapshotter; compiles pyfuse3 (libfuse3-dev, pkg-config, gcc), needs a /dev/fuse that the user may open."""
    install(session)
    check_distribution(session, "img-snapshotter-fuse")


@nox.session
def keyring(session: nox.Session) -> None:
    """The credential store of the desktop's keyring, with the package `keyring` and without a desktop."""
    install(session)
    check_distribution(session, "img-credentials-keyring", typed=False)


@nox.session
def policy(session: nox.Session) -> None:
    """Source policies: what they decide, and whole builds; as an ordinary user."""
    require_ordinary_user(session)
    install(session)
    check_distribution(session, "img-policy-sources")


@nox.session
def otel(session: nox.Session) -> None:
    """OpenTelemetry traces of builds, against a collector on loopback; as an ordinary user."""
    require_ordinary_user(session)
    install(session)
    check_distribution(session, "img-notify-otel")


@nox.session
def caches(session: nox.Session) -> None:
    """The caches in buckets of S3 and in GitHub's service, against services on loopback that speak their protocols."""
    install(session)
    for name in ("img-cache-s3", "img-cache-gha"):
        check_distribution(session, name)


@nox.session
def contrib(session: nox.Session) -> None:
    """The plugins of contrib/, made from the template as those of other people; as an ordinary user."""
    require_ordinary_user(session)
    install(session)
    for name in ("img-exporter-squashfs", "img-exporter-initramfs", "img-source-debootstrap"):
        check_distribution(session, name, room="contrib")


@nox.session
def engines(session: nox.Session) -> None:
    """The engines of dask and Slurm: their contract on clusters of processes of this machine, and whole builds; as an ordinary user."""
    require_ordinary_user(session)
    install(session)
    for name in ("img-engine-dask", "img-engine-slurm"):
        check_distribution(session, name)
    kills = ("tests/integration/test_engines.py", "-k", "killed_at_any_moment")
    session.run("pytest", "-q", "-o", "timeout=1500", *kills, env={"IMG_TEST_KILLS": "20"})


@nox.session
def kaniko(session: nox.Session) -> None:
    """kaniko's command line: what it becomes, and whole builds against a real registry; as an ordinary user."""
    require_ordinary_user(session)
    install(session)
    check_distribution(session, "img-kaniko")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz what reads strangers' bytes, guided by coverage, for 80 seconds; ``-- --seconds 7200 dockerfile`` for longer."""
    install(session)
    if session.virtualenv.is_sandboxed:
        session.install("atheris>=3")
    session.run("python", "tests/fuzz/run.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against other builders, in alternation; as an ordinary user, or with ``-- --containers`` as root."""
    if "--containers" not in session.posargs:
        require_ordinary_user(session)
    install(session)
    session.run("python", "tests/bench/bench.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Random commands with kills on all backends, as an ordinary user: ``-- --minutes 120``; fuse where it is installed."""
    require_ordinary_user(session)
    install(session)
    session.run("python", "tests/soak/soak.py", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The README's demo."""
    install(session)
    session.run("sh", "contrib/demo/demo.sh", env={"PYTHON": "python"}, external=True)
