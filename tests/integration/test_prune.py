"""``img du`` and ``img prune`` with real builds: what goes, what stays, and what is running meanwhile."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.containers import Containers
from harness.img import Img, write_context

pytestmark = pytest.mark.rootless

DOCKERFILE = "FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\nRUN echo small > /small\n"


def state_size(img: Img) -> int:
    """Return the bytes that the state directory occupies, as the mapped root sees them, without the reserve.

    What lets people clean up on a full disk stays; it is no trace of what was built.
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--map-auto", "du", "-sB1", "--exclude=reserve", img.state],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[0])


def pieces(img: Img, *arguments: str) -> list[dict[str, object]]:
    lines = img.run("du", "--format", "json", *arguments).ok().text.splitlines()
    return [json.loads(line) for line in lines]


def wait_for(log: Path, text: str, build: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while text not in log.read_text(errors="replace"):
        assert build.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_du_lists_what_takes_space(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE)).ok()
    text = img.run("du").ok().text
    lines = text.splitlines()
    assert lines[0].split() == ["ID", "RECLAIMABLE", "SIZE", "DESCRIPTION"]
    assert lines[-2].startswith("Reclaimable:\t")
    assert lines[-1].startswith("Total:\t\t")
    assert any("RUN echo small" in line for line in lines)
    total = sum(int(str(piece["Size"])) for piece in pieces(img))
    assert abs(total - state_size(img)) < 1_000_000


def test_dockers_filters_choose_pieces_of_the_cache(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE)).ok()
    all_of_it = pieces(img)
    assert {piece["ID"] for piece in pieces(img, "-f", "since=busybox")} < {piece["ID"] for piece in all_of_it}
    assert pieces(img, "-f", "type=regular") == pieces(img, "-f", "type==regular") != []
    assert pieces(img, "-f", "inuse=true") == pieces(img, "-f", "inuse") != []
    assert pieces(img, "-f", "inuse=false") == [piece for piece in all_of_it if piece["Reclaimable"]] != []
    assert pieces(img, "-f", "dangling=false") == pieces(img, "-f", "shared") != []
    assert pieces(img, "-f", "until=1h") == pieces(img, "-f", "reference=nope") == []
    assert pieces(img, "-f", "type=regular", "-f", "inuse=true") == pieces(img, "-f", "type==regular,inuse")
    # Each condition counts, whatever its form.
    steps = (
        "prune",
        "--format",
        "{{.Description}}",
        "--filter",
        "type=regular",
        "--filter",
        "description~=RUN echo small",
    )
    assert img.run(*steps, "--filter", "until=1h").ok().text == ""
    gone = img.run(*steps).ok().text
    assert "RUN echo small" in gone
    assert "urandom" not in gone


def test_du_filters(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE)).ok()
    assert all(not piece["Reclaimable"] for piece in pieces(img, "-f", "inuse"))
    assert [piece["Type"] for piece in pieces(img, "-f", "description~=small")] == ["regular"]
    assert "Total" not in img.run("du", "-f", "inuse").ok().text
    img.run("du", "-f", "bogus=1").refused(
        2,
        "getting disk usage failed: failed to parse diskusage filters [bogus=1]: filters: parse error: [bogus >|=|< 1]",
    )


def test_du_of_nothing_makes_no_directory(tmp_path: Path) -> None:
    new = Img(tmp_path / "nothing", tmp_path)
    assert new.run("du").ok().text == "ID\tRECLAIMABLE\tSIZE\tDESCRIPTION\nReclaimable:\t0B\nTotal:\t\t0B\n"
    assert new.run("prune").ok().text.endswith("Reclaimed:\t0B\nTotal:\t\t0B\n")
    assert not new.state.exists()


def test_records_are_shown_as_blocks(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE)).ok()
    text = img.run("du", "-d").ok().text
    for name in ("ID:", "Created at:", "Mutable:", "Reclaimable:", "Size:", "Description:", "Last used:"):
        assert f"\n{name}\t" in f"\n{text}"


