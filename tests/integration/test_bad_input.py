"""Whatever is wrong with the input: one line that names it, the typed exit status, no traceback, and a state that still works."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.fixtures import NewState
from harness.host import AS_ROOT
from harness.img import Img, remove_as_mapped_root, write_context
from img_core.testing.registry import DockerRegistry, free_port

pytestmark = pytest.mark.rootless

GENERAL, USAGE, DOCKERFILE, STEP, CREDENTIALS, REGISTRY = 1, 2, 3, 4, 5, 6


@pytest.fixture(scope="module")
def img(tmp_path_factory: pytest.TempPathFactory, seed: Path) -> Iterator[Img]:
    """One state for all these refusals; in the end a good build still works in it."""
    directory = tmp_path_factory.mktemp("refusals")
    maker = NewState(directory, seed)
    img = maker()
    yield img
    try:
        (directory / "good").mkdir()
        img.build(write_context(directory / "good", "FROM busybox\nRUN true\n"), tag="good").ok()
    finally:
        maker.close()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(img: Img) -> Iterator[None]:
    """After every refusal nothing new is listed and nothing half-made lies about."""
    yield
    assert img.names() == ["docker.io/library/busybox:latest"]
    assert list((img.state / "run").iterdir()) == []


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return write_context(directory, "FROM busybox\nCOPY a /a\nRUN true\n", {"a": "a"})


# --- the context and the Dockerfile as files


def test_missing_dockerfile_is_named(img: Img, context: Path) -> None:
    (context / "Dockerfile").unlink()
    img.build(context).refused(DOCKERFILE, "Dockerfile")


def test_missing_file_given_by_f_is_named(img: Img, context: Path) -> None:
    img.build(context, "-f", context / "nope.dockerfile").refused(DOCKERFILE, "nope.dockerfile")


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"])
def test_fifo_is_refused_and_not_waited_for(img: Img, context: Path, name: str) -> None:
    (context / name).unlink(missing_ok=True)
    os.mkfifo(context / name)
    done = img.build(context, timeout=20)
    assert done.returncode in (GENERAL, USAGE, DOCKERFILE), str(done)
    done.refused(done.returncode, name)


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore"])
def test_directory_in_place_of_a_file_is_refused(img: Img, context: Path, name: str) -> None:
    (context / name).unlink(missing_ok=True)
    (context / name).mkdir()
    done = img.build(context)
    assert done.returncode in (GENERAL, USAGE, DOCKERFILE), str(done)
    done.refused(done.returncode, name)


def foreign(*candidates: str) -> Path:
    """Return one of root's files or directories that we may not read."""
    if AS_ROOT:
        pytest.skip("root may read everything")
    for path in map(Path, candidates):
        if path.exists() and not os.access(path, os.R_OK):
            return path
    pytest.skip(f"this host lacks a file of root's such as {candidates[0]}")


def test_unreadable_file_is_named_and_never_taken_for_empty(img: Img, tmp_path: Path) -> None:
    secret = foreign("/etc/shadow", "/etc/gshadow")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM busybox\nCOPY {secret.name} /copied\n")
    done = img.build(secret.parent, "-f", dockerfile)
    done.refused(GENERAL, secret.name, "ermission denied")


def test_unreadable_directory_is_named(img: Img, tmp_path: Path) -> None:
    closed = foreign("/root", "/var/lib/private", "/etc/ssl/private")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM busybox\nCOPY {closed.name} /copied\n")
    img.build(closed.parent, "-f", dockerfile).refused(GENERAL, closed.name, "ermission denied")


def test_unreadable_dockerfile_is_named(img: Img, context: Path) -> None:
    secret = foreign("/etc/shadow", "/etc/gshadow")
    img.build(context, "-f", secret).refused(DOCKERFILE, str(secret), "ermission denied")


def test_file_without_permissions_is_copied_in_full_because_it_is_ours(img: Img, context: Path, tmp_path: Path) -> None:
    (context / "a").chmod(0)
    img.build(context, "-o", f"type=tar,dest={tmp_path}/root.tar", tag="").ok()
    with tarfile.open(tmp_path / "root.tar") as archive:
        member = archive.getmember("a")
        content = archive.extractfile(member)
        assert content is not None
        assert (member.mode, content.read()) == (0, b"a")


def test_missing_context_is_named(img: Img, tmp_path: Path) -> None:
    img.build(tmp_path / "nowhere").refused(GENERAL, "nowhere")


