"""What Dockerfiles really run, in containers that nobody changed: thirty-five commands of Debian, each with a result of its own.

As root (`nox -s containers`), with the Debian of .ci/fixtures. What would need a network is a repository of packages in the image.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.bases import below_media
from harness.host import AS_ROOT, fixture_file, need
from harness.unmodified import Box

_NO_SET_USER_ID = "steps cannot gain privileges there, so set-user-id programs run as who starts them"
_ONE_USER = "all files belong to one user there, so who a step believes to be is not kept from the files of others"
#: kind of the container -> the commands that cannot work there, and why; docs/reference/unmodified-images.md is made from it
KINDS: dict[str, dict[str, str]] = {
    "root": {"become-from-user": _NO_SET_USER_ID},
    "host-users-false": {"become-from-user": _NO_SET_USER_ID},
    "cri-o-root": {"setcap": "it takes the capability `SETFCAP`"},
    "host-users-false-drop-all": {"user-step": _ONE_USER},
    "restricted-open-root": {"user-step": _ONE_USER},
    "restricted-prepared": {"user-step": _ONE_USER},
}
#: those that are tried without IMG_TEST_EVERY_CONTAINER
SAMPLE = ("root", "cri-o-root", "restricted-prepared")

_PACKAGE = r"""mkdir -p /repo/p/DEBIAN /repo/p/usr/lib/thing && cd /repo && echo data > p/usr/lib/thing/data
printf '%s\n' 'Package: thing' 'Version: 1' 'Architecture: all' 'Maintainer: a <a@b>' 'Description: x' 'Depends: passwd' > p/DEBIAN/control
printf '%s\n' '#!/bin/sh' 'set -e' 'useradd -r thing' 'chown thing /usr/lib/thing' ldconfig > p/DEBIAN/postinst
echo 'update-alternatives --install /usr/bin/t t /bin/true 1' >> p/DEBIAN/postinst
chmod 755 p/DEBIAN/postinst && dpkg-deb -b p thing.deb
{ dpkg-deb -f thing.deb; echo 'Filename: ./thing.deb'; echo Size: $(stat -c %s thing.deb); } > Packages
echo SHA256: $(sha256sum thing.deb | cut -d' ' -f1) >> Packages
echo 'deb [trusted=yes] file:/repo ./' > /etc/apt/sources.list""".replace("\n", "; ")
_PROGRAM = """\
printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <unistd.h>\\nint main(int c, char **v) { int id = atoi(v[1]); \
if (setgid(id) || setuid(id)) { perror("setuid"); return 1; } execvp(v[2], v + 2); return 1; }' > /tmp/become.c \
&& gcc -o /usr/local/bin/become /tmp/become.c && chmod 4755 /usr/local/bin/become"""
_MAPS = """\
printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <string.h>\\n#include <limits.h>\\nint main(void) { char l[4096], p[PATH_MAX]; \
int seen = 0; FILE *m = fopen("/proc/self/maps", "r"); if (!realpath("/proc/self/exe", p)) return 2; \
while (fgets(l, sizeof l, m)) seen |= strstr(l, p) != 0; puts(p); return !(seen && !strcmp(p, "/srv/maps")); }' > /tmp/maps.c \
&& gcc -o /srv/maps /tmp/maps.c && /srv/maps"""

