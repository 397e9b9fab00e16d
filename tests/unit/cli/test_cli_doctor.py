"""The doctor answers everywhere: on a host without namespaces it says so instead of failing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from img_core.cli.doctor._drivers import drivers
from img_core.cli.doctor._ids import free_range, taken_ranges
from img_core.config import Config
from img_core.plugins import PluginInfo

if TYPE_CHECKING:
    from unit.cli.conftest import Run

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/doctor.schema.json").read_text())


def test_every_finding_has_a_status_and_the_exit_status_tells_whether_builds_can_work(run: Run) -> None:
    done = run("doctor", "--format", "json")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert {finding["status"] for finding in findings} <= {"ok", "note", "worse", "bad"}
    assert done.returncode == (7 if any(finding["status"] == "bad" for finding in findings) else 0)
    assert done.stderr == ""


@pytest.mark.parametrize("switched_off", ["", "snapshotter:*,executor:userns"])
def test_json_is_as_documented(run: Run, switched_off: str) -> None:
    done = run("doctor", "--json", IMG_DISABLED_PLUGINS=switched_off)
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["usable"] is (done.returncode == 0)
    if switched_off:
        assert done.returncode == 7
    assert done.stderr == ""


def test_json_and_a_template_are_not_mixed(run: Run) -> None:
    done = run("doctor", "--json", "--format", "{{.what}}")
    assert done.returncode == 2
    assert "`--json` and `--format` exclude each other" in done.stderr


def test_a_broken_plugin_is_among_the_findings(run: Run) -> None:
    done = run("doctor", "--no-plugin", "snapshotter:*", "--no-plugin", "executor:*")
    assert done.returncode == 7
    assert "\nhint: " in done.stdout


# --- which plugins matter ---------------------------------------------------------------------------------------------


def plugin(kind: str, name: str, status: str = "ok", hint: str = "") -> PluginInfo:
    return PluginInfo(kind, name, status, "" if status == "ok" else f"reason of {name}", "some", "1", "module", hint)


def judged(*infos: PluginInfo) -> dict[str, tuple[str, str]]:
    """Return status and hint by what was looked at, with the usual order of `auto`."""
    findings = drivers(Config("/state", "/config"), infos)
    return {finding.what: (finding.status, finding.hint) for finding in findings}


def test_what_auto_would_have_preferred_is_worse_and_what_it_does_not_need_is_a_note() -> None:
    found = judged(
        plugin("executor", "userns"),
        plugin("executor", "runc-embedded", "unsupported", "use `--executor runc`"),
        plugin("snapshotter", "overlayfs", "unsupported", "a newer kernel"),
        plugin("snapshotter", "fuse-overlayfs", "unsupported", "`sudo modprobe fuse`"),
        plugin("snapshotter", "native"),
    )
    assert found["executor runc-embedded"] == ("note", "")
    assert found["snapshotter overlayfs"] == ("worse", "a newer kernel")
    assert found["snapshotter fuse-overlayfs"] == ("worse", "`sudo modprobe fuse`")
    assert found["snapshotter native"][0] == "ok"


def test_a_better_snapshotter_that_is_not_installed_is_named_with_its_extra() -> None:
    native = (plugin("executor", "userns"), plugin("snapshotter", "native"))
    without = judged(*native, plugin("snapshotter", "overlayfs", "unsupported"))
    assert without["snapshotter fuse-overlayfs"] == ("worse", "`pip install 'img-builder[fuse]'`")
    assert "snapshotter fuse-overlayfs" not in judged(*native, plugin("snapshotter", "overlayfs"))


def test_a_kind_without_a_working_plugin_is_bad() -> None:
    found = judged(plugin("executor", "runc", "unsupported"), plugin("snapshotter", "native", "broken"))
    assert found["executor"][0] == found["snapshotter"][0] == "bad"
    assert judged(plugin("executor", "foreign"), plugin("snapshotter", "native"))["executor"][0] == "bad"


# --- a range for /etc/subuid ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ([], 100_000),
        ([(100_000, 65536)], 165_536),
        ([(165_536, 65536), (100_000, 65536)], 231_072),
        ([(200_000, 10)], 100_000),
        ([(150_000, 10)], 150_010),
        ([(100_000, 65536), (165_537, 10)], 165_547),
        ([(1, 1000), (100_000, 200_000), (120_000, 5)], 300_000),
    ],
)
def test_the_proposed_range_is_nobodys(taken: list[tuple[int, int]], free: int) -> None:
    assert free_range(taken) == free
    assert all(start + count <= free or start >= free + 65536 for start, count in taken)


def test_odd_lines_of_the_table_are_passed_over(tmp_path: Path) -> None:
    table = tmp_path / "subuid"
    table.write_text("ada:100000:65536\n# comment\n\nbob:x:1\n1000:200000:65536\neve:1:2:3\n")
    assert taken_ranges(str(table)) == [(100000, 65536), (200000, 65536)]
    assert taken_ranges(str(tmp_path / "absent")) == []
