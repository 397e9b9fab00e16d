"""Commands of an ordinary user under `img_lib_containers.fake_root`, in a directory of this machine: they see what root would see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host import AS_ROOT

pytestmark = [pytest.mark.rootless, pytest.mark.skipif(AS_ROOT, reason="root needs not believe it")]

#: make a file without a name, closed to its owner, and give it one
UNNAMED = (
    'import os; fd = os.open(".", os.O_TMPFILE | os.O_WRONLY, 0); os.write(fd, b"x");'
    'os.link(f"/proc/self/fd/{fd}", "named", src_dir_fd=0)'
)
#: the error of a call that programs do without
OPENAT2 = 'import ctypes; libc = ctypes.CDLL(None, use_errno=True); libc.syscall(437, -100, b".", 0, 0); print(ctypes.get_errno())'

#: the same of setxattrat(2), getxattrat(2), removexattrat(2)
NEWER_ATTRIBUTES = (
    "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
    'for number in 463, 464, 466:\n    libc.syscall(number, -100, b".", 0, b"user.img.owner", 0, 0)\n    print(ctypes.get_errno())'
)
#: a link that leads nowhere, open itself: is it a link, and whose, for fstat(2) and statx(2)
OPENED = (
    'import ctypes, os, stat, struct; fd = os.open("l", os.O_PATH | os.O_NOFOLLOW); found = os.fstat(fd); more = bytes(256)\n'
    'ctypes.CDLL(None).statx(fd, b"", 0x1100, 0x7FF, more); uid, _, mode = struct.unpack_from("=IIH", more, 20)\n'
    "print(stat.S_ISLNK(found.st_mode), found.st_uid, stat.S_ISLNK(mode), uid)"
)
#: an access control list (acl(5)) whose entry for the owner allows nothing
CLOSING_LIST = (
    "import os, struct; none = 0xffffffff; rows = (1, 0, none), (2, 4, 7), (4, 0, none), (16, 4, none), (32, 0, none)\n"
    'os.setxattr("f", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows))'
)
#: the same for what is made in a directory, which then does not ask for the umask
DEFAULT_LIST = (
    "import os, struct, sys; rows = (1, int(sys.argv[1]), 0xffffffff), (4, 4, 0xffffffff), (32, 4, 0xffffffff)\n"
    'os.setxattr("d", "system.posix_acl_default", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows))'
)

#: what a command does: its script, and what it prints
ROWS = {
    "who am I": ("id -u; id -g; python3 -c 'import os; print(*os.getresuid())'", "0 0 0 0 0"),
    "own files": ("echo > f; stat -c %u:%g f .; [ -O f ] && echo mine", "0:0 0:0 mine"),
    "chown": ("echo > f; chown 12:34 f; chgrp 5 f; stat -c %u:%g f; ln -s f l; chown -h 6 l; stat -c %u l", "12:5 6"),
    "install": ("install -o 33 -g 8 -m 440 /etc/hostname f; cp -a f g; stat -c '%u:%g %a' f g; echo > f; wc -l < f",
                "33:8 440 33:8 440 1"),
    "tar": ("echo > f; chown 7:8 f; chmod 4755 f; tar cf t f; rm f; tar xpf t; stat -c '%u:%g %a' f", "7:8 4755"),
    "becoming a user": ("setpriv --reuid=33 --regid=34 --clear-groups sh -c 'id -u; id -g; id -G; echo > n; stat -c %u:%g n'",
                        "33 34 34 33:34"),
    "refused to a user": ("setpriv --reuid=33 --regid=33 --clear-groups sh -c 'echo > n; chown 0 n' 2>/dev/null || echo no", "no"),
    "closed files": ("echo x > f; chmod 000 f; cat f; echo y >> f; cat f; stat -c %a f; [ -w f ] && ! [ -x f ] && echo w", "x x y 0 w"),
    "closed directories": ("mkdir d; echo x > d/f; chmod 0 d; cat d/f; rm d/f; echo y > d/g; ls d; stat -c %a d; mv d e; rm -r e; ls",
                           "x g 0"),
    "mkfifo": ("mkfifo p; chown 3:4 p; ln -s p l; stat -c '%u:%g %F' p; stat -Lc %u:%g p l", "3:4 fifo 3:4 3:4"),
    "git": ("git init -q r && git -C r status -s && echo trusted", "trusted"),
    "files without a name": (f"setpriv --reuid=33 --regid=34 --clear-groups python3 -c '{UNNAMED}'; stat -c '%u:%g %a' named", "33:34 0"),
    "openat2": (f"python3 -c '{OPENAT2}'", "38"),
    "set-id bits stay when root writes": ("cp /bin/true f; chmod 6755 f; echo >> f; stat -c %a f; : > f; stat -c %a f; chmod 755 f; "
                                          "stat -c %a f", "6755 6755 755"),
    "set-id bits go when others write": ("echo > f; chown 33 f; chmod 4755 f; setpriv --reuid=33 --regid=33 --clear-groups sh -c "
                                         "'echo >> f'; stat -c %a f", "755"),
    "set-id bits go with the owner": ("echo > f; chmod 6050 f; chown 3 f; echo > g; chmod 4755 g; echo >> g; chown 3 g; stat -c %a f g",
                                      "50 755"),
    "a program that was written raises": ("cp $(command -v id) f; chown 5 f; chmod 4755 f; printf x >> f; setpriv --reuid=33 --regid=33 "
                                          "--clear-groups ./f -u", "5"),
    "what is open is looked at itself": (f"ln -s gone l; python3 -c '{OPENED}'", "True 0 True 0"),
    "its own processes": ("[ /./proc/self/exe -ef $(command -v stat) ]; ln -s /proc/self me; [ $(stat -Lc %i me) != $(stat -Lc %i me) ] "
                          "&& echo each; cd /proc; stat -Lc %F self/fd/0 < /dev/null", "each character special file"),
    "a link to an open file": ("ln -s /dev/stdin l; : | stat -Lc %F l; stat -c %F l", "fifo symbolic link"),
    "descriptors and directories": ("mkdir d; echo > d/f; chown 3:4 d/f; cd d; stat -c %u:%g f ../d/f $PWD/f; stat -c %u - < f; "
                                    "find .. -name f -uid 3", "3:4 3:4 3:4 3 ../d/f"),
    "read by anybody": ("umask 777; echo x > f; mkdir d; : > d/g; cat f; ls d; rm -r d; stat -c %a f; ls", "x g 0 f"),
    "lists that close": (f"echo x > f; python3 -c '{CLOSING_LIST}'; cat f; stat -c %a f", "x 40"),
    "lists that close what is made": (f"mkdir d; python3 -c '{DEFAULT_LIST}' 0; umask 77; echo x > d/f; mkdir d/e; echo y > d/e/g; "
                                      "cat d/f d/e/g; echo z >> d/f; stat -c '%u %a' d/f d/e d/e/g; rm -r d/e; ls d",
                                      "x y 0 44 0 44 0 44 f"),
    "lists instead of a mask": (f"mkdir d; chmod 777 d; python3 -c '{DEFAULT_LIST}' 7; umask 77; echo > d/f; mkdir d/e; setpriv --reuid=33 "
                                "--regid=33 --clear-groups sh -c 'echo > d/g'; stat -c '%u %a' d/f d/e d/g", "0 644 0 744 33 644"),
    "what changes after a look": ("echo > f; mkdir d; stat f d > s; chown 3:4 f d; stat -c %u:%g f d; chmod 4711 f; chmod 0 d; stat "
                                  "-c %a f d; chown 0:0 f d; stat -c '%u:%g %a' f d; chmod 755 f d; stat -c %a f d",
                                  "3:4 3:4 4711 0 0:0 711 0:0 0 755 755"),
    "other names, processes": ("echo > f; ln f g; mkdir d e; stat f g d > s; (chown 3:4 f; chmod 0 d) & wait; stat -c %u:%g g; mv g h; "
                              "mv d e/d; stat -c %u h; stat -c %a e/d; (chown 5 h; chmod 700 e/d) & wait; stat -c %u f; "
                              "stat -c %a e/d; rm f; echo > f; stat -c %u f h", "3:4 3 0 5 700 0 5"),
    "an owner that a step notes itself": ("echo > f; stat f > s; python3 -c 'import os; os.setxattr(\"f\", \"user.img.owner\", b\"5:6\")'; "
                                          "stat -c %u:%g f; chown 0:0 f; stat -c %u:%g f", "5:6 0:0"),
    "the number of one that is gone": ("touch f; ln -s a l; chown -h 33:34 l; rm l; ln -s b l; stat -c %u:%g l; chown -h 33 l; rm l; "
                                       "echo > n; stat -c %u n; ls -n n | cut -d' ' -f3; mkfifo p; stat -c %u p", "0:0 0 0 0"),
    "a group handed down": ("mkdir d; chown :7 d; chmod 2755 d; stat -c '%g %a' d; echo > d/f; mkdir d/e; ln -s x d/l; "
                            "stat -c '%g %a' d/f d/e; stat -c %g d/l", "7 2755 7 644 7 2755 7"),
    "newer calls about attributes": (f"python3 -c '{NEWER_ATTRIBUTES}'", "38 38 38"),
    "no path": ("python3 -c 'import os\ntry: os.stat(\"\")\nexcept FileNotFoundError: print(\"none\")'", "none"),
}  # fmt: skip


@pytest.mark.parametrize("what", ROWS)
def test_commands_see_what_root_would_see(tmp_path: Path, what: str) -> None:
    script, expected = ROWS[what]
    done = _run(tmp_path, script)
    assert (done.stdout.split(), done.stderr, done.returncode) == (expected.split(), "", 0)


def test_links_that_are_given_to_root_are_noted_as_his(tmp_path: Path) -> None:
    """In the layers below they may have another owner."""
    done = _run(
        tmp_path,
        "ln -s a l; ln -s b m; ln -s c n; chown -h 0:0 l; chown -h 3:4 m n; chown -h 0:0 m; chown -h 5 n; ln -s d o",
    )
    inodes = {os.lstat(tmp_path / name).st_ino: name for name in "lmno"}
    noted = {inodes.get(inode): (uid, gid) for _, inode, uid, gid in json.loads(Path(f"{tmp_path}.noted").read_text())}
    assert (noted, done.stderr) == ({"l": (0, 0), "m": (0, 0), "n": (5, 4), "o": (0, 0)}, "")


def _run(directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
    }
    program = [sys.executable, "-m", "harness.fake_root", str(directory), "0", "0", "sh", "-c", script]
    command = ["sh", "-c", 'exec 3> "$0.noted"; exec "$@"', str(directory), *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
