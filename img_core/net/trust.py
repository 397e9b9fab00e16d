"""Whose certificates are believed: the system's store, what is configured beside it, or anybody's where that was asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.net.retry import Failure
from img_core.spec.dataclass import dataclass
from img_core.spec.text import show

if TYPE_CHECKING:
    import ssl

__all__ = ["Trust", "has_more", "tls_context"]

_SMALL = 64 << 10  #: bytes of a file of certificates that is read at once


@dataclass(frozen=True, slots=True)
class Trust:
    """Certificates beyond the system's, and our own with its key, both as files. *token_servers* may see the password."""

    authorities: tuple[str, ...] = ()
    client: tuple[str, str] | None = None
    token_servers: tuple[str, ...] = ()  #: ``host[:port]``


def has_more(trust: Trust | None) -> bool:
    """Tell whether the store can be used without loading all of it (`tls_context`, *quick*), and holds more than that gives."""
    paths = _default_paths()
    if trust is not None and trust.authorities:
        return False
    if not _hashed(paths.capath):
        return False
    return paths.cafile is None or os.path.getsize(paths.cafile) > _SMALL


def tls_context(verified: bool, trust: Trust | None, *, quick: bool = False) -> ssl.SSLContext:
    """Return a context that trusts the system's store (img's documented rule) and *trust*, or anybody if *verified* is false.

    *quick*: of the store only the directory of single certificates, which OpenSSL looks into when it needs one. To read the file that
    holds all of them takes 30 ms.
    """
    import ssl  # 15 ms; not for plain HTTP

    context = _trusting(verified, quick=quick)
    context.set_alpn_protocols(["http/1.1"])
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


def _trusting(verified: bool, *, quick: bool) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    paths = _default_paths()
    if quick:
        context.load_verify_locations(capath=paths.capath)
        return context
    if paths.cafile is not None or paths.capath is not None:
        context.set_default_verify_paths()
        if context.cert_store_stats()["x509_ca"] or _hashed(paths.capath):
            return context
    try:
        import truststore  # finds the store where OpenSSL was built for another distribution
    except ImportError:
        return ssl.create_default_context()
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _default_paths() -> ssl.DefaultVerifyPaths:
    """Return where OpenSSL's store is, the variables ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` considered; None for what is not there."""
    import ssl

    return ssl.get_default_verify_paths()


def _hashed(directory: str | None) -> bool:
    """Tell whether OpenSSL would find certificates in *directory*: by names that are hashes."""
    return directory is not None and any(name.endswith(".0") for name in os.listdir(directory))
