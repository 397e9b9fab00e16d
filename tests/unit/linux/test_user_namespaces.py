import errno
from pathlib import Path

import pytest

from img_core.linux import _id_maps, syscalls, userns
from img_core.linux.userns import IdRange
from img_core.spec.errors import UsageError


def test_sub_ids_are_found_by_name_and_by_uid_on_all_lines(tmp_path: Path) -> None:
    table = tmp_path / "subuid"
    table.write_text(
        "# comment\nann:100000:65536\nbob:1:2\n1000:300000:10\nann:100000:65536\nann:bad:1\nann:5:0\n\nann\n"
    )
    found = userns.sub_id_ranges(str(table), user="ann", uid=1000)
    assert found == [(100000, 65536), (300000, 10)]


def test_missing_sub_id_table_gives_nothing(tmp_path: Path) -> None:
    assert userns.sub_id_ranges(str(tmp_path / "absent"), user="ann", uid=1000) == []


def test_ranges_are_laid_out_one_after_the_other_behind_our_own_id() -> None:
    laid_out = _id_maps._lay_out(1000, [(100000, 65536), (300000, 10)])
    assert laid_out == (IdRange(0, 1000, 1), IdRange(1, 100000, 65536), IdRange(65537, 300000, 10))


@pytest.mark.parametrize(
    ("uid_ranges", "gid_ranges", "mode"),
    [
        ((IdRange(0, 0, 4294967295),), (IdRange(0, 0, 4294967295),), "root"),
        ((IdRange(0, 1000, 1), IdRange(1, 100000, 65536)), (IdRange(0, 1000, 1), IdRange(1, 100000, 65536)), "full"),
        ((IdRange(0, 1000, 1),), (IdRange(0, 1000, 1), IdRange(1, 100000, 65536)), "single"),
        ((IdRange(0, 1000, 1),), (IdRange(0, 1000, 1),), "single"),
    ],
)
def test_mode_follows_from_the_maps(
    uid_ranges: tuple[IdRange, ...], gid_ranges: tuple[IdRange, ...], mode: str
) -> None:
    assert userns._mode_of(uid_ranges, gid_ranges) == mode


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EINVAL, "threads"),
        (errno.ENOSPC, "limit"),
        (errno.EPERM, "not permitted"),
        (errno.ENOSYS, "seccomp"),
    ],
)
def test_every_refusal_is_explained(number: int, words: str) -> None:
    error = userns._explain_unshare(OSError(number, "x"), syscalls.CLONE_NEWUSER)
    assert words in str(error)
    assert error.hint
    assert error.exit_code == 7


def test_unknown_mode_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMG_IDMAP", "some")
    with pytest.raises(UsageError, match=r"IMG_IDMAP.*some"):
        userns.enter()
