"""``RUN --mount`` in real builds: the cases MT (docs/reference/dockerfile-cases.md) that only a real build shows."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.build_server import Workshop
from harness.host import copy_program, need
from harness.img import Img, write_context
from harness.oci import ImageArchive

pytestmark = pytest.mark.rootless

FILES: dict[str, str | bytes] = {"a.txt": "A\n", "d/e": "E\n", "lnk@": "d", "abs@": "/d/e", "out@": "/etc"}


@pytest.fixture(autouse=True)
def _files(workshop: Workshop) -> None:
    workshop.write(FILES)


def layer_names(workshop: Workshop, tmp_path: Path, body: str, **request: object) -> list[str]:
    """Build and return the paths in the last layer."""
    outputs = [["oci", {"dest": str(tmp_path / "out.tar")}]]
    workshop.build(body, outputs=outputs, **request).ok()
    return [path for path, _, _ in ImageArchive(tmp_path / "out.tar").layers()[-1]]


# --------------------------------------------------------------------------------------------------------- bind, tmpfs

LOGS = {
    "MT1": ("RUN --mount=type=bind,target=/c ! touch /c/x", ["Read-only file system"], []),
    "MT2": ("RUN --mount=target=/c,rw touch /c/new && ls /c\nRUN ls -d /c || echo gone", ["new", "gone"], []),
    "MT3": ("RUN --mount=source=a.txt,target=/etc/zz/q.txt cat /etc/zz/q.txt\nRUN ls /etc", ["A\n"], ["zz"]),
    "MT4": (
        "RUN --mount=source=a.txt,target=/etc/passwd cat /etc/passwd; id\nRUN head -n1 /etc/passwd",
        ["A\n", "root:x:0:0"],
        [],
    ),
    "MT6": ("WORKDIR /w\nRUN --mount=target=sub,source=d ls /w/sub", ["e\n"], []),
    "MT7": ("FROM busybox AS z\nRUN echo stage zero > /z\nFROM busybox\nRUN --mount=from=0,target=/m cat /m/z", ["stage zero"], []),
    "MT8": (
        "RUN --mount=source=a.txt,target=/a/b/f --mount=type=tmpfs,target=/a ls /a /a/b && cat /a/b/f",
        ["A\n"],
        [],
    ),
    "MT22": (
        "RUN --mount=type=tmpfs,target=/t,size=1m ! dd if=/dev/zero of=/t/f bs=4k count=512; ls -l /t/f",
        ["1048576"],
        [],
    ),
    "MT23": ("RUN --mount=type=tmpfs,target=/srv/data ls /srv/data | wc -l\nRUN ls /srv/data", ["0\n", "one"], []),
    "MT24": ("RUN --mount=source=lnk,target=/m ls /m", ["e\n"], []),
    "MT24-absolute-link-stays-inside": ("RUN --mount=source=abs,target=/m cat /m", ["E\n"], []),
    "sources-cannot-climb": ("RUN --mount=source=../../d,target=/m ls /m", ["e\n"], []),
    "file-of-a-stage": (
        "FROM busybox AS Tool\nRUN echo from the stage > /f\nFROM busybox\n"
        "RUN --mount=from=TOOL,source=/f,target=/m cat /m",
        ["from the stage"],
        [],
    ),
    "written-stage-stays-as-it-was": (
        "FROM busybox AS t\nRUN mkdir /s && echo old > /s/f\nFROM busybox\n"
        "RUN --mount=from=t,source=/s,target=/m,rw echo new > /m/f && cat /m/f\nCOPY --from=t /s/f /f\nRUN cat /f",
        ["new\n", "old\n"],
        [],
    ),
    "link-in-the-image-on-the-way-to-the-target": (
        "RUN mkdir /real && ln -s /real /way\nRUN --mount=source=d,target=/way/m ls /real/m\nRUN ls /real | wc -l",
        ["e\n", "0\n"],
        [],
    ),
    "mount-on-scratch": (
        "FROM busybox AS tool\nFROM scratch\nRUN --mount=from=tool,source=/bin,target=/bin [\"/bin/busybox\",\"echo\",\"ran\"]",
        ["ran"],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted", "unwanted"), LOGS.values(), ids=LOGS.keys())
def test_log(workshop: Workshop, body: str, wanted: list[str], unwanted: list[str]) -> None:
    built = workshop.build(body).ok()
    for text in wanted:
        assert text in built.log, str(built)
    for text in unwanted:
        assert text not in built.log, str(built)


LAYERS = {
    "MT3": "RUN --mount=source=a.txt,target=/etc/zz/q.txt true",
    "MT4": "RUN --mount=source=a.txt,target=/etc/passwd true",
    "MT15": "RUN --mount=type=secret,id=s cat /run/secrets/s",
    "cache": "RUN --mount=type=cache,target=/new/cache touch /new/cache/f",
    "tmpfs": "RUN --mount=type=tmpfs,target=/new/t touch /new/t/f",
    "ssh": "RUN --mount=type=ssh true",
    "secret-below-a-new-directory": "RUN --mount=type=secret,id=s,target=/deep/er/s true",
}


@pytest.mark.parametrize("body", LAYERS.values(), ids=LAYERS.keys())
def test_mount_leaves_nothing_in_the_layer(workshop: Workshop, tmp_path: Path, body: str) -> None:
    assert layer_names(workshop, tmp_path, body, secrets={"s": "x"}) == []


def test_ig17_the_ignore_file_holds_for_mounts_too(workshop: Workshop) -> None:
    workshop.write({".dockerignore": "a.txt\nd/*\n!d/kept\n", "d/kept": "k"})
    log = workshop.build("RUN --mount=target=/c find /c").ok().log
    assert "/c/d/kept" in log
    assert "a.txt" not in log
    assert "/c/d/e" not in log
    workshop.build("RUN --mount=source=a.txt,target=/c cat /c").refused("not found")


def test_a_step_cannot_change_the_context(workshop: Workshop) -> None:
    workshop.build("RUN --mount=target=/c,rw echo changed > /c/a.txt; rm -r /c/d; cat /c/a.txt").ok()
    assert (workshop.context / "a.txt").read_text() == "A\n"
    assert (workshop.context / "d" / "e").exists()


def test_what_a_step_writes_into_its_mount_is_not_seen_by_the_next(workshop: Workshop) -> None:
    read, write = "RUN --mount=target=/c cat /c/a.txt\n", "RUN --mount=target=/c,rw echo own > /c/a.txt\n"
    built = workshop.build(read + write + read.replace("cat", "cat -v") + read.replace("cat", "cat -u")).ok()
    assert built.log.split() == ["A", "A", "A"]


def test_two_contexts_in_one_directory_keep_their_own_ignore_files(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write({".dockerignore": "a.txt\n", "Other": "FROM busybox\n", "Other.dockerignore": "d\n"})
    dockerfile = workshop.context / "Other"
    dockerfile.write_text(
        "FROM busybox\nRUN --mount=target=/main ls /main | sed s/^/main-/\n"
        "RUN --mount=from=again,target=/named ls /named | sed s/^/named-/\n"
    )
    log = workshop.server.build(
        workshop.context, None, dockerfile=str(dockerfile), contexts={"again": str(workshop.context)}
    ).ok().log  # fmt: skip
    assert "main-a.txt" in log
    assert "main-d\n" not in log
    assert "named-d\n" in log
    assert "named-a.txt" not in log


@pytest.mark.parametrize("source", ["nope", "a.txt/x", "d/nope"])
def test_a_missing_source_is_named(workshop: Workshop, source: str) -> None:
    workshop.build(f"RUN --mount=source={source},target=/c true").refused(f'"/{source}": not found')


def test_a_link_out_of_the_context_mounts_nothing_of_the_host(workshop: Workshop) -> None:
    built = workshop.build("RUN --mount=source=out,target=/c ls /c")
    assert built.error
    assert "not found" in built.error


COUNT = "grep -c ' {0} ' /proc/mounts"
OURS = {
    "/etc/hosts": ("--mount=source=a.txt,target=/etc/hosts", "cat /etc/hosts", "A"),
    "/etc/resolv.conf": ("--mount=type=secret,id=s,target=/etc/resolv.conf", "cat /etc/resolv.conf", "secret"),
    "/dev/shm": ("--mount=type=tmpfs,target=/dev/shm,size=1m", "df -m /dev/shm | awk 'END {print $2}'", "1"),
    "/dev/mqueue": ("--mount=type=cache,target=/dev/mqueue", "touch /dev/mqueue/f && ls /dev/mqueue", "f"),
    "/sys": ("--mount=source=d,target=/sys", "ls /sys", "e"),
}


@pytest.mark.parametrize(("target", "case"), OURS.items(), ids=OURS)
def test_a_mount_where_every_step_has_one_replaces_it(
    workshop: Workshop, target: str, case: tuple[str, str, str]
) -> None:
    flag, look, seen = case
    built = workshop.build(f"RUN {flag} {look} && {COUNT.format(target)}", secrets={"s": "secret\n"}).ok()
    assert built.log == f"{seen}\n1\n"


def test_the_last_of_two_mounts_at_one_place_is_the_only_one(workshop: Workshop) -> None:
    flags = "--mount=type=tmpfs,target=/m --mount=source=d,target=/m --mount=type=secret,id=s,target=/run/secrets/x"
    log = workshop.build(f"RUN {flags} ls /m && {COUNT.format('/m')}", secrets={"s": "1"}).ok().log
    assert log == "e\n1\n"


EMPTY = {
    "scratch": ("", "scratch"),
    "stage without files": ("FROM scratch AS e\nLABEL a=b\n", "e"),
    "stage with an empty layer": (
        'FROM scratch AS e\nWORKDIR /\nRUN --mount=from=busybox,target=/b ["/b/bin/true"]\n',
        "e",
    ),
}


@pytest.mark.parametrize(("stage", "name"), EMPTY.values(), ids=EMPTY)
def test_a_mount_of_nothing_is_an_empty_directory(workshop: Workshop, stage: str, name: str) -> None:
    own = f": {name} {len(stage)};"  # the first two are equal
    body = stage + "FROM busybox\nRUN --mount=from={0},target=/m{1} " + own + " {2}\n"
    assert workshop.build(body.format(name, "", "ls -A /m; ! touch /m/x; ls -A /m")).ok().log.count("\n") == 1
    assert workshop.build(body.format(name, ",rw", "touch /m/x && ls -A /m")).ok().log == "x\n"
    workshop.build(body.format(name, ",source=/nope", "true")).refused("not found")
    assert workshop.build(body.format(f"{name},type=cache", "", "ls -A /m; echo ok")).ok().log == "ok\n"


def test_a_directory_of_the_context_keeps_its_mode_where_it_is_mounted(workshop: Workshop) -> None:
    look = "stat -c '%a %u:%g' /m; ls /m"
    for mode in (0o711, 0o1777, 0o750):  # the second and the third are no hits
        (workshop.context / "d").chmod(mode)
        log = (
            workshop.build(f"RUN --mount=source=d,target=/m {look}\nRUN --mount=source=lnk,target=/m,rw {look}")
            .ok()
            .log
        )
        assert log == f"{mode:o} 0:0\ne\n" * 2
    (workshop.context / "d" / "sub").mkdir()
    (workshop.context / "d" / "sub").chmod(0o500)
    assert workshop.build("RUN --mount=source=d/sub,target=/m stat -c %a /m").ok().log == "500\n"


def test_the_root_of_the_context_is_readable_whatever_it_is_outside(workshop: Workshop) -> None:
    body = "USER 33\nRUN --mount=target=/m stat -c '%a %u:%g' /m; cat /m/a.txt"
    workshop.context.chmod(0o700)
    assert workshop.build(body).ok().log == "755 0:0\nA\n"
    workshop.context.chmod(0o750)
    assert workshop.build(body).ok().made == []


def test_a_directory_of_a_stage_counts_with_its_mode_and_owner(workshop: Workshop) -> None:
    body = "FROM busybox AS s\nRUN mkdir /d && chmod {0} /d && chown {1} /d\nFROM busybox\n"
    body += "RUN --mount=from=s,source=/d,target=/m stat -c '%a %u:%g' /m\n"
    for mode, owner in (("711", "0:0"), ("700", "0:0"), ("700", "3:4")):
        assert workshop.build(body.format(mode, owner)).ok().log == f"{mode} {owner}\n"


WORKDIRS = {
    "of a user": ("USER 33:7\n", "33:7"),
    "of a user of passwd": ("USER 33\n", "33:34"),
    "of an unknown number": ("USER 4444\n", "4444:0"),
    "of root": ("", "0:0"),
}


@pytest.mark.parametrize(("user", "owner"), WORKDIRS.values(), ids=WORKDIRS)
def test_a_missing_working_directory_is_made_for_the_user(workshop: Workshop, user: str, owner: str) -> None:
    log = workshop.build(
        f"WORKDIR /made/for/me\nRUN rm -r /made && ln -s nowhere /link\n{user}RUN touch f && pwd\n"
        "RUN stat -c '%n %u:%g %a' /made /made/for /made/for/me /made/for/me/f\n"
    )
    lines = [
        f"{path} {owner} {mode}"
        for path, mode in (("/made", 755), ("/made/for", 755), ("/made/for/me", 755), ("/made/for/me/f", 644))
    ]
    assert log.ok().log.splitlines() == ["/made/for/me", *lines]


# ---------------------------------------------------------------------------------------------------------------- secret

SECRETS = {
    "MT15": (
        "RUN --mount=type=secret,id=s stat -c '%a %u:%g' /run/secrets/s && cat /run/secrets/s && "
        "grep ' /run/secrets/s ' /proc/self/mountinfo | grep -c tmpfs",
        ["400 0:0", "c4nary", "1"],
    ),
    "MT16": ("WORKDIR /w\nRUN --mount=type=secret,id=s,target=rel cat /w/rel", ["c4nary"]),
    "MT17": ("RUN --mount=type=secret,id=s,env=MYS echo $MYS && ! test -e /run/secrets/s", ["c4nary"]),
    "MT17-both": ("RUN --mount=type=secret,id=s,env=MYS,target=/t echo $MYS $(cat /t)", ["c4nary c4nary"]),
    "MT18": ("RUN --mount=type=secret,id=none,env=MYS test -n \"${MYS+x}\" && echo \"[$MYS]\"", ["[]"]),
    "optional": ("RUN --mount=type=secret,id=none ls /run/secrets || echo nothing", ["nothing"]),
    "MT20": ("RUN --mount=type=secret,target=/x/s cat /x/s", ["c4nary"]),
    "owner": ("USER 33\nRUN --mount=type=secret,id=s,uid=33,mode=0440 cat /run/secrets/s", ["c4nary"]),
    "gone": ("RUN --mount=type=secret,id=s true\nRUN ls -a /run/secrets || echo nothing", ["nothing"]),
    "cannot-be-written": ("RUN --mount=type=secret,id=s ! sh -c 'echo x > /run/secrets/s'", ["Read-only"]),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), SECRETS.values(), ids=SECRETS.keys())
def test_secret(workshop: Workshop, body: str, wanted: list[str]) -> None:
    built = workshop.build(body, secrets={"s": "c4nary\n"}).ok()
    for text in wanted:
        assert text in built.log, str(built)


def test_a_required_secret_that_is_missing_is_named(workshop: Workshop) -> None:
    built = workshop.build("RUN --mount=type=secret,id=nope,required true")
    built.refused("secret nope: not found")
    assert "--secret id=nope" in built.hint


# ------------------------------------------------------------------------------------------------------------------- ssh


@contextmanager
def echo_agent(path: Path) -> Iterator[str]:
    """Listen at *path* and answer every connection with an empty list of identities, as an agent does (type 12)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                if client.recv(5):
                    client.sendall(b"\0\0\0\5\x0c\0\0\0\0")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield str(path)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_mt21_without_an_agent_the_step_runs_and_has_the_variable(workshop: Workshop) -> None:
    log = workshop.build("RUN --mount=type=ssh echo $SSH_AUTH_SOCK && ! test -e $SSH_AUTH_SOCK").ok().log
    assert "/run/buildkit/ssh_agent.0" in log


