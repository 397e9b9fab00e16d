"""Cases AD, HD, IG, OB, ST and WU (docs/reference/dockerfile-cases.md) whose result only a real build shows; the names are theirs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.build_server import Workshop
from harness.host import need
from harness.oci import ImageArchive, Tree

pytestmark = pytest.mark.rootless


def archive(*members: tuple[str, dict[str, Any]]) -> bytes:
    """Return a tar of *members*: name and fields of `tarfile.TarInfo`, with ``text`` for content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            text = fields.get("text", "").encode()
            member.size = len(text)
            for key, value in fields.items():
                if key != "text":
                    setattr(member, key, value)
            out.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


def export(workshop: Workshop, tmp_path: Path, body: str, **request: Any) -> ImageArchive:
    """Build and return the resulting image."""
    workshop.build(body, outputs=[["oci", {"dest": str(tmp_path / "out.tar")}]], **request).ok()
    return ImageArchive(tmp_path / "out.tar")


def result(workshop: Workshop, tmp_path: Path, body: str, **request: Any) -> Tree:
    """Build and return the file system of the result."""
    return export(workshop, tmp_path, body, **request).tree()


def owner(tree: Tree, path: str) -> str:
    return f"{tree[path].uid}:{tree[path].gid}"


# ------------------------------------------------------------------------------------------------------- ADD of archives


def zstd(data: bytes) -> bytes:
    need("zstd")
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd], ids=["plain", "gzip", "bzip2", "xz", "zstd"]
)
def test_ad1_archives_are_known_by_their_content(
    workshop: Workshop, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    fields = {"text": "hi", "uid": 3, "gid": 4, "mode": 0o640, "mtime": 1000}
    workshop.write({"x.bin": pack(archive(("t/f", fields)))})
    tree = result(workshop, tmp_path, "ADD x.bin /e")
    assert (owner(tree, "e/t/f"), tree["e/t/f"].mode, tree["e/t/f"].mtime) == ("3:4", 0o640, 1000)


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.gz", gzip.compress(b"text")), ("x.tar.gz", b""), ("x.tar", b"no tar at all"), ("x.xz", lzma.compress(b"t"))],
    ids=["gzip-of-text", "empty", "text", "xz-of-text"],
)
def test_ad2_what_is_no_archive_is_copied(workshop: Workshop, tmp_path: Path, name: str, content: bytes) -> None:
    workshop.write({name: content})
    assert result(workshop, tmp_path, f"ADD {name} /e/")[f"e/{name}"].kind == "file"


