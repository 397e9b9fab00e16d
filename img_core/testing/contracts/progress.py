"""What every progress promises. Subclass `ProgressContract` and name the class::

class TestMine(ProgressContract):
    progress_class = MyProgress
"""

# ruff: noqa: D102 - a test's name is its claim
from __future__ import annotations

import io
import os
import re
import threading
from typing import TYPE_CHECKING, ClassVar

import pytest

from img_core.spec.progress import StepFinished, StepLog, StepPlanned, StepStarted, StepStatus, WarningRaised
from img_core.testing.contracts.driver import DriverContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from img_core.spec.progress import Event, Progress

__all__ = ["ProgressContract"]

#: What a step, a file name or a registry may say: titles, cursors, screens, answers, shifts, C1 controls, text that runs backwards. The
#: numbers occur in no sequence that a progress has reason to use.
HOSTILE = (
    "\x1b]0;title\x07",
    "\x1b[77A",
    "\x1b[77;7H",
    "\x1b[2J",
    "\x1b[?1049h",
    "\x1b[?25l",
    "\x1b[6n",
    "\x1bc",
    "\x9b77A",
    "\x07\x08\x0b\x0c\x0e\x7f",
    "\u202etxt",
    "\ud800\udcff",
    "a\nb\r\nc\rd",
)
#: colours; up, erase, and wrapping off and on, of who draws
_SEQUENCE = re.compile(r"\x1b\[[0-9;:]*m|\x1b\[[0-9]*A|\x1b\[[KJ]|\x1b\[\?7[lh]")
_LINE_CONTROLS = "\n\r\t"


def events(text: str = "text", *, fails: bool = True, log: bytes | None = None) -> list[Event]:
    """Return a build with one step of each fate, with *text* wherever there is text."""
    output = text.encode("utf-8", "surrogatepass") if log is None else log
    error = f"failed: {text}" if fails else ""
    return [
        StepPlanned("sha256:a", f"[1/2] {text}", 1.0),
        StepPlanned("sha256:b", f"[2/2] {text}", 1.0, ("sha256:a",)),
        StepStarted(f"internal {text}", f"internal {text}", 1.0),
        StepStatus(f"internal {text}", text, 1.1, 5, 10, finished=False),
        StepStatus(f"internal {text}", text, 9.1, 10, 10, outcome="done"),
        StepFinished(f"internal {text}", 9.2),
        StepStarted("sha256:a", f"[1/2] {text}", 9.2),
        StepFinished("sha256:a", 9.3, cached=True),
        StepStarted("sha256:b", f"[2/2] {text}", 9.4, ("sha256:a",)),
        StepLog("sha256:b", 1, output, 9.5),
        StepLog("sha256:b", 2, output + b"\n", 9.6),
        StepStarted("sha256:c", "canceled", 9.7),
        StepFinished("sha256:c", 9.8, canceled=True),
        StepFinished("sha256:b", 9.9, error=error),
        WarningRaised(text, 9.9, rule=text, file=text, line=3, excerpt=text),
    ]


class ProgressContract(DriverContract):
    """The promises of `img_core.spec.Progress`, each as a test."""

    kind = "progress"
    holder = "progress_class"
    progress_class: ClassVar[type[Progress]]

    @pytest.fixture
    def written(self) -> Callable[..., str]:
        """Give a function that returns what the progress writes about some events."""

        def write(told: Iterable[Event], encoding: str = "utf-8") -> str:
            raw = io.BytesIO()
            stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
            self.run(stream, told)
            stream.flush()  # what it left in the buffer is written, too
            return raw.getvalue().decode(encoding)

        return write

    def run(self, stream: io.TextIOWrapper, told: Iterable[Event]) -> None:
        progress = self.made(stream)
        for event in told:
            progress.handle(event)
        progress.close()

    # ---- what is written

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_reaches_the_terminal_as_a_control(self, written: Callable[..., str], text: str) -> None:
        shown = _SEQUENCE.sub("", written(events(text)))
        assert [
            character for character in shown if not character.isprintable() and character not in _LINE_CONTROLS
        ] == []
        assert "\x1b[77A" not in written(events(text))

    @pytest.mark.parametrize("colour", [b"\x1b[31m", b"\x1b[8m", b"\x1b[1;5;7m"])
    def test_a_colour_of_a_log_ends_with_its_line(self, written: Callable[..., str], colour: bytes) -> None:
        for line in written(events(log=b"a\n" + colour + b"hidden")).splitlines():
            after = line.rpartition(colour.decode())[2]
            assert after == line or re.search(r"\x1b\[0?m", after), line

    def test_bytes_that_are_no_text_are_shown_somehow(self, written: Callable[..., str]) -> None:
        written(events(log=bytes(range(256)) + b"\xff\xfe"))

    def test_silence_is_silent(self, written: Callable[..., str]) -> None:
        assert written([]) == ""

    def test_every_line_is_complete(self, written: Callable[..., str]) -> None:
        assert written(events()).endswith(("\n", "\x1b[J")) or written(events()) == ""

    def test_output_without_end_is_no_burden(self, written: Callable[..., str]) -> None:
        flood = [StepLog("sha256:b", 1, b"y" * 65536, 1.0 + number / 100) for number in range(200)]
        assert len(written([StepStarted("sha256:b", "b", 1.0), *flood, StepFinished("sha256:b", 9.0)])) < 20_000_000

    # ---- what it is told, in any order

    @pytest.mark.parametrize("left_out", [StepPlanned, StepStarted, StepFinished, StepStatus, StepLog])
    def test_events_that_never_came_are_not_missed(self, written: Callable[..., str], left_out: type) -> None:
        written(event for event in events() if not isinstance(event, left_out))

    def test_a_step_may_begin_again(self, written: Callable[..., str]) -> None:
        written([*events(), *events(fails=False)])

    def test_events_of_the_future_are_ignored(self, written: Callable[..., str]) -> None:
        assert written([object(), *events(fails=False)]).count("\n") == written(events(fails=False)).count("\n")

    def test_a_note_is_written_whole(self) -> None:
        stream = io.StringIO()
        progress = self.made(stream)
        progress.note("warning: plain words")
        progress.close()
        assert stream.getvalue().count("\n") == 1

    # ---- streams

    def test_a_closed_stream_stops_nothing(self) -> None:
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        progress = self.made(stream)
        stream.close()
        for event in events():
            progress.handle(event)
        progress.close()

    def test_a_full_stream_stops_nothing(self) -> None:
        with open("/dev/full", "w") as stream:
            self.run(stream, events())
            # What the file object still holds must go somewhere when it is closed.
            devnull = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(devnull, stream.fileno())
            os.close(devnull)

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
    def test_any_encoding_will_do(self, written: Callable[..., str], encoding: str) -> None:
        written(events("größe 漢字 👍"), encoding)

    def test_no_thread_is_left_behind(self) -> None:
        before = threading.active_count()
        self.run(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), events())
        assert threading.active_count() == before