def test_a_required_agent_that_is_missing_is_named(workshop: Workshop) -> None:
    built = workshop.build("RUN --mount=type=ssh,id=key,required true").refused('no SSH key "key" forwarded')
    assert "--ssh key" in built.hint


def test_the_socket_is_there_for_its_step_only(workshop: Workshop, tmp_path: Path) -> None:
    with echo_agent(tmp_path / "agent") as path:
        built = workshop.build(
            "RUN --mount=type=ssh stat -c '%a %F' $SSH_AUTH_SOCK\nRUN ls /run/buildkit || echo none",
            ssh={"default": path},
        ).ok()
    assert "600 socket" in built.log
    assert "none" in built.log


def test_a_key_on_the_command_line_can_be_used_and_not_be_read(img: Img, tmp_path: Path) -> None:
    need("ssh-agent", "ssh-add", "ssh-keygen", "ldd")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the-comment", "-f", key], check=True)
    context = tmp_path / "keys"
    copy_program("ssh-add", context)
    ask = "RUN --mount=target=/h --mount=type=ssh,id=k /h/loader --library-path /h /h/ssh-add -l\n"
    write_context(context, f"FROM busybox\n{ask}")
    told = img.build(context, "--progress", "plain", "--ssh", f"k={key}").ok()
    assert "the-comment (ED25519)" in told.stderr
    secret = key.read_text().splitlines()[1]
    assert not [path for path in img.state.rglob("*") if path.is_file() and holds(path, secret.encode())]


