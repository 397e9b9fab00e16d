"""Builds where the tree of a step takes the place of the container's root directory: CRI-O's root, who may not chroot.

Under runc, with an image in which img lives in ``/.img`` alone (`harness.prepared`); as root also with the one of contrib/container.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.bases import merged_busybox
from harness.compare import VOLATILE, config_differences, tree_differences
from harness.fixtures import NewState
from harness.host import AS_ROOT, need
from harness.img import Img, write_context
from harness.oci import ImageArchive
from harness.prepared import LINKS, OWNED
from harness.situations import UNMODIFIED, Unmodified
from harness.unmodified import Box
from img_core.testing.registry import DockerRegistry
from integration.test_containers import write_wheels
from integration.test_unmodified_containers import BUILDS, check_the_demo_works, layer_paths
from integration.test_unmodified_templates import CONTRIB, write_base

GUARD_LOG = "/.img/in/guard.log"

CASES = {
    **{name: text for name, text in BUILDS.items() if name != "processes"},
    "processes": """
        FROM busybox
        RUN (setsid sleep 1000 &) ; sleep 1000 & echo started
        RUN ! ps | grep -q '[s]leep 1000' && readlink /proc/self/exe > /exe && test -x /proc/self/cwd/bin
        RUN mkdir /log && ln -s /dev/stdout /log/out && echo logged > /log/out && echo again | tee -a /log/out
        RUN chmod 4755 /bin/busybox && su www -s /bin/sh -c 'ping -c 1 nowhere 2>&1 | grep -q "bad address" && id -u > /tmp/uid'
        USER www
        RUN grep ^Uid /proc/self/status > /tmp/ids && busybox su root -c 'id -u > /root/uid' < /dev/null || echo refused > /tmp/su
        USER root
        RUN --network=none ! wget -q http://127.0.0.1:1/ 2> /dev/null
        RUN mkdir /new && echo x > /new/file && ln -s new/file /link && rmdir /home/nobody 2> /dev/null; chmod 700 / && chown 33:34 /
        RUN touch /names && ls -A / | grep -v '^[.]img' | grep -v '^sys$' > /names
    """,
}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path) -> Iterator[Box]:
    made = Box.make(tmp_path_factory.mktemp("box") / "layer", "cri-o-root", busybox_archive)
    yield made
    log = made.inside(GUARD_LOG)
    loaded = log.read_text() if log.exists() else ""
    made.remove()
    assert not loaded, "the builder loaded or started something while the tree of a step was in place"


def guarded(box: Box) -> Img:
    """Return the command, with a guard that notes what it, its zygote and what that starts load while the tree of a step is in place."""
    return replace(box.img(), program=(sys.executable, "/.img/source/tests/harness/guarded.py", GUARD_LOG))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, seed: Path) -> Iterator[NewState]:
    """Give a maker of states for builds on this machine itself."""
    maker = NewState(tmp_path_factory.mktemp("reference"), seed)
    yield maker
    maker.close()


def names(box: Box) -> list[str]:
    """Return the top-level names of the container between two commands."""
    return sorted(path.name for path in box.inside("/").iterdir())


@pytest.mark.parametrize("name", CASES if AS_ROOT else ["processes"])
def test_builds_give_the_same_image_as_elsewhere(box: Box, reference: NewState, tmp_path: Path, name: str) -> None:
    dockerfile = textwrap.dedent(CASES[name])
    inside = Path("/.img/in", name.replace(" ", "-"))
    files = {"Dockerfile": dockerfile, "file": "content\n", "tree/a": "a\n", "tree/below/b": "b\n", "secret": "s3cret"}
    for path, content in files.items():
        box.put(f"{inside}/{path}", content)
    write_context(tmp_path, dockerfile, dict(files))
    flags = ("--no-cache", "--network=host")
    expected, found = tmp_path / "expected.tar", box.inside(f"{inside}/out.tar")
    there = reference(f"swap-{name}".replace(" ", "-"))
    secret = ("--secret", f"id=token,src={tmp_path}/secret")
    there.build(tmp_path, *flags, *secret, "-o", f"type=oci,dest={expected}", tag="").ok()
    before = names(box)
    secret = ("--secret", f"id=token,src={inside}/secret")
    guarded(box).build(inside, *flags, *secret, "-o", f"type=oci,dest={inside}/out.tar", tag="").ok()
    assert names(box) == before
    ours, theirs = ImageArchive(found), ImageArchive(expected)
    assert not [
        *tree_differences(ours.tree(), theirs.tree(), volatile=VOLATILE),
        *config_differences(ours.config, theirs.config),
    ]
    assert [layer_paths(layer) for layer in ours.layers()] == [layer_paths(layer) for layer in theirs.layers()]
    assert "s3cret" not in found.read_bytes().decode("latin-1")


def test_the_demo_works(box: Box) -> None:
    check_the_demo_works(box)


def test_the_doctor_names_the_situation(box: Box) -> None:
    done = box.img().run("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.text)["findings"]}
    assert "root of a container that can make no namespace" in findings["user ids"]["text"]
    assert findings["executor swap"]["text"] == "works, and is what `auto` takes"
    assert "SYS_CHROOT" in findings["executor chroot"]["text"]
    assert "SYS_CHROOT" in findings["isolation"]["hint"]


@pytest.mark.parametrize(
    ("instruction", "status", "words"),
    [
        ("RUN --security=insecure true", 4, "needs a privileged container"),
        ("RUN exit 7", 4, "exit code: 7"),
        ("RUN nonsense", 4, "exit code: 127"),
        (
            "RUN --mount=type=tmpfs,target=/dev/shm true",
            4,
            "leaves `/proc`, `/sys` and what is in `/dev` to the container",
        ),
        ("COPY Dockerfile /.img/file\nRUN true", 7, "the image has `/.img`"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(box: Box, instruction: str, status: int, words: str) -> None:
    box.put("/.img/in/refused/Dockerfile", f"FROM busybox\n{instruction}\n")
    before = names(box)
    built = guarded(box).build(Path("/.img/in/refused"), "--no-cache", "--allow", "security.insecure")
    built.refused(status, words)
    assert names(box) == before


def test_what_it_needs_is_said_in_one_line(box: Box, tmp_path: Path) -> None:
    box.put("/.img/in/needs/Dockerfile", "FROM scratch\nRUN true\n")
    (tmp_path / "volume").mkdir()
    box.give(tmp_path / "volume")
    situation = box.img().situation
    assert isinstance(situation, Unmodified)
    volume = situation.but(volumes=(("/.img/volume", f"{tmp_path}/volume"),))
    elsewhere = replace(box.img(), state=Path("/var/state"))
    in_volume = replace(box.img(), state=Path("/.img/volume/state"), situation=volume)
    for img, words in (
        (elsewhere, "needs a state directory below `/.img`"),
        (in_volume, "in the container's own layer, not in a volume"),
    ):
        img.build(Path("/.img/in/needs"), "--no-cache", "--executor", "swap").refused(7, words)
    foreign = Box(tmp_path / "layer", "root")
    foreign.put("/context/Dockerfile", "FROM scratch\nRUN true\n")
    img = foreign.img().on(
        Unmodified(str(foreign.layer), capabilities=situation.capabilities, visible=situation.visible)
    )
    done = img.build(Path("/context"), "--no-cache")
    foreign.remove()
    done.refused(
        7, "`chroot` needs the capability SYS_CHROOT", "`swap` needs an image of img that lives in `/.img` alone"
    )


AGENT = """
import os, socket, subprocess, sys, threading
os.makedirs("/agent", exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind("/agent/socket")
listener.listen()
def serve():
    while True:
        client, _ = listener.accept()
        client.recv(5)
        client.sendall(bytes((0, 0, 0, 5, 12, 0, 0, 0, 0)))
threading.Thread(target=serve, daemon=True).start()
build = [sys.executable, "-m", "img_core", "-s", "/.img/state", "build", "--no-cache", "--ssh", "default=/agent/socket", "/.img/in/agent"]
code = subprocess.run(build).returncode
os.unlink("/agent/socket")
os.rmdir("/agent")
sys.exit(code)
"""
CLIENT = """
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un address = {AF_UNIX};
    char answer[9];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(address.sun_path, getenv("SSH_AUTH_SOCK"));
    if (connect(fd, (void *)&address, sizeof address))
        return 1;
    return write(fd, "\\0\\0\\0\\1\\13", 5) != 5 || read(fd, answer, 9) != 9 || answer[4] != 12;
}
"""


def test_an_agent_is_reached_from_a_step_though_its_socket_is_away(box: Box, tmp_path: Path) -> None:
    need("cc")
    (tmp_path / "client.c").write_text(CLIENT)
    subprocess.run(["cc", "-static", "-o", tmp_path / "client", tmp_path / "client.c"], check=True)
    box.put("/.img/in/agent/client", (tmp_path / "client").read_bytes())
    box.put(
        "/.img/in/agent/Dockerfile",
        "FROM busybox\nCOPY --chmod=755 client /\nRUN --mount=type=ssh /client\nRUN ! /client\n",
    )
    box.put("/.img/in/agent/agent.py", AGENT)
    situation = box.img().situation
    assert situation is not None
    command = situation.wrap(sys.executable, "/.img/in/agent/agent.py")
    done = subprocess.run(command, capture_output=True, text=True, env=box.environment(), timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("victim", ["$PPID", "-1"])
def test_a_step_that_kills_who_watches_it_fails_and_leaves_nothing(box: Box, victim: str) -> None:
    box.put("/.img/in/kills/Dockerfile", f"FROM busybox\nRUN (setsid sleep 1000 &); kill -9 {victim}; sleep 1000\n")
    before = names(box)
    done = box.img().build(Path("/.img/in/kills"), "--no-cache")
    assert done.returncode in (4, 7), str(done)
    assert "Traceback" not in done.stderr
    assert len(done.error.splitlines()) == 1
    assert names(box) == before


#: reads what belongs to every Python process of the container, all of which are img's, and tells what could be read
SPY = """
FROM busybox
RUN for p in /proc/[0-9]*; do case $(readlink $p/exe 2> /dev/null || cat $p/comm) in *python*|img*) echo "$p" >> /seen; \
    for f in environ mem maps auxv io fd/0; do head -c 1 $p/$f > /dev/null 2>&1 && echo "$p/$f" >> /read; done; \\
    for f in root cwd; do ls $p/$f/ > /dev/null 2>&1 && echo "$p/$f" >> /read; done;; esac; done; \\
    test $(wc -l < /seen) -ge 3 && touch /read
