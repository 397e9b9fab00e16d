"""Whose certificates are believed: the system's store, what is configured beside it, or anybody's where that was asked for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from img_core.net.retry import Failure
from img_core.spec.text import show

__all__ = ["Trust", "tls_context"]


@dataclass(frozen=True, slots=True)
class Trust:
    """Certificates beyond the system's, and our own with its key, both as files. *token_servers* may see the password."""

    authorities: tuple[str, ...] = ()
    client: tuple[str, str] | None = None
    token_servers: tuple[str, ...] = ()  #: ``host[:port]``


def tls_context(scheme: str, verified: bool, trust: Trust | None) -> ssl.SSLContext:
    """Return a context that trusts the system's store (img's documented rule) and *trust*, or anybody if *verified* is false."""
    if scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; loading the store takes 30 ms
    context = _trusting(verified)
    if trust is not None:
        try:
            for path in trust.authorities:
                context.load_verify_locations(cafile=path)
            if trust.client is not None:
                context.load_cert_chain(*trust.client)
        except (OSError, ssl.SSLError) as err:
            names = ", ".join(show(path) for path in (*trust.authorities, *(trust.client or ())))
            reason = err.strerror or str(err)
            raise Failure(
                f"a configured certificate cannot be used ({names}): {show(reason)}", transient=False
            ) from err
    return context


def _trusting(verified: bool) -> ssl.SSLContext:
    if not verified:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        import truststore  # finds the store where OpenSSL was built for another distribution
    except ImportError:
        return ssl.create_default_context()
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
