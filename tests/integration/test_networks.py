"""The network of steps: the host's, none, or a private one that slirp4netns or pasta connects."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build_server import Workshop
from harness.host import need
from harness.img import Img, write_context
from harness.processes import AT_ONCE, Orphans, executing, running, wait_until
from harness.web import Page, WebServer, web_server

pytestmark = pytest.mark.rootless

TOOLS = ["slirp4netns", "pasta"]
WORD = "served-on-the-loopback-of-the-host"
#: By hand: a static busybox looks for libraries that the image lacks when it fetches a URL.
#: It keeps its input open for a moment, as old versions of pasta lose what comes after a half-closed connection.
ASK = r"{ printf 'GET / HTTP/1.0\r\n\r\n'; sleep 0.3; }"


def fetch(place: str, port: str) -> str:
    """Return a command that succeeds if it gets the page."""
    return f"{ASK} | timeout 5 nc {place} {port} | grep -o {WORD}"


@pytest.fixture(scope="module")
def page() -> Iterator[WebServer]:
    """A web server on the host's loopback."""
    with web_server() as server:
        server.pages["/"] = Page(WORD.encode())
        yield server


@pytest.fixture
def port(page: WebServer) -> str:
    return page.address.rpartition(":")[2]


def need_tool(tool: str) -> None:
    need(tool)
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("this host lacks a `/dev/net/tun` that ordinary users may open")


@pytest.mark.parametrize("executor", ["userns", "runc"])
@pytest.mark.parametrize("tool", TOOLS)
def test_private_network_is_connected_but_not_to_the_loopback_of_the_host(
    workshop: Workshop, port: str, tool: str, executor: str
) -> None:
    need_tool(tool)
    need(*([executor] if executor == "runc" else []))
    body = f"""
        RUN ip addr | grep 'inet 10.0.2.100/24' && ip route | grep 'default via 10.0.2.2' && grep 'nameserver 10.0.2.3' /etc/resolv.conf
        RUN ls /sys/class/net | sort | tr '\\n' ' ' | grep 'lo tap0' && ip link show lo | grep UP
        RUN ! {fetch("10.0.2.2", port)} && ! {fetch("127.0.0.1", port)}
    """
    workshop.build(body, network=tool, executor=executor).ok()


@pytest.mark.parametrize("executor", ["userns", "runc"])
@pytest.mark.parametrize("tool", TOOLS)
def test_loopback_of_the_host_is_at_the_gateway_if_allowed(
    workshop: Workshop, port: str, tool: str, executor: str
) -> None:
    need_tool(tool)
    need(*([executor] if executor == "runc" else []))
    body = f"""
        RUN {fetch("10.0.2.2", port)}
        RUN ! {fetch("127.0.0.1", port)}
        RUN {fetch("the-host", port)}
    """
    network = f"{tool}:allow_host_loopback=true"
    hosts = [("the-host", "host-gateway")]
    built = workshop.build(body, network=network, executor=executor, add_hosts=hosts).ok()
    assert built.log.count(WORD) == 2


@pytest.mark.parametrize(
    ("network", "flag", "reached"),
    [
        ("default", "", True),
        ("default", "--network=none", False),
        ("host", "--network=default", True),
        ("none", "", False),
        ("none", "--network=default", False),
        ("private", "--network=none", False),
    ],
)
@pytest.mark.parametrize("executor", ["userns", "runc"])
def test_loopback_of_the_host_is_that_of_steps_only_with_its_network(
    workshop: Workshop, port: str, executor: str, network: str, flag: str, reached: bool
) -> None:
    need(*([executor] if executor == "runc" else []))
    command = fetch("the-host", port)
    built = workshop.build(
        f"RUN {flag} {command} || echo unreachable",
        network=network, executor=executor, add_hosts=[("the-host", "host-gateway")],
    )  # fmt: skip
    assert (WORD in built.ok().log) == reached


