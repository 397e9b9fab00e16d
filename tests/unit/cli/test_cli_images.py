"""Commands about stored images: what they print, and what the store holds afterwards."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import environment, rootfs_tar

from img_core.images import oci
from img_core.store import Store
from img_core.testing.images import make_image

if TYPE_CHECKING:
    from unit.cli.conftest import Run


@pytest.fixture
def with_app(run: Run) -> Run:
    """Return `run` on a state directory that holds the image ``app``."""
    assert run("import", "-", "app", stdin=rootfs_tar()).returncode == 0
    return run


def test_ls_of_nothing_is_a_header(run: Run, tmp_path: Path) -> None:
    done = run("ls")
    assert (done.returncode, done.stdout) == (0, "NAME  SIZE  CREATED AT  UPDATED AT  DIGEST\n")
    assert run("ls", "--no-trunc").stdout == "NAME\tSIZE\tCREATED AT\tUPDATED AT\tDIGEST\n"  # as the original has it
    assert not (tmp_path / ".local").exists()  # looking does not make directories


def test_ls_lists_name_size_age_and_digest(with_app: Run) -> None:
    header, row = with_app("ls", "--no-trunc").stdout.splitlines()
    cells = [cell for cell in row.split("\t") if cell]
    assert header.split()[0] == "NAME"
    assert cells[0] == "docker.io/library/app:latest"
    assert cells[1].endswith("B")
    assert cells[2] == "Less than a second ago" or cells[2].endswith("seconds ago") or cells[2] == "1 second ago"
    assert cells[4].startswith("sha256:")


def test_columns_stand_under_their_headers(with_app: Run) -> None:
    digest = with_app("ls", "-q").stdout.strip()
    for flags, shown in (["--no-trunc"], digest), ([], digest.removeprefix("sha256:")[:12]):
        lines = [line.expandtabs(8) for line in with_app("ls", *flags).stdout.splitlines()]
        assert lines[1][lines[0].index("DIGEST") :] == shown


def test_the_table_of_images_fits_80_columns(with_app: Run, tmp_path: Path) -> None:
    names = ["registry.example/app:1.2", "docker.io/library/busybox:latest"]
    for name in names:
        with_app("tag", "app", name)
    with Store(str(tmp_path / ".local/share/img")) as store, store.database.transaction() as cursor:
        past = time.time() - 59 * 60 - 30
        cursor.execute("UPDATE image SET content_size = 1092616, created = ?, updated = ?", (past, past))
    lines = with_app("ls").stdout.splitlines()
    assert max(map(len, lines)) == 80
    assert [line.split()[0] for line in lines[1:]] == ["app:latest", "busybox:latest", "registry.example/app:1.2"]
    assert all(name in with_app("ls", "--no-trunc").stdout for name in names)


def test_ls_filters(with_app: Run) -> None:
    with_app("tag", "app", "other:1")
    names = [line.split()[0] for line in with_app("ls", "-f", "name~=other").stdout.splitlines()[1:]]
    assert names == ["other:1"]
    assert len(with_app("ls", "-f", "name~=other", "-f", "name~=app").stdout.splitlines()) == 3
    assert len(with_app("ls", "-f", "nothing==x").stdout.splitlines()) == 1


def test_ls_filters_by_labels_of_the_config(with_app: Run, tmp_path: Path) -> None:
    image = make_image(config={"Labels": {"org.example/team": "a", "x": "1"}})
    with Store(str(tmp_path / ".local/share/img")) as store:
        for digest, content in sorted(image.blobs.items(), key=lambda item: item[0] == image.top.digest):
            store.put(content, oci.OCI_MANIFEST if digest == image.top.digest else "x")
        store.images.tag("docker.io/library/labelled:1", image.top)

    def named(expression: str) -> list[str]:
        return with_app("ls", "-f", expression, "--format", "{{.Name}}").stdout.split()

    assert named('labels."org.example/team"==a') == ["docker.io/library/labelled:1"]
    assert named("labels.x") == ["docker.io/library/labelled:1"]
    assert named("labels.x==2") == []
    assert named("labels.x!=1") == ["docker.io/library/app:latest"]


def test_a_bad_filter_is_shown_with_its_place(run: Run) -> None:
    done = run("ls", "-f", "bogus=1")
    assert done.returncode == 2
    assert done.stderr.startswith(
        'Error: listing images with filters (bogus=1) failed: filters: parse error: [bogus >|=|< 1]: unsupported operator "="'
    )


def test_ls_as_json_and_by_template(with_app: Run) -> None:
    record = json.loads(with_app("ls", "--format", "json").stdout)
    assert record["Name"] == "docker.io/library/app:latest"
    assert with_app("ls", "--format", "{{.Name}} {{.Size}}").stdout == f"{record['Name']} {record['Size']}\n"
    assert with_app("images", "--format", "{{.Repository}}:{{.Tag}}").stdout == "app:latest\n"
    header, row = with_app("ls", "--format", r"table {{.Repository}}\t{{.ID}}").stdout.splitlines()
    assert header.split() == ["REPOSITORY", "ID"]
    assert row.split() == ["app", record["Digest"]]
    assert with_app("ls", "-q").stdout == record["Digest"] + "\n"
    done = with_app("ls", "--format", "{{.Nope}}")
    assert done.returncode == 2
    assert "`{{.Name}}`" in done.stderr


def test_tag_gives_a_second_name(with_app: Run) -> None:
    done = with_app("tag", "app", "localhost:5000/app:2")
    assert (done.returncode, done.stdout) == (0, "Successfully tagged app as localhost:5000/app:2\n")
    assert "localhost:5000/app:2" in with_app("ls").stdout


def test_tag_of_an_unknown_image_fails(run: Run) -> None:
    done = run("tag", "nope", "x")
    assert done.returncode == 1
    assert 'image "nope": not found' in done.stderr


def test_rm_says_what_it_does_and_stops_at_the_first_failure(with_app: Run) -> None:
    with_app("tag", "app", "b")
    done = with_app("rm", "app", "nope", "b")
    assert done.stdout == "Removing app...\nSuccessfully removed app\nRemoving nope...\n"
    assert done.stderr.startswith('Error: removing image failed: image "nope": not found')
    assert done.returncode == 1
    assert [line.split()[0] for line in with_app("ls").stdout.splitlines()[1:]] == ["b:latest"]


def test_inspect_prints_the_config_indented_by_tabs(with_app: Run) -> None:
    text = with_app("inspect", "app").stdout
    assert json.loads(text)["rootfs"]["type"] == "layers"
    assert '\n\t"rootfs": {\n\t\t' in text


def test_inspect_of_several_images_is_one_array(with_app: Run) -> None:
    both = json.loads(with_app("inspect", "app", "app").stdout)
    assert both == [json.loads(with_app("inspect", "app").stdout)] * 2
    done = with_app("inspect", "app", "nope")
    assert (done.returncode, done.stdout) == (1, "")


def test_inspect_of_an_unknown_image(run: Run) -> None:
    done = run("inspect", "nope")
    assert done.returncode == 1
    assert done.stderr.startswith('Error: getting image nope from image store failed: image "nope": not found')


def test_save_and_load_keep_name_and_digest(with_app: Run, tmp_path: Path) -> None:
    before = with_app("ls", "--format", "{{.Name}} {{.Digest}}").stdout
    for form in ("docker", "oci"):
        assert with_app("save", "--format", form, "-o", "out.tar", "app").stdout == ""
        with_app("rm", "app")
        assert with_app("load", "-i", "out.tar").stdout == "Loaded image: app:latest\n"
        assert with_app("ls", "--format", "{{.Name}} {{.Digest}}").stdout == before
    with tarfile.open(tmp_path / "out.tar") as archive:
        members = archive.getnames()
    assert "index.json" in members
    assert "manifest.json" not in members


def test_save_several_images(with_app: Run, tmp_path: Path) -> None:
    with_app("tag", "app", "b:1")
    assert with_app("save", "-o", "out.tar", "app", "b:1").returncode == 0
    with tarfile.open(tmp_path / "out.tar") as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        manifest = json.load(member)
    assert sorted(tag for entry in manifest for tag in entry["RepoTags"]) == ["app:latest", "b:1"]


def test_save_of_an_unknown_image_leaves_no_file(run: Run, tmp_path: Path) -> None:
    done = run("save", "-o", "out.tar", "nope")
    assert done.returncode == 1
    assert done.stderr.startswith('Error: exporting image nope failed: image "nope": not found')
    assert not (tmp_path / "out.tar").exists()


def test_load_refuses_arguments_with_the_right_command(run: Run) -> None:
    done = run("load", "out.tar")
    assert done.returncode == 2
    assert "`img load -i out.tar`" in done.stderr


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"s3cret " * 100, "it does not begin with a tar header"),
        (b"s3cret", "the archive is cut inside a header"),
        (b"\x7fELF\2\1s3cret" + bytes(2000), "it does not begin with a tar header"),
        (rootfs_tar(s3cret=b"x"), "the bundle holds no images"),
    ],
)
def test_load_of_something_else_names_it_and_does_not_quote_it(
    content: bytes, reason: str, pack: Callable[[bytes], bytes], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(pack(content))
    done = run("load", "-i", "other")
    error, hint = done.stderr.splitlines()
    assert done.returncode == 1
    assert error.startswith("Error: cannot load `other`: ")
    assert reason in error
    assert "s3cret" not in error
    assert hint.startswith("hint: `img save`")
    assert run("load", stdin=pack(content)).stderr.startswith("Error: cannot load standard input: ")


def test_import_takes_compressed_archives_and_says_the_digest(run: Run) -> None:
    plain = run("import", "-", "a", stdin=rootfs_tar())
    packed = run("import", "-", "b", stdin=gzip.compress(rootfs_tar()))
    assert plain.returncode == packed.returncode == 0
    assert plain.stdout == packed.stdout
    assert plain.stdout.startswith("sha256:")


def test_import_of_a_truncated_archive_leaves_no_image(run: Run) -> None:
    done = run("import", "-", "app", stdin=rootfs_tar(etc_hostname=b"x" * 5000)[:2000])
    assert done.returncode == 1
    assert run("ls", "--format", "{{.Name}}").stdout == ""


def test_import_of_a_missing_file(run: Run) -> None:
    done = run("import", "nope.tar", "app")
    assert (done.returncode, done.stderr) == (2, "Error: cannot read `nope.tar`: no such file or directory\n")


def test_unpack_refuses_an_existing_destination(with_app: Run, tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    done = with_app("unpack", "app")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: destination directory already exists: ./rootfs\nhint: ")


def test_damage_in_the_store_shows_as_an_unknown_size_and_not_as_a_crash(with_app: Run, tmp_path: Path) -> None:
    digest = with_app("ls", "--format", "{{.Digest}}").stdout.strip().removeprefix("sha256:")
    (tmp_path / ".local/share/img/blobs/sha256" / digest).unlink()
    done = with_app("ls")
    assert done.returncode == 0
    assert "?" in done.stdout


def test_archives_of_other_tools_are_imported(run: Run) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("ä" * 120))
    assert run("import", "-", "app", stdin=buffer.getvalue()).returncode == 0


def test_a_reader_of_an_archive_that_goes_away_is_no_news(with_app: Run, tmp_path: Path) -> None:
    assert with_app("import", "-", "big", stdin=rootfs_tar(blob=os.urandom(4_000_000))).returncode == 0
    command = f"{sys.executable} -m img_core save big | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(tmp_path), cwd=tmp_path, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"141\n", b"")
    assert list(tmp_path.glob("img-report-*")) == []


def test_a_full_disk_behind_an_archive_is_one_line(with_app: Run, tmp_path: Path) -> None:
    command = f"{sys.executable} -m img_core save app > /dev/full"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(tmp_path), cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: ")
    assert b"no space left" in done.stderr.lower()
