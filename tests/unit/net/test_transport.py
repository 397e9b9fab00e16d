"""The transport on the HTTP library: where answers end, which connections are used again, proxies, trust, and what is refused."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from img_core.net import _library
from img_core.net.retry import Failure, Patience
from img_core.net.transport import Http
from img_core.net.trust import Trust, has_more, tls_context
from img_core.testing.registry import Authority

QUICK = Patience(header_seconds=5, stall_seconds=5, connect_seconds=5)
OK = b"HTTP/1.1 200 OK\r\n"


class Server:
    """Answers requests, one after the other, with *answers*; notes their heads by connection."""

    def __init__(self, answers: list[bytes], *, context: ssl.SSLContext | None = None, closes: bool = False) -> None:
        self.heads: list[list[bytes]] = []
        self._answers = iter(answers)
        self._context = context
        self._closes = closes
        self.closed = threading.Event()  #: a connection was closed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection = self._context.wrap_socket(line, server_side=True) if self._context else line
            heads: list[bytes] = []
            self.heads.append(heads)
            with self._told_when_closed(), connection:
                while head := _head(connection):
                    heads.append(head)
                    if head.startswith(b"CONNECT "):
                        self._tunnel(connection, head)
                        return
                    answer = next(self._answers, None)
                    if answer is None:
                        return
                    connection.sendall(answer)
                    if self._closes:
                        return

    @contextmanager
    def _told_when_closed(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.closed.set()

    def _tunnel(self, connection: socket.socket, head: bytes) -> None:
        host, _, port = head.split()[1].decode().partition(":")
        with socket.create_connection((host, int(port))) as there:
            connection.sendall(OK + b"\r\n")
            back = threading.Thread(target=_copy, args=(there, connection), daemon=True)
            back.start()
            _copy(connection, there)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    return data


@contextmanager
def serving(*answers: bytes, context: ssl.SSLContext | None = None, closes: bool = False) -> Iterator[Server]:
    server = Server(list(answers), context=context, closes=closes)
    yield server
    server.close()


@contextmanager
def client(environment: Mapping[str, str] | None = None, trust: Mapping[str, Trust] | None = None) -> Iterator[Http]:
    http = Http(environment=environment or {}, insecure=(), limits=QUICK, trust=trust)
    yield http
    http.close()


def body(http: Http, url: str, method: str = "GET") -> bytes:
    with http.send(method, url, {}) as answer:
        return b"".join(answer.chunks())


LAST = OK + b"Content-Length: 4\r\n\r\nlast"


@pytest.mark.parametrize(
    ("answer", "expected", "again"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
        (OK + b"content-length: 5, 5\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
        (OK + b"Content-Length: 0\r\n\r\n", b"", True),
        (OK.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\nhi", b"hi", True),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", b"hi", True),
        (OK + b"X: a\r\n  b\r\nContent-Length: 2\r\n\r\nhi", b"hi", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n", b"hello", True),
        (b"HTTP/1.1 204 None\r\n\r\n", b"", True),
        (OK + b"Connection: Close\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
    ],
)
def test_an_answer_ends_where_it_says(answer: bytes, expected: bytes, again: bool) -> None:
    with serving(answer, LAST) as server, client() as http:
        assert body(http, f"http://{server.address}/a") == expected
        if again:
            assert body(http, f"http://{server.address}/b") == b"last"
            assert [len(heads) for heads in server.heads] == [2]
        else:
            with contextlib.suppress(Failure):  # the server may use another answer on the new connection
                body(http, f"http://{server.address}/b")
            assert [len(heads) for heads in server.heads] == [1, 1]


def test_an_answer_without_length_ends_with_the_connection() -> None:
    with serving(OK + b"\r\nhello", closes=True) as server, client() as http:
        assert body(http, f"http://{server.address}/") == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: +5\r\n\r\nhello",
        OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nhello",
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Bad Name: x\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b" folded: first\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!!\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        OK + b"X: " + b"a" * 300_000 + b"\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    with serving(answer, closes=True) as server, client() as http, pytest.raises(Failure):
        body(http, f"http://{server.address}/")


def test_headers_of_an_answer_are_found_whatever_their_case() -> None:
    answer = OK + b"Link: <a>\r\nX-One:  spaced \r\nlink: <b>\r\nContent-Length: 0\r\n\r\n"
    with serving(answer) as server, client() as http, http.send("GET", f"http://{server.address}/", {}) as got:
        assert (got.header("LINK"), got.headers("Link"), got.header("x-one")) == ("<a>", ["<a>", "<b>"], "spaced")
        assert got.header("none") is None


def test_a_short_body_that_nobody_reads_does_not_cost_the_connection() -> None:
    with serving(OK + b"Content-Length: 5\r\n\r\nhello", LAST) as server, client() as http:
        http.send("GET", f"http://{server.address}/", {}).close()
        assert body(http, f"http://{server.address}/") == b"last"
        assert len(server.heads) == 1


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    with serving(OK + b"Content-Length: 2\r\n\r\nhi", LAST, closes=True) as server, client() as http:
        assert body(http, f"http://{server.address}/") == b"hi"
        assert server.closed.wait(60)
        assert body(http, f"http://{server.address}/") == b"last"


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X\n": "a"}, {"X": "\x00"}, {"X": "\u00e9"}])
def test_a_header_cannot_become_two(headers: dict[str, str]) -> None:
    with (
        serving(LAST) as server,
        client() as http,
        pytest.raises(Failure, match=r"Illegal header|the request cannot be made"),
    ):
        http.send("GET", f"http://{server.address}/", headers)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/a%20b?c=d%26e", b"/a%20b?c=d%26e"),
        ("/a b\u00e9?x y", b"/a%20b%C3%A9?x%20y"),
        ("", b"/"),
        ("?x", b"/?x"),
        ("/a#part", b"/a"),
        ("/a/../b", b"/b"),
        ("/v2/a/blobs/uploads/?digest=sha256:0f&from=b%2Fc", b"/v2/a/blobs/uploads/?digest=sha256:0f&from=b%2Fc"),
    ],
)
def test_the_target_has_no_spaces(path: str, target: bytes) -> None:
    with serving(LAST) as server, client() as http:
        body(http, f"http://{server.address}{path}")
        assert server.heads[0][0].startswith(
            b"GET " + target + b" HTTP/1.1\r\nHost: " + server.address.encode() + b"\r\n"
        )


@pytest.mark.parametrize(
    "url",
    [
        "http://h.example",
        "https://H.Example:443/a?b=c&d",
        "https://h.example:8443/v2/a/b/blobs/sha256:00ff?x=%2F",
        "http://127.0.0.1:5000/v2/",
        "http://[::1]:5000/",
        "https://[2001:DB8::1]/x",
        "http://user:secret@h.example/a",
        "http://b\u00fccher.example/",
        "http://h.example/a[1]/~b/+,;=:@!$&'()*",
        "http://h.example/a?b?c/../d",
        "http://h.example./?",
        "http://xn--bcher-kva.example:80/./a",
        "http://1.2.3.4.5/",
        "http://r2d2/",
        "http://h.example/100%?%zz%41",
        "http://h_x.example/{a}|b^c`\\",
    ],
)
def test_addresses_are_sent_as_the_library_reads_them(url: str) -> None:
    """Most are read without httpx, which takes time to load, and must not differ from what it makes of them."""
    parsed = httpx.URL(url)
    expected = (parsed.scheme, parsed.raw_host, parsed.port, parsed.raw_path, parsed.netloc)
    assert tuple(_library._address(url)) == expected


@pytest.mark.parametrize(
    ("method", "content", "headers", "expected"),
    [
        ("GET", b"", {}, None),
        ("POST", b"", {}, b"0"),
        ("PUT", b"hello", {}, b"5"),
        ("GET", b"hi", {}, b"2"),
        ("PATCH", iter([b"a", b"b"]), {"content-length": "2"}, b"2"),
    ],
)
def test_a_request_says_how_long_it_is(
    method: str, content: bytes | Iterator[bytes], headers: dict[str, str], expected: bytes | None
) -> None:
    with serving(LAST) as server, client() as http:
        http.send(method, f"http://{server.address}/", headers, content).close()
        fields = [line.partition(b": ") for line in server.heads[0][0].split(b"\r\n")]
    assert [value for name, _, value in fields if name.lower() == b"content-length"] == [expected] * bool(expected)


def secured(authority: Authority, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name, ("127.0.0.1", "h.example")))
    return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("secure_proxy", [False, True])
def test_a_proxy_gets_its_own_password_and_a_tunnel(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, secure_proxy: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setattr("img_core.net.proxies.is_loopback", lambda _host: False)
    with (
        serving(LAST, context=secured(authority, "server")) as server,
        serving(context=secured(authority, "proxy") if secure_proxy else None) as proxy,
    ):
        scheme = "https" if secure_proxy else "http"
        with client({"https_proxy": f"{scheme}://joe:p%40ss@{proxy.address}"}) as http:
            assert body(http, f"https://{server.address}/x") == b"last"
    (asked,) = proxy.heads[0]
    assert asked.startswith(b"CONNECT " + server.address.encode() + b" HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic am9lOnBAc3M=\r\n" in asked
    assert b"Proxy" not in server.heads[0][0]


def test_plain_http_through_a_proxy_names_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(LAST) as proxy, client({"http_proxy": f"http://joe:pw@{proxy.address}"}) as http:
        assert body(http, "http://h.example/x?y") == b"last"
        (asked,) = proxy.heads[0]
        assert asked.startswith(b"GET http://h.example/x?y HTTP/1.1\r\nHost: h.example\r\n")
        assert b"Proxy-Authorization: Basic am9lOnB3\r\n" in asked


def test_a_proxy_that_refuses_or_is_of_an_unknown_kind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with client({"https_proxy": "socks5://127.0.0.1:1"}) as http, pytest.raises(Failure, match="SOCKS proxy"):
        body(http, "https://h.example/")


def test_the_store_is_read_only_if_its_directory_does_not_do(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A directory of single certificates, and one large file that knows more."""
    certificates = tmp_path / "certs"
    certificates.mkdir()
    other = Authority(tmp_path / "other")
    (certificates / "01234567.0").write_bytes(other.certificate.read_bytes())
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate.read_bytes() + b"\n" * 100_000)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(certificates))
    assert has_more(None)
    assert tls_context(True, None, quick=True).cert_store_stats()["x509"] == 0, "nothing is loaded"
    with serving(LAST, LAST, context=secured(authority, "server")) as server, client() as http:
        assert body(http, f"https://{server.address}/") == b"last"
    with (
        serving(LAST, context=secured(Authority(tmp_path / "stranger"), "server")) as server,
        client() as http,
        pytest.raises(Failure, match="its certificate is not trusted"),
    ):
        body(http, f"https://{server.address}/")


IMPORTING = """
import sys
from img_core.net.transport import Http
from img_core.net.retry import Failure, Patience
http = Http(environment={}, insecure=(), limits=Patience())
try:
    http.send("GET", "http://127.0.0.1:1/", {})
except Failure:
    pass
roots = {name.partition(".")[0] for name in sys.modules}
print(*sorted(roots & {"trio", "anyio", "certifi", "rich", "click", "h2"}))
import asyncio
import httpcore, httpx

async def ask():
    async with httpx.AsyncClient(verify=False) as client:
        try:
            await client.get("http://127.0.0.1:1/")
        except httpx.ConnectError:
            print("refused")

asyncio.run(ask())
print(httpcore.default_ssl_context().verify_mode.name)
"""


def test_the_library_is_loaded_without_what_we_do_not_need_and_stays_whole() -> None:
    """Event loops and their like come when somebody else in this process uses the library for coroutines."""
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=True, timeout=100)
    old = tuple(map(int, metadata.version("httpx").split(".")[:2])) < (
        0,
        24,
    )  # it reads the path of certifi when it is imported
    assert done.stdout.splitlines() == ["certifi" if old else "", "refused", "CERT_REQUIRED"]
