"""RUN --mount=type=cache: whose it is, what it starts with, and who may have it at the same time."""

from __future__ import annotations

import pytest

from harness.build_server import Workshop

pytestmark = pytest.mark.rootless

FILES: dict[str, str | bytes] = {"a.txt": "A\n", "d/e": "E\n", "lnk@": "d", "abs@": "/d/e", "out@": "/etc"}


@pytest.fixture(autouse=True)
def _files(workshop: Workshop) -> None:
    workshop.write(FILES)


def test_mt9_equal_ids_are_one_cache(workshop: Workshop) -> None:
    log = workshop.build(
        "RUN --mount=type=cache,target=/mt9 echo seen > /mt9/f\n"
        "RUN --mount=type=cache,target=/mt9/ cat /mt9/f\n"
        "RUN --mount=type=cache,target=/other,id=/mt9 cat /other/f"
    ).ok().log  # fmt: skip
    assert log.count("seen") == 2


def test_mt10_a_cache_belongs_to_root_unless_it_says_otherwise(workshop: Workshop) -> None:
    body = "USER 33\nRUN --mount=type=cache,target=/mt10{0},id=mt10{1} touch /mt10{0}/f && echo fine || echo denied\n"
    assert "denied" in workshop.build(body.format("a", "a")).ok().log
    assert "fine" in workshop.build(body.format("b", "b,uid=33")).ok().log
    assert "fine" in workshop.build(body.format("c", "c,mode=0777")).ok().log


@pytest.mark.parametrize("own", ["uid=33", "gid=33,mode=775", "mode=777", "uid=33,gid=7"])
def test_each_owner_and_mode_of_a_cache_is_a_directory_of_its_own(workshop: Workshop, own: str) -> None:
    cache = f"--mount=type=cache,target=/c,id=owned-{own.replace(',', '-')}"
    built = workshop.build(
        f"RUN {cache} touch /c/of-root\n"
        f"USER 33:33\nRUN {cache},{own} touch /c/of-user && ls /c | tr '\\n' ' '\n"
        f"USER root\nRUN {cache} ls /c; echo .\nRUN {cache},uid=0,mode=0755 ls /c\n"
    )
    assert built.log == "of-user of-root\n.\nof-root\n", str(built)


def test_mt11_a_cache_starts_with_its_seed_and_keeps_what_is_added(workshop: Workshop) -> None:
    log = workshop.build(
        "FROM busybox AS seed\nRUN mkdir /s && echo seeded > /s/one\nFROM busybox\n"
        "RUN --mount=type=cache,target=/mt11,from=seed,source=/s cat /mt11/one && echo added > /mt11/two\n"
        "RUN --mount=type=cache,target=/mt11,from=seed,source=/s cat /mt11/one /mt11/two"
    ).ok().log  # fmt: skip
    assert log.count("seeded") == 2
    assert "added" in log


def test_another_seed_is_another_cache(workshop: Workshop) -> None:
    body = (
        "FROM busybox AS seed\nRUN mkdir /s && echo {0} > /s/{0}\nFROM busybox\n"
        "RUN --mount=type=cache,target=/c,id=seeded{1} ls /c; touch /c/added\n"
        "RUN --mount=type=cache,target=/c,id=seeded{1} ls /c\n"
    )
    seed = ",from=seed,source=/s"
    assert workshop.build(body.format("old", seed)).ok().log == "old\nadded\nold\n"
    assert workshop.build(body.format("new", seed)).ok().log == "new\nadded\nnew\n"
    assert workshop.build(body.format("new", "")).ok().log == "added\n", "nor is one without a seed"
    assert workshop.build(body.format("old", seed) + "RUN :").ok().made == ["RUN :"]


def test_mt12_another_namespace_is_another_cache(workshop: Workshop) -> None:
    body = "RUN --mount=type=cache,target=/mt12 ls /mt12; touch /mt12/first-{}\n"
    workshop.build(body.format("a")).ok()
    other = workshop.build(body.format("b"), build_args={"BUILDKIT_CACHE_MOUNT_NS": "other"}).ok()
    assert "first-a" not in other.log
    assert "first-a" in workshop.build(body.format("c")).ok().log


