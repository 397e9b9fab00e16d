"""Programs that are asked: what they answer, what they do wrong, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from img_core.linux.dialogue import DialogueError, converse
from img_core.spec.errors import Canceled, ImgError

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def ask(script: str, *arguments: str, silence: float = 60.0, **more: Any) -> Mapping[str, Any]:
    question = more.pop("question", {"a": 1})
    return converse(["/bin/sh", "-c", script, *arguments], question, environment=ENVIRONMENT, silence=silence, **more)


def test_a_question_is_answered() -> None:
    told: list[Mapping[str, Any]] = []
    script = """read -r question; echo '{"progress": "one"}'; echo; printf '{"result": %s}' "$question" """
    assert ask(script, told=told.append) == {"a": 1}
    assert told == [{"progress": "one"}]


def test_a_long_question_need_not_be_read() -> None:
    assert ask("""echo '{"result": {}}'""", question={"a": "x" * 5_000_000}) == {}


def test_its_own_error_is_one_line() -> None:
    with pytest.raises(ImgError) as caught:
        ask("""printf '%s\\n' '{"error": "so\\nnot", "hint": "else"}'; exit 3""")
    assert (type(caught.value), caught.value.message, caught.value.hint) == (ImgError, "so not", "else")


WRONG = {
    "no JSON": ("echo hello", "says what is no message: `hello`"),
    "bytes": ("printf '\\377\\033[2J\\n'", "says what is no message: `"),
    "a list": ("echo '[1]'", "says what is no message: `[1]`"),
    "deep": ("head -c 200000 /dev/zero | tr '\\0' '['; echo", "says what is no message: `[[["),
    "two keys": ("""echo '{"result": {}, "error": "x"}'""", "says what is no message"),
    "a result that is no object": ("""echo '{"result": 1}'""", "says what is no message"),
    "two results": ("""echo '{"result": {}}'; echo '{"result": {}}'""", "says something after its end"),
    "half a line": ("""printf '{"resu'""", "says what is no message"),
    "nothing": ("exit 0", "ended without a result"),
    "a status": ("echo first >&2; echo 'no such\tthing' >&2; exit 3", "ended with status 3: no such thing"),
    "a status behind a result": ("""echo '{"result": {}}'; exit 1""", "ended with status 1"),
    "a signal": ("kill -9 $$", "was ended by signal 9 (SIGKILL)"),
    "no text of an error": ("""echo '{"error": 5}'""", "says an error without a text"),
    "a long line": ("head -c 3000000 /dev/zero | tr '\\0' x; sleep 60", "says a line of more than 1 MiB"),
    "much": ("""yes '{"progress": "x"}'""", "says more than 32 MiB"),
    "noise without end": ("yes", "says what is no message: `y`"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_it_does_wrong_is_one_line(what: str) -> None:
    script, text = WRONG[what]
    with pytest.raises(DialogueError) as caught:
        ask(script)
    assert caught.value.message.startswith(text)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600


def test_a_program_that_cannot_be_executed(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("#!/no/such/shell\n")
    (tmp_path / "p").chmod(0o755)
    with pytest.raises(DialogueError, match="ended with status 1: cannot be executed: No such file or directory"):
        converse([str(tmp_path / "p")], {}, environment=ENVIRONMENT, silence=60)


def test_secrets_in_its_errors_are_not_told() -> None:
    with pytest.raises(DialogueError) as caught:
        ask("echo secret >&2; exit 3", discreet=True)
    assert caught.value.message == "ended with status 3"


def alive(path: Path) -> bool:
    """Tell whether a process whose id is in *path* runs."""
    try:
        os.kill(int(path.read_text()), 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{path.read_text().strip()}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


HANGING = "echo $$ > $0; sleep 1000 & echo $! > $0.child; wait"


def test_one_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(DialogueError, match=r"says nothing for 0\.5 seconds"):
        ask(HANGING, str(tmp_path / "pid"), silence=0.5)
    wait_for(lambda: not (tmp_path / "pid.child").exists() or not alive(tmp_path / "pid.child"))
    assert not (tmp_path / "pid").exists() or not alive(tmp_path / "pid")


def test_a_slow_one_that_speaks_is_waited_for() -> None:
    assert (
        ask("""for i in 1 2 3; do sleep 0.7; echo '{"progress": "x"}'; done; echo '{"result": {}}'""", silence=20) == {}
    )


def test_what_it_left_running_is_not_waited_for(tmp_path: Path) -> None:
    assert ask("""sleep 1000 & echo $! > $0; echo '{"result": {}}'""", str(tmp_path / "child")) == {}
    wait_for(lambda: not alive(tmp_path / "child"))


def test_who_stops_ends_it(tmp_path: Path) -> None:
    def check() -> None:
        if (tmp_path / "pid.child").exists():
            raise Canceled

    with pytest.raises(Canceled):
        ask(HANGING, str(tmp_path / "pid"), check=check)
    wait_for(lambda: not alive(tmp_path / "pid"))


def test_it_ends_with_us(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            ask("echo $$ > $0.new; mv $0.new $0; exec sleep 1000", str(tmp_path / "pid"))
        finally:
            os._exit(1)
    wait_for((tmp_path / "pid").exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: not alive(tmp_path / "pid"))
