"""Cases PA, EX, SC and CF (docs/reference/dockerfile-cases.md) by real builds: config, history, log and warnings of the results."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.build_server import Workshop
from harness.oci import ImageArchive

pytestmark = pytest.mark.rootless

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Row:
    """A whole Dockerfile and what its result must have. *history* are texts of ``created_by``, each of which must be there."""

    text: str
    env: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)  #: members; None: must not be there
    history: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  #: content by path
    warnings: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)  #: of the request


def run(text: str) -> str:
    """Return the history entry of a RUN in shell form without arguments."""
    return f"RUN /bin/sh -c {text} # buildkit"


S, B = "FROM scratch\n", "FROM busybox\n"

PARSER = {
    "PA1": Row(B + "RUN echo hello \\\n# c\n  # d\nworld", log=("hello world\n",), history=(run("echo hello world"),)),
    "PA2": Row(
        B + "RUN echo hello \\\n\n   \nworld", history=(run("echo hello world"),), warnings=("Empty continuation line",)
    ),
    "PA3": Row(B + "RUN echo a \\  \t\n  b", log=("a b\n",), history=(run("echo a   b"),)),
    "PA4": Row(B + "RUN echo c \\\\", log=("c \\\n",), history=(run("echo c \\\\"),)),
    "PA5": Row(B + "RUN echo a \\", log=("a\n",), history=(run("echo a"),)),
    "PA6": Row(S + 'ENV V="a\\\n    b"', env={"V": "a    b"}),
    "PA8": Row(S + "ENV X=a#b", env={"X": "a#b"}),
    "PA10": Row(
        S.replace("\n", "\r\n") + "ENV A=1 \\\r\n B=2\r\nCOPY <<EOF /f\r\none\r\ntwo\r\nEOF\r\nENV C=3\r\n",
        env={"A": "1", "B": "2", "C": "3"}, files={"f": "one\r\ntwo\r\n"},
    ),
    "PA11": Row("\ufeff" + S + "ENV A=1", env={"A": "1"}),
    "PA12": Row("#   Escape = `  \n" + B + "RUN echo a `\n b", log=("a b\n",)),
    "PA13": Row("# c\n# escape=`\n" + B + "RUN echo 'a `'", log=("a `\n",)),
    "PA14": Row("\n# escape=`\n" + S + "ENV A=b`c", env={"A": "b`c"}),
    "PA15": Row("# foo=bar\n# escape=`\n" + S + "ENV A=b`c", env={"A": "b`c"}),
    "PA16": Row("# escape=`\n" + S + "ENV X=a` b Y=c\\d", env={"X": "a b", "Y": "c\\d"}),
    "PA17": Row(S + "CMD ['a','b']", config={"Cmd": ["/bin/sh", "-c", "['a','b']"]}),
    "PA18": Row(S + 'CMD ["a"] # c', config={"Cmd": ["/bin/sh", "-c", '["a"] # c']}),
    "PA21": Row(S + 'CMD ["a",\\\n # c\n "b"]', config={"Cmd": ["a", "b"]}),
    "PA22": Row(B + "RUN [ -f /etc/passwd ] && echo yes", log=("yes\n",)),
    "PA23": Row(B + "RUN\techo tab", log=("tab\n",)),
    "PA24": Row(S + "COPY -- a.txt /ok", files={"ok": "A"}),
    "PA26": Row(S + "HEALTHCHECK CMD --interval=3s x", config={"Healthcheck": {"Test": ["CMD-SHELL", "--interval=3s x"]}}),
    "PA27": Row(S + "COPY \"a.txt\" 'b.txt' /q/", files={"q/a.txt": "A", "q/b.txt": "B"}),
    "PA28": Row(S + "USER a b\nWORKDIR /a b", config={"User": "a b", "WorkingDir": "/a b"}),
    "PA29": Row(S + "ENV A = b", env={"A": "= b"}),
    "PA30": Row("from busybox As x\nrun echo low", log=("low\n",)),
}  # fmt: skip

EXPANSION = {
    "EX1": Row(
        S + "ENV A=a\"b c\"d F='it''s' K=a\\b J=\"a\\b\"", env={"A": "ab cd", "F": "its", "K": "ab", "J": "a\\b"}
    ),
    "EX2": Row(
        S + "ENV x=1\nENV A='$x' B=\"'$x'\" C=\"\\$x\" D=\\$x E='\\$x'",
        env={"A": "$x", "B": "'1'", "C": "$x", "D": "$x", "E": "\\$x"},
    ),
    "EX3": Row(S + 'ENV A="${U:-a b}"', env={"A": "a b"}),
    "EX4": Row(
        S + "ENV E=\nENV A=${E:-d} B=${E-d} C=${E:+x} D=${E+x}", env={"A": "d", "B": "", "C": "", "D": "x"}
    ),
    "EX5": Row(
        S + "ENV s=foobarbaz\nENV A=${s#f*b} B=${s##f*b} C=${s%b*} D=${s%%b*}",
        env={"A": "arbaz", "B": "az", "C": "foobar", "D": "foo"},
    ),
    "EX6": Row(S + "ENV p=/a/b/c.tar.gz\nENV A=${p##*/} B=${p%%.*}", env={"A": "c.tar.gz", "B": "/a/b/c"}),
    "EX7": Row(S + "ENV s=foobarbaz\nENV A=${s//b*/X}", env={"A": "fooX"}),
    "EX8": Row(S + "ENV p=/a/b\nENV A=${p//\\//_}", env={"A": "_a_b"}),
    "EX9": Row(S + "ENV s=a.b.c\nENV A=${s//./-}", env={"A": "a-b-c"}),
    "EX10-better": Row(S + "ENV s=abc\nENV A=${s//b/\\$1x}", env={"A": "a$1xc"}),
    "EX11": Row(
        S + "ENV foo=F\nENV A=$foo_bar B=${foo}_bar C=$1x D=$ E=$(date)",
        env={"A": "", "B": "F_bar", "C": "x", "D": "$", "E": "$(date)"},
    ),
    "EX12": Row(S + "ENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc", env={"def": "hello", "ghi": "bye"}),
    "EX13": Row(S + "ENV K=NAME\nENV $K=v", env={"NAME": "v"}),
    "EX14": Row(S + "ENV Q='\"a' R=b\\ c\nENV S=$Q T=$R", env={"S": '"a', "T": "b c"}),
    "EX15": Row(S + "ARG V\nENV X=$V", env={"X": '$HOME "q"'}, options={"build_args": {"V": '$HOME "q"'}}),
    "EX17": Row(S + 'ARG P="80 81"\nEXPOSE $P', config={"ExposedPorts": {"80/tcp": {}, "81/tcp": {}}}),
    "EX18": Row(S + 'ENV B={"j":"k"}', env={"B": "{j:k}"}),
    "EX19": Row(S + "ENV ONE TWO= THREE=x", env={"ONE": "TWO= THREE=x"}),
    "EX20": Row(B + 'ENV A=1\nRUN ["echo","$A"]', log=("$A\n",)),
    "EX21": Row(S + "WORKDIR ~/x", config={"WorkingDir": "/~/x"}),
    "EX22": Row(
        B + "RUN --mount=type=cache,target=$HOME/.cache ls -d /.cache", log=("/.cache\n",),
        warnings=("Usage of undefined variable '$HOME'",),
    ),
}  # fmt: skip


def given(**values: str) -> dict[str, Any]:
    return {"build_args": values}


SCOPE = {
    "SC1": Row(S + "ARG V=d\nENV V=e\nENV O=$V", env={"O": "e"}, options=given(V="c")),
    "SC2": Row(B + "ENV V=e\nARG V=d\nRUN echo $V\nENV O=$V", env={"O": "d", "V": "e"}, log=("d\n",)),
    "SC3": Row(S + "ENV V=e\nARG V\nENV O=$V", env={"O": "e"}),
    "SC3-given": Row(S + "ENV V=e\nARG V\nENV O=$V", env={"O": "c"}, options=given(V="c")),
    "SC4": Row("ARG G=g\n" + B + "RUN echo [$G]\nARG G\nRUN echo then [$G]", log=("[]\n", "then [g]\n")),
    "SC5": Row("ARG G=g\n" + S + "ARG G=s\nENV O=$G", env={"O": "s"}),
    "SC5-given": Row("ARG G=g\n" + S + "ARG G=s\nENV O=$G", env={"O": "x"}, options=given(G="x")),
    "SC6": Row(S + "ARG G=s\nENV O=[$G] P=[${G-unset}]", env={"O": "[]", "P": "[]"}, options=given(G="")),
    "SC7": Row(S + "ARG A=${U:?boom}\nENV O=$A", env={"O": "ok"}, options=given(A="ok")),
    "SC8": Row(
        "FROM busybox AS x\nARG A=1\nFROM x\nRUN echo [$A]", log=("[1]\n",),
        history=("RUN |1 A=1 /bin/sh -c echo [$A] # buildkit",),
    ),
    "SC8-env-of-the-parent": Row(
        "FROM busybox AS x\nARG A=1\nENV A=2\nARG A=3\nRUN echo parent $A\nFROM x\nRUN echo child $A",
        log=("parent 3\n", "child 2\n"), env={"A": "2"}, history=("RUN |1 A=2 /bin/sh -c echo child $A # buildkit",),
    ),
    "SC8-path-of-the-parent": Row(
        "FROM busybox AS x\nARG PATH=/zz:/bin\nRUN echo [$PATH]\nFROM x\nRUN echo child [$PATH]",
        log=("[/zz:/bin]\n", f"child [{DEFAULT_PATH}]\n"),
    ),
    "SC10-target-stage": Row(
        "ARG T=$TARGETSTAGE\nFROM busybox AS Last\nARG T\nARG TARGETSTAGE\nRUN echo $T $TARGETSTAGE", log=("last last\n",)
    ),
    "SC4-name-as-written": Row("ARG a\"=1\n" + S + "ENV O=1", env={"O": "1"}),
    "SC9": Row(B + "ARG PATH=/zz:/bin\nRUN echo [$PATH]", log=("[/zz:/bin]\n",), env={"PATH": DEFAULT_PATH}),
    "SC10": Row(S + "ARG TARGETARCH=zzz\nENV O=$TARGETARCH", env={"O": "zzz"}),
    "SC11": Row(
        B + "ENV X=[$HTTP_PROXY]\nRUN echo $HTTP_PROXY $http_proxy", log=("u u\n",), env={"X": "[]"},
        history=(run("echo $HTTP_PROXY $http_proxy"),), options=given(HTTP_PROXY="u"),
    ),
    "SC11-over-env": Row(
        B + "ENV HTTP_PROXY=e https_proxy=e\nRUN echo $HTTP_PROXY $http_proxy $https_proxy", log=("l l e\n",),
        env={"HTTP_PROXY": "e"}, options=given(HTTP_PROXY="u", http_proxy="l", HTTPS_PROXY=""),
    ),
    "SC12": Row(
        S + "ENV A=1 B=2 C=3\nENV B=9 PATH=/x", config={"Env": ["PATH=/x", "A=1", "B=9", "C=3"]}
    ),
}  # fmt: skip

CONFIG = {
    "CF1": Row(
        B + "ARG A=1\nARG B\nRUN true", history=("ARG A=1", "ARG B", "RUN |2 A=1 B= /bin/sh -c true # buildkit")
    ),
    "CF2": Row(B + "ARG A=1\nENV A=2\nRUN true", history=("RUN |1 A=2 /bin/sh -c true # buildkit",)),
    "CF3": Row(
        S + "COPY --chown=1:2 --chmod=644 --link=false a.txt d /x/",
        history=("COPY --chown=1:2 --chmod=644 a.txt d /x/ # buildkit",),
    ),
    "CF4": Row(B + 'RUN ["echo","a b"]', history=("RUN echo a b # buildkit",), log=("a b\n",)),
    "CF4-script": Row(
        B + "RUN <<EOF\n#!/bin/sh -e\necho $0\nEOF", log=("/dev/pipes/EOF\n",),
        history=("RUN /bin/sh -c /dev/pipes/EOF # buildkit",),
    ),
    "EX-nothing-in-an-unset-name": Row(S + "ENV O=${U///zz}", env={"O": "zz"}),
    "CF5": Row(S + "CMD echo x", history=('CMD ["/bin/sh" "-c" "echo x"]',)),
    "CF6": Row(
        S + 'EXPOSE 80 53/udp\nVOLUME /a /b\nSHELL ["x","y"]',
        history=("EXPOSE [53/udp 80/tcp]", "VOLUME [/a /b]", "SHELL [x y]"),
    ),
    "CF7": Row(
        S + "HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=2s --retries=4 CMD x",
        history=(
            "HEALTHCHECK {Test:[CMD-SHELL x] Interval:5m0s Timeout:3s StartPeriod:1s StartInterval:2s Retries:4}",
        ),
    ),
    "CF8": Row(S + "WORKDIR /a\nWORKDIR b", history=("WORKDIR /a", "WORKDIR /a/b"), config={"WorkingDir": "/a/b"}),
    "CF9": Row(S + 'ENV A=1 B="x y"', history=("ENV A=1 B=x y",)),
    "CF10": Row(
        S.replace("\n", " AS p\n") + 'CMD ["x"]\nFROM p\nENTRYPOINT ["e"]', config={"Cmd": None, "Entrypoint": ["e"]}
    ),
    "CF10-same-stage": Row(S + 'CMD ["x"]\nENTRYPOINT ["e"]', config={"Cmd": ["x"], "Entrypoint": ["e"]}),
    "CF11": Row(
        S.replace("\n", " AS p\n") + 'CMD ["x"]\nENTRYPOINT ["e"]\nFROM p\nENTRYPOINT []',
        config={"Cmd": None, "Entrypoint": None},
    ),
    "CF15": Row(S + "MAINTAINER J", history=("MAINTAINER J",)),
    "WU2": Row(S + "ENV D=/x\nWORKDIR $D/$UNSET", config={"WorkingDir": "/x/"}),
    "HD12": Row(
        "FROM busybox AS p\nONBUILD RUN <<EOF\necho fired\nEOF\nONBUILD COPY <<EOF /h\nbody\nEOF\nFROM p\nRUN cat /h",
        log=("fired\n", "body\n"), config={"OnBuild": None},
    ),
    "HD12-stored": Row(
        S + "ONBUILD RUN <<EOF\necho fired\nEOF\nONBUILD COPY <<EOF /h\nbody\nEOF",
        config={"OnBuild": ["RUN <<EOF\necho fired\nEOF", "COPY <<EOF /h\nbody\nEOF"]},
    ),
    "CP17": Row(S + "COPY arr[[]0].txt /x/\nCOPY arr[0].txt /y/", files={"x/arr[0].txt": "0"}),
}  # fmt: skip

CONTEXT: dict[str, str | bytes] = {"a.txt": "A", "b.txt": "B", "d/f": "F", "arr[0].txt": "0"}


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=name) for table in (PARSER, EXPANSION, SCOPE, CONFIG) for name, row in table.items()],
)
def test_row(workshop: Workshop, tmp_path: Path, row: Row) -> None:
    workshop.write(CONTEXT)
    built, image = export(workshop, tmp_path, row.text, **row.options)
    env = dict(item.split("=", 1) for item in image.config.get("Env", []))
    assert env == {**env, **row.env}
    for name, value in row.config.items():
        assert image.config.get(name) == value, name
    history = [entry.get("created_by") for entry in image.document["history"]]
    assert [text for text in row.history if text not in history] == [], history
    for text in row.log:
        assert f"\n{text}" in f"\n{built.log}", str(built)
    assert set(row.warnings) <= set(built.warnings), built.warnings
    if row.files:
        tree = image.tree()
        found = {path: tree[path].content for path in tree if tree[path].kind == "file"}
        assert found == {path: hashlib.sha256(text.encode()).hexdigest() for path, text in row.files.items()}


def export(workshop: Workshop, tmp_path: Path, text: str, **options: Any) -> tuple[Any, ImageArchive]:
    """Build the whole Dockerfile *text* without cache; return what was told and the image."""
    outputs = [["oci", {"dest": str(tmp_path / "out.tar")}]]
    built = workshop.server.build(workshop.context, text, outputs=outputs, no_cache=True, **options).ok()
    return built, ImageArchive(tmp_path / "out.tar")


ERRORS = {
    "PA7": (S + "LABEL a=1 # note", 'can\'t find = in "#"'),
    "PA9": (S + "EXPOSE 80 # web", "invalid containerPort: #"),
    "PA19": (B + 'RUN ["echo","c:\\w"]', "exit code: 127"),
    "PA20": (S + 'CMD ["a",1]', "arrays must be comprised of strings only"),
    "PA25": (S + "CMD --foo bar", "unknown flag: --foo"),
    "PA27-escaped-blank": (S + "COPY a\\ b.txt /q/", '"/a": not found'),
    "PA29-arg": (S + "ARG A = b", "ARG names can not be blank"),
    "EX3-unquoted": (S + "ENV A=${U:-a b}", 'can\'t find = in "b}"'),
    "EX16": (S + 'ENV F="a.txt b.txt"\nCOPY $F /x/', '"/a.txt b.txt": not found'),
    "EX23-variable-better": (S + "COPY $UNSET /xx/", "COPY source $UNSET is empty"),
    "EX23-quotes-better": (S + 'COPY "" /x', 'COPY source "" is empty'),
    "SC7-evaluated": (S + "ARG A=${U:?boom}", "U: boom"),
    "IG14-bang": (S + "COPY a.txt /x", "illegal exclusion pattern"),
    "IG14-class": (S + "COPY a.txt /x", "syntax error in pattern"),
}
IGNORE_FILES = {"IG14-bang": "!", "IG14-class": "[a"}


@pytest.mark.parametrize("name", ERRORS)
def test_error(workshop: Workshop, name: str) -> None:
    text, words = ERRORS[name]
    workshop.write(CONTEXT)
    if name in IGNORE_FILES:
        workshop.write({".dockerignore": IGNORE_FILES[name]})
    workshop.server.build(workshop.context, text).refused(words)


def test_cf16_scratch_alone_is_an_image_without_layers(workshop: Workshop, tmp_path: Path) -> None:
    image = export(workshop, tmp_path, "FROM scratch")[1]
    assert image.config == {"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"}
    assert image.diff_ids == image.manifest["layers"] == []
    assert image.document["created"], "BuildKit writes null"


def test_cf17_a_platform_without_variant_gets_the_usual_one(workshop: Workshop, tmp_path: Path) -> None:
    text = "FROM scratch\nARG TARGETPLATFORM\nENV P=$TARGETPLATFORM"
    image = export(workshop, tmp_path, text, platforms=["linux/arm"])[1]
    assert (image.document["architecture"], image.document["variant"]) == ("arm", "v7")
    assert "P=linux/arm/v7" in image.config["Env"]


def test_cf18_newer_files_get_the_epoch_and_the_base_keeps_its_times(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write(CONTEXT)
    os.utime(workshop.context / "a.txt", (500, 500))
    epoch = {"build_args": {"SOURCE_DATE_EPOCH": str(10**9)}}
    text = "FROM busybox\nCOPY a.txt b.txt /x/\nRUN echo > /made\n"
    outputs = [["oci", {"dest": str(tmp_path / "out.tar"), "rewrite-timestamp": True}]]
    workshop.server.build(workshop.context, text, outputs=outputs, **epoch).ok()
    image = ImageArchive(tmp_path / "out.tar")
    tree = image.tree()
    times = [tree[path].mtime for path in ("x/a.txt", "x/b.txt", "x", "made", "etc/motd")]
    assert times == [500, 10**9, 10**9, 10**9, 10**9]
    workshop.server.build(
        workshop.context, "FROM busybox\n", outputs=[["oci", {"dest": str(tmp_path / "base.tar")}]]
    ).ok()
    assert image.diff_ids[0] == ImageArchive(tmp_path / "base.tar").diff_ids[0]


def test_cf19_without_rewriting_config_history_and_made_directories_are_dated_and_files_are_not(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop.write(CONTEXT)
    started = time.time() - 5
    epoch = {"build_args": {"SOURCE_DATE_EPOCH": str(10**9)}}
    image = export(workshop, tmp_path, "FROM scratch\nCOPY a.txt /a\nWORKDIR /w\nENV A=1", **epoch)[1]
    date = "2001-09-09T01:46:40Z"
    assert image.document["created"] == date
    assert {entry["created"] for entry in image.document["history"]} == {date}
    assert image.index["manifests"][0]["annotations"]["org.opencontainers.image.created"] == date
    tree = image.tree()
    assert tree["w"].mtime == 10**9
    assert tree["a"].mtime > started


def test_cf20_better_the_form_of_layers_does_not_depend_on_the_cache(workshop: Workshop, tmp_path: Path) -> None:
    """BuildKit leaves layers that it packed before in their form; here only those of the base stay, until it is forced."""
    workshop.write(CONTEXT)
    found = []
    for options in ({}, {"compression": "zstd"}, {"compression": "zstd", "force-compression": True}):
        outputs = [["oci", {"dest": str(tmp_path / "out.tar"), **options}]]
        workshop.server.build(workshop.context, "FROM busybox\nCOPY a.txt /cf20\n", outputs=outputs).ok()
        layers = ImageArchive(tmp_path / "out.tar").manifest["layers"]
        found.append([layer["mediaType"].rpartition("+")[2] for layer in layers])
    assert found == [["gzip", "gzip"], ["gzip", "zstd"], ["zstd", "zstd"]]


def test_a_build_argument_gives_one_platform_a_directory_of_its_own(workshop: Workshop, tmp_path: Path) -> None:
    outputs = [["local", {"dest": str(tmp_path / "out")}]]
    arguments = {"BUILDKIT_MULTI_PLATFORM": "1"}
    text = "FROM scratch\nCOPY <<E /f\nE\n"
    workshop.server.build(workshop.context, text, outputs=outputs, platforms=["linux/arm64"], build_args=arguments).ok()
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")] == [
        "linux_arm64", "linux_arm64/f",
    ]  # fmt: skip
