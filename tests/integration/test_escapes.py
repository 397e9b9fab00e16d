"""Steps that try to leave their container, in real builds with the default profile, by every executor and kind of id mapping.

The attempts that take system calls are in ``harness/escapes.c``; one build makes them all.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.build_server import Workshop
from harness.host import AS_ROOT, need
from harness.img import Img, remove_as_mapped_root, write_context
from harness.processes import running, wait_until

pytestmark = pytest.mark.rootless

SOURCE = Path(__file__).parents[1] / "harness" / "escapes.c"
ATTEMPTS = re.findall(r"ATTEMPT\((\w+)\)", SOURCE.read_text().partition("attempts[] = {")[2])
EXECUTORS = ["userns", "runc"]
SURROUNDINGS = [*((executor, mapping) for executor in EXECUTORS for mapping in ("full", "single")), ("crun", "full")]
WORD = "only-outside-7c1f"
SEARCHED = "/run /dev/shm /tmp /var /etc /root /srv /proc/[0-9]*/environ /proc/[0-9]*/cmdline"


@pytest.fixture(scope="session")
def prober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the compiled attempts, a static program."""
    need("cc")
    program = tmp_path_factory.mktemp("escapes") / "escapes"
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-Werror", "-o", program, SOURCE], check=True)
    return program


@contextmanager
def abstract_sockets() -> Iterator[None]:
    """Listen at the abstract names that the prober tries, and see to it that they can be reached from here."""
    with ExitStack() as opened:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            name = f"\0img-escape-{os.getpid()}-{int(kind)}"
            server = opened.enter_context(socket.socket(socket.AF_UNIX, kind))
            server.bind(name)
            if kind == socket.SOCK_STREAM:
                server.listen()
            with socket.socket(socket.AF_UNIX, kind) as client:
                client.connect(name)
        yield


@pytest.fixture(scope="module", params=SURROUNDINGS, ids=["-".join(case) for case in SURROUNDINGS])
def attempts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seed: Path, prober: Path
) -> Iterator[dict[str, str]]:
    """Give what each attempt came to, by its name."""
    executor, mapping = request.param
    if executor != "userns":
        need(executor)
    if mapping == "single" and AS_ROOT:
        pytest.skip("root has all ids")
    directory = tmp_path_factory.mktemp("attempts")
    shutil.copytree(seed, directory / "state")
    img = Img(directory / "state", directory)
    if executor == "crun":
        img, executor = img.with_environment(IMG_RUNTIME="crun"), "runc"
    if mapping == "single":
        img = img.with_environment(IMG_IDMAP="single")
    (directory / "witness").write_text(WORD)
    context = directory / "context"
    context.mkdir()
    shutil.copy(prober, context / "escapes")
    command = f"/escapes {os.getpid()} {directory}/witness"
    write_context(context, f"FROM busybox\nCOPY escapes /\nRUN mkdir -p /srv && {command} > /results\n")
    with abstract_sockets():
        img.run("build", "--executor", executor, "-o", f"type=local,dest={directory}/out", context).ok()
    lines = (directory / "out/results").read_text().splitlines()
    yield dict(line.split(" ", 1) for line in lines)
    remove_as_mapped_root(directory / "state")
    remove_as_mapped_root(directory / "out")


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_system_calls_lead_nowhere(attempts: dict[str, str], attempt: str) -> None:
    assert attempts[attempt].startswith("held: ")


# --- whole builds -----------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that no step may see or change."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "witness").write_text(WORD)
    return directory


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    """The name of an executor that this host has."""
    if request.param == "runc":
        need("runc")
    return str(request.param)


def untouched(outside: Path) -> bool:
    return [path.name for path in outside.iterdir()] == ["witness"] and (outside / "witness").read_text() == WORD


@pytest.mark.parametrize("number", range(3, 13))
def test_working_directory_is_no_way_to_a_descriptor_of_the_builder(
    workshop: Workshop, outside: Path, executor: str, number: int
) -> None:
    look = f"pwd; ls -l .; cat ../../../../../../..{outside}/witness ../../../../../../../etc/shadow"
    built = workshop.build(f"WORKDIR /proc/self/fd/{number}\nRUN {look}", executor=executor).refused()
    assert WORD not in built.log
    assert "root:" not in built.log