"""


def test_a_step_sees_nothing_of_the_builder_but_its_files(box: Box) -> None:
    box.put("/.img/in/spy/Dockerfile", SPY)
    box.img().build(Path("/.img/in/spy"), "--no-cache", "-o", "type=local,dest=/.img/in/spy/out", tag="").ok()
    assert box.inside("/.img/in/spy/out/read").read_text() == ""


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ("mkdir /volume", "`/volume`, and the container's own cannot be moved"),
        ("touch /volume/x", "has changed `/volume`"),
    ],
)
def test_a_volume_never_passes_for_a_directory_of_the_image(
    box: Box, tmp_path: Path, instruction: str, words: str
) -> None:
    (tmp_path / "volume").mkdir(mode=0o777)
    box.give(tmp_path / "volume")
    base = "FROM busybox AS base\nWORKDIR /volume\nFROM base" if "mkdir" in instruction else "FROM busybox"
    box.put("/.img/in/volume/Dockerfile", f"{base}\nRUN test -d /volume\nRUN {instruction}\n")
    situation = box.img().situation
    assert isinstance(situation, Unmodified)
    there = guarded(box).on(situation.but(volumes=(("/volume", f"{tmp_path}/volume"),)))
    there.build(Path("/.img/in/volume"), "--no-cache").refused(7, words)
    assert not list((tmp_path / "volume").glob("[!x]*"))


def test_on_request_it_runs_set_user_id_programs_where_chroot_cannot(tmp_path: Path, busybox_archive: Path) -> None:
    box = Box.make(tmp_path / "layer", "root-apart", busybox_archive)
    need("cc")
    source = '#include <unistd.h>\nint main(void) { setuid(0); return execl("/bin/id", "id", "-u", (char *)0); }\n'
    (tmp_path / "suid.c").write_text(source)
    subprocess.run(["cc", "-static", "-w", "-o", tmp_path / "suid", tmp_path / "suid.c"], check=True)
    box.put("/.img/in/suid/suid", (tmp_path / "suid").read_bytes())
    dockerfile = "FROM busybox\nCOPY --chmod=4755 suid /bin/\nUSER www\nRUN suid > /tmp/is; id -u > /tmp/was\n"
    box.put("/.img/in/suid/Dockerfile", dockerfile)
    for executor, effect in (("auto", "33"), ("swap", "0")):
        box.img().build(
            Path("/.img/in/suid"), "--no-cache", "--executor", executor, "-o", "type=local,dest=/.img/in/suid/out", tag=""
        ).ok()  # fmt: skip
        assert box.inside("/.img/in/suid/out/tmp/is").read_text().split() == [effect]
        assert box.inside("/.img/in/suid/out/tmp/was").read_text().split() == ["33"]
    box.remove()


def test_the_guard_sees_what_is_loaded(box: Box) -> None:
    situation = box.img().situation
    assert situation is not None
    script = (
        "import sys; sys.path[:0] = ['/.img/source/tests']; from harness import guarded; guarded.watch('/.img/in/sees.log'); "
        "import os; os.mkdir('/.img-aside-etc'); import wave; os.rmdir('/.img-aside-etc'); import aifc"
    )
    subprocess.run(
        situation.wrap(sys.executable, "-W", "ignore", "-c", script), env=box.environment(), check=True, timeout=60
    )
    assert [line.split()[1:3] for line in box.inside("/.img/in/sees.log").read_text().splitlines()][:1] == [
        ["import", "wave"]
    ]


def test_much_output_is_shown_while_the_tree_is_in_place(box: Box) -> None:
    box.put("/.img/in/much/Dockerfile", "FROM busybox\nRUN yes | head -c 300000; echo; echo the end\n")
    for progress in ("plain", "rawjson", "quiet"):
        guarded(box).build(Path("/.img/in/much"), "--no-cache", "--progress", progress, timeout=100).ok()


def test_a_context_that_is_away_while_a_step_runs_is_read_before_or_after(box: Box) -> None:
    writing = "RUN mkdir -p /context && echo wrong > /context/file && sleep 0.3\n"
    copying = "RUN true\nCOPY file /1\nRUN true\nCOPY file /2\nRUN true\nCOPY file /3\n"
    box.put(
        "/context/Dockerfile",
        f"FROM busybox AS long\n{writing * 3}FROM busybox\n{copying}COPY --from=long /context/file /4\n",
    )
    box.put("/context/file", "right")
    guarded(box).build(Path("/context"), "--no-cache", "-o", "type=local,dest=/.img/in/away", tag="").ok()
    found = {name: box.inside(f"/.img/in/away/{name}").read_text() for name in "1234"}
    assert found == {"1": "right", "2": "right", "3": "right", "4": "wrong\n"}


def test_steps_that_share_a_locked_cache_mount_take_turns(box: Box) -> None:
    stage = "RUN --mount=type=cache,target=/c,sharing=locked,id=one touch /c/a && sleep 0.2 && echo > /made\n"
    lines = "".join(f"FROM busybox AS s{n}\nRUN echo {n} > /n\n{stage}" for n in range(3))
    collected = "".join(f"COPY --from=s{n} /made /{n}\n" for n in range(3))
    box.put("/.img/in/locked/Dockerfile", f"{lines}FROM scratch\n{collected}")
    box.img().run("build", "--no-cache", "/.img/in/locked", timeout=60).ok()


#: kills builds at moments that are spread over their time, and in between while a step is in place; prints what it found.
#: The builder starts as a fork of a process that has everything imported, so a moment takes no start of an interpreter.
KILLER = """
import json, os, signal, subprocess, sys, time
from img_core.cli import main
import img_core.cli._frame, img_core.cli.build, img_core.cli.ls, img_core.api.session, img_executor_swap._executor
state = ["-s", "/.img/state"]
build = [*state, "build", "-q", "--no-cache", "-o", "type=local,dest=/.img/in/killed/out"]
whole, endless = [*build, "/.img/in/killed/context"], [*build, "/.img/in/killed/endless"]
undoing = [*state, "ls"], [*state, "push", "nothing"], [*state, "history", "nothing"], [*state, "prune"]
moments = int(sys.argv[1])