def test_prune_frees_the_cache_and_keeps_images(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", DOCKERFILE)
    img.build(context).ok()
    digest, before = img.digest("built"), state_size(img)
    done = img.run("prune").ok()
    assert done.text.splitlines()[0].split() == ["ID", "RECLAIMABLE", "SIZE", "DESCRIPTION"]
    assert "Reclaimed:\t" in done.text
    assert before - state_size(img) > 3_000_000
    assert not any(piece["Reclaimable"] for piece in pieces(img))
    assert img.digest("built") == digest
    img.run("save", "-o", tmp_path / "out.tar", "built").ok()
    img.run("unpack", "-o", tmp_path / "rootfs", "built").ok()
    assert (tmp_path / "rootfs/small").read_text() == "small\n"
    again = img.build(context, tag="again").ok()
    assert "CACHED" not in again.stderr


def test_removed_images_go_with_the_next_prune(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE)).ok()
    img.run("rm", "built").ok()
    img.run("prune").ok()
    assert state_size(img) < 4_000_000
    assert img.names() == ["docker.io/library/busybox:latest"]


def test_the_state_is_almost_empty_after_all_is_gone(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE)).ok()
    img.run("rm", "*").ok()
    img.run("prune", "--all").ok()
    assert state_size(img) < 500_000
    assert img.names() == []


def test_a_running_build_loses_nothing(img: Img, tmp_path: Path) -> None:
    """Its base, its cached steps, what it made itself and its cache mount are all in use while a step runs."""
    steps = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n"
    img.build(write_context(tmp_path / "first", steps), tag="first").ok()
    img.run("rm", "first").ok()
    slow = (
        "RUN echo three > /three\n"
        "RUN --mount=type=cache,target=/cache touch /cache/f; echo started; "
        "i=0; while [ ! -e /cache/go ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; cat /one /two /three; ls /cache/f\n"
        "RUN --mount=type=cache,target=/cache cat /one /two /three && ls /cache/f\n"
    )
    context = write_context(tmp_path / "second", steps + slow)
    log = tmp_path / "log"
    with img.start("build", "-t", "second", context, log=log) as build:
        wait_for(log, " started", build)
        img.run("rm", "busybox").ok()
        img.run("prune", "--all").ok()
        img.run("prune", "--all").ok()
        mounts = list((img.state / "cache-mounts").iterdir())
        assert len(mounts) == 1
        subprocess.run(["unshare", "--map-root-user", "--map-auto", "touch", mounts[0] / "go"], check=True)
        assert build.wait(120) == 0, log.read_text()
    img.run("unpack", "-o", tmp_path / "rootfs", "second").ok()
    assert (tmp_path / "rootfs/two").read_text() == "two\n"


def test_what_a_killed_build_left_goes(img: Img, tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context", "FROM busybox\nRUN head -c 5000000 /dev/urandom > /x; echo started; sleep 100\n"
    )
    log = tmp_path / "log"
    with img.start("build", "-t", "x", context, log=log) as build:
        wait_for(log, " started", build)
        build.send_signal(signal.SIGKILL)
    img.run("rm", "*").ok()
    img.run("prune", "--all").ok()
    assert state_size(img) < 500_000


def test_cache_mounts_are_shown_and_pruned(img: Img, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c head -c 2000000 /dev/urandom > /c/x\n"
    img.build(write_context(tmp_path / "context", text)).ok()
    found = pieces(img, "-f", "type==exec.cachemount")
    assert [(piece["Description"], piece["Mutable"], piece["Reclaimable"]) for piece in found] == [
        ("cached mount /c", True, True)
    ]
    assert int(str(found[0]["Size"])) >= 2_000_000
    assert f"{found[0]['ID']}*" in img.run("du").text
    removed = img.run("prune", "-q", "--filter", "type==exec.cachemount").ok().text
    assert removed.split() == [found[0]["ID"]]
    assert pieces(img, "-f", "type==exec.cachemount") == []
    assert len(pieces(img, "-f", "description~=RUN")) == 1


def test_prune_until_and_dry_run_spare_what_is_young(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE)).ok()
    before = pieces(img)
    for flags in (["--until", "1h"], ["--filter", "until=1h"], ["--dry-run"], ["--keep-storage", "10GB"]):
        img.run("prune", *flags).ok()
        assert len(pieces(img)) == len(before), flags
    assert "Reclaimable:\t" in img.run("prune", "--dry-run").ok().text
    img.run("prune", "--keep-storage", "x").refused(2, "`x` for --keep-storage is not a size")
    img.run("prune", "--until", "x").refused(2, "`x` for --until is not a duration")