@pytest.mark.parametrize("target", ["/data", "/data/sub", "/up/sub", "/chain/sub"])
def test_mount_targets_behind_symlinks_stay_inside(
    workshop: Workshop, outside: Path, executor: str, target: str
) -> None:
    workshop.write({"file": "from the context"})
    kinds = [f"type=bind,target={target}/b", f"type=cache,target={target}/c", f"type=tmpfs,target={target}/t"]
    mounts = " ".join(f"--mount={kind}" for kind in (*kinds, f"type=secret,id=s,target={target}/s/key"))
    workshop.build(
        f"""
        FROM busybox
        RUN ln -s {outside} /data && ln -s ../../../../../../../..{outside} /up && ln -s /data /chain
        RUN {mounts} ls {target} && echo x > {target}/c/new && cat {target}/s/key {target}/b/file && ! ls {target}/witness
        """,
        executor=executor,
        secrets={"s": "s3cret"},
    ).ok()
    assert untouched(outside)


@pytest.mark.parametrize("target", ["/proc", "/proc/sys/kernel", "/proc/self/fd", "/bin/../proc", "/dev"])
def test_nothing_is_mounted_over_proc_and_dev(workshop: Workshop, executor: str, target: str) -> None:
    workshop.write({"file": ""})
    built = workshop.build(f"RUN --mount=type=bind,rw,target={target} touch /reached", executor=executor)
    assert built.refused("cannot mount at").code == 4
    assert "stage" not in built.error


@pytest.mark.parametrize("target", ["/sys", "/sys/fs/cgroup", "/dev/shm"])
def test_mounts_over_the_kernels_file_systems_lead_nowhere(
    workshop: Workshop, outside: Path, executor: str, target: str
) -> None:
    workshop.write({"file": ""})
    script = f"touch {target}/mine && ! ls {outside}/witness && ! cat /proc/1/root{outside}/witness"
    workshop.build(f"RUN --mount=type=bind,rw,target={target} {script}", executor=executor).ok()
    assert untouched(outside)


def test_devices_that_the_image_brings_along_are_not_opened(workshop: Workshop, executor: str) -> None:
    """A pipe in place of /dev/null would make whoever opens it wait for ever."""
    workshop.build("RUN rm -rf /dev/null; mkdir -p /x && mkfifo /x/null\nRUN echo fine", executor=executor).ok()
    mount = "--mount=type=bind,from=base,source=/x/null,target=/dev/null"
    body = f"FROM busybox AS base\nRUN mkdir /x && mkfifo /x/null\nFROM busybox\nRUN {mount} test -p /dev/null\n"
    workshop.build(body, executor=executor, no_cache=True)  # ends


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc", "run"])
def test_system_directories_of_an_image_that_are_symlinks_lead_nowhere(
    workshop: Workshop, outside: Path, executor: str, name: str
) -> None:
    workshop.write({f"tree/{name}@": str(outside)})
    script = f"echo x > /{name}/new; mkdir -p {outside}/more; ls -l /"
    built = workshop.build(
        f"FROM scratch\nCOPY --from=busybox /bin /bin\nCOPY tree/ /\nRUN --mount=type=secret,id=s {script}",
        executor=executor,
        secrets={"s": "s3cret"},
    )
    assert built.code == (4 if name in ("proc", "sys", "dev") else 0), str(built)
    assert untouched(outside)


@pytest.mark.parametrize("program", ["/script", "/link", "/proc/self/exe", "/nested"])
def test_programs_that_are_the_builder_itself_do_not_start(workshop: Workshop, executor: str, program: str) -> None:
    built = workshop.build(
        f"""
        FROM busybox
        RUN printf '#!/proc/self/exe\\nprint("escaped")\\n' > /script && chmod +x /script && ln -s /proc/self/exe /link
        RUN printf '#!/script\\n' > /nested && chmod +x /nested
        RUN ["{program}", "-c", "print('es' + 'caped')"]
        """,
        executor=executor,
        no_cache=True,
    ).refused()
    assert "escaped" not in built.log


