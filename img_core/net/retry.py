"""When to try again: transient failures, back-off with full jitter, and the server's own wish."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import Canceled
from img_core.spec.text import redacted

if TYPE_CHECKING:
    import threading

__all__ = ["TRANSIENT_STATUSES", "Attempts", "Failure", "Patience", "retry_after_seconds"]

#: HTTP statuses that mean "later" and not "never".
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Patience:
    """How patient a client is; all times in seconds."""

    tries: int = 5  #: for one request, or for one blob without progress
    total_seconds: float = 60.0  #: all waiting for one request together
    first_pause: float = 0.5  #: upper end of the first pause; doubles each time
    longest_pause: float = 10.0
    longest_retry_after: float = 60.0  #: a longer ``Retry-After`` is an error
    connect_seconds: float = 15.0
    header_seconds: float = (
        60.0  #: from a request that is sent to the whole headers of its answer, interim answers (1xx) in between
    )
    stall_seconds: float = 30.0  #: without a byte, or with less than *floor_bytes* of a body in it, received or sent
    floor_bytes: int = 15_000
    document_seconds: float = 120.0  #: for the whole body of what is no blob: manifests, tokens, lists, errors
    redirects: int = 5


class Failure(Exception):
    """One exchange failed. Never leaves this package: it is retried or becomes an `ImgError`."""

    def __init__(
        self,
        reason: str,
        *,
        transient: bool,
        hint: str | None = None,
        status: int | None = None,
        wait: float | None = None,
        distrusted: bool = False,
    ) -> None:
        self.reason = redacted(reason)  # it quotes addresses that servers send
        super().__init__(self.reason)
        self.transient = transient
        self.hint = hint
        self.status = status
        self.wait = wait  #: seconds that the server asked for
        self.distrusted = distrusted  #: who asks for no verified TLS would not have met it
        self.tries = 1  #: how often it was tried in all


class Attempts:
    """Counts the tries of one operation and waits between them."""

    def __init__(self, limits: Patience, stop: threading.Event) -> None:
        self._limits = limits
        self._stop = stop
        self.restart()

    def restart(self) -> None:
        """Start counting anew, after progress."""
        self._failed = 0
        self._deadline = time.monotonic() + self._limits.total_seconds

    def wait_or_raise(self, failure: Failure) -> None:
        """Wait before the next try; raise *failure* if there is to be none, `Canceled` if the client was closed."""
        if self._stop.is_set():
            raise Canceled
        self._failed += 1
        failure.tries = self._failed
        if not failure.transient or self._failed >= self._limits.tries:
            raise failure
        pause = self._pause(failure)
        if time.monotonic() + pause > self._deadline:
            raise failure
        if self._stop.wait(pause):
            raise Canceled

    def _pause(self, failure: Failure) -> float:
        limits = self._limits
        if failure.wait is None:
            import random  # seldom needed

            ceiling = min(limits.longest_pause, limits.first_pause * 2 ** (self._failed - 1))
            return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
        if failure.wait > limits.longest_retry_after:
            raise Failure(
                f"{failure.reason}; it asks to wait {failure.wait:.0f} seconds, more than {limits.longest_retry_after:.0f}",
                transient=False,
                status=failure.status,
                hint="try again later",
            )
        return failure.wait


def retry_after_seconds(value: str | None) -> float | None:
    """Read ``Retry-After`` (RFC 9110, 10.2.3): seconds or a date. None if it is absent or makes no sense."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    from email.utils import parsedate_to_datetime  # 20 ms, seldom needed

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
