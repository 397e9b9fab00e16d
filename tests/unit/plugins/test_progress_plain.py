"""The plain progress: BuildKit's lines, grouped by step, whatever happens to the terminal."""

from __future__ import annotations

import io
import os

from img_core.spec import Event, StepFinished, StepLog, StepStarted, StepStatus, WarningRaised
from img_lib_progress.text import log_time, size_text
from img_progress_plain._plain import PlainProgress
from img_progress_plain._quiet import QuietProgress


def shown(*events: object, kind: type = PlainProgress, close: bool = True) -> str:
    stream = io.StringIO()
    progress = kind(stream)
    for event in events:
        progress.handle(event)
    if close:
        progress.close()
    return stream.getvalue()


def start(step: str, name: str, time: float = 0.0) -> StepStarted:
    return StepStarted(step, name, time)


def log(step: str, data: bytes, time: float) -> StepLog:
    return StepLog(step, 1, data, time)


def test_a_step_is_shown_as_buildkit_shows_it() -> None:
    assert shown(
        start("a", "[2/4] RUN make", 100.0),
        log("a", b"one\ntw", 100.123),
        log("a", b"o\n", 100.5),
        StepFinished("a", 100.34),
    ) == ("#1 [2/4] RUN make\n#1 0.123 one\n#1 0.500 two\n#1 DONE 0.3s\n\n")


def test_the_name_is_shown_as_soon_as_the_step_begins() -> None:
    assert shown(start("a", "[1/2] FROM x"), close=False) == "#1 [1/2] FROM x\n"


def test_cached_canceled_and_failed_steps() -> None:
    text = shown(
        start("a", "A"),
        StepFinished("a", 0.0, cached=True),
        start("b", "B"),
        StepFinished("b", 0.0, canceled=True),
        start("c", "C"),
        log("c", b"bad news", 0.25),
        StepFinished("c", 1.0, error="exit code: 1"),
    )
    assert "#1 A\n#1 CACHED\n\n#2 B\n#2 CANCELED\n\n" in text
    assert "#3 C\n#3 0.250 bad news\n#3 ERROR: exit code: 1\n\n" in text
    assert text.endswith("------\n > C:\n0.250 bad news\n------\n")


def test_lines_of_parallel_steps_are_not_mixed() -> None:
    text = shown(
        start("a", "A"), log("a", b"a1\n", 0.1), start("b", "B", 0.1), log("b", b"b1\n", 0.2), log("a", b"a2\n", 0.3),
        StepFinished("a", 0.4), log("b", b"b2\n", 0.5), StepFinished("b", 0.6),
    )  # fmt: skip
    assert text == ("#1 A\n#1 0.100 a1\n#1 0.300 a2\n#1 DONE 0.4s\n\n#2 B\n#2 0.100 b1\n#2 0.400 b2\n#2 DONE 0.5s\n\n")


def test_lines_of_both_streams_of_a_step_are_not_mixed() -> None:
    text = shown(
        start("a", "A"), log("a", b"10", 0.1), StepLog("a", 2, b"aside\nmo", 0.2), log("a", b"41\n", 0.3),
        StepLog("a", 2, b"re", 0.4), StepFinished("a", 0.5),
    )  # fmt: skip
    assert text == "#1 A\n#1 0.200 aside\n#1 0.300 1041\n#1 0.400 more\n#1 DONE 0.5s\n\n"


def test_a_silent_step_gives_way_and_is_named_again() -> None:
    text = shown(
        start("a", "A"), start("b", "B", 0.1), log("b", b"b1\n", 5.0), StepFinished("b", 5.5), log("a", b"a1\n", 6.0),
        StepFinished("a", 7.0),
    )  # fmt: skip
    assert text == "#1 A\n#1 ...\n\n#2 B\n#2 4.900 b1\n#2 DONE 5.4s\n\n#1 A\n#1 6.000 a1\n#1 DONE 7.0s\n\n"


def test_a_chatty_step_does_not_hold_back_the_others_for_ever() -> None:
    events: list[Event] = [start("a", "A"), start("b", "B")]
    for number in range(300):
        events += [log("a", b"a\n", number / 1000), log("b", b"b\n", number / 1000)]
    assert "#2 B\n" in shown(*events, close=False)


