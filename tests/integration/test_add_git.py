"""ADD of git repositories with the real git, served by its daemon (docs/reference/dockerfile-cases.md, AD16 to AD18)."""

from __future__ import annotations

import base64
import os
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.git import Repository, git_daemon, git_web_server
from harness.host import need
from harness.img import Finished, Img, write_context
from harness.oci import ImageArchive

pytestmark = pytest.mark.rootless

COMMITTED = 1600000000


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    need("git")
    (tmp_path / "served").mkdir()
    with git_daemon(tmp_path / "served") as address:
        yield address


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository to copy: git takes longer to make it than many a test."""
    need("git")
    directory = tmp_path_factory.mktemp("pattern")
    (directory / "served").mkdir()
    made = Repository(directory / "served", "r.git", directory / "work")
    made.write({"top": "top", "sub/file": "v1", "link@": "top"})
    made.write({"sub/run.sh": "#!/bin/sh\n"}, mode=0o700)
    made.write({"sub/private": "p"}, mode=0o600)
    made.commit()
    made.git("tag", "v1")
    made.git("tag", "-a", "-m", "annotated", "v1a")
    made.write({"sub/file": "v2"}).commit()
    return made


@pytest.fixture
def repository(tmp_path: Path, url: str, pattern: Repository) -> Repository:
    return pattern.copy(tmp_path / "served", tmp_path / "work")


@pytest.fixture
def img(new_state) -> Img:  # type: ignore[no-untyped-def]
    """No base image is needed here."""
    return new_state(seeded=False)


def build(img: Img, directory: Path, instruction: str, *arguments: str) -> Finished:
    context = directory / "context"
    context.mkdir(exist_ok=True)
    write_context(context, f"FROM scratch\n{instruction}\n")
    return img.run("build", "-o", f"type=tar,dest={directory / 'out.tar'}", *arguments, context)


def tree(img: Img, directory: Path, instruction: str, *arguments: str) -> dict[str, tarfile.TarInfo]:
    build(img, directory, instruction, *arguments).ok()
    with tarfile.open(directory / "out.tar") as archive:
        return {member.name: member for member in archive}


def text(directory: Path, name: str) -> str:
    with tarfile.open(directory / "out.tar") as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read().decode()


def test_ad16_a_sub_directory_of_a_tag_with_the_modes_of_git(
    img: Img, tmp_path: Path, url: str, repository: Repository
) -> None:
    started = int(time.time())
    files = tree(img, tmp_path, f"ADD {url}/r.git#v1:sub /g")
    assert {name: oct(member.mode) for name, member in files.items() if member.isfile()} == {
        "g/file": "0o644",
        "g/private": "0o644",
        "g/run.sh": "0o755",
    }
    assert text(tmp_path, "g/file") == "v1"
    assert files["g/file"].mtime >= started


def test_the_default_branch_without_metadata_and_with_links(
    img: Img, tmp_path: Path, url: str, repository: Repository
) -> None:
    files = tree(img, tmp_path, f"ADD {url}/r.git /g/")
    assert text(tmp_path, "g/sub/file") == "v2"
    assert files["g/link"].linkname == "top"
    assert not [name for name in files if ".git" in name.split("/")]


@pytest.mark.parametrize(
    ("suffix", "wanted"),
    [
        ("#main", "v2"),
        ("#refs/tags/v1", "v1"),
        ("#v1a", "v1"),
        ("?tag=v1", "v1"),
        ("?branch=main", "v2"),
        ("?ref=v1", "v1"),
        ("?ref=v1&subdir=sub", None),
    ],
)
def test_forms_of_a_ref(
    img: Img, tmp_path: Path, url: str, repository: Repository, suffix: str, wanted: str | None
) -> None:
    files = tree(img, tmp_path, f"ADD {url}/r.git{suffix} /g/")
    if wanted is None:
        assert "g/file" in files
    else:
        assert text(tmp_path, "g/sub/file") == wanted


def test_a_commit_in_full_needs_no_look_up(img: Img, tmp_path: Path, url: str, repository: Repository) -> None:
    commit = repository.git("rev-parse", "v1")
    tree(img, tmp_path, f"ADD {url}/r.git#{commit} /g/")
    assert text(tmp_path, "g/sub/file") == "v1"
    (repository.bare / "git-daemon-export-ok").unlink()  # nobody is there any more
    assert "CACHED" in build(img, tmp_path, f"ADD {url}/r.git#{commit} /g/").ok().stderr


@pytest.mark.parametrize("flag", ["", "--keep-git-dir "])
def test_the_object_of_an_annotated_tag_is_its_commit(
    img: Img, tmp_path: Path, url: str, repository: Repository, flag: str
) -> None:
    repository.git("tag", "-a", "-m", "of a tag", "v1aa", "v1a")
    repository.push()
    for name in ("v1a", "v1aa"):
        pinned = repository.git("rev-parse", name)
        assert repository.git("cat-file", "-t", pinned) == "tag"
        tree(img, tmp_path, f"ADD {flag}{url}/r.git#{pinned} /g/")
        assert text(tmp_path, "g/sub/file") == "v1"
        if flag:
            assert text(tmp_path, "g/.git/HEAD").strip() == repository.git("rev-parse", "v1")


@pytest.mark.parametrize("kind", ["tree", "blob", "tag-of-blob"])
@pytest.mark.parametrize("where", ["add", "context", "epoch"])
def test_an_object_that_is_no_commit_is_a_clear_error(
    img: Img, tmp_path: Path, url: str, repository: Repository, kind: str, where: str
) -> None:
    repository.git("tag", "-a", "-m", "of a file", "key", "HEAD:top")
    repository.push()
    pinned = repository.git("rev-parse", {"tree": "HEAD^{tree}", "blob": "HEAD:top", "tag-of-blob": "key"}[kind])
    if where == "context":
        refused = img.run("build", "-t", "x", f"{url}/r.git#{pinned}")
    else:
        given = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"] if where == "epoch" else []
        refused = build(img, tmp_path, f"ADD {url}/r.git#{pinned} /g/", *given)
    refused.refused(2, f"{pinned} of `{url}/r.git` is no commit but a {kind.partition('-')[0]}")


def test_ad17_a_shortened_commit_as_checksum(img: Img, tmp_path: Path, url: str, repository: Repository) -> None:
    commit = repository.git("rev-parse", "v1")
    build(img, tmp_path, f"ADD --checksum={commit[:7]} {url}/r.git#v1 /g").ok()
    refused = build(img, tmp_path, f"ADD --checksum={'0' * 7} {url}/r.git#v1 /g")
    assert refused.returncode == 1
    assert f"expected checksum to match {'0' * 7}, got {commit}" in refused.stderr


def test_ad18_an_unknown_query_key(img: Img, tmp_path: Path, url: str, repository: Repository) -> None:
    assert 'unexpected query "foo"' in build(img, tmp_path, f"ADD {url}/r.git?foo=1 /g").stderr


def test_a_missing_ref(img: Img, tmp_path: Path, url: str, repository: Repository) -> None:
    refused = build(img, tmp_path, f"ADD {url}/r.git#nope /g")
    assert refused.returncode == 1
    assert "repository does not contain ref nope" in refused.stderr


def test_a_missing_repository(img: Img, tmp_path: Path, url: str) -> None:
    refused = build(img, tmp_path, f"ADD {url}/none.git /g")
    assert refused.returncode == 6
    assert f"cannot read git repository `{url}/none.git`" in refused.stderr


def test_a_branch_is_looked_up_at_each_build_and_fetched_only_if_it_moved(
    img: Img, tmp_path: Path, url: str, repository: Repository
) -> None:
    add = f"ADD {url}/r.git /g"
    build(img, tmp_path, add).ok()
    assert "CACHED" in build(img, tmp_path, add).ok().stderr
    repository.write({"sub/file": "v3"}).commit()
    assert "CACHED" not in build(img, tmp_path, add).ok().stderr
    assert text(tmp_path, "g/sub/file") == "v3"


def test_a_commit_that_leaves_the_copied_files_alone_is_a_hit(
    img: Img, tmp_path: Path, url: str, repository: Repository
) -> None:
    add = f"ADD {url}/r.git#main:sub /g"
    build(img, tmp_path, add).ok()
    repository.write({"top": "changed"}).commit()
    assert "CACHED" in build(img, tmp_path, add).ok().stderr


@pytest.mark.parametrize("way", ["query", "epoch"])
def test_times_of_the_commit(img: Img, tmp_path: Path, url: str, repository: Repository, way: str) -> None:
    arguments = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"] if way == "epoch" else []
    suffix = "?mtime=commit" if way == "query" else ""
    image = tmp_path / "image.tar"
    # Of the layer, for in an archive of the files all have the time of SOURCE_DATE_EPOCH.
    build(img, tmp_path, f"ADD {url}/r.git{suffix} /g/", "-o", f"type=oci,dest={image}", *arguments).ok()
    files = ImageArchive(image).tree()
    assert files["g/sub/file"].mtime == COMMITTED
    assert files["g/sub"].mtime == COMMITTED


def test_keep_git_dir_gives_a_repository(img: Img, tmp_path: Path, url: str, repository: Repository) -> None:
    files = tree(img, tmp_path, f"ADD --keep-git-dir {url}/r.git /g/")
    assert "g/.git/HEAD" in files
    assert text(tmp_path, "g/.git/HEAD").strip() == repository.git("rev-parse", "main")
    assert not [name for name in files if name.startswith("g/.git/hooks/")]


def test_flags_hold_for_files_of_a_repository(img: Img, tmp_path: Path, url: str, repository: Repository) -> None:
    files = tree(img, tmp_path, f"ADD --chown=1:2 --chmod=700 --exclude=sub/p* --link {url}/r.git /g/")
    assert "g/sub/private" not in files
    assert (files["g/sub/file"].uid, files["g/sub/file"].gid, files["g/sub/file"].mode) == (1, 2, 0o700)


def test_submodules_come_along_without_their_metadata(
    img: Img, tmp_path: Path, url: str, repository: Repository
) -> None:
    inner = Repository(tmp_path / "served", "inner.git", tmp_path / "inner-work")
    inner.write({"deep": "inside"}).commit()
    repository.git("submodule", "--quiet", "add", str(inner.bare), "mod")
    repository.git("config", "-f", ".gitmodules", "submodule.mod.url", "../inner.git")
    repository.commit()
    files = tree(img, tmp_path, f"ADD {url}/r.git /g/")
    assert text(tmp_path, "g/mod/deep") == "inside"
    assert not [name for name in files if ".git" in name.split("/")]
    assert "g/mod/deep" not in tree(img, tmp_path, f"ADD {url}/r.git?submodules=false /g/")


def test_a_sub_directory_that_is_a_link_is_not_followed(
    img: Img, tmp_path: Path, url: str, repository: Repository
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_text("host file")
    repository.write({"out@": str(tmp_path / "outside"), "up@": "..", "d/out@": str(tmp_path)}).commit()
    for subdir in ("out", "up", "d/out/outside", "top"):
        refused = build(img, tmp_path, f"ADD {url}/r.git#main:{subdir} /g/")
        assert refused.returncode == 1, subdir
        assert f"sub-directory `{subdir}`" in refused.stderr


def test_neither_hooks_nor_filters_nor_configuration_of_a_repository_run(
    img: Img, tmp_path: Path, url: str, repository: Repository
) -> None:
    trap = tmp_path / "trap"
    command = f"sh -c 'touch {trap}'"
    repository.write({
        ".gitattributes": "* filter=evil diff=evil\n",
        ".gitconfig": f'[filter "evil"]\n smudge = {command}\n',
        ".gitmodules": f'[submodule "x"]\n path = x\n url = ext::{command}\n update = !{command}\n',
    })  # fmt: skip
    home = img.home
    (home / ".gitconfig").write_text(f'[core]\n fsmonitor = {command}\n[filter "evil"]\n smudge = {command}\n')
    repository.commit()
    build(img, tmp_path, f"ADD {url}/r.git /g/")
    assert not trap.exists()


@pytest.mark.parametrize(
    "address",
    ["ssh://-oProxyCommand=touch$IFS{}/r.git", "git://127.0.0.1:1/r.git#--upload-pack=touch$IFS{}", "git@-oX:r.git"],
)
def test_addresses_that_look_like_options_are_refused(img: Img, tmp_path: Path, address: str) -> None:
    trap = tmp_path / "trap"
    assert build(img, tmp_path, f"ADD {address.format(trap)} /g/").returncode not in (0, 70)
    assert not trap.exists()


def test_a_submodule_cannot_read_files_of_the_host(img: Img, tmp_path: Path, url: str, repository: Repository) -> None:
    inner = Repository(tmp_path / "elsewhere", "inner.git", tmp_path / "inner-work")
    inner.write({"deep": "canary"}).commit()
    repository.git("submodule", "--quiet", "add", str(inner.bare), "mod")
    repository.commit()
    refused = build(img, tmp_path, f"ADD {url}/r.git /g/")
    assert refused.returncode == 6
    assert "transport 'file' not allowed" in refused.stderr


def test_nothing_of_git_stays_in_the_state(img: Img, tmp_path: Path, url: str, repository: Repository) -> None:
    build(img, tmp_path, f"ADD {url}/r.git /g/").ok()
    assert not [path for path in img.state.rglob("*") if path.name in (".git", "FETCH_HEAD")]


def test_git_runs_as_the_user_and_not_as_the_root_of_a_namespace(
    img: Img, tmp_path: Path, url: str, repository: Repository
) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "git").write_text(f"#!/bin/sh\nid -u > {tmp_path}/uid\nenv > {tmp_path}/env\nexit 1\n")
    (fake / "git").chmod(0o755)
    path = f"{fake}:{dict(img.environment())['PATH']}"
    build(img.with_environment(PATH=path, SECRET_THING="c4nary"), tmp_path, f"ADD {url}/r.git /g/")
    assert int((tmp_path / "uid").read_text()) == os.getuid()
    assert "c4nary" not in (tmp_path / "env").read_text()


# ----------------------------------------------------------------------------------------------------------- over HTTP


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


#: Arguments (``{}`` is the origin of the server), variables, the user part of the address, and the header that is sent.
LOGINS = {
    "token": (["--secret", "id=GIT_AUTH_TOKEN.{},env=T"], {"T": "t0ken"}, "", basic("x-access-token:t0ken")),
    "header": (["--secret", "id=GIT_AUTH_HEADER.{},env=T"], {"T": "Bearer t0ken"}, "", "Bearer t0ken"),
    "address": ([], {}, "me:t0ken@", basic("me:t0ken")),
}  # fmt: skip


@pytest.mark.parametrize("way", LOGINS)
def test_logins_reach_their_host_and_nothing_else(img: Img, tmp_path: Path, repository: Repository, way: str) -> None:
    arguments, variables, user, wanted = LOGINS[way]
    inner = Repository(tmp_path / "served", "inner.git", tmp_path / "inner-work")
    inner.write({"deep": "inside"}).commit()
    served = tmp_path / "served"
    with git_web_server(served) as (other, strange), git_web_server(served, {"/r.git": wanted}) as (home, _):
        repository.git("submodule", "--quiet", "add", str(inner.bare), "mod")
        repository.git("config", "-f", ".gitmodules", "submodule.mod.url", f"{other}/inner.git")
        repository.commit()
        url = home.replace("://", f"://{user}") + "/r.git"
        words = [word.format(home) for word in arguments]
        files = tree(img.with_environment(**variables), tmp_path, f"ADD --keep-git-dir {url} /g/", *words)
    assert "g/mod/deep" in files
    assert strange
    assert not [headers for headers in strange if "authorization" in headers]
    with tarfile.open(tmp_path / "out.tar") as archive:
        stored = [file.read() for member in archive if (file := archive.extractfile(member)) is not None]
    assert not [data for data in stored if b"t0ken" in data]
    leaks = [path for path in img.state.rglob("*") if path.is_file() and b"t0ken" in path.read_bytes()]
    assert not leaks


@pytest.mark.parametrize("where", ["add", "context", "build-context"])
def test_tokens_of_no_origin_or_of_a_host_are_not_for_plain_http(
    img: Img, tmp_path: Path, repository: Repository, where: str
) -> None:
    names = ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN.127.0.0.1", "GIT_AUTH_TOKEN.http://127.0.0.1"]
    with git_web_server(tmp_path / "served") as (url, requests):
        host = url.removeprefix("http://")
        names += [f"GIT_AUTH_TOKEN.{host}", f"GIT_AUTH_HEADER.https://{host}"]
        secrets = [word for name in names for word in ("--secret", f"id={name},env=T")]
        mine = img.with_environment(T="t0ken")
        if where == "context":
            mine.run("build", "-t", "x", *secrets, f"{url}/r.git").refused(3, "failed to read dockerfile")
        elif where == "add":
            build(mine, tmp_path, f"ADD {url}/r.git /g/", *secrets).ok()
        else:
            build(mine, tmp_path, "COPY --from=x / /", "--build-context", f"x={url}/r.git", *secrets).ok()
    assert requests
    assert not [headers for headers in requests if "authorization" in headers]


#: What the user has at home and in his environment, each by its file or variable; ``{trap}`` leaves a file behind.
OWN = {
    "header": (".gitconfig", '[http]\n extraHeader = "X-Mine: c4nary"\n'),
    "cookies": (".gitconfig", "[http]\n cookieFile = {home}/cookies\n"),
    "helper": (".gitconfig", '[credential]\n helper = "!{trap}"\n'),
    "askpass": (".gitconfig", "[core]\n askPass = {trap}\n"),
    "another-place": (".gitconfig", '[url "http://me:c4nary@{host}/"]\n insteadOf = http://{host}/\n'),
    "included": (".gitconfig", "[include]\n path = {home}/included\n"),
    "xdg": (".config/git/config", '[http]\n extraHeader = "X-Mine: c4nary"\n'),
    "stored": (".git-credentials", "http://me:c4nary@{host}\n"),
    "netrc": (".netrc", "machine 127.0.0.1 login me password c4nary\n"),
    "ask-program": ("GIT_ASKPASS", "{trap}"),
    "ask-program-of-ssh": ("SSH_ASKPASS", "{trap}"),
    "parameters": ("GIT_CONFIG_PARAMETERS", "'credential.helper'='!{trap}'"),
    "counted": ("GIT_CONFIG_KEY_0", "credential.helper"),
    "global": ("GIT_CONFIG_GLOBAL", "{home}/included"),
    "programs": ("GIT_EXEC_PATH", "{home}"),
}


@pytest.mark.parametrize("context", [False, True], ids=["add", "context"])
@pytest.mark.parametrize("what", OWN)
def test_nothing_of_the_users_git_serves(
    img: Img, tmp_path: Path, repository: Repository, what: str, context: bool
) -> None:
    trapped, trap = tmp_path / "trapped", tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {trapped}\necho username=me\necho password=c4nary\n")
    trap.chmod(0o755)
    with git_web_server(tmp_path / "served", {"/r.git": "401"}) as (url, requests):
        place, text = OWN[what]
        text = text.format(trap=trap, home=img.home, host=url.removeprefix("http://"))
        (img.home / "cookies").write_text("127.0.0.1\tFALSE\t/\tFALSE\t0\tmine\tc4nary\n")
        (img.home / "included").write_text('[http]\n extraHeader = "X-Mine: c4nary"\n')
        variables = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": f"!{trap}", place: text} if place.isupper() else {}
        if not variables:
            (img.home / place).parent.mkdir(parents=True, exist_ok=True)
            (img.home / place).write_text(text)
        mine = img.with_environment(**variables)
        address = f"{url}/r.git"
        refused = mine.run("build", "-t", "x", address) if context else build(mine, tmp_path, f"ADD {address} /g/")
    refused.refused(6, "cannot read git repository")
    assert requests
    assert "c4nary" not in repr(requests)
    assert not [headers for headers in requests if {"authorization", "cookie", "x-mine"} & headers.keys()]
    assert not trapped.exists()


def test_a_login_does_not_follow_a_redirect_to_another_host(img: Img, tmp_path: Path, repository: Repository) -> None:
    served = tmp_path / "served"
    with git_web_server(served) as (other, strange):
        elsewhere = {"/r.git": other.removeprefix("http://")}
        with git_web_server(served, elsewhere) as (home, _):
            build(img, tmp_path, f"ADD {home}/r.git /without/").ok()
            assert strange
            tokens = img.with_environment(T="t0ken")
            refused = build(tokens, tmp_path, f"ADD {home}/r.git /g/", "--secret", f"id=GIT_AUTH_TOKEN.{home},env=T")
    assert refused.returncode == 6
    assert not [headers for headers in strange if "authorization" in headers]


def test_a_private_repository_without_login_is_an_error_and_no_question(
    img: Img, tmp_path: Path, repository: Repository
) -> None:
    with git_web_server(tmp_path / "served", {"/r.git": "401"}) as (url, _):
        refused = build(img, tmp_path, f"ADD {url}/r.git /g/")
    assert refused.returncode == 6
    assert f"cannot read git repository `{url}/r.git`" in refused.stderr
    assert f"hint: for a private one give a token as `--secret id=GIT_AUTH_TOKEN.{url}`" in refused.stderr


# ------------------------------------------------------------------------------------------------------------ over ssh


@pytest.mark.parametrize(
    ("where", "granted"), [("add", False), ("add-with-leave", True), ("context", True), ("build-context", False)]
)
def test_agent_and_keys_of_the_user_are_for_what_the_user_named_or_allowed(
    img: Img, tmp_path: Path, where: str, granted: bool
) -> None:
    need("git")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/said; env >> {tmp_path}/said; id -u >> {tmp_path}/said\n'
    )
    (programs / "ssh").chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.bind(str(tmp_path / "agent"))
        path = f"{programs}:{img.environment()['PATH']}"
        mine = img.with_environment(PATH=path, SSH_AUTH_SOCK=str(tmp_path / "agent"))
        address = "git@127.0.0.1:o/r.git"
        if where == "context":
            mine.run("build", "-t", "x", address)
        elif where == "build-context":
            build(mine, tmp_path, "COPY --from=x / /", "--build-context", f"x={address}")
        else:
            build(mine, tmp_path, f"ADD {address} /g", *(["--ssh", "default"] if granted else []))
    assert (tmp_path / "said").exists() == granted
    if granted:
        said = (tmp_path / "said").read_text()
        assert f"SSH_AUTH_SOCK={tmp_path / 'agent'}" in said
        assert ("-F none" in said) == (where != "context")
        assert "BatchMode=yes" in said
        assert said.splitlines()[-1] == str(os.getuid())