@pytest.mark.parametrize("network", ["none", "private"])
def test_steps_leave_an_isolated_build_only_with_permission(workshop: Workshop, port: str, network: str) -> None:
    body = f"RUN --network=host {fetch('127.0.0.1', port)}"
    refused = workshop.build(body, network=network).refused("network.host is not allowed")
    assert refused.hint == "use `--allow network.host`"
    assert WORD in workshop.build(body, network=network, allow=["network.host"]).ok().log


def test_private_network_works_with_a_single_id(img: Img, tmp_path: Path) -> None:
    need_tool("slirp4netns")
    write_context(tmp_path, "FROM busybox\nRUN ip addr | grep 'inet 10.0.2.100/24'\n")
    img.with_environment(IMG_IDMAP="single").build(tmp_path, "--network", "private").ok()


@pytest.mark.parametrize("tool", TOOLS)
def test_helper_ends_with_the_step_and_with_the_builder(img: Img, tmp_path: Path, tool: str) -> None:
    need_tool(tool)
    marker = f"6{os.getpid()}"
    write_context(tmp_path, f"FROM busybox\nRUN true\nRUN ! pgrep {tool} && exec sleep {marker}\n")
    with Orphans() as orphans:
        builder = img.start("build", "-t", "x", "--network", tool, tmp_path, log=tmp_path / "log")
        wait_until(lambda: bool(executing("sleep", marker)) or builder.poll() is not None, "the second step sleeps")
        assert builder.poll() is None, (tmp_path / "log").read_text()
        builder.send_signal(signal.SIGKILL)
        builder.wait(10)
        orphans.gone(f"sleep {marker}")


def test_build_that_waits_for_its_helper_can_be_canceled(img: Img, tmp_path: Path) -> None:
    need_tool("slirp4netns")
    marker = f"4{os.getpid()}"
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "slirp4netns").write_text(f"#!/bin/sh\nsleep {marker}\n")
    (programs / "slirp4netns").chmod(0o755)
    write_context(tmp_path, "FROM busybox\nRUN true\n")
    slow = img.with_environment(PATH=f"{programs}:{os.environ['PATH']}")
    with Orphans() as orphans:
        builder = slow.start("build", "-t", "x", "--network", "private", tmp_path, log=tmp_path / "log")
        wait_until(lambda: bool(running(f"sleep {marker}")), "the helper runs")
        builder.send_signal(signal.SIGINT)
        assert builder.wait(AT_ONCE) == 130, (tmp_path / "log").read_text()
        orphans.gone(f"sleep {marker}")


def test_helper_that_fails_is_told_in_its_own_words(img: Img, tmp_path: Path) -> None:
    need_tool("slirp4netns")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "slirp4netns").write_text("#!/bin/sh\necho 'no luck today' >&2\nexit 1\n")
    (programs / "slirp4netns").chmod(0o755)
    write_context(tmp_path, "FROM busybox\nRUN true\n")
    done = img.with_environment(PATH=f"{programs}:{os.environ['PATH']}").build(tmp_path, "--network", "private")
    done.refused(7, "`slirp4netns` could not connect a private network: no luck today")


def test_missing_helper_is_an_error_that_names_its_package(img: Img, tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    write_context(tmp_path, "FROM busybox\nRUN true\n")
    bare = img.with_environment(PATH=str(tmp_path / "programs"))
    done = bare.build(tmp_path, "--network", "private")
    done.refused(7, "`slirp4netns` or `pasta`")
    assert "hint: install the package `slirp4netns`" in done.stderr
    done = bare.with_environment(IMG_NETWORK="pasta").build(tmp_path)
    done.refused(7, "`pasta`")
    assert "hint: install the package `passt`" in done.stderr


@pytest.mark.parametrize("network", ["bridge", "private:speed=1", "host:allow_host_loopback=true", "pasta:"])
def test_unknown_networks_are_refused(img: Img, tmp_path: Path, network: str) -> None:
    write_context(tmp_path, "FROM busybox\n")
    img.build(tmp_path, "--network", network).refused(2, "unknown")
