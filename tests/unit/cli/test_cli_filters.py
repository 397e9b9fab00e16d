"""docker's filters of images and of the build cache; containerd's stay beside them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cli_support import img

from img_core.cli._docker_filters import matches_reference, unused_seconds
from img_core.images import oci
from img_core.spec import UsageError
from img_core.store import Store
from img_core.testing.images import make_image

_DAY = 86400
#: Name, labels, and age in days.
_IMAGES = (
    ("docker.io/library/app:1", {"team": "a", "stage": "prod"}, 3),
    ("docker.io/library/app:2", {"team": "b"}, 2),
    ("registry.example/group/tool:2", {"stage": ""}, 1),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home directory whose state holds three images of different ages."""
    directory = tmp_path_factory.mktemp("home")
    with Store(str(directory / ".local/share/img")) as store:
        for name, labels, days in _IMAGES:
            image = make_image(config={"Labels": labels})
            for digest, content in sorted(image.blobs.items(), key=lambda item: item[0] == image.top.digest):
                store.put(content, oci.OCI_MANIFEST if digest == image.top.digest else "x")
            store.images.tag(name, image.top)
            with store.database.transaction() as cursor:
                cursor.execute("UPDATE image SET created = ? WHERE name = ?", (time.time() - days * _DAY, name))
    return directory


def _listed(home: Path, *words: str) -> str:
    done = img(home, "ls", "--format", "{{.Name}}", *words)
    assert done.returncode == 0, done.stderr
    return " ".join(line.rpartition("/")[2] for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (["-f", "reference=app"], "app:1 app:2"),
        (["-f", "reference=app:*"], "app:1 app:2"),
        (["-f", "reference=*:2"], "app:2"),  # a star stops at a slash
        (["-f", "reference=*:2", "-f", "reference=app:1"], "app:1 app:2"),  # one of them
        (["-f", "reference=registry.example/*/t[^a]ol"], "tool:2"),
        (["-f", "reference=docker.io/library/app"], "app:1 app:2"),
        (["-f", "reference=ap"], ""),
        (["app"], "app:1 app:2"),
        (["app:2"], "app:2"),
        (["app", "-f", "label=team=b"], "app:2"),
        (["-f", "label=team"], "app:1 app:2"),
        (["-f", "label=team=a"], "app:1"),
        (["-f", "label=team", "-f", "label=stage"], "app:1"),  # both
        (["-f", "label=stage="], "tool:2"),
        (["-f", "label!=team=a"], "app:2 tool:2"),
        (["-f", "dangling=true"], ""),
        (["-f", "dangling=false"], "app:1 app:2 tool:2"),
        (["-f", "before=app:2"], "app:1"),
        (["-f", "since=app:2"], "tool:2"),
        (["-f", "since=app:1", "-f", "before=registry.example/group/tool:2"], "app:2"),
        (["-f", "until=36h"], "app:1 app:2"),
        (["-f", "until=60h", "-f", "label=team"], "app:1"),
        # containerd's
        (["-f", "name~=app"], "app:1 app:2"),
        (["-f", "labels.team==a", "-f", "name~=tool"], "app:1 tool:2"),  # one of them
        (["-f", "labels.team", "-f", "name~=tool", "-f", "reference=app"], "app:1 app:2"),
    ],
)
def test_images_are_chosen(words: list[str], listed: str, home: Path) -> None:
    assert _listed(home, *words) == listed


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["ls", "-f", "dangling=maybe"], 2, "invalid filter `dangling=maybe`"),
        (["ls", "-f", "until=soon"], 2, "`soon` for the filter until is not a duration"),
        (["ls", "-f", "before=nope"], 1, 'listing images: image "nope": not found'),
        (["ls", "-f", "colour=red"], 2, "listing images with filters (colour=red) failed"),
        (["ls", "app", "b"], 2, "ls expects no or one repository, found 2"),
        (["prune", "--filter", "label=a"], 2, "`label=a` is a filter of images"),
        (["prune", "--filter", "dangling=maybe"], 2, "invalid filter `dangling=maybe`"),
        (["du", "-f", "since=nope"], 1, 'image "nope": not found'),
    ],
)
def test_a_bad_filter_is_one_line(words: list[str], code: int, message: str, home: Path) -> None:
    done = img(home, *words)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(f"Error: {message}") or message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("a?p", "app", True),
        ("[a-c]pp:1", "app:1", True),
        ("[^a]pp", "app", False),
        ("*", "app", True),
        ("*", "g/app", False),
        ("*/*", "g/app", True),
        ("registry.example/*", "registry.example/app:1", True),
        ("registry.example/*", "registry.example/g/app:1", False),
    ],
)
def test_references_match_as_docker_matches_them(pattern: str, name: str, expected: bool) -> None:
    from img_core.images.reference import Reference

    full = str(Reference.parse(name).with_default_tag())
    assert matches_reference(pattern, full) is expected


def test_until_takes_durations_dates_and_times() -> None:
    now = time.time()
    assert unused_seconds(["until=1h30m"]) == 5400
    assert unused_seconds([f"until={int(now) - 100}"]) == pytest.approx(100, abs=5)
    day = time.strftime("%Y-%m-%d", time.localtime(now - 3 * _DAY))
    assert 2 * _DAY < unused_seconds([f"until={day}"]) < 5 * _DAY
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 100))
    assert unused_seconds([f"until={moment}"]) == pytest.approx(100, abs=5)
    assert unused_seconds(["label=x"]) == 0
    with pytest.raises(UsageError):
        unused_seconds(["until=x"])
