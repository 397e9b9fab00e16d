"""Files from the web and git over TLS: who is believed, what is remembered of whom, which secret goes where, and what is shown."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.git import Repository, git_web_server
from harness.host import need
from harness.img import Finished, Img, write_context
from harness.web import Page, WebServer, web_server
from img_core.testing.registry import Authority

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.rootless

SECRET = "hunter2canary"


@pytest.fixture
def web(authority: Authority) -> Iterator[WebServer]:
    with web_server(authority.issue("web")) as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    need("git")
    (tmp_path / "served").mkdir()
    made = Repository(tmp_path / "served", "r.git", tmp_path / "work")
    made.write({"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": "text"}).commit()
    return made


@pytest.fixture
def img(new_state) -> Img:  # type: ignore[no-untyped-def]
    """No base image is needed here; the authority is not trusted."""
    made: Img = new_state(seeded=False)
    return made


@pytest.fixture
def trusting(img: Img, authority: Authority) -> Img:
    return img.with_environment(SSL_CERT_FILE=str(authority.certificate), GIT_SSL_CAINFO=str(authority.certificate))


def build(img: Img, directory: Path, instructions: str, *arguments: str) -> Finished:
    context = directory / "context"
    context.mkdir(exist_ok=True)
    write_context(context, f"FROM scratch\n{instructions}\n")
    return img.run("build", "-o", f"type=tar,dest={directory / 'out.tar'}", *arguments, context)


def content(directory: Path, name: str) -> bytes:
    with tarfile.open(directory / "out.tar") as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


# ------------------------------------------------------------------------------------------------ the flag for registries


@pytest.mark.parametrize("what", ["add", "add-git", "context", "git-context", "named-context", "dockerfile"])
def test_the_flag_for_registries_is_not_about_the_web(
    img: Img, tmp_path: Path, authority: Authority, web: WebServer, repository: Repository, what: str
) -> None:
    web.pages["/f"] = Page(b"FROM scratch\nCOPY . /c\n")
    with git_web_server(tmp_path / "served", certificate=authority.issue("git")) as (git, _):
        refused = {
            "add": lambda: build(img, tmp_path, f"ADD {web.url}/f /x", "--insecure-registry"),
            "add-git": lambda: build(img, tmp_path, f"ADD {git}/r.git /x", "--insecure-registry"),
            "context": lambda: img.run("build", "-t", "x", "--insecure-registry", f"{web.url}/f"),
            "git-context": lambda: img.run("build", "-t", "x", "--insecure-registry", f"{git}/r.git"),
            "named-context": lambda: build(
                img, tmp_path, "COPY --from=n / /", "--insecure-registry", "--build-context", f"n={web.url}/f"
            ),
            "dockerfile": lambda: img.run("build", "-t", "x", "--insecure-registry", "-f", f"{web.url}/f", tmp_path),
        }[what]()
    refused.refused(6, "certificate")
    assert "--insecure-registry" not in refused.stderr
    assert web.requests == []


def test_a_server_without_tls_is_not_met_with_the_flag_for_registries(img: Img, tmp_path: Path) -> None:
    with web_server() as plain:
        refused = build(img, tmp_path, f"ADD https://{plain.address}/f /x").refused(6, "speaks no TLS")
    assert "--insecure-registry" not in refused.stderr


# --------------------------------------------------------------------------------------------------- what is remembered


def test_what_is_remembered_holds_for_who_was_trusted_then(
    trusting: Img, tmp_path: Path, web: WebServer, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The memory of another authority's answers, or of other credentials, is not asked about."""
    web.pages["/f"] = Page(b"one")
    add = f"ADD {web.url}/f /x"
    build(trusting, tmp_path, add).ok()
    (tmp_path / "both.pem").write_bytes(authority.certificate.read_bytes())
    elsewhere = trusting.with_environment(SSL_CERT_FILE=str(tmp_path / "both.pem"), T="tok3n")
    secret = ("--secret", f"id=HTTP_AUTH_TOKEN_{web.address},env=T")
    for user, given, known in (
        (trusting, (), True),
        (elsewhere, (), False),
        (elsewhere, secret, False),
        (elsewhere, secret, True),
        (elsewhere, (), True),
    ):
        web.requests.clear()
        build(user, tmp_path, add, *given).ok()
        assert [("if-none-match" in headers) for headers in web.answers("/f")] == [known], (given, known)


def test_notes_of_versions_that_did_not_verify_are_not_believed(trusting: Img, tmp_path: Path, web: WebServer) -> None:
    import hashlib

    web.pages["/f"] = Page(b"right", etag=False, hook=lambda request: 304 if request.headers["If-None-Match"] else 0)
    digest = f"sha256:{hashlib.sha256(b'wrong').hexdigest()}"
    notes = trusting.state / "sources" / "https"
    notes.mkdir(parents=True)
    note = {"etag": '"x"', "last-modified": "", "digests": {"sha256": digest}}
    (notes / hashlib.sha256(f"{web.url}/f".encode()).hexdigest()).write_text(json.dumps(note))
    build(trusting, tmp_path, f"ADD {web.url}/f /x").ok()
    assert content(tmp_path, "x") == b"right"


