"""Builds in containers as engines start them by default: no namespace, no mount, the usual filter of system calls.

Under runc (`harness.engine`). As root the containers are those of `docker run` and of `hostUsers: false`; what an ordinary user can
start has the rights of the latter.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.compare import VOLATILE, config_differences, tree_differences
from harness.fixtures import NewState
from harness.host import AS_ROOT, copy_program, fixture_file, need
from harness.img import COMMAND, Img, write_context
from harness.oci import ImageArchive, Record
from harness.unmodified import Box
from img_core.testing.registry import DockerRegistry

#: as an ordinary user both are the same
KINDS = ["root", "host-users-false"] if AS_ROOT else ["root"]


HARNESS = Path(__file__).parents[1] / "harness"


def attempts_of(source: str) -> list[str]:
    return re.findall(r"ATTEMPT\((\w+)\)", (HARNESS / source).read_text().partition("attempts[] = {")[2])


@pytest.fixture(scope="module", params=KINDS)
def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path
) -> Iterator[Box]:
    made = Box.make(tmp_path_factory.mktemp("box") / "layer", request.param, busybox_archive)
    yield made
    made.remove()


def test_the_container_refuses_what_engines_refuse(box: Box) -> None:
    tried = {
        "unshare --user true": False,
        "unshare --mount true": False,
        "mount -t tmpfs none /mnt": False,
        "chroot / true": True,
        "touch /file && chown 33:34 /file": True,
        "cat /proc/kcore | head -c 1 | grep -q .": False,
    }
    script = "".join(f"if {command}; then echo 1; else echo 0; fi\n" for command in tried)
    done = subprocess.run(
        box.img().situation.wrap("sh", "-c", script),  # type: ignore[union-attr]  # it has one
        stdout=subprocess.PIPE, text=True, env=box.environment(), check=False, timeout=60,
    )  # fmt: skip
    assert dict(zip(tried, done.stdout.split(), strict=True)) == {
        command: "1" if works else "0" for command, works in tried.items()
    }


def test_files_are_copied_with_their_owners(box: Box) -> None:
    box.put("/copied/Dockerfile", "FROM busybox AS one\nCOPY --chown=33:34 --chmod=4750 file /srv/file\n")
    box.put("/copied/file", "content")
    box.img().build(Path("/copied"), "-o", "type=oci,dest=/copied/out.tar", tag="").ok()
    entry = ImageArchive(box.inside("/copied/out.tar")).tree()["srv/file"]
    assert (entry.uid, entry.gid, entry.mode & 0o7777) == (33, 34, 0o4750)


def test_the_doctor_names_the_situation(box: Box) -> None:
    done = box.img().run("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.text)["findings"]}
    assert "root of a container that can make no namespace" in findings["user ids"]["text"]
    assert "contrib/seccomp/builder.json" in findings["user ids"]["hint"]
    assert findings["executor chroot"]["text"] == "works, and is what `auto` takes"
    for name in ("userns", "runc"):
        assert "needs namespaces of its own" in findings[f"executor {name}"]["text"]
    assert findings["snapshotter moving"]["text"] == "works, and is what `auto` takes"


#: containers that have neither a namespace nor all that the executors `chroot` and `swap` take, and the ways that there are
LACKING = ("ordinary-user", "restricted")
WAYS = ("`hostUsers: false`", "in `/.img` alone", "target `restricted` in contrib/container")


@pytest.mark.parametrize("kind", LACKING)
def test_other_containers_are_told_what_they_lack(tmp_path: Path, kind: str) -> None:
    need("runc")
    box = Box(tmp_path / "layer", kind)
    done = box.shell("cd $HOME || cd /tmp; echo FROM scratch | img build -t x -f - /tmp")
    box.remove()
    done.refused(7, "cannot create a user namespace")
    assert [way for way in WAYS if way not in done.stderr] == []


@pytest.mark.parametrize("kind", ["ordinary-user", "restricted-prepared", *["host-users-false-drop-all"] * AS_ROOT])
def test_what_needs_no_step_works_in_every_container(
    registry: DockerRegistry, tmp_path: Path, busybox_archive: Path, kind: str
) -> None:
    need("runc")
    box = Box(tmp_path / "layer", kind)
    box.put(f"{box.home}/in/base.tar", busybox_archive.read_bytes())
    name = f"{registry.address}/no-step/{kind}"
    done = box.shell(
        f"img load -q -i {box.home}/in/base.tar; img tag busybox {name}; img push {name}; img rm {name} busybox\n"
        f"img pull {name}; img ls; img save -o {box.home}/tmp/out.tar {name}"
    ).ok()
    assert ImageArchive(box.inside(f"{box.home}/tmp/out.tar")).document == ImageArchive(busybox_archive).document
    box.remove()
    assert name in done.text


#: Dockerfile by name; each is built with `file` and `tree/` as context
BUILDS = {
    "stages and owners": """
        FROM busybox AS build
        RUN mkdir /out && echo program > /out/program && chmod 4755 /out/program && chown -R 33:34 /out && ln -s program /out/link
        FROM busybox
        COPY --from=build /out /opt/out
        COPY --chown=www file /srv/app
        RUN test -r /proc/self/status && test -r /proc/uptime && head -c 4 /dev/urandom | wc -c && test -w /dev/shm
        RUN rm -r /srv/data && mkdir /srv/data && echo new > /srv/data/new && chown www:staff /srv/data/new
        USER www
        WORKDIR /home/www
        RUN echo mine > file
    """,
    "nothing of ours": """
        FROM busybox
        RUN mkdir -p /proc/x /dev/x /sys/x; echo x > /etc/hosts; echo x > /dev/shm/file; true
        RUN rm -f /etc/resolv.conf; ls -laR /dev /proc > /dev/null; cd /proc/self && cat status > /dev/null
        COPY tree /dev/tree
        COPY file /etc/hosts
        RUN ! ls /dev/tree 2> /dev/null && echo other >> /etc/hosts; grep -q localhost /etc/hosts
    """,
    "all mounts": """
        FROM busybox AS other
        RUN mkdir /made && echo made > /made/file
        FROM busybox
        RUN --mount=type=cache,target=/cache echo kept > /cache/file
        RUN --mount=type=cache,target=/cache cp /cache/file /from-cache
        RUN --mount=type=bind,source=tree,target=/srv/tree cp -r /srv/tree /copied && ls -A /srv/tree > /names
        RUN --mount=type=bind,from=other,source=/made,target=/m cat /m/file > /from-other
        RUN --mount=type=bind,target=/m,rw echo new > /m/new && cat /m/file /m/new > /from-rw
        RUN --mount=type=tmpfs,target=/srv/data touch /srv/data/x && ls /srv/data > /names-2
        RUN --mount=type=secret,id=token,uid=33,mode=0400 cat /run/secrets/token | wc -c > /length
        RUN --mount=type=secret,id=token,target=/root/.token test -s /root/.token && cd /root && wc -c < .token > /length-2
    """,
    "processes": """
        FROM busybox
        RUN (setsid sleep 1000 &) ; sleep 1000 & echo started
        RUN ps | grep -q 'ps' && ! ps -o comm | grep -q python && readlink /proc/self/exe > /exe
        RUN mkfifo /p && (cat < /proc/self/cwd/p > /through &) && echo word > /proc/self/cwd/p && until test -s /through; do :; done
        RUN mkdir /log && ln -s /dev/stdout /log/out && echo logged > /log/out && echo again | tee -a /log/out
        RUN cat /proc/self/cmdline | tr '\\0' ' ' > /words
        RUN su www -s /bin/sh -c 'grep ^Uid /proc/self/status > /tmp/uid && exec 3< /dev/stdin && test -e /proc/self/fd/3'
        RUN --network=none ! wget -q http://127.0.0.1:1/
    """,
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, seed: Path) -> Iterator[NewState]:
    """Give a maker of states for builds on this machine itself."""
    maker = NewState(tmp_path_factory.mktemp("reference"), seed)
    yield maker
    maker.close()


def put_context(box: Box, name: str, directory: Path) -> Path:
    """Write the context of a build into *box* and into *directory*; return its name in the box."""
    dockerfile = textwrap.dedent(BUILDS[name])
    inside = Path("/contexts", name.replace(" ", "-"))
    files = {"Dockerfile": dockerfile, "file": "content\n", "tree/a": "a\n", "tree/below/b": "b\n", "secret": "s3cret"}
    for path, content in files.items():
        box.put(f"{inside}/{path}", content)
    write_context(directory, dockerfile, dict(files))
    return inside


@pytest.mark.parametrize("name", BUILDS)
def test_builds_give_the_same_image_as_elsewhere(box: Box, reference: NewState, tmp_path: Path, name: str) -> None:
    inside = put_context(box, name, tmp_path)
    flags = ("--no-cache", "--network=host")
    secret = ("--secret", "id=token,src={}/secret")
    expected, found = tmp_path / "expected.tar", box.inside(f"{inside}/out.tar")
    there = reference(f"{box.kind}-{name}".replace(" ", "-"))
    there.build(tmp_path, *flags, secret[0], secret[1].format(tmp_path), "-o", f"type=oci,dest={expected}", tag="").ok()
    box.img().build(
        inside, *flags, secret[0], secret[1].format(inside), "-o", f"type=oci,dest={inside}/out.tar", tag=""
    ).ok()
    ours, theirs = ImageArchive(found), ImageArchive(expected)
    assert not [
        *tree_differences(ours.tree(), theirs.tree(), volatile=VOLATILE),
        *config_differences(ours.config, theirs.config),
    ]
    assert [layer_paths(layer) for layer in ours.layers()] == [layer_paths(layer) for layer in theirs.layers()]
    assert "s3cret" not in found.read_bytes().decode("latin-1")


def layer_paths(layer: list[Record]) -> list[str]:
    return [path for path, _, _ in layer]


DEBIAN = """\
FROM debian
RUN groupadd -g 3000 team && useradd -m -u 3001 -g team worker && mkdir /srv/data && chown worker:team /srv/data && chmod 3775 /srv/data
RUN echo 'int main(void) { return 0; }' > /tmp/a.c && gcc -O1 -static -Wl,--build-id=none -o /usr/local/bin/a /tmp/a.c && rm /tmp/a.c \\
 && setcap cap_net_bind_service=+ep /usr/local/bin/a && ln /usr/local/bin/a /usr/local/bin/b && cp -a /etc/skel /opt/skel
