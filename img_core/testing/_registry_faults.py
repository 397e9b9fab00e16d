"""What a registry may do wrong: actions for the rules of a `FaultyRegistry`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.testing.faulty_registry import Exchange

__all__ = ["challenge", "cut_after", "drip", "endless", "lose_upload_after", "redirect", "reply", "stall", "status"]


def reply(code: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> Callable[[Exchange], None]:
    """Answer with these bytes."""
    return lambda exchange: exchange.answer(code, content, headers)


def status(code: int, **headers: str) -> Callable[[Exchange], None]:
    """Answer with *code* and an error document; ``retry_after="1"`` becomes the header ``retry-after``."""
    content = b'{"errors":[{"code":"TEST","message":"as told"}]}'
    return reply(code, content, {name.replace("_", "-"): value for name, value in headers.items()})


def redirect(location: str, code: int = 307) -> Callable[[Exchange], None]:
    """Send the client to *location*; ``{path}`` in it becomes the path asked for."""
    return lambda exchange: exchange.answer(code, b"", {"Location": location.replace("{path}", exchange.request.path)})


def challenge(*values: str) -> Callable[[Exchange], None]:
    """Answer 401 with these ``WWW-Authenticate`` values, unless the request carries an ``Authorization``."""

    def act(exchange: Exchange) -> None:
        if "authorization" in exchange.request.headers:
            exchange.serve()
            return
        exchange.request.status = 401
        exchange.handler.send_response_only(401)
        for value in values:
            exchange.handler.send_header("WWW-Authenticate", value)
        exchange.handler.send_header("Content-Length", "0")
        exchange.handler.end_headers()

    return act


def cut_after(count: int, *, reset: bool = True) -> Callable[[Exchange], None]:
    """Promise the whole body, send *count* bytes of it (of the part asked for), then reset or close the connection."""

    def act(exchange: Exchange) -> None:
        content = exchange.content() or b""
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.request.headers.get("range", ""))
        first = int(span[1]) if span else 0
        headers = {"Content-Length": str(len(content) - first)}
        if span:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        exchange.head(206 if span else 200, headers)
        exchange.write(content[first : first + count])
        exchange.reset() if reset else exchange.close()

    return act


def lose_upload_after(count: int) -> Callable[[Exchange], None]:
    """Keep *count* bytes of what a PATCH sends and then cut the connection."""

    def act(exchange: Exchange) -> None:
        exchange.registry.keep_upload(exchange.request.path, exchange.request.body[:count])
        exchange.reset()

    return act


def endless(chunk: bytes = b" " * 65536) -> Callable[[Exchange], None]:
    """Send *chunk* again and again in a chunked body until the client hangs up."""

    def act(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked", "Content-Type": "application/json"})
        framed = f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
        while not exchange.registry.stopping.is_set() and exchange.write(framed):
            pass
        exchange.close()

    return act


def stall(count: int = 0) -> Callable[[Exchange], None]:
    """Promise the whole body, send *count* bytes and then nothing until the client hangs up or the registry ends."""

    def act(exchange: Exchange) -> None:
        content = exchange.content() or b" "
        exchange.head(200, {"Content-Length": str(len(content))})
        exchange.write(content[:count])
        exchange.registry.stopping.wait(30)
        exchange.close()

    return act


def drip(seconds: float) -> Callable[[Exchange], None]:
    """Send the body byte by byte, one every *seconds*."""

    def act(exchange: Exchange) -> None:
        content = exchange.content() or b""
        exchange.head(200, {"Content-Length": str(len(content))})
        for position in range(len(content)):
            if exchange.registry.stopping.wait(seconds) or not exchange.write(content[position : position + 1]):
                break
        exchange.close()

    return act