def test_validators_go_to_the_origin_that_gave_them(
    trusting: Img, tmp_path: Path, web: WebServer, authority: Authority
) -> None:
    add = f"ADD {web.url}/f /x"
    with web_server(authority.issue("first")) as first, web_server(authority.issue("second")) as second:
        web.pages["/f"] = Page(status=302, headers={"Location": f"{first.url}/f"}, etag=False)
        first.pages["/f"] = Page(b"one")
        second.pages["/f"] = Page(status=304)
        build(trusting, tmp_path, add).ok()
        build(trusting, tmp_path, add).ok()
        web.pages["/f"].headers["Location"] = f"{second.url}/f"
        build(trusting, tmp_path, add).refused(6, "invalid response status 304")
        assert [("if-none-match" in headers) for headers in first.answers("/f")] == [False, True]
        assert not [headers for headers in [*web.answers("/f"), *second.answers("/f")] if "if-none-match" in headers]


# -------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("HTTP_AUTH_TOKEN_{host}", True),
        ("HTTP_AUTH_TOKEN_https://{host}", True),
        ("HTTP_AUTH_HEADER_{host}", True),
        ("HTTP_AUTH_TOKEN_127.0.0.1", False),
        ("HTTP_AUTH_TOKEN_https://127.0.0.1", False),
        ("HTTP_AUTH_TOKEN_http://{host}", False),
        ("HTTP_AUTH_TOKEN_127.0.0.1:1", False),
        ("GIT_AUTH_TOKEN.{host}", False),
    ],
)
def test_a_secret_of_the_web_is_for_the_port_that_it_names(
    trusting: Img, tmp_path: Path, web: WebServer, name: str, sent: bool
) -> None:
    web.pages["/f"] = Page(b"text")
    mine = trusting.with_environment(T=SECRET)
    secret = f"id={name.format(host=web.address)},env=T"
    build(mine, tmp_path, f"ADD {web.url}/f /x", "--secret", secret).ok()
    assert [("authorization" in headers) for headers in web.answers("/f")] == [sent]


@pytest.mark.parametrize(
    ("name", "where", "sent"),
    [
        ("GIT_AUTH_TOKEN.{host}", "add", True),
        ("GIT_AUTH_HEADER.https://{host}", "add", True),
        ("GIT_AUTH_TOKEN.127.0.0.1", "add", False),
        ("GIT_AUTH_TOKEN", "add", False),
        ("GIT_AUTH_HEADER", "add", False),
        ("GIT_AUTH_TOKEN", "context", True),
        ("GIT_AUTH_HEADER", "context", True),
        ("GIT_AUTH_TOKEN", "named-context", True),
        ("GIT_AUTH_TOKEN.{host}", "context", True),
        ("GIT_AUTH_TOKEN.127.0.0.1", "context", False),
    ],
)
def test_a_secret_of_git_is_for_the_origin_that_it_names_or_that_the_user_gave(
    trusting: Img, tmp_path: Path, authority: Authority, repository: Repository, name: str, where: str, sent: bool
) -> None:
    mine = trusting.with_environment(T=SECRET)
    with git_web_server(tmp_path / "served", certificate=authority.issue("git")) as (url, requests):
        secret = ("--secret", f"id={name.format(host=url.partition('://')[2])},env=T")
        if where == "context":
            mine.run("build", "-t", "x", *secret, f"{url}/r.git").ok()
        elif where == "named-context":
            build(mine, tmp_path, "COPY --from=n /f /", *secret, "--build-context", f"n={url}/r.git").ok()
        else:
            build(mine, tmp_path, f"ADD {url}/r.git /x", *secret).ok()
    assert requests
    assert {("authorization" in headers) for headers in requests} == {sent}


def test_a_token_for_the_context_does_not_serve_other_origins(
    trusting: Img, tmp_path: Path, authority: Authority, repository: Repository
) -> None:
    mine = trusting.with_environment(GIT_AUTH_TOKEN=SECRET)
    certificate = authority.issue("git")
    served = tmp_path / "served"
    with git_web_server(served, certificate=certificate) as (url, _), git_web_server(served, certificate=certificate) as (
        other, strange,
    ):  # fmt: skip
        repository.write({"Dockerfile": f"FROM scratch\nADD {other}/r.git /x\n"}).commit()
        mine.run("build", "-t", "x", "--secret", "id=GIT_AUTH_TOKEN", f"{url}/r.git").ok()
    assert strange
    assert not [headers for headers in strange if "authorization" in headers]


# ------------------------------------------------------------------------------------------------ passwords in addresses


def everything(state: Path) -> bytes:
    return b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file() and not path.is_symlink())


ADDED = {
    "file": "ADD {web} /x",
    "json": 'ADD ["{web}", "/x"]',
    "argument": "ARG P=me:{secret}\nADD {scheme}://$P@{host}/f /x",
    "checksum": "ADD --checksum=sha256:982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1 {web} /x",
    "git": "ADD {git} /x",
    "keep": "ADD --keep-git-dir {git} /x",
    "parent": "ADD {git}#main:/ /x",
}