# -------------------------------------------------------------------------------------------------- nothing leaks

CANARIES = {"file": "c4nary-file-5d1f", "env": "c4nary-env-77ab", "type": "c4nary-type-0c3e"}
#: Nor may a digest of a secret be kept: short ones can be guessed from it.
NEEDLES = (
    b"c4nary",
    *(hashlib.sha256(text.encode()).digest() for text in CANARIES.values()),
    *(hashlib.sha256(text.encode()).hexdigest().encode() for text in CANARIES.values()),
)
LEAKY = """\
FROM busybox
RUN --mount=type=secret,id=file cat /run/secrets/file | wc -c
RUN --mount=type=secret,id=env,env=TOKEN test ${#TOKEN} -gt 5
RUN --mount=type=secret,id=type,target=/deep/er/s --mount=type=cache,target=/c cp /deep/er/s /dev/shm/ && cat /deep/er/s | md5sum
RUN --mount=type=ssh,id=key test -S $SSH_AUTH_SOCK
"""


def test_secrets_and_keys_are_nowhere_in_state_output_or_temporary_files(img: Img, tmp_path: Path) -> None:
    context = tmp_path / "leaky"
    context.mkdir()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "secret-file").write_text(CANARIES["file"])
    metadata = tmp_path / "metadata.json"
    said = ""
    with echo_agent(tmp_path / "c4nary-agent") as agent:
        changes = {"TOKEN_ENV": CANARIES["env"], "type": CANARIES["type"], "TMPDIR": str(temporary)}
        for last, code in (("RUN true", 0), ("RUN --mount=type=secret,id=file exit 3", 4)):
            write_context(context, f"{LEAKY}{last}\n")
            told = img.with_environment(**changes).with_flags("-d").build(
                context, "--progress", "plain", "--ssh", f"key={agent}", "--metadata-file", metadata,
                "--secret", f"id=file,src={tmp_path / 'secret-file'}", "--secret", "id=env,env=TOKEN_ENV",
                "--secret", "id=type,type=env",
            )  # fmt: skip
            assert told.returncode == code, str(told)
            said += told.stderr + told.text
    assert said.count("DONE") >= 6, said
    img.export("built", tmp_path / "out.tar")
    said += img.run("history", "--no-trunc", "built").ok().text + img.run("inspect", "built").ok().text
    assert found_below(img.state) + found_below(temporary) + found_below(context) == []
    assert not any(needle.decode("latin-1") in said.replace(str(tmp_path), "") for needle in NEEDLES)
    for file in (tmp_path / "out.tar", metadata):
        assert not holds(file, *NEEDLES)


