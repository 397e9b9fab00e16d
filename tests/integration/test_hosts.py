"""The same build on every kind of host: laptops, login nodes without sub-ids, pods, containers, old kernels.

Every surrounding is real, see `harness.situations`; what cannot work in it has to say why in one line.
"""

from __future__ import annotations

import getpass
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.compare import VOLATILE, config_differences, tree_differences
from harness.fixtures import NewState
from harness.host import AS_ROOT, need
from harness.img import COMMAND, Img, environment, write_context
from harness.oci import ImageArchive
from harness.situations import NORMAL, POD, VOLUME, Situation
from img_core.linux import mounts, syscalls
from img_core.linux._remount import copy_with_attributes
from img_core.linux.userns import sub_id_ranges
from img_core.testing.namespaces import run_inside

pytestmark = [pytest.mark.rootless, pytest.mark.skipif(AS_ROOT, reason="root needs none of this")]

DOCKERFILE = """\
FROM busybox AS build
RUN mkdir /out && echo program > /out/program && chmod 4755 /out/program && chown -R 33:34 /out && ln -s program /out/link
FROM busybox
COPY --from=build /out /opt/out
COPY --chown=www app /srv/app
RUN test -r /proc/self/status && test -r /proc/uptime && head -c 4 /dev/urandom | wc -c && test -w /dev/shm
RUN rm -r /srv/data && mkdir /srv/data && echo new > /srv/data/new && chown www:staff /srv/data/new
USER www
WORKDIR /home/www
RUN echo mine > file
"""
#: executor, what IMG_RUNTIME says, backend
USERNS = ("userns", "", "overlayfs")
NATIVE = ("userns", "", "native")
RUNC = ("runc", "runc", "overlayfs")
CRUN = ("runc", "crun", "overlayfs")
#: each single trouble, then all of them at once; "old": Linux 5.10 had no call after 440, later ones are missing there
TROUBLES = {
    "normal": {},
    "masked-proc": {"masked_proc": True},
    "no-cgroup": {"cgroups": False},
    "no-runtime-dir": {"runtime_directory": False},
    "no-fuse": {"small_dev": True},
    "old-kernel": {"newest_call": 440},
    "pod": {"masked_proc": True, "cgroups": False, "runtime_directory": False, "small_dev": True},
}
IDS = {"full": {"id_tools": "capable"}, "single": {"id_tools": "missing"}}
HOSTS = {
    **{
        f"{ids}-{trouble}": Situation(**IDS[ids], **TROUBLES[trouble])  # type: ignore[arg-type]
        for ids, trouble in itertools.product(IDS, TROUBLES)
    },
    "container-root": POD.but(user="root"),
    "container-setuid-tools": POD.but(id_tools="setuid"),
    "restricted-pod": POD.but(no_new_privileges=True),
    "pod-on-old-kernel": POD.but(newest_call=440),
}
MASKED = "needs a fresh /proc, which this container (masked /proc) may not mount"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_context(tmp_path_factory.mktemp("context"), DOCKERFILE, {"app": "app"})


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, seed: Path, context: Path) -> Iterator[ImageArchive]:
    """Give what this host as it is makes of the context."""
    directory = tmp_path_factory.mktemp("reference")
    maker = NewState(directory, seed)
    maker().build(context, "-o", f"type=oci,dest={directory}/out.tar", tag="").ok()
    yield ImageArchive(directory / "out.tar")
    maker.close()


def differences(found: ImageArchive, reference: ImageArchive) -> list[str]:
    return [
        *tree_differences(found.tree(), reference.tree(), volatile=VOLATILE),
        *config_differences(found.config, reference.config),
    ]


@pytest.mark.parametrize("name", HOSTS)
def test_the_demo_builds_on_every_host_or_says_why_not(
    img: Img, context: Path, reference: ImageArchive, tmp_path: Path, name: str
) -> None:
    need("runc", "crun", "newuidmap")
    host = img.on(HOSTS[name])
    for executor, runtime, backend in (USERNS, NATIVE, RUNC) if "pod" in name else (USERNS, RUNC, CRUN):
        dest = tmp_path / f"{executor}-{runtime}-{backend}.tar"
        chosen = host.with_flags("-b", backend).with_environment(IMG_RUNTIME=runtime)
        done = chosen.build(context, "--no-cache", "--executor", executor, "-o", f"type=oci,dest={dest}", tag="")
        if executor == "runc" and HOSTS[name].masked_proc:
            done.refused(7, MASKED)
            break  # the other one says the same
        done.ok()
        assert not differences(ImageArchive(dest), reference), f"{executor} {runtime} {backend}"