@pytest.mark.parametrize("progress", ["plain", "rawjson"])
@pytest.mark.parametrize("form", ADDED)
def test_a_password_in_an_address_is_sent_and_stays_nowhere(
    img: Img, tmp_path: Path, repository: Repository, form: str, progress: str
) -> None:
    pair = base64.b64encode(f"me:{SECRET}".encode()).decode()
    with web_server() as web, git_web_server(tmp_path / "served", {"/r.git": f"Basic {pair}"}) as (git, _):
        web.pages["/f"] = Page(b"text")
        words = {
            "web": f"http://me:{SECRET}@{web.address}/f", "git": git.replace("://", f"://me:{SECRET}@") + "/r.git",
            "secret": SECRET, "scheme": "http", "host": web.address,
        }  # fmt: skip
        context = tmp_path / "context"
        write_context(context, f"FROM scratch\n{ADDED[form].format(**words)}\n")
        options = ("--progress", progress, "--metadata-file", tmp_path / "metadata.json")
        done = img.run("build", "-t", "x", *options, "-o", f"type=oci,dest={tmp_path / 'o.tar'}", context).ok()
        assert not [headers for headers in web.answers("/f") if headers["authorization"] != f"Basic {pair}"]
        assert "://***@" in done.stderr + done.text
        shown = [done.stderr, done.text, (tmp_path / "metadata.json").read_text()]
        for command in (("history", "--no-trunc", "x"), ("inspect", "x"), ("du", "--verbose"), ("ls",)):
            shown.append(img.run(*command).text)
        with tarfile.open(tmp_path / "o.tar") as archive:
            shown += [file.read().decode("latin-1") for member in archive if (file := archive.extractfile(member))]
    if form != "argument":  # the value of an argument is its author's business
        assert not [text for text in shown if SECRET in text]
        assert SECRET.encode() not in everything(img.state)
    assert not [path for path in img.state.rglob("*") if SECRET in path.name]


FAILING = {
    "missing": "ADD http://me:{secret}@{host}/none /x",
    "down": "ADD http://me:{secret}@127.0.0.1:1/f /x",
    "git-missing": "ADD http://me:{secret}@{host}/none.git /x",
    "git-down": "ADD http://me:{secret}@127.0.0.1:1/r.git /x",
    "ssh": "ADD ssh://me:{secret}@127.0.0.1:1/r.git /x",
    "git-options": "ADD http://me:{secret}@{host}/r.git?nope=1 /x",
    "checksum": "ADD --checksum=sha256:{zeros} http://me:{secret}@{host}/f /x",
    "copy": "COPY http://me:{secret}@{host}/f /x",
    "bad-port": "ADD http://me:{secret}@{host}x/f /x",
    "slash": "ADD http://me:{secret}/x@{host}/f /x",
    "redirect": "ADD http://{host}/away /x",
    "redirect-git": "ADD http://{host}/away.git /x",
    "trigger": "ONBUILD ADD http://me:{secret}@{host}/f /x",
    "neighbour": "ADD http://me:{secret}@{host}/f /x\nCOPY none /y",
}


@pytest.mark.parametrize("way", FAILING)
def test_errors_do_not_show_passwords(img: Img, tmp_path: Path, way: str) -> None:
    need("git")
    with web_server() as web:
        web.pages["/f"] = Page(b"text")
        for path in ("/away", "/away.git/info/refs?service=git-upload-pack"):
            web.pages[path] = Page(status=302, headers={"Location": f"http://me:{SECRET}@{web.address}/f"})
        text = FAILING[way].format(secret=SECRET, host=web.address, zeros="0" * 64)
        for flags in ((), ("--debug",)):
            failed = build(img.with_flags(*flags), tmp_path, text)
            assert failed.returncode not in (0, 125), str(failed)
            assert SECRET not in failed.stderr, str(failed)
    assert SECRET.encode() not in everything(img.state)


@pytest.mark.parametrize(
    "address", ["http://me:{}@127.0.0.1:1/c.tar", "http://me:{}@127.0.0.1:1/r.git", "htps://me:{}@h/r.git"]
)
@pytest.mark.parametrize("where", ["context", "named", "dockerfile"])
def test_errors_about_contexts_do_not_show_passwords(img: Img, tmp_path: Path, address: str, where: str) -> None:
    need("git")
    given = address.format(SECRET)
    if where == "context":
        failed = img.run("build", "-t", "x", given)
    elif where == "named":
        failed = build(img, tmp_path, "COPY --from=n / /", "--build-context", f"n={given}")
    else:
        failed = img.run("build", "-t", "x", "-f", given, tmp_path)
    assert failed.returncode not in (0, 125)
    assert SECRET not in failed.stderr


def test_a_trigger_may_take_the_password_from_a_variable(img: Img, tmp_path: Path) -> None:
    build(img, tmp_path, "ONBUILD ARG P\nONBUILD ADD https://me:$P@h.example/f /x").refused(
        3, "would keep the password"
    )
    build(img, tmp_path, "ONBUILD ARG P\nONBUILD ADD https://$U:${P}@h.example/f /x").ok()
