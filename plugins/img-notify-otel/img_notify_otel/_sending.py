"""Sending spans to a collector, which may be dead: that costs a second at most."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from img_core.spec import HostError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["deliver"]

_PATIENCE = 1.0  #: seconds that the end of a build may wait for a collector


class _Session(requests.Session):
    """A session that tells of the first request that failed: the exporter would go on to try."""

    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self._done = done
        self.problem = ""

    def request(self, *arguments: Any, **more: Any) -> requests.Response:  # Any: as requests has them
        try:
            response = super().request(*arguments, **more)
        except requests.ConnectionError as err:
            self._fail("it cannot be reached" if not isinstance(err, requests.Timeout) else "it does not answer")
            raise
        except requests.RequestException as err:
            self._fail(" ".join(str(err).split()))
            raise
        if not response.ok:
            self._fail(f"it answers {response.status_code} {response.reason}")
        return response

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._done.set()


def deliver(spans: Sequence[ReadableSpan]) -> None:
    """Send *spans* where the variables of OpenTelemetry say. Raises HostError if they did not arrive within a second."""
    done, outcome = threading.Event(), []
    session = _Session(done)
    exporter = OTLPSpanExporter(session=session)

    def export() -> None:
        with suppress(Exception):  # of the SDK: what matters is that nothing arrived
            outcome.append(exporter.export(spans))
        done.set()

    threading.Thread(target=export, name="otel", daemon=True).start()
    done.wait(_PATIENCE)
    if outcome and outcome[0] is SpanExportResult.SUCCESS:
        return
    exporter.shutdown()  # type: ignore[no-untyped-call]  # as the SDK has it
    why = session.problem or ("the exporter failed" if done.is_set() else f"no answer within {_PATIENCE:g} s")
    raise HostError(f"the trace could not be sent to the collector: {why}")