#: name -> what is run, and as whom; the later ones use what the earlier ones made
COMMANDS: dict[str, tuple[str, int]] = {
    "apt-update": (f"{_PACKAGE} && apt-get update && apt-cache policy thing | grep -q 'Candidate: 1'", 0),
    "apt-install": ("apt-get install -y --no-install-recommends thing && test $(stat -c %U /usr/lib/thing) = thing", 0),
    "apt-python": ("python3 -c 'import ssl, sqlite3, ctypes' && py3compile -p python3-minimal", 0),
    "apt-gcc": ("gcc --version && ld --version", 0),
    "compile": (
        "mkdir -p /b && cd /b && for i in 1 2 3 4 5 6; do printf '#include <stdio.h>\\nint main(){puts(\"hi\");}' > a$i.c; "
        "gcc -O1 -o a$i a$i.c && ./a$i > /dev/null || exit 1; done",
        0,
    ),
    "make": (
        "cd /b && printf 'all: x1 x2 x3\\nx%%: a%%.c\\n\\tgcc -o $@ $<\\n' > Makefile && make -j2 && ./x1 | grep hi",
        0,
    ),
    "useradd": ("groupadd -r web && useradd -m -u 1000 -g web -s /bin/sh app && id app && test -d /home/app", 0),
    "chown": (
        "mkdir -p /srv/a/b && touch /srv/a/b/f && chown -R app:web /srv/a && test $(stat -c %U:%G /srv/a/b/f) = app:web",
        0,
    ),
    "su": ("su app -c 'id -un && touch /home/app/x' && test $(stat -c %U /home/app/x) = app", 0),
    "chpasswd": ("echo app:secret | chpasswd && grep -q '^app:[$]' /etc/shadow", 0),
    "user-step": (
        "test $(id -u) = 1000 && touch /tmp/u && ! touch /etc/u 2> /dev/null && test $(stat -c %u /tmp/u) = 1000",
        1000,
    ),
    "become": (f"{_PROGRAM} && test $(become 1000 id -un) = app && runuser -u app -- id -un | grep app", 0),
    "become-from-user": ("test $(become 0 id -u) = 0", 1000),
    "setcap": (
        "cp /bin/true /usr/local/bin/t && setcap cap_net_raw+ep /usr/local/bin/t && getcap /usr/local/bin/t | grep cap_net_raw",
        0,
    ),
    "dac": (
        "mkdir /ro && echo x > /ro/f && chmod 444 /ro/f && chmod 555 /ro && echo y >> /ro/f && touch /ro/g && chown app /ro && touch /ro/h",
        0,
    ),
    "venv": (
        "python3 -m venv --without-pip /opt/v && /opt/v/bin/python -c 'import sys; assert sys.prefix == \"/opt/v\"'",
        0,
    ),
    "tar": (
        "cd /tmp && tar cf x.tar /usr/lib/python3 /etc && mkdir d && tar xpf x.tar -C d && diff -r --no-dereference /etc d/etc "
        "&& test $(stat -c %U d/usr/lib/python3) = root && rm -rf d x.tar",
        0,
    ),
    "find": (
        "test $(find / -xdev -path /proc -prune -o -type f -print 2> /dev/null | wc -l) -gt 5000 && du -sx /usr",
        0,
    ),
    "mkfifo": ("mkfifo /tmp/ff && (echo hi > /tmp/ff & cat /tmp/ff) | grep hi", 0),
    "bash-procsub": (
        "bash -c 'diff <(echo a) <(echo a) && cat <(echo hi) && echo x | tee >(cat > /tmp/t1) > /dev/null'",
        0,
    ),
    "dev-stdin": (
        "echo hello | cat /dev/stdin | grep hello && echo x > /dev/stdout && echo y > /dev/stderr && ls /dev/fd",
        0,
    ),
    "dev-null-zero": (
        "head -c 100 /dev/zero | wc -c | grep 100 && echo x > /dev/null && test -c /dev/null && test $(head -c 4 /dev/urandom | wc -c) = 4",
        0,
    ),
    "dev-shm": (
        "echo x > /dev/shm/x && python3 -c 'import multiprocessing as m; l = m.Lock(); from multiprocessing import shared_memory as s; "
        "h = s.SharedMemory(create=True, size=99); h.close(); h.unlink(); print(m.Pool(2).map(abs, [-1, -2]))'",
        0,
    ),
    # The shell does not wait until what it has started is `sleep`, and pidof(8) does not show what waits for the disk.
    "processes": (
        'sleep 600 & for n in $(seq 300); do test "$(pidof sleep)" = $! && break || sleep 0.1; done '
        "&& test $(pidof sleep) = $! && lscpu && nproc && kill $!",
        0,
    ),
    "sockets": (
        'getent hosts localhost; python3 -c \'import socket as s; a = s.socket(); a.bind(("127.0.0.1", 0)); a.listen(); '
        'b = s.create_connection(a.getsockname()); u = s.socket(s.AF_UNIX); u.bind("/tmp/s")\'',
        0,
    ),
    "locale": (
        "LC_ALL=C.UTF-8 perl -CS -e 'use POSIX; setlocale(LC_ALL, q()) || exit 1; print chr 233' | iconv -f utf8 -t latin1 | wc -c",
        0,
    ),
    "services": (
        "printf '[Unit]\\n[Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/x.service "
        "&& DPKG_MAINTSCRIPT_PACKAGE=thing deb-systemd-helper enable x.service "
        "&& test -L /etc/systemd/system/multi-user.target.wants/x.service",
        0,
    ),
    "interpreter-path": (
        "perl -e 'exit $^X ne q(/usr/bin/perl)' && python3 -c 'import os, sys; assert sys.executable and os.cpu_count()'",
        0,
    ),
    "ownership": (
        "cd /srv && install -o app -g web -m 640 /etc/hostname . 2> /dev/null || touch hostname; test -O / && chmod g+s /srv/a",
        0,
    ),
    "static": ("gcc -static -o /srv/static /b/a1.c && /srv/static | grep hi", 0),
    "self-exe": (
        'python3 -c \'import os; assert os.readlink("/proc/self/exe").startswith("/usr/bin/python3"); '
        'os.execv("/proc/self/exe", ["x", "-c", "print(1)"])\' | grep 1',
        0,
    ),
    "proc-misc": (
        "grep -q processor /proc/cpuinfo && grep -q Name /proc/self/status && cat /proc/mounts > /dev/null && test -d /proc/self "
        "&& cat /proc/sys/kernel/osrelease && ls /proc/self/fd > /dev/null",
        0,
    ),
    "daemon": ("(setsid sleep 300 > /dev/null 2>&1 &); echo started", 0),
    "maps": (_MAPS, 0),
    "dpkg-verify": ("dpkg --audit && dpkg -V coreutils && rm -rf /var/lib/apt/lists/*", 0),
}


