"""Builds in containers whose user has no capability: a supervisor makes steps believe that they are root, and images are as root's.

Under runc: `hostUsers: false` with all capabilities dropped, and Kubernetes' *restricted*, where everybody may write in the root directory,
as CRI-O has it of an image made so, or where the image has directories of the user's. Img lives in ``/.img`` alone (`harness.prepared`),
and the tree of a step takes the place of the root directory, or of those directories.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bases import below_media, merged_busybox
from harness.compare import VOLATILE, config_differences, tree_differences
from harness.fixtures import NewState
from harness.host import fixture_file, need
from harness.img import write_context
from harness.oci import ImageArchive
from harness.prepared import OWNED, command_in
from harness.situations import Unmodified
from harness.unmodified import Box
from integration.test_single_id import DOCKERFILE, EXPECTED, archive, package
from integration.test_unmodified_containers import check_the_demo_works, layer_paths
from integration.test_unmodified_swap import CASES as SWAPPED
from integration.test_unmodified_swap import check_killed_builds_are_undone

KINDS = ("host-users-false-drop-all", "restricted-open-root")
#: the container in which no step can make a name in the root directory, see `harness.bases.below_media`
PREPARED = "restricted-prepared"
CASES = {
    **SWAPPED,
    # what the kernel itself says of a process is the truth
    "processes": SWAPPED["processes"].replace("grep ^Uid /proc/self/status", "id"),
    "permissions": """
        FROM busybox
        RUN echo secret > /s && chmod 000 /s && cat /s && echo more >> /s && mkdir -p /d/e && echo x > /d/f && chmod 000 /d
        RUN cat /s /d/f && ls /d && rm /d/f && touch /d/g && mv /d/g /d/h && rmdir /d/e && stat -c '%a %u' /s /d /d/h > /modes
        RUN [ -r /s ] && [ -w /s ] && ! [ -x /s ] && cd /d && chmod 400 /s && cp -a /s /t && ln /d/h /d/hard && mkdir /d/new
        RUN umask 777 && echo x > /masked && mkdir /closed && echo y > /closed/file && chmod 444 /masked && echo z >> /masked
        RUN chmod 0 /d && tar cf /tmp/d.tar /d /s && rm -r /d /s && tar xpf /tmp/d.tar -C / && rm /tmp/d.tar
    """,
    "what is only noted": """
        FROM busybox AS made
        RUN echo x > /s && chmod 000 /s && mkdir -p /d/e && echo y > /d/f && chown 33:8 /d/f && chmod 4050 /d/f
        RUN ln /d/f /d/g && chmod 0 /d
        FROM busybox
        COPY --from=made /s /d /one/
        COPY --from=made --parents /d/f /two/
        COPY --chmod=000 file /closed
        COPY --chmod=0200 tree /writable
        RUN --mount=type=bind,from=made,source=/s,target=/m stat -c '%a %u:%g %n' /m > /l
        RUN --mount=type=bind,from=made,source=/d,target=/n stat -c '%a %u:%g %n' /n /n/* >> /l
        RUN --mount=type=secret,id=token,uid=3,gid=4,mode=0040 stat -c '%a %u:%g' /run/secrets/token >> /l; cat /run/secrets/token >> /l
        RUN --mount=type=bind,target=/context stat -c '%a %u:%g %n' /context/* /context >> /l
        RUN cat /one/f /closed /writable/a >> /l
        RUN <<EOF
        #!/bin/sh -e
        umask 077
        echo program > /out
        EOF
    """,
    "users": """
        FROM busybox
        RUN mkdir -p /srv/w && chown 33:8 /srv/w && chmod 2775 /srv/w && echo x > /srv/w/root && mkdir /srv/w/sub
        RUN su www -s /bin/sh -c 'cd /srv/w; id > id; umask 77; mkdir his; ln -s x /tmp/link; chown 0 id || echo no > no'
        RUN mkfifo /srv/w/pipe && chown 7:7 /srv/w/pipe && stat -c %u:%g /srv/w/pipe > /pipe && cp -a /srv/w/pipe /srv/piped
        RUN rm /srv/w/pipe && cp -a /srv/w /srv/copy && mkdir /srv/out
        RUN tar cf /srv/t.tar -C /srv w && tar xpf /srv/t.tar -C /srv/out && rm /srv/t.tar
        RUN cp /bin/busybox /bin/raised && chown 5:6 /bin/raised && chmod 6755 /bin/raised && [ ! -O /bin/raised ]
        USER www:staff
        WORKDIR /srv/home
        RUN id > /tmp/id && mkdir /tmp/mine && chmod 700 /tmp/mine && echo x > /tmp/mine/f && stat -c %u:%g /tmp/mine/f >> /tmp/id
        RUN echo '#!/bin/sh' > /tmp/script && chmod 755 /tmp/script && /tmp/script && rm -r /tmp/mine
        USER root
        RUN chown root:root /tmp/id && stat -c '%n %u:%g %a' /bin/raised /srv/out/w/* /srv/copy/* > /seen
        RUN find /srv /home /tmp -type f -user 33 | sort >> /seen
    """,
}
#: what the builder makes in a directory that hands down an access control list
HANDED_DOWN = """
    FROM busybox
    COPY --chmod=755 hand-down /usr/hand-down
    RUN mkdir /srv/d && /usr/hand-down /srv/d
    WORKDIR /srv/d/w/v
    COPY file /srv/d/f
    COPY --chown=3:4 file /srv/d/n/m/f
    COPY --chown=5:6 tree /srv/d/
    COPY <<EOF /srv/d/h/
    text
    EOF
    ADD files.tar /srv/d/a/
    RUN cd /srv/d && find . ! -type l | sort | xargs stat -c '%a %u:%g %n' > /srv/seen
    RUN cd /srv/d && echo x >> f && echo y > w/y && rm -r n/m && mkdir h/i
"""
#: what directories are that the container has under the names that a step makes
STANDING = """
    FROM busybox
    RUN test ! -e /app && ! [ -d /app/ ] && ! ls /app 2> /dev/null && mkdir /app && ! mkdir /app 2> /dev/null
    RUN ls -la / > /dev/null && find / -xdev -maxdepth 2 -name nothing && du -sx / > /dev/null
    RUN mkdir -p /app/x && chown 33:34 /app && chmod 2750 /app && touch /app/y && stat -c '%u:%g %a' /app /app/y > /var/app
    RUN cd / && mkdir src && mkdir -m 700 -p code/below && echo x > /code/below/f && ! cd /build 2> /dev/null && ! rmdir /code 2> /dev/null
    RUN cd /srv && rmdir ../src/ && ! [ -e /src ] && rm -rf /code && mkdir -p /code && mkdir /opt /boot && rmdir /boot
    WORKDIR /workspace
    COPY file .
    RUN echo more >> file && rm -r /srv/data && mv /app/y . && grep -q localhost /etc/hosts && chmod 711 / && stat -c %a / > mode
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the archive of a base whose /usr is merged."""
    return merged_busybox(tmp_path_factory.mktemp("base") / "busybox.tar")


@pytest.fixture(scope="module", params=(*KINDS, PREPARED))
def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path, base: Path
) -> Iterator[Box]:
    archive = base if request.param == PREPARED else busybox_archive
    made = Box.make(tmp_path_factory.mktemp("box") / "layer", request.param, archive)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, seed: Path) -> Iterator[NewState]:
    """Give a maker of states for builds on this machine itself."""
    maker = NewState(tmp_path_factory.mktemp("reference"), seed)
    yield maker
    maker.close()


@pytest.mark.slow
def test_package_managers_and_programs_for_users_work(tmp_path: Path) -> None:
    """Debian, with what the tests for a single id do, where the container's user is not number 0."""
    need("runc")
    box = Box(tmp_path / "layer", KINDS[-1])
    box.put("/.img/in/base.tar", fixture_file("debian.tar").read_bytes())
    box.put("/.img/in/Dockerfile", DOCKERFILE)
    box.put("/.img/in/files.tar", archive())
    box.put("/.img/in/owned.deb", package(tmp_path / "owned"))
    img = box.img()
    img.run("import", "/.img/in/base.tar", "debian").ok()
    img.build(Path("/.img/in"), "--network=host", "-o", "type=tar,dest=/.img/in/out.tar", tag="").ok()
    with tarfile.open(box.inside("/.img/in/out.tar")) as result:
        owners = {member.name: (member.uid, member.gid) for member in result}
    box.remove()
    assert {path: owners.get(path) for path in EXPECTED} == EXPECTED


@pytest.fixture(scope="module")
def hand_down(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the compiled program."""
    need("cc")
    program = tmp_path_factory.mktemp("program") / "hand-down"
    source = Path(__file__).parents[1] / "harness/hand_down.c"
    subprocess.run(["cc", "-static", "-Wall", "-Werror", "-o", program, source], check=True)
    return program


def test_what_is_made_where_a_list_is_handed_down_is_the_same_as_elsewhere(
    reference: NewState, busybox_archive: Path, tmp_path: Path, hand_down: Path
) -> None:
    need("runc")
    box = Box.make(tmp_path / "layer", KINDS[0], busybox_archive)
    context = write_context(
        tmp_path / "context", textwrap.dedent(HANDED_DOWN), {"file": "content\n", "tree/sub/b": "b\n"}
    )
    (context / "files.tar").write_bytes(archive())
    shutil.copy(hand_down, context)
    for path in context.rglob("*"):
        if path.is_file():
            box.put(f"/.img/in/{path.relative_to(context)}", path.read_bytes())
    for place in (context, box.inside("/.img/in")):
        for name, mode in {"tree": 0o755, "tree/sub": 0o750, "tree/sub/b": 0o604, "file": 0o640}.items():
            (place / name).chmod(mode)
    reference("handed-down").build(context, "--no-cache", "-o", f"type=oci,dest={tmp_path}/expected.tar", tag="").ok()
    box.img().build(Path("/.img/in"), "--no-cache", "-o", "type=oci,dest=/.img/in/out.tar", tag="").ok()
    ours, theirs = ImageArchive(box.inside("/.img/in/out.tar")), ImageArchive(tmp_path / "expected.tar")
    differences = tree_differences(ours.tree(), theirs.tree(), volatile=VOLATILE)
    box.remove()
    assert not differences
    assert oct(theirs.tree()["srv/d/w/v"].mode & 0o7777) == "0o44"


@pytest.mark.parametrize("name", [*CASES, "standing"])
def test_builds_give_the_same_image_as_elsewhere(
    box: Box, reference: NewState, base: Path, tmp_path: Path, name: str
) -> None:
    dockerfile = textwrap.dedent(CASES.get(name, STANDING))
    if box.kind == PREPARED:
        dockerfile = below_media(dockerfile).replace("ls -A / ", "ls -A /srv ")
    inside = Path("/.img/in", name.replace(" ", "-"))
    files = {"Dockerfile": dockerfile, "file": "content\n", "tree/a": "a\n", "tree/below/b": "b\n", "secret": "s3cret"}
    for path, content in files.items():
        box.put(f"{inside}/{path}", content)
    for path in ("tree", "tree/below"):
        box.inside(f"{inside}/{path}").chmod(0o755)  # steps look at the modes of the context
    write_context(tmp_path, dockerfile, dict(files))
    flags = ("--no-cache", "--network=host")
    expected, found = tmp_path / "expected.tar", box.inside(f"{inside}/out.tar")
    there = reference(f"fake-{box.kind}-{name}".replace(" ", "-"))
    if box.kind == PREPARED:
        there.run("load", "-q", "-i", base).ok()
    secret = ("--secret", f"id=token,src={tmp_path}/secret")
    there.build(tmp_path, *flags, *secret, "-o", f"type=oci,dest={expected}", tag="").ok()
    secret = ("--secret", f"id=token,src={inside}/secret")
    box.img().build(inside, *flags, *secret, "-o", f"type=oci,dest={inside}/out.tar", tag="").ok()
    ours, theirs = ImageArchive(found), ImageArchive(expected)
    assert not [
        *tree_differences(ours.tree(), theirs.tree(), volatile=VOLATILE),
        *config_differences(ours.config, theirs.config),
    ]
    assert [layer_paths(layer) for layer in ours.layers()] == [layer_paths(layer) for layer in theirs.layers()]


def test_the_demo_works(box: Box) -> None:
    check_the_demo_works(box)


def test_the_socket_of_an_agent_is_shown_as_asked_for(box: Box) -> None:
    """Though nobody could give it away; and root may use one that is closed to its owner."""
    place = "/media" if box.kind == PREPARED else ""
    asked = {"uid=3,gid=4,mode=0040": "40 3:4 socket", "uid=0": "600 0:0 socket", "gid=8,mode=0777": "777 0:8 socket"}
    steps = [
        f"RUN --mount=type=ssh,target={place}/a,{flags} stat -c '%a %u:%g %F' {place}/a && [ -w {place}/a ]"
        for flags in asked
    ]
    box.put("/.img/in/agent/Dockerfile", "\n".join(["FROM busybox", *steps]))
    bind = "import socket; socket.socket(socket.AF_UNIX).bind('/.img/in/agent/socket')"
    built = box.shell(
        f'rm -f /.img/in/agent/socket; {" ".join(command_in([sys.executable]))} -c "{bind}"\n'
        "img build --no-cache --progress plain --ssh default=/.img/in/agent/socket /.img/in/agent"
    ).ok()
    shown = [line.split(" ", 2)[2] for line in built.stderr.splitlines() if line.endswith(" socket")]
    assert shown == list(asked.values())


def test_the_doctor_names_the_situation(box: Box) -> None:
    findings = {each["what"]: each for each in json.loads(box.img().run("doctor", "--json").text)["findings"]}
    assert "steps only believe that they are root" in findings["user ids"]["text"]
    assert "`hostUsers: false`" in findings["user ids"]["hint"]
    assert findings["executor swap"]["text"] == "works, and is what `auto` takes"


def test_a_killed_build_is_undone_where_names_move_one_level_deeper(tmp_path: Path, base: Path) -> None:
    box = Box.make(tmp_path / "layer", PREPARED, base)
    check_killed_builds_are_undone(box, 8)
    box.remove()


#: what has no place where no step can make a name in the root directory -> the error
NO_PLACE = {
    "FROM busybox\nWORKDIR /new\nRUN true\n": "img's own image must have a directory `/new`",
    "FROM busybox\nCOPY Dockerfile /entrypoint\nRUN true\n": "the image has the file `/entrypoint`",
    "FROM busybox\nRUN --mount=type=cache,target=/cache true\n": "img's own image must have a directory `/cache`",
    "FROM scratch\nCOPY --from=busybox /usr/bin/busybox /bin/sh\nRUN true\n": "merged /usr",
    "FROM busybox\nRUN touch /entrypoint\n": "exit code: 1",
    "FROM busybox\nRUN true # in a volume\n": "the image has `/srv`, and the container's own cannot be moved away",
}


def test_what_has_no_place_is_refused_in_one_line(tmp_path: Path, base: Path) -> None:
    box = Box.make(tmp_path / "layer", PREPARED, base)
    (tmp_path / "volume").mkdir()
    box.give(tmp_path / "volume")
    for dockerfile, words in NO_PLACE.items():
        box.put("/.img/in/refused/Dockerfile", dockerfile)
        img = box.img()
        assert isinstance(img.situation, Unmodified)
        if "volume" in dockerfile:
            img = img.on(img.situation.but(volumes=(("/srv", f"{tmp_path}/volume"),)))
        img.build(Path("/.img/in/refused"), "--no-cache").refused(4 if "exit" in words else 7, words)
        left = [path.name for name in OWNED for path in box.inside(name).glob("*")]
        assert set(left) <= {"hosts", "resolv.conf"}
    box.remove()