def test_the_search_for_canaries_finds_one_that_a_step_kept(img: Img, tmp_path: Path) -> None:
    (tmp_path / "secret-file").write_text(CANARIES["file"])
    copying = b"FROM busybox\nRUN --mount=type=secret,id=s cat /run/secrets/s > /kept\n"
    img.run("build", "-t", "x", "--secret", f"id=s,src={tmp_path / 'secret-file'}", "-", stdin=copying).ok()
    assert len(found_below(img.state)) >= 2  # the snapshot and the compressed layer


def found_below(directory: Path) -> list[str]:
    """Return the paths below *directory* whose name, target or content has a secret."""
    found = []
    for path in directory.rglob("*"):
        if path.parent.name == "failed":  # the note of the failed step: it may say where an agent is, and nothing more
            assert b"c4nary" not in path.read_bytes().replace(b"c4nary-agent", b"")
            continue
        named = f"{path.name} {os.readlink(path) if path.is_symlink() else ''}"
        if "c4nary" in named or (path.is_file() and not path.is_symlink() and holds(path, *NEEDLES)):
            found.append(str(path))
    return found


def holds(path: Path, *needles: bytes) -> bool:
    """Tell whether a file holds one of *needles*, as it is or decompressed."""
    try:
        data = path.read_bytes()
    except PermissionError:  # of another id in the user namespace: nothing of ours
        return False
    if data.startswith(b"\x1f\x8b"):
        data += gzip.decompress(data)
    return any(needle in data for needle in needles)
