"""ADD of URLs against a real web server (docs/reference/dockerfile-cases.md, AD11 to AD15, AD19 and mistakes)."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from harness.img import Finished, Img, write_context
from harness.web import Page, WebServer, web_server

pytestmark = pytest.mark.rootless

MODIFIED = "Mon, 01 Jan 2018 00:00:00 GMT"
MODIFIED_SECONDS = 1514764800


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def img(new_state) -> Img:  # type: ignore[no-untyped-def]
    """No base image is needed here."""
    return new_state(seeded=False)


def tree(img: Img, directory: Path, dockerfile: str, *arguments: str) -> dict[str, tarfile.TarInfo]:
    """Build and return the files of the result by name."""
    build(img, directory, dockerfile, *arguments).ok()
    with tarfile.open(directory / "out.tar") as archive:
        return {member.name: member for member in archive}


def build(img: Img, directory: Path, dockerfile: str, *arguments: str) -> Finished:
    context = directory / "context"
    context.mkdir(exist_ok=True)
    write_context(context, dockerfile)
    return img.run("build", "-o", f"type=tar,dest={directory / 'out.tar'}", *arguments, context)


def content(directory: Path, name: str) -> bytes:
    with tarfile.open(directory / "out.tar") as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        member = tarfile.TarInfo("inside")
        member.size = 2
        out.addfile(member, io.BytesIO(b"hi"))
    return gzip.compress(buffer.getvalue())


def test_ad11_the_file_gets_the_last_element_of_the_path_mode_0600_and_its_own_date(
    img: Img, tmp_path: Path, web: WebServer
) -> None:
    web.pages["/d/f.txt?a=b"] = Page(b"text", modified=MODIFIED)
    files = tree(img, tmp_path, f"FROM scratch\nADD {web.url}/d/f.txt?a=b /x/\n")
    assert files["x/f.txt"].mode == 0o600
    assert files["x/f.txt"].mtime == MODIFIED_SECONDS
    assert (files["x/f.txt"].uid, files["x/f.txt"].gid) == (0, 0)
    assert content(tmp_path, "x/f.txt") == b"text"


def test_ad12_without_name_and_date(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/"] = Page(b"root", etag=False)
    files = tree(img, tmp_path, f"FROM scratch\nADD {web.url}/ /x/\n")
    assert files["x/__unnamed__"].mtime == 0


def test_ad13_neither_redirect_nor_disposition_change_the_name(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/name"] = Page(status=302, headers={"Location": "/other"})
    web.pages["/other"] = Page(b"moved", headers={"Content-Disposition": 'attachment; filename="evil"'})
    files = tree(img, tmp_path, f"FROM scratch\nADD {web.url}/name /x/\n")
    assert set(files) - {"x", "x/"} == {"x/name"}


@pytest.mark.parametrize(
    ("flag", "names"), [("", {"x/a.tgz"}), ("--unpack ", {"x/inside"}), ("--unpack=false ", {"x/a.tgz"})]
)
def test_ad14_archives_are_unpacked_on_request_only(
    img: Img, tmp_path: Path, web: WebServer, flag: str, names: set[str]
) -> None:
    web.pages["/a.tgz"] = Page(archive())
    files = tree(img, tmp_path, f"FROM scratch\nADD {flag}{web.url}/a.tgz /x/\n")
    assert {name for name, member in files.items() if member.isfile()} == names


def test_ad15_an_upper_case_scheme_is_a_path(img: Img, tmp_path: Path, web: WebServer) -> None:
    build(img, tmp_path, f"FROM scratch\nADD HTTP://{web.address}/f /x\n").refused(1, "not found")
    assert not web.requests


def test_ad19_an_unchanged_url_costs_one_conditional_request(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/f"] = Page(b"one", modified=MODIFIED)
    dockerfile = f"FROM scratch\nADD {web.url}/f /x\n"
    build(img, tmp_path, dockerfile).ok()
    assert [("if-none-match" in headers) for headers in web.answers("/f")] == [False]
    again = build(img, tmp_path, dockerfile).ok()
    assert [("if-none-match" in headers) for headers in web.answers("/f")] == [False, True]
    assert "CACHED" in again.stderr
    web.pages["/f"].content = b"two"
    changed = build(img, tmp_path, dockerfile).ok()
    assert "CACHED" not in changed.stderr
    assert content(tmp_path, "x") == b"two"
    assert len(web.requests) == 3


def test_the_key_is_the_content_and_not_the_date(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/f"] = Page(b"same", modified=MODIFIED, etag=False)
    dockerfile = f"FROM scratch\nADD {web.url}/f /x\n"
    build(img, tmp_path, dockerfile).ok()
    web.pages["/f"].modified = "Tue, 02 Jan 2018 00:00:00 GMT"
    assert "CACHED" in build(img, tmp_path, dockerfile).ok().stderr


def test_bytes_that_are_known_but_needed_again_are_fetched_again(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/f"] = Page(b"one")
    build(img, tmp_path, f"FROM scratch\nADD {web.url}/f /x\n").ok()
    files = tree(img, tmp_path, f"FROM scratch\nADD {web.url}/f /elsewhere\n")
    assert "elsewhere" in files
    assert content(tmp_path, "elsewhere") == b"one"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_right_checksum_is_accepted(img: Img, tmp_path: Path, web: WebServer, algorithm: str) -> None:
    web.pages["/f"] = Page(b"text")
    checksum = f"{algorithm}:{hashlib.new(algorithm, b'text').hexdigest()}"
    dockerfile = f"FROM scratch\nADD --checksum={checksum} {web.url}/f /x\n"
    build(img, tmp_path, dockerfile).ok()
    assert "CACHED" in build(img, tmp_path, dockerfile).ok().stderr


def test_with_a_checksum_a_cached_build_asks_nobody(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/f"] = Page(b"text")
    dockerfile = f"FROM scratch\nADD --checksum=sha256:{hashlib.sha256(b'text').hexdigest()} {web.url}/f /x\n"
    build(img, tmp_path, dockerfile).ok()
    build(img, tmp_path, dockerfile).ok()
    assert len(web.requests) == 1


def test_with_a_checksum_each_copy_has_the_time_that_the_server_tells(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/f"] = web.pages["/g"] = Page(b"text", modified=MODIFIED)
    add = f"ADD --checksum=sha256:{hashlib.sha256(b'text').hexdigest()}"
    lines = (f"ADD {web.url}/f /a", f"{add} {web.url}/f /b", f"{add} {web.url}/g /c/")
    files = tree(img, tmp_path, "\n".join(("FROM scratch", *lines, "")))
    assert {files[name].mtime for name in ("a", "b", "c/g")} == {MODIFIED_SECONDS}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_wrong_checksum_is_refused_with_both(img: Img, tmp_path: Path, web: WebServer, algorithm: str) -> None:
    web.pages["/f"] = Page(b"text")
    got, wanted = (f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}" for data in (b"text", b"other"))
    result = build(img, tmp_path, f"FROM scratch\nADD --checksum={wanted} {web.url}/f /x\n")
    assert result.returncode == 1
    assert f"digest mismatch {got}: {wanted}" in result.stderr


def test_a_missing_file_is_a_status(img: Img, tmp_path: Path, web: WebServer) -> None:
    result = build(img, tmp_path, f"FROM scratch\nADD {web.url}/nope /x\n")
    assert result.returncode == 6
    assert "invalid response status 404" in result.stderr
    assert ">>> ADD" in result.stderr


def test_a_server_that_is_down_is_named(img: Img, tmp_path: Path) -> None:
    result = build(img, tmp_path, "FROM scratch\nADD http://127.0.0.1:1/x /x\n")
    assert result.returncode == 6
    assert "http://127.0.0.1:1/x" in result.stderr
    assert "connection refused" in result.stderr


@pytest.mark.parametrize(
    ("kind", "secret", "header"), [("TOKEN", "tok3n", "Bearer tok3n"), ("HEADER", "Digest x", "Digest x")]
)
def test_secrets_log_in_and_stay_with_their_origin(
    img: Img, tmp_path: Path, web: WebServer, kind: str, secret: str, header: str
) -> None:
    with web_server() as other:
        other.pages["/f"] = Page(b"theirs")
        web.pages["/f"] = Page(status=302, headers={"Location": f"{other.url}/f"})
        (tmp_path / "secret").write_text(secret + "\n")
        given = f"id=HTTP_AUTH_{kind}_{web.url},src={tmp_path / 'secret'}"
        tree(img, tmp_path, f"FROM scratch\nADD {web.url}/f /x\n", "--secret", given)
        assert web.answers("/f")[0]["authorization"] == header
        assert "authorization" not in other.answers("/f")[0]


def test_redirects_from_host_to_host_end(img: Img, tmp_path: Path, web: WebServer) -> None:
    with web_server() as other:
        web.pages["/f"] = Page(status=302, headers={"Location": f"{other.url}/f"})
        other.pages["/f"] = Page(status=307, headers={"Location": f"{web.url}/f"})
        build(img, tmp_path, f"FROM scratch\nADD {web.url}/f /x\n").refused(6, "more than 5 redirects")
        assert len(web.requests) + len(other.requests) == 6


def test_secrets_of_a_host_are_not_for_plain_http(img: Img, tmp_path: Path, web: WebServer) -> None:
    """What is given for a host, with or without port, is for it over TLS."""
    (tmp_path / "secret").write_text("tok3n")
    web.pages["/f"] = Page(status=401)
    names = [f"HTTP_AUTH_{kind}_{host}" for kind in ("TOKEN", "HEADER") for host in ("127.0.0.1", web.address)]
    names += [f"HTTP_AUTH_TOKEN_https://{web.address}", "HTTP_AUTH_TOKEN_http://127.0.0.1", "HTTP_AUTH_TOKEN_"]
    secrets = [word for name in names for word in ("--secret", f"id={name},src={tmp_path / 'secret'}")]
    refused = build(img, tmp_path, f"FROM scratch\nADD {web.url}/f /x\n", *secrets).refused(6, "status 401")
    assert f"hint: give a token as `--secret id=HTTP_AUTH_TOKEN_{web.url}`" in refused.stderr
    assert not [headers for headers in web.answers("/f") if "authorization" in headers]


def test_user_and_password_of_a_url_are_sent_and_not_shown_in_errors(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/f"] = Page(status=403)
    result = build(img, tmp_path, f"FROM scratch\nADD http://me:hunter2@{web.address}/f /x\n")
    assert web.answers("/f")[0]["authorization"].startswith("Basic ")
    assert "hunter2" not in result.error


def test_a_server_in_trouble_is_asked_again(img: Img, tmp_path: Path, web: WebServer) -> None:
    def busy(_request: BaseHTTPRequestHandler) -> int:
        return 503 if len(web.requests) < 3 else 0

    web.pages["/f"] = Page(b"at last", hook=busy, headers={"Retry-After": "0"})
    tree(img, tmp_path, f"FROM scratch\nADD {web.url}/f /x\n")
    assert content(tmp_path, "x") == b"at last"


def test_the_state_does_not_tell_the_url(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/f?token=c4nary"] = Page(b"text")
    build(img, tmp_path, f"FROM scratch\nADD {web.url}/f?token=c4nary /x\n").ok()
    memos = list((img.state / "sources" / "https").iterdir())
    assert len(memos) == 1
    assert b"c4nary" not in memos[0].read_bytes()
    assert "notes of the source `https`" in img.run("du").ok().text
    img.run("prune").ok()
    assert not (img.state / "sources" / "https").exists()
    build(img, tmp_path, f"FROM scratch\nADD {web.url}/f?token=c4nary /x\n").ok()


def test_the_same_url_in_two_stages_is_asked_once_per_build(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages["/f"] = Page(b"text")
    add = f"ADD {web.url}/f"
    dockerfile = f"FROM scratch AS a\n{add} /1\nFROM scratch\nCOPY --from=a /1 /1\n{add} /2\n{add} /3/renamed\n"
    assert {"1", "2", "3/renamed"} <= set(tree(img, tmp_path, dockerfile))
    assert len(web.requests) == 1


def test_flags_hold_for_files_of_the_web(img: Img, tmp_path: Path, web: WebServer) -> None:
    web.pages |= {"/f[1]*.txt": Page(b"text"), "/a.tgz": Page(archive())}
    dockerfile = (
        f"FROM scratch\nADD --chown=1:2 --chmod=755 --link {web.url}/f[1]*.txt /x/\n"
        f"ADD --unpack --chown=3:4 {web.url}/a.tgz /y/\n"
    )
    files = tree(img, tmp_path, dockerfile)
    file, inside = files["x/f[1]*.txt"], files["y/inside"]
    assert (file.uid, file.gid, file.mode) == (1, 2, 0o755)
    assert (inside.uid, inside.gid) == (3, 4)
