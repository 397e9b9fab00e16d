"""What a hostile step does to its builder in containers that nobody changed, where no namespace is between them.

`test_unmodified_containers` tries all ways out of a step; here is what its image might plant for the builder to load or to execute, and
what holds where a step has the container's own /proc.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness import prepared
from harness.bases import below_media, merged_busybox
from harness.host import AS_ROOT, need
from harness.img import COMMAND
from harness.unmodified import Box
from img_core.testing.registry import DockerRegistry

HARNESS = Path(__file__).parents[1] / "harness"
#: containers in which a step and its builder share a /proc, and what holds there all the same
SHARED = ["cri-o-root", *["restricted-open-root", "restricted-prepared"] * AS_ROOT]
HOLDS = ("its_memory", "its_secrets", "its_trace", "its_descriptor", "its_loader")
KINDS = ["root", "host-users-false", *SHARED] if AS_ROOT else SHARED

#: programs of the image that take the names of those that a builder runs
PROGRAMS = "git gpg ssh newuidmap newgidmap getsubids sh python3 docker-credential-x mount tar gzip zstd pigz"
PLANTED = f"""\
FROM busybox
COPY evil.so /lib/libnss_evil.so.2
RUN mkdir -p /usr/lib /usr/lib64 /lib/x86_64-linux-gnu /usr/local/bin && cp /lib/libnss_evil.so.2 /evil.so \\
 && for name in libnss_files.so.2 libnss_dns.so.2 libgcc_s.so.1 libz.so.1 gconv/UTF-16.so; do \\
    for place in /lib /usr/lib /usr/lib64 /lib/x86_64-linux-gnu; do mkdir -p $place/gconv; cp /evil.so $place/$name; done; done \\
 && echo /evil.so > /etc/ld.so.preload && echo "hosts: evil files dns" > /etc/nsswitch.conf && echo "passwd: evil" >> /etc/nsswitch.conf \\
 && for name in {PROGRAMS}; do printf "#!/bin/busybox sh\\ntouch /evil-was-here\\n" > /usr/local/bin/$name; done \\
 && chmod 755 /usr/local/bin/* \\
 && echo "import os; os.mknod('/evil-was-here')" > /usr/lib/sitecustomize.py && cp /usr/lib/sitecustomize.py / \\
 && echo "1.2.3.4 localhost" > /hosts && echo "nameserver 1.2.3.4" > /resolv && mkdir -p /etc/ssl && echo > /etc/ssl/openssl.cnf
RUN ! test -e /evil-was-here
COPY Dockerfile /
RUN ! test -e /evil-was-here && kill -0 $PPID; true
"""


def box_of(kind: str, dockerfile: str, directory: Path, archive: Path) -> tuple[Box, str]:
    """Return a container, and *dockerfile* with names that it can have there."""
    if kind == "restricted-prepared":
        archive, dockerfile = merged_busybox(directory / "merged.tar"), below_media(dockerfile)
    return Box.make(directory / "layer", kind, archive), dockerfile


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_an_image_plants_is_loaded_or_executed(
    registry: DockerRegistry, tmp_path: Path, busybox_archive: Path, kind: str
) -> None:
    need("cc", "runc")
    library = tmp_path / "evil.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, HARNESS / "evil.c"], check=True)
    box, dockerfile = box_of(kind, PLANTED, tmp_path, busybox_archive)
    place = Path(f"{box.home}/in/planted")
    box.put(f"{place}/Dockerfile", dockerfile)
    box.put(f"{place}/evil.so", library.read_bytes())
    name = f"localhost:{registry.address.rpartition(':')[2]}/planted:{kind}"  # a name, that has to be found
    output = ("-o", f"type=image,push=true,name={name}", "-o", f"type=local,dest={place}/out")
    box.img().build(place, "--no-cache", "--network=host", *output, tag="").ok()
    assert (box.inside(f"{place}/out") / "etc/ld.so.preload").exists()
    assert not list(box.inside(f"{place}/out").rglob("evil-was-here"))
    assert not box.inside("/evil-was-here").exists()
    box.remove()


@pytest.mark.parametrize("kind", SHARED)
def test_the_builder_keeps_its_secrets_where_all_processes_see_each_other(
    tmp_path: Path, busybox_archive: Path, kind: str
) -> None:
    need("cc", "runc")
    run = f"RUN /climb $BUILDER /nowhere {' '.join(HOLDS)} > /results 2> /told; (setsid sleep 1000 &) ; true"
    text = f"FROM busybox\nARG BUILDER\nCOPY climb /\nUSER root\nRUN mkdir -p /srv\n{run}\n"
    box, dockerfile = box_of(kind, text, tmp_path, busybox_archive)
    program, place = tmp_path / "climb", f"{box.home}/in/climb"
    subprocess.run(["cc", "-static", "-pthread", "-O1", "-o", program, HARNESS / "climb.c"], check=True)
    box.put(f"{place}/climb", program.read_bytes())
    box.inside(f"{place}/climb").chmod(0o755)
    box.put(f"{place}/Dockerfile", dockerfile)
    command = " ".join(prepared.command_in([*COMMAND]))
    build = f"exec {command} -s {box.img().state} build --network=host --build-arg BUILDER=$$ -o type=local,dest={place}/out {place}"
    box.shell(f"sh -c '{build}'; ! pidof sleep").ok()
    out = box.inside(f"{place}/out") / ("media" if kind == "restricted-prepared" else "")
    results = dict(line.split() for line in (out / "results").read_text().splitlines())
    told = (out / "told").read_text()
    box.remove()
    assert results == dict.fromkeys(HOLDS, "held"), told