def test_context_that_is_a_file_is_refused(img: Img, context: Path) -> None:
    img.build(context / "a").refused(USAGE, f"{context}/a", "not a directory")


def test_empty_dockerfile_is_refused(img: Img, context: Path) -> None:
    (context / "Dockerfile").write_text("# nothing\n")
    img.build(context).refused(DOCKERFILE, "no instructions")


def test_binary_dockerfile_is_refused_with_escaped_bytes(img: Img, context: Path) -> None:
    (context / "Dockerfile").write_bytes(b"FROM busybox\n\x1b[31m\xff\x00 x\n")
    done = img.build(context)
    assert done.returncode == DOCKERFILE, str(done)
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr


# --- what stands in the Dockerfile


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM busybox\nRUNN true\n", ("RUNN",)),
        ("FROM busybox\nCOPY a\n", ("COPY",)),
        ("FROM busybox\nCOPY --from=nope /x /x\n", ("nope",)),
        ("RUN true\n", ("no build stage",)),
        ("FROM busybox AS Bad!Name\n", ("bad!name",)),
        ("FROM busybox\nENV\n", ("ENV",)),
        ("FROM busybox\nRUN --mount=type=nonsense true\n", ("nonsense",)),
        ("FROM ${NOTHING}\nRUN true\n", ("NOTHING",)),
        ("FROM busybox\nCOPY --chmod=rwx a /a\n", ("rwx",)),
        ("FROM busybox\nEXPOSE 80/frog\n", ("80/frog",)),
    ],
)
def test_mistake_in_the_dockerfile_is_named(img: Img, context: Path, text: str, words: tuple[str, ...]) -> None:
    (context / "Dockerfile").write_text(text)
    done = img.build(context)
    assert done.returncode in (DOCKERFILE, GENERAL, REGISTRY), str(done)
    lowered = done.refused(done.returncode).error.lower()
    assert all(word.lower() in lowered for word in words), str(done)