def dockerfile() -> str:
    """Return one step for each command; those that work leave their name in /worked, the others their last words."""
    lines = ["FROM debian", "RUN install -m 666 /dev/null /worked && install -m 777 -d /words"]
    user = 0
    for name, (command, who) in COMMANDS.items():
        if who != user:
            lines.append(f"USER {who}")
            user = who
        script = f"({command}) > /words/{name} 2>&1 && echo {name} >> /worked || true"
        lines.append(f"RUN {script}")
    return "\n".join([*lines, "USER 0", "FROM scratch", "COPY --from=0 /worked /words /"]) + "\n"


def check_the_commands_work(kind: str, tmp_path: Path, busybox_archive: Path) -> None:
    need("runc")
    rootfs = fixture_file("debian.tar")
    box = Box.make(tmp_path / "layer", kind, busybox_archive)
    box.put(f"{box.home}/in/debian.tar", rootfs.read_bytes())
    prepared = kind == "restricted-prepared"
    box.put(f"{box.home}/in/commands/Dockerfile", below_media(dockerfile()) if prepared else dockerfile())
    box.img().run("import", f"{box.home}/in/debian.tar", "debian").ok()
    place = f"{box.home}/in/commands"
    box.img().build(Path(place), "--network=host", "--no-cache", "-o", f"type=local,dest={place}/out", tag="").ok()
    out = box.inside(f"{place}/out") / ("media" if prepared else "")
    failed = set(COMMANDS) - set((out / "worked").read_text().split())
    words = {name: (out / name).read_text()[-300:] for name in failed ^ set(KINDS[kind]) if (out / name).exists()}
    box.remove()
    assert failed == set(KINDS[kind]), words


def test_there_are_thirty_five_of_them() -> None:
    assert len(COMMANDS) == 35


if AS_ROOT:  # what an ordinary user can start is one of these, and it takes long
    kinds = KINDS if "IMG_TEST_EVERY_CONTAINER" in os.environ else SAMPLE
    test_the_commands_work = pytest.mark.parametrize("kind", kinds)(check_the_commands_work)
