"""From HTTP answers and failures to the errors that people see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.images import oci
from img_core.net.retry import TRANSIENT_STATUSES, Failure, retry_after_seconds
from img_core.spec.errors import CredentialsError, ImgError, NotFoundError, RegistryError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.net.transport import Response

__all__ = ["failure_of_status", "public_error"]

_ERROR_BODY_LIMIT = 8 * 1024
_PREPOSITIONS = {"fetch": "from", "push": "to"}


def failure_of_status(response: Response, whose: str = "") -> Failure:
    """Describe an answer of a status that is no success; reads a bounded part of its body."""
    try:
        content = response.read(_ERROR_BODY_LIMIT)
    except Failure:
        content = None
    text = _server_message(content or b"")
    reason = f"HTTP status {response.status}" + (f": {text}" if text else "")
    return Failure(
        f"{whose}: {reason}" if whose else reason,
        transient=response.status in TRANSIENT_STATUSES,
        status=response.status,
        wait=retry_after_seconds(response.header("retry-after")),
    )


def public_error(failure: Failure, doing: str, host: str) -> ImgError:
    """Return the error for a *failure* that is final; *doing* is a verb and what it was about, *host* ``host:port``."""
    verb, _, name = doing.partition(" ")
    if failure.status == 404 and verb != "push":
        return NotFoundError(f"{name}: not found")
    tries = f" (tried {failure.tries} times)" if failure.tries > 1 else ""
    message = f"failed to {doing} {_PREPOSITIONS.get(verb, 'at')} `{host}`: {failure.reason}{tries}"
    if failure.status in {401, 403}:
        return CredentialsError(message, hint="check the name, and log in with `img login`")
    hint = failure.hint
    if failure.distrusted:
        insecure = "use `--insecure-registry` if plain HTTP and unverified TLS are acceptable"
        hint = f"{hint}, or {insecure}" if hint else insecure
    if failure.status == 429:
        hint = hint or "too many requests: wait, or log in for a higher limit"
    return RegistryError(message, hint=hint, status=failure.status)


def _server_message(content: bytes) -> str:
    """Return what the server says in a JSON error (distribution-spec, "Error codes"), escaped and cut; empty if nothing."""
    try:
        answer = oci.load_json(content, name="error")
    except ImgError:
        return ""
    errors = answer.get("errors") if isinstance(answer, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else answer
    text = (first.get("message") or first.get("code")) if isinstance(first, dict) else None
    return show(text) if isinstance(text, str) else ""