def names():
    found = set(os.listdir("/"))
    for name in found - {"proc", "sys", "dev", ".img"}:
        if os.path.isdir("/" + name) and not os.path.islink("/" + name):
            found |= {name + "/" + each for each in os.listdir("/" + name)}
    return found

before = names()

def start(words):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in 0, 1, 2:
            os.dup2(null, fd)
        try:
            main(words)
        finally:
            sys.stdout.flush()
            os._exit(sys.exc_info()[1].code if isinstance(sys.exc_info()[1], SystemExit) else 99)
    return pid

def end(words):
    return os.waitstatus_to_exitcode(os.waitpid(start(words), 0)[1])

assert end(whole) == 0
started = time.monotonic()
assert end(whole) == 0
seconds, in_place, not_back = time.monotonic() - started, 0, []
for moment in range(moments):
    pid = start((whole, endless)[moment % 2])
    if moment % 2:
        while not os.path.exists("/.img/in/begun"):
            time.sleep(0.002)
        in_place += os.path.exists("/bin/busybox") and any(os.path.lexists(place + "/.img-note") for place in ("", "/usr"))
    else:
        time.sleep(seconds * (0.1 + 0.9 * moment / moments))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if moment % 2:
        os.unlink("/.img/in/begun")
        if moment % 4 == 1:  # else the next build finds what is left
            end(undoing[moment // 4 % 4])
            if names() != before:
                not_back.append(moment)
assert end(whole) == 0
step = open("/.img/in/killed/out/etc/step").read()
print(json.dumps({"in place": in_place, "not back": not_back, "lost": sorted(before ^ names()), "step": step}))
"""


def check_killed_builds_are_undone(box: Box, moments: int) -> None:
    steps = "RUN mkdir /srv/top && echo step > /etc/step && mv /srv/top /srv/moved\nRUN rmdir /srv/moved; ls / > /etc/names\n"
    endless = "RUN mkdir /srv/top && touch /.img/in/begun && sleep 1000\n"
    box.put("/.img/in/killed/context/Dockerfile", f"FROM busybox\n{steps}")
    box.put("/.img/in/killed/endless/Dockerfile", f"FROM busybox\n{endless}")
    box.put("/.img/in/killed/killer.py", KILLER)
    situation = box.img().situation
    assert situation is not None
    command = situation.wrap(sys.executable, "/.img/in/killed/killer.py", str(moments))
    done = subprocess.run(command, capture_output=True, text=True, env=box.environment(), timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    told = {"in place": moments // 2, "not back": [], "lost": [], "step": "step\n"}
    assert json.loads(done.stdout.splitlines()[-1]) == told


def test_a_killed_build_is_undone_by_the_next_command(box: Box) -> None:
    check_killed_builds_are_undone(box, 50 if AS_ROOT else 8)


CACHE = "--mount=type=cache,target=/c,id=shared,sharing=locked"
#: starts commands while a step has its files in place, one of which would say where it looks for images; prints what each said and when
BESIDE = '''
import json, os, subprocess, sys, time
command = [sys.executable, "-m", "img_core", "-s", "/.img/state"]
build = [*command, "build", "--no-cache", "-q", "-o"]
def run(*words):
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
first = run(*build, "type=local,dest=/.img/in/beside/out", "/.img/in/beside/context")
while not os.path.exists("/.img/in/beside/begun"):
    assert first.poll() is None, first.communicate()
    time.sleep(0.01)
program = """
import sys
from img_core.api import Client
client = Client(state="/.img/state", notice=lambda text: print(text, file=sys.stderr, flush=True), in_process=%s)
client.%s
"""
building = 'build("/beside", outputs={"type": "local", "dest": "/.img/in/beside/%s"})'
others = {"ls": run(*command, "ls"), "build": run(*build, "type=local,dest=/.img/in/beside/other", "/beside")}
clients = {name: (False, building % name) for name in ("one", "two")}
clients |= {"here": (True, building % "here"), "names": (False, "images()"), "logins": (False, "logins()")}
others |= {name: run(sys.executable, "-c", program % how) for name, how in clients.items()}
said = {name: other.stderr.readline() for name, other in others.items()}
waiting = [name for name, other in others.items() if other.poll() is None]
open("/.img/in/beside/go", "w").close()
codes = {name: (print(other.communicate(), file=sys.stderr), other.returncode)[1] for name, other in {**others, "first": first}.items()}
print(json.dumps({"said": said, "waiting": waiting, "codes": codes}))
'''


def test_another_command_waits_while_a_step_has_its_files_in_place(box: Box) -> None:
    """It would take settings of the image for its own, and not find its context. Four have the same step, and a cache that one may use."""
    steps = (
        "RUN mkdir -p /etc/img /beside && echo 'no such = setting' > /etc/img/config.toml && touch /.img/in/beside/begun "
        "&& while ! test -e /.img/in/beside/go; do sleep 0.1; done\nRUN true\n"
    )
    box.put("/.img/in/beside/context/Dockerfile", f"FROM busybox\n{steps}")
    box.put("/beside/Dockerfile", f"FROM busybox\nCOPY file /\nRUN {CACHE} cat /file > /copy && touch /c/file\n")
    box.put("/beside/file", "right")
    box.put("/.img/in/beside/beside.py", BESIDE)
    situation = box.img().situation
    assert situation is not None
    command = situation.wrap(sys.executable, "/.img/in/beside/beside.py")
    done = subprocess.run(command, capture_output=True, text=True, env=box.environment(), timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert all("waiting for a build" in line for line in found["said"].values()), found
    assert found["waiting"] == ["ls", "build", "one", "two", "here", "names", "logins"]
    assert set(found["codes"].values()) == {0}, done.stderr
    assert [box.inside(f"/.img/in/beside/{made}/copy").read_text() for made in ("other", "one", "two", "here")] == [
        "right"
    ] * 4


#: target of Containerfile.swap -> the container it is for, and what is in its root directory while nothing is built
IMAGES = {
    "": ("cri-o-root", {".img"}),
    "restricted": ("restricted-prepared", {".img", *OWNED, *LINKS}),
}


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Img, Path]:
    """Give the command that builds the images, with their base, and a directory of wheels."""
    directory = tmp_path_factory.mktemp("builder")
    img = Img(directory / "state", directory)
    write_base(directory / "base.tar")
    img.run("import", directory / "base.tar", "base").ok()
    return img, write_wheels(directory / "wheels")


#: a Pod that the policy "restricted" admits, and what of its settings makes the container that is tried
MANIFEST = CONTRIB / "kubernetes/restricted/pod.yaml"
ADMITTED = {
    "runAsNonRoot": True,
    "runAsUser": UNMODIFIED["restricted-prepared"]["user"],
    "runAsGroup": UNMODIFIED["restricted-prepared"]["user"],
    "seccompProfile": {"type": "RuntimeDefault"},
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def restricted_pod(registry: str) -> tuple[dict[str, str], str]:
    """Return the variables and the command of that Pod, for an image that goes to *registry*."""
    yaml = pytest.importorskip("yaml", reason="needs pyyaml, one of the development dependencies")
    spec = yaml.safe_load(MANIFEST.read_text())["spec"]
    (container,) = spec["containers"]
    assert {**spec["securityContext"], **container["securityContext"]} == ADMITTED
    assert container["image"] == "registry.example.com/tools/img:restricted"
    assert container["command"] == ["/.img/bin/sh", "-c"]
    assert all(each["mountPath"].startswith("/.img/") for each in container["volumeMounts"])
    variables = {each["name"]: each["value"] for each in container["env"]}
    (command,) = container["args"]
    return {**variables, "TARGET": f"{registry}/team/app:latest", "CONTEXT": "."}, command


def check_the_image_boots_and_builds(
    builder: tuple[Img, Path], registry: DockerRegistry, busybox_archive: Path, tmp_path: Path, target: str
) -> None:
    kind, names = IMAGES[target]
    img, wheels = builder
    img.build(
        CONTRIB / "container", "-f", CONTRIB / "container/Containerfile.swap", "--build-arg", "BASE=base",
        "--build-context", f"wheels={wheels}", "--target", target, tag="img:swap",
    ).ok()  # fmt: skip
    img.run("unpack", "-o", tmp_path / "root", "img:swap").ok()
    assert {path.name for path in (tmp_path / "root").iterdir()} == names
    config = json.loads(img.run("inspect", "img:swap").ok().text)["config"]
    box = Box(tmp_path / "layer", kind, image=tmp_path / "root")
    base = merged_busybox(tmp_path / "merged.tar") if target else busybox_archive
    box.put(
        "/.img/work/Dockerfile",
        "FROM busybox AS build\nRUN echo made > /srv/made\nFROM busybox\nCOPY --from=build /srv/made /\n",
    )
    box.put("/.img/work/base.tar", base.read_bytes())
    exported = " ".join(config["Env"])
    variables, pushing = restricted_pod(registry.address) if target else ({}, "true")
    script = f"img load -q -i base.tar && img doctor && img build -o type=oci,dest=out.tar . && {pushing} && ls -A /"
    situation = box.img().situation
    assert situation is not None
    done = subprocess.run(
        situation.wrap("/.img/bin/sh", "-c", f"export {exported}; cd /.img/work && {script}"), capture_output=True, text=True, timeout=120,
        env={**box.environment(), **variables}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "executor swap" in done.stdout
    assert set(done.stdout.splitlines()[-len(names) - 4 :]) >= names
    assert "made" in ImageArchive(box.inside("/.img/work/out.tar")).tree()
    box.remove()


if AS_ROOT:  # what an ordinary user builds from that base takes too long for what it shows
    test_the_image_boots_and_builds = pytest.mark.parametrize("target", IMAGES)(check_the_image_boots_and_builds)
