"""The progress on terminals: exact screens for lists of events, whatever size, encoding and logs they meet."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from harness.terminal import Terminal
from img_core.spec import Event, StepFinished, StepLog, StepPlanned, StepStarted, StepStatus, WarningRaised
from img_progress_tty import _tty
from img_progress_tty._screen import Screen
from img_progress_tty._text import cut, width_of
from img_progress_tty._tty import TerminalProgress

DIGEST = "sha256:" + "4b27c8aa5d04" + "0" * 52
START = 100.0


class Shown:
    """A progress with a clock of its own, and the terminal that it draws on."""

    def __init__(self, columns: int = 60, rows: int = 24, encoding: str = "utf-8") -> None:
        self.now = START
        self.terminal = Terminal(columns, rows)
        self.told_columns = 0  #: the width that the terminal still tells, if it is another one
        self.sent = ""  #: by the last frame
        self._raw = io.BytesIO()
        self._encoding = encoding
        self.progress = TerminalProgress(io.TextIOWrapper(self._raw, encoding=encoding), clock=lambda: self.now)

    def tell(self, *events: object) -> Shown:
        for event in events:
            self.progress.handle(event)  # type: ignore[arg-type]
        return self

    def draw(self, now: float) -> list[str]:
        """Draw a frame at *now*, in seconds since the start; return the screen."""
        self.now = START + now
        self.progress.draw()
        return self._look()

    def close(self, now: float) -> list[str]:
        """End at *now*; return everything, also what scrolled away."""
        self.now = START + now
        self.progress.close()
        self._look()
        return self.terminal.everything

    def note(self, text: str) -> list[str]:
        self.progress.note(text)
        return self._look()

    def _look(self) -> list[str]:
        self.sent = self._raw.getvalue().decode(self._encoding)
        self._raw.seek(0)
        self._raw.truncate()
        self.terminal.feed(self.sent)
        return self.terminal.lines


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shown]:
    """Make a progress whose frames are drawn only when the test says so."""
    made: list[Shown] = []

    def make(*arguments: int, **options: str) -> Shown:
        made.append(Shown(*arguments, **options))  # type: ignore[arg-type]
        return made[0]

    monkeypatch.setattr(_tty, "_FIRST_FRAME", 3600.0)
    monkeypatch.setattr(
        Screen, "size", lambda _self: (made[0].told_columns or made[0].terminal.columns, made[0].terminal.rows)
    )
    monkeypatch.delenv("NO_COLOR", raising=False)
    return make


def start(step: str, name: str, seconds: float = 0.0) -> StepStarted:
    return StepStarted(step, name, START + seconds)


def log(step: str, data: bytes, seconds: float = 0.0) -> StepLog:
    return StepLog(step, 1, data, START + seconds)


def end(step: str, seconds: float, **how: object) -> StepFinished:
    return StepFinished(step, START + seconds, **how)  # type: ignore[arg-type]


def part(step: str, text: str, seconds: float, current: int = 0, total: int = 0, **how: object) -> StepStatus:
    return StepStatus(step, text, START + seconds, current, total, **how)  # type: ignore[arg-type]


def row(text: str, timer: str, columns: int = 60) -> str:
    """Return a line as it stands on a terminal of *columns*: the last column stays free."""
    return text.ljust(columns - 1 - len(timer)) + timer


# --- what is shown ------------------------------------------------------------------------------------------------------


def test_a_build_is_shown_as_buildkit_shows_it(show: Callable[..., Shown]) -> None:
    shown = show(60)
    shown.tell(
        *(StepPlanned(step, step, START) for step in "abcd"),
        start("a", "[1/4] FROM debian"), end("a", 0.1, cached=True),
        start("b", "[2/4] RUN make", 0.1), log("b", b"one\ntwo\n", 0.3), log("b", b"thr", 0.4),
        start("c", "[3/4] COPY . /x", 0.2), end("c", 0.7),
    )  # fmt: skip
    assert shown.draw(2.3) == [
        "[+] Building 2.3s (2/4)",
        row(" => CACHED [1/4] FROM debian", "0.1s"),
        row(" => [2/4] RUN make", "2.2s"),
        " => => # one",
        " => => # two",
        " => => # thr",
        row(" => [3/4] COPY . /x", "0.5s"),
    ]
    shown.tell(end("b", 3.0), start("d", "[4/4] RUN x", 3.0), end("d", 3.5))
    assert shown.close(3.5) == [
        "[+] Building 3.5s (4/4) FINISHED",
        row(" => CACHED [1/4] FROM debian", "0.1s"),
        row(" => [2/4] RUN make", "2.9s"),
        row(" => [3/4] COPY . /x", "0.5s"),
        row(" => [4/4] RUN x", "0.5s"),
    ]
    assert shown.terminal.painted == {"34", "2"}
    assert shown.terminal.colour == ""
    assert shown.terminal.unknown == []


def test_transfers_have_bars_bytes_and_rates(show: Callable[..., Shown]) -> None:
    shown = show(90)
    shown.tell(
        start("a", "FROM debian"),
        part("a", DIGEST, 0.0, 0, 45_100_000, finished=False),
        part("a", DIGEST, 2.0, 12_580_000, 45_100_000, finished=False),
        part("a", "exporting layers", 2.0),
    )
    assert shown.draw(2.0)[1:] == [
        row(" => FROM debian", "2.0s", 90),
        row(" => => sha256:4b27c8aa5d04 [===>          ] 12.00MiB / 43.01MiB 6.00MiB/s", "2.0s", 90),
        row(" => => exporting layers", "0.0s", 90),
    ]
    shown.tell(
        part("a", DIGEST, 7.3, 45_100_000, 45_100_000, outcome="done"), part("a", "pushing x", 7.3, 5, 5, outcome="mounted"), end("a", 7.4)
    )  # fmt: skip
    shown.terminal.columns = 110
    assert shown.close(8.0)[1:] == [
        row(" => FROM debian", "7.4s", 110),
        row(f" => => {DIGEST} 43.01MiB / 43.01MiB", "7.3s", 110),
        row(" => => exporting layers", "0.0s", 110),
        row(" => => pushing x 5B mounted", "0.0s", 110),
    ]


def test_layers_fetched_after_their_step_ended_go_on_with_its_clock(show: Callable[..., Shown]) -> None:
    shown = show(60).tell(
        start("a", "FROM x"), end("a", 1.0), start("b", "RUN x", 50.0), part("a", "sha256:1", 51.0, 0, 10, finished=False)
    )  # fmt: skip
    assert shown.draw(53.0)[1].split() == ["=>", "FROM", "x", "3.0s"]
    shown.tell(part("a", "sha256:1", 54.0, 10, 10, outcome="done"))
    assert shown.draw(60.0)[1].split() == ["=>", "FROM", "x", "4.0s"]


def test_failures_are_repeated_with_their_whole_log(show: Callable[..., Shown]) -> None:
    output = b"".join(b"line %d\n" % number for number in range(40))
    shown = show(60, 10).tell(
        start("a", "RUN a"), log("a", b"\x1b[31mred\n" + output, 0.25), start("b", "RUN b", 0.5), end("b", 0.9, canceled=True),
        end("a", 1.0, error="exit code: 2"), WarningRaised("use k=v", START, rule="Legacy", line=3),
    )  # fmt: skip
    lines = shown.close(1.0)
    assert lines[:3] == [
        "[+] Building 1.0s (0/2)",
        row(" => ERROR RUN a", "1.0s"),
        row(" => CANCELED RUN b", "0.4s"),
    ]
    assert lines[3:6] == ["------", " > RUN a:", "0.250 red"]
    assert lines[6:46] == [f"0.250 line {number}" for number in range(40)]
    assert lines[46:] == ["------", "", " 1 warning found:", " - Legacy: use k=v (line 3)"]
    assert shown.terminal.colour == ""  # what the step left on ends with its line


def test_a_huge_log_of_a_failure_is_cut_at_its_beginning() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    progress = TerminalProgress(stream)
    events: list[Event] = [
        start("a", "RUN a"),
        *[log("a", b"x" * 999 + b"\n")] * 500,
        log("a", b"last\n"),
        end("a", 1.0, error="e"),
    ]
    for event in events:
        progress.handle(event)
    progress.close()
    lines = raw.getvalue().decode().removesuffix("\n").split("\n")
    assert lines[3:5] == [" > RUN a:", "[earlier output is left out]"]
    assert lines[-2:] == ["0.000 last", "------"]
    assert 256 <= sum(line.endswith("xxx") for line in lines) <= 270


def test_what_others_say_comes_above(show: Callable[..., Shown]) -> None:
    shown = show(60).tell(start("a", "RUN a"))
    assert shown.note("early") == ["early"]
    shown.draw(1.0)
    assert shown.note("warning: w") == ["early", "warning: w"]
    assert shown.draw(1.1)[:3] == ["early", "warning: w", "[+] Building 1.1s (0/1)"]


def test_a_cached_build_is_drawn_once(show: Callable[..., Shown]) -> None:
    shown = show(60).tell(start("a", "RUN a"), end("a", 0.01, cached=True))
    shown.close(0.02)
    assert shown.sent.count("[+] Building") == 1
    assert "\x1b[1A" not in shown.sent


def test_an_unchanged_line_is_not_sent_again(show: Callable[..., Shown]) -> None:
    shown = show(60).tell(start("a", "RUN a"), end("a", 0.01), start("b", "RUN b"))
    shown.draw(1.0)
    shown.draw(2.0)
    assert "RUN b" in shown.sent
    assert "RUN a" not in shown.sent


def test_no_color_is_respected(show: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = show(60).tell(start("a", "RUN a"), log("a", b"\x1b[31mred\n"), end("a", 1.0, error="e"))
    assert "0.000 red" in shown.close(1.0)
    assert shown.terminal.painted == set()


# --- sizes --------------------------------------------------------------------------------------------------------------


def events_of_many(count: int) -> list[object]:
    events: list[object] = []
    for number in range(count):
        events += [start(f"s{number}", f"step {number} " + "y" * 100), end(f"s{number}", 1.0)]
    events += [start("r", "running"), log("r", b"".join(b"%d\n" % number for number in range(9)))]
    events += [part("r", DIGEST, 0.0, 1, 9, finished=False)]
    return events


@pytest.mark.parametrize("columns", [1, 2, 5, 12, 20, 33, 80, 200])
@pytest.mark.parametrize("rows", [1, 2, 5, 24])
def test_no_line_is_too_long_and_no_frame_too_high(columns: int, rows: int, show: Callable[..., Shown]) -> None:
    shown = show(columns, rows).tell(*events_of_many(30))
    for now in (1.0, 2.0, 3.0):
        lines = shown.draw(now)
        assert len(lines) <= max(rows - 1, 1)
        assert not lines or lines[0].startswith("[+] Building"[: max(columns - 4, 0)])
        assert shown.terminal.scrolled == [] or rows == 1
    assert sum("step" in line for line in shown.close(4.0)) == 30 or columns < 20


def test_what_goes_on_is_kept_when_there_are_few_rows(show: Callable[..., Shown]) -> None:
    shown = show(60, 6).tell(*events_of_many(30))
    assert [line.split()[:4] for line in shown.draw(1.0)] == [
        ["[+]", "Building", "1.0s", "(30/31)"],
        ["=>", "running", "1.0s"],
        ["=>", "=>", "sha256:4b27c8aa5d04", "[=>"],
        ["=>", "=>", "#", "7"],
        ["=>", "=>", "#", "8"],
    ]


def test_a_resized_terminal_shows_one_block(show: Callable[..., Shown]) -> None:
    shown = show(80).tell(start("a", "RUN a"), end("a", 0.5), start("b", "RUN b"))
    shown.draw(1.0)
    for columns in (50, 30, 100, 61):
        shown.terminal.resize(columns, 24)
        lines = shown.draw(2.0 + columns)
        assert [line.split()[:3] for line in lines[1:]] == [["=>", "RUN", "a"], ["=>", "RUN", "b"]]


@pytest.mark.parametrize(
    "sizes", [[(40, 16)], [(40, 16), (60, 16)], [(30, 16), (25, 16)], [(80, 9)], [(45, 12), (80, 9), (20, 30)]]
)
@pytest.mark.parametrize("steps", [3, 9])
def test_what_scrolled_away_in_a_smaller_terminal_does_not_stay_in_a_larger_one(
    sizes: list[tuple[int, int]], steps: int, show: Callable[..., Shown]
) -> None:
    shown = show(80, 16)
    shown.terminal.feed("before 1\r\nbefore 2\r\n")
    shown.tell(*(start(f"s{number}", f"RUN {number}") for number in range(steps)))
    shown.draw(1.0)
    for number, size in enumerate([*sizes, (80, 16), (100, 20)]):
        shown.terminal.resize(*size)
        shown.draw(2.0 + number)
    first, second, header, *lines = shown.terminal.everything
    assert (first, second) == ("before 1", "before 2")
    assert header.startswith("[+] Building")
    assert [line.split()[:3] for line in lines] == [["=>", "RUN", str(number)] for number in range(steps)]


def test_a_terminal_that_tells_its_new_size_late_shows_one_block(show: Callable[..., Shown]) -> None:
    shown = show(80).tell(*(start(f"s{number}", f"RUN {number}") for number in range(3)))
    shown.terminal.feed("before\r\n")
    shown.draw(1.0)
    shown.terminal.resize(50, 24)
    shown.told_columns = 80
    shown.draw(1.1)
    shown.draw(1.2)
    shown.told_columns = 0
    lines = shown.draw(1.3)
    assert lines[0] == "before"
    assert [line.split()[:3] for line in lines[2:]] == [["=>", "RUN", str(number)] for number in range(3)]


def test_wide_and_combining_characters_are_counted(show: Callable[..., Shown]) -> None:
    names = ["RUN 日本語" + "漢" * 40, "RUN e\u0301" * 20, "RUN 👍 done"]
    shown = show(40).tell(*(start(name, name) for name in names))
    for now in (1.0, 2.0):
        lines = shown.draw(now)
        assert len(lines) == 4
        assert all(width_of(line) == 39 and line.endswith(f"{now}s") for line in lines[1:])
    assert "…" in lines[1]


def test_text_is_cut_to_columns() -> None:
    assert [cut("漢字漢字", width, mark="…") for width in (8, 7, 6, 2, 1, 0)] == [
        "漢字漢字",
        "漢字漢…",
        "漢字…",
        "…",
        "…",
        "",
    ]
    assert cut("abcdef", 5, mark="...") == "ab..."


@pytest.mark.parametrize(("encoding", "spelled"), [("ascii", "RUN \\xe4 \\u6f22"), ("latin-1", "RUN ä \\u6f22")])
def test_other_encodings_get_escapes(encoding: str, spelled: str, show: Callable[..., Shown]) -> None:
    shown = show(60, encoding=encoding).tell(start("a", "RUN ä 漢"), log("a", "ß漢".encode() + b"z" * 100 + b"\n"))
    lines = shown.draw(1.0)
    assert lines[1] == f" => {spelled}".ljust(55) + "1.0s"
    assert lines[2].endswith("zz...")
    assert len(lines[2]) == 59


# --- hostile and strange logs --------------------------------------------------------------------------------------------

HOSTILE = [
    b"\x1b]0;owned\x07", b"\x1b[2J\x1b[H", b"\x1b[10A", b"\x1b[?1049h", b"\x1b[?25l", b"\x1bc", b"\x9b2J", b"\xc2\x9b2J",
    b"\x07\x08\x0b\x0c\x7f",
    b"\x1b[8mhidden", b"\x1b[31mred", b"\x1bP0;1|17/ab\x1b\\", b"\x1b[6n", "\u202eevil".encode(),
    b"\xff\xfe\x00", b"\x1b[", b"\t\t\tx", b"\x0e\x0f",
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE)
@pytest.mark.parametrize("fails", [True, False])
def test_a_step_cannot_play_with_the_terminal(data: bytes, fails: bool, show: Callable[..., Shown]) -> None:
    name = data.decode("utf-8", "surrogateescape")
    shown = show(60).tell(start("a", f"RUN {name}"), log("a", data + b"\nend" + data), part("a", name, 0.0))
    frame = shown.draw(1.0)
    assert frame[0] == "[+] Building 1.0s (0/1)"
    assert frame[1].startswith(" => RUN ")
    assert all(len(line) <= 59 for line in frame)
    shown.tell(end("a", 1.0, error=name if fails else ""))
    assert shown.close(2.0)[0].startswith("[+] Building 2.0s")
    assert [text for text in shown.terminal.unknown if text != "\t"] == []
    assert shown.terminal.colour == ""
    assert shown.terminal.cursor[0] == len(shown.terminal.lines)


def test_a_bar_that_draws_over_itself_is_one_line(show: Callable[..., Shown]) -> None:
    shown = show(60).tell(start("a", "RUN a"), log("a", b"get\n10%\r20%\r"), log("a", b"30%\r"))
    assert shown.draw(1.0)[2:] == [" => => # get", " => => # 30%"]


def test_a_step_that_prints_without_end_costs_little(show: Callable[..., Shown]) -> None:
    shown = show(80).tell(start("a", "RUN yes"))
    chunk = b"y\n" * 2000
    began = time.process_time()
    for _ in range(5000):  # ten million lines, in pieces as a pipe gives them
        shown.tell(log("a", chunk))
    shown.draw(1.0)
    assert time.process_time() - began < 2.0
    assert shown.progress._board.steps["a"].log._size < 600_000


def test_after_a_stop_the_block_is_drawn_below_what_the_shell_wrote(show: Callable[..., Shown]) -> None:
    before = signal.getsignal(signal.SIGCONT)
    shown = show(60).tell(start("a", "RUN a"))
    shown.draw(1.0)
    shown.terminal.feed("^Z\n[1]+  Stopped\n$ fg\n")
    os.kill(os.getpid(), signal.SIGCONT)
    assert [line.split()[0] for line in shown.draw(9.0)] == ["[+]", "=>", "^Z", "[1]+", "$", "[+]", "=>"]
    assert [line.split()[0] for line in shown.draw(10.0)] == ["[+]", "=>", "^Z", "[1]+", "$", "[+]", "=>"]
    shown.close(10.0)
    assert signal.getsignal(signal.SIGCONT) == before


# --- the thread, and streams that fail -----------------------------------------------------------------------------------


def test_frames_come_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tty, "_FIRST_FRAME", 0.0)
    monkeypatch.setattr(_tty, "_FRAME", 0.001)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    progress = TerminalProgress(stream)
    progress.handle(StepStarted("a", "RUN a", time.time()))
    deadline = time.monotonic() + 10
    while stream.buffer.getvalue().count(b"[+] Building") < 3:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
    progress.close()
    assert progress._thread is not None
    assert not progress._thread.is_alive()


def test_a_closed_terminal_does_not_stop_the_build(show: Callable[..., Shown]) -> None:
    shown = show(60).tell(start("a", "RUN a"))
    shown.progress.stream.close()
    shown.progress.draw()
    shown.progress.note("x")
    shown.progress.close()


def test_drawing_needs_no_library() -> None:
    code = "import sys, img_progress_tty._tty; print(*{'rich', 'unicodedata', 'curses', 'asyncio', 'logging'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "\n"


def test_nothing_is_written_when_nothing_happened(show: Callable[..., Shown]) -> None:
    assert show(60).close(1.0) == []