RUN rm -rf /usr/share/doc /etc/motd && bash -c 'cat <(echo substituted) > /etc/substituted' && ls -l /proc/self/exe > /dev/null
COPY Dockerfile /opt/
USER worker
RUN id -un > ~/who && umask 027 && mkdir ~/private && touch ~/private/file
"""


DEMO = Path(__file__).parents[2] / "contrib/demo"


def test_the_demo_works(box: Box) -> None:
    assert "demo: ok" in box.shell(f"PYTHON={sys.executable} sh {DEMO}/demo.sh").ok().text


def check_the_demo_works(box: Box) -> None:
    """Do what it does where the container has no shell for its script and may not chroot(2): the result runs on this machine."""
    place = f"{box.home}/in/demo"
    for path in (DEMO / "Dockerfile", *(DEMO / "app").iterdir()):
        box.put(f"{place}/{path.relative_to(DEMO)}", path.read_bytes())
    base = subprocess.run([sys.executable, DEMO / "host_base.py"], stdout=subprocess.PIPE, check=True).stdout
    box.put(f"{place}/base.tar", base)
    img = box.img()
    img.run("import", f"{place}/base.tar", "host-base").ok()
    img.build(Path(place), tag="demo").ok()
    assert "demo" in img.run("ls").ok().text
    img.run("save", "-o", f"{place}/demo.tar", "demo").ok()
    img.run("unpack", "-o", f"{place}/out/rootfs", "demo").ok()
    enter = ["chroot"] if AS_ROOT else ["unshare", "--user", "--map-root-user", "chroot"]
    said = subprocess.run(
        [*enter, box.inside(f"{place}/out/rootfs"), "/usr/bin/env", "-i", "PATH=/usr/bin", "GREETING=hello", "greet"],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.fullmatch(r"hello from \d+, .*\nbuilt by root with 2 files in /src\n", said)


#: the containers in which Debian is built, and what its steps cannot do there
DEBIAN_KINDS = {
    "root": "",
    "host-users-false": "",
    "cri-o-root": "setcap cap_net_bind_service=+ep /usr/local/bin/a && ",  # it takes the capability SETFCAP
    "host-users-false-drop-all": "",
    "restricted-open-root": "",
    "restricted-prepared": "",
}


@pytest.fixture(scope="module")
def debian(reference: NewState) -> Img:
    """Give the command on this machine, with a Debian base."""
    img = reference("debian")
    img.run("import", fixture_file("debian.tar"), "debian").ok()
    return img


def check_debian_is_the_same_as_elsewhere(debian: Img, tmp_path: Path, busybox_archive: Path, kind: str) -> None:
    box = Box.make(tmp_path / "layer", kind, busybox_archive)
    dockerfile = DEBIAN.replace(DEBIAN_KINDS[kind] or "\0", "")
    place = f"{box.home}/in"
    box.put(f"{place}/debian.tar", fixture_file("debian.tar").read_bytes())
    box.put(f"{place}/debian/Dockerfile", dockerfile)
    box.img().run("import", f"{place}/debian.tar", "debian").ok()
    context = write_context(tmp_path / "context", dockerfile)
    debian.build(context, "--no-cache", "-o", f"type=oci,dest={tmp_path}/expected.tar", tag="").ok()
    box.img().build(Path(f"{place}/debian"), "--no-cache", "-o", f"type=oci,dest={place}/debian/out.tar", tag="").ok()
    ours, theirs = ImageArchive(box.inside(f"{place}/debian/out.tar")), ImageArchive(tmp_path / "expected.tar")
    assert not tree_differences(ours.tree(), theirs.tree(), volatile=VOLATILE)
    assert [layer_paths(layer) for layer in ours.layers()] == [layer_paths(layer) for layer in theirs.layers()]
    box.remove()


if AS_ROOT:  # it takes long; in the others `test_unmodified_commands` builds on Debian, and `test_unmodified_fake_root`
    sample = ("host-users-false", "host-users-false-drop-all")
    kinds = DEBIAN_KINDS if "IMG_TEST_EVERY_CONTAINER" in os.environ else sample
    test_debian_is_the_same_as_elsewhere = pytest.mark.parametrize("kind", kinds)(check_debian_is_the_same_as_elsewhere)


@pytest.mark.parametrize(
    ("instruction", "flags", "status", "words"),
    [
        ("RUN --security=insecure true", ("--allow", "security.insecure"), 4, "needs a privileged container"),
        ("RUN true", ("--network", "private"), 7, "private network needs"),
        ("RUN exit 7", (), 4, "exit code: 7"),
        ("RUN nonsense", (), 4, "exit code: 127"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    box: Box, instruction: str, flags: tuple[str, ...], status: int, words: str
) -> None:
    box.put("/refused/Dockerfile", f"FROM busybox\n{instruction}\n")
    box.img().build(Path("/refused"), "--no-cache", *flags).refused(status, words)


@pytest.mark.parametrize(
    "path", ["/proc/self", "/proc/self/cwd", "/proc/1", "/proc/x/y", "/dev/fd", "/sys/kernel", "/p/self"]
)
def test_a_step_cannot_begin_in_what_it_has_to_ask_for(box: Box, path: str) -> None:
    box.put("/begin/Dockerfile", f"FROM busybox\nRUN ln -s /proc /p\nWORKDIR {path}\nRUN true\n")
    done = box.img().build(Path("/begin"), "--progress", "plain").refused(4, "exit code: 126")
    told = f"cannot enter the working directory `{path}`: here a step cannot begin in /proc or /sys, but its command can `cd`"
    assert f" {told}\n" in done.stderr


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero/x", "/n"])
def test_a_device_is_no_directory_to_begin_in(box: Box, reference: NewState, tmp_path: Path, path: str) -> None:
    text = f"FROM busybox\nRUN ln -s /dev/null /n\nWORKDIR {path}\nRUN true\n"
    box.put("/device/Dockerfile", text)
    there = reference(f"{box.kind}-device-{path.replace('/', '-')}").build(
        write_context(tmp_path, text), "--progress", "plain"
    )
    here = box.img().build(Path("/device"), "--progress", "plain").refused(4, "exit code: 126")
    told = f"cannot enter the working directory `{path}`: Not a directory\n"
    assert [told in done.stderr for done in (here, there)] == [True, True]


def test_a_step_can_begin_in_what_is_its_own_there(box: Box) -> None:
    text = "FROM busybox\nWORKDIR /proc\nRUN test -e self/stat\nWORKDIR /sys\nRUN test -d kernel\nWORKDIR /dev/x\nRUN test `pwd` = /dev/x\n"
    box.put(
        "/begin/Dockerfile", text + "WORKDIR /dev/shm\nRUN touch a && cd /proc/self && test -e stat && cd /sys/kernel\n"
    )
    box.img().build(Path("/begin"), "--no-cache", tag="").ok()


def test_an_agent_is_there_for_its_step_and_its_key_is_not(box: Box, tmp_path: Path) -> None:
    need("ssh-add", "ssh-keygen", "ldd")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the-comment", "-f", key], check=True)
    copy_program("ssh-add", tmp_path / "context")
    for file in (tmp_path / "context").iterdir():
        box.put(f"/agent/{file.name}", file.read_bytes())
        box.inside(f"/agent/{file.name}").chmod(0o755)
    box.put("/key", key.read_bytes())
    box.inside("/key").chmod(0o600)
    ask = "RUN --mount=target=/h --mount=type=ssh,id=k /h/loader --library-path /h /h/ssh-add -l"
    box.put("/agent/Dockerfile", f"FROM busybox\n{ask}\nRUN ! test -e /run/buildkit\n")
    flags = ("--no-cache", "--progress", "plain", "--ssh", "k=/key")
    told = box.img().build(Path("/agent"), *flags, "-o", "type=oci,dest=/agent/out.tar", tag="").ok()
    assert "the-comment (ED25519)" in told.stderr
    assert "run/buildkit" not in " ".join(ImageArchive(box.inside("/agent/out.tar")).tree())


#: what a step finds behind links of its image, and of what only a /proc, a /dev and a terminal give; each ends with success
FOUND = {
    "a link to a file of proc": "ln -s /proc/self/status /l1 && grep -q ^Name /l1 && test -f /l1",
    "a relative link": "ln -s ../proc/uptime /srv/up && cat /srv/up && cd /srv && cat up && wc -c < ./up",
    "a link to a directory of proc": "ln -s /proc/self /d && cat /d/status && ls /d/fd && test -d /d/fd && cat /d/../uptime",
    # Until it is `sleep` the shell still closes and opens descriptors.
    "a process by a link to proc": "ln -s /proc /pp; i=0; sleep 9 & "
    "until grep -q ^Name:.sleep /pp/$!/status; do i=$((i+1)); test $i -lt 3000; done; ls /pp/$!/fd && test -d /pp/$!/ "
    "&& ! cat /pp/999999/comm && cd /pp && cat $!/stat && cat ../pp/$!/stat && kill $!",
    "a link to sys": "ln -s /sys/kernel /k && ls /k && test -d /k",
    "a chain to standard input": "ln -s /dev/stdin /c1 && ln -s c1 /c2 && echo word | grep word /c2",
    "a chain to standard output": "ln -s /dev/stdout /o && ln -s /o /o2 && test -e /o2 && echo word > /o2",
    "a name in dev": "cd /dev && echo word | grep word stdin && echo x > null && test -c null && test ! -s null",
    "a link to a device": "ln -s /dev/null /n && echo x > /n && test -c /n && test -z $(cat /n)",
    "a link to a descriptor": "ln -s /dev/fd /f && grep -q x /f/3 3< /etc/passwd && test -e /f/0",
    "a loop": "ln -s loop /loop && ! cat /loop && ln -s /loop /l2 && ! test -e /l2",
    "to change standard output": "chmod 600 /dev/stdout && touch /dev/stdout && touch -d @7 /dev/stdout && chown 0:0 /dev/stdout",
    "to change what is open": "echo x > /x && exec 4< /x && chmod 751 /proc/self/fd/4 && chown 33:34 /proc/self/fd/4 "
    "&& touch -d @9 /dev/fd/4 && test $(stat -c %a:%u:%g:%Y /x) = 751:33:34:9",
    "the kind of proc": 'test "$(stat -f -c %t /proc)" = 9fa0',
    "a terminal": "/terminal && ls /dev/pts/ptmx && test -z $(ls /dev/pts | grep -v ptmx) && ! cat /dev/pts/0 < /dev/null",
    "a link with another name": "ln -s /proc/self/status /r1 && mv /r1 /srv/r2 && grep -q ^Name /srv/r2",
    "a link with two names": "ln -s /proc/uptime /h1 && ln /h1 /srv/h2 && cat /srv/h2",
    "a link that leads somewhere later": "ln -s later/status /e1 && ln -s /proc/self /later && grep -q ^Name /e1 && cd / && cat e1",
    "links in a directory with another name": "mkdir /m1 && ln -s /proc /m1/p && mv /m1 /m2 && cat /m2/p/uptime && cd /m2 && cat p/uptime",
    "proc by a link to its parent": "ln -s / /slash && cat /slash/proc/uptime && cd /slash && cat proc/uptime "
    "&& ls slash/proc | grep uptime && ls /slash/proc/self | grep status",
    "a link that was copied": "ln -s /proc/uptime /t1 && mkdir /t && cp -a /t1 /t/t2 && tar -C /t -cf /t.tar t2 "
    "&& tar -C /srv -xf /t.tar && cat /srv/t2",
    "from a directory of proc": "cd /proc/self && cat status ../uptime && cd .. && cat uptime self/status && cd / && cat proc/uptime",
    "a directory of dev": "cd /dev && ls pts/ptmx && ls fd/ && cd pts && ls ptmx",
    "a process by a short link": "ln -s /proc /q && cd /q/$$ && grep ^Name status && cd /q/self && cat stat && cat /q/$$/comm /q/self/comm",
    "a link to one process": "ln -s proc/$$ /one && grep ^Name /one/status && test -d /one && cd /one && cat stat ../uptime && ls /one/fd "
    "&& cd / && cat one/comm && ln -s one /two && cat two/comm",
    "short links to directories": "ln -s /proc/self/fd /e && cd /e && test -e 0 && ln -s /sys/kernel /kk && cd /kk && ls ../kernel "
    "&& cd /e && test -e 0 && ls /e/ && cat /kk/../../proc/uptime && ln -s /sys /s && cd /s/fs && ls ../kernel",
    "a short link to where it is": "ln -s /proc/self/cwd /w && cd /srv && cd /w && touch here && test -e /srv/here && cd /w && rm here",
    "in dev a link to what only some kernels have": f"{'' if os.path.exists('/proc/kcore') else '! '}test -L /dev/core",
    "a program of 32 bits": "ln -s /proc/self/status /to-status && /program 0 > /told && grep -c open /told "
    "&& ! grep -vE ' 0|refused' /told",
}
#: what no step may do here, but one of real root in namespaces of its own may
HELD = {
    "the machine's modes": "! chmod 444 /proc/cpuinfo && ! chmod 444 /sys/kernel/uevent_seqnum && ! chmod 666 /dev/tty0",
    "the machine's owners": "! chown 0:0 /proc/uptime && ! chown 0:0 /proc",
    "the machine's times": "! touch -d @7 /proc/version",
}
#: how the names of results begin once a supervisor knows all links of the tree
AFTERWARDS = "afterwards "
SECRET_BY_LINK = (
    "grep -q s3cret /token && grep -q s3cret /run/secrets/../secrets/token && test -s /token && cat < /token"
)


def check_what_links_lead_to(img: Img, context: Path, shown: Path, secret: Path) -> dict[str, str]:
    img.build(
        context, "--no-cache", "--progress", "plain", "--secret", f"id=token,src={secret}",
        "-o", f"type=local,dest={context}/out", tag="",
    ).ok()  # fmt: skip
    return dict(line.split(": ", 1) for line in (shown / "out/results").read_text().splitlines())


def found_dockerfile(wanted: dict[str, str]) -> dict[str, str]:
    rows = "".join(
        f'if (set -e; {command}) > /out.txt 2>&1; then echo "$1{name}: yes"\n'
        f'else echo "$1{name}: no" $(tail -n 3 /out.txt); fi >> /results\n'
        for name, command in wanted.items()
    )
    text = f"""\
