"""What makes a step run again, in real builds: the cases CA of docs/reference/dockerfile-cases.md, and others."""

from __future__ import annotations

import os
import sqlite3
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.build_server import Workshop

pytestmark = pytest.mark.rootless

Change = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Row:
    """Two builds of the same context directory and the instructions that the second one makes again, by their first words."""

    first: str
    second: str = ""  #: the same, if empty
    made: tuple[str, ...] = ()
    files: dict[str, str | bytes] = field(default_factory=lambda: {"a": "a", "b": "b", "d/x": "x"})
    change: Change = lambda _context: None
    before: dict[str, Any] = field(default_factory=dict)  #: options of the first build
    after: dict[str, Any] = field(default_factory=dict)  #: of the second


def _remake(text: str) -> Change:
    def change(context: Path) -> None:
        (context / "a").unlink()
        (context / "a").write_text(text)

    return change


def _relink(name: str, target: str) -> Change:
    def change(context: Path) -> None:
        (context / name).unlink()
        (context / name).symlink_to(target)

    return change


def _args(**values: str) -> dict[str, Any]:
    return {"build_args": values}


def _tag_attribute(context: Path) -> None:
    try:
        os.setxattr(context / "a", "user.note", b"x")
    except OSError:
        pytest.skip("this file system has no user attributes")


STAGES = "FROM busybox AS one\nRUN : {0}; echo same > /out\nFROM busybox\nCOPY --from=one /out /o\nRUN cat /o\n"