def test_transfers_are_lines_of_their_step() -> None:
    text = shown(
        start("a", "[internal] load build context"),
        StepStatus("a", "transferring context:", 0.1, current=172),
        StepStatus("a", "sha256:abc", 0.2, current=50_000, total=3_200_000, finished=False),
        StepStatus("a", "sha256:abc", 2.2, current=1_050_000, total=3_200_000, finished=False),
        StepStatus("a", "sha256:abc", 2.3, current=2_000_000, total=3_200_000, finished=False),
        StepStatus("a", "sha256:abc", 3.35, current=3_200_000, total=3_200_000, outcome="done"),
        StepStatus("a", "extracting sha256:abc", 3.4, finished=False),
        StepStatus("a", "extracting sha256:abc", 3.9, outcome="done"),
        StepStatus("a", "pushing sha256:abc", 4.0, current=3_200_000, total=3_200_000, outcome="mounted"),
    )
    assert text == (
        "#1 [internal] load build context\n#1 transferring context: 172B done\n"
        "#1 sha256:abc 1.00MiB / 3.05MiB 2.0s\n#1 sha256:abc 3.05MiB / 3.05MiB 3.1s done (976.56KiB/s)\n"
        "#1 extracting sha256:abc 0.5s done\n#1 pushing sha256:abc 3.05MiB mounted\n"
    )


def test_long_transfers_get_fewer_and_fewer_lines() -> None:
    second = [StepStatus("a", "sha256:abc", float(n), current=n, total=1000, finished=False) for n in range(600)]
    lines = shown(start("a", "A"), *second).splitlines()[1:]
    assert [line.split()[-1] for line in lines[:6]] == ["2.0s", "6.0s", "14.0s", "30.0s", "60.0s", "90.0s"]
    assert len(lines) == 22


def test_output_cannot_play_with_the_terminal() -> None:
    text = shown(start("a", "RUN \x1b]0;owned\x07"), log("a", b"\x1b[31mred\x1b[0m \x1b[2J\xff 10%\r20%\n", 0.0))
    assert "\x07" not in text
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text
    assert text.endswith("0.000 20%\n")
    assert "\x1b[31mred\x1b[0m" in shown(start("a", "A"), log("a", b"\x1b[31mred\x1b[0m\n", 0.0))


def test_endless_output_without_a_line_end_is_shown_and_not_kept() -> None:
    assert len(shown(start("a", "A"), log("a", b"x" * 100_000, 0.0), close=False)) > 50_000


def test_warnings_are_counted_at_the_end() -> None:
    text = shown(WarningRaised("use `k=v`", 0.0, rule="LegacyKeyValueFormat", line=3))
    assert text == "\n 1 warning found:\n - LegacyKeyValueFormat: use `k=v` (line 3)\n"


def test_a_closed_stream_does_not_stop_the_build() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    stream.close()
    progress.handle(start("a", "A"))
    progress.close()


def test_a_full_disk_behind_the_stream_does_not_stop_the_build() -> None:
    with open("/dev/full", "w") as stream:
        progress = PlainProgress(stream)
        progress.handle(start("a", "A"))
        progress.handle(StepFinished("a", 1.0))
        progress.close()
        devnull = os.open(
            os.devnull, os.O_WRONLY
        )  # what the file object still holds must go somewhere when it is closed
        os.dup2(devnull, stream.fileno())
        os.close(devnull)


def test_an_ascii_terminal_gets_escapes() -> None:
    raw = io.BytesIO()
    progress = PlainProgress(io.TextIOWrapper(raw, encoding="ascii"))
    progress.handle(start("a", "RUN echo ä"))
    assert raw.getvalue() == b"#1 RUN echo \\xe4\n"


def test_quiet_shows_only_what_failed() -> None:
    good = (start("a", "A"), log("a", b"text\n", 0.1), StepFinished("a", 0.2))
    bad = (start("b", "B"), log("b", b"oops\n", 0.1), StepFinished("b", 0.2, error="exit code: 1"))
    assert shown(*good, kind=QuietProgress) == ""
    assert shown(*good, *bad, kind=QuietProgress) == "------\n > B:\n0.100 oops\n------\n"


def test_times_and_sizes() -> None:
    assert [log_time(value) for value in (0.0000123, 0.0812, 1.5, 12.345, 123.45, 1234.5, 12345.6)] == [
        "0.000", "0.081", "1.500", "12.34", "123.4", "1234", "12345",
    ]  # fmt: skip
    assert [size_text(value) for value in (0, 172, 1000, 1024, 3_533_701)] == [
        "0B", "172B", "1000B", "1.00KiB", "3.37MiB",
    ]  # fmt: skip


def test_quiet_has_nothing_to_repeat_of_a_silent_failure() -> None:
    assert shown(start("a", "A"), StepFinished("a", 0.2, error="no such file"), kind=QuietProgress) == ""