def test_auto_goes_on_where_the_state_lies_on_an_overlay_and_debug_says_why(img: Img, context: Path) -> None:
    """The root of a container is an overlay, and no overlay takes another one as its writable layer."""
    img.state.parent.chmod(0o755)
    host = img.on(POD.but(overlay=str(img.state)))
    done = host.run("--debug", "build", "-t", "built", context).ok()
    debug = [line for line in done.stderr.splitlines() if line.startswith("debug: ")]
    assert "debug: executor `userns` is used" in debug
    assert "debug: snapshotter `native` is used" in debug  # the writable layer is on a tmpfs, which `moving` refuses
    assert any("`moving` has to see every change" in line for line in debug)
    refused = next(line for line in debug if line.startswith("debug: snapshotter `overlayfs` is not used: "))
    assert "not supported as upperdir" in refused
    assert "debug: " not in host.build(context, "--no-cache").ok().stderr
    host.with_flags("-b", "overlayfs").build(context, "--no-cache").refused(7, "not supported as upperdir")
    findings = {finding["what"]: finding for finding in json.loads(host.run("doctor", "--json").ok().text)["findings"]}
    assert findings["state directory"]["status"] == "worse"
    assert "give it a volume" in findings["state directory"]["hint"]
    assert findings["fuse"]["status"] == "note"
    assert "snapshotter fuse-overlayfs" not in findings  # would be of no use there


@pytest.mark.parametrize("executor", ["userns", "runc"])
@pytest.mark.parametrize(
    ("host", "own"),
    [
        (NORMAL, False),  # Landlock hides what a step must not reach
        (NORMAL.but(newest_call=440), True),
        (NORMAL.but(newest_call=440, small_dev=True), False),  # no /dev/net/tun
    ],
    ids=["landlock", "own-network", "neither"],
)
def test_abstract_sockets_are_kept_from_steps_or_the_doctor_says_so(
    img: Img, tmp_path: Path, host: Situation, own: bool, executor: str
) -> None:
    need(executor if executor == "runc" else "slirp4netns")
    assert os.access("/dev/net/tun", os.R_OK | os.W_OK)
    img = img.on(host)
    write_context(tmp_path / "a", "FROM busybox\nRUN ls /sys/class/net && ls -d /sys/class/net/tap0\n")
    done = img.build(tmp_path / "a", "--no-cache", "--executor", executor)
    assert (done.returncode == 0) is own, str(done)
    img.build(tmp_path / "a", "--network=host", "--no-cache").refused(4)
    write_context(tmp_path / "b", "FROM busybox\nRUN --network=host true\n")
    asked = img.build(tmp_path / "b")
    asked.refused(2, "network.host is not allowed") if own else asked.ok()
    findings = {finding["what"]: finding for finding in json.loads(img.run("doctor", "--json").ok().text)["findings"]}
    assert findings["abstract sockets"]["status"] == ("worse" if host.newest_call and not own else "ok")


def run_script(situation: Situation, script: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        situation.wrap("sh", "-c", script),
        capture_output=True,
        text=True,
        env=environment(home),
        check=False,
        timeout=120,
    )


def test_a_state_directory_without_execution_is_enough_for_overlays(tmp_path: Path, busybox_archive: Path) -> None:
    """As /tmp and scratch file systems are mounted on many clusters."""
    volume, home = tmp_path / "volume", tmp_path / "home"
    home.mkdir()
    write_context(volume, "FROM busybox\nRUN id\n", {"base.tar": busybox_archive.read_bytes()})
    img = f"{' '.join(COMMAND)} -s {VOLUME}/state"
    script = f"cd {VOLUME} && export HOME=$PWD && {img} load -q -i base.tar && {img} build -q -t x . && {img} doctor"
    situation = POD.but(volume=str(volume), executable=False)
    done = run_script(situation, script, home)
    assert done.returncode == 0, done.stderr
    assert "mounted `noexec`: steps run programs from there only by overlayfs" in done.stdout


def test_owners_are_not_lost_without_a_word_where_no_attribute_can_keep_them(
    tmp_path: Path, busybox_archive: Path
) -> None:
    """One id, and a state directory as on some network file systems."""
    volume, home = tmp_path / "volume", tmp_path / "home"
    home.mkdir()
    dockerfiles = {
        "copied": "FROM busybox\nCOPY --chown=33 base.tar /x\n",
        "changed": "FROM busybox\nRUN mkdir /x && chown 33 /x\n",
        "none": "FROM busybox\nRUN mkdir /x && chown 0:0 /x && echo > /dev/shm/y && chown 33 /dev/shm/y\n",
    }
    write_context(volume, "", {"base.tar": busybox_archive.read_bytes(), **dockerfiles})
    img = f"{' '.join(COMMAND)} -s {VOLUME}/state"
    builds = "; ".join(f"{img} build -t x -f {name} . ; echo ended with $? >&2" for name in dockerfiles)
    script = f"cd {VOLUME} && export HOME=$PWD && {img} load -q -i base.tar >&2 && {img} doctor >&2; {builds}"
    situation = POD.but(id_tools="missing", volume=str(volume), attributes=False)
    done = run_script(situation, script, home)
    said = done.stderr
    assert "Traceback" not in said, said
    assert [line[-1] for line in said.splitlines() if line.startswith("ended with ")] == ["7", "4", "0"], said
    assert (
        "Error: cannot note that files belong to 33:33: the file system of the state directory keeps no attributes"
        in said
    )
    assert "chown: /x: Not supported" in said or "chown: /x: Operation not supported" in said, said
    assert "hint: owners: choose another place with `-s DIR`" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"newest_call": 423}, ("too old", "pidfd_open", "is not available")),  # Linux 5.0, RHEL 8
        ({"newest_call": 435}, ("too old", "openat2")),  # Linux 5.4
        ({"namespaces": False}, ("cannot create a user namespace", "limit on namespaces")),
    ],
    ids=["linux-5.0", "linux-5.4", "no-namespaces"],
)
def test_a_host_where_nothing_can_work_is_refused_in_one_line(
    img: Img, context: Path, changes: dict[str, object], words: tuple[str, ...]
) -> None:
    host = img.on(NORMAL.but(**changes))
    host.build(context).refused(7, *words)
    doctor = host.run("doctor")
    assert doctor.returncode == 7, str(doctor)
    assert any(line.startswith("bad") and words[0] in line for line in doctor.text.splitlines()), str(doctor)
    assert doctor.stderr == ""