def test_ad3_ad4_archives_in_directories_or_on_request_stay_files(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write({"dir/x.tar": archive(("f", {"text": "1"})), "x.tar": archive(("f", {"text": "1"}))})
    tree = result(workshop, tmp_path, "ADD dir /e/\nADD --unpack=false x.tar /g/")
    assert tree["e/x.tar"].kind == tree["g/x.tar"].kind == "file"
    assert "e/f" not in tree


def test_ad5_an_owner_holds_for_every_entry_and_a_mode_for_none(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write({"x.tar": archive(("t/f", {"text": "1", "uid": 3, "mode": 0o640}), ("g", {"text": "2"}))})
    tree = result(workshop, tmp_path, "ADD --chown=9:10 --chmod=700 --exclude=g x.tar /e/")
    assert {owner(tree, path) for path in ("e/t/f", "e/g")} == {"9:10"}
    assert tree["e/t/f"].mode == 0o640


def test_ad6_modes_of_directories_come_from_the_archive_but_that_of_the_destination_stays(
    workshop: Workshop, tmp_path: Path
) -> None:
    directory = {"type": tarfile.DIRTYPE, "mode": 0o700, "uid": 3, "gid": 4}
    workshop.write({"x.tar": archive(("./", directory), ("t", directory))})
    tree = result(workshop, tmp_path, "RUN mkdir -p /e/t && chmod 1777 /e /e/t\nADD x.tar /e/")
    assert (tree["e/t"].mode, owner(tree, "e/t")) == (0o700, "3:4")
    assert (tree["e"].mode, owner(tree, "e")) == (0o1777, "0:0")


def test_ad7_names_that_climb_are_cut(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write({"x.tar": archive(("../../up", {"text": "1"}), ("/abs", {"text": "2"}))})
    tree = result(workshop, tmp_path, "ADD x.tar /e/")
    assert {"e/up", "e/abs"} <= set(tree)
    assert "up" not in tree


def test_ad8_a_link_in_an_archive_leads_nowhere_outside_the_image(workshop: Workshop, tmp_path: Path) -> None:
    name = f"canary-{os.getpid()}"
    link = {"type": tarfile.SYMTYPE, "linkname": "../../../../../../../tmp"}
    workshop.write({"x.tar": archive(("l", link), (f"l/{name}", {"text": "1"}))})
    workshop.build("ADD x.tar /e/")  # BuildKit fails, we resolve the link inside the image
    assert not Path("/tmp", name).exists()


def test_ad9_a_link_in_the_way_is_replaced(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write({"x.tar": archive(("t", {"type": tarfile.DIRTYPE, "mode": 0o755}), ("t/f", {"text": "1"}))})
    tree = result(workshop, tmp_path, "RUN mkdir -p /e /real && ln -s /real /e/t\nADD x.tar /e/")
    assert tree["e/t"].kind == "directory"
    assert "real/f" not in tree


def test_links_of_the_image_on_the_way_of_an_archive_are_followed_inside_it(workshop: Workshop, tmp_path: Path) -> None:
    directory = {"type": tarfile.DIRTYPE, "mode": 0o755}
    link = {"type": tarfile.SYMTYPE, "linkname": "/run"}
    hard = {"type": tarfile.LNKTYPE, "linkname": "var/run/act/HEAD"}
    workshop.write({
        "rootfs.tar": archive(("run/", directory), ("var/", directory), ("var/run", link)),
        "payload.tar": archive(("var/run/act/", directory), ("var/run/act/HEAD", {"text": "x"}), ("var/run/act/too", hard)),
    })  # fmt: skip
    tree = result(workshop, tmp_path, "FROM scratch\nADD rootfs.tar /\nADD payload.tar /\n")
    assert tree["var/run"].kind == "symlink"
    assert tree["run/act/HEAD"] is tree["run/act/too"]


def test_ad10_a_whiteout_in_an_archive_deletes_nothing(workshop: Workshop) -> None:
    workshop.write({"x.tar": archive((".wh.e1", {"text": "1"}))})
    built = workshop.build("RUN mkdir /e && echo kept > /e/e1\nADD x.tar /e/\nRUN cat /e/e1 && ls -a /e")
    if built.error:  # it cannot be in a layer, so refusing is the other right answer
        assert ".wh.e1" in built.error
    else:
        assert "kept" in built.log


# -------------------------------------------------------------------------------------------------------------- logs

ROWS: dict[str, tuple[str, list[str], list[str]]] = {
    # -- heredocs
    "HD1": ("RUN <<EOF\nfalse\necho went-on\nEOF", ["went-on"], []),
    "HD2": ("RUN <<EOF\n#!/bin/sh -e\necho $0\nEOF\nRUN ls /dev/pipes || echo none", ["/dev/pipes/EOF", "none"], []),
    "HD3": ("RUN <<EOF sh -s x\necho [$1]\nEOF", ["[]"], []),
    "HD4": ("RUN <<F1 cat >/f1 && <<F2 cat >/f2\none\nF1\ntwo\nF2\nRUN cat /f1 /f2", ["one\ntwo\n"], []),
    "HD5": (
        "ENV V=vv\nCOPY <<EOF /h\n$V \\$V \"q\" '$V' \\\\ \\n\nEOF\nRUN cat /h",
        ["vv $V \"q\" 'vv' \\ n"],
        [],
    ),
    "HD6": ('COPY <<"EOF" /h\n$V \\$V\nEOF\nCOPY <<E"O"F /i\n$V\nEOF\nRUN cat /h /i', ["$V \\$V\n$V\n"], []),
    "HD7": ("COPY <<EOF /dd/\nx\nEOF\nCOPY <<a <<b /dm/\n1\na\n2\nb\nRUN ls /dd /dm", ["EOF\n", "a\nb\n"], []),
    "HD8": ("COPY <<-EOF /h\n\t\tone\n  two\n\tEOF\nRUN cat /h", ["one\n  two\n"], ["\tone"]),
    "HD10": ('RUN echo "<<EOF"\nRUN ["echo","<<EOX"]\nENV X=<<EOF\nRUN echo "$X"', ["<<EOF\n", "<<EOX\n"], []),
    "HD11-better": ("RUN echo $(( 1 << 3 )) && echo $((1<<4))", ["8\n", "16\n"], []),
    # -- working directory and user
    "WU1": ("WORKDIR a\nRUN pwd\nWORKDIR b/../c\nRUN pwd\nWORKDIR ..\nRUN pwd", ["/a\n", "/a/c\n"], []),
    "WU3": (
        "RUN mkdir /own\nUSER 5:6\nWORKDIR /own/new/deep\nRUN stat -c '%n %u:%g %a' /own /own/new /own/new/deep",
        ["/own 0:0 755", "/own/new 5:6 755", "/own/new/deep 5:6 755"],
        [],
    ),
    "WU7": ("USER 1234\nRUN id -u; id -g\nWORKDIR /w7\nRUN stat -c '%u:%g' /w7", ["1234\n0\n", "1234:1234"], []),
    "WU8": ("USER 33\nRUN id -u; id -g; id -G; echo $HOME", ["33\n34\n34 50\n/srv/www\n"], []),
    "WU9": ("USER www:staff\nRUN id -u; id -G", ["33\n50\n"], []),
    "WU10-env": ("USER nosuch\nENV A=1", [], []),
    "WU11": ("USER www\nUSER $UNSET\nRUN id -u", ["0\n"], []),
    "WU12": ("USER :5\nRUN id -u; id -g", ["0\n5\n"], []),
    "WU13": ("ENV HOME=/foo\nUSER www\nRUN echo $HOME", ["/foo\n"], []),
    "WU13-empty": ("ENV HOME=\nUSER www\nRUN echo $HOME", ["/srv/www\n"], []),
    # -- stages
    "ST1": (
        "FROM busybox AS Build\nRUN echo built > /f\nFROM busybox\nCOPY --from=bUILD /f /f\n"
        "RUN --mount=from=BUILD,target=/m cat /f /m/f",
        ["built\nbuilt\n"],
        [],
    ),
    "ST2": (
        "FROM no.such.registry.invalid/x AS missing\nFROM busybox AS fails\nRUN false\nFROM busybox\nRUN echo fine",
        ["fine"],
        [],
    ),
    "ST4": ("FROM busybox AS scratch\nRUN echo replaced > /f\nFROM scratch\nRUN cat /f\n", ["replaced\n"], []),
    "ST6": ("COPY --from=scratch / /x/\nRUN ls -A /x | wc -l", ["0\n"], []),
    "ST7": ("FROM --platform= busybox\nRUN echo fine", ["fine"], []),
    # -- triggers
    "OB3": (
        "FROM busybox AS parent\nONBUILD RUN echo fired\nRUN echo in-the-parent\nFROM parent\nRUN echo in-the-child",
        ["fired", "in-the-parent", "in-the-child"],
        [],
    ),
    # -- environment of a step
    "no-variables-of-the-builder": ("RUN env", ["PATH=", "HOME=/root"], ["PYTHON", "OTEL", "TRACEPARENT", "USER="]),
    "environment-of-a-step": (
        "RUN umask; hostname; grep -h '^CapEff\\|^Seccomp:' /proc/self/status; df -k /dev/shm; wc -c; tty; pwd; "
        "echo x >> /etc/hosts; echo x >> /etc/resolv.conf; cat /etc/hosts",
        [
            "0022\nbuildkitsandbox\n",
            "00000000a80425fb",
            "Seccomp:\t2",
            " 65536 ",
            "\n0\nnot a tty\n/\n",
            "localhost",
            "can't create /etc/hosts: Read-only",
            "can't create /etc/resolv.conf: Read-only",
        ],
        [],
    ),
    "no-network": ("RUN --network=none ls /sys/class/net && echo end", ["lo\nend\n"], ["eth"]),
    "empty-run": ("RUN\nRUN echo after", ["after"], []),
    "scratch-keeps-no-mount-points": (
        'FROM busybox AS t\nFROM scratch AS s\nRUN --mount=from=t,source=/bin,target=/bin ["/bin/busybox","true"]\n'
        "FROM busybox\nRUN --mount=from=s,target=/s ls -A /s | wc -l",
        ["0\n"],
        [],
    ),
}


@pytest.mark.parametrize(("body", "wanted", "unwanted"), ROWS.values(), ids=ROWS.keys())
def test_log(workshop: Workshop, body: str, wanted: list[str], unwanted: list[str]) -> None:
    built = workshop.build(body, no_cache=True).ok()
    for text in wanted:
        assert text in built.log, str(built)
    for text in unwanted:
        assert text not in built.log, str(built)


ERRORS: dict[str, tuple[str, str, int]] = {
    "HD2-its-own-options-count": ("RUN <<EOF\n#!/bin/sh -e\nfalse\necho never\nEOF", "exit code: 1", 4),
    "HD13": ('SHELL ["/bin/sh","-ec"]\nRUN <<EOF\nfalse\necho x\nEOF', "exit code: 1", 4),
    "WU4": ("RUN touch /f\nWORKDIR /f", "not a directory: `/f`", 1),
    "WU10-run": ("USER nosuch\nRUN true", "unable to find user nosuch: no matching entries in passwd file", 1),
    "WU10-group": ("USER root:nosuch\nRUN true", "unable to find group nosuch: no matching entries in group file", 1),
    "run-exits": ("RUN exit 3", 'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3', 4),
    "run-missing-command": ("RUN nosuchcmd", "exit code: 127", 4),
    "copy-missing": ("COPY nope /x", '"/nope": not found', 1),
    "add-missing": ("ADD nope /x", '"/nope": not found', 1),
    "directory-onto-file": ("COPY d /etc/motd", "/etc/motd", 1),
    "file-onto-directory": ("RUN mkdir -p /e/f\nCOPY f /e/", "/e/f", 1),
    "below-a-file": ("COPY f /etc/motd/x", "not a directory: `/etc/motd`", 1),
    "unknown-owner": ("COPY --chown=nosuch f /x", "nosuch", 1),
    "link-loop": ("RUN ln -s /l1 /l2 && ln -s /l2 /l1\nCOPY f /l1/x", "too many", 1),
    "ignore-file": ("COPY f /x", "illegal exclusion pattern", 3),
    "ignore-pattern": ("COPY f /x", "syntax error in pattern", 3),
}
IGNORE_FILES = {"ignore-file": "!", "ignore-pattern": "[a"}


@pytest.mark.parametrize("name", ERRORS)
def test_error(workshop: Workshop, name: str) -> None:
    body, words, code = ERRORS[name]
    workshop.write({"f": "f", "d/x": "x"})
    if name in IGNORE_FILES:
        workshop.write({".dockerignore": IGNORE_FILES[name]})
    built = workshop.build(body).refused(words)
    assert built.code == code, str(built)
    assert ">>> " in built.excerpt or name in IGNORE_FILES, str(built)
    for text in (str(workshop.context), str(workshop.server.state), "sha256:"):
        assert text not in built.error, "no path of the host and no internal id in messages"


def test_wu5_the_config_keeps_the_path_as_written(workshop: Workshop, tmp_path: Path) -> None:
    image = export(workshop, tmp_path, "RUN mkdir /r && ln -s /r /s\nWORKDIR /s/new")
    assert image.config["WorkingDir"] == "/s/new"
    assert "r/new" in image.tree()


def test_wu6_the_root_makes_no_layer_and_an_existing_directory_changes_nothing(
    workshop: Workshop, tmp_path: Path
) -> None:
    image = export(workshop, tmp_path, "RUN chmod 1770 /srv/data\nWORKDIR /\nWORKDIR /srv/data\nWORKDIR //")
    assert [[name for name, _, _ in layer] for layer in image.layers()[-2:]] == [[], []]
    assert len(image.layers()) == 5  # base, two RUN, the second and third WORKDIR
    assert image.tree()["srv/data"].mode == 0o1770


def test_st3_a_stage_is_no_target_by_its_number(workshop: Workshop) -> None:
    workshop.build("FROM busybox\nRUN true\nFROM busybox\n", target="0").refused('target stage "0" could not be found')


# ---------------------------------------------------------------------------------------------------------- triggers

TRIGGERS = """\
FROM busybox
ONBUILD ENV FROM_TRIGGER=yes
ONBUILD ARG GIVEN=default
ONBUILD WORKDIR /triggered
ONBUILD COPY f copied
ONBUILD RUN echo "fired in $(pwd) with $GIVEN" && cat copied
ONBUILD RUN <<EOF
echo heredoc fired
EOF
"""


def test_ob1_ob2_triggers_run_first_and_once_and_show_afterwards(workshop: Workshop, tmp_path: Path) -> None:  # HD12
    workshop.write({"f": "from the context\n"})
    parent = workshop.build(TRIGGERS, tags=["server/onbuild"]).ok()
    assert "fired" not in parent.log
    child = "FROM server/onbuild AS mid\nRUN echo own $FROM_TRIGGER $(pwd)\nFROM mid\nRUN echo last\n"
    built = workshop.build(child, build_args={"GIVEN": "mine"}).ok()
    order = ["fired in /triggered with mine", "from the context", "heredoc fired", "own yes /triggered", "last"]
    places = [built.log.index(text) for text in order]
    assert places == sorted(places), built.log
    assert built.log.count("fired in") == 1
    assert "OnBuild" not in export(workshop, tmp_path, child).config


def test_ob4_a_trigger_copies_from_a_stage_of_the_new_file(workshop: Workshop) -> None:
    workshop.build("FROM busybox\nONBUILD COPY --from=build /out /out\n", tags=["server/ob4"]).ok()
    built = workshop.build("FROM busybox AS build\nRUN echo made > /out\nFROM server/ob4\nRUN cat /out\n").ok()
    assert "made" in built.log


def test_ob5_a_bad_trigger_is_an_error_when_it_fires(workshop: Workshop) -> None:
    workshop.build("FROM busybox\nONBUILD FOO x\n", tags=["server/ob5"]).ok()
    built = workshop.build("FROM server/ob5\nRUN true\n").refused("unknown instruction: FOO")
    assert ">>> FROM server/ob5" in built.excerpt


def test_ob6_triggers_of_a_copied_image_do_not_fire(workshop: Workshop) -> None:
    workshop.build("FROM busybox\nONBUILD RUN echo fired\n", tags=["server/ob6"]).ok()
    assert "fired" not in workshop.build("COPY --from=server/ob6 /etc/motd /m\nRUN true").ok().log


# ------------------------------------------------------------------------------------------------------ ignore files

CONTEXT: dict[str, str | bytes] = {
    "a.txt": "1",
    "README.md": "2",
    "d/a.txt": "3",
    "d/e/c.go": "4",
    "d/e/f.md": "5",
    "node_modules/x": "6",
    "d/node_modules/y": "7",
}
EVERYTHING = {*CONTEXT, ".dockerignore"}

IGNORED = {
    "IG1": ("*.txt", EVERYTHING - {"a.txt"}),
    "IG2": ("**/*.txt", EVERYTHING - {"a.txt", "d/a.txt"}),
    "IG3": ("/d/", {name for name in EVERYTHING if not name.startswith("d/")}),
    "IG4": ("*\n!d/e", {"d/e/c.go", "d/e/f.md"}),
    "IG5": ("*\n!d/e/c.go", {"d/e/c.go"}),
    "IG6": ("d\n!d/e", EVERYTHING - {"d/a.txt", "d/node_modules/y"}),
    "IG7": ("*\n!**/*.md", {"README.md", "d/e/f.md"}),
    "IG8": ("!README.md\n*.md", EVERYTHING - {"README.md"}),
    "IG9": ("node_modules", EVERYTHING - {"node_modules/x"}),
    "IG9-everywhere": ("**/node_modules", EVERYTHING - {"node_modules/x", "d/node_modules/y"}),
    "IG11": ("d/../a.txt", EVERYTHING - {"a.txt"}),
    "IG12": ("*\n! d", {name for name in EVERYTHING if name.startswith("d/")}),
    "IG13": (".\n/\n../a.txt", EVERYTHING),
    "IG15": ("A.TXT", EVERYTHING),
    "IG16": (".dockerignore", EVERYTHING - {".dockerignore"}),
}


@pytest.mark.parametrize(("text", "left"), IGNORED.values(), ids=IGNORED.keys())
def test_ignore_file(workshop: Workshop, tmp_path: Path, text: str, left: set[str]) -> None:
    workshop.write({**CONTEXT, ".dockerignore": text})
    tree = result(workshop, tmp_path, "FROM scratch\nCOPY . /c/\n")
    assert {name.removeprefix("c/") for name, entry in tree.items() if entry.kind == "file"} == left


def test_ig10_the_directory_itself_stays(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write({**CONTEXT, ".dockerignore": "d/*\n"})
    tree = result(workshop, tmp_path, "FROM scratch\nCOPY . /c/\n")
    assert tree["c/d"].kind == "directory"
    assert "c/d/a.txt" not in tree


# -------------------------------------------------------------------------------------------------- layers of steps


def test_cf12_a_step_that_changes_nothing_makes_a_layer_without_entries(workshop: Workshop, tmp_path: Path) -> None:
    image = export(workshop, tmp_path, "RUN true\nRUN : again")
    assert image.layers()[-1] == image.layers()[-2] == []
    assert image.diff_ids[-1] == image.diff_ids[-2]


def test_cf13_a_directory_that_was_made_anew_hides_the_old_entries_one_by_one(
    workshop: Workshop, tmp_path: Path
) -> None:
    body = "RUN mkdir /w && touch /w/a /w/b\nRUN rm -r /w && mkdir /w && echo >/w/c"
    names = {name for name, _, _ in export(workshop, tmp_path, body).layers()[-1]}
    assert names in ({"w", "w/.wh.a", "w/.wh.b", "w/c"}, {"w", "w/.wh..wh..opq", "w/c"})


def test_cf14_what_a_step_writes_to_dev_is_gone_and_to_run_and_tmp_is_kept(workshop: Workshop, tmp_path: Path) -> None:
    body = "RUN touch /dev/x /dev/shm/y && mkdir -p /run && touch /run/kept /tmp/kept"
    names = {name for name, _, _ in export(workshop, tmp_path, body).layers()[-1]}
    assert {"run/kept", "tmp/kept"} <= names
    assert not [name for name in names if name.startswith(("dev", "proc", "sys"))]