def test_unknown_instruction_shows_line_and_status(img: Img, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nENV A=1\nFORM x\n")
    done = img.build(context).refused(DOCKERFILE, "FORM")
    assert "3" in done.stderr


def test_unknown_stage_is_named(img: Img, context: Path) -> None:
    done = img.build(context, "--target", "nope")
    assert done.returncode in (USAGE, DOCKERFILE), str(done)
    done.refused(done.returncode, "nope")


def test_missing_source_of_copy_is_named(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nCOPY gone.txt /x\n")
    done = img.build(context)
    assert done.returncode in (GENERAL, DOCKERFILE), str(done)
    done.refused(done.returncode, "gone.txt")


def test_source_excluded_by_the_ignore_file_is_named_with_the_reason(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nCOPY a /x\n", {".dockerignore": "a\n"})
    done = img.build(context)
    assert done.returncode in (GENERAL, DOCKERFILE), str(done)
    assert ".dockerignore" in done.refused(done.returncode).stderr


def test_unknown_user_of_copy_is_named(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nCOPY --chown=nobodyhere a /x\n")
    done = img.build(context)
    done.refused(done.returncode, "nobodyhere")
    assert done.returncode != 0


def test_failing_step_gives_its_own_code_and_status_4(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nRUN echo some last words; exit 7\n")
    done = img.build(context).refused(STEP, "exit code: 7")
    assert "some last words" in done.stderr
    assert "Dockerfile:2" in done.stderr


def test_step_killed_by_a_signal_says_so(img: Img, context: Path) -> None:
    write_context(context, "FROM busybox\nRUN sh -c 'kill -SEGV $$'; exit $?\n")
    done = img.build(context).refused(STEP)
    assert "139" in done.error or "SIGSEGV" in done.error, str(done)


def test_missing_program_of_a_step_is_named(img: Img, context: Path) -> None:
    write_context(context, 'FROM busybox\nRUN ["/no/such/program"]\n')
    done = img.build(context)
    assert done.returncode == STEP, str(done)
    assert "/no/such/program" in done.refused(STEP).stderr


def test_shell_that_the_base_lacks_is_named(img: Img, context: Path) -> None:
    write_context(context, "FROM scratch\nRUN echo hi\n")
    done = img.build(context).refused(STEP)
    assert "/bin/sh" in done.stderr


# --- other machines


def test_unreachable_registry_is_named(img: Img, context: Path) -> None:
    name = f"127.0.0.1:{free_port()}/some/image"
    write_context(context, f"FROM {name}\nRUN true\n")
    img.build(context).refused(REGISTRY, name.partition("/")[0])
    img.run("pull", name).refused(REGISTRY, name.partition("/")[0])


@pytest.mark.registry
def test_image_or_digest_that_the_registry_lacks_is_named(img: Img, context: Path, tmp_path: Path) -> None:
    with DockerRegistry(tmp_path / "registry") as registry:
        missing = f"{registry.address}/no/such:tag"
        write_context(context, f"FROM {missing}\nRUN true\n")
        done = img.build(context)
        assert done.returncode in (GENERAL, REGISTRY), str(done)
        done.refused(done.returncode, missing)
        digest = "sha256:" + "0" * 64
        write_context(context, f"FROM {registry.address}/no/such@{digest}\nRUN true\n")
        done = img.build(context)
        assert done.returncode in (GENERAL, REGISTRY), str(done)
        done.refused(done.returncode, digest)


@pytest.mark.parametrize("digest", ["sha256:abc", "md5:" + "0" * 32, "sha256:" + "g" * 64])
def test_malformed_digest_is_refused_before_anything_is_asked(img: Img, context: Path, digest: str) -> None:
    write_context(context, f"FROM localhost:1/x@{digest}\nRUN true\n")
    done = img.build(context)
    assert done.returncode in (USAGE, DOCKERFILE), str(done)
    done.refused(done.returncode, digest)


# --- the command line


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("build",), "path"),
        (("build", "-t", "UPPER", "."), "UPPER"),
        (("build", "-t", "x", "--nonsense", "."), "--nonsense"),
        (("build", "-o", "type=nonsense", "."), "nonsense"),
        (("build", "-o", "type=tar,dest=/", "."), "directory"),
        (("build", "-o", "type=tar,nonsense=1", "."), "nonsense"),
        (("build", "-t", "x", "--platform", "bogus/foo/bar/baz", "."), "bogus/foo/bar/baz"),
        (("build", "-t", "x", "-b", "nonsense", "."), "nonsense"),
        (("build", "-t", "x", "--executor", "nonsense", "."), "nonsense"),
        (("build", "-t", "x", "--label", "", "."), "label"),
        (("build", "https://[[[/x"), "https://[[[/x"),
        (("build", "https://host:99999999/x"), "https://host:99999999/x"),
    ],
)
def test_mistake_on_the_command_line_is_a_usage_error(
    img: Img, context: Path, arguments: tuple[str, ...], word: str
) -> None:
    img.run(*arguments, cwd=context).refused(USAGE, word)


@pytest.mark.parametrize("arguments", [("rm", "nope"), ("save", "nope"), ("inspect", "nope"), ("tag", "nope", "new")])
def test_image_that_is_not_there_is_named(img: Img, arguments: tuple[str, ...]) -> None:
    img.run(*arguments).refused(GENERAL, "nope")


def test_unknown_command_is_a_usage_error_that_shows_the_commands(img: Img) -> None:
    done = img.run("frobnicate")
    assert done.returncode == USAGE
    assert "'frobnicate' is not an img command" in done.error
    assert "img build" in done.stderr or "build " in done.stderr


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_state_directory_that_cannot_be_written_is_named(img: Img, context: Path) -> None:
    Img(Path("/usr/lib/img-test-state"), img.home).build(context).refused(GENERAL, "/usr/lib/img-test-state")


@pytest.mark.parametrize("name", ["state", "a b/[st]*te", "!state", "#state", "sub/.state"])
@pytest.mark.parametrize("ignored", ["", "*\n!**\n"])
def test_state_directory_in_the_context_is_left_out(
    img: Img, seed: Path, tmp_path: Path, name: str, ignored: str
) -> None:
    context = write_context(
        tmp_path / "context", "FROM busybox\nCOPY . /c\nRUN ls -A /c/* && ! find /c | grep img.db\n"
    )
    (context / ".dockerignore").write_text(ignored)
    (context / name).parent.mkdir(exist_ok=True)
    (context / "file").write_text("x")
    shutil.copytree(seed, context / name)
    inside = replace(img, state=context / name)
    try:
        inside.build(context).ok()
        assert "CACHED" in inside.build(context).ok().stderr
        inside.build(context / name, "-f", context / "Dockerfile").refused(2, "is the state directory")
    finally:
        remove_as_mapped_root(context)