ROWS = {
    "CA1-touch": Row("COPY a /a\nRUN cat /a", change=lambda c: os.utime(c / "a", (1, 1))),
    "CA1-remade": Row("COPY a /a", change=_remake("a")),
    "CA1-directory-time": Row("COPY d /d", change=lambda c: os.utime(c / "d", (1, 1))),
    "CA2-mode": Row("COPY a /a", change=lambda c: os.chmod(c / "a", 0o700), made=("COPY",)),
    "CA2-empty-directory": Row("COPY d /d", change=lambda c: (c / "d" / "new").mkdir(), made=("COPY",)),
    "CA2-rename": Row("COPY d /d", change=lambda c: (c / "d" / "x").rename(c / "d" / "y"), made=("COPY",)),
    "CA3": Row("ENV V=1\nCOPY a /a\nRUN true", "ENV V=2\nCOPY a /a\nRUN true", ("RUN",)),
    "CA4": Row("ENV A=1 B=2\nRUN true", "ENV B=2 A=1\nRUN true", ("RUN",)),
    "CA5": Row("USER root\nRUN true", "USER 0\nRUN true", ("RUN",)),
    "CA6": Row("RUN echo x", 'RUN ["/bin/sh","-c","echo x"]'),
    "CA7": Row("RUN echo x", "RUN echo  x", ("RUN",)),
    "CA9": Row("ARG V\nCOPY a /a\nRUN true", made=("RUN",), before=_args(V="1"), after=_args(V="2")),
    "CA10": Row("ARG V\nENV V=c\nRUN true", before=_args(V="1"), after=_args(V="2")),
    "CA11": Row(STAGES.format("v1"), STAGES.format("v2"), ("RUN",)),
    "CA12-network": Row("RUN true", "RUN --network=none true", ("RUN",)),
    "CA12-host": Row("RUN true", made=("RUN",) * 2, after={"add_hosts": [["h", "10.0.0.1"]]}),
    "CA12-address": Row(
        "RUN true", before={"add_hosts": [["h", "10.0.0.1"]]}, after={"add_hosts": [["h", "10.0.0.2"]]}
    ),
    "CA13": Row("COPY a b /x/", "COPY a /x/\nCOPY b /x/", ("COPY", "COPY")),
    "CA14": Row("COPY a /x/", "COPY --chown=0:0 a /x/", ("COPY",)),
    "CA15": Row(
        "RUN true\nWORKDIR /w\nRUN pwd", made=("WORKDIR", "RUN"),
        before=_args(SOURCE_DATE_EPOCH="1"), after=_args(SOURCE_DATE_EPOCH="2"),
    ),
    "CA16-outside": Row("RUN --mount=source=d,target=/m cat /m/x", change=_remake("other")),
    "CA16-inside": Row(
        "RUN --mount=source=d,target=/m cat /m/x", change=lambda c: (c / "d" / "x").write_text("y"), made=("RUN",)
    ),
    "CA17": Row(
        "RUN --mount=type=secret,id=s true", "RUN --mount=type=secret,id=s,required true", ("RUN",),
        before={"secrets": {"s": "1"}}, after={"secrets": {"s": "1"}},
    ),
    "CA18": Row("COPY a /x/", "ADD a /x/", ("ADD",)),
    # -- each thing alone
    "changed-content": Row("COPY a /a\nRUN cat /a", change=_remake("new"), made=("COPY", "RUN")),
    "changed-file-next-to-it": Row("COPY b /b", change=_remake("new")),
    "user-attribute": Row("COPY a /a", change=_tag_attribute),
    "ignored-file": Row("COPY . /c", files={".dockerignore": "a\n", "a": "a", "b": "b"}, change=_remake("new")),
    "excluded-file": Row("COPY --exclude=a . /c", change=_remake("new")),
    "spelling": Row("COPY ./d//x /x/", 'COPY ["d/x", "/x/"]'),
    "link-to-an-equal-file": Row(
        "COPY l /x/", files={"a": "same", "b": "same", "l@": "a"},
        change=_relink("l", "b"),
    ),
    "renamed-source": Row("COPY a /x/", "COPY z /x/", ("COPY",), change=lambda c: (c / "z").write_text("a")),
    "copied-link-points-elsewhere": Row(
        "COPY d /d", files={"d/l@": "one", "d/x": "x"}, made=("COPY",),
        change=_relink("d/l", "two"),
    ),
    "heredoc-content": Row("COPY <<E /e\n1\nE", "COPY <<E /e\n2\nE", ("COPY",)),
    "heredoc-name": Row("COPY <<E /e/\n1\nE", "COPY <<F /e/\n1\nF", ("COPY",)),
    "metadata": Row("RUN true", 'LABEL a=1\nCMD ["x"]\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL 9\nRUN true'),
    "stage-name-and-comment": Row("FROM busybox AS a\nRUN : named", "FROM busybox AS b\n# why\nrun : named"),
    "undeclared-argument": Row("RUN true", before=_args(X="1"), after=_args(X="2")),
    "declared-argument-without-value": Row("RUN true", "ARG X\nRUN true"),
    "proxy": Row("RUN true", before=_args(http_proxy="http://a"), after=_args(http_proxy="http://b")),
    "excluded-list": Row("COPY . /c", "COPY --exclude=nothing . /c", ("COPY",)),
    "workdir-owner": Row("WORKDIR /w", "USER 5\nWORKDIR /w", ("WORKDIR",)),
    "linked-copy-survives-a-change-below": Row(
        "RUN : 1\nCOPY --link a /a", "RUN : 2\nCOPY --link a /a", ("RUN",)
    ),
    "shell-with-equal-words": Row("RUN true", 'SHELL ["/bin/sh", "-c"]\nRUN true'),
    "script-delimiter": Row("RUN <<A\ntrue\nA", "RUN <<B\ntrue\nB"),
    "ulimit": Row("RUN true", made=("RUN", "RUN"), after={"ulimits": [["nofile", 100, 100]]}),
    "shm-size": Row("RUN true", made=("RUN", "RUN"), after={"shm_size": 1 << 20}),
    # -- mounts
    "MT14-id": Row("RUN --mount=type=cache,target=/c,id=1 true", "RUN --mount=type=cache,target=/c,id=2 true"),
    "MT14-sharing": Row(
        "RUN --mount=type=cache,target=/c,id=1 true", "RUN --mount=type=cache,target=/c,id=1,sharing=locked true"
    ),
    "MT19-changed": Row(
        "RUN --mount=type=secret,id=s cat /run/secrets/s", before={"secrets": {"s": "1"}}, after={"secrets": {"s": "2"}}
    ),
    "MT19-given-later": Row("RUN --mount=type=secret,id=s true", after={"secrets": {"s": "2"}}),
    "other-mount-target": Row("RUN --mount=target=/m true", "RUN --mount=target=/n true", ("RUN",)),
    # -- controls
    "no-cache": Row("COPY a /a\nWORKDIR /w\nRUN true", made=("RUN", "COPY", "WORKDIR", "RUN"), after={"no_cache": True}),
    "no-cache-filter": Row(
        STAGES.format("filter"), made=("RUN",), after={"no_cache_filter": ["ONE"]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_row(workshop: Workshop, row: Row) -> None:
    workshop.write(row.files)
    assert workshop.build(row.first, **row.before).ok().made, "the first build makes something"
    row.change(workshop.context)
    second = workshop.build(row.second or row.first, **row.after).ok()
    assert [text.split()[0].upper() for text in second.made] == list(row.made), str(second)
    if not row.after.get("no_cache") and not row.after.get("no_cache_filter"):
        assert workshop.build(row.second or row.first, **row.after).ok().made == [], "a third build makes nothing"


def test_ca8_other_labels_and_command_of_the_base(workshop: Workshop) -> None:
    for number in ("1", "2"):
        workshop.build(
            f'FROM busybox\nRUN : ca8\nLABEL l={number}\nCMD ["{number}"]', tags=[f"server/ca8:{number}"]
        ).ok()
    workshop.write({"a": "a"})
    assert len(workshop.build("FROM server/ca8:1\nCOPY a /a\nRUN cat /a").ok().made) == 2
    assert workshop.build("FROM server/ca8:2\nCOPY a /a\nRUN cat /a").ok().made == []


def test_st5_equal_steps_of_two_stages_run_once_even_without_cache(workshop: Workshop) -> None:
    body = (
        "FROM busybox AS one\nRUN head -c 8 /dev/urandom | md5sum > /r\n"
        "FROM busybox AS two\nRUN head -c 8 /dev/urandom | md5sum > /r\n"
        "FROM busybox\nCOPY --from=one /r /1\nCOPY --from=two /r /2\nRUN cmp /1 /2 && echo equal\n"
    )
    built = workshop.build(body, no_cache=True).ok()
    assert "equal" in built.log
    assert len([text for text in built.made if text.startswith("RUN head")]) == 1


SECRETS = {"secrets": {"dev": "one", "prod": "two"}}
#: Pairs of stages with the same command that differ in one thing; what each must find in /r.
TWINS = {
    "secret in the environment": (
        ("RUN --mount=type=secret,id=dev,env=T echo $T > /r", "one"),
        ("RUN --mount=type=secret,id=prod,env=T echo $T > /r", "two"),
        SECRETS,
    ),
    "secret in a file": (
        ("RUN --mount=type=secret,id=dev,target=/t cat /t > /r", "one"),
        ("RUN --mount=type=secret,id=prod,target=/t cat /t > /r", "two"),
        SECRETS,
    ),
    "cache": (
        ("RUN --mount=type=cache,id=cache-a,target=/c echo a >> /c/f; cat /c/f > /r", "a"),
        ("RUN --mount=type=cache,id=cache-b,target=/c echo a >> /c/f; cat /c/f > /r", "a"),
        {},
    ),
}


@pytest.mark.parametrize(("first", "second", "request_"), TWINS.values(), ids=TWINS)
def test_equal_commands_that_get_something_else_are_two_steps(
    workshop: Workshop, first: tuple[str, str], second: tuple[str, str], request_: dict[str, Any]
) -> None:
    body = (
        f"FROM busybox AS dev\n{first[0]}\nFROM busybox AS prod\n{second[0]}\n"
        "FROM busybox\nCOPY --from=dev /r /1\nCOPY --from=prod /r /2\nRUN echo $(cat /1) and $(cat /2)\n"
    )
    for made in (2, 0):  # the second build finds each step's own record
        built = workshop.build(body, **request_).ok()
        assert len([text for text in built.made if text.endswith("/r")]) == made
    assert f"{first[1]} and {second[1]}" in workshop.build(body, **request_, no_cache=True).ok().log


def test_a_stage_without_cache_does_not_take_the_record_of_an_equal_stage(workshop: Workshop) -> None:
    run = "RUN head -c 8 /dev/urandom | md5sum > /r"
    body = (
        f"FROM busybox AS dev\n{run}\nFROM busybox AS prod\n{run}\n"
        "FROM busybox\nCOPY --from=dev /r /1\nCOPY --from=prod /r /2\nRUN cmp /1 /2 || echo they differ\n"
    )
    workshop.build(body).ok()
    built = workshop.build(body, no_cache_filter=["prod"]).ok()
    assert [text for text in built.made if text.startswith("RUN head")] == [run]
    assert "they differ" in built.log
    assert workshop.build(body).ok().log == "", "both stages have the newer result now"


def test_a_result_that_was_removed_and_made_again_is_read_again(workshop: Workshop) -> None:
    body = (
        "FROM busybox AS gone\nRUN : gone; head -c 8 /dev/urandom | md5sum > /r\n"
        "FROM busybox\nCOPY --from=gone /r /2\nRUN --mount=from=gone,target=/one cp /one/r /1\nRUN cmp /1 /2 && echo equal\n"
    )
    assert "equal" in workshop.build(body).ok().log
    state = sqlite3.connect(workshop.server.state / "img.db")
    with state:  # as if its snapshot was collected
        state.execute("DELETE FROM step WHERE description LIKE '[gone %'")
    state.close()
    built = workshop.build(body.replace("cp /one/r", "cp -p /one/r")).ok()
    assert built.made[0].startswith("RUN : gone")
    assert "equal" in built.log, "both read the newer result"


def test_a_failed_step_leaves_the_steps_before_it_in_the_cache(workshop: Workshop) -> None:
    workshop.build("RUN echo one\nRUN exit 3").refused("exit code: 3")
    assert [text.split()[1] for text in workshop.build("RUN echo one\nRUN exit 3").made] == ["exit"]


def test_an_archive_is_unpacked_again_when_its_content_changes_only(workshop: Workshop) -> None:
    def pack(text: str, mtime: int) -> None:
        with tarfile.open(workshop.context / "x.tar", "w") as archive:
            member = tarfile.TarInfo("f")
            (workshop.context / "f").write_text(text)
            member.size, member.mtime = len(text), mtime
            with (workshop.context / "f").open("rb") as file:
                archive.addfile(member, file)

    pack("one", 1)
    workshop.build("ADD x.tar /x/\nRUN cat /x/f").ok()
    assert workshop.build("ADD x.tar /x/\nRUN cat /x/f").ok().made == []
    pack("two", 1)
    assert len(workshop.build("ADD x.tar /x/\nRUN cat /x/f").ok().made) == 2
