"""Owners of files: what a step sees of them, and what a layer gets."""

# ruff: noqa: S108 - a test's name is its claim; the paths are those of a container
from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from img_core.testing.contracts.driver import DriverContract
from img_core.testing.executor_lab import Laboratory
from img_core.testing.tiny_programs import exit_with_euid_on_x86_64

__all__ = ["OwnerPromises"]

_STAT = "stat -c %u:%g"

#: what a step does, its script, and what it prints: in both mappings the same
_SEEN = {
    "looks at a file": (f"echo > /f; chown 12:34 /f; {_STAT} /f; chown 12 /f; chgrp 5 /f; {_STAT} /f", "12:34 12:5"),
    "looks at a link": (f"ln -s x /l; chown -h 3:4 /l; {_STAT} /l", "3:4"),
    "looks at an open file": ("echo > /f; chown 9:9 /f; exec 5< /f; stat -L -c %u:%g /proc/self/fd/5", "9:9"),
    "looks from elsewhere": (
        f"mkdir -p /d/e; echo > /d/f; chown 1:2 /d/f; ln -s ../f /d/e/l; cd /d/e; {_STAT} ../f; stat -L -c %u:%g l",
        "1:2 1:2",
    ),
    "copies with owners": (f"mkdir /d; echo > /d/f; chown -R 1:2 /d; cp -a /d /e; {_STAT} /e /e/f", "1:2 1:2"),
    "packs and unpacks": (
        f"mkdir /d; echo > /d/f; chown -R 5:6 /d; tar cf /t.tar -C / d; rm -r /d; tar xpf /t.tar -C /; {_STAT} /d /d/f",
        "5:6 5:6",
    ),
    "becomes a user": ("su bob -c 'id -u; id -g; id -G'", "1000 1001 1001 50"),
    "becomes nobody's parent": (
        "su bob -c '(sh -c \"id -u\" > /tmp/u; echo > /tmp/done) & '; while [ ! -e /tmp/done ]; do :; done; cat /tmp/u",
        "1000",
    ),
    "makes files as a user": (
        f"su bob -c 'cd /tmp; umask 27; echo > f; mkdir d; ln -s f l; mkfifo p; {_STAT} f d l p'; stat -c %u:%a /tmp/f /tmp/d",
        "1000:1001 1000:1001 1000:1001 1000:1001 1000:640 1000:750",
    ),
    "appends to what is there": (
        f"echo a > /f; chmod 666 /f; su bob -c 'echo b >> /f; set -C; echo c 2> /tmp/e > /f || echo no'; cat /f; {_STAT} /f",
        "no a b 0:0",
    ),
    "hands a group down": (
        f"mkdir /d; chown 0:50 /d; chmod 2775 /d; echo > /d/f; mkdir /d/e; {_STAT} /d/f /d/e; stat -c %a /d/e",
        "0:50 0:50 2755",
    ),
    "may not give away": (
        f"su bob -c 'cd /tmp; echo > f; chgrp 50 f; chown 0 f 2> e || echo no; chown bob f; {_STAT} f'",
        "no 1000:50",
    ),
    "cannot come back": ("su bob -c 'su root -c id < /dev/null > /dev/null 2>&1 || echo no'", "no"),
    "asks whose it is": ("echo > /f; [ -O /f ] && echo mine; chown 3 /f; [ -O /f ] || echo other", "mine other"),
}