FROM busybox AS base
COPY program terminal /
COPY rows many-calls /
RUN ln -s /proc/uptime /up && ln -s /run/secrets/token /token
FROM base AS first
RUN sh /rows
FROM base
COPY --from=first /results /results
RUN sh /many-calls && sh /rows '{AFTERWARDS}' && cat /up
RUN --mount=type=secret,id=token {SECRET_BY_LINK} && sh /many-calls && {SECRET_BY_LINK} && echo 'a secret: yes' >> /results
WORKDIR /proc
RUN cat uptime self/status && sh /many-calls && cat uptime self/status && echo 'the working directory: yes' >> /results
"""
    return {
        "Dockerfile": text,
        "rows": rows,
        # until a supervisor knows all links
        "many-calls": "i=0; while [ $i -lt 7000 ]; do [ -e /etc/nothing ]; i=$((i+1)); done\n",
        "secret": "s3cret",
    }


@pytest.fixture(scope="module")
def program_of_32_bits(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give the compiled program."""
    need("cc")
    program = tmp_path_factory.mktemp("program") / "program"
    static = ("-m32", "-O1", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-fno-stack-protector", "-no-pie")
    subprocess.run(["cc", *static, "-Wall", "-Werror", "-o", program, HARNESS / "ask_proc32.c"], check=True)
    return program.read_bytes()


@pytest.fixture(scope="module")
def found(
    box: Box, reference: NewState, tmp_path_factory: pytest.TempPathFactory, program_of_32_bits: bytes
) -> list[dict[str, str]]:
    """Give what was found of `FOUND`, in the container and on this machine."""
    directory = tmp_path_factory.mktemp("found")
    terminal = directory / "terminal"
    subprocess.run(["cc", "-static", "-Wall", "-Werror", "-o", terminal, HARNESS / "ask_terminal.c"], check=True)
    programs = {"program": program_of_32_bits, "terminal": terminal.read_bytes()}
    for name, text in found_dockerfile({**FOUND, **HELD}).items():
        box.put(f"/found/{name}", text)
    for name, text in found_dockerfile(FOUND).items():
        (directory / name).write_text(text)
    for name, content in programs.items():
        (directory / name).write_bytes(content)
        box.put(f"/found/{name}", content)
        box.inside(f"/found/{name}").chmod(0o755)
        (directory / name).chmod(0o755)
    inside = Path("/found")
    return [
        check_what_links_lead_to(box.img(), inside, box.inside("/found"), inside / "secret"),
        check_what_links_lead_to(reference(f"found-{box.kind}"), directory, directory, directory / "secret"),
    ]


@pytest.mark.parametrize("name", [*FOUND, *(AFTERWARDS + name for name in FOUND), "a secret", "the working directory"])
def test_a_step_finds_what_it_finds_elsewhere(found: list[dict[str, str]], name: str) -> None:
    assert [each[name] for each in found] == ["yes", "yes"]


@pytest.mark.parametrize("name", HELD)
def test_a_step_changes_nothing_of_the_machine(found: list[dict[str, str]], name: str) -> None:
    assert found[0][name] == "yes"


@pytest.fixture(scope="module")
def outcomes(box: Box, tmp_path_factory: pytest.TempPathFactory, program_of_32_bits: bytes) -> dict[str, str]:
    """Give what each attempt of a step to get out, or at its builder, came to; the builder is not the container's first process."""
    need("cc")
    dockerfile = "FROM busybox\nARG BUILDER\nCOPY climb escapes /\nUSER root\nRUN mkdir -p /srv\n"
    for program in ("escapes", "climb"):
        compiled = tmp_path_factory.mktemp("programs") / program
        source = HARNESS / f"{program}.c"
        subprocess.run(["cc", "-static", "-pthread", "-O1", "-Wall", "-Werror", "-o", compiled, source], check=True)
        box.put(f"/climb/{program}", compiled.read_bytes())
        box.inside(f"/climb/{program}").chmod(0o755)
        dockerfile += f"RUN /{program} $BUILDER /climb/Dockerfile > /{program}.results\n"
    box.put("/climb/program", program_of_32_bits)
    box.inside("/climb/program").chmod(0o755)
    dockerfile += "COPY program /\nRUN /program $BUILDER > /program.results\n"
    dockerfile += "RUN rm /etc/ld.so.preload; kill -9 -1; true\n"
    box.put("/climb/Dockerfile", dockerfile)
    command = " ".join(
        (*COMMAND, "-s", "/state", "build", "--build-arg", "BUILDER=$$", "-o", "type=local,dest=/climb/out", "/climb")
    )
    situation = box.img().situation
    assert situation is not None
    done = subprocess.run(
        situation.wrap("sh", "-c", f"sh -c 'exec {command}'; echo the first process goes on"),
        capture_output=True, text=True, env=box.environment(), check=False, timeout=120,
    )  # fmt: skip
    assert "the first process goes on" in done.stdout, done.stderr
    results = "".join(box.inside(f"/climb/out/{name}.results").read_text() for name in ("escapes", "climb", "program"))
    return dict(line.split(" ", 1) for line in results.splitlines())


@pytest.mark.parametrize("attempt", [*attempts_of("escapes.c"), *attempts_of("climb.c")])
def test_a_step_gets_neither_out_nor_at_its_builder(outcomes: dict[str, str], attempt: str) -> None:
    assert outcomes[attempt].startswith("held")


@pytest.mark.parametrize("call", ["kill", "tkill", "trace", "limits", "memory"])
def test_a_program_of_32_bits_does_not_reach_its_builder_either(outcomes: dict[str, str], call: str) -> None:
    assert int(outcomes[f"refused-{call}"]) == -errno.EPERM