def test_mt13_without_cache_it_starts_empty_once_per_build_and_stays_replaced(workshop: Workshop) -> None:
    touch = "RUN --mount=type=cache,target=/mt13 ls /mt13 && touch /mt13/{}\n"
    workshop.build(touch.format("old")).ok()
    fresh = workshop.build(touch.format("new") + touch.format("newer"), no_cache=True).ok()
    assert "old" not in fresh.log
    assert len([text for text in fresh.notes if "`/mt13` was emptied" in text]) == 1
    assert fresh.log.count("new") == 1  # the second step sees what the first one left
    after = workshop.build(touch.format("last")).ok().log
    assert "newer" in after
    assert "old" not in after


def test_no_cache_filter_empties_the_caches_of_its_stages_only(workshop: Workshop) -> None:
    body = (
        "FROM busybox AS one\nRUN --mount=type=cache,target=/f1 ls /f1 && touch /f1/in-one\n"
        "FROM busybox AS two\nRUN --mount=type=cache,target=/f2 : {} && ls /f2 && touch /f2/in-two\n"
        "FROM busybox\nCOPY --from=one /etc/motd /1\nCOPY --from=two /etc/motd /2\n"
    )
    workshop.build(body.format(1)).ok()
    log = workshop.build(body.format(2), no_cache_filter=["one"]).ok().log
    assert "in-one" not in log
    assert "in-two" in log


def test_a_cache_keeps_its_own_files_between_builds_and_out_of_the_image(workshop: Workshop) -> None:
    workshop.build("RUN --mount=type=cache,target=/kept echo 1 > /kept/f").ok()
    log = workshop.build("RUN --mount=type=cache,target=/kept cat /kept/f\nRUN ls /kept || echo none").ok().log
    assert "1\n" in log
    assert "none" in log


def test_ids_that_look_like_paths_stay_names(workshop: Workshop) -> None:
    workshop.build("RUN --mount=type=cache,target=/x,id=../../../../escape touch /x/f").ok()
    assert not list(workshop.server.state.parent.rglob("escape*"))


def test_a_read_only_cache_cannot_be_written(workshop: Workshop) -> None:
    built = workshop.build("RUN --mount=type=cache,target=/ro,ro touch /ro/f")
    assert "Read-only file system" in built.log


MEET = (
    "touch /c/{me}; i=0; while [ ! -e /c/{other} ] && [ $i -lt 15 ]; do i=$((i+1)); sleep 0.1; done; "
    "ls /c | sed s/^/{me}-sees-/; rm /c/{me}"
)


SHARING = f"""\
FROM busybox AS one
RUN --mount=type=cache,target=/c,MODE {MEET.format(me="one", other="two")}
FROM busybox AS two
RUN --mount=type=cache,target=/c,MODE {MEET.format(me="two", other="one")}
FROM busybox
COPY --from=one /etc/motd /1
COPY --from=two /etc/motd /2
"""


@pytest.mark.parametrize(("sharing", "together"), [("shared", True), ("private", False), ("locked", False)])
def test_sharing_of_two_steps_at_once(workshop: Workshop, sharing: str, together: bool) -> None:
    body = SHARING.replace("MODE", f"id=sharing-{sharing},sharing={sharing}")
    log = workshop.build(body, max_parallelism=4).ok().log
    met = "one-sees-two" in log or "two-sees-one" in log
    assert met == together, log


def test_a_private_cache_is_used_again_when_it_is_free(workshop: Workshop) -> None:
    body = "RUN --mount=type=cache,target=/p,id=private-again,sharing=private ls /p; touch /p/{}"
    workshop.build(body.format("first")).ok()
    assert "first" in workshop.build(body.format("second")).ok().log


def test_steps_that_lock_the_same_caches_do_not_wait_for_each_other_in_a_circle(workshop: Workshop) -> None:
    one, two = (f"--mount=type=cache,id=circle-{name},target=/{name},sharing=locked" for name in ("one", "two"))
    again = one.replace("target=/one", "target=/again")  # one at two places is no wait for oneself
    stages = [
        f"FROM busybox AS s{n}\nRUN {one if n % 2 else two} {two if n % 2 else one} touch /made\n" for n in range(8)
    ]
    made = "".join(f"COPY --from=s{n} /made /{n}\n" for n in range(8))
    last = f"RUN {one} {again} touch /one/file && ls /again\n"
    log = workshop.build(f"{''.join(stages)}FROM busybox\n{made}{last}", max_parallelism=8).ok().log
    assert "file" in log
