import ipaddress

import pytest

from img_core.net.hosts import (
    authority,
    is_address,
    is_insecure,
    is_loopback,
    is_same_site,
    origin,
    split_port,
)
from img_core.net.proxies import proxy_for
from img_registry_oci._config import endpoint_host


def test_docker_hub_lives_elsewhere() -> None:
    assert endpoint_host("docker.io") == "registry-1.docker.io"
    assert endpoint_host("quay.io") == "quay.io"


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [("a.b", "a.b", ""), ("a.b:5", "a.b", "5"), ("[::1]:5", "::1", "5"), ("[::1]", "::1", "")],
)
def test_port_is_split_off(host: str, name: str, port: str) -> None:
    assert split_port(host) == (name, port)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://H.Example/x", ("https", "h.example", 443)),
        ("http://h.example:5000", ("http", "h.example", 5000)),
        ("https://[::1]:5/x", ("https", "::1", 5)),
        ("file:///etc/passwd", None),
        ("https:///x", None),
        ("http://[::1", None),
        ("http://h:99999/", None),
        ("h.example", None),
        ("", None),
    ],
)
def test_origin_is_scheme_host_and_port(url: str, expected: tuple[str, str, int] | None) -> None:
    assert origin(url) == expected


def test_authority_is_shown_with_port_and_brackets() -> None:
    assert authority("https://[::1]/x") == "[::1]:443"
    assert authority("http://a.example/x") == "a.example:80"
    assert authority("nonsense") == ""


def test_loopback_is_told_by_address_not_by_likeness() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"]))
    assert not any(
        map(is_loopback, ["127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "::2", "", "0.0.0.0"])
    )


def test_insecure_hosts_are_named_with_or_without_port() -> None:
    assert is_insecure("h:5", {"h:5"})
    assert is_insecure("h:5", {"h"})
    assert is_insecure("h:5", {"*"})
    assert is_insecure("[::1]:5", {"::1"})
    assert not is_insecure("h:5", {"h:6", "x"})


@pytest.mark.parametrize(
    ("host", "other"),
    [
        ("registry-1.docker.io", "auth.docker.io"),
        ("quay.io", "quay.io"),
        ("registry.gitlab.com", "gitlab.com"),
        ("registry.uni.ac.uk", "login.registry.uni.ac.uk"),
        ("a.uni.ac.uk", "b.uni.ac.uk"),
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "LOCALHOST."),
        ("contoso.azurecr.io", "contoso.azurecr.io"),
    ],
)
def test_neighbours_share_a_password(host: str, other: str) -> None:
    assert is_same_site(host, other)
    assert is_same_site(other, host)


@pytest.mark.parametrize(
    ("host", "other"),
    [
        ("docker.io", "docker.io.evil.example"),
        ("docker.io", "evildocker.io"),
        ("a.co.uk", "b.co.uk"),
        ("a.com.au", "b.com.au"),
        ("co.uk", "a.co.uk"),
        ("a.azurecr.io", "b.azurecr.io"),
        ("1.dkr.ecr.eu-west-1.amazonaws.com", "2.dkr.ecr.eu-west-1.amazonaws.com"),
        ("me.github.io", "you.github.io"),
        ("127.0.0.1", "127.0.0.2"),
        ("10.0.0.1", "11.0.0.1"),
        ("::1", "127.0.0.1"),
        ("localhost", "example"),
        ("a.example", "b.other"),
        ("example..com", "evil..com"),
    ],
)
def test_strangers_do_not(host: str, other: str) -> None:
    assert not is_same_site(host, other)
    assert not is_same_site(other, host)


PROXIES = {"HTTPS_PROXY": "http://p:1", "http_proxy": "p:2"}


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://h.example/", PROXIES, "http://p:1"),
        ("http://h.example/", PROXIES, "http://p:2"),
        ("https://h.example/", {"all_proxy": "socks5://s:3"}, "socks5://s:3"),
        ("https://h.example/", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://h.example/", {}, None),
        ("https://localhost/", PROXIES, None),
        ("https://127.0.0.5:5000/", PROXIES, None),
        ("http://h.example/", {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}, None),
        ("https://h.example/", {**PROXIES, "no_proxy": "*"}, None),
        ("https://h.example/", {**PROXIES, "NO_PROXY": "other, h.example"}, None),
        ("https://sub.h.example/", {**PROXIES, "no_proxy": "h.example"}, None),
        ("https://sub.h.example/", {**PROXIES, "no_proxy": ".h.example"}, None),
        ("https://sub.h.example/", {**PROXIES, "no_proxy": "*.h.example"}, None),
        ("https://evilh.example/", {**PROXIES, "no_proxy": "h.example"}, "http://p:1"),
        ("https://h.example:8443/", {**PROXIES, "no_proxy": "h.example:443"}, "http://p:1"),
        ("https://h.example/", {**PROXIES, "no_proxy": "h.example:443"}, None),
        ("https://10.1.2.3/", {**PROXIES, "no_proxy": "10.0.0.0/8"}, None),
        ("https://11.1.2.3/", {**PROXIES, "no_proxy": "10.0.0.0/8,nonsense/9"}, "http://p:1"),
        ("https://[2001:db8::1]/", {**PROXIES, "no_proxy": "2001:db8::1"}, None),
        ("file:///x", PROXIES, None),
    ],
)
def test_proxy_follows_the_environment(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(url, environment) == proxy


@pytest.mark.parametrize(
    "host",
    ["1.2.3.4", "255.255.255.255", "256.1.1.1", "01.2.3.4", "0.0.0.0", "1.2.3", "1.2.3.4.5", "1.2.3.", "1.2.3.4 ", "+1.2.3.4",
     "1.2.3.\u0664", "a.b.c.d", "::1", "::1%lo", "fe80::", "1::2::3", ":", "", "localhost", "1", "0x7f.1.1.1", "1.2.3.0004",
     "::ffff:127.0.0.1"],
)  # fmt: skip
def test_an_address_is_what_the_standard_library_takes_for_one(host: str) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        assert (is_address(host), is_loopback(host)) == (False, host == "localhost")
    else:
        assert (is_address(host), is_loopback(host)) == (True, address.is_loopback)