def program_with_loader(loader: str, *, bits: int) -> bytes:
    """Return a program, not of much use, that wants to be loaded by *loader*; see elf(5)."""
    path = loader.encode() + b"\0"
    machine = {"x86_64": (62, 3), "aarch64": (183, 40)}[os.uname().machine][bits == 32]
    word, header_size, segment_size = ("Q", 64, 56) if bits == 64 else ("I", 52, 32)
    start = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    start += struct.pack(
        f"<HHI3{word}I6H", 3, machine, 1, 0x1000, header_size, 0, 0, header_size, segment_size, 2, 0, 0, 0
    )
    at = header_size + 2 * segment_size
    total = at + len(path)
    if bits == 64:
        segments = struct.pack("<IIQQQQQQ", 3, 4, at, at, at, len(path), len(path), 1)
        segments += struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, total, total, 4096)
    else:
        segments = struct.pack("<8I", 3, at, at, at, len(path), len(path), 4, 1)
        segments += struct.pack("<8I", 1, 0, 0, 0, total, total, 5, 4096)
    return start + segments + path


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize(
    "loader", ["/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe", "/link", "/script", "/nested"]
)
def test_the_builder_itself_is_not_the_loader_of_a_program(
    workshop: Workshop, executor: str, loader: str, bits: int
) -> None:
    workshop.write(
        {"program": program_with_loader(loader, bits=bits), "nested": program_with_loader("/link", bits=bits)}
    )
    built = workshop.build(
        """
        FROM busybox
        COPY --chmod=755 program nested /
        RUN ln -s /proc/self/exe /link && printf '#!/link\\n' > /script && chmod +x /script
        RUN ["/program"]
        """,
        executor=executor,
        no_cache=True,
    ).refused()
    assert executor == "runc" or "leads out of the container" in built.log, str(built)


def test_secrets_of_other_steps_are_out_of_reach(workshop: Workshop, executor: str) -> None:
    # Both run at the same time and know it of each other by files in a cache; the pattern does not match itself.
    meet = f"--mount=type=cache,id={executor},target=/meet"
    pattern = f"{WORD[:-1]}[{WORD[-1]}]"
    workshop.build(
        f"""
        FROM busybox AS holder
        RUN {meet} --mount=type=secret,id=s --mount=type=secret,id=s,env=WORD \
            touch /meet/held && grep -q . /run/secrets/s && \
            for i in $(seq 300); do [ -e /meet/done ] && exit; sleep 0.1; done; exit 1
        FROM busybox AS seeker
        RUN {meet} for i in $(seq 300); do [ -e /meet/held ] && break; sleep 0.1; done; [ -e /meet/held ] || exit 3; \
            grep -rsl '{pattern}' {SEARCHED} /meet && exit 4; ls /run/secrets && exit 5; touch /meet/done
        FROM busybox
        COPY --from=holder /etc/motd /one
        COPY --from=seeker /etc/motd /two
        """,
        executor=executor,
        secrets={"s": WORD},
        no_cache=True,  # the other executor has built the same
    ).ok()


def test_secrets_of_another_build_are_out_of_reach(img: Img, tmp_path: Path, executor: str) -> None:
    """The other build is of the same user, on the same state directory, and runs meanwhile."""
    (tmp_path / "secret").write_text(WORD)
    holder, seeker = tmp_path / "holder", tmp_path / "seeker"
    holder.mkdir()
    seeker.mkdir()
    marker = f"7{os.getpid()}.5"
    write_context(holder, f"FROM busybox\nRUN --mount=type=secret,id=s --mount=type=secret,id=s,env=W sleep {marker}\n")
    builder = img.start(
        "build", "-t", "never", "--executor", executor, "--secret", f"id=s,src={tmp_path}/secret", holder
    )
    try:
        wait_until(lambda: bool(running(f"sleep {marker}")), "the other build holds the secret")
        pattern = f"{WORD[:-1]}[{WORD[-1]}]"
        look = f"grep -rsl '{pattern}' {SEARCHED} /proc/*/root/run && exit 4; ls {img.state} && exit 5"
        write_context(seeker, f"FROM busybox\nRUN {look}; ps | grep {marker[:-1]}[5] && exit 6; true\n")
        img.build(seeker, "--executor", executor).ok()
    finally:
        builder.kill()
        builder.wait(10)


# --- what must keep working -------------------------------------------------------------------------------------------


def test_ordinary_users_become_root_by_set_user_id_programs(workshop: Workshop, executor: str) -> None:
    """As sudo does; with no_new_privs they could not."""
    built = workshop.build(
        r"""
        FROM busybox
        RUN printf 'root::0:0:root:/:/bin/sh\nbob::1000:1000::/:/bin/sh\n' > /etc/passwd
        RUN rm /bin/su && cp /bin/busybox /bin/su && chmod 4755 /bin/su
        USER bob
        RUN echo before=$(id -u) after=$(/bin/su root -c 'id -u')
        """,
        executor=executor,
        no_cache=True,
    ).ok()
    assert "before=1000 after=0" in built.log