def test_podman_agrees_about_an_image_that_survived(img: Img, tmp_path: Path, containers: Containers) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE)).ok()
    img.run("prune", "--all").ok()
    img.run("save", "--format", "oci", "-o", tmp_path / "out.tar", "built").ok()
    containers.take(tmp_path / "out.tar", "localhost/survivor")
    assert containers.run("podman", "image", "exists", "localhost/survivor") == ""


# --- names ------------------------------------------------------------------------------------------------------------------


def test_rm_takes_wildcards(img: Img) -> None:
    for name in ("app:1", "app:2", "other:1", "example.org/team/app:1"):
        img.run("tag", "busybox", name).ok()
    done = img.run("rm", "app:*").ok()
    assert done.text.splitlines()[::2] == ["Removing app:1...", "Removing app:2..."]
    img.run("rm", "*/team/*", "other").refused(1, 'image "other": not found')
    img.run("rm", "nope*").refused(1, "removing image failed: no image matches `nope*`")
    img.run("rm", "-f", "nope", "nope*").ok()
    assert img.names() == ["docker.io/library/busybox:latest", "docker.io/library/other:1"]


def test_history_lists_steps_and_layers(img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "context", DOCKERFILE + "CMD echo\n")).ok()
    lines = img.run("history", "built").ok().text.splitlines()
    assert lines[0].split("\t")[0] == "LAYER"
    assert lines[1].startswith("<none>")
    assert "RUN" in lines[2]
    layers = img.run("history", "-q", "built").ok().text.split()
    assert len(layers) == 3
    assert all(layer.startswith("sha256:") for layer in layers)
    assert "…" not in img.run("history", "--no-trunc", "built").ok().text
    img.run("history", "nope").refused(1, 'image "nope": not found')


def without_times(table: str) -> str:
    """Time goes on between two commands."""
    return re.sub(r"[^\t]* ago\b", "T ago", table)


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["images"], ["ls"]),
        (["image", "ls", "-q"], ["ls", "-q"]),
        (["image", "history", "busybox"], ["history", "busybox"]),
        (["system", "df"], ["du"]),
        (["builder", "prune", "-f", "--dry-run"], ["prune", "--dry-run"]),
    ],
)
def test_dockers_words_mean_the_same(words: list[str], same: list[str], img: Img) -> None:
    assert without_times(img.run(*words).ok().text) == without_times(img.run(*same).ok().text)
    assert (
        "Usage: img " + " ".join(words[:2] if words[0] != "images" else words[:1])
        in img.run(*words[:2], "-h").ok().text
    )


def test_rmi_and_groups_without_a_word(img: Img) -> None:
    img.run("rmi", "busybox").ok()
    assert "history" in img.run("image").ok().text
    img.run("image", "nope").refused(2, "unknown command `img image nope`")


def test_a_build_over_the_budget_removes_what_was_used_longest_ago(img: Img, tmp_path: Path) -> None:
    config = img.home / ".config" / "img" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[collect]\nkeep-storage = "4MB"\n')
    context = tmp_path / "context"
    for name in ("first", "second"):
        text = f"FROM busybox\nRUN : {name}; head -c 3000000 /dev/urandom > /big\n"
        img.build(write_context(context, text), "-o", "type=tar,dest=/dev/null", tag="").ok()
        (img.state / "collected").unlink()  # as if ten minutes had passed
    img.build(write_context(context, "FROM busybox\nRUN : third\n"), "-o", "type=tar,dest=/dev/null", tag="").ok()
    steps = [str(piece["Description"]) for piece in pieces(img) if "RUN" in str(piece["Description"])]
    assert len(steps) == 2
    assert not any("first" in step for step in steps)
    assert (img.state / "collected").exists()


