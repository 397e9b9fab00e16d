"""``img build`` on a real terminal, and what programs read of it."""

from __future__ import annotations

import base64
import json
import re
import tarfile
from pathlib import Path

import jsonschema
import pytest

from harness.img import Img, write_context
from harness.pseudo_terminal import TerminalSession

pytestmark = pytest.mark.rootless

HOSTILE = r"\033]0;owned\007\033[2J\033[H\033[?1049h\033[?25l\033c\033[99A\r\n"
#: What a timer may show.
SECONDS = re.compile(r" +\d+\.\ds$")


def without_times(lines: list[str]) -> list[str]:
    return [re.sub(r"\d+\.\ds", "N.Ns", SECONDS.sub("", line)) for line in lines]


def test_a_build_on_a_terminal_ends_with_the_whole_story(img: Img, tmp_path: Path) -> None:
    run = rf"for i in 1 2 3 4; do printf '{HOSTILE}'; echo text $i; sleep 0.2; done"
    context = write_context(
        tmp_path, f'FROM busybox\nRUN ["sh", "-c", "{run}"]\nCOPY Dockerfile /\n'.replace("\\", "\\\\")
    )
    with TerminalSession(img, "build", "-t", "x", context) as session:
        running = session.wait_for(lambda screen: any("=> => # text 2" in line for line in screen.lines)).lines
        assert running[2].startswith("[+] Building")
        assert len(running) < 24
        assert session.end() == 0
        shown = [re.sub(r"sha256:[0-9a-f]+", "DIGEST", line) for line in without_times(session.screen.everything)]
        # The first steps begin at the same time, in any order.
        assert sorted(re.sub(r"RUN .*", "RUN", line) for line in shown) == sorted([
            "Building x",
            "Setting up the rootfs... this may take a bit.",
            "[+] Building N.Ns (6/6) FINISHED",
            " => [internal] load build definition from Dockerfile",
            " => [1/3] FROM docker.io/library/busybox:latest@DIGEST",
            " => => extracting DIGEST 1.05MiB / 1.05MiB",
            " => [internal] load build context",
            " => [2/3] RUN",
            " => [3/3] COPY Dockerfile /",
            " => exporting to image",
            " => => exporting layers",
            " => => exporting manifest DIGEST",
            " => => exporting config DIGEST",
            " => => naming to docker.io/library/x:latest",
            "Successfully built x",
        ])  # fmt: skip
        assert shown[-1] == "Successfully built x"
        assert r"\x1b]0;owned\x07" in session.written  # it is shown, not done
        assert session.screen.unknown == []
        assert session.screen.colour == ""
        assert session.settings_now() == session.settings
    with TerminalSession(img, "build", "-t", "x", context) as session:
        assert session.end() == 0
        assert sum("CACHED" in line for line in session.screen.lines) == 2
        frames = re.findall(r"\[\+\] Building (\d+\.\d)s", session.written)
        # Once where all is quick; a slow machine may draw it meanwhile, ten times a second.
        assert len(frames) <= 2 + float(frames[-1]) / 0.1


def test_a_failure_is_told_below_the_block(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path, "FROM busybox\nRUN for i in $(seq 100); do echo $i; done; sleep 0.3; exit 3\n")
    with TerminalSession(img, "build", "-t", "x", context, rows=10) as session:
        assert session.end() == 4
        lines = session.screen.everything
    begin = lines.index("------")
    assert any(line.startswith(" => ERROR [2/2] RUN for i") for line in lines[:begin])
    assert [line.split()[-1] for line in lines[begin + 2 : begin + 102]] == [str(number) for number in range(1, 101)]
    assert lines[begin + 102] == "------"
    assert any(line.startswith("Error: ") for line in lines[begin + 103 :])
    assert ">>> RUN" in "\n".join(lines[begin + 103 :])
    assert session.screen.unknown == []


def test_ctrl_c_leaves_a_clean_terminal(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path, "FROM busybox\nRUN echo here; sleep 60\n")
    with TerminalSession(img, "build", "-t", "x", context) as session:
        session.wait_for(lambda screen: any("# here" in line for line in screen.lines))
        session.resize(50, 12)
        session.wait_for(lambda screen: sum(line.startswith("[+] Building") for line in screen.lines) == 1)
        session.press(b"\x03")
        assert session.end() == 130
        lines = session.screen.lines
        assert any(line.startswith(" => CANCELED [2/2] RUN echo here") for line in lines)
        assert lines[-1] == "Error: canceled"
        assert session.screen.cursor == (len(lines), 0)
        assert session.screen.unknown == []
        assert session.settings_now() == session.settings


def test_standard_output_has_only_data(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nRUN sleep 0.5\nCOPY Dockerfile /here\n")
    output = tmp_path / "out.tar"
    with TerminalSession(img, "build", "-o", "type=tar", context, stdout=output) as session:
        assert session.end() == 0
        assert any("sending tarball" in line for line in session.screen.lines)
    with tarfile.open(output) as archive:
        assert "here" in archive.getnames()


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ((), {"TERM": "dumb"}),
        (("--no-console",), {}),
        (("--progress=plain",), {}),
        ((), {"BUILDKIT_PROGRESS": "plain"}),
    ],
)
def test_plain_lines_where_they_are_wanted(
    flags: tuple[str, ...], environment: dict[str, str], img: Img, tmp_path: Path
) -> None:
    context = write_context(tmp_path, "FROM busybox\n")
    with TerminalSession(img.with_environment(**environment), "build", "-t", "x", *flags, context) as session:
        assert session.end() == 0
    assert "#1 [internal] load build definition from Dockerfile" in session.screen.lines
    assert "\x1b" not in session.written


def test_tty_is_refused_without_a_terminal(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path, "FROM busybox\n")
    img.build(context, "--progress=tty").refused(2, "needs a terminal")


def test_rawjson_is_json_line_by_line(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path, "FROM busybox AS Base\nRUN echo hello; exit 3\n")
    failed = img.build(context, "--progress=rawjson")
    assert failed.returncode == 4
    lines = [json.loads(line) for line in failed.stderr.splitlines() if line.startswith("{")]
    schema = json.loads((Path(__file__).parents[2] / "docs/reference/rawjson.schema.json").read_text())
    for line in lines:
        jsonschema.validate(line, schema)
    rest = [line for line in failed.stderr.splitlines() if not line.startswith("{")]
    assert [line.partition(" ")[0] for line in rest[-2:]] == ["Error:", "hint:"]
    vertexes = {item["digest"]: item for line in lines for item in line.get("vertexes", ())}
    step = next(item for item in vertexes.values() if "RUN echo hello" in item["name"])
    assert step["started"] <= step["completed"]
    assert "exit code: 3" in step["error"]
    assert set(step["inputs"]) <= set(vertexes)
    logs = [item for line in lines for item in line.get("logs", ()) if item["vertex"] == step["digest"]]
    assert b"".join(base64.b64decode(item["data"]) for item in logs) == b"hello\n"
    written = img.build(write_context(tmp_path, "FROM busybox\nCOPY Dockerfile /\n"), "--progress=rawjson").ok()
    assert all(line.startswith("{") for line in written.stderr.splitlines())