@pytest.mark.parametrize(
    ("changes", "text", "hint"),
    [
        ({"id_tools": "missing"}, "`newuidmap` is not on PATH", "install newuidmap"),
        (
            {"sub_ids": False},
            "`/etc/subuid` gives no ids to",
            "usermod --add-subuids {free}-{end} --add-subgids {free}-{end}",
        ),
        ({"id_tools": "setuid"}, "not permitted", "setcap cap_setuid+ep /"),
        ({"no_new_privileges": True}, "failed: ", "allowPrivilegeEscalation: true"),
    ],
    ids=["no-tools", "no-sub-ids", "setuid-tools", "no-new-privileges"],
)
def test_the_doctor_says_why_there_is_one_id_only_and_what_gives_more(
    img: Img, changes: dict[str, object], text: str, hint: str
) -> None:
    done = img.on(POD.but(**changes)).run("doctor", "--json").ok()
    findings = {finding["what"]: finding for finding in json.loads(done.text)["findings"]}
    ids = findings["user ids"]
    assert ids["status"] == "worse"
    assert text in ids["text"]
    # Somebody has all sub-ids of the surrounding from 100000 on, which are this user's without the first thousand.
    count = sub_id_ranges("/etc/subuid", user=getpass.getuser(), uid=os.getuid())[0][1] - 1000
    assert hint.format(free=100_000 + count, end=165_535 + count) in ids["hint"]
    assert findings["fuse"]["status"] == findings["cgroups"]["status"] == findings["executor runc"]["status"] == "note"
    assert findings["executor userns"]["status"] == "ok"


def test_the_doctor_and_a_probing_list_of_plugins_agree(img: Img) -> None:
    host = img.on(POD)
    rows = [line.split("\t") for line in host.run("plugins", "ls", "--probe").ok().text.splitlines()]
    runc = next([cell for cell in row if cell] for row in rows if row[0] == "executor" and "runc" in row)
    assert runc[2] == "unsupported"
    assert MASKED in runc[-1]
    assert "unsupported" not in img.run("plugins", "ls", "--kind", "executor").ok().text


def test_attributes_reach_submounts_without_mount_setattr(tmp_path: Path) -> None:
    """What `mounts.bind` does on kernels before 5.12."""
    (tmp_path / "tree/a b").mkdir(parents=True)
    (tmp_path / "file").touch()

    def body() -> None:
        syscalls.move_mount(mounts.tmpfs(), os.fspath(tmp_path / "tree/a b"))
        before = Path("/proc/self/mountinfo").read_text()
        flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
        original = syscalls.open_tree(syscalls.AT_FDCWD, os.fspath(tmp_path / "tree"), flags)
        tree = copy_with_attributes(original, syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOEXEC)
        for name in ("x", "a b/x"):
            with pytest.raises(OSError, match="Read-only"):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=tree))
        for path in (tree, os.open("a b", os.O_PATH, dir_fd=tree)):
            assert os.fstatvfs(path).f_flag & os.ST_NOEXEC
        (tmp_path / "tree/still-writable").touch()
        file = syscalls.open_tree(syscalls.AT_FDCWD, os.fspath(tmp_path / "file"))
        file = copy_with_attributes(file, syscalls.MOUNT_ATTR_RDONLY)
        assert os.fstatvfs(file).f_flag & os.ST_RDONLY
        assert Path("/proc/self/mountinfo").read_text() == before
        assert os.path.isdir("/sys/kernel")

    run_inside("single", body)


def test_no_thread_outlives_a_change_of_attributes_without_mount_setattr() -> None:
    """A second thread makes the C library change ids twice, and abort where a filter answers one of the two."""

    def body() -> None:
        flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
        for _ in range(200):
            fd = copy_with_attributes(syscalls.open_tree(syscalls.AT_FDCWD, "/dev/null", flags), 0)
            assert len(os.listdir("/proc/self/task")) == 1
            os.close(fd)

    run_inside("single", body)