class OwnerPromises(DriverContract):
    """Promises about owners, in each mapping of ids."""

    def test_owners_are_set_or_recorded(self, lab: Laboratory) -> None:
        script = "mkdir /dir; echo > /file; chown 12:34 /dir /file; chown 56:78 /file; cd /dir; chown 9:9 absent ../bin/absent"
        assert lab.shell(script).code == 1  # of the last chown
        assert _owner(lab, "dir") == (12, 34)
        assert _owner(lab, "file") == (56, 78)

    def test_owner_of_a_symlink_is_set_or_recorded(self, lab: Laboratory) -> None:
        outcome = lab.shell("echo > /file; ln -s file /link; chown -h 12:34 /link; mkfifo /pipe; chown 5:6 /pipe")
        assert outcome.code == 0
        recorded = {(device, inode): (uid, gid) for device, inode, uid, gid in outcome.owners}
        for path, owner in (("link", (12, 34)), ("pipe", (5, 6))):
            entry = lab.ask("stat", path=path)
            found = (entry["uid"], entry["gid"]) if lab.mapping != "single" else recorded[tuple(entry["key"])]
            assert found == owner
        assert _owner(lab, "file") == (0, 0)

    def test_owner_given_back_to_root_is_forgotten(self, lab: Laboratory) -> None:
        outcome = lab.shell(
            "echo > /file; chown 12:34 /file; chown 0:0 /file; ln -s x /l; chown -h 1:1 /l; chown -h 0:0 /l"
        )
        assert outcome.code == 0
        assert _owner(lab, "file") == (0, 0)
        assert all(owner[2:] == [0, 0] for owner in map(list, outcome.owners))

    def test_a_file_that_is_rewritten_in_place_keeps_its_owner(self, lab: Laboratory) -> None:
        script = (
            "echo a > /kept; chown 12:34 /kept; sed -i s/a/b/ /kept; cat /kept;"
            "echo a > /replaced; chown 12:34 /replaced; echo c > /new; chown 0:0 /new; mv /new /replaced; cat /replaced"
        )
        assert lab.shell(script).text.split() == ["b", "c"]
        assert _owner(lab, "kept") == (12, 34)
        assert _owner(lab, "replaced") == (0, 0)

    @pytest.mark.parametrize("what", _SEEN)
    def test_a_step_sees_the_owners_and_ids_that_it_asked_for(self, lab: Laboratory, what: str) -> None:
        script, expected = _SEEN[what]
        lab.ask("write", path="etc/passwd", text="root:x:0:0::/:/bin/sh\nbob:x:1000:1001::/:/bin/sh\n")
        lab.ask("write", path="etc/group", text="root:x:0:\nbob:x:1001:\nclub:x:50:bob\n")
        outcome = lab.shell(f"mkdir -m 1777 /tmp; set -e; {script}")
        assert (outcome.text.split(), outcome.errors) == (expected.split(), b"")

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is for x86_64")
    def test_a_set_user_id_program_has_the_ids_of_its_owner(self, lab: Laboratory) -> None:
        lab.ask("write", path="program", text="", mode=0o755)
        program = base64.b64encode(exit_with_euid_on_x86_64()).decode()
        script = f"echo {program} | base64 -d > /program; /program; echo $?; chown 7:8 /program; chmod 4755 /program; /program"
        outcome = lab.shell(script, uid=0)
        assert (outcome.text, outcome.code) == ("0", 7)
        assert lab.run("/program", uid=9, gid=9).code == 7

    def test_what_a_user_makes_is_his_and_what_root_makes_is_roots(self, lab: Laboratory) -> None:
        script = "mkdir -m 777 /w; cd /w; echo > f; mkdir d; ln -s x l; mkfifo p; stat -c %u:%g f d l p"
        assert lab.shell(f"mkdir /w; chmod 777 /w; {script}", uid=0).text.split() == ["0:0"] * 4
        assert lab.shell(f"cd /w; {script.replace('/w', '/w/mine')}", uid=3, gid=4).text.split() == ["3:4"] * 4

    def test_renaming_works_as_ever(self, lab: Laboratory) -> None:
        script = (
            "mkdir -p /d/e; echo 1 > /d/f; mv /d/f /d/e/g; ln -s g /d/e/l; mv /d/e/l /d/l; cd /d; mv e h; cat h/g;"
            "mv absent x 2> /dev/null || echo none; mv h/g /sys/x 2> /dev/null || echo refused; readlink l"
        )
        assert lab.shell(script).text.split() == ["1", "none", "refused", "g"]

    def test_owner_of_files_on_mounts_is_set_or_recorded(self, lab: Laboratory, tmp_path: Path) -> None:
        mounts = [{"target": "/tmpfs", "kind": "tmpfs", "readonly": False}]
        assert lab.shell("echo > /tmpfs/file; chown 3:4 /tmpfs/file", mounts=mounts).code == 0

    def test_extracting_an_archive_with_owners(self, lab: Laboratory) -> None:
        script = "mkdir /d; echo > /d/f; ln -s f /d/l; chown -hR 12:34 /d; tar cf /t.tar -C / d; rm -r /d; tar xf /t.tar -C /"
        assert lab.shell(script).code == 0
        assert _owner(lab, "d/f") == (12, 34)

    def test_changing_the_user_inside_a_step_succeeds(self, lab: Laboratory) -> None:
        lab.ask("write", path="etc/passwd", text="root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n")
        lab.ask("write", path="etc/group", text="root:x:0:\nbob:x:1000:\n")
        outcome = lab.shell("su bob -c 'echo switched'")
        assert outcome.text == "switched"


def _owner(lab: Laboratory, path: str) -> tuple[int, int]:
    """Return the owner that a layer would get."""
    entry = lab.ask("stat", path=path)
    if lab.mapping == "single":
        uid, gid = (entry["recorded"] or "0:0").split(":")
        return int(uid), int(gid)
    assert not entry["recorded"]
    return entry["uid"], entry["gid"]