# --- docker's words for it: none removes more than docker's own does ------------------------------------------------------

PRUNES = {
    "img prune": {"untagged", "cache", "shared cache", "cache mount"},
    "image prune -f": {"untagged"},
    "image prune -a -f": {"untagged", "named"},
    "builder prune -f": {"cache", "cache mount"},
    "builder prune -a -f": {"cache", "shared cache", "cache mount"},
    "buildx prune -f": {"cache", "cache mount"},
    "system prune -f": {"untagged", "cache", "cache mount"},
    "system prune -a -f": {"untagged", "named", "cache", "shared cache", "cache mount"},
}


def what_there_is(img: Img, untagged: str) -> set[str]:
    """Return words for what is in the state directory."""
    found = pieces(img)
    words = {
        "cache": any(": loose" in str(piece["Description"]) for piece in found),
        "shared cache": any(": named" in str(piece["Description"]) for piece in found),
        "cache mount": any(piece["Type"] == "exec.cachemount" for piece in found),
        "untagged": untagged in img.run("ls", "-q").ok().text.split(),
        "named": "docker.io/library/named:latest" in img.names(),
    }
    return {word for word, there in words.items() if there}


@pytest.mark.parametrize("words", PRUNES)
def test_each_way_to_prune_removes_what_dockers_does(words: str, img: Img, tmp_path: Path) -> None:
    img.build(write_context(tmp_path / "named", "FROM busybox\nRUN : named; echo named > /f\n"), tag="named").ok()
    loose = "FROM busybox\nRUN --mount=type=cache,target=/c : loose; echo loose > /c/f\n"
    img.build(write_context(tmp_path / "loose", loose), "-o", "type=tar,dest=/dev/null", tag="").ok()
    context = write_context(tmp_path / "untagged", "FROM busybox\nLABEL a=b\n")
    untagged = img.run("build", "-q", context).ok().text.strip()
    everything = what_there_is(img, untagged)
    assert everything == {"cache", "shared cache", "cache mount", "untagged", "named"}
    done = img.run(*words.removeprefix("img ").split()).ok()
    assert everything - what_there_is(img, untagged) == PRUNES[words], done
    if "named" not in PRUNES[words]:
        img.run("unpack", "-o", tmp_path / "root", "named").ok()


@pytest.mark.parametrize("words", [word.removesuffix(" -f") for word in PRUNES if word != "img prune"])
def test_docker_asks_before_it_prunes_and_so_do_its_words(words: str, img: Img) -> None:
    img.run("tag", "busybox", "b").ok()
    for answer in (b"", b"n\n"):
        img.run(*words.split(), stdin=answer).refused(1, "nothing was removed")
    assert len(img.names()) == 2
    img.run(*words.split(), stdin=b"y\n").ok()


def test_images_that_lost_their_name_are_pruned_and_chosen_by_filters(img: Img, tmp_path: Path) -> None:
    ids = []
    for label in ("a", "b", "c"):
        context = write_context(tmp_path, f"FROM busybox\nLABEL l={label}\nRUN echo {label} > /f\n")
        ids.append(img.run("build", "-q", "-t", "app", context).ok().text.strip())
    assert len(img.run("ls", "-q").ok().text.split()) == 4
    assert img.run("image", "prune", "-f", "--filter", "until=24h").ok().text == "Total reclaimed space: 0B\n"
    done = img.run("image", "prune", "-f", "--filter", "label=l=b").ok().text
    assert done.startswith(f"Deleted Images:\ndeleted: {ids[1]}\n\nTotal reclaimed space: ")
    img.run("inspect", ids[1]).refused(1, "not found")
    img.run("image", "prune", "-f").ok()
    assert img.names() == ["docker.io/library/app:latest", "docker.io/library/busybox:latest"]
    again = img.run("build", "-t", "app", tmp_path).ok()
    assert "echo" not in [line for line in again.stderr.splitlines() if "CACHED" not in line][-1]
    img.run("fsck").ok()
